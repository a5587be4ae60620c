"""The table of a comparison: one entry for each row, over its seeds; and the page that shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from device_models.toml import to_toml
from hwloop.recipe import Recipe
from hwloop.report import Choice, ChoicesPage, Column
from hwloop.report.front import unbeaten

ACCURACIES = ("dense", "pruned", "quantized", "hardware")
MEANS = (
    "mapped_tiles",
    "utilisation",
    "index_bits",
    "area_mm2",
    "power_w",
    "energy_per_image_j",
    "crossbar_area",
    "routing_area",
    "epochs",
)
"""Figures of rows whose mean over seeds is shown."""


def summarize(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return an entry for each row: means over seeds, of accuracies with their spread over devices too."""
    table: list[dict[str, Any]] = []
    for label in dict.fromkeys(row["label"] for row in found):
        mine = [row for row in found if row["label"] == label]
        good = [row for row in mine if "error" not in row]
        if not good:
            table.append({"label": label, "error": mine[0]["error"]})
            continue
        sizes = list(good[0]["tiles"])
        table.append(
            {
                "label": label,
                "method": good[0]["method"],
                "seeds": [row["seed"] for row in good],
                "failed": len(mine) - len(good),
                **{which: _spread(row["accuracy"][which] for row in good) for which in ACCURACIES},
                "weights": fmean(_factor(row["weights"]) for row in good),
                "inner_weights": fmean(_factor(row["inner_weights"]) for row in good),
                "tiles": fmean(_factor(row["tiles"]["64x64"]) for row in good),
                "tiles_by_array": {
                    size: fmean(_factor(row["tiles"][size]) for row in good) for size in sizes
                },
                "adc_bits": max(bits for row in good for bits in row["adc_bits"].values()),
                **{name: fmean(row[name] for row in good) for name in MEANS},
                "area_saving_mm2": {
                    part: fmean(row["area_saving_mm2"][part] for row in good)
                    for part in good[0]["area_saving_mm2"]
                },
                "adc_energy_j": fmean(next(iter(row["adc_energy_j"].values())) for row in good),
            }
        )
    return table


def _spread(values: Iterable[float | list[float]]) -> dict[str, float]:
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return {"mean": fmean(flat), "std": stdev(flat) if len(flat) > 1 else 0.0}


def _factor(pair: Mapping[str, int]) -> float:
    return pair["dense"] / max(1, pair["kept"])


def compare_page(
    table: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    recipes: Mapping[str, Recipe],
    command: str,
) -> ChoicesPage:
    """Return the page of a comparison.

    Args:
        table: as :func:`summarize` gives it.
        found: the runs that it is made of.
        recipes: by label.
        command: that makes the page again.
    """
    values: dict[str, list[float]] = {row["label"]: [] for row in table}
    for run in found:
        if "error" not in run:
            values[run["label"]] += run["accuracy"]["hardware"]
    good = [row for row in table if "error" not in row]

    merits = [(row["hardware"]["mean"], -row["mapped_tiles"], -row["adc_energy_j"]) for row in good]
    best = {row["label"] for row, kept in zip(good, unbeaten(merits), strict=True) if kept}
    columns = [
        Column("quantized", "digital accuracy, %", 100.0),
        Column("weights", "weights, times fewer"),
        Column("mapped_tiles", "tiles"),
        Column("adc_bits", "ADC bits"),
        Column("adc_energy_j", "ADC energy, nJ", 1e9),
        Column("area_mm2", "area, mm²"),
    ]
    choices = [
        Choice(
            settings={"row": row["label"]},
            accuracy=values[row["label"]],
            figures={}
            if "error" in row
            else {**{c.key: row[c.key] for c in columns[1:]}, "quantized": row["quantized"]["mean"]},
            best=row["label"] in best,
            error=row.get("error", ""),
        )
        for row in table
    ]
    return ChoicesPage(
        title="Pruning methods side by side",
        lead="Each row is pruned with every seed, with the same effort, and read on fresh device instances.",
        choices=choices,
        columns=columns,
        against=("mapped_tiles", "adc_energy_j"),
        each="device instances of all seeds",
        best="accuracy on arrays, tiles and ADC energy",
        command=command,
        recipe=to_toml(next(iter(recipes.values())).model_dump(mode="json")),
    )
