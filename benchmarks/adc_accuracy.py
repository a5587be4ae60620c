"""Accuracy against ADC bits, for networks dense and pruned, on ideal arrays and on real ones.

    python benchmarks/adc_accuracy.py dense=MAPS.H5 pruned=MAPS.H5 [--recipe RECIPE.toml] [--out FOLDER]

Every layer gets converters of the same resolution; the least significant bit of each is the one of least
squared error under training images (as `hwloop adc` chooses it). Ideal arrays are without wires, programming
error and noise; real ones have the recipe's wires and the map's device card, and are evaluated on several
freshly programmed device instances. Test images are used for nothing but the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from device_models import DeviceCard, load_card
from device_models.crossbar import Wires
from device_models.files import write_atomically
from hwloop.adc import CALIBRATION_IMAGES, Ranges
from hwloop.datasets import load_dataset
from hwloop.evaluation import evaluate_instances
from hwloop.hardware import FastHardware
from hwloop.line import make_wires
from hwloop.mapping import ConductanceMap, read_map
from hwloop.networks import build_network
from hwloop.recipe import load_recipe
from hwloop.report import accuracy_chart, save_chart

console = Console()


def main() -> None:
    """Measure, print a table, and write it with a figure."""
    arguments = _arguments()
    recipe = load_recipe(arguments.recipe)
    data = load_dataset(arguments.data or recipe.data.name, recipe.data.validation, recipe.seed)
    rows: list[dict[str, Any]] = []
    for name, path in arguments.maps:
        conductance_map = read_map(path)
        for corner, chip, wires, instances in (
            ("ideal", _ideal(conductance_map), Wires(0.0, 0.0), 1),
            ("real", conductance_map, make_wires(recipe.hardware), arguments.instances),
        ):
            net = build_network(conductance_map.network)
            images = data.train_x[:CALIBRATION_IMAGES]
            ranges = Ranges(net, chip, wires, recipe.hardware, seed=recipe.seed, images=images)
            for bits in [*arguments.bits, None]:
                readout = recipe.hardware if bits is None else ranges.readout(recipe.hardware, bits)
                found = evaluate_instances(
                    net,
                    chip,
                    lambda instance, wires=wires, readout=readout: FastHardware(  # type: ignore[misc]
                        wires, readout, seed=recipe.seed, instance=instance
                    ),
                    data.test_x[: arguments.images].clone(),
                    data.test_y[: arguments.images],
                    instances=range(instances),
                    batch=recipe.evaluate.batch,
                )
                rows.append({"network": name, "arrays": corner, "bits": bits, "accuracy": found})
                console.print(f"{name}, {corner}, {bits or 'lossless'} bits: {_spread(found)}")
    console.print(_table(rows, arguments.bits))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        figures = {
            "network": conductance_map.network,
            "data": arguments.label or recipe.data.name,
            "images": min(arguments.images, len(data.test_x)),
            "seed": recipe.seed,
            "rows": rows,
        }
        write_atomically(arguments.out / "adc-accuracy.json", (json.dumps(figures, indent=1) + "\n").encode())
        save_chart(accuracy_chart(rows), arguments.out / "adc-accuracy.svg")


def _ideal(conductance_map: ConductanceMap) -> ConductanceMap:
    """Return the map on devices that land on their targets and do not fluctuate."""
    card, figures = conductance_map.card, load_card("ideal").model_dump()
    for figure in ("g_max", "level_count", "read_voltage"):
        figures[figure] = getattr(card, figure).model_dump()
    return replace(conductance_map, card=DeviceCard.model_validate(figures))


def _spread(accuracies: list[float]) -> str:
    mean = f"{100 * statistics.fmean(accuracies):.2f}"
    return mean if len(accuracies) == 1 else f"{mean} ± {100 * statistics.stdev(accuracies):.2f}"


def _table(rows: list[dict[str, Any]], bits: list[int]) -> Table:
    table = Table(title="Accuracy on test images, %", box=None)
    columns = list(dict.fromkeys((row["network"], row["arrays"]) for row in rows))
    table.add_column("ADC bits", justify="right")
    for network, arrays in columns:
        table.add_column(f"{network}, {arrays}", justify="right")
    for count in [*bits, None]:
        found = {(r["network"], r["arrays"]): _spread(r["accuracy"]) for r in rows if r["bits"] == count}
        table.add_row(str(count or "lossless"), *(found[column] for column in columns))
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("maps", nargs="+", metavar="NAME=MAPS.H5")
    parser.add_argument("--recipe", default=None, help="data, wires and readout; LeNet on MNIST if left out")
    parser.add_argument("--data", default="", help="images, in place of the recipe's")
    parser.add_argument("--label", default="", help="what to call the images in the results")
    parser.add_argument("--bits", type=int, nargs="+", default=[*range(1, 10)])
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--out", type=Path, help="folder for the JSON and the figure")
    arguments = parser.parse_args()
    arguments.maps = [tuple(given.split("=", 1)) for given in arguments.maps]
    if any(len(pair) != 2 for pair in arguments.maps):
        parser.error("give maps as NAME=MAPS.H5")
    return arguments


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
