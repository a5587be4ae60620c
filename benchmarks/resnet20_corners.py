"""What wires and cells alone take from ResNet-20 that was trained elsewhere, with nothing done about it.

    python benchmarks/resnet20_corners.py --data cifar10.npz --weights resnet20.safetensors --out corners.md

64 x 64 arrays, differential; the largest weight of a layer at LRS, a weight of zero at HRS in both arrays;
wires solved exactly, currents read without conversion. Twice: with the cells of bit lines that a layer leaves
unused, which load its word lines, and 8-bit inputs, as hwloop reads; and as weights that the wires have
changed, with nothing on unused lines and inputs as they are.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import nn

from device_models.crossbar import Wires, effective_conductance
from device_models.generic import generic_card
from hwloop.datasets import Dataset, load_dataset
from hwloop.evaluation import evaluate_instances
from hwloop.hardware import FastHardware, calibrate_inputs, network_from_map
from hwloop.mapping import UNUSED_LINE, ConductanceMap, assemble, build_map
from hwloop.networks import build_network, crossbar_layers, from_matrix, load_weights
from hwloop.pruning import full_masks
from hwloop.quantization import quantize
from hwloop.training import accuracy

FACTORY, SEED, ON_OFF, CALIBRATION_IMAGES = "hwloop.networks:resnet20", 1, 10.0, 500
BATCH, IDEAL = 100, Wires(0.0, 0.0)


class Corner(NamedTuple):
    """Low-resistance state and wire segment in ohm, log-normal spread, and fraction of stuck cells."""

    lrs: float
    wire: float
    variation: float = 0.0
    stuck: float = 0.0


CORNERS = {
    "wires, 100 kΩ, 5 Ω": Corner(1e5, 5.0),
    "wires, 10 kΩ, 1 Ω": Corner(1e4, 1.0),
    "wires, 10 kΩ, 5 Ω": Corner(1e4, 5.0),
    "log-normal 0.1": Corner(1e5, 0.0, 0.1),
    "middle: 100 kΩ, 5 Ω, log-normal 0.1, 0.1 % stuck": Corner(1e5, 5.0, 0.1, 1e-3),
    "harsh: 10 kΩ, 5 Ω, log-normal 0.1, 0.1 % stuck": Corner(1e4, 5.0, 0.1, 1e-3),
}


def on_arrays(corner: Corner, net: nn.Module, dataset: Dataset) -> tuple[ConductanceMap, Wires]:
    """The network on cells of the corner, and its wires."""
    card = generic_card(corner.lrs, ON_OFF, variation=corner.variation, stuck=corner.stuck)
    layers = quantize(net, full_masks(net), card.levels, "largest")
    codes = {name: (layer.codes, layer.scale) for name, layer in layers.items()}
    scales = calibrate_inputs(net, dataset.train_x[:CALIBRATION_IMAGES])
    conductance_map = build_map(FACTORY, net, codes, card, (64, 64), scales)
    return conductance_map, Wires(corner.wire, corner.wire)


def hardware(wires: Wires, instance: int | str) -> FastHardware:
    """Arrays of a device instance that are read without conversion."""
    return FastHardware(wires, seed=SEED, instance=instance, adc=False)


def without_idle_cells(net: nn.Module, programmed: ConductanceMap, wires: Wires) -> nn.Module:
    """The network with the weights that the wires make of its programmed cells, if there are no others."""
    changed = copy.deepcopy(net)
    for name, layer in crossbar_layers(changed).items():
        tiles = programmed.layers[name]
        used = (tiles.row_index != UNUSED_LINE)[:, :, None] & (tiles.col_index != UNUSED_LINE)[:, None, :]
        cells = tiles.actual[:, :, 0].double() * used[:, None]
        seen = effective_conductance(cells, wires)
        matrix = assemble(seen[:, 0] - seen[:, 1], tiles.row_index, tiles.col_index, tiles.matrix_shape)
        layer.weight.data = from_matrix(layer, (matrix * tiles.weight_per_siemens).float())
    return changed


def as_columns(found: list[float]) -> str:
    """Mean, spread, lowest and highest, as cells of a table."""
    values = [100 * value for value in found]
    if len(values) == 1:
        return f"{values[0]:.1f} | | | "
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    return f"{mean:.1f} | {spread:.1f} | {min(values):.1f} | {max(values):.1f}"


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="CIFAR-10 as .npz in the layout of Keras")
    parser.add_argument("--weights", required=True, help="weights of hwloop.networks:resnet20")
    parser.add_argument("--images", type=int, default=1000, help="the first of the test set")
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    net = build_network(FACTORY).eval()
    load_weights(net, chosen.weights)
    dataset = load_dataset(chosen.data, 0, SEED)
    x, y = dataset.test_x[: chosen.images].clone(), dataset.test_y[: chosen.images]
    started = time.monotonic()
    lines = [
        "# ResNet-20 on arrays with wires, without conversion",
        "",
        f"Made by `benchmarks/resnet20_corners.py` on the first {len(y)} test images. "
        f"On/off ratio {ON_OFF:g}. Spread over device instances.",
        "",
        "| arrays | as hwloop reads, % | ± | lowest | highest "
        "| nothing on unused lines, % | ± | lowest | highest | instances |",
        "|---" + 9 * "|---:" + "|",
        f"| digital | {as_columns([accuracy(net, x, y)])} | | | | | |",
    ]
    for name, corner in CORNERS.items():
        conductance_map, wires = on_arrays(corner, net, dataset)
        quantized = network_from_map(net, conductance_map)
        instances = range(chosen.instances if corner.variation or corner.stuck else 1)
        read = evaluate_instances(
            net, conductance_map, partial(hardware, wires), x, y, instances=instances, batch=BATCH
        )
        # The same cells, drawn again: programming without wires costs no solution.
        programmed = (hardware(IDEAL, instance).program(conductance_map) for instance in instances)
        bare = [accuracy(without_idle_cells(quantized, cells, wires), x, y, BATCH) for cells in programmed]
        lines.append(f"| {name} | {as_columns(read)} | {as_columns(bare)} | {len(read)} |")
        print(lines[-1], f"{time.monotonic() - started:.0f} s", flush=True)
    if chosen.out is not None:
        chosen.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
