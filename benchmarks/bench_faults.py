"""Whether a run at a bench survives its wire, its instrument and its own death with the same result.

Each run programs a small trained network layer by layer onto a virtual instrument over TCP, reads each layer
on training images, trims its biases from the readout alone, and reads test images. The run is disturbed at
random moments: connections are cut, bytes changed on the way, answers withheld, the instrument lost for good
until the run is started again, the client killed. Every run must end with exactly what an undisturbed one
gives: conductances, trimmed biases and outputs, to the bit.

    python benchmarks/bench_faults.py --out docs/results/bench-faults.md
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from faulty_wire import Fault, FaultyWire
from sklearn.datasets import load_digits
from torch import nn

from device_models import load_card
from hwloop.bench import BenchError, BenchServer, connect, virtual_instrument
from hwloop.hardware import (
    Hardware,
    RecordedHardware,
    RecordingHardware,
    calibrate_inputs,
    network_from_map,
    on_hardware,
)
from hwloop.mapping import ConductanceMap, build_map
from hwloop.networks import crossbar_layers, to_matrix

CARD = load_card("rram-neurram")
SHAPE = (16, 16)
IMAGES = 60
TIMEOUT = 0.4


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images of 8x8 pixels and their labels."""
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(y)


def trained() -> tuple[nn.Module, ConductanceMap]:
    """Return a small network that was trained on digits, and its map."""
    torch.manual_seed(0)
    net = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 8, 3),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(72, 24),
            relu1=nn.ReLU(),
            fc2=nn.Linear(24, 10),
        )
    )
    x, y = digits()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for step in range(300):
        part = slice(step * 50 % 1200, step * 50 % 1200 + 50)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[part]), y[part]).backward()
        optimizer.step()
    quantized = {}
    for name, layer in crossbar_layers(net).items():
        matrix = to_matrix(layer).detach()
        scale = float(matrix.abs().max()) / CARD.levels
        quantized[name] = ((matrix / scale).round().to(torch.int8), scale)
    scales = calibrate_inputs(net, x[:200])
    return net, build_map("benchmarks:digits", net, quantized, CARD, SHAPE, scales)


def run(hardware: Hardware, net: nn.Module, conductance_map: ConductanceMap) -> str:
    """Put a network onto a chip layer by layer; return a digest of all that came of it."""
    x, _ = digits()
    digest = hashlib.sha256()
    reached = conductance_map
    for name in conductance_map.layers:
        programmed = hardware.program(reached, [name])
        digest.update(programmed.layers[name].actual.numpy().tobytes())
        ideal = network_from_map(net, reached).eval()
        wanted = outputs_of(ideal, x[:IMAGES], name)
        found = outputs_of(part_on(hardware, ideal, name), x[:IMAGES], name)
        bias = reached.digital[f"{name}.bias"] + (wanted - found).mean(dim=0)
        reached = replace(reached, digital={**reached.digital, f"{name}.bias": bias})
        digest.update(bias.numpy().tobytes())
    with torch.no_grad():
        logits = on_hardware(network_from_map(net, reached), hardware).eval()(x[-IMAGES:])
    digest.update(logits.numpy().tobytes())
    return digest.hexdigest()


def part_on(hardware: Hardware, net: nn.Module, last: str) -> nn.Module:
    """Return the network on hardware up to a layer; what follows has not been programmed yet."""
    names = list(crossbar_layers(net))
    whole = on_hardware(net, hardware).eval()
    for name in names[names.index(last) + 1 :]:
        setattr(whole, name, getattr(net, name))
    return whole


def outputs_of(net: nn.Module, x: torch.Tensor, name: str) -> torch.Tensor:
    """Return what a layer gives, ``[vectors, channels]``."""
    seen: list[torch.Tensor] = []
    handle = net.get_submodule(name).register_forward_hook(lambda *found: seen.append(found[2]))
    with torch.no_grad():
        net(x)
    handle.remove()
    return seen[0].movedim(1, -1).flatten(0, -2)


@contextmanager
def served() -> Iterator[BenchServer]:
    """A fresh virtual instrument with the same chip."""
    instrument = virtual_instrument(CARD, arrays=64, array_shape=SHAPE, adc_bits=10, seed=7)
    with BenchServer(instrument) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


def at(moments: set[int], fault: Fault) -> Callable[[str, int], Fault]:
    """A fault in chunks of bytes with these numbers."""
    return lambda _, number: fault if number in moments else Fault.NONE


def from_moment(moment: int) -> Callable[[str, int], Fault]:
    """The wire is dead from one moment on."""
    return lambda _, number: Fault.CUT if number >= moment else Fault.NONE


def disturbed(choose: Callable[[str, int], Fault], *prepared: object) -> tuple[str, int]:
    """Run once over a wire with faults; return the digest and how many faults there were."""
    with served() as server, FaultyWire(server.port, choose) as wire:
        hardware = connect(wire.address, timeout=TIMEOUT, attempts=8)
        found = run(hardware, *prepared)  # type: ignore[arg-type]
        hardware.close()
        return found, wire.faults


def lost(moments: list[int], *prepared: object) -> tuple[str, int]:
    """Lose the instrument for good at each of these moments in turn; each time the run is started again."""
    with served() as server, tempfile.TemporaryDirectory() as folder:
        for number, moment in enumerate([*moments, sys.maxsize]):
            with FaultyWire(server.port, from_moment(moment)) as wire:
                try:
                    hardware = connect(wire.address, timeout=TIMEOUT, attempts=2)
                    with RecordingHardware(hardware, Path(folder) / "run.h5") as recording:
                        return run(recording, *prepared), number  # type: ignore[arg-type]
                except BenchError:
                    continue
    raise AssertionError("the last run is not disturbed")


def killed(delays: list[float], *_prepared: object) -> tuple[str, int]:
    """The client's process is killed after each of these delays in turn; each time it is started again."""
    kills = 0
    with served() as server, tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "run.h5"
        command = [sys.executable, __file__, "--worker", f"127.0.0.1:{server.port}", str(record)]
        for delay in [*delays, None]:
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                if delay is not None and process.stdout.readline() == "ready\n":
                    time.sleep(delay)
                    process.send_signal(signal.SIGKILL)
                told = process.stdout.read().split()
            if process.returncode == 0:
                return told[-1], kills
            kills += 1
    raise AssertionError("the last run is not disturbed")


def worker(address: str, record: Path) -> None:
    """Run once; go on from a record if there is one, and replay it if it is whole."""
    prepared = trained()
    print("ready", flush=True)
    if record.exists():
        found = run(RecordedHardware(record), *prepared)
    else:
        with RecordingHardware(connect(address, timeout=TIMEOUT), record) as recording:
            found = run(recording, *prepared)
    print(found, flush=True)


def main() -> None:
    """Run the campaign and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--others", type=int, default=20, help="runs of each other kind")
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", nargs=2, metavar=("ADDRESS", "RECORD"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.worker:
        worker(options.worker[0], Path(options.worker[1]))
        return
    rng, prepared = random.Random(options.seed), trained()
    chunks = [0]

    def count(_: str, number: int) -> Fault:
        chunks[0] = max(chunks[0], number + 1)
        return Fault.NONE

    for _ in range(2):  # the second time, everything has been compiled
        chunks[0], begun = 0, time.monotonic()
        with served() as server, FaultyWire(server.port, count) as wire:
            reference = run(connect(wire.address), *prepared)
        seconds = time.monotonic() - begun
    moments = range(4, chunks[0])
    kinds: dict[str, list[Callable[[], tuple[str, int]]]] = {
        "connection cut at one random moment": [
            lambda: disturbed(at({rng.choice(moments)}, Fault.CUT), *prepared) for _ in range(options.cuts)
        ],
        "connection cut at ten random moments": [
            lambda: disturbed(at(set(rng.sample(moments, 10)), Fault.CUT), *prepared)
            for _ in range(options.others)
        ],
        "a byte changed at ten random moments, either way": [
            lambda: disturbed(at(set(rng.sample(moments, 10)), Fault.GARBLE), *prepared)
            for _ in range(options.others)
        ],
        "instrument silent at three random moments": [
            lambda: disturbed(at(set(rng.sample(moments, 3)), Fault.HANG), *prepared)
            for _ in range(options.others)
        ],
        "instrument lost for good three times, run started again": [
            lambda: lost(sorted(rng.sample(moments, 3)), *prepared) for _ in range(options.others)
        ],
        "client killed (SIGKILL) twice, run started again": [
            lambda: killed([rng.uniform(0, seconds) for _ in range(2)]) for _ in range(options.kills)
        ],
    }
    lines = [
        "| disturbance | runs | faults that happened | ended with the undisturbed result |",
        "|---|---|---|---|",
    ]
    failed = 0
    for kind, runs in kinds.items():
        results = [one() for one in runs]
        same = sum(digest == reference for digest, _ in results)
        failed += len(results) - same
        lines.append(f"| {kind} | {len(results)} | {sum(n for _, n in results)} | {same} |")
        print(lines[-1], f" {time.monotonic() - begun:.0f} s", flush=True)
    arrays = sum(int(np.prod(layer.codes.shape[:3])) for layer in prepared[1].layers.values())
    told = [
        "# A bench whose wire fails",
        "",
        f"`python benchmarks/bench_faults.py --seed {options.seed}`: a virtual instrument over TCP through a "
        "proxy that fails at random moments. A run programs a network (conv 3x3, fc 72-24, fc 24-10; "
        f"{arrays} arrays of {SHAPE[0]}x{SHAPE[1]}, card {CARD.name}) layer by layer, reads each layer on "
        f"{IMAGES} training images, trims its biases from the readout, and reads {IMAGES} test images: "
        f"{chunks[0]} pieces of bytes on the wire when nothing fails. The same result = the same "
        "conductances, biases and outputs, to the bit.",
        "",
        *lines,
    ]
    print(f"undisturbed: {chunks[0]} chunks, {seconds:.1f} s; {failed} runs failed")
    if options.out:
        options.out.write_text("\n".join(told) + "\n", "utf-8")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
