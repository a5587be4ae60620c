"""Layers are programmed one at a time where asked: the named ones change, the others keep what they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from device_models.crossbar import Wires
from hwloop.hardware import FastHardware, Hardware, IdealHardware, SpiceHardware
from hwloop.mapping import ConductanceMap
from tests.line.maps import card_with, map_of, random_layer

CARD = card_with(read_noise=0.02, programming_error=2e-6)
FIRST = map_of(random_layer("a", seed=1), random_layer("b", matrix_shape=(12, 5), seed=2), card=CARD)
OTHER = map_of(random_layer("a", seed=3), random_layer("b", matrix_shape=(12, 5), seed=4), card=CARD)

Make = Callable[[], Hardware]
ANY = pytest.mark.parametrize("make", [IdealHardware, lambda: FastHardware(Wires(2.0, 2.0), seed=5)])


def read(hardware: Hardware, layer: str) -> torch.Tensor:
    rows = FIRST.layers[layer].matrix_shape[0]
    return hardware.read(layer, torch.linspace(0, 2, 3 * rows).reshape(3, rows))


@ANY
def test_layers_one_by_one_are_as_all_at_once(make: Make) -> None:
    at_once, one_by_one = make(), make()
    whole = at_once.program(FIRST)
    for name in ("b", "a"):
        part = one_by_one.program(FIRST, [name])
        assert torch.equal(part.layers[name].actual, whole.layers[name].actual)
    for name in ("a", "b"):
        assert torch.equal(read(at_once, name), read(one_by_one, name))


@ANY
def test_layers_that_are_not_named_keep_what_they_hold_and_go_on_counting(make: Make) -> None:
    disturbed, undisturbed = make(), make()
    for hardware in (disturbed, undisturbed):
        hardware.program(FIRST)
        read(hardware, "b")
    given = disturbed.program(OTHER, {"a"})
    assert given.layers["b"].actual is None
    assert torch.equal(read(disturbed, "b"), read(undisturbed, "b"))
    assert not torch.equal(read(disturbed, "a"), read(undisturbed, "a"))


@ANY
def test_programming_all_forgets_what_was_held(make: Make) -> None:
    hardware = make()
    hardware.program(FIRST)
    alone: ConductanceMap = replace(FIRST, layers={"b": FIRST.layers["b"]})
    hardware.program(alone)
    with pytest.raises(KeyError, match="'a'"):
        read(hardware, "a")


@ANY
def test_a_layer_that_is_not_in_the_map_is_refused(make: Make) -> None:
    hardware = make()
    hardware.program(FIRST)
    with pytest.raises(ValueError, match="no layer 'c' in the map"):
        hardware.program(FIRST, ["a", "c"])
    read(hardware, "a")


@pytest.mark.ngspice
def test_ngspice_solves_only_the_layers_that_are_named() -> None:
    small = map_of(
        random_layer("a", matrix_shape=(3, 3), array_shape=(4, 4)),
        random_layer("b", matrix_shape=(3, 2), array_shape=(4, 4)),
    )
    solved: list[str] = []
    hardware = SpiceHardware(
        Wires(2.0, 2.0), seed=1, workers=1, progress=lambda _, detail: solved.append(detail)
    )
    hardware.program(small, ["b"])
    assert solved
    assert all(detail.startswith("b:") for detail in solved)
