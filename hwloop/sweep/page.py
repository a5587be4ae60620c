"""The page of a sweep: which designs are worth a look, and all of them in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from device_models.toml import to_toml
from hwloop.recipe import Recipe
from hwloop.report.choices import Choice, ChoicesPage, Column

AREA, ENERGY = Column("area_mm2", "area, mm²"), Column("energy_per_image_j", "energy per image, µJ", 1e6)
COLUMNS = (AREA, Column("power_w", "power, mW", 1e3), ENERGY, Column("latency_s", "latency, µs", 1e6))
BEST = "accuracy, area and energy"


def choices(results: Sequence[Mapping[str, Any]]) -> list[Choice]:
    """Return designs as :func:`hwloop.sweep.sweep` gives them, as choices of a page."""
    return [
        Choice(
            settings={name: str(value) for name, value in result["settings"].items()},
            accuracy=result.get("accuracy", []),
            figures={column.key: result[column.key] for column in COLUMNS if column.key in result},
            best=result["best"],
            error=result.get("error", ""),
        )
        for result in results
    ]


def sweep_page(results: Sequence[Mapping[str, Any]], recipe: Recipe, command: str) -> ChoicesPage:
    """Return what the page of a sweep shows.

    Args:
        results: every design, as :func:`hwloop.sweep.sweep` gives them.
        recipe: that was swept.
        command: that made the sweep.
    """
    shown = choices(results)
    network = recipe.network.factory.partition(":")[2]
    return ChoicesPage(
        title=f"{len(shown)} designs of the hardware for {network} on {recipe.data.name}",
        lead=f"One network, trained and pruned once. Each design is evaluated on {recipe.evaluate.instances} "
        "device instances that nothing has seen, without retraining, and priced.",
        choices=shown,
        columns=COLUMNS,
        against=(AREA.key, ENERGY.key),
        each="device instances",
        best=BEST,
        command=command,
        recipe=to_toml(recipe.model_dump(mode="json")),
    )
