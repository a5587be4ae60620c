"""Measured devices: how well held-out pulses and devices are predicted, against simpler and published forms.

    python benchmarks/device_real.py DEVICES

DEVICES is a folder with `cross-sim-data/lookup_tables` (TaOx ReRAM and ENODe, Sandia) and
`aihwkit/gong_et_al.csv` (Gong et al., Nat. Commun. 2018). The look-up tables are
distributions of the change by one pulse, read as pulses at even steps of probability; what is held out are
whole conductances, or devices.

Forms held against hwloop's, each fitted to the same data by its likelihood:
- constant: a Gaussian of one width about one mean, for each direction
- independent, proportional: Gaussians about hwloop's own median curve, with a width that is constant, or
  proportional to the conductance after the pulse (the two error forms of CrossSim)
- soft bounds: mean steps that shrink linearly towards bounds, spread between cycles and write noise
  (the soft-bounds device of aihwkit), with flat outliers
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import norm

from calibration.importers import read_change_archive, read_change_tables, read_normalized_train
from calibration.measurement import Array, Measurement
from calibration.pulses import FOLDS, Quantiles, _folds, fit_soft_bounds, soft_bounds_density
from calibration.result import NOMINAL
from calibration.trains import BLOCK, PLAIN, Train, fit_trains

EVERY = 5  # conductances of the largest tables that are read


def taox_devices(path: Path) -> Measurement:
    """All TaOx devices, from the quantiles of each: 20 pulses at each of its conductances and directions."""
    with np.load(path, allow_pickle=False) as file:
        g, levels = file["G_bins_S"], file["quantile"]
        tables = {1.0: file["dG_set_S"], 0.0: file["dG_reset_S"]}
    even = (np.arange(20) + 0.5) / 20
    knots, at = norm.ppf(levels), norm.ppf(even)
    columns: dict[str, list[Array]] = {"device": [], "up": [], "before": [], "after": []}
    for up, table in tables.items():
        for device in range(len(g)):
            for k, before in enumerate(g[device]):
                change = np.interp(at, knots, table[device, :, k])
                columns["device"].append(np.full(20, float(device)))
                columns["up"].append(np.full(20, up))
                columns["before"].append(np.full(20, before))
                columns["after"].append(before + change)
    return Measurement("pulses", {n: np.concatenate(v) for n, v in columns.items()}, 298.0, str(path))


def thinned(table: Measurement) -> Measurement:
    """Every fifth conductance of a table."""
    values = np.unique(table["before"])
    keep = np.isin(table["before"], values[::EVERY])
    return Measurement(
        "pulses", {n: c[keep] for n, c in table.columns.items()}, table.temperature, table.source
    )


def gaussian(train: tuple[Array, Array], test: tuple[Array, Array], form: str) -> Array:
    """Log density of test pulses under one of the Gaussian forms."""
    (g, change), (g_test, change_test) = train, test
    if form == "constant":
        return norm.logpdf(change_test, change.mean(), change.std())
    median = Quantiles.fit(g, change)
    middle = median.change[len(median.change) // 2]
    mean, mean_test = np.interp(g, median.g, middle), np.interp(g_test, median.g, middle)
    if form == "independent":
        return norm.logpdf(change_test, mean_test, (change - mean).std())
    width = np.sqrt(np.mean(((change - mean) / (g + mean)) ** 2))
    return norm.logpdf(change_test, mean_test, width * np.abs(g_test + mean_test))


def pulses(name: str, table: Measurement) -> None:
    """Predict held-out pulses or devices."""
    g, change, up = table["before"], table["after"] - table["before"], table["up"] == 1
    folds = _folds(table)
    logs: dict[str, list[Array]] = {}
    scores = []
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        soft = fit_soft_bounds(g[train], change[train], up[train])
        logs.setdefault("soft bounds", []).append(soft_bounds_density(soft, g[test], change[test], up[test]))
        for direction in (up, ~up):
            a, b = train & direction, test & direction
            quantiles = Quantiles.fit(g[a], change[a])
            logs.setdefault("hwloop", []).append(quantiles.log_density(g[b], change[b]))
            scores.append(quantiles.score(g[b], change[b]))
            for form in ("constant", "independent", "proportional"):
                part = gaussian((g[a], change[a]), (g[b], change[b]), form)
                logs.setdefault(form, []).append(part)
    show(name, {n: np.concatenate(v) for n, v in logs.items()}, np.concatenate(scores))


def train(name: str, path: Path) -> None:
    """Predict held-out blocks of a pulse train, each state from those before it."""
    up, down = read_normalized_train(path)
    trains = [Train(np.ones(len(up), bool), up), Train(np.zeros(len(down), bool), down)]
    block = [np.arange(len(t.state)) // BLOCK % 2 for t in trains]
    forms = {"hwloop": None, "soft bounds": PLAIN}
    logs: dict[str, list[Array]] = {}
    scores = []
    for part in (0, 1):
        counted = [(b == part) & (np.arange(len(b)) > 0) for b in block]
        held = [(b != part) & (np.arange(len(b)) > 0) for b in block]
        for form, fixed in forms.items():
            fit = fit_trains(trains, fixed, counted)
            for one, rows in zip(trains, held, strict=True):
                mean, sigma = fit.predict(one)
                logs.setdefault(form, []).append(norm.logpdf(one.state, mean, sigma)[rows])
                if form == "hwloop":
                    scores.append(((one.state - mean) / sigma)[rows])
        for one, a, b in zip(trains, counted, held, strict=True):
            before, change = one.state[:-1], np.diff(one.state)
            slope = np.polyfit(before[a[1:]], change[a[1:]], 1)
            rest = change - np.polyval(slope, before)
            scale = np.abs(one.state[:-1] - min(up.min(), down.min()) + 0.1)
            logs.setdefault("constant", []).append(
                norm.logpdf(change[b[1:]], change[a[1:]].mean(), change[a[1:]].std())
            )
            logs.setdefault("independent", []).append(norm.logpdf(rest[b[1:]], 0, rest[a[1:]].std()))
            width = np.sqrt(np.mean((rest / scale)[a[1:]] ** 2)) * scale[b[1:]]
            logs.setdefault("proportional", []).append(norm.logpdf(rest[b[1:]], 0, width))
    show(name, {n: np.concatenate(v) for n, v in logs.items()}, np.concatenate(scores))


def show(name: str, logs: dict[str, Array], scores: Array) -> None:
    """Print the log likelihood of each form against hwloop's, and the coverage of hwloop's intervals."""
    ours = logs["hwloop"].mean()
    others = "  ".join(f"{form} {log.mean() - ours:+.3f}" for form, log in logs.items() if form != "hwloop")
    covered = "  ".join(
        f"{100 * p:.0f} %: {100 * np.mean(np.abs(scores) <= norm.ppf((1 + p) / 2)):.1f}" for p in NOMINAL
    )
    print(f"{name} ({len(scores)} held-out pulses)\n  log likelihood per pulse against hwloop's: {others}")
    print(f"  intervals hold  {covered}", flush=True)


def main() -> None:
    """Run all data sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("devices", type=Path)
    folder = parser.parse_args().devices
    tables = folder / "cross-sim-data" / "lookup_tables"
    train("ReRAM, 2 x 1000 pulses (Gong et al. 2018)", folder / "aihwkit" / "gong_et_al.csv")
    enode = read_change_tables(tables / "ENODe" / "dG_increasing.txt", tables / "ENODe" / "dG_decreasing.txt")
    pulses("ENODe, held-out conductances", enode)
    for number in ("01", "10"):
        device = read_change_archive(tables / "TaOx_all" / f"device_{number}.npz")
        pulses(f"TaOx device {number}, held-out conductances", thinned(device))
    pulses(
        "TaOx, 41 devices, held-out devices",
        taox_devices(tables / "TaOx_all" / "derived_quantiles_all_devices.npz"),
    )


if __name__ == "__main__":
    main()
