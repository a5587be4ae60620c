"""How long it takes to draw, program and read a million devices.

python benchmarks/device_speed.py [--card rram-neurram] [--devices 1000000]
"""

from __future__ import annotations

import argparse
import time

import torch

from device_models import DeviceCard, load_card, torch_stream
from device_models.memristor import program, read_noise_variance

SIDE = 64


def everything(card: DeviceCard) -> DeviceCard:
    """The card with variation, stuck cells on top of what it has."""
    number = {"unit": "1", "source": "benchmark"}
    siemens = {"unit": "S", "source": "benchmark"}
    stuck = {"off": {"value": 0.01, **number}, "on": {"value": 0.01, **number}}
    stuck |= {"g_off": {"value": 1e-7, **siemens}, "g_on": {"value": card.g_max.value, **siemens}}
    spread = {f"between_{n}": {"value": 0.03, **number} for n in ("arrays", "devices", "cycles")}
    spread["correlation_length"] = {"value": 3.0, **number}
    return DeviceCard.model_validate(card.model_dump() | {"version": 2, "stuck": stuck, "variation": spread})


def main() -> None:
    """Time it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--card", default="rram-neurram")
    parser.add_argument("--devices", type=int, default=1_000_000)
    options = parser.parse_args()
    card = load_card(options.card)
    tiles = -(-options.devices // (SIDE * SIDE))
    levels = torch.randint(1, card.levels + 1, (tiles, SIDE, SIDE), generator=torch_stream(1, "benchmark"))
    target = levels * card.g_step
    program(target[:1], card, 1, 0, "warm")
    for name, one in (("the card", card), ("with variation, stuck cells", everything(card))):
        started = time.perf_counter()
        g = program(target, one, 1, 0, "layer")
        programmed = time.perf_counter()
        sigma = read_noise_variance(g, one.read_noise.value).sqrt()
        g + sigma * torch.randn(g.shape, generator=torch_stream(1, "read"))
        ended = time.perf_counter()
        print(
            f"{one.name}, {name}: {g.numel():,} devices, programmed in {programmed - started:.2f} s,"
            f" read in {ended - programmed:.2f} s, {ended - started:.2f} s in all"
        )


if __name__ == "__main__":
    main()
