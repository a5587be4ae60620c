"""Chip-in-the-loop over TCP: the readout alone gives accuracy back, and faults of the wire change nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from benchmarks.faulty_wire import Fault, FaultyWire
from device_models import load_card
from device_models.crossbar import Wires
from hwloop import recipe
from hwloop.bench import BenchError, connect
from hwloop.datasets import Dataset
from hwloop.hardware import (
    Hardware,
    RecordingHardware,
    calibrate_inputs,
    network_from_map,
    on_hardware,
)
from hwloop.mapping import ConductanceMap, build_map
from hwloop.networks import crossbar_layers, to_matrix
from hwloop.quantization import quantize
from hwloop.recipe import Readout
from hwloop.training import accuracy, fit
from hwloop.training.strategies import Task, run_strategy
from tests.line.test_retrain import blobs, network, same_map

from .conftest import serving

CARD = load_card("rram-neurram")
READOUT = Readout()
DATA = Dataset("blobs", *blobs(256, 1), *blobs(32, 2), *blobs(300, 3))
Start = tuple[nn.Module, ConductanceMap]


@pytest.fixture(scope="module")
def start() -> Start:
    net = network()
    fit(net, DATA, epochs=6, batch=32, learning_rate=5e-3, seed=0, station="train")
    masks = {name: to_matrix(layer).detach() != 0 for name, layer in crossbar_layers(net).items()}
    layers = quantize(net, masks, CARD.levels)
    codes = {name: (layer.codes, layer.scale) for name, layer in layers.items()}
    return net, build_map("tests:none", net, codes, CARD, (16, 16), calibrate_inputs(net, DATA.train_x))


def chip_in_the_loop(start: Start, hardware: Hardware) -> tuple[ConductanceMap, float]:
    """Put a network onto a chip; return what it became, and its accuracy there."""
    choice = recipe.Retrain(strategy="chip", epochs=2, learning_rate=5e-3, batch=32, refresh=8)
    task = Task(*start, lambda _: hardware, Wires(1.0, 1.0), READOUT, DATA, choice, seed=1)
    outcome = run_strategy(task)
    net = network_from_map(start[0], outcome.conductance_map)
    return outcome.conductance_map, accuracy(on_hardware(net, hardware), DATA.test_x, DATA.test_y)


@pytest.fixture(scope="module")
def undisturbed(start: Start) -> tuple[ConductanceMap, float]:
    with serving(CARD, array_shape=(16, 16), adc_bits=6) as server:
        return chip_in_the_loop(start, connect(f"127.0.0.1:{server.port}", READOUT))


def test_a_network_learns_to_live_with_a_chip_that_only_its_readout_tells_of(
    start: Start, undisturbed: tuple[ConductanceMap, float]
) -> None:
    with serving(CARD, array_shape=(16, 16), adc_bits=6) as server:
        hardware = connect(f"127.0.0.1:{server.port}", READOUT)
        hardware.program(start[1])
        before = accuracy(on_hardware(network_from_map(*start), hardware), DATA.test_x, DATA.test_y)
    assert undisturbed[1] > before


def every(period: int, fault: Fault) -> Callable[[str, int], Fault]:
    return lambda _, number: fault if number % period == 5 else Fault.NONE


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.GARBLE])
def test_faults_of_the_wire_do_not_change_what_it_becomes(
    start: Start, undisturbed: tuple[ConductanceMap, float], fault: Fault
) -> None:
    with (
        serving(CARD, array_shape=(16, 16), adc_bits=6) as server,
        FaultyWire(server.port, every(11, fault)) as wire,
    ):
        found, reached = chip_in_the_loop(start, connect(wire.address, READOUT, attempts=20))
        assert wire.faults >= 3
    assert same_map(found, undisturbed[0])
    assert reached == undisturbed[1]


def test_a_run_that_loses_its_instrument_goes_on_and_becomes_the_same(
    start: Start, undisturbed: tuple[ConductanceMap, float], tmp_path: Path
) -> None:
    def lost_at(moment: int) -> Callable[[str, int], Fault]:
        return lambda _, number: Fault.CUT if number >= moment else Fault.NONE

    losses = 0
    with serving(CARD, array_shape=(16, 16), adc_bits=6) as server:
        for moment in (20, 30, 50, 10**9):
            with FaultyWire(server.port, lost_at(moment)) as wire:
                try:
                    hardware = connect(wire.address, READOUT, attempts=2)
                    with RecordingHardware(hardware, tmp_path / "run.h5") as recording:
                        found, reached = chip_in_the_loop(start, recording)
                except BenchError:
                    losses += 1
    assert losses >= 2
    assert same_map(found, undisturbed[0])
    assert reached == undisturbed[1]
