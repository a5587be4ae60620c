"""What wires and cells alone take from ResNet-20 that was trained elsewhere, with nothing done about it.

    python benchmarks/resnet20_corners.py --data cifar10.npz --weights resnet20.safetensors --out corners.md

64 x 64 arrays, differential; the largest weight of a layer at LRS, a weight of zero at HRS in both arrays;
wires solved exactly, currents read without conversion.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import nn

from device_models.crossbar import Wires
from device_models.generic import generic_card
from hwloop.datasets import Dataset, load_dataset
from hwloop.evaluation import evaluate_instances
from hwloop.hardware import FastHardware, calibrate_inputs
from hwloop.mapping import build_map
from hwloop.networks import build_network, load_weights
from hwloop.pruning import full_masks
from hwloop.quantization import quantize
from hwloop.training import accuracy

FACTORY, SEED, ON_OFF, CALIBRATION_IMAGES = "hwloop.networks:resnet20", 1, 10.0, 500


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


def read_on(corner: Corner, net: nn.Module, dataset: Dataset, instances: int) -> list[float]:
    """Accuracy on each of several device instances; one alone where nothing is drawn."""
    card = generic_card(corner.lrs, ON_OFF, variation=corner.variation, stuck=corner.stuck)
    layers = quantize(net, full_masks(net), card.levels, "largest")
    codes = {name: (layer.codes, layer.scale) for name, layer in layers.items()}
    scales = calibrate_inputs(net, dataset.train_x[:CALIBRATION_IMAGES])
    conductance_map = build_map(FACTORY, net, codes, card, (64, 64), scales)
    wires = Wires(corner.wire, corner.wire)
    return evaluate_instances(
        net,
        conductance_map,
        lambda instance: FastHardware(wires, seed=SEED, instance=instance, adc=False),
        dataset.test_x,
        dataset.test_y,
        instances=range(instances if corner.variation or corner.stuck else 1),
        batch=100,
    )


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
    dataset = replace(dataset, test_x=x, test_y=y)
    started = time.monotonic()
    lines = [
        "# ResNet-20 on arrays with wires, without conversion",
        "",
        f"Made by `benchmarks/resnet20_corners.py` on the first {len(y)} test images. "
        f"On/off ratio {ON_OFF:g}. Spread over device instances.",
        "",
        "| arrays | accuracy, % | ± | lowest | highest | instances |",
        "|---|---:|---:|---:|---:|---:|",
        f"| digital | {100 * accuracy(net, dataset.test_x, dataset.test_y):.1f} | | | | |",
    ]
    for name, corner in CORNERS.items():
        found = [100 * value for value in read_on(corner, net, dataset, chosen.instances)]
        spread = "| |"
        if len(found) > 1:
            spread = f"{statistics.stdev(found):.1f} | {min(found):.1f} | {max(found):.1f}"
        lines.append(f"| {name} | {statistics.fmean(found):.1f} | {spread} | {len(found)} |")
        print(lines[-1], f"{time.monotonic() - started:.0f} s", flush=True)
    if chosen.out is not None:
        chosen.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
