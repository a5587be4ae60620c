"""Bad input is refused with the name of the figure and of the tile and cell."""

from __future__ import annotations

import math

import pytest
import torch

from device_models.crossbar import Wires, effective_conductance, factorize

F64 = torch.float64


@pytest.mark.parametrize("value", [-1e-6, math.nan, math.inf])
def test_a_bad_conductance_is_named(value):
    g = torch.full((2, 3, 4, 5), 1e-4, dtype=F64)
    g[1, 2, 3, 4] = value
    for solve in (effective_conductance, factorize):
        with pytest.raises(ValueError, match=r"conductance is .* at tile \[1, 2\] at cell \(3, 4\)"):
            solve(g, Wires(1.0, 1.0))


def test_bad_conductances_are_refused_with_ideal_wires_too():
    with pytest.raises(ValueError, match=r"at cell \(0, 1\)"):
        effective_conductance(torch.tensor([[1.0, -1.0]], dtype=F64), Wires(0.0, 0.0))


@pytest.mark.parametrize("name", ["word_line", "bit_line", "driver", "sense"])
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_a_bad_resistance_is_named(name, value):
    with pytest.raises(ValueError, match=rf"wires\.{name} is {value}"):
        Wires(**{"word_line": 1.0, "bit_line": 1.0, name: value})


def test_a_bad_segment_is_named_with_its_cell():
    word_line = torch.ones(3, 4)
    word_line[2, 1] = -1
    with pytest.raises(ValueError, match=r"wires\.word_line is -1\.0 at cell \(2, 1\)"):
        Wires(word_line, 1.0)


@pytest.mark.parametrize(
    ("name", "shape"), [("word_line", (4, 3)), ("bit_line", (2, 1, 1)), ("driver", (4,)), ("sense", (3,))]
)
def test_figures_that_do_not_fit_are_refused(name, shape):
    g = torch.full((5, 3, 4), 1e-4, dtype=F64)
    with pytest.raises(ValueError, match=rf"wires\.{name} has shape"):
        effective_conductance(g, Wires(**{"word_line": 1.0, "bit_line": 1.0, name: torch.ones(shape)}))


@pytest.mark.parametrize("g", [torch.ones(3), torch.ones(0, 3), torch.ones(2, 3, 0)])
def test_conductances_need_cells(g):
    with pytest.raises(ValueError, match="at least one cell"):
        effective_conductance(g, Wires(1.0, 1.0))


@pytest.mark.parametrize("g", [[[1.0]], torch.ones(2, 2, dtype=torch.int64), torch.ones(2, 2).half()])
def test_conductances_need_a_floating_tensor(g):
    with pytest.raises(TypeError, match="conductances must be"):
        effective_conductance(g, Wires(1.0, 1.0))


def test_no_tiles_are_no_error():
    assert effective_conductance(torch.ones(0, 3, 4), Wires(1.0, 1.0)).shape == (0, 3, 4)


def test_fields_that_do_not_fit_are_refused():
    f = factorize(torch.full((2, 3, 4), 1e-4, dtype=F64), Wires(1.0, 1.0))
    with pytest.raises(
        ValueError, match=r"voltages has shape \[2, 5, 4\], but this array needs \[2, batch, 3\]"
    ):
        f.node_voltages(torch.ones(2, 5, 4, dtype=F64))
    with pytest.raises(ValueError, match="bit_line_current has shape"):
        f.solve(torch.ones(2, 5, 3, 4, dtype=F64), torch.ones(2, 5, 4, 3, dtype=F64))
    with pytest.raises(ValueError, match=r"voltages is nan at \[1, 0, 2\]"):
        f.node_voltages(torch.tensor([[[1.0, 1, 1]], [[1, 1, math.nan]]], dtype=F64))
    with pytest.raises(TypeError, match="factored as"):
        f.node_voltages(torch.ones(2, 5, 3))
    assert f.node_voltages(torch.ones(2, 0, 3, dtype=F64))[0].shape == (2, 0, 3, 4)
