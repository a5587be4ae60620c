"""Chip-in-the-loop against software alone, for LeNet on chips that only their readout tells of.

Each chip is a process of its own, ``hwloop bench serve``, with cells, wires and converters that its seed
draws and no command tells. All that is programmed and read goes over TCP. Software alone is the network as it
was trained, and the network trained on modelled arrays (``variation``, with wires of 1 ohm a segment and no
resistance of drivers). Chip-in-the-loop goes on from the better of the two, by training images, and programs
the chip once more, layer by layer.

    python benchmarks/bench_loop.py --weights lenet-1.safetensors lenet-2.safetensors --out bench-loop.md
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from device_models import load_card
from device_models.crossbar import Wires
from hwloop.adc import CALIBRATION_IMAGES, Ranges
from hwloop.bench import connect
from hwloop.datasets import Dataset, load_dataset
from hwloop.hardware import Hardware, calibrate_inputs, network_from_map, on_hardware
from hwloop.mapping import ConductanceMap, build_map
from hwloop.networks import build_network, load_weights
from hwloop.pruning import full_masks
from hwloop.quantization import quantize
from hwloop.recipe import Readout, Retrain
from hwloop.training import accuracy
from hwloop.training.strategies import Task, run_strategy

FACTORY, SHAPE, BATCH = "hwloop.networks:lenet", (64, 64), 250
BELIEVED = Wires(1.0, 1.0)


@contextmanager
def served(card: str, adc_bits: int, seed: int) -> Iterator[str]:
    """Address of a chip, in a process of its own."""
    options = ["--port", "0", "--card", card, "--adc-bits", str(adc_bits), "--seed", str(seed), "--quiet"]
    command = [sys.executable, "-m", "hwloop", "bench", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                raise SystemExit("no chip is served; what is wrong is said above")
            yield address
        finally:
            process.terminate()


def start(net: nn.Module, dataset: Dataset, card_name: str, bits: int) -> tuple[ConductanceMap, Readout]:
    """Put the trained network on codes, and choose ranges of ADCs of so many bits by training images."""
    card = load_card(card_name)
    codes = {n: (q.codes, q.scale) for n, q in quantize(net, full_masks(net), card.levels, "largest").items()}
    images = dataset.train_x[:CALIBRATION_IMAGES]
    mapped = build_map(FACTORY, net, codes, card, SHAPE, calibrate_inputs(net, images))
    readout = Readout(dac_bits=8)
    return mapped, Ranges(net, mapped, BELIEVED, readout, seed=1, images=images).readout(readout, bits)


def read_on(
    hardware: Hardware, net: nn.Module, mapped: ConductanceMap, x: torch.Tensor, y: torch.Tensor
) -> float:
    """Accuracy of a map on a chip that holds it."""
    return accuracy(on_hardware(network_from_map(net, mapped), hardware), x, y, BATCH)


def on_chips(weights: str, chosen: argparse.Namespace) -> Iterator[tuple[int, list[float]]]:
    """Yield for each chip what the network reaches on it: as trained, trained on a model, in the loop."""
    net = build_network(FACTORY).eval()
    load_weights(net, weights)
    dataset = load_dataset("mnist", 500, 1, test_images=chosen.test)
    mapped, readout = start(net, dataset, chosen.card, chosen.adc_bits)
    x, y = dataset.test_x, dataset.test_y
    seen = dataset.train_x[: chosen.images], dataset.train_y[: chosen.images]
    choice = Retrain(epochs=chosen.epochs, images=10 * chosen.images, batch=100, distill=0.5)
    software = run_strategy(
        Task(net, mapped, no_hardware, BELIEVED, readout, dataset,
             choice.model_copy(update={"strategy": "variation"}), seed=1, teacher=net)
    ).conductance_map  # fmt: skip
    for seed in map(int, chosen.chips.split(",")):
        with served(chosen.card, chosen.adc_bits, seed) as address:
            found, by_training = [], []
            for start_map in (mapped, software):
                hardware = connect(address, readout)
                hardware.program(start_map)
                by_training.append(read_on(hardware, net, start_map, *(part[:500] for part in seen)))
                found.append(read_on(hardware, net, start_map, x, y))
                hardware.close()
            best = (mapped, software)[by_training.index(max(by_training))]
            task = Task(
                net, best, lambda _, address=address: connect(address, readout), BELIEVED, readout,
                replace(dataset, train_x=seen[0], train_y=seen[1]),
                choice.model_copy(update={"strategy": "chip"}), seed=1, teacher=net,
            )  # fmt: skip
            outcome = run_strategy(task)
            assert outcome.hardware is not None
            found.append(read_on(outcome.hardware, net, outcome.conductance_map, x, y))
        yield seed, [accuracy(net, x, y), *found]


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, nargs="+", help="of hwloop.networks:lenet, trained")
    parser.add_argument("--chips", default="1,2,3", help="seeds of the chips that each network meets")
    parser.add_argument("--card", default="generic-10k")
    parser.add_argument("--adc-bits", type=int, default=4)
    parser.add_argument("--images", type=int, default=2000, help="training images of chip-in-the-loop")
    parser.add_argument("--test", type=int, default=500, help="test images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# LeNet on chips that only their readout tells of",
        "",
        f"Made by `benchmarks/bench_loop.py`: card {chosen.card}, {chosen.adc_bits}-bit ADCs, over TCP; "
        f"{chosen.images}",
        f"training images on the chip, ten times as many on modelled arrays, {chosen.test} test images. %.",
        "",
        "| training | chip | digital | nothing done | trained on modelled arrays | chip-in-the-loop |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    rows = []
    for number, weights in enumerate(chosen.weights, 1):
        for seed, found in on_chips(weights, chosen):
            rows.append(torch.tensor(found) * 100)
            lines.append(f"| {number} | {seed} | " + " | ".join(f"{v:.1f}" for v in rows[-1]) + " |")
            print(lines[-1], flush=True)
    if len(rows) > 1:
        spread = zip(torch.stack(rows).mean(0), torch.stack(rows).std(0), strict=True)
        lines.append("| mean | | " + " | ".join(f"{mean:.2f} ± {std:.2f}" for mean, std in spread) + " |")
        print(lines[-1], flush=True)
    if chosen.out is not None:
        chosen.out.write_text("\n".join(lines) + "\n", "utf-8")


def no_hardware(name: int | str) -> Hardware:
    """Software alone asks no chip."""
    raise AssertionError(f"software alone asked for {name}")


if __name__ == "__main__":
    main()
