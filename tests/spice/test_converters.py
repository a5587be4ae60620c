"""Converters as circuits decide as their behavioural models do, and take the energy that theory says."""

import numpy as np
import pytest
import torch

from device_models.converters import (
    Ramp,
    code_density,
    draw_capacitors,
    flash,
    linearity,
    sar,
    sar_convert,
    sine_fit,
)
from spice_netlists import (
    Amplifier,
    BitLine,
    Conversions,
    FlashCircuit,
    Job,
    SarCircuit,
    Timing,
    convert,
    run_jobs,
)

needs_ngspice = pytest.mark.ngspice
ERRORS = {"unit_capacitor_mismatch": 0.05, "comparator_offset": 0.7}


def drawn_sar(bits, full_scale=1.0):
    array = draw_capacitors(bits, 1, 5, "adc", **ERRORS)
    circuit = SarCircuit.of(array.capacitors[0].numpy(), array.offset[0].item(), full_scale)
    return circuit, sar(bits, 1, 5, "adc", **ERRORS), array


def drawn_flash(bits):
    transfer = flash(bits, 1, 5, "adc", threshold_offset=0.4)
    return FlashCircuit.of(transfer.thresholds[0].numpy()), transfer


def codes_of(transfer, inputs):
    return transfer.convert(torch.from_numpy(inputs)[:, None])[:, 0].numpy()


def run(cases):
    """Convert many cases on one pool; a case is the fields of Conversions after its title."""
    whole = {str(k): Conversions(str(k), *case) for k, case in enumerate(cases)}
    results = {}
    for result in run_jobs([Job(label, each) for label, each in whole.items()], workers=2):
        assert not result.error, result.error
        results[result.job.label] = whole[result.job.label].converted(result.values)
    return [results[label] for label in whole]


def beside_thresholds(thresholds, distance, most, seed=0):
    """Inputs on both sides of some thresholds, in random order."""
    rng = np.random.default_rng(seed)
    some = rng.choice(thresholds, min(most, len(thresholds)), replace=False)
    return rng.permutation(np.concatenate([some - distance, some + distance]))


@needs_ngspice
def test_thresholds_of_sar_and_flash_are_those_of_the_models_from_1_to_10_bits():
    """Within 0.01 LSB for SAR, whose circuit settles, and 0.001 LSB for flash, where nothing settles."""
    adcs = [(*drawn_sar(bits)[:2], 0.01) for bits in (1, 2, 3, 4, 5, 6, 8, 10)]
    adcs += [(*drawn_flash(bits), 0.001) for bits in (1, 2, 3, 4, 6, 8, 10)]
    cases = [
        (circuit, beside_thresholds(transfer.thresholds[0].numpy(), distance, 16), Timing())
        for circuit, transfer, distance in adcs
    ]
    for (circuit, transfer, _), case, found in zip(adcs, cases, run(cases), strict=True):
        assert np.array_equal(found.codes, codes_of(transfer, case[1])), circuit


@needs_ngspice
def test_no_decision_is_lost_when_the_comparators_input_jumps():
    """Inputs whose level lies just below that of one bit and far below the next, for a set of capacitors."""
    figures = {"unit_capacitor_mismatch": 0.02, "comparator_offset": 0.5}
    names = ("adc", 0, "conv2", 0)
    array, transfer = draw_capacitors(10, 1, 1, *names, **figures), sar(10, 1, 1, *names, **figures)
    circuit = SarCircuit.of(array.capacitors[0].numpy(), array.offset[0].item())
    inputs = np.concatenate([transfer.thresholds[0].numpy()[k : k + 17] - 0.05 for k in (32, 96, 480)])
    (found,) = run([(circuit, inputs, Timing())])
    assert np.array_equal(found.codes, codes_of(transfer, inputs))


@needs_ngspice
def test_inputs_beyond_the_range_saturate():
    inputs = np.array([-30.0, -2.0, 31.0, 16.0, 90.0, 5.0])
    for found in run([(drawn_sar(4)[0], inputs, Timing()), (drawn_flash(4)[0], inputs, Timing())]):
        assert found.codes.tolist()[:5] == [0, 0, 15, 15, 15]


@needs_ngspice
def test_noise_that_is_drawn_acts_where_the_models_say():
    """The comparator of a SAR at each decision, the input of a flash once: the same draws, the same codes."""
    rng, reads, noise = np.random.default_rng(1), 60, 0.6
    inputs = rng.uniform(-1, 32, reads)
    successive, _, array = drawn_sar(5)
    parallel, transfer = drawn_flash(5)
    per_bit, per_read = rng.standard_normal((5, reads)), rng.standard_normal(reads)
    timing = Timing()
    cases = [(successive, inputs, timing, noise * per_bit), (parallel, inputs, timing, noise * per_read)]
    cases += [(successive, inputs, timing)]
    noisy, counted, quiet = run(cases)
    x = torch.from_numpy(inputs)[:, None]
    expected = sar_convert(x, array, noise, torch.from_numpy(per_bit)[..., None])[:, 0].numpy()
    assert np.array_equal(noisy.codes, expected)
    assert not np.array_equal(noisy.codes, quiet.codes)
    assert np.array_equal(counted.codes, codes_of(transfer, inputs + noise * per_read))


@needs_ngspice
def test_an_amplifier_of_little_gain_takes_as_much_as_its_feedback_theory_says():
    """V = -I R A / (1 + A), into an input of R / (1 + A) beside the resistance of the array."""
    adc, transfer, _ = drawn_sar(6)
    fronts = [BitLine(Amplifier(gain, 5e9), 0.5e-6, 5e3) for gain in (30.0, 1e3, 1e5)]
    assert fronts[0].gain(adc.lsb) < 0.85
    near = beside_thresholds(transfer.thresholds[0].numpy(), 0.05, 12)
    cases = [(adc, near / front.gain(adc.lsb), Timing(), None, front) for front in fronts]
    for found in run(cases):
        assert np.array_equal(found.codes, codes_of(transfer, near))


@needs_ngspice
def test_a_read_before_the_amplifier_has_settled_is_wrong():
    adc, transfer, _ = drawn_sar(6)
    inputs = np.tile([4.0, 50.0], 6)
    front = BitLine(Amplifier(1e5, 30e6), 0.5e-6, 1e5)
    early, late = run([(adc, inputs, Timing(settle=settle), None, front) for settle in (1, 20)])
    assert np.array_equal(late.codes, codes_of(transfer, inputs))
    assert np.abs(early.codes - late.codes).max() > 1


@needs_ngspice
def test_the_standard_tests_find_in_transients_what_they_find_in_the_model():
    """Code density of a ramp and a sine fit (IEEE 1241) of codes that ngspice gave."""
    adc, transfer, _ = drawn_sar(4)
    ramp = -3 + 20 * (np.arange(160) + 0.5) / 160
    sine = 8 + 7 * np.sin(2 * np.pi * 7 * np.arange(64) / 64 + 0.3)
    codes, tones = (found.codes for found in run([(adc, ramp, Timing()), (adc, sine, Timing())]))
    found = code_density(torch.from_numpy(codes)[:, None], 4, Ramp(-3.0, 17.0))
    true = linearity(transfer)
    assert (found.dnl - true.dnl).abs().max() < 0.26  # a step of the ramp is an eighth of an LSB
    assert (found.inl - true.inl).abs().max() < 0.26
    by_model = sine_fit(torch.from_numpy(codes_of(transfer, sine))[:, None], 7 / 64)
    by_circuit = sine_fit(torch.from_numpy(tones)[:, None], 7 / 64)
    assert by_circuit.enob(4).item() == by_model.enob(4).item()
    assert 2 < by_circuit.enob(4).item() < 4


def switching_energy(capacitors, code, at_once, last_drop=True):
    """Charge that the reference gives to capacitors that are tried and dropped, by bookkeeping, in C V^2.

    A bit is tried ``at_once`` with the drop of the one above it, or well before or after; the last bit may be
    dropped, too.
    """
    total, on, energy, dropped = sum(capacitors), set(), 0.0, None
    for place, farad in enumerate(capacitors[:-1]):
        fall = 0.0 if dropped is None else capacitors[dropped] / total
        on.discard(dropped)
        energy += sum(capacitors[j] for j in on) * (fall - farad / total) + farad * (1 - farad / total)
        if at_once:  # what the fall of the top plate costs the capacitor that is tried
            energy += farad * fall
        on.add(place)
        kept = code >> (len(capacitors) - 2 - place) & 1
        dropped = None if kept else place
    if dropped is not None and last_drop:
        energy += sum(capacitors[j] for j in on - {dropped}) * capacitors[dropped] / total
    return energy


def test_bookkeeping_of_switched_charge_gives_the_published_average():
    """``sum_i 2^(n - 2i) (2^i - 1) C V^2`` over all codes, half of a differential array's (Liu et al., IEEE
    J. Solid-State Circuits 45, 2010).
    """
    for bits in (3, 5, 8):
        units = [2.0**k for k in reversed(range(bits))] + [1.0]
        mean = np.mean([switching_energy(units, code, True, last_drop=False) for code in range(2**bits)])
        theory = sum(2.0 ** (bits - 2 * i) * (2**i - 1) for i in range(1, bits + 1))
        assert mean == pytest.approx(theory, rel=1e-12)


@needs_ngspice
def test_energy_is_that_of_switched_capacitors_and_of_a_ladder():
    """The circuit tries a bit a moment before it drops the one above, so it lies between the two ways."""
    volts, units, timing = 0.8, [16.0, 8.0, 4.0, 2.0, 1.0, 1.0], Timing()
    codes = np.random.default_rng(0).permutation(32)
    ladder = FlashCircuit.of(np.arange(31) + 0.5, full_scale=volts)
    switched, static = run(
        [(SarCircuit.of(units, full_scale=volts), codes * 1.0, timing), (ladder, codes * 1.0, timing)]
    )
    assert np.array_equal(switched.codes, codes)
    unit = 1e-15 * volts**2
    for code, energy in zip(codes.tolist(), switched.energy, strict=True):
        least, most = (switching_energy(units, code, at_once) * unit for at_once in (False, True))
        assert 0.999 * least <= energy <= 1.001 * most, code
    kept = switched.energy[codes == 31].item()
    assert kept == pytest.approx(switching_energy(units, 31, at_once=True) * unit, rel=1e-4, abs=0)
    power = volts**2 / 10e3
    assert static.energy == pytest.approx(np.full(32, power * 2 * timing.period), rel=1e-6, abs=0)


@needs_ngspice
def test_conversions_do_not_depend_on_how_they_are_shared_out(monkeypatch):
    adc, _, _ = drawn_sar(3)
    inputs = np.random.default_rng(2).uniform(0, 8, 25)
    noise = 0.3 * np.random.default_rng(3).standard_normal((3, 25))
    whole = convert(adc, inputs, noise=noise, workers=1)
    monkeypatch.setattr("spice_netlists.conversion.READS_PER_JOB", 10)
    parts = convert(adc, inputs, noise=noise, workers=2)
    assert np.array_equal(whole.codes, parts.codes)
    assert whole.energy == pytest.approx(parts.energy, rel=1e-3, abs=0)


def test_names_cannot_inject_lines():
    adc = drawn_sar(3)[0]
    title = "x\n.control\nshell touch pwned\n.endc"
    lines = Conversions(title, adc, np.ones(2), Timing(), None, BitLine(Amplifier(), 1e-6)).netlist().lower()
    assert "\n.control" not in lines
    assert "\nshell" not in lines


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SarCircuit.of([1.0]), "bits 1 to 10"),
        (lambda: SarCircuit.of(np.ones(12)), "bits 1 to 10"),
        (lambda: SarCircuit.of([1.0, -1.0]), "positive"),
        (lambda: SarCircuit.of([1.0, 1.0], offset=np.nan), "offset"),
        (lambda: FlashCircuit.of([0.5, 1.5]), "bits 1 to 10"),
        (lambda: FlashCircuit.of([np.inf]), "finite"),
        (lambda: Amplifier(gain=np.inf), "gain"),
        (lambda: Timing(period=1e-9), "edge"),
        (lambda: Timing(settle=0), "settle"),
        (lambda: convert(SarCircuit.of([1.0, 1.0]), [[1.0]]), "inputs"),
        (lambda: convert(SarCircuit.of([1.0, 1.0]), [1.0], noise=[1.0]), "noise needs shape"),
    ],
)
def test_converters_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
