"""Synthetic measurements from known effects: to plan a measurement, and to test that fits find the truth.

Every function returns a table of realistic size and the parameters that it was drawn from. ``dirty`` mixes in
stuck devices (2 %) and readings that are grossly off (1 %).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from device_models.effects import FlickerNoise, ProgrammingError, TelegraphNoise, WriteVerify
from device_models.random import stream

from .measurement import Array, Measurement

STUCK, GROSS = 0.02, 0.01
Made = tuple[Measurement, dict[str, float]]


def levels(seed: int, dirty: bool) -> Made:
    """200 devices at 15 levels: spread 1.0, 2.2, 1.6 uS at low, middle, full scale; a shift of -0.2 uS."""
    rng = stream(seed, "synthetic", "levels")
    target = np.tile(np.arange(1, 16) * 40e-6 / 15, (200, 1))
    nodes = np.array([1 / 15, 8 / 15, 1.0])
    sigmas = np.array([1.0e-6, 2.2e-6, 1.6e-6])
    coefficients = np.linalg.solve(np.vander(nodes, 3, increasing=True), sigmas)
    figure = {"unit": "S", "source": "synthetic"}
    error = ProgrammingError.model_validate(
        {
            "coefficients": {"value": coefficients.tolist(), **figure},
            "g_reference": {"value": 40e-6, **figure},
            "shift": {"value": [-0.2e-6], **figure},
        }
    )
    g = target + error.mean_shift(target) + error.sigma(target) * rng.standard_normal(target.shape)
    if dirty:
        _spoil(g, rng, 0.0, 60e-6)
    truth = {f"sigma_{k}": s for k, s in enumerate(sigmas)} | {"shift_0": -0.2e-6, "shift_1": 0.0}
    return _table("levels", {"target": target, "conductance": g}), truth


def stuck(seed: int, dirty: bool) -> Made:
    """1000 devices at 4 levels, of which 2 % are stuck off and 5 % on."""
    rng = stream(seed, "synthetic", "stuck")
    target = np.tile(np.array([10e-6, 20e-6, 30e-6, 40e-6]), (1000, 1))
    g = target + 1.5e-6 * rng.standard_normal(target.shape)
    draw = rng.random(1000)
    g[draw < 0.02] = (0.1e-6 + 0.02e-6 * rng.standard_normal(g.shape))[draw < 0.02]
    g[draw > 0.95] = (50e-6 + 0.5e-6 * rng.standard_normal(g.shape))[draw > 0.95]
    if dirty:
        _gross(g, rng, 0.0, 60e-6)
    return _table("levels", {"target": target, "conductance": g}), {"off": 0.02, "on": 0.05}


def variation(seed: int, dirty: bool) -> Made:
    """16 arrays of 30 devices, each written 6 times: 5 %, 10 % and 4 % between arrays, devices and cycles."""
    rng = stream(seed, "synthetic", "variation")
    truth = {"between_arrays": 0.05, "between_devices": 0.10, "between_cycles": 0.04}
    shape = (16, 30, 6)
    total = truth["between_arrays"] * rng.standard_normal((16, 1, 1))
    total = total + truth["between_devices"] * rng.standard_normal((16, 30, 1))
    total = total + truth["between_cycles"] * rng.standard_normal(shape)
    g = (20e-6 * np.exp(total)).reshape(-1, 6)
    array = np.broadcast_to(np.arange(16.0)[:, None, None], shape).reshape(-1, 6)
    if dirty:
        _spoil(g, rng, 0.1e-6, 100e-6)
    return _table("levels", {"target": np.full(g.shape, 20e-6), "conductance": g, "array": array}), truth


def wafers(seed: int, dirty: bool) -> Made:
    """12 wafers of 6 arrays of 10 devices, each written 4 times: 6 %, 4 %, 8 % and 3 %, in that order."""
    rng = stream(seed, "synthetic", "wafers")
    truth = {"between_wafers": 0.06, "between_arrays": 0.04, "between_devices": 0.08, "between_cycles": 0.03}
    shape = (12, 6, 10, 4)
    total: Array = np.zeros(shape)
    for k, sigma in enumerate(truth.values()):
        total = total + sigma * rng.standard_normal((*shape[: k + 1], *[1] * (3 - k)))
    g = (20e-6 * np.exp(total)).reshape(-1, 4)
    if dirty:
        _spoil(g, rng, 0.1e-6, 100e-6)
    wafer, array = (np.broadcast_to(np.indices((12, 6))[k][..., None, None], shape) for k in (0, 1))
    places = {"wafer": wafer.reshape(-1, 4), "array": array.reshape(-1, 4)}
    return _table("levels", {"target": np.full(g.shape, 20e-6), "conductance": g, **places}), truth


def read_noise(seed: int, dirty: bool) -> Made:
    """8 traces of 2048 readings: 0.5 % white and 0.15 % of 1/f noise."""
    rng = stream(seed, "synthetic", "read noise")
    figure = {"unit": "1", "source": "synthetic"}
    noise = FlickerNoise.model_validate(
        {
            "amplitude": {"value": [0.0015, 0.0, 1.0], **figure},
            "g_reference": {"value": 1e-5, "unit": "S", "source": "synthetic"},
            "t_read": {"value": 1e-3, "unit": "s", "source": "synthetic"},
        }
    )
    relative = np.stack([noise.trace(2048, rng) for _ in range(8)]) + 0.005 * rng.standard_normal((8, 2048))
    g = 2e-5 * (1 + relative)
    if dirty:
        _gross(g, rng, 0.0, 4e-5)
    time = np.tile(np.arange(2048) * 1e-3, (8, 1))
    return _table("read-noise", {"time": time, "conductance": g}), {"white": 0.005, "flicker": 0.0015}


def telegraph(seed: int, dirty: bool) -> Made:
    """6 traces of 3000 readings that jump by 5 %, 30 ms above and 12 ms below, with 1 % of white noise."""
    rng = stream(seed, "synthetic", "telegraph")
    truth = {"amplitude": 0.05, "time_high": 0.030, "time_low": 0.012}
    fields = {n: {"value": v, "unit": "1" if n == "amplitude" else "s"} for n, v in truth.items()}
    fields["fraction"] = {"value": 1.0, "unit": "1"}
    named = {name: figure | {"source": "synthetic"} for name, figure in fields.items()}
    noise = TelegraphNoise.model_validate(named)
    g = 2e-5 * np.stack([noise.trace(3000, 1e-3, rng) for _ in range(6)])
    g *= 1 + 0.01 * rng.standard_normal(g.shape)
    if dirty:
        _gross(g, rng, 0.0, 8e-5)
    return _table("read-noise", {"time": np.tile(np.arange(3000) * 1e-3, (6, 1)), "conductance": g}), truth


def drift(seed: int, dirty: bool) -> Made:
    """100 devices read 12 times over a day: exponent 0.05 with 0.012 over devices, readings 1 % off."""
    rng = stream(seed, "synthetic", "drift")
    time = np.tile(np.concatenate([[0.0], np.geomspace(20, 86400, 11)]), (100, 1))
    nu = 0.05 + 0.012 * rng.standard_normal((100, 1))
    g = (
        rng.uniform(10e-6, 13e-6, (100, 1))
        * (1 + time / 20.0) ** -nu
        * np.exp(0.01 * rng.standard_normal(time.shape))
    )
    if dirty:
        held = rng.random(100) < STUCK
        g[held] = (30e-6 * np.exp(0.01 * rng.standard_normal(g.shape)))[held]
        _gross(g, rng, 1e-6, 40e-6)
    table = _table("retention", {"time": time, "conductance": g, "temperature": np.full(g.shape, 298.0)})
    return table, {"exponent": 0.05, "exponent_sigma": 0.012, "readings": 0.01}


def retention(seed: int, dirty: bool) -> Made:
    """40 devices at each of 4 temperatures: activation energy 1.1 eV."""
    rng = stream(seed, "synthetic", "retention")
    temperature = np.repeat([300.0, 350.0, 400.0, 440.0], 40)[:, None]
    time = np.tile(np.concatenate([[0.0], np.geomspace(20, 86400, 11)]), (160, 1))
    speed = np.exp(1.1 / 8.617333262e-5 * (1 / 300.0 - 1 / temperature))
    nu = 0.04 + 0.006 * rng.standard_normal((160, 1))
    g = 20e-6 * (1 + time * speed / 20.0) ** -nu * np.exp(0.01 * rng.standard_normal(time.shape))
    if dirty:
        held = rng.random(160) < STUCK
        g[held] = (30e-6 * np.exp(0.01 * rng.standard_normal(g.shape)))[held]
        _gross(g, rng, 1e-6, 40e-6)
    columns = {"time": time, "conductance": g, "temperature": np.broadcast_to(temperature, g.shape)}
    return _table("retention", columns), {"activation_energy": 1.1, "exponent": 0.04, "exponent_sigma": 0.006}


def write_verify(seed: int, dirty: bool) -> Made:
    """1000 cells, 15 pulses at most: a pulse leaves 3 uS, 1 uS passes."""
    rng = stream(seed, "synthetic", "write verify")
    figure = {"unit": "S", "source": "synthetic"}
    effect = WriteVerify.model_validate(
        {
            "tolerance": {"value": 1e-6, **figure},
            "pulse_sigma": {"value": 3e-6, **figure},
            "max_pulses": {"value": 15, "unit": "1", "source": "synthetic"},
        }
    )
    target = rng.choice(np.arange(2, 9) * 5e-6, 1000)
    written = effect.write(target, rng)
    g, pulses, passed = written.conductance, written.pulses.astype(float), (~written.failed).astype(float)
    if dirty:
        held = rng.random(1000) < STUCK
        g[held], pulses[held], passed[held] = 0.1e-6, 15, 0
        _gross(g, rng, 0.0, 60e-6)
    columns = {"target": target, "conductance": g, "pulses": pulses, "passed": passed}
    return Measurement("write-verify", columns, 298.0, "synthetic"), {"pulse_sigma": 3e-6}


def iv(seed: int, dirty: bool) -> Made:
    """60 devices swept to 0.5 V in 20 steps: alpha 3 per volt, falling by 0.5 per reference conductance."""
    rng = stream(seed, "synthetic", "iv")
    g = np.geomspace(10e-6, 40e-6, 60)[:, None]
    v = np.tile(np.linspace(0.025, 0.5, 20), (60, 1))
    alpha = 3.0 - 0.5 * (g / np.median(g) - 1)
    i = g * np.sinh(alpha * v) / alpha * np.exp(0.02 * rng.standard_normal(v.shape))
    if dirty:
        held = rng.random(60) < STUCK
        i[held] = (1e-3 * v * np.exp(0.02 * rng.standard_normal(v.shape)))[held]
        _gross(i, rng, 0.0, 40e-6)
    return _table("iv", {"voltage": v, "current": i}), {"alpha": 3.0, "alpha_slope": -0.5, "readings": 0.02}


def pulses(seed: int, dirty: bool) -> Made:
    """Soft bounds: 10 devices, 200 pulses up and 200 down each, 3 uS steps between 5 and 95 uS."""
    rng = stream(seed, "synthetic", "pulses")
    truth = {"step_up": 3e-6, "step_down": 2e-6, "g_low": 5e-6, "g_high": 95e-6}
    truth |= {"between_cycles": 0.4, "write_noise": 0.3e-6}
    g, before, after, ups = rng.uniform(20e-6, 40e-6, 10), [], [], []
    for up in [1.0] * 200 + [0.0] * 200:
        step = truth["step_up"] * (truth["g_high"] - g) if up else truth["step_down"] * (truth["g_low"] - g)
        change = (
            step
            / (truth["g_high"] - truth["g_low"])
            * (1 + truth["between_cycles"] * rng.standard_normal(10))
        )
        before.append(g)
        after.append(g + change + truth["write_noise"] * rng.standard_normal(10))
        ups.append(np.full(10, up))
        g = g + change
    left, right = np.stack(before, 1), np.stack(after, 1)
    if dirty:
        held = rng.random(10) < STUCK
        left[held], right[held] = 1e-7, 1e-7
        _gross(right, rng, 0.0, 120e-6)
    return _table("pulses", {"up": np.stack(ups, 1), "before": left, "after": right}), truth


MAKERS: Mapping[str, Callable[[int, bool], Made]] = {
    "programming error": levels,
    "stuck cells": stuck,
    "variation": variation,
    "variation over wafers": wafers,
    "read noise": read_noise,
    "telegraph noise": telegraph,
    "drift": drift,
    "retention": retention,
    "write-verify": write_verify,
    "I-V": iv,
    "pulse response": pulses,
}
"""Every effect that can be fitted, and what draws measurements of it."""


def _table(kind: str, columns: Mapping[str, Array]) -> Measurement:
    """A table from columns ``[devices, readings]``."""
    devices, readings = next(iter(columns.values())).shape
    device = np.repeat(np.arange(float(devices)), readings)
    flat = {name: np.asarray(column, dtype=np.float64).ravel() for name, column in columns.items()}
    return Measurement(kind, {"device": device, **flat}, 298.0, "synthetic")


def _spoil(g: Array, rng: np.random.Generator, low: float, high: float) -> None:
    """Make devices ``[devices, readings]`` stuck at either end, and readings gross."""
    draw = rng.random(len(g))
    g[draw < STUCK / 2] = low + 0.005 * high * np.abs(rng.standard_normal(g.shape))[draw < STUCK / 2]
    g[draw > 1 - STUCK / 2] = high * (1 + 0.005 * rng.standard_normal(g.shape))[draw > 1 - STUCK / 2]
    _gross(g, rng, low, high)


def _gross(values: Array, rng: np.random.Generator, low: float, high: float) -> None:
    off = rng.random(values.shape) < GROSS
    values[off] = rng.uniform(low, high, int(off.sum()))
