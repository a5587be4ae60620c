"""Strategies: each gives back accuracy on devices that it never met, or on the one chip that it stayed on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from device_models import load_card
from device_models.crossbar import Wires
from device_models.generic import generic_card
from hwloop import recipe
from hwloop.datasets import Dataset
from hwloop.evaluation import evaluate_instances
from hwloop.hardware import FastHardware, IdealHardware, calibrate_inputs, network_from_map, on_hardware
from hwloop.hardware.columns import ColumnScaled
from hwloop.mapping import ConductanceMap, build_map
from hwloop.networks import crossbar_layers, to_matrix
from hwloop.quantization import quantize
from hwloop.recipe import Readout
from hwloop.training import accuracy, fit
from hwloop.training.codes import Codes
from hwloop.training.strategies import Outcome, Task, run_strategy
from hwloop.training.strategies.remap import find_stuck, harm, place
from hwloop.training.strategies.task import distilled
from hwloop.training.surrogate import SurrogateLayer, gains, make_arrays, surrogate_network
from tests.line.test_retrain import blobs, network, same_map

WIRES = Wires(40.0, 40.0, driver=100.0, sense=100.0)
READOUT = Readout(dac_bits=5, bits_per_cycle=5, subtraction="analog", adc_bits=6)


def make(instance: int | str) -> FastHardware:
    return FastHardware(WIRES, READOUT, seed=3, instance=instance)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset("blobs", *blobs(512, 1), *blobs(32, 2), *blobs(500, 3))


@pytest.fixture(scope="module")
def start(dataset: Dataset) -> tuple[nn.Module, ConductanceMap]:
    """A trained network with half of its weights pruned, on cells that vary, idle at HRS and get stuck."""
    net, card = network(), generic_card(2e4, levels=31, variation=0.15, stuck=0.01)
    fit(net, dataset, epochs=6, batch=32, learning_rate=5e-3, seed=0, station="train")
    masks = {}
    for name, layer in crossbar_layers(net).items():
        weight = layer.weight.data
        weight.mul_(weight.abs() >= weight.abs().median())
        masks[name] = (weight != 0).reshape(weight.shape[0], -1).T
    layers = quantize(net, masks, card.levels, "largest")
    codes = {name: (layer.codes, layer.scale) for name, layer in layers.items()}
    return net, build_map("tests:none", net, codes, card, (16, 16), calibrate_inputs(net, dataset.train_x))


@pytest.fixture(scope="module")
def task(start: tuple[nn.Module, ConductanceMap], dataset: Dataset) -> Callable[..., Task]:
    def of(strategy: str, checkpoint: Path | None = None, **options: object) -> Task:
        settings = {"epochs": 4, "learning_rate": 5e-3, "batch": 32, "refresh": 8, "calibration_instances": 2}
        choice = recipe.Retrain.model_validate({**settings, "strategy": strategy, **options})
        return Task(*start, make, WIRES, READOUT, dataset, choice, seed=1, checkpoint=checkpoint)

    return of


def lost(start: tuple[nn.Module, ConductanceMap], dataset: Dataset, outcome: Outcome) -> float:
    """Accuracy that an outcome lacks to the network without arrays, over four instances that nothing met."""
    net, before = start
    ideal = accuracy(network_from_map(net, before), dataset.test_x, dataset.test_y)
    columns = outcome.columns
    found = evaluate_instances(
        net,
        outcome.conductance_map,
        lambda instance: make(instance) if columns is None else ColumnScaled(make(instance), columns),
        dataset.test_x,
        dataset.test_y,
        instances=range(4),
    )
    return ideal - sum(found) / 4


@pytest.mark.parametrize("strategy", ["scale", "batch-norm", "variation", "ir-drop", "hardware"])
def test_it_gives_back_accuracy_on_instances_it_never_met(
    strategy: str,
    task: Callable[..., Task],
    start: tuple[nn.Module, ConductanceMap],
    dataset: Dataset,
) -> None:
    before = lost(start, dataset, Outcome(start[1]))
    assert before > 0.02
    assert lost(start, dataset, run_strategy(task(strategy))) < before - 0.01


@pytest.mark.parametrize("strategy", ["chip-batch-norm", "chip", "hybrid"])
def test_it_gives_back_accuracy_on_its_chip(
    strategy: str, task: Callable[..., Task], start: tuple[nn.Module, ConductanceMap], dataset: Dataset
) -> None:
    chip = make("chip")
    chip.program(start[1])
    images, labels = dataset.test_x, dataset.test_y
    before = accuracy(on_hardware(network_from_map(*start), chip), images, labels)
    outcome = run_strategy(task(strategy))
    assert outcome.hardware is not None
    net = network_from_map(start[0], outcome.conductance_map)
    assert accuracy(on_hardware(net, outcome.hardware), images, labels) > before


def test_nothing_that_is_programmed_is_rewritten(
    task: Callable[..., Task], start: tuple[nn.Module, ConductanceMap]
) -> None:
    programmed: list[tuple[str, ...]] = []

    class Watched(IdealHardware):
        def program(self, conductance_map, layers=None):  # type: ignore[no-untyped-def]
            programmed.append(tuple(layers))
            return super().program(conductance_map, layers)

    outcome = run_strategy(replace(task("chip", epochs=1), make_hardware=lambda _: Watched()))
    assert programmed == [(name,) for name in start[1].layers]
    # What lies on the chip is what the map says, for every layer.
    held = outcome.hardware
    assert held is not None
    inputs = torch.eye(start[1].layers["5"].matrix_shape[0])
    ideal = IdealHardware()
    ideal.program(outcome.conductance_map)
    assert torch.equal(held.read("5", inputs), ideal.read("5", inputs))


@pytest.mark.parametrize("strategy", ["variation", "ir-drop", "chip"])
def test_pruned_weights_stay_pruned_and_the_seed_gives_the_result(
    strategy: str, task: Callable[..., Task], start: tuple[nn.Module, ConductanceMap]
) -> None:
    one, two = (run_strategy(task(strategy, epochs=1)).conductance_map for _ in range(2))
    assert same_map(one, two)
    assert not same_map(one, start[1])
    assert all(torch.equal(layer.mask, start[1].layers[name].mask) for name, layer in one.layers.items())


@pytest.mark.parametrize("strategy", ["hardware", "variation", "ir-drop"])
def test_statistics_of_one_steps_devices_are_not_learned(
    task: Callable[..., Task], start: tuple[nn.Module, ConductanceMap], strategy: str
) -> None:
    before, after = start[1].digital, run_strategy(task(strategy)).conductance_map.digital
    assert torch.equal(before["1.running_mean"], after["1.running_mean"])
    assert torch.equal(before["1.running_var"], after["1.running_var"])
    assert not torch.equal(before["1.weight"], after["1.weight"])


@pytest.mark.parametrize("strategy", ["variation", "chip"])
def test_a_resumed_training_ends_where_an_unbroken_one_ends(
    strategy: str, task: Callable[..., Task], tmp_path: Path
) -> None:
    class PowerCutError(Exception):
        pass

    def cut(done: float, _: str) -> None:
        if done > 0.4:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        run_strategy(replace(task(strategy, tmp_path, epochs=3), progress=cut))
    resumed = run_strategy(task(strategy, tmp_path, epochs=3))
    assert same_map(resumed.conductance_map, run_strategy(task(strategy, epochs=3)).conductance_map)


@pytest.mark.parametrize("exact", [False, True], ids=["solved before", "solved in every step"])
@pytest.mark.parametrize(
    "readout",
    [
        READOUT,
        Readout(dac_bits=4, adc_bits=7),
        Readout(dac_bits=4, accumulation="analog", adc_bits=6),
        READOUT.model_copy(update={"copies": 3}),
        READOUT.model_copy(update={"copies": {"conv": 4, "fc2": 2}}),
    ],
    ids=["one cycle", "bit-serial", "charge", "three copies", "copies by layer"],
)
def test_its_model_of_arrays_reads_as_hardware_does_in_distribution(
    readout: Readout, exact: bool, start: tuple[nn.Module, ConductanceMap], dataset: Dataset
) -> None:
    net, conductance_map = start
    images, count = dataset.train_x[:24], 40
    quantized = network_from_map(net, conductance_map)
    arrays = make_arrays(conductance_map, WIRES, readout, 1, exact=exact)
    model = surrogate_network(network_from_map(net, conductance_map), conductance_map, arrays)
    layers = [module for module in model.modules() if isinstance(module, SurrogateLayer)]
    with torch.no_grad():
        for layer in layers:
            layer.refresh()
        model.eval()
        modelled, read = [], []
        for instance in range(count):
            for layer in layers:
                layer.train()
            modelled.append(model(images))
            hardware = FastHardware(WIRES, readout, seed=9, instance=instance)
            hardware.program(conductance_map)
            read.append(on_hardware(quantized, hardware)(images))
        ideal = quantized(images)
    one, two = torch.stack(modelled), torch.stack(read)
    error = (one.std(0) ** 2 / count + two.std(0) ** 2 / count).sqrt()
    assert ((one.mean(0) - two.mean(0)).abs() / error).mean() < 1.5
    assert float(one.std(0).mean() / two.std(0).mean()) == pytest.approx(1, abs=0.2)
    # What they agree in is not the product of the network itself.
    assert (two.mean(0) - ideal).abs().mean() > 3 * (one.mean(0) - two.mean(0)).abs().mean()


@pytest.mark.parametrize("every", [1, 5], ids=["whole", "scattered"])
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 5, 3, stride=2, padding=1),
        nn.Conv2d(4, 20, 5, padding="same"),
        nn.Conv2d(8, 6, 3, dilation=2, bias=False),
        nn.Conv2d(4, 4, 3, groups=2),
    ],
    ids=["strided", "same", "dilated", "grouped"],
)
def test_on_exact_cells_its_model_reads_convolutions_as_hardware_does(conv: nn.Conv2d, every: int) -> None:
    draw = torch.Generator().manual_seed(1)
    shape, card = to_matrix(conv).shape, load_card("ideal").with_levels(7)
    codes = torch.randint(-7, 8, shape, generator=draw, dtype=torch.int8) * (to_matrix(conv) != 0)
    codes[torch.arange(shape[0]) % every > 0] = 0  # the word lines that stay belong to channels far apart
    net = nn.Sequential(OrderedDict(conv=conv))
    made = build_map("tests:none", net, {"conv": (codes, 0.01)}, card, (16, 16), {"conv": (1.0, False)})
    readout = Readout(dac_bits=4, bits_per_cycle=4, subtraction="analog", adc_bits=6, adc_lsb=3.0)
    hardware = FastHardware(Wires(0.0, 0.0), readout, seed=1, instance=0)
    hardware.program(made)
    images = torch.rand(3, conv.in_channels, 9, 8, generator=draw)
    arrays = make_arrays(made, Wires(0.0, 0.0), readout, 1)
    with torch.no_grad():
        read = on_hardware(network_from_map(net, made), hardware)(images)
        modelled = surrogate_network(network_from_map(net, made), made, arrays)(images)
    torch.testing.assert_close(modelled, read)
    assert read.std() > 0


@pytest.mark.parametrize(("wires", "least", "most"), [(Wires(0.0, 0.0), 0.95, 1.05), (WIRES, 1.05, 1.6)])
def test_codes_count_for_more_where_wires_leave_less(
    wires: Wires, least: float, most: float, start: tuple[nn.Module, ConductanceMap], dataset: Dataset
) -> None:
    net, before = start
    arrays = make_arrays(before, wires, Readout(dac_bits=8), 1)
    on_arrays = surrogate_network(network_from_map(net, before), before, arrays)
    found = [gains(on_arrays, dataset.train_x[:100], seed) for seed in range(40)]
    for name in found[0]:
        assert least < sum(one[name] for one in found) / 40 < most


def test_gradients_through_the_wires_are_finite_differences(start: tuple[nn.Module, ConductanceMap]) -> None:
    """The effective weights move with a weight as the solver says, itself and its neighbours."""
    net, conductance_map = start
    card = generic_card(2e4, levels=31)  # no draws: the same cells twice
    whole = replace(conductance_map, card=card)
    layer = crossbar_layers(network_from_map(net, whole))["5"]
    arrays = make_arrays(whole, WIRES, READOUT, 1, exact=True)
    module = SurrogateLayer("5", layer, whole.layers["5"], arrays)
    upstream = torch.randn(whole.layers["5"].matrix_shape, generator=torch.Generator().manual_seed(0))
    step = module.levels.scale
    size = to_matrix(layer).detach().abs() / step
    kept = (size > 1.5) & (size < 29.5)  # a step either way stays within the levels

    def weighted() -> torch.Tensor:
        return (module._program()[0] * upstream).sum()

    (gradient,) = torch.autograd.grad(weighted(), layer.weight)
    for row, col in kept.nonzero()[:12].tolist():
        with torch.no_grad():
            values = []
            for move in (step, -2 * step):
                layer.weight[col, row] += move
                values.append(float(weighted()))
            layer.weight[col, row] += step
        assert float(gradient[col, row]) == pytest.approx(
            (values[0] - values[1]) / (2 * step), rel=0.03, abs=0.05
        )


def test_remapping_puts_stuck_cells_where_they_do_less_harm(
    task: Callable[..., Task], start: tuple[nn.Module, ConductanceMap]
) -> None:
    net, whole = start
    whole = replace(whole, card=generic_card(2e4, levels=31, stuck=0.05))
    chosen = replace(task("remap"), conductance_map=whole)
    stuck, idle = find_stuck(chosen), whole.card.idle_steps
    true = FastHardware(WIRES, READOUT, seed=3, instance="chip").program(whole)
    for name, layer in whole.layers.items():
        placed = place(layer, stuck[name], idle)
        assert harm(placed, stuck[name], idle) <= 0.7 * harm(layer, stuck[name], idle)
        actual = true.layers[name].actual
        assert actual is not None
        known = stuck[name].isfinite() & (
            actual[:, :, 0] > 0
        )  # cells on lines that are not driven are not formed
        assert torch.allclose(actual[:, :, 0][known] / whole.g_step, stuck[name][known], rtol=1e-4)
    assert harm(whole.layers["5"], stuck["5"], idle) > 0
    outcome = run_strategy(chosen)
    # Without errors the network is the same, wherever its lines lie and whatever their signs.
    ideal = IdealHardware()
    ideal.program(outcome.conductance_map)
    columns = outcome.columns or {}
    images = chosen.dataset.test_x[:20]
    found = on_hardware(network_from_map(net, outcome.conductance_map), ColumnScaled(ideal, columns))(images)
    assert torch.allclose(found, network_from_map(net, whole)(images), atol=1e-4)


def test_a_teacher_pulls_towards_its_outputs(dataset: Dataset) -> None:
    teacher = network().eval()
    loss = distilled(teacher, 1.0, 2.0)
    images, labels = dataset.train_x[:8], dataset.train_y[:8]
    assert loss(images, teacher(images), labels).item() == pytest.approx(0, abs=1e-6)
    assert loss(images, torch.zeros(8, 4), labels).item() > 0


def test_wrong_use_says_what_is_wrong(task: Callable[..., Task]) -> None:
    with pytest.raises(ValueError, match=r"retrain\.distill needs a teacher"):
        run_strategy(task("variation", distill=0.5))
    with pytest.raises(ValueError, match=r"retrain\.last_layers is 2, but"):
        run_strategy(task("hybrid", last_layers=2))


def test_codes_follow_weights(start: tuple[nn.Module, ConductanceMap]) -> None:
    net, whole = start
    running = surrogate_network(network_from_map(net, whole), whole, make_arrays(whole, None, READOUT, 1))
    holders = {m.name: m for m in running.modules() if isinstance(m, SurrogateLayer)}
    assert same_map(Codes(whole, holders).reached(running), whole)
