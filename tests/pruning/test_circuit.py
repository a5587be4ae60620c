"""The circuit's share of the objective: what it measures, and that learning by it leaves less IR-drop."""

import copy

import pytest
import torch
from torch import nn

from device_models.crossbar import Wires
from hwloop.networks import crossbar_layers, to_matrix
from hwloop.pruning import Circuit, IrDrop, full_masks, prune
from hwloop.recipe import Keep, Prune
from tests.line.small import digits, seeded_network

CIRCUIT = Circuit(Wires(5.0, 5.0, driver=100.0, sense=100.0), 1e-4)


def drop(net, masks, array=(16, 8)):
    penalty = IrDrop(net, masks, *CIRCUIT, array, 1.0)
    return float(torch.stack([penalty.of_tile(number) for number in range(penalty.tiles)]).mean())


def test_a_single_cell_loses_what_ohms_law_says():
    net = nn.Sequential(nn.Linear(1, 1))
    penalty = IrDrop(net, full_masks(net), *CIRCUIT, (1, 1), 1.0)
    r, g = 5.0 + 5.0 + 200.0, CIRCUIT.g_max
    lost = g - g / (1 + r * g)
    assert penalty.of_tile(0).item() == pytest.approx((lost / g) ** 2, rel=1e-4)


def test_ideal_wires_cost_nothing():
    net = seeded_network()
    penalty = IrDrop(net, full_masks(net), Wires(0.0, 0.0), 1e-4, (16, 8), 1.0)
    assert penalty().item() == 0


def test_the_gradient_is_that_of_finite_differences():
    net = nn.Sequential(nn.Linear(4, 3)).double()
    penalty = IrDrop(net, full_masks(net), *CIRCUIT, (4, 3), 1.0)
    weight = net[0].weight
    largest = weight.detach().abs().argmax()
    place = (weight.detach().abs().argmin() // 4, weight.detach().abs().argmin() % 4)
    assert largest != place[0] * 4 + place[1]
    cells = to_matrix(net[0]).detach()
    # Only the loss changes with the weight: the scale of the penalty is held.
    gradient = torch.autograd.grad(penalty.of_tile(0), weight)[0][place]
    step = 1e-6
    scale = float(cells.square().sum())
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[place] += sign * step
            losses.append(float(penalty.of_tile(0)) * float(to_matrix(net[0]).square().sum()) / scale)
            weight[place] -= sign * step
    assert float(gradient) == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-3)


def test_learning_by_the_circuit_leaves_less_ir_drop():
    data, drops = digits(), {}
    for strength in (0.0, 30.0):
        net = copy.deepcopy(seeded_network())
        choice = Prune(rounds=1, retrain_epochs=3, retrain_learning_rate=5e-3, ir_drop=strength,
                       keep={"fc1": Keep(filters=16, rows=32)})  # fmt: skip
        result = prune(net, data, choice, batch=50, seed=1, array_shape=(16, 8), circuit=CIRCUIT)
        drops[strength] = drop(result.net, result.masks)
        assert set(crossbar_layers(result.net)) == set(result.masks)
    assert drops[30.0] < 0.8 * drops[0.0]
