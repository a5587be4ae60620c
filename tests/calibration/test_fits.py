"""Fits find what measurements were drawn from, say how well they know it, and what they cannot know."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration import Measurement, calibrate, card_text, verdict
from calibration.drift import fit_drift
from calibration.iv import fit_iv
from calibration.likelihood import Parameter, log_normal_density, maximize
from calibration.programming import fit_programming_error, fit_stuck
from calibration.pulses import fit_pulses
from calibration.read_noise import fit_reads
from calibration.result import Fit
from calibration.robust import stuck_devices
from calibration.synthetic import MAKERS
from calibration.telegraph import _pool
from calibration.trains import PLAIN, Train, fit_trains
from calibration.variation import fit_variation, without_devices
from calibration.write_verify import fit_write_verify
from device_models.card import DeviceCard
from device_models.effects import PulseTable

FITS = {
    "programming error": lambda t: [fit_programming_error(t, degree=2, held_out=False)],
    "stuck cells": lambda t: [fit_stuck(t)],
    "variation": lambda t: [fit_variation(t)],
    "variation over wafers": lambda t: [fit_variation(t)],
    "read noise": fit_reads,
    "telegraph noise": fit_reads,
    "drift": fit_drift,
    "retention": fit_drift,
    "write-verify": lambda t: [fit_write_verify(t)],
    "I-V": lambda t: [fit_iv(t)],
    "pulse response": lambda t: [fit_pulses(t)],
}


@pytest.mark.parametrize("effect", [e for e in MAKERS if e != "pulse response"])
@pytest.mark.parametrize("dirty", [False, True], ids=["clean", "dirty"])
def test_the_truth_lies_near_the_interval(effect: str, dirty: bool) -> None:
    table, truth = MAKERS[effect](7, dirty)
    found = {p.name: p for fit in FITS[effect](table) for p in fit.parameters}
    for name, value in truth.items():
        fitted = found[name]
        half = (fitted.high - fitted.low) / 2
        assert fitted.low - half <= value <= fitted.high + half, name  # four standard errors
        assert fitted.low <= fitted.value <= fitted.high


def test_intervals_shrink_with_more_data() -> None:
    table, _ = MAKERS["programming error"](1, False)
    few = {n: c[:600] for n, c in table.columns.items()}
    small = fit_programming_error(Measurement("levels", few, 298.0, "few"), degree=0, held_out=False)
    large = fit_programming_error(table, degree=0, held_out=False)
    widths = [f.parameters[0].high / f.parameters[0].low - 1 for f in (small, large)]
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(5), rel=0.25)


def test_held_out_likelihood_finds_that_the_spread_depends_on_the_target() -> None:
    table, _ = MAKERS["programming error"](3, False)
    fit = fit_programming_error(table)
    chosen = next(iter(fit.likelihood))
    assert chosen == "quadratic spread"
    assert fit.likelihood[chosen] > fit.likelihood["constant spread"]
    assert verdict(fit) == "fits"


def test_stuck_devices_are_found_and_counted_not_averaged_in() -> None:
    rng = np.random.default_rng(1)
    target = np.tile(np.array([1e-5, 2e-5, 3e-5, 4e-5]), (400, 1))
    g = target + 5e-7 * rng.standard_normal(target.shape)
    g[:12] = 1e-7
    g[12:16] = 6e-5
    g[50, 2] = 9e-5
    device = np.repeat(np.arange(400.0), 4)
    columns = {"target": target.ravel(), "conductance": g.ravel(), "device": device}
    table = Measurement("levels", columns, 298.0, "test")
    states, told = stuck_devices(table)
    assert told.all()
    assert np.flatnonzero(states == -1).tolist() == list(range(12))
    assert np.flatnonzero(states == 1).tolist() == list(range(12, 16))
    fit = fit_programming_error(table, degree=0, held_out=False)
    assert fit.parameters[0].value == pytest.approx(5e-7, rel=0.06)
    assert fit.rejected == 65  # 16 stuck devices, and one reading
    counted = fit_stuck(table)
    assert [p.value for p in counted.parameters] == pytest.approx([0.03, 0.01])


def test_variation_is_not_counted_twice() -> None:
    table, truth = MAKERS["variation"](2, False)
    result = calibrate([table], "x")
    card = result.card
    assert card.variation.between_cycles.value == 0
    relative = card.programming_error.sigma(card.g_max.value) / card.g_max.value
    assert relative == pytest.approx(truth["between_cycles"], rel=0.06)
    assert without_devices(table)["conductance"].std() < 0.5 * table["conductance"].std()


def test_levels_at_several_times_become_later_spreads() -> None:
    rng = np.random.default_rng(8)
    target = np.tile(np.array([1e-5, 2e-5, 4e-5]), 200)
    columns = {"target": np.tile(target, 2), "elapsed": np.repeat([1.0, 86400.0], 600)}
    sigma = np.where(columns["elapsed"] == 1, 5e-7, 1.5e-6)
    columns["conductance"] = columns["target"] + sigma * rng.standard_normal(1200)
    error = calibrate([Measurement("levels", columns, 298.0, "test")], "x").card.programming_error
    assert error.at(2e-5, 1.0)[1] == pytest.approx(5e-7, rel=0.1)
    assert error.at(2e-5, 86400.0)[1] == pytest.approx(1.5e-6, rel=0.1)


def test_levels_at_other_targets_are_no_repetition() -> None:
    assert fit_variation(MAKERS["programming error"](1, False)[0]) is None


def test_intervals_of_wafers_hold_the_truth() -> None:
    held = []
    for seed in range(20, 32):
        table, truth = MAKERS["variation over wafers"](seed, False)
        found = {p.name: p for p in fit_variation(table).parameters}
        assert found.keys() == truth.keys()
        held.append([found[name].low <= value <= found[name].high for name, value in truth.items()])
    assert (np.sum(held, axis=0) >= 9).all()
    assert np.mean(held) >= 0.88


def test_wafers_of_a_table_come_into_the_card() -> None:
    table, _ = MAKERS["variation over wafers"](1, False)
    variation = calibrate([table], "x").card.variation
    assert variation.between_wafers.value == pytest.approx(0.06, rel=0.6)
    assert variation.between_wafers.standard_error > 0


def chosen(table: Measurement, rows: np.ndarray, *, without: tuple[str, ...] = ()) -> Measurement:
    columns = {n: c[rows] for n, c in table.columns.items() if n not in without}
    return Measurement("levels", columns, 298.0, "test")


def test_without_wafers_nothing_is_said_of_them() -> None:
    table, _ = MAKERS["variation"](1, False)
    plain = fit_variation(table)
    one_wafer = Measurement("levels", {**table.columns, "wafer": np.ones(len(table))}, 298.0, "synthetic")
    known = fit_variation(one_wafer)
    assert plain.effect.between_wafers is None
    assert plain.notes == ()
    assert known.parameters == plain.parameters
    assert known.notes == ("variation between wafers: measure five wafers or more, in a column 'wafer'",)


def test_arrays_of_different_wafers_may_have_the_same_numbers() -> None:
    table, _ = MAKERS["variation over wafers"](1, False)
    numbered = Measurement(
        "levels", {**table.columns, "array": table["array"] + 6 * table["wafer"]}, 298.0, "t"
    )
    assert fit_variation(numbered).parameters == fit_variation(table).parameters


def test_few_wafers_leave_arrays_within_them() -> None:
    table, _ = MAKERS["variation over wafers"](1, False)
    fit = fit_variation(chosen(table, table["wafer"] < 3))
    arrays = next(p for p in fit.parameters if p.name == "between_arrays")
    assert arrays.low < 0.04 < arrays.high
    assert fit.effect.between_wafers is None
    assert "five wafers or more" in fit.notes[0]


def test_one_array_of_each_wafer_does_not_tell_them_apart() -> None:
    table, _ = MAKERS["variation over wafers"](1, False)
    first = table["array"] == 0
    fit = fit_variation(chosen(table, first))
    alone = fit_variation(chosen(table, first, without=("array",)))
    assert "measure two arrays or more of each wafer" in fit.notes[0]
    assert fit.effect.between_wafers is None
    assert fit.parameters == alone.parameters
    arrays = next(p for p in fit.parameters if p.name == "between_arrays")
    assert arrays.low < np.hypot(0.06, 0.04) < arrays.high


def test_telegraph_noise_is_not_taken_for_flicker_noise() -> None:
    fits = {fit.section: fit for fit in fit_reads(MAKERS["telegraph noise"](1, False)[0])}
    assert set(fits) == {"read_noise", "telegraph_noise"}
    assert fits["read_noise"].effect.value == pytest.approx(0.01, rel=0.03)


def test_only_traces_that_differ_widen_an_interval() -> None:
    covariance = np.diag([1e-4, 1e-4, 1e-4, 1e-4])

    def pooled(offsets: list[float]) -> float:
        values = [np.array([0.05 * np.exp(0.01 * z), 0.01, 0.03, 0.08]) for z in offsets]
        amplitude = _pool(values, [covariance] * len(values), 1e-3)[0]
        return float(np.log(amplitude.high / amplitude.low)) / 3.92 * np.sqrt(len(values)) / 0.01

    assert pooled([1.4, -1.4, 0.0, 1.4, -1.4]) == pytest.approx(1)  # scatter 7.8, of 9.5 allowed
    assert pooled([4.0, -4.0, 0.0, 4.0, -4.0]) == pytest.approx(4)


def test_white_noise_alone_is_said_to_be_alone() -> None:
    rng = np.random.default_rng(2)
    columns = {"time": np.arange(4000.0), "conductance": 1e-5 * (1 + 0.01 * rng.standard_normal(4000))}
    (fit,) = fit_reads(Measurement("read-noise", columns, 298.0, "test"))
    assert fit.section == "read_noise"
    assert "none seen" in fit.notes[0]
    assert verdict(fit) == "fits"


def test_straight_curves_do_not_determine_alpha() -> None:
    rng = np.random.default_rng(3)
    v = np.tile(np.linspace(0.01, 0.1, 15), 10)
    i = 2e-5 * v * np.exp(0.05 * rng.standard_normal(150))
    columns = {"voltage": v, "current": i, "device": np.repeat(np.arange(10.0), 15)}
    fit = fit_iv(Measurement("iv", columns, 298.0, "test"))
    assert any("straight within the noise" in note for note in fit.notes)


def test_pulses_without_a_formula_become_a_table() -> None:
    rng = np.random.default_rng(4)
    g = rng.uniform(1e-5, 1e-4, 2400)
    up = (np.arange(2400) % 2).astype(float)
    change = np.where(up == 1, 1, -1) * 5e-6 * np.exp(-g / 3e-5) * rng.exponential(
        1, 2400
    ) + 1e-7 * rng.normal(size=2400)
    fit = fit_pulses(Measurement("pulses", {"up": up, "before": g, "after": g + change}, 298.0, "test"))
    assert isinstance(fit.effect, PulseTable)
    assert next(iter(fit.likelihood)) == "quantiles"
    assert verdict(fit) == "fits"
    at = np.full(1, 3e-5)
    median = np.median(5e-6 * np.exp(-1) * rng.exponential(1, 100_000))
    assert fit.effect.change(at, True, np.array([0.5]))[0] == pytest.approx(median, rel=0.15)


def test_a_train_is_predicted_through_its_write_noise() -> None:
    rng = np.random.default_rng(5)
    g, states = 0.0, []
    for _ in range(1500):
        g += 0.004 * (1 - g) * (1 + 0.5 * rng.standard_normal())
        states.append(g + 0.1 * rng.standard_normal())
    train = Train(np.ones(1500, bool), np.array(states))
    fit = fit_trains([train], PLAIN)
    assert fit.value["write_noise"] == pytest.approx(0.1, rel=0.08)
    mean, sigma = fit.predict(train)
    z = ((train.state - mean) / sigma)[1:]
    assert z.std() == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(z[1:], z[:-1])[0, 1]) < 0.08


def test_a_model_that_does_not_fit_is_told() -> None:
    table, _ = MAKERS["programming error"](1, False)
    fit = fit_programming_error(table, degree=2)
    off = Fit("x", fit.effect, (), "test", 1000, scores=2.0 * fit.scores)
    assert verdict(fit) == "fits"
    assert verdict(off) == "does not fit"


def test_the_card_says_what_was_fitted_and_what_was_not() -> None:
    tables = [MAKERS[n](1, True)[0] for n in ("programming error", "drift", "I-V")]
    result = calibrate(tables, "mine", read_voltage=0.1)
    card = result.card
    assert card.read_voltage.value == 0.1
    assert card.g_max.value == pytest.approx(40e-6)
    assert card.programming_error.coefficients.covariance is not None
    assert card.iv is not None
    assert set(result.missing) == {"variation", "read_noise", "retention", "pulse"}
    assert card.drawn(1, 0) != card.drawn(1, 1)
    assert "covariance" in card_text(card)
    import tomllib

    assert DeviceCard.model_validate(tomllib.loads(card_text(card))) == card


def test_maximum_likelihood_has_the_error_that_theory_gives() -> None:
    y = torch.from_numpy(np.random.default_rng(6).normal(3.0, 2.0, 5000))
    names = [Parameter("mean", 0.0, positive=False), Parameter("sigma", 1.0)]
    found = maximize(lambda p: log_normal_density(y - p[0], p[1]), names)
    assert found["mean"] == pytest.approx(float(y.mean()), abs=1e-4)
    assert found.error("mean") == pytest.approx(2 / np.sqrt(5000), rel=0.05)
    assert found.error("sigma") == pytest.approx(2 / np.sqrt(10000), rel=0.05)
    assert found.unidentified == ()
    twice = [*names, Parameter("twin", 0.0, positive=False)]
    lost = maximize(lambda p: log_normal_density(y - p[0] - p[2], p[1]), twice)
    assert set(lost.unidentified) == {"mean", "twin"}
