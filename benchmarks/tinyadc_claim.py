"""What smaller ADCs alone save on a chip that holds ResNet-18, next to what TinyADC states.

    python benchmarks/tinyadc_claim.py [--cells-per-column 8] [--array 128]

The network is ResNet-18 for 32x32 images, on arrays of two-bit cells with one-bit DACs: dense, and with at
most so many conducting cells in every bit line (column proportional pruning). Both chips have the same arrays
and lossless converters; they differ in ADC bits alone. Figures are by ISAAC's parts, under each ADC law of
its card.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from hwloop.cost import (
    ADCS,
    ChipCost,
    ChipFacts,
    CostCard,
    estimate_by_law,
    layer_facts,
    load_cost_card,
)
from hwloop.recipe import Readout

LEVELS = 3  # conducting levels of a two-bit cell
ARRAYS_PER_TILE = 8  # 8-bit weights: four slices of two bits, two polarities
READOUT = Readout(dac_bits=8)
PUBLISHED_POWER, PUBLISHED_AREA = 3.5, 2.9

DIFFERENCES = """\
What differs from the published comparison:
- Its baseline is the best pruned network of other work with the converters of that work, not stated here;
  ours is the same network dense, on the same arrays, with lossless converters (up to 9 bits).
- It prunes whole filters and channels besides, which leaves fewer arrays; here no array is saved.
- Its law for the cost of a converter is not known to us; the ratio hangs on it more than on anything else.
- Which parts it counts is not known to us: buffers, buses and links do not shrink with the ADC.
- All layers are pruned here, the first and the last too; and ISAAC's encoding that saves a dense column one
  bit is left out, which favours the pruned chip.
- Cells in the high-resistance state conduct nothing here; real ones leak into the sum and cost bits back."""


@dataclass(frozen=True)
class Ratios:
    """Dense over pruned, for the parts of one scope under one law."""

    law: str
    scope: str
    power: float
    area: float
    adc_share: float


def resnet18_layers() -> dict[str, tuple[tuple[int, int], int]]:
    """Return each layer of ResNet-18 for 32x32 images: its matrix in GEMM form and its vectors per image."""
    layers: dict[str, tuple[tuple[int, int], int]] = {"conv1": ((27, 64), 32 * 32)}
    inputs = 64
    for stage, (channels, side) in enumerate(((64, 32), (128, 16), (256, 8), (512, 4)), start=1):
        vectors = side * side
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            layers[f"{name}.conv1"] = ((9 * inputs, channels), vectors)
            layers[f"{name}.conv2"] = ((9 * channels, channels), vectors)
            if inputs != channels:
                layers[f"{name}.shortcut"] = ((inputs, channels), vectors)
            inputs = channels
    return {**layers, "fc": ((512, 10), 1)}


def resnet18_chip(array: int, cells_per_column: int | None) -> ChipFacts:
    """Return the chip that holds ResNet-18; ``cells_per_column`` None is the dense one."""
    shape = (array, array)
    return ChipFacts(
        shape,
        {
            name: layer_facts(
                matrix,
                shape,
                levels=LEVELS,
                vectors=vectors,
                cells_per_column=cells_per_column,
                arrays_per_tile=ARRAYS_PER_TILE,
            )
            for name, (matrix, vectors) in resnet18_layers().items()
        },
    )


def ratios(dense: dict[str, ChipCost], pruned: dict[str, ChipCost], card: CostCard) -> list[Ratios]:
    """Return dense over pruned under each law: converters alone, with arrays and periphery, and the chip."""
    scopes = {
        "ADCs alone": (ADCS,),
        "arrays and periphery": card.part_names("ima"),
        "whole chip": card.part_names("ima", "tile", "chip"),
    }
    found = []
    for law in card.adc:
        before, after = dense[law].total, pruned[law].total
        for scope, parts in scopes.items():
            power, area = (
                sum(by_part[0][part] for part in parts) / sum(by_part[1][part] for part in parts)
                for by_part in ((before.power_w, after.power_w), (before.area_mm2, after.area_mm2))
            )
            share = before.power_w[ADCS] / sum(before.power_w[part] for part in parts)
            found.append(Ratios(law, scope, power, area, share))
    return found


def main() -> None:
    """Estimate, and print two tables and what differs."""
    arguments = _arguments()
    card, console = load_cost_card(), Console(width=110)
    chips = {
        "dense": resnet18_chip(arguments.array, None),
        f"l = {arguments.cells_per_column}": resnet18_chip(arguments.array, arguments.cells_per_column),
    }
    costs = {name: estimate_by_law(chip, card, READOUT) for name, chip in chips.items()}
    console.print(_chip_table(chips, costs))
    dense, pruned = costs.values()
    table = Table(title=f"dense over l = {arguments.cells_per_column}, {card.name}")
    for column in ("ADC law", "counted", "ADC share of dense power", "power", "area"):
        table.add_column(column, justify="left" if column in ("ADC law", "counted") else "right")
    for row in ratios(dense, pruned, card):
        table.add_row(row.law, row.scope, f"{row.adc_share:.0%}", f"{row.power:.2f}x", f"{row.area:.2f}x")
    table.add_section()
    table.add_row("TinyADC, as published", "", "", f"{PUBLISHED_POWER}x", f"{PUBLISHED_AREA}x")
    console.print(table)
    console.print(DIFFERENCES, highlight=False, soft_wrap=True)


def _chip_table(chips: dict[str, ChipFacts], costs: dict[str, dict[str, ChipCost]]) -> Table:
    table = Table(title="ResNet-18 for 32x32 images, whole chip")
    for column in ("chip", "arrays", "ADC bits", "ADC law", "area mm²", "power W", "µJ/image", "latency ms"):
        table.add_column(column, justify="left" if column in ("chip", "ADC law") else "right")
    for name, chip in chips.items():
        arrays = sum(layer.arrays for layer in chip.layers.values())
        bits = [tile.adc_bits for layer in chip.layers.values() for tile in layer.tiles]
        span = str(max(bits)) if min(bits) == max(bits) else f"{min(bits)} to {max(bits)}"
        for law, cost in costs[name].items():
            table.add_row(
                name,
                f"{arrays}",
                span,
                law,
                f"{cost.area_mm2:.1f}",
                f"{cost.power_w:.1f}",
                f"{1e6 * cost.energy_j:.1f}",
                f"{1e3 * cost.latency_s:.2f}",
            )
        table.add_section()
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Rebuild TinyADC's saving from its ADC bits alone.")
    parser.add_argument("--cells-per-column", type=int, default=8, help="conducting cells in a bit line (8)")
    parser.add_argument("--array", type=int, default=128, help="lines of a square array (128)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
