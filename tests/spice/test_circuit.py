"""The netlist says what the array is: which part sits where, what is absent, and nothing that names add."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from device_models.crossbar import Wires
from spice_netlists import crossbar_circuit, crossbar_read

WIRES = Wires(word_line=2.0, bit_line=3.0, driver=5.0, sense=7.0)
G = np.array([[1e-5, 2e-5, 0.0], [0.0, 4e-5, 5e-5]])
ONE_INPUT = np.array([[0.1, 0.2]])


def resistors(circuit):
    """Resistors by name: (nodes, ohm)."""
    found = {}
    for element in circuit.elements:
        if element.name.startswith("R"):
            found[element.name] = (tuple(element.node_names), float(element.resistance))
    return found


def test_word_lines_are_driven_at_column_0_and_bit_lines_sensed_at_the_last_row():
    parts = resistors(crossbar_circuit(G, WIRES, ONE_INPUT, "lopsided"))
    assert parts["Rdriver_1"] == (("in_1", "drv_1"), 5.0)
    assert parts["Rword_1_0"] == (("drv_1", "w_1_0"), 2.0)
    assert parts["Rword_1_2"] == (("w_1_1", "w_1_2"), 2.0)
    assert parts["Rsense_2"] == (("out_2", "end_2"), 7.0)
    assert parts["Rbit_1_2"] == (("end_2", "b_1_2"), 3.0)
    assert parts["Rbit_0_2"] == (("b_1_2", "b_0_2"), 3.0)
    assert parts["Rcell_1_2"] == (("w_1_2", "b_1_2"), pytest.approx(1 / 5e-5, rel=1e-15))


def test_pruned_cells_are_absent():
    names = set(resistors(crossbar_circuit(G, WIRES, ONE_INPUT, "pruned")))
    assert {name for name in names if "cell" in name} == {"Rcell_0_0", "Rcell_0_1", "Rcell_1_1", "Rcell_1_2"}


def test_without_wires_every_cell_lies_between_its_source_and_its_sense():
    parts = resistors(crossbar_circuit(G, Wires(0.0, 0.0), ONE_INPUT, "ideal"))
    nodes = {name: ends for name, (ends, _) in parts.items()}
    assert nodes == {
        "Rcell_0_0": ("in_0", "out_0"),
        "Rcell_0_1": ("in_0", "out_1"),
        "Rcell_1_1": ("in_1", "out_1"),
        "Rcell_1_2": ("in_1", "out_2"),
    }


@pytest.mark.parametrize("zero", ["word_line", "bit_line", "driver", "sense"])
def test_a_zero_resistance_is_a_shared_node_and_never_a_resistor(zero):
    figures = {"word_line": 2.0, "bit_line": 3.0, "driver": 5.0, "sense": 7.0, zero: 0.0}
    parts = resistors(crossbar_circuit(G, SimpleNamespace(**figures), ONE_INPUT, "zero"))
    assert all(ohm > 0 for _, ohm in parts.values())
    assert not any(name.startswith("R" + zero.removesuffix("_line") + "_") for name in parts)


def test_a_line_between_open_segments_carries_nothing_and_is_left_out():
    word = np.full((2, 3), 2.0)
    word[0, 0] = np.inf  # word line 0 hangs on its cells alone
    parts = resistors(
        crossbar_circuit(
            np.zeros((2, 3)),
            SimpleNamespace(word_line=word, bit_line=3.0, driver=0.0, sense=0.0),
            ONE_INPUT,
            "",
        )
    )
    assert not any(name.startswith("Rword_0") for name in parts)
    assert "Rword_1_2" in parts


def test_several_inputs_are_steps_of_one_selector():
    text = crossbar_read(G, WIRES, np.array([[0.1, 0.2], [0.0, 0.3]]), "sweep").netlist()
    assert "Bin_0 in_0 0 v=pwl(v(select),0,0.1,1,0.0)" in text
    assert "Bin_1 in_1 0 v=pwl(v(select),0,0.2,1,0.3)" in text
    assert ".dc Vselect 0 1 1" in text


def test_torch_tensors_with_gradients_are_read_as_numbers():
    g = torch.tensor(G, requires_grad=True)
    wires = Wires(torch.tensor(2.0, requires_grad=True), 3.0, 5.0, 7.0)
    assert crossbar_read(g, wires, torch.tensor(ONE_INPUT), "").netlist() == (
        crossbar_read(G, WIRES, ONE_INPUT, "").netlist()
    )


HOSTILE = [
    "maps.h5\n.control\nshell touch pwned\n.endc",
    "maps.h5\r.include /etc/passwd",
    "x\u2028.control",
    "$HOME `id` {1+1} ; shell id",
    "+ continued",
    "* comment",
    ".end",
    "x\\\n.lib y",
    "\x00\x1b[2J",
]


@pytest.mark.parametrize("title", HOSTILE)
def test_a_title_from_a_file_stays_one_harmless_line(title):
    check_lines(crossbar_read(G, WIRES, ONE_INPUT, title).netlist())


@given(st.text(max_size=300))
def test_no_title_reaches_another_line(title):
    check_lines(crossbar_read(G, WIRES, ONE_INPUT, title).netlist())


def check_lines(netlist):
    first, *rest = netlist.splitlines()
    assert first.startswith(".title")
    assert not set(first) & set("\\$;{}'\"`&|<>*+()=!@")
    allowed = (
        "Vin_",
        "Vsense_",
        "Rcell_",
        "Rword_",
        "Rbit_",
        "Rdriver_",
        "Rsense_",
        ".save i(",
        ".op",
        ".end",
    )
    assert all(line.startswith(allowed) for line in rest)
    assert rest[-1] == ".end"
    assert rest.count(".end") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": np.array([1e-5])}, "shape"),
        ({"cells": -G}, "conductances"),
        ({"cells": G * np.nan}, "conductances"),
        ({"cells": G * 1e-15}, "conductances"),
        ({"voltages": np.zeros((1, 3))}, "voltages"),
        ({"voltages": np.zeros((0, 2))}, "voltages"),
        ({"voltages": np.full((1, 2), np.inf)}, "voltages"),
        ({"voltages": [["a", "b"]]}, "voltages"),
        ({"wires": SimpleNamespace(word_line=-1.0, bit_line=0, driver=0, sense=0)}, "word_line"),
        ({"wires": SimpleNamespace(word_line=0, bit_line=[1.0, 2.0], driver=0, sense=0)}, "bit_line"),
        ({"wires": SimpleNamespace(word_line=0, bit_line=0, driver=float("nan"), sense=0)}, "driver"),
    ],
)
def test_figures_that_make_no_array_are_refused_by_name(change, message):
    arguments = {"cells": G, "wires": WIRES, "voltages": ONE_INPUT, "title": "tile"} | change
    with pytest.raises(ValueError, match=message):
        crossbar_read(**arguments)
