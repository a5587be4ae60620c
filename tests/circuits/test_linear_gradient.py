"""Gradients by the adjoint agree with finite differences, for cells and for every wire figure."""

from __future__ import annotations

import pytest
import torch

from device_models.crossbar import Wires, compiled, effective, effective_conductance, elimination
from device_models.crossbar.effective import network

F64 = torch.float64


def cells(*shape, seed=0):
    g = 0.2 + torch.rand(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))
    return g.requires_grad_()


def leaf(*shape, seed=1):
    figure = 0.1 + torch.rand(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))
    return figure.requires_grad_()


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 4, 2)])
def test_gradients_for_cells_and_scalar_figures(solver, shape):
    inputs = (cells(*shape), *(leaf(seed=k) for k in range(1, 5)))
    assert torch.autograd.gradcheck(lambda g, *figures: effective_conductance(g, Wires(*figures)), inputs)


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 2)])
def test_gradients_for_every_segment_of_its_own(solver, shape):
    *lead, rows, cols = shape
    figures = (
        leaf(*shape, seed=1),
        leaf(*shape, seed=2),
        leaf(*lead, rows, seed=3),
        leaf(*lead, cols, seed=4),
    )
    inputs = (cells(*shape), *figures)
    assert torch.autograd.gradcheck(lambda g, *figures: effective_conductance(g, Wires(*figures)), inputs)


def test_gradients_for_figures_shared_by_tiles(solver):
    inputs = (cells(2, 3, 2, 3), leaf(2, 3, seed=1), leaf(3, 1, 1, seed=2))
    assert torch.autograd.gradcheck(
        lambda g, word, bit: effective_conductance(g, Wires(word, bit, 0.1)), inputs
    )


def test_gradient_where_cells_are_absent(solver):
    g = cells(5, 6).detach()
    g[1] = 0
    g[:, 2] = 0
    g[3, 4] = 0
    weights = torch.rand(5, 6, dtype=F64, generator=torch.Generator().manual_seed(5))
    g.requires_grad_()
    (got,) = torch.autograd.grad((effective_conductance(g, Wires(0.3, 0.2)) * weights).sum(), g)
    step = 1e-7
    for i, j in ((1, 3), (0, 2), (1, 2), (3, 4), (0, 0)):
        moved = g.detach().clone()
        moved[i, j] += step
        change = effective_conductance(moved, Wires(0.3, 0.2)) - effective_conductance(
            g.detach(), Wires(0.3, 0.2)
        )
        assert (change * weights).sum().item() / step == pytest.approx(got[i, j].item(), rel=1e-5)


@pytest.mark.parametrize("figure", range(4))
def test_gradient_at_zero_resistance_is_the_one_sided_limit(solver, figure):
    g = cells(6, 4).detach()
    weights = torch.randn(6, 4, dtype=F64, generator=torch.Generator().manual_seed(6))

    def loss(*figures):
        return (effective_conductance(g, Wires(*figures)) * weights).sum()

    zeros = [torch.zeros((), dtype=F64, requires_grad=True) for _ in range(4)]
    got = torch.autograd.grad(loss(*zeros), zeros)[figure].item()
    small = [torch.full((), 1e-8 if k == figure else 0.0, dtype=F64) for k in range(4)]
    ideal = (g * weights).sum()
    assert (loss(*small) - ideal).item() / 1e-8 == pytest.approx(got, rel=1e-5)


def test_both_implementations_agree_at_working_size():
    g = cells(2, 33, 70).detach() * 1e-4
    grad = torch.randn(2, 33, 70, dtype=F64, generator=torch.Generator().manual_seed(7))
    net, _ = network(g, *Wires(2.0, 3.0, 10.0, 20.0).segments(g))
    net = type(net)(net.cell, *(x.expand_as(net.cell) for x in (net.word, net.bit)), net.scale)
    for a, b in zip(compiled.gradient(net, grad, True), elimination.gradient(net, grad, True), strict=True):
        assert (a - b).abs().max() <= 1e-11 * b.abs().max()


def test_work_is_cut_into_parts_without_a_trace(solver, monkeypatch):
    inputs = [cells(7, 3, 4), leaf(seed=1), leaf(7, 3, 4, seed=2), leaf(3, seed=3), leaf(7, 4, seed=4)]
    grad = torch.randn(7, 3, 4, dtype=F64, generator=torch.Generator().manual_seed(9))

    def all_of_it():
        out = effective_conductance(inputs[0], Wires(*inputs[1:]))
        return out, *torch.autograd.grad(out, inputs, grad)

    whole = all_of_it()
    monkeypatch.setattr(effective, "_PART_BYTES", 2 * 64 * 12 * 8)
    for a, b in zip(whole, all_of_it(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)


def test_float32_gradients_follow_float64():
    g = (cells(40, 30).detach() * 1e-4).float().requires_grad_()
    figures = [torch.tensor(2.0, requires_grad=True) for _ in range(4)]
    grad = torch.randn(40, 30, generator=torch.Generator().manual_seed(8))
    single = torch.autograd.grad(effective_conductance(g, Wires(*figures)), [g, *figures], grad)
    wide = [x.detach().double().requires_grad_() for x in (g, *figures)]
    double = torch.autograd.grad(effective_conductance(wide[0], Wires(*wide[1:])), wide, grad.double())
    for a, b in zip(single, double, strict=True):
        assert a.dtype == torch.float32
        assert (a.double() - b).abs().max() <= 1e-6 * b.abs().max()


def test_only_what_is_asked_for_is_computed():
    g = cells(4, 4).detach()
    word = leaf(seed=1)
    out = effective_conductance(g, Wires(word, 0.1))
    out.sum().backward()
    assert word.grad is not None
    assert g.grad is None


def test_gradients_cannot_be_differentiated_again():
    g = cells(3, 3)
    out = effective_conductance(g, Wires(0.1, 0.1))
    (first,) = torch.autograd.grad((out * g).sum(), g, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
