"""What a step of retraining costs beside the plain digital step: LeNet, all in one run, taking turns.

    python benchmarks/training_step.py [--batch 128] [--rows 64] [--steps 15] [--threads 2] [--exact]

aihwkit-lightning's analog layers step beside them if the package can be imported: rows of the same arrays,
DAC and ADC of the same bits, weight noise in every step; they know no wires, idle or stuck cells. Seconds are
those of the processor (all threads together), so that other work on the machine counts less.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from device_models.crossbar import Wires
from device_models.generic import generic_card
from hwloop.hardware import calibrate_inputs, network_from_map
from hwloop.mapping import build_map
from hwloop.networks import build_network
from hwloop.pruning import full_masks
from hwloop.quantization import quantize
from hwloop.recipe import Readout
from hwloop.training.codes import Codes
from hwloop.training.surrogate import SurrogateLayer, make_arrays, surrogate_network

FACTORY, WIRES, SEED, REFRESH = "hwloop.networks:lenet", Wires(5.0, 5.0), 1, 20
READOUT = Readout(dac_bits=8, bits_per_cycle=8, subtraction="analog", adc_bits=6)

Step = Callable[[], None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exact", action="store_true", help="also the step that solves all wires")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    images, labels = torch.rand(chosen.batch, 1, 28, 28), torch.randint(10, (chosen.batch,))
    steps, refresh = make_steps(images, labels, chosen.rows, exact=chosen.exact)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(chosen.steps + 2):
        for name, step in steps.items():
            started = time.process_time()
            step()
            if number >= 2:
                seconds[name].append(time.process_time() - started)
    started = time.process_time()
    refresh()
    solved = time.process_time() - started
    plain = statistics.median(seconds["plain digital"])
    print(f"LeNet, batch {chosen.batch}, {chosen.rows} rows, {chosen.threads} threads, {chosen.steps} steps")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:<32}{1e3 * median:8.1f} ms {median / plain:6.2f} x  (fastest {1e3 * min(values):.1f})")
    share = statistics.median(seconds["variation-aware"]) + solved / REFRESH
    print(f"wires solved once: {1e3 * solved:.0f} ms; every {REFRESH} steps: {share / plain:.2f} x")


def make_steps(
    images: torch.Tensor, labels: torch.Tensor, rows: int, *, exact: bool
) -> tuple[dict[str, Step], Callable[[], None]]:
    """Return one step of each kind of training, and what solves the wires of the variation-aware one."""
    net = build_network(FACTORY, SEED)
    card = generic_card(1e4, variation=0.1, stuck=1e-3)
    layers = quantize(net, full_masks(net), card.levels, "largest")
    codes = {name: (layer.codes, layer.scale) for name, layer in layers.items()}
    whole = build_map(FACTORY, net, codes, card, (rows, rows), calibrate_inputs(net, images))

    def modelled(solve: bool) -> tuple[nn.Module, dict[str, SurrogateLayer], Codes]:
        arrays = make_arrays(whole, WIRES, READOUT, SEED, exact=solve)
        model = surrogate_network(network_from_map(net, whole), whole, arrays)
        held = {m.name: m for m in model.modules() if isinstance(m, SurrogateLayer)}
        return model, held, Codes(whole, held)

    model, held, kept = modelled(False)
    steps = {
        "plain digital": _step(network_from_map(net, whole), images, labels),
        "variation-aware": _step(model, images, labels, kept.constrain),
    }
    if exact:
        solving, _, solving_kept = modelled(True)
        steps["IR-drop-aware"] = _step(solving, images, labels, solving_kept.constrain)
    if (analog := _lightning(network_from_map(net, whole), rows)) is not None:
        steps["aihwkit-lightning"] = _step(analog, images, labels)

    def refresh() -> None:
        for layer in held.values():
            layer.refresh()

    refresh()
    return steps, refresh


def _step(
    net: nn.Module, images: torch.Tensor, labels: torch.Tensor, after: Callable[[], None] | None = None
) -> Step:
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
        if after is not None:
            after()

    return step


def _lightning(net: nn.Module, rows: int) -> nn.Module | None:
    """Return the network with analog layers of aihwkit-lightning, or None if it is not there."""
    try:
        conversion = importlib.import_module("aihwkit_lightning.nn.conversion")
        configs = importlib.import_module("aihwkit_lightning.simulator.configs")
        parameters = importlib.import_module("aihwkit_lightning.simulator.parameters")
    except ImportError:
        print("aihwkit-lightning is not there: it steps not beside the others")
        return None
    config = configs.TorchInferenceRPUConfig()
    config.forward.inp_res, config.forward.out_res, config.forward.out_bound = 254, 62, 10.0
    config.modifier.std_dev = 0.1
    config.modifier.noise_type = parameters.WeightNoiseInjectionType.ADD_NORMAL
    config.mapping.max_input_size = rows
    config.pre_post.input_range.enable = True
    found: nn.Module = conversion.convert_to_analog(net, config)
    return found


if __name__ == "__main__":
    main()
