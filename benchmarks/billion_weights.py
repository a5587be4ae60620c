"""A map of a billion weights, made, checked, programmed and solved tile by tile in little memory.

    python benchmarks/billion_weights.py --weights 1e7 --folder maps --solve 200 --out points.json

The network is a stack of linear layers of random level codes, drawn layer by layer from a seed; none is
pruned. Each step is a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path

import torch

from device_models import load_card
from device_models.crossbar import Wires
from device_models.random import torch_stream
from hwloop.hardware import program_stored, solve_stored
from hwloop.mapping import ConductanceMap, create_map, map_layer, validate_map

ARRAY = (64, 64)
WIDTH = 4096
"""Inputs and outputs of a layer: 16.8 million weights in 4,096 tiles."""
SEED = 1


def layers(weights: int) -> list[tuple[str, int, int]]:
    """Return name, inputs and outputs of layers with about so many weights together."""
    width = min(WIDTH, max(ARRAY[0], int(weights**0.5)) // ARRAY[0] * ARRAY[0])
    count = max(1, round(weights / width**2))
    return [(f"fc{number}", width, width) for number in range(count)]


def make(path: Path, weights: int) -> dict[str, float]:
    """Draw the weight codes of each layer, map it, and write it part by part."""
    card = load_card("rram-neurram")
    header = ConductanceMap("benchmarks:random", card, ARRAY, {}, {})
    with create_map(path, header, targets=False) as writer:
        for name, rows, cols in layers(weights):
            codes = torch.randint(
                -card.levels,
                card.levels + 1,
                (rows, cols),
                generator=torch_stream(SEED, name),
                dtype=torch.int8,
            )
            meta = torch.nn.Linear(rows, cols, bias=False, device="meta")
            tiles, parts = map_layer(name, meta, codes, 1e-3, card, ARRAY, 1.0, False, part=64)
            writer.layer(parts, tiles)
    return {}


def validate(path: Path, max_bytes: int) -> dict[str, float]:
    """Check every byte."""
    problems = validate_map(path, max_bytes)
    if problems:
        raise SystemExit("\n".join(problems))
    return {}


def program(source: Path, target: Path, max_bytes: int) -> dict[str, float]:
    """Draw the devices of every tile."""
    program_stored(source, target, seed=SEED, max_bytes=max_bytes)
    return {}


def solve(path: Path, sample: int, max_bytes: int) -> dict[str, float]:
    """Solve a sample of tiles exactly."""
    wires = Wires(word_line=2.0, bit_line=2.0, driver=100.0, sense=100.0)
    found = solve_stored(path, wires, sample=sample, seed=SEED, max_bytes=max_bytes)
    solved = sum(layer.solved for layer in found)
    return {"solved": solved, "rms_error": sum(layer.error * layer.solved for layer in found) / solved}


def alone(step, *arguments) -> dict[str, float]:
    """Run a step in a new process; return seconds by the clock and of the processor, peak memory in MiB, and
    what the step found.
    """
    context = multiprocessing.get_context("spawn")
    to, of = context.Pipe()
    process = context.Process(target=_measured, args=(of, step, *arguments))
    process.start()
    of.close()
    found = to.recv()
    process.join()
    return found


def _measured(pipe, step, *arguments) -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    found = step(*arguments)
    seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    processor = used.ru_utime + used.ru_stime
    pipe.send({"seconds": seconds, "processor": processor, "peak_mib": used.ru_maxrss / 1024, **found})


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=float, default=1e7)
    parser.add_argument("--folder", type=Path, required=True, help="where the maps are written, and removed")
    parser.add_argument("--solve", type=int, default=200, help="tiles that are solved")
    parser.add_argument("--memory", type=float, default=1e9, help="bytes that reading a map may take")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    weights, limit = int(arguments.weights), int(arguments.memory)
    maps, programmed = arguments.folder / "maps.h5", arguments.folder / "programmed.h5"
    chosen = layers(weights)
    kept = sum(rows * cols for _, rows, cols in chosen)
    point: dict[str, object] = {
        "weights": kept,
        "layers": len(chosen),
        "tiles": sum(-(-rows // ARRAY[0]) * -(-cols // ARRAY[1]) for _, rows, cols in chosen),
    }
    steps = {
        "map": (make, maps, weights),
        "validate": (validate, maps, limit),
        "program": (program, maps, programmed, limit),
        "validate_programmed": (validate, programmed, limit),
        "solve": (solve, programmed, arguments.solve, limit),
    }
    for name, (step, *rest) in steps.items():
        point[name] = alone(step, *rest)
        print(name, point[name], file=sys.stderr, flush=True)
    for name, path in (("map", maps), ("programmed", programmed)):
        point[f"{name}_bytes_per_weight"] = path.stat().st_size / kept
        path.unlink()
    text = json.dumps(point, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
