"""Ways of reading: every one is what its circuit does, conversion by conversion."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from device_models import load_card
from device_models.converters import Dac, FlashAdc, RampAdc, SarAdc, Transfer, dac_codes, slices
from device_models.crossbar import Wires, effective_conductance
from hwloop.hardware import FastHardware, IdealHardware
from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap, full_scale, resolution
from hwloop.recipe import Readout

from .maps import card_with, map_of, random_layer

WIRES = Wires(2.0, 3.0, driver=50.0, sense=80.0)
NO_WIRES = Wires(0.0, 0.0)
SAR = SarAdc(unit_capacitor_mismatch=0.05, comparator_offset=0.6)
WAYS = {
    "plain": Readout(),
    "two bits per cycle": Readout(bits_per_cycle=2),
    "three bits per cycle of seven": Readout(dac_bits=7, bits_per_cycle=3),
    "mismatched drivers": Readout(bits_per_cycle=2, dac_level_mismatch=0.05),
    "mismatched one-bit drivers": Readout(dac_level_mismatch=0.05),
    "three rows at once": Readout(rows_at_once=3),
    "analog subtraction": Readout(subtraction="analog"),
    "analog accumulation": Readout(dac_bits=5, accumulation="analog", adc_bits=9),
    "analog accumulation of digits": Readout(dac_bits=5, bits_per_cycle=2, accumulation="analog", adc_bits=9),
    "all analog": Readout(dac_bits=4, subtraction="analog", accumulation="analog", adc_bits=8),
    "few bits": Readout(adc_bits=4),
    "few bits, small steps": Readout(adc_bits={"fc": 4}, adc_lsb={"fc": 1.7}),
    "SAR": Readout(adc=SAR, bit_lines_per_adc=3),
    "one SAR for each array": Readout(adc=SAR),
    "one bit": Readout(adc=SAR, adc_bits=1),
    "SAR, analog subtraction": Readout(adc=SAR, subtraction="analog", bit_lines_per_adc=1),
    "flash": Readout(adc=FlashAdc(threshold_offset=1.5), adc_bits=5, bit_lines_per_adc=2),
    "ramp": Readout(adc=RampAdc(gain_error=0.05, offset=2.0, curvature=1.5), bits_per_cycle=2),
    "SAR, three rows at once": Readout(adc=SAR, rows_at_once=3, bits_per_cycle=2),
}


def full_layer() -> LayerMap:
    """One tile of 7 rows and 7 columns, of which every cell of both polarities conducts."""
    layer = random_layer(density=1.0, matrix_shape=(7, 7))
    return replace(layer, codes=torch.where(layer.codes > 0, layer.codes, 15))


def plain_read(
    done: ConductanceMap, wires: Wires, x: torch.Tensor, readout: Readout, seed: int
) -> torch.Tensor:
    """One conversion after the other, without noise, with the converters of the device models."""
    layer, card = done.layers["fc"], done.card
    assert layer.actual is not None
    cells = effective_conductance(layer.actual[:, :, 0].double(), wires) / card.g_step
    found = resolution(layer, card.levels, readout)
    rows, cols = layer.matrix_shape
    drivers = Dac.draw(
        readout.bits_per_cycle, rows, seed, "dac", 0, "fc", level_mismatch=readout.dac_level_mismatch
    )
    analog = readout.subtraction == "analog"
    share = readout.bit_lines_per_adc or cells.shape[-1]
    per_array = -(-cells.shape[-1] // share)
    result = torch.zeros(len(x), cols, dtype=torch.float64)
    for sign in (1, -1) if layer.input_signed else (1,):
        codes = dac_codes(sign * x, layer.input_scale, readout.dac_bits)
        steps = torch.stack(
            [drivers.drive(d) for d in slices(codes, readout.dac_bits, readout.bits_per_cycle)]
        )
        for tile in range(layer.tiles):
            bits = int(found.bits[tile])
            bank = readout.adc.build(bits, (1 if analog else 2) * per_array, seed, "adc", 0, "fc", tile)
            used = [i for i, row in enumerate(layer.row_index[tile].tolist()) if row != UNUSED_LINE]
            size = readout.rows_at_once or len(used) or 1
            for group in [used[k : k + size] for k in range(0, len(used), size)]:
                applied = steps[:, :, layer.row_index[tile, group].long()]
                for j, col in enumerate(layer.col_index[tile].tolist()):
                    if col == UNUSED_LINE:
                        continue
                    p, n = (applied @ cells[tile, polarity, group, j] for polarity in (0, 1))
                    converted = [(p - n, 1, 0)] if analog else [(p, 1, 0), (n, -1, 1)]
                    for current, weight, array in converted:
                        shifts = 2.0 ** (readout.bits_per_cycle * torch.arange(len(steps)))[:, None]
                        if readout.accumulation == "analog":
                            current, shifts = (current * shifts).sum(0, keepdim=True), torch.ones(1, 1)
                        adc = Transfer(bank.thresholds[array * per_array + j // share][None])
                        code = adc.convert((current / found.lsb + found.bottom[tile])[..., None])[..., 0]
                        counted = ((code - found.bottom[tile]) * shifts).sum(0)
                        result[:, col] += sign * weight * counted * found.lsb
    count = layer.weight_per_siemens * card.g_step * layer.input_scale / (2**readout.dac_bits - 1)
    return (result * count).float()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_reading_is_what_the_circuit_does_step_by_step(way: str, signed: bool) -> None:
    layer = random_layer(signed=signed, density=0.8)
    hardware = FastHardware(WIRES, WAYS[way], seed=3)
    done = hardware.program(map_of(layer, card=card_with(read_noise=0.0, programming_error=1.5e-6)))
    x = torch.randn(6, 20, generator=torch.Generator().manual_seed(1)) * layer.input_scale / 2
    assert not hardware.collapses("fc")
    read, plain = hardware.read("fc", x), plain_read(done, WIRES, x, WAYS[way], 3)
    # Currents are resolved to 2^-16 of a level step: one beside a threshold may fall on its other side.
    assert (~torch.isclose(read, plain, rtol=1e-5, atol=1e-6)).float().mean() < 0.02
    assert (read - plain).abs().max() < 0.02 * plain.abs().max() + 1e-6


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6),
    st.booleans(),
    st.sampled_from(
        [
            Readout(bits_per_cycle=3),
            Readout(rows_at_once=2),
            Readout(subtraction="analog"),
            Readout(dac_bits=4, accumulation="analog"),
            Readout(
                dac_bits=3, bits_per_cycle=3, rows_at_once=3, subtraction="analog", accumulation="analog"
            ),
        ]
    ),
)
def test_lossless_converters_lose_nothing(seed: int, signed: bool, readout: Readout) -> None:
    layer = random_layer(signed=signed, seed=seed)
    hardware = FastHardware(NO_WIRES, readout, seed=0)
    hardware.program(map_of(layer))
    ideal = FastHardware(NO_WIRES, Readout(dac_bits=readout.dac_bits), seed=0, adc=False)
    ideal.program(map_of(layer))
    x = torch.randn(7, 20, generator=torch.Generator().manual_seed(seed)) * layer.input_scale
    exact = ideal.read("fc", x)
    assert hardware.collapses("fc")
    assert torch.allclose(hardware.read("fc", x), exact, rtol=1e-5, atol=1e-5)
    hardware._layers["fc"].matrix = None
    assert torch.allclose(hardware.read("fc", x), exact, rtol=1e-5, atol=1e-5)


def test_lossless_resolution_is_that_of_the_formula() -> None:
    layer = full_layer()
    for readout, cells, steps in (
        (Readout(), 7, 1),
        (Readout(bits_per_cycle=3), 7, 7),
        (Readout(rows_at_once=2), 2, 1),
        (Readout(dac_bits=4, accumulation="analog"), 7, 15),
    ):
        assert full_scale(layer, 15, readout).tolist() == [cells * 15 * steps]
        assert resolution(layer, 15, readout).bits.tolist() == [math.ceil(math.log2(cells * 15 * steps + 1))]
    assert resolution(layer, 15, Readout(subtraction="analog")).bits.tolist() == [8]


def test_short_converters_span_what_the_bit_lines_can_carry() -> None:
    layer = full_layer()
    assert resolution(layer, 15, Readout(adc_bits=4)).lsb == 105 / 15
    assert resolution(layer, 15, Readout(adc_bits=4, subtraction="analog")).lsb == 105 / 7
    assert resolution(layer, 15, Readout(adc_bits=12)).bits.tolist() == [7]
    assert resolution(layer, 15, Readout(adc_lsb=3.0)).bits.tolist() == [6]
    assert resolution(layer, 15, Readout(adc_bits={"other": 2})).lsb == 1


@pytest.mark.parametrize("accumulation", ["digital", "analog"])
@pytest.mark.parametrize("width", [1, 2])
def test_noise_has_the_variance_of_cells_and_converters(accumulation: str, width: int) -> None:
    """A cycle of weight 2^b adds 4^b (read_noise^2 sum_i (digit_i g_i)^2 + noise^2 + 1/12) per bit line."""
    reads, noise, adc_noise, bits = 4000, 0.05, 1.5, 4
    layer = full_layer()
    active = 13 if (accumulation, width) != ("digital", 1) else 15  # an idle cycle would clip at code 0
    readout = Readout(
        dac_bits=bits,
        bits_per_cycle=width,
        accumulation=accumulation,  # type: ignore[arg-type]
        adc=SarAdc(noise=adc_noise),
        adc_lsb=1.0,
    )
    hardware = FastHardware(NO_WIRES, readout, seed=1)
    hardware.program(map_of(layer, card=card_with(read_noise=noise)))
    x = torch.full((1, 7), layer.input_scale * active / 15)
    results = hardware.read("fc", x.expand(reads, -1)).double()
    assert not torch.equal(results[0], results[1])
    columns = layer.col_index[0, :7].argsort()
    squares = (layer.codes[0, :, 0, :7, :7].double() ** 2).sum((0, 1))[columns]
    digits = [active >> low & (1 << width) - 1 for low in range(0, bits, width)]
    shifts = [2.0 ** (width * k) for k in range(len(digits))]
    cells = sum((d * s) ** 2 for d, s in zip(digits, shifts, strict=True)) * noise**2 * squares
    conversions = 1.0 if accumulation == "analog" else sum(s**2 for s in shifts)
    variance = cells + 2 * conversions * (adc_noise**2 + 1 / 12)
    count = layer.weight_per_siemens * 40e-6 / 15 * layer.input_scale / (2**bits - 1)
    assert torch.allclose(results.std(0), variance.sqrt() * count, rtol=5 / math.sqrt(2 * reads) + 0.01)


def test_calibration_takes_gain_and_offset_out() -> None:
    layer = random_layer(density=1.0)
    conductance_map = map_of(layer, card=card_with(read_noise=0.0, programming_error=1e-6))
    x = torch.rand(50, 20, generator=torch.Generator().manual_seed(1)) * layer.input_scale

    def error(**options: object) -> float:
        hardware = FastHardware(NO_WIRES, Readout.model_validate(options), seed=2)
        hardware.program(conductance_map)
        exact = FastHardware(NO_WIRES, seed=2, adc=False)
        exact.program(conductance_map)
        return float((hardware.read("fc", x) - exact.read("fc", x)).square().mean().sqrt())

    crooked = {"kind": "ramp", "gain_error": 0.05, "offset": 2.0}
    assert error(adc=crooked) > 5 * error()
    assert error(adc=crooked, adc_calibrated=True) < 1.2 * error()


def test_converters_of_a_tile_do_not_depend_on_other_tiles_or_batches() -> None:
    layer = random_layer(density=1.0)
    readout = Readout(adc=SarAdc(unit_capacitor_mismatch=0.05, noise=0.5), bit_lines_per_adc=2)
    conductance_map = map_of(layer, card=card_with(read_noise=0.02, programming_error=1e-6))
    x = torch.rand(40, 20, generator=torch.Generator().manual_seed(1)) * layer.input_scale
    whole, parts = FastHardware(WIRES, readout, seed=2), FastHardware(WIRES, readout, seed=2)
    whole.program(conductance_map)
    parts.program(conductance_map)
    assert torch.equal(whole.read("fc", x), torch.cat([parts.read("fc", part) for part in x.split(7)]))
    other = FastHardware(WIRES, readout, seed=2, instance=1)
    other.program(conductance_map)
    assert (whole._layers["fc"].adcs.curves != other._layers["fc"].adcs.curves).any()


def test_drivers_of_unlimited_converters_are_those_of_real_ones() -> None:
    layer = random_layer(density=1.0, matrix_shape=(7, 7))
    readout = Readout(bits_per_cycle=2, dac_level_mismatch=0.1, adc_lsb=1e-4, dac_bits=4)
    fine, free = FastHardware(NO_WIRES, readout, seed=2), FastHardware(NO_WIRES, readout, seed=2, adc=False)
    x = torch.rand(9, 7, generator=torch.Generator().manual_seed(1)) * layer.input_scale
    small = replace(layer, codes=(layer.codes > 0).to(torch.uint8))
    with pytest.raises(ValueError, match="layer fc: its ADCs would need"):
        fine.program(map_of(small))
    fine = FastHardware(NO_WIRES, readout.model_copy(update={"adc_lsb": 0.01}), seed=2)
    fine.program(map_of(small))
    free.program(map_of(small))
    ideal = IdealHardware()
    ideal.program(map_of(small))
    assert torch.allclose(
        fine.read("fc", x), free.read("fc", x), atol=0.01 * float(free.read("fc", x).abs().max())
    )
    assert not torch.allclose(ideal.read("fc", x), free.read("fc", x), rtol=0.01)


def test_arrays_that_are_read_later_have_drifted() -> None:
    conductance_map = map_of(random_layer(levels=15), card=load_card("pcm-nandakumar"))

    def programmed(**times: float) -> torch.Tensor:
        done = FastHardware(NO_WIRES, Readout.model_validate(times), seed=1).program(conductance_map)
        assert done.layers["fc"].actual is not None
        return done.layers["fc"].actual

    minute, year = programmed(elapsed=60.0), programmed(elapsed=3e7)
    assert 0.2 < float(year.sum() / minute.sum()) < 0.8
    with pytest.raises(ValueError, match="no retention section"):
        programmed(elapsed=60.0, temperature=400.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dac_bits", 0),
        ("bits_per_cycle", 9),
        ("adc_bits", 17),
        ("adc_lsb", 0.0),
        ("adc", {"kind": "pipeline"}),
    ],
)
def test_a_readout_that_cannot_be_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Readout.model_validate({field: value})
    with pytest.raises(ValidationError, match=r"bits_per_cycle \(4\) is above dac_bits \(3\)"):
        Readout(dac_bits=3, bits_per_cycle=4)
