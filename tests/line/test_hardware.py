"""Hardware back ends: exact where they claim to be, the same in every batch, and noisy as the card says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from device_models.converters import bit_planes, dac_codes
from device_models.crossbar import Wires, effective_conductance
from device_models.random import stream_key
from hwloop.hardware import FastHardware, Hardware, IdealHardware, MeasuredHardware, bit_serial, fast
from hwloop.hardware.bit_serial import standard_normals
from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap
from hwloop.recipe import Readout

from .maps import card_with, map_of, random_layer

NO_WIRES = Wires(0.0, 0.0)
WIRES = Wires(2.0, 3.0, driver=50.0, sense=80.0)


def inputs_for(layer: LayerMap, batch: int = 9, seed: int = 0) -> torch.Tensor:
    """Inputs of which some are zero and some out of range."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, layer.matrix_shape[0], generator=generator) * layer.input_scale / 2
    return x * (torch.rand(x.shape, generator=generator) < 0.7)


def programmed(conductance_map: ConductanceMap, wires: Wires = NO_WIRES, **options: object) -> FastHardware:
    adc = bool(options.pop("adc", True))
    hardware = FastHardware(wires, Readout.model_validate(options), seed=3, adc=adc)
    hardware.program(conductance_map)
    return hardware


def plain_matrix(layer: LayerMap) -> torch.Tensor:
    """The layer's matrix in level codes, tile by tile in plain loops."""
    matrix = torch.zeros(layer.matrix_shape, dtype=torch.int64)
    for tile in range(layer.tiles):
        for i, row in enumerate(layer.row_index[tile].tolist()):
            for j, col in enumerate(layer.col_index[tile].tolist()):
                if UNUSED_LINE not in (row, col):
                    positive, negative = layer.codes[tile, :, 0, i, j].tolist()
                    matrix[row, col] += positive - negative
    return matrix


def plain_draw(key: int, vector: int, negative: bool, bit: int, number: int) -> tuple[float, float]:
    """The two draws of one conversion pair, with Python's integers and math library."""
    cycle = (vector * 2 + negative) * 16 + bit
    z = (key + cycle * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    z ^= z >> 31
    words = []
    for start in (z, z >> 32):
        x = (start + number) % 2**32
        for shift, factor in ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB)):
            x = (x ^ x >> shift) * factor % 2**32
        words.append(x ^ x >> 14)
    radius = math.sqrt(-2 * math.log(((words[0] >> 1) + 0.5) / 2**31))
    angle = 2 * math.pi * words[1] / 2**32
    return radius * math.cos(angle), radius * math.sin(angle)


def plain_read(
    conductance_map: ConductanceMap, name: str, wires: Wires, x: torch.Tensor, bits: int, key: int
) -> torch.Tensor:
    """One conversion after the other, as the circuit would do it; x is read from the first cycle on."""
    layer, card = conductance_map.layers[name], conductance_map.card
    assert layer.actual is not None
    cells = effective_conductance(layer.actual[:, :, 0].double(), wires) / card.g_step
    result = torch.zeros(len(x), layer.matrix_shape[1], dtype=torch.int64)
    for negative in (False, True) if layer.input_signed else (False,):
        codes = dac_codes(-x if negative else x, layer.input_scale, bits)
        for tile, (rows, cols) in enumerate(
            zip(layer.row_index.long(), layer.col_index.tolist(), strict=True)
        ):
            planes = bit_planes(codes[:, rows.clamp(min=0)], bits).double() * (rows != UNUSED_LINE)
            fixed = torch.round(cells[tile] * 2**16) / 2**16
            currents = planes @ fixed[:, None]  # [polarity, bit, vector, column]
            spread = (planes @ (card.read_noise.value * fixed[:, None]) ** 2).sqrt()
            top = 2 ** int(layer.adc_bits[tile]) - 1
            for bit in range(bits):
                for vector in range(len(x)):
                    for j, col in enumerate(cols):
                        if col == UNUSED_LINE:
                            continue
                        draws = plain_draw(key, vector, negative, bit, tile * len(cols) + j)
                        p, n = (
                            min(max(math.floor(float(current + z * s) + 0.5), 0), top)
                            for current, z, s in zip(
                                currents[:, bit, vector, j], draws, spread[:, bit, vector, j], strict=True
                            )
                        )
                        result[vector, col] += (p - n) * 2**bit * (-1 if negative else 1)
    count = layer.weight_per_siemens * card.g_step * layer.input_scale / (2**bits - 1)
    return (result.double() * count).float()


# Exactness


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 10), st.sampled_from([0.0, 0.3, 1.0]))
def test_collapsed_reading_is_the_integer_product(seed: int, signed: bool, bits: int, density: float) -> None:
    layer = random_layer(signed=signed, density=density, seed=seed)
    hardware = programmed(map_of(layer), dac_bits=bits)
    x = inputs_for(layer, seed=seed)
    codes = dac_codes(x, layer.input_scale, bits).long()
    if signed:
        codes = codes - dac_codes(-x, layer.input_scale, bits).long()
    count = layer.weight_per_siemens * 40e-6 / 15 * layer.input_scale / (2**bits - 1)
    assert hardware.collapses("fc")
    assert torch.equal(hardware.read("fc", x), ((codes @ plain_matrix(layer)).double() * count).float())


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 10))
def test_collapsed_reading_is_bit_serial_reading(seed: int, signed: bool, bits: int) -> None:
    layer = random_layer(signed=signed, seed=seed)
    hardware = programmed(map_of(layer), dac_bits=bits)
    x = inputs_for(layer, seed=seed)
    at_once = hardware.read("fc", x)
    hardware._layers["fc"].matrix = None
    assert torch.equal(at_once, hardware.read("fc", x))


def test_reading_does_not_collapse_where_that_would_change_the_result() -> None:
    layer = random_layer(density=1.0)
    assert programmed(map_of(layer)).collapses("fc")
    assert not programmed(map_of(random_layer(density=1.0, spare_bits=-1))).collapses("fc")
    assert not programmed(map_of(layer), WIRES).collapses("fc")
    assert not programmed(map_of(layer, card=card_with(read_noise=0.01))).collapses("fc")
    assert not programmed(map_of(layer, card=card_with(read_noise=0.0, programming_error=1e-6))).collapses(
        "fc"
    )


def test_an_adc_with_too_few_bits_saturates() -> None:
    layer = random_layer(density=1.0, spare_bits=-2)
    x = torch.full((1, 20), layer.input_scale)
    short = programmed(map_of(layer)).read("fc", x)
    assert torch.equal(short, plain_read(IdealHardware().program(map_of(layer)), "fc", NO_WIRES, x, 8, 0))
    assert not torch.allclose(short, programmed(map_of(random_layer(density=1.0))).read("fc", x))


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3])
@pytest.mark.parametrize(("signed", "bits"), [(False, 8), (True, 3)])
def test_compiled_reading_is_what_the_circuit_does_step_by_step(
    noise: float, signed: bool, bits: int
) -> None:
    card = card_with(read_noise=noise, programming_error=1.5e-6)
    layer = random_layer(signed=signed, spare_bits=-1)
    hardware = FastHardware(WIRES, Readout(dac_bits=bits), seed=3)
    done = hardware.program(map_of(layer, card=card))
    x = inputs_for(layer, batch=5)
    key = stream_key(3, "read", 0, "fc") % 2**64
    assert torch.equal(hardware.read("fc", x), plain_read(done, "fc", WIRES, x, bits, key))


def test_ideal_hardware_gives_the_product_with_the_weights() -> None:
    layer = random_layer(signed=True)
    ideal = IdealHardware()
    done = ideal.program(map_of(layer))
    x = inputs_for(layer)
    weights = plain_matrix(layer).double() * layer.weight_per_siemens * 40e-6 / 15
    assert torch.allclose(ideal.read("fc", x).double(), x.double() @ weights, rtol=1e-5, atol=1e-5)
    assert done.layers["fc"].actual is not None
    assert torch.allclose(done.layers["fc"].actual.double(), done.target("fc"))


def test_more_dac_bits_approach_the_ideal_product() -> None:
    layer = random_layer(signed=True)
    ideal = IdealHardware()
    ideal.program(map_of(layer))
    x = inputs_for(layer).clamp(-layer.input_scale, layer.input_scale)
    errors = [
        float((programmed(map_of(layer), dac_bits=bits).read("fc", x) - ideal.read("fc", x)).abs().max())
        for bits in (4, 8, 12)
    ]
    assert errors[0] > 8 * errors[1] > 64 * errors[2]


# Wires and devices


def test_wires_take_current_away() -> None:
    layer = random_layer(density=1.0)
    positive_only = replace(
        layer, codes=layer.codes * torch.tensor([1, 0], dtype=torch.uint8)[:, None, None, None]
    )
    x = torch.rand(5, 20) + 1.0
    with_wires = programmed(map_of(positive_only), Wires(20.0, 20.0), adc=False).read("fc", x)
    without = programmed(map_of(positive_only), adc=False).read("fc", x)
    assert (with_wires < without).all()
    assert (with_wires > 0.5 * without).all()


def test_instances_are_other_devices_and_the_same_instance_is_the_same() -> None:
    conductance_map = map_of(random_layer(), card="rram-neurram")
    actual = [
        FastHardware(WIRES, seed=1, instance=i).program(conductance_map).layers["fc"].actual
        for i in (0, 0, 1, "retraining 1")
    ]
    assert torch.equal(actual[0], actual[1])
    assert not torch.equal(actual[0], actual[2])
    assert not torch.equal(actual[2], actual[3])


@pytest.mark.parametrize("copies", [3, {"fc": 3, "other": 2}], ids=["of all layers", "by layer"])
def test_copies_are_further_tiles_whose_codes_are_averaged(copies: int | dict[str, int]) -> None:
    layer, x, readout = random_layer(density=1.0), torch.rand(7, 20) * 2, Readout(adc_bits=6)
    assert layer.tiles > 1
    several = FastHardware(WIRES, readout.model_copy(update={"copies": copies}), seed=1)
    told = several.program(map_of(layer, card="generic-10k")).layers["fc"].actual
    assert several.identity["copies"] == (3 if copies == 3 else '{"fc": 3, "other": 2}')
    # The same devices, tile by tile, as three layers that were measured.
    drawn = FastHardware(WIRES, seed=1).program(map_of(layer.copied(3), card="generic-10k")).layers["fc"]
    assert drawn.actual is not None
    parts = drawn.actual.split(layer.tiles)
    assert told is not None
    assert torch.equal(told, parts[0])
    assert not torch.equal(parts[0], parts[1])
    total = torch.zeros(7, 12)
    for part in parts:
        one = MeasuredHardware(WIRES, readout, seed=1)
        one.program(map_of(replace(layer, actual=part), card="generic-10k"))
        total += one.read("fc", x)
    torch.testing.assert_close(several.read("fc", x), total / 3)


@pytest.mark.parametrize("options", [{}, {"adc": False}])
def test_copies_without_errors_change_nothing(options: dict[str, bool]) -> None:
    layer, x = random_layer(), torch.rand(7, 20) * 2
    one, three = (
        FastHardware(NO_WIRES, Readout(copies=copies), seed=1, **options) for copies in (1, 3)
    )  # fmt: skip
    for hardware in (one, three):
        hardware.program(map_of(layer))
    torch.testing.assert_close(one.read("fc", x), three.read("fc", x))


def test_what_varies_from_device_to_device_averages_out() -> None:
    conductance_map, x = map_of(random_layer(density=1.0), card="rram-neurram"), torch.rand(4, 20)

    def spread(copies: int) -> float:
        found = []
        for instance in range(60):
            hardware = FastHardware(WIRES, Readout(copies=copies), seed=1, instance=instance)
            hardware.program(conductance_map)
            found.append(hardware.read("fc", x))
        return float(torch.stack(found).std(0).square().mean().sqrt())

    assert spread(1) / spread(4) == pytest.approx(2, rel=0.1)


def test_programming_leaves_the_targets_and_the_given_map_alone() -> None:
    conductance_map = map_of(random_layer(), card="rram-neurram")
    done = FastHardware(WIRES, seed=1).program(conductance_map)
    assert conductance_map.layers["fc"].actual is None
    assert torch.equal(done.layers["fc"].codes, conductance_map.layers["fc"].codes)


# Reproducible reading


@pytest.mark.parametrize("options", [{}, {"adc": False}])
def test_batches_and_threads_do_not_change_what_is_read(
    options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    conductance_map = map_of(
        random_layer(signed=True), card=card_with(read_noise=0.1, programming_error=1e-6)
    )
    x = inputs_for(conductance_map.layers["fc"], batch=100)
    whole = programmed(conductance_map, WIRES, **options).read("fc", x)
    in_parts = programmed(conductance_map, WIRES, **options)
    parts = torch.cat([in_parts.read("fc", part) for part in x.split(7)])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setattr(bit_serial, "_BLOCK", 8)
        shared = programmed(conductance_map, WIRES, **options).read("fc", x)
    finally:
        torch.set_num_threads(threads)
    if options:  # plain float products: equal to rounding
        assert torch.allclose(whole, parts, atol=1e-5)
        assert torch.allclose(whole, shared, atol=1e-5)
    else:
        assert torch.equal(whole, parts)
        assert torch.equal(whole, shared)


@pytest.mark.parametrize("options", [{}, {"adc": False}])
def test_the_parts_that_memory_is_saved_by_do_not_change_what_is_read(
    options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    conductance_map = map_of(
        random_layer(signed=True), card=card_with(read_noise=0.1, programming_error=1e-6)
    )
    x = inputs_for(conductance_map.layers["fc"], batch=100)
    whole = programmed(conductance_map, WIRES, **options).read("fc", x)
    for limit in ("_INPUTS", "_FACTORS"):
        monkeypatch.setattr(fast, limit, 20 * 33)
    monkeypatch.setattr(bit_serial, "_BLOCK", 8)
    monkeypatch.setattr(fast, "_TILES", 2)
    parts = programmed(conductance_map, WIRES, **options).read("fc", x)
    assert torch.allclose(whole, parts, atol=1e-5 if options else 0, rtol=0)


def test_reading_again_draws_other_noise_and_programming_again_starts_over() -> None:
    conductance_map = map_of(random_layer(), card=card_with(read_noise=0.2))
    x = inputs_for(conductance_map.layers["fc"], batch=50)
    hardware = programmed(conductance_map)
    first, second = hardware.read("fc", x), hardware.read("fc", x)
    assert not torch.equal(first, second)
    hardware.program(conductance_map)
    assert torch.equal(hardware.read("fc", x), first)


# Read noise


def test_draws_are_standard_normal_and_independent() -> None:
    draws = standard_normals(20_000, 20, key=12345, first=0).double().numpy()
    flat = draws.ravel()
    assert stats.kstest(flat, "norm").pvalue > 0.01
    assert abs(flat.mean()) < 4 / math.sqrt(flat.size)
    assert abs(flat.var() - 1) < 4 * math.sqrt(2 / flat.size)
    assert abs(stats.kurtosis(flat)) < 4 * math.sqrt(24 / flat.size)
    other_key = standard_normals(20_000, 20, key=12346, first=0).double().numpy()
    for a, b in [(draws[1:], draws[:-1]), (draws[:, 1:], draws[:, :-1]), (draws, other_key)]:
        assert abs((a * b).mean()) < 4 / math.sqrt(a.size)
        assert abs((a**2 * b**2).mean() - 1) < 4 * math.sqrt(8 / a.size)


def test_draws_agree_with_the_mathematical_library() -> None:
    draws = standard_normals(50, 40, key=99, first=7)
    for vector in range(50):
        for output in range(40):
            z = plain_draw(99, 7 + vector, False, 0, output)[0]
            assert abs(float(draws[vector, output]) - z) < 1e-5


def test_without_adc_the_noise_has_the_variance_of_all_cycles() -> None:
    """Cycle b of weight 2^b adds read_noise^2 * sum_i g_i^2 for the active inputs i, in both polarities."""
    noise, reads = 0.05, 4000
    layer = random_layer(density=1.0)
    hardware = programmed(map_of(layer, card=card_with(read_noise=noise)), adc=False)
    x = inputs_for(layer, batch=1)
    results = hardware.read("fc", x.expand(reads, -1)).double()
    planes = bit_planes(dac_codes(x[0], layer.input_scale, 8), 8).double()
    weight = sum(4.0**bit * planes[bit] for bit in range(8))
    count = layer.weight_per_siemens * 40e-6 / 15 * layer.input_scale / 255
    expected = (weight @ (noise * plain_matrix(layer).double()) ** 2).sqrt() * count
    assert torch.allclose(results.std(0), expected, rtol=5 / math.sqrt(2 * reads))


def test_without_adc_inputs_of_many_bits_need_no_converter() -> None:
    layer = random_layer(density=1.0)
    conductance_map, x = map_of(layer, card="generic-10k"), inputs_for(layer)
    with pytest.raises(ValueError, match="at most 16 are possible"):
        programmed(conductance_map, WIRES, bits_per_cycle=8)
    at_once, bit_by_bit = (
        programmed(conductance_map, WIRES, bits_per_cycle=bits, adc=False).read("fc", x) for bits in (8, 1)
    )
    torch.testing.assert_close(at_once, bit_by_bit)


def test_the_mean_of_many_noisy_conversions_is_the_current() -> None:
    """Noise of more than an LSB dithers the ADC, whose mean error then vanishes."""
    reads = 3000
    layer = random_layer(density=1.0, spare_bits=1)
    lifted = replace(layer, codes=torch.where(layer.codes > 0, layer.codes, 15))  # far from the clip at zero
    card = card_with(read_noise=0.2, programming_error=1e-6)
    x = torch.full((1, 20), layer.input_scale)
    noisy = programmed(map_of(lifted, card=card), WIRES).read("fc", x.expand(reads, -1)).double()
    quiet = programmed(
        map_of(lifted, card=card_with(read_noise=0.0, programming_error=1e-6)), WIRES, adc=False
    )
    error = (noisy.mean(0) - quiet.read("fc", x)[0]) / (noisy.std(0) / math.sqrt(reads))
    assert error.abs().max() < 4.5


# What the report and the user see


def test_code_counts_are_those_of_all_conversions() -> None:
    layer = random_layer(matrix_shape=(7, 7), density=1.0)  # one tile
    hardware = programmed(map_of(layer))
    x = inputs_for(layer, batch=3)
    counts = hardware.count_codes("fc", x).sum(0)
    planes = bit_planes(dac_codes(x, layer.input_scale, 8), 8).long()
    matrix = plain_matrix(layer)
    currents = torch.cat([(planes @ m.clamp(min=0)).flatten() for m in (matrix, -matrix)])
    assert torch.equal(counts, torch.bincount(currents, minlength=len(counts)))
    assert len(counts) == 2 ** int(layer.adc_bits.max())


@pytest.mark.parametrize("hardware", [IdealHardware(), FastHardware(NO_WIRES, seed=0)])
def test_wrong_use_says_what_is_wrong(hardware: Hardware) -> None:
    with pytest.raises(RuntimeError, match="call program first"):
        hardware.read("fc", torch.zeros(1, 20))
    hardware.program(map_of(random_layer()))
    with pytest.raises(KeyError, match="no layer 'conv' is programmed; there are fc"):
        hardware.read("conv", torch.zeros(1, 20))
    with pytest.raises(ValueError, match=r"layer fc: inputs are \[1, 21\], must be \[batch, 20\]"):
        hardware.read("fc", torch.zeros(1, 21))
    with pytest.raises(ValueError, match="layer fc: inputs hold values that are not finite"):
        hardware.read("fc", torch.full((1, 20), float("nan")))


def test_converters_that_do_not_fit_the_accumulator_are_refused() -> None:
    layer = random_layer()
    wide = replace(layer, adc_bits=torch.full_like(layer.adc_bits, 15))
    with pytest.raises(ValueError, match="layer fc: DAC and ADC have 31 bits together"):
        FastHardware(NO_WIRES, Readout(dac_bits=16), seed=0).program(map_of(wide))


def test_a_layer_without_weights_reads_zero() -> None:
    layer = random_layer(density=0.0)
    none = {name: getattr(layer, name)[:0] for name in ("codes", "row_index", "col_index", "adc_bits")}
    empty = replace(layer, **none)
    for card in ("ideal", "rram-neurram"):
        hardware = programmed(map_of(layer, card=card), WIRES)
        assert (hardware.read("fc", inputs_for(layer)) == 0).all()
        hardware.program(replace(map_of(layer, card=card), layers={"fc": empty}))
        assert (hardware.read("fc", inputs_for(layer)) == 0).all()


def test_no_inputs_give_no_outputs() -> None:
    assert programmed(map_of(random_layer())).read("fc", torch.zeros(0, 20)).shape == (0, 12)


def test_identity_tells_what_is_read() -> None:
    hardware = FastHardware(WIRES, Readout(dac_bits=6), seed=5, instance=2)
    hardware.program(map_of(random_layer(), card="rram-neurram"))
    assert hardware.identity == {
        "backend": "fast",
        "simulated": True,
        "card": "rram-neurram",
        "seed": 5,
        "instance": 2,
        "copies": 1,
        "dac_bits": 6,
        "adc": "uniform",
        "word_line_ohm": 2.0,
        "bit_line_ohm": 3.0,
        "driver_ohm": 50.0,
        "sense_ohm": 80.0,
    }
    assert IdealHardware().identity["simulated"] is True


def test_per_segment_wires_are_told_from_one_figure() -> None:
    wires = Wires(torch.full((8, 8), 2.0), torch.tensor(3.0))
    identity = FastHardware(wires, seed=0).identity
    assert (identity["word_line_ohm"], identity["bit_line_ohm"]) == ("per segment", 3.0)
