"""Retraining: ever new devices, the same masks, and more accuracy on devices that it never met."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from device_models import load_card
from device_models.crossbar import Wires
from hwloop import recipe
from hwloop.datasets import Dataset
from hwloop.evaluation import evaluate_instances
from hwloop.hardware import FastHardware, Hardware, IdealHardware, calibrate_inputs, network_from_map
from hwloop.mapping import ConductanceMap, build_map
from hwloop.networks import crossbar_layers
from hwloop.quantization import quantize
from hwloop.recipe import Readout
from hwloop.training import accuracy, fit
from hwloop.training.retrain import retrain

SIDE, CLASSES = 8, 4
Make = Callable[[int | str], Hardware]


def blobs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of a bright patch whose place is the class, under noise."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, CLASSES, (count,), generator=generator)
    x = 0.55 * torch.rand((count, 1, SIDE, SIDE), generator=generator)
    for image, label in zip(x, y.tolist(), strict=True):
        image[0, 4 * (label // 2) : 4 * (label // 2) + 3, 4 * (label % 2) : 4 * (label % 2) + 3] += 0.2
    return x, y


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(54, CLASSES),
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset("blobs", *blobs(768, 1), *blobs(64, 2), *blobs(1000, 3))


@pytest.fixture(scope="module")
def quantized(dataset: Dataset) -> tuple[nn.Module, ConductanceMap]:
    """A trained network with half of its weights pruned, on the levels of the rram-neurram card."""
    net, card = network(), load_card("rram-neurram")
    fit(net, dataset, epochs=6, batch=32, learning_rate=5e-3, seed=0, station="train")
    masks = {}
    for name, layer in crossbar_layers(net).items():
        weight = layer.weight.data
        weight.mul_(weight.abs() >= weight.abs().median())
        masks[name] = (weight != 0).reshape(weight.shape[0], -1).T
    levels = quantize(net, masks, card.levels)
    codes = {name: (layer.codes, layer.scale) for name, layer in levels.items()}
    return net, build_map("tests:none", net, codes, card, (16, 16), calibrate_inputs(net, dataset.train_x))


def make(instance: int | str) -> FastHardware:
    """Arrays with wires so resistive that they change the results."""
    return FastHardware(
        Wires(60.0, 60.0, driver=500.0, sense=500.0), Readout(dac_bits=4), seed=5, instance=instance
    )


def choice(**options: float) -> recipe.Retrain:
    return recipe.Retrain.model_validate({"epochs": 1, "learning_rate": 2e-3, "batch": 64, **options})


def same_map(one: ConductanceMap, two: ConductanceMap) -> bool:
    codes = all(torch.equal(one.layers[name].codes, two.layers[name].codes) for name in one.layers)
    return codes and all(torch.equal(one.digital[name], two.digital[name]) for name in one.digital)


def test_retraining_regains_accuracy_on_instances_it_never_met(
    dataset: Dataset, quantized: tuple[nn.Module, ConductanceMap]
) -> None:
    net, before = quantized
    after, records = retrain(net, before, make, dataset, choice(epochs=4), seed=0)

    def mean(conductance_map: ConductanceMap) -> float:
        found = evaluate_instances(
            net, conductance_map, make, dataset.test_x, dataset.test_y, instances=range(4)
        )
        return sum(found) / 4

    ideal = accuracy(network_from_map(net, before), dataset.test_x, dataset.test_y)
    lost = ideal - mean(before)
    assert lost > 0.02
    assert ideal - mean(after) < lost / 2
    assert [record.epoch for record in records] == [1, 2, 3, 4]


def test_masks_scales_and_tiles_stay_and_codes_stay_on_levels(
    dataset: Dataset, quantized: tuple[nn.Module, ConductanceMap]
) -> None:
    net, before = quantized
    untouched = {name: value.clone() for name, value in net.state_dict().items()}
    after, _ = retrain(net, before, make, dataset, choice(learning_rate=0.05), seed=0)
    assert not same_map(before, after)
    for name, layer in after.layers.items():
        was = before.layers[name]
        assert torch.equal(layer.mask, was.mask)
        assert not torch.equal(layer.codes, was.codes)
        assert int(layer.codes.max()) <= after.card.levels
        assert not (layer.codes[:, 0] & layer.codes[:, 1]).any()  # one polarity at a time
        assert torch.equal(layer.row_index, was.row_index)
        assert torch.equal(layer.adc_bits, was.adc_bits)
        assert layer.weight_per_siemens == was.weight_per_siemens
        assert layer.actual is None
    assert all(torch.equal(value, untouched[name]) for name, value in net.state_dict().items())


def test_no_epochs_give_the_map_back(dataset: Dataset, quantized: tuple[nn.Module, ConductanceMap]) -> None:
    net, before = quantized
    after, records = retrain(net, before, make, dataset, choice(epochs=0), seed=0)
    assert same_map(before, after)
    assert records == []


def test_the_result_depends_on_the_seed_alone(
    dataset: Dataset, quantized: tuple[nn.Module, ConductanceMap]
) -> None:
    net, before = quantized
    one, two, other = (retrain(net, before, make, dataset, choice(), seed=seed)[0] for seed in (0, 0, 1))
    assert same_map(one, two)
    assert not same_map(one, other)


def test_resuming_gives_what_running_through_gives(
    dataset: Dataset, quantized: tuple[nn.Module, ConductanceMap], tmp_path: Path
) -> None:
    net, before = quantized
    through, _ = retrain(net, before, make, dataset, choice(epochs=3), seed=0, steps_per_instance=5)

    class PowerCutError(Exception):
        pass

    def cut(done: float, _: str) -> None:
        if done > 0.7:
            raise PowerCutError

    path = tmp_path / "retrain.safetensors"
    arguments = (net, before, make, dataset, choice(epochs=3))
    with pytest.raises(PowerCutError):
        retrain(*arguments, seed=0, steps_per_instance=5, checkpoint=path, progress=cut)
    resumed, records = retrain(*arguments, seed=0, steps_per_instance=5, checkpoint=path)
    assert same_map(through, resumed)
    assert len(records) == 3


@pytest.mark.parametrize(("every", "programmings"), [(1, 24), (5, 6), (100, 2)])
def test_each_programming_is_a_new_instance_and_none_is_one_of_the_evaluation(
    dataset: Dataset, quantized: tuple[nn.Module, ConductanceMap], every: int, programmings: int
) -> None:
    """768 images in batches of 64 are 12 steps an epoch; here there are two epochs."""
    net, before = quantized
    instances: list[int | str] = []
    given: list[ConductanceMap] = []

    class Watched(IdealHardware):
        def program(self, conductance_map: ConductanceMap) -> ConductanceMap:
            given.append(conductance_map)
            return super().program(conductance_map)

    def watch(instance: int | str) -> Hardware:
        instances.append(instance)
        return Watched()

    retrain(net, before, watch, dataset, choice(epochs=2), seed=0, steps_per_instance=every)
    assert len(given) == programmings
    assert len(set(instances)) == len(instances)
    assert not any(isinstance(instance, int) or instance.isdigit() for instance in instances)
    assert same_map(given[0], before)
    assert not same_map(given[-1], before)  # weights that have been learned are programmed


def test_wrong_use_says_what_is_wrong(dataset: Dataset, quantized: tuple[nn.Module, ConductanceMap]) -> None:
    net, before = quantized
    with pytest.raises(ValueError, match="steps_per_instance must be at least 1, not 0"):
        retrain(net, before, make, dataset, choice(), seed=0, steps_per_instance=0)
    with pytest.raises(ValueError, match="of another network"):
        retrain(nn.Sequential(nn.Linear(64, 4)), before, make, dataset, choice(), seed=0)
