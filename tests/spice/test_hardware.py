"""ngspice as hardware: the same devices, converters and noise as the fast simulator, read for read."""

import pytest
import torch

from device_models.crossbar import Wires
from hwloop.hardware import IdealHardware
from hwloop.hardware.fast import FastHardware
from hwloop.hardware.spice import SpiceHardware
from hwloop.recipe import Readout
from spice_netlists import SpiceError

from .maps import random_map

WIRES = Wires(word_line=5.0, bit_line=8.0, driver=100.0, sense=100.0)
pytestmark = pytest.mark.ngspice


def read_both(conductance_map, rows_at_once=None, **settings):
    readout = Readout(dac_bits=6, rows_at_once=rows_at_once)
    generator = torch.Generator().manual_seed(0)
    outputs = []
    fast = FastHardware(WIRES, readout, seed=3, **settings)
    spice = SpiceHardware(WIRES, readout, seed=3, **settings)
    maps = fast.program(conductance_map), spice.program(conductance_map)
    for name, layer in conductance_map.layers.items():
        inputs = torch.randn(5, layer.matrix_shape[0], generator=generator)
        outputs.append((fast.read(name, inputs), spice.read(name, inputs)))
    return maps, outputs


@pytest.mark.parametrize("signed", [False, True])
def test_devices_and_readout_equal_the_fast_simulators(signed):
    maps, outputs = read_both(random_map([(20, 9), (8, 8)], signed=signed))
    for name in maps[0].layers:
        assert torch.equal(maps[0].layers[name].actual, maps[1].layers[name].actual)
    for fast, spice in outputs:
        assert fast.abs().max() > 0
        assert torch.equal(fast, spice)


def test_polarised_fragments_get_their_signs_whoever_solves_the_arrays():
    conductance_map = random_map([(20, 9)], signed=True, fragment=4)
    _, [(fast, spice)] = read_both(conductance_map, rows_at_once=4)
    assert torch.equal(fast, spice)
    ideal = IdealHardware()
    ideal.program(conductance_map)
    inputs = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    product = ideal.read("fc0", inputs.clamp(-1, 1))
    assert (spice - product).norm() < 0.2 * product.norm()


def test_analog_readout_differs_only_by_rounding():
    _, outputs = read_both(random_map([(20, 9)]), adc=False)
    for fast, spice in outputs:
        assert torch.allclose(fast, spice, rtol=1e-5, atol=1e-6 * float(fast.abs().max()))


def test_it_is_ngspice_that_is_read(monkeypatch):
    """Against the ideal product: wires of kiloohms must show, and they only can through ngspice."""
    conductance_map = random_map([(8, 8)])
    inputs = torch.ones(1, 8)
    loose, tight = Wires(1e3, 1e3), Wires(0.0, 0.0)
    readings = []
    for wires in (loose, tight):
        hardware = SpiceHardware(wires, Readout(dac_bits=4), seed=0, adc=False)
        monkeypatch.setattr("hwloop.hardware.fast.effective_conductance", lambda g, wires: g)
        hardware.program(conductance_map)
        readings.append(hardware.read("fc0", inputs))
    assert readings[0].abs().sum() < 0.9 * readings[1].abs().sum()


def test_identity_tells_the_back_ends_apart():
    assert SpiceHardware(WIRES, Readout(dac_bits=4), seed=0).identity["backend"] == "spice"
    assert FastHardware(WIRES, Readout(dac_bits=4), seed=0).identity["backend"] == "fast"


def test_progress_is_told_and_a_failing_array_is_named(tmp_path):
    seen = []
    hardware = SpiceHardware(
        WIRES, Readout(dac_bits=4), seed=0, progress=lambda fraction, _: seen.append(fraction)
    )
    hardware.program(random_map([(8, 8)]))
    assert seen == [0.5, 1.0]
    hardware = SpiceHardware(WIRES, Readout(dac_bits=4), seed=0, time_limit=1e-6, keep_failed=tmp_path)
    with pytest.raises(SpiceError, match=r"fc0 tile 0 .*netlist"):
        hardware.program(random_map([(8, 8)]))
