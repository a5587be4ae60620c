"""Which gates crossbar-aware pruning opens: both readings of its probabilistic projection, and controls.

For trained networks, a part of the column segments of every layer but the last is kept. The table shows the
error of the layers' outputs on images that no gate was chosen by, and the accuracy before any retraining.

    python benchmarks/pruning_gates.py WEIGHTS.safetensors... [--share 0.25]
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from statistics import fmean, stdev

import torch

from device_models.random import torch_stream
from hwloop.datasets import load_dataset
from hwloop.networks import (
    build_network,
    crossbar_layers,
    from_matrix,
    load_weights,
    record_inputs,
    to_matrix,
    windows,
)
from hwloop.pruning.gates import gated
from hwloop.pruning.groups import Segments
from hwloop.training.fit import accuracy

IMAGES = 256


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", nargs="+", type=Path, help="trained LeNets")
    parser.add_argument("--share", type=float, default=0.25)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset("mnist", 5000, 1)
    rows: dict[str, list[tuple[float, float]]] = {}
    for seed, path in enumerate(arguments.weights, 1):
        net = build_network("hwloop.networks:lenet").eval()
        load_weights(net, path)
        for way in ("pool", "draw", "largest", "magnitude", "random"):
            rows.setdefault(way, []).append(measure(net, data, way, arguments.share, seed))
    print(
        f"Column segments kept: {arguments.share:.0%}; {len(arguments.weights)} networks; mean ± deviation.\n"
    )
    print("| gates | error of outputs | accuracy, % |\n| --- | ---: | ---: |")
    for way, found in rows.items():
        errors, accuracies = zip(*found, strict=True)
        print(f"| {way} | {spread(errors)} | {spread([100 * one for one in accuracies])} |")


def measure(net: torch.nn.Module, data: object, way: str, share: float, seed: int) -> tuple[float, float]:
    """Return the mean relative error of the layers' outputs, and the accuracy on validation images."""
    layers = crossbar_layers(net)
    cuts = {}
    for name in list(layers)[:-1]:
        rows, cols = to_matrix(layers[name]).shape
        cuts[name] = Segments(max(1, round(share * -(-rows // 64) * cols)), 64)
    if way in ("pool", "draw", "largest"):
        kept = gated(net, cuts, data.train_x, way, seed)  # type: ignore[attr-defined, arg-type]
    else:
        kept = {}
        for name, cut in cuts.items():
            matrix = to_matrix(layers[name]).detach()
            scores = (
                matrix if way == "magnitude" else torch.rand(matrix.shape, generator=torch_stream(seed, name))
            )
            kept[name] = matrix * (cut.project(scores) != 0)
    inputs = record_inputs(net, data.validation_x[:IMAGES])  # type: ignore[attr-defined]
    pruned, errors = copy.deepcopy(net), []
    for name, matrix in kept.items():
        layer = layers[name]
        x = inputs[name]
        if x.ndim == 4:
            x = windows(layer, x).flatten(3).flatten(0, 2)
        exact = x @ to_matrix(layer).detach()
        errors.append(float((x @ matrix - exact).square().sum() / exact.square().sum()))
        crossbar_layers(pruned)[name].weight.data.copy_(from_matrix(layer, matrix))
    return fmean(errors), accuracy(pruned, data.validation_x, data.validation_y)  # type: ignore[attr-defined]


def spread(values: list[float] | tuple[float, ...]) -> str:
    """Return mean and standard deviation."""
    return f"{fmean(values):.3g}" + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
