"""Random effects: mean, spread, correlation and independence, and the same draws however they are cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from device_models import DeviceCard, load_card, stream
from device_models.effects import (
    FlickerNoise,
    ProgrammingError,
    PulseTable,
    RangeError,
    Retention,
    SoftBounds,
    Stuck,
    TelegraphNoise,
    Variation,
    WriteVerify,
)
from device_models.figures import Figure, FigureList
from device_models.memristor import program, read_noise_variance


def figure(value: float, unit: str = "1", error: float | None = None) -> dict[str, object]:
    return {"value": value, "unit": unit, "source": "test", "standard_error": error}


def figures(value: list[float], unit: str = "1") -> dict[str, object]:
    return {"value": value, "unit": unit, "source": "test"}


def variation(
    form: str = "log-normal", arrays: float = 0.1, devices: float = 0.2, cycles: float = 0.05, length=0
):
    return Variation.model_validate(
        {
            "form": form,
            "between_arrays": figure(arrays),
            "between_devices": figure(devices),
            "between_cycles": figure(cycles),
            "correlation_length": figure(length),
        }
    )


def rng(name: str = "a") -> np.random.Generator:
    return stream(1, "tests", name)


# Variation


@pytest.mark.parametrize("form", ["log-normal", "normal"])
def test_each_level_of_variation_has_its_own_spread(form: str) -> None:
    effect, shape = variation(form), (400, 30, 30)
    drawn = effect.factors(shape, rng(), rng("b"), rng("w"))
    total = np.log(drawn) if form == "log-normal" else drawn - 1
    again = effect.factors(shape, rng(), rng("c"), rng("w"))
    cycle = (np.log(again) if form == "log-normal" else again - 1) - total
    arrays = total.mean((1, 2))
    assert arrays.std() == pytest.approx(0.1, rel=4 / np.sqrt(2 * 400))
    assert (total - arrays[:, None, None]).std() == pytest.approx(np.hypot(0.2, 0.05), rel=0.01)
    assert cycle.std() == pytest.approx(np.sqrt(2) * 0.05, rel=0.01)
    assert abs(total.mean()) < 4 * 0.1 / np.sqrt(400)


def test_neighbours_are_correlated_by_their_distance_and_others_are_not() -> None:
    effect = variation(arrays=0, cycles=0, length=4)
    drawn = np.log(effect.factors((300, 40, 40), rng(), rng("b"), rng("w")))
    assert drawn.std() == pytest.approx(0.2, rel=0.02)
    for rows, cols in ((1, 0), (0, 1), (2, 3), (6, 0)):
        one, other = drawn[:, : 40 - rows, : 40 - cols], drawn[:, rows:, cols:]
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert correlation == pytest.approx(np.exp(-(rows + cols) / 4), abs=0.02)
    assert abs(np.corrcoef(drawn[0].ravel(), drawn[1].ravel())[0, 1]) < 0.2


def on_wafers(form: str = "log-normal", wafers: float | None = 0.1, error: float | None = None) -> DeviceCard:
    """A card of one percent of variation below the wafer."""
    spread = variation(form, 0.01, 0.01, 0.01).model_dump()
    if wafers is not None:
        spread["between_wafers"] = figure(wafers, error=error)
    return DeviceCard.model_validate(load_card("ideal").model_dump() | {"version": 2, "variation": spread})


def test_all_arrays_of_an_instance_are_on_one_wafer() -> None:
    target = torch.full((3, 8, 8), 20e-6, dtype=torch.float64)
    for instance in (0, 1):
        shares = [
            program(target, on_wafers(), 1, instance, layer)
            / program(target, on_wafers(wafers=None), 1, instance, layer)
            for layer in ("fc1", "fc2")
        ]
        factor = float(shares[0][0, 0, 0])
        assert factor != 1
        assert all(torch.allclose(share, torch.full_like(share, factor), rtol=1e-12) for share in shares)
    wafers = [float(program(target, on_wafers(), 1, k, "fc1").mean()) for k in (0, 1, 1)]
    assert wafers[1] == wafers[2] != wafers[0]


@pytest.mark.parametrize("form", ["log-normal", "normal"])
def test_wafers_have_their_own_spread(form: str) -> None:
    target = torch.full((1, 1, 1), 20e-6, dtype=torch.float64)
    plain, card = on_wafers(form, 0.0), on_wafers(form)
    drawn = np.array([[float(program(target, c, 1, k, "fc")) for c in (plain, card)] for k in range(1500)])
    wafers = (
        np.log(drawn[:, 1] / drawn[:, 0]) if form == "log-normal" else (drawn[:, 1] - drawn[:, 0]) / 20e-6
    )
    assert wafers.std() == pytest.approx(0.1, rel=4 / np.sqrt(2 * 1500))
    assert abs(wafers.mean()) < 4 * 0.1 / np.sqrt(1500)
    assert abs(np.corrcoef(wafers, drawn[:, 0])[0, 1]) < 4 / np.sqrt(1500)


def test_a_card_without_wafers_draws_as_one_where_they_are_alike() -> None:
    target = torch.full((2, 8, 8), 20e-6, dtype=torch.float64)
    without, alike = on_wafers(wafers=None), on_wafers(wafers=0.0)
    assert torch.equal(program(target, without, 1, 0, "fc"), program(target, alike, 1, 0, "fc"))
    one, other = (on_wafers(error=0.05).drawn(1, k).variation.between_wafers.value for k in (0, 1))
    assert one != other


def test_a_spread_between_wafers_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="between_wafers must lie between 0 and 3"):
        on_wafers(wafers=3.5)


# Write-verify, stuck cells


def write_verify(tolerance: float = 1e-6, sigma: float = 2e-6, most: int = 4) -> WriteVerify:
    return WriteVerify.model_validate(
        {
            "tolerance": figure(tolerance, "S"),
            "pulse_sigma": figure(sigma, "S"),
            "max_pulses": figure(most),
        }
    )


def test_write_verify_is_what_pulse_by_pulse_gives() -> None:
    effect, n = write_verify(), 200_000
    drawn = effect.write(np.full(n, 50e-6), rng())
    error, pulses = np.full(n, np.inf), np.zeros(n, dtype=int)
    steps = rng("slow")
    for _ in range(4):
        open_cells = np.abs(error) > 1e-6
        error = np.where(open_cells, 2e-6 * steps.standard_normal(n), error)
        pulses += open_cells
    failed = np.abs(error) > 1e-6
    assert drawn.failed.mean() == pytest.approx(failed.mean(), abs=5 * np.sqrt(0.15 / n) * 1.5)
    assert np.bincount(drawn.pulses) / n == pytest.approx(np.bincount(pulses) / n, abs=0.006)
    for mine, slow in ((drawn.failed, failed), (~drawn.failed, ~failed)):
        left = (drawn.conductance - 50e-6)[mine]
        assert left.std() == pytest.approx(error[slow].std(), rel=0.02)
        assert abs(left.mean()) < 5 * left.std() / np.sqrt(mine.sum())
    assert (np.abs(drawn.conductance - 50e-6)[~drawn.failed] <= 1e-6 * (1 + 1e-9)).all()


def test_absent_cells_are_not_written() -> None:
    drawn = write_verify().write(np.zeros(5), rng())
    assert not drawn.conductance.any()
    assert not drawn.pulses.any()
    assert not drawn.failed.any()


def stuck(off: float = 0.02, on: float = 0.05) -> Stuck:
    data = {"off": figure(off), "on": figure(on), "g_off": figure(1e-7, "S"), "g_on": figure(9e-5, "S")}
    return Stuck.model_validate(data)


def test_stuck_cells_come_in_their_fractions_and_hold_their_value() -> None:
    n, effect = 300_000, stuck()
    held = effect.hold(np.full(n, 5e-5), rng())
    assert (held == 1e-7).mean() == pytest.approx(0.02, abs=4 * np.sqrt(0.02 / n))
    assert (held == 9e-5).mean() == pytest.approx(0.05, abs=4 * np.sqrt(0.05 / n))
    assert effect.cell_yield == pytest.approx(0.93)
    assert not effect.hold(np.zeros(100), rng()).any()
    bad = np.flatnonzero(held != 5e-5)
    assert np.diff(bad).std() == pytest.approx(np.diff(bad).mean(), rel=0.05)  # gaps of a Poisson process


# Reads


def test_flicker_noise_has_a_spectrum_of_one_over_f() -> None:
    noise = load_card("pcm-nandakumar").flicker_noise
    power = 0
    for k in range(200):
        power = power + np.abs(np.fft.rfft(noise.trace(1024, rng(str(k))))) ** 2 * 2 / 1024 / 200
    f = np.arange(513) / 1024
    assert power[1:512] * f[1:512] / 0.0088**2 == pytest.approx(np.ones(511), abs=0.45)
    assert (power[1:512] * f[1:512]).mean() / 0.0088**2 == pytest.approx(1, abs=0.02)
    assert power[0] < 1e-20


def telegraph(fraction: float = 0.3) -> TelegraphNoise:
    data = {"fraction": figure(fraction), "amplitude": figure(0.1)}
    return TelegraphNoise.model_validate(
        data | {"time_high": figure(3e-3, "s"), "time_low": figure(1e-3, "s")}
    )


def test_telegraph_noise_dwells_as_long_as_it_says() -> None:
    low = telegraph().trace(400_000, 1e-4, rng()) < 1
    assert low.mean() == pytest.approx(0.25, abs=0.015)
    edges = np.flatnonzero(np.diff(low.astype(int)))
    dwell = np.diff(edges) * 1e-4
    first_low = bool(low[edges[0] + 1])
    lows, highs = dwell[0 if first_low else 1 :: 2], dwell[1 if first_low else 0 :: 2]
    stay = 1 - 0.75 * (1 - np.exp(-(1 / 3e-3 + 1 / 1e-3) * 1e-4))
    assert lows.mean() == pytest.approx(1e-4 / (1 - stay), rel=0.06)
    assert highs.mean() == pytest.approx(3 * lows.mean(), rel=0.08)


def test_telegraph_noise_takes_some_cells_some_of_the_time() -> None:
    g = telegraph().jumps(np.full(200_000, 1e-5), rng())
    assert (g < 1e-5).mean() == pytest.approx(0.3 * 0.25, abs=0.003)
    assert np.unique(g) == pytest.approx([0.9e-5, 1e-5])


def test_white_noise_of_the_card_is_a_variance_for_the_reader() -> None:
    noise = load_card("sonos-40nm").white_noise
    g = torch.tensor([0.0, 1e-6, 16e-6], dtype=torch.float64)
    published = 12.58037 * (1 - np.exp(-100 * np.array([0.0, 1.0, 16.0]) / 215.36557)) * 1e-8
    assert read_noise_variance(g, noise).sqrt().numpy() == pytest.approx(published, rel=1e-6)


# Time, temperature, pulses


def test_heat_speeds_up_time_by_arrhenius() -> None:
    data = {"activation_energy": figure(1.1, "eV"), "coldest": figure(300, "K"), "hottest": figure(420, "K")}
    retention = Retention.model_validate(data)
    speed = np.exp(1.1 / 8.617333262e-5 * (1 / 300 - 1 / 400))
    assert retention.equivalent_time(10.0, 400.0, 300.0) == pytest.approx(10 * speed)
    assert retention.equivalent_time(10.0, 300.0, 300.0) == 10.0
    with pytest.raises(RangeError, match="300 to 420 K, not at 500 K"):
        retention.equivalent_time(10.0, 500.0, 300.0)


def test_programming_for_a_time_needs_a_card_that_knows_of_time() -> None:
    target = torch.full((1, 20, 20), 20e-6, dtype=torch.float64)
    with pytest.raises(ValueError, match="ideal: nothing in it says how a cell moves"):
        program(target, load_card("ideal"), 1, 0, "fc", elapsed=10.0)
    card = load_card("pcm-nandakumar")
    with pytest.raises(ValueError, match="no retention section"):
        program(target, card, 1, 0, "fc", elapsed=10.0, temperature=350.0)
    early, late = (program(target, card, 1, 0, "fc", elapsed=t) for t in (0.0, 1e6))
    assert torch.equal(early, program(target, card, 1, 0, "fc"))
    assert (late < early).all()


def soft_bounds() -> SoftBounds:
    data = {"form": "soft-bounds", "step_up": figure(2e-6, "S"), "step_down": figure(3e-6, "S")}
    data |= {"g_low": figure(1e-5, "S"), "g_high": figure(1e-4, "S")}
    return SoftBounds.model_validate(data | {"between_cycles": figure(0.3), "write_noise": figure(0.0, "S")})


def test_soft_bounds_saturate_and_are_asymmetric() -> None:
    effect = soft_bounds()
    assert effect.step(np.array([1e-5, 5.5e-5, 1e-4]), up=True) == pytest.approx([2e-6, 1e-6, 0])
    assert effect.step(np.array([1e-5, 5.5e-5, 1e-4]), up=False) == pytest.approx([0, -1.5e-6, -3e-6])
    g, draws = np.full(20_000, 5.5e-5), rng()
    once = effect.pulse(g, True, draws)
    assert (once - g).mean() == pytest.approx(1e-6, rel=0.01)
    assert (once - g).std() == pytest.approx(0.3e-6, rel=0.03)
    for _ in range(600):
        g = effect.pulse(g, True, draws)
    assert g.mean() == pytest.approx(1e-4, rel=1e-3)


def test_pulses_from_a_table_have_its_quantiles() -> None:
    table = {
        "g": (1e-5, 1e-4),
        "probability": (0.1, 0.5, 0.9),
        "change": ((0.0, -1e-6), (2e-6, 0.0), (5e-6, 1e-6)),
        "source": "test",
        "unit": "S",
    }
    effect = PulseTable.model_validate(
        {"form": "table", "up": table, "down": table, "valid": figures([1e-5, 1e-4], "S")}
    )
    g = np.full(100_000, 5.5e-5)
    change = effect.pulse(g, True, rng()) - g
    assert np.quantile(change, [0.1, 0.5, 0.9]) == pytest.approx([-0.5e-6, 1e-6, 3e-6], abs=0.04e-6)
    with pytest.raises(RangeError):
        effect.pulse(np.array([2e-4]), True, rng())


# Parameters, streams, chunks


def uncertain() -> DeviceCard:
    data = load_card("rram-neurram").model_dump()
    covariance = np.diag([1e-16, 1e-14, 1e-14, 1e-14, 1e-14])
    covariance[1, 2] = covariance[2, 1] = -0.9e-14
    data["programming_error"]["coefficients"]["covariance"] = covariance.tolist()
    data["read_noise"]["standard_error"] = 0.001
    data["stuck"] = stuck().model_dump()
    return DeviceCard.model_validate(data)


def test_an_instance_draws_its_parameters_before_its_devices() -> None:
    card = uncertain()
    one, again, other = card.drawn(1, 0), card.drawn(1, 0), card.drawn(1, 1)
    assert one == again
    assert one.programming_error.coefficients.value != other.programming_error.coefficients.value
    assert one.read_noise.value != 0.01
    values = np.array([card.drawn(1, k).programming_error.coefficients.value for k in range(2000)])
    assert values.mean(0) == pytest.approx(card.programming_error.coefficients.value, abs=1e-8)
    assert values.std(0) == pytest.approx([1e-8, 1e-7, 1e-7, 1e-7, 1e-7], rel=0.08)
    assert np.corrcoef(values[:, 1], values[:, 2])[0, 1] == pytest.approx(-0.9, abs=0.02)
    noise = np.array([card.drawn(1, k).read_noise.value for k in range(2000)])
    assert np.log(noise / 0.01).std() == pytest.approx(0.1, rel=0.08)


def test_a_card_without_uncertainty_is_the_same_in_every_instance() -> None:
    card = load_card("rram-neurram")
    assert card.drawn(1, 3) is card


def test_one_stream_for_each_effect_leaves_the_others_alone() -> None:
    target = torch.full((2, 50, 50), 20e-6, dtype=torch.float64)
    plain = program(target, load_card("rram-neurram"), 1, 0, "fc")
    data = load_card("rram-neurram").model_dump() | {"stuck": stuck().model_dump()}
    with_stuck = program(target, DeviceCard.model_validate(data), 1, 0, "fc")
    same = with_stuck == plain
    assert 0.9 < same.double().mean() < 0.96
    held = {round(v, 9) for v in with_stuck[~same].tolist()}
    assert held == {1e-7, 9e-5}


def test_every_effect_draws_the_same_whatever_the_chunks() -> None:
    data = uncertain().model_dump() | {"variation": variation(length=2).model_dump()}
    card = DeviceCard.model_validate(data)
    target = torch.full((5, 2, 1, 16, 16), 20e-6, dtype=torch.float64)
    together = program(target, card, 1, 0, "fc", elapsed=3600.0)
    apart = [program(target[k : k + 1], card, 1, 0, "fc", k, elapsed=3600.0) for k in (4, 0, 2, 1, 3)]
    assert torch.equal(together[[4, 0, 2, 1, 3]], torch.cat(apart))


def test_tiles_and_instances_are_independent() -> None:
    card = DeviceCard.model_validate(
        uncertain().model_dump() | {"variation": variation(arrays=0).model_dump()}
    )
    target = torch.full((2, 120, 120), 20e-6, dtype=torch.float64)
    first = program(target, card, 1, 0, "fc")
    others = (first[1], program(target, card, 1, 1, "fc")[0], program(target, card, 2, 0, "fc")[0])
    for other in others:
        assert abs(np.corrcoef(first[0].flatten(), other.flatten())[0, 1]) < 4 / 120


def test_figures_keep_their_sign_when_drawn() -> None:
    wide = Figure(value=-1.0, unit="1", source="test", standard_error=3.0)
    assert all(wide.drawn(rng(str(k))).value < 0 for k in range(50))
    exact = FigureList(value=(1.0, 2.0), unit="1", source="test", covariance=((0.0, 0.0), (0.0, 1.0)))
    assert exact.drawn(rng()).value[0] == 1.0


def test_programming_error_between_two_times_lies_between() -> None:
    spread = {"g_reference": figure(1e-5, "S")}
    error = ProgrammingError.model_validate(
        spread
        | {"coefficients": figures([1e-6], "S"), "elapsed": figure(0.0, "s")}
        | {"later": [spread | {"coefficients": figures([3e-6], "S"), "elapsed": figure(99.0, "s")}]}
    )
    assert error.at(1e-5, 9.0)[1] == pytest.approx(2e-6)  # log(10) is half of log(100)
    assert error.at(1e-5)[1] == 1e-6


def test_flicker_noise_needs_its_three_figures() -> None:
    data = {"amplitude": figures([0.1]), "g_reference": figure(1e-5, "S"), "t_read": figure(1e-6, "s")}
    with pytest.raises(ValueError, match="amplitude, power, highest"):
        FlickerNoise.model_validate(data)


def test_a_card_with_write_verify_alone_is_programmed_within_its_tolerance() -> None:
    data = load_card("ideal").model_dump() | {"version": 2, "programming_error": None}
    card = DeviceCard.model_validate(data | {"write_verify": write_verify(most=50).model_dump()})
    target = torch.full((1, 100, 100), 20e-6, dtype=torch.float64)
    actual = program(target, card, 1, 0, "fc")
    assert float((actual - target).abs().max()) <= 1e-6 * (1 + 1e-9)
    assert not torch.equal(actual, program(target, card, 1, 1, "fc"))


def test_the_targets_are_left_as_they_are() -> None:
    target = torch.full((1, 10, 10), 20e-6, dtype=torch.float64)
    before = target.clone()
    program(target, load_card("rram-neurram"), 1, 0, "fc")
    assert torch.equal(target, before)
