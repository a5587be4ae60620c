"""How long one image takes through LeNet on 64×64 arrays.

    python benchmarks/read_speed.py [--cross-sim PATH]

The network is dense LeNet with weights on 15 levels, trained for one epoch (or loaded): 121 tile positions,
242 arrays. The images are MNIST's. With CrossSim importable, or its checkout given, both run the same network
on the same images with the same array size, input ranges and input bits (8, and a sign where a layer's inputs
have one). Times are the best of several rounds, on as many threads as torch uses.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from device_models import DeviceCard, load_card
from device_models.converters import SarAdc
from device_models.crossbar import Wires
from hwloop.datasets import load_dataset
from hwloop.hardware import FastHardware, calibrate_inputs, network_from_map, on_hardware
from hwloop.mapping import ConductanceMap, build_map
from hwloop.networks import crossbar_layers, lenet, load_weights
from hwloop.quantization import quantize
from hwloop.recipe import Readout
from hwloop.training import accuracy, fit

SEED = 1
ARRAY = 64
DAC_BITS = 8
ADC_BITS = 10  # lossless for 64 cells of 15 levels
NO_WIRES = Wires(0.0, 0.0)
WIRES = Wires(2.0, 2.0)
MISMATCHED = SarAdc(unit_capacitor_mismatch=0.01, comparator_offset=0.5)
SAR = Readout(dac_bits=DAC_BITS, adc=MISMATCHED, bit_lines_per_adc=1)
NOISY_SAR = SAR.model_copy(update={"adc": MISMATCHED.model_copy(update={"noise": 0.3})})


def main() -> None:
    """Measure, and print one table."""
    arguments = _arguments()
    torch.manual_seed(SEED)
    data = load_dataset("mnist", 5000, SEED)
    net = lenet()
    if arguments.weights:
        load_weights(net, arguments.weights)
    else:
        fit(net, data, epochs=1, batch=128, learning_rate=2e-3, seed=SEED, station="training")
    x, y = data.test_x[: arguments.images], data.test_y[: arguments.images]
    noisy = load_card("rram-neurram")
    quiet = _without_read_noise(noisy)
    maps = {card: dense_map(net, data.train_x[:5000], card) for card in (load_card("ideal"), quiet, noisy)}
    quantized = network_from_map(net, maps[noisy])
    print(
        f"dense LeNet, {maps[noisy].arrays()} arrays of {ARRAY}×{ARRAY}, {DAC_BITS}-bit inputs, "
        f"{len(x)} images in batches of {arguments.batch}, {torch.get_num_threads()} threads"
    )
    print(f"{'':64}{'ms/image':>9}{'accuracy':>10}")
    row("torch, float32", quantized, x, y, arguments)
    plain = Readout(dac_bits=DAC_BITS)
    modes = {
        "no wires, ADC lossless, read collapsed": (maps[load_card("ideal")], NO_WIRES, True, plain),
        "no wires, programming error, ADC per bit and polarity": (maps[quiet], NO_WIRES, True, plain),
        "the same with 1 % read noise": (maps[noisy], NO_WIRES, True, plain),
        "2 Ω wires, programming error, no ADC, no noise": (maps[quiet], WIRES, False, plain),
        "2 Ω wires, programming error, ADC per bit and polarity, noise": (maps[noisy], WIRES, True, plain),
        "no wires, a mismatched SAR ADC on every column": (maps[quiet], NO_WIRES, True, SAR),
        "the same with noise of cells and converters": (maps[noisy], NO_WIRES, True, NOISY_SAR),
    }
    ours = {}
    for title, (conductance_map, wires, adc, readout) in modes.items():
        hardware = FastHardware(wires, readout, seed=SEED, adc=adc)
        start = time.perf_counter()
        hardware.program(conductance_map)
        seconds = time.perf_counter() - start
        running = on_hardware(quantized, hardware, arguments.images_at_once)
        ours[title] = row(f"hwloop: {title}", running, x, y, arguments, f"  programmed in {seconds:.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"most memory so far {peak:.2f} GiB, with {arguments.images_at_once or 'all'} images at once")
    if arguments.cross_sim:
        sys.path.insert(0, arguments.cross_sim)
    if importlib.util.find_spec("simulator") is None:
        print("CrossSim: not importable; give its checkout as --cross-sim PATH")
        return
    collapsed, per_bit, _, wired, everything, sar, _ = ours.values()
    for title, options, few, ratios in (
        ("no wires, no ADC", {}, None, {"collapsed": collapsed}),
        (
            "no wires, ADC per bit of the difference",
            {"sliced": True},
            None,
            {"ADC per bit": per_bit, "SAR ADC": sar},
        ),
        (
            "no wires, ADC per bit and polarity",
            {"sliced": True, "both_polarities": True},
            None,
            {"ADC per bit": per_bit, "SAR ADC": sar},
        ),
        (
            "2 Ω wires, no ADC",
            {"wires": True},
            arguments.wire_images,
            {"wires, no ADC": wired},
        ),
        (
            "2 Ω wires, ADC per bit and polarity",
            {"wires": True, "sliced": True, "both_polarities": True},
            arguments.wire_images,
            {"wires, ADC per bit, noise": everything},
        ),
    ):
        other = cross_sim(quantized, maps[noisy], **options)
        theirs = row(f"CrossSim: {title}", other, x[:few], y[:few], arguments)
        for name, own in ratios.items():
            print(f"    {theirs / own:.1f} times what hwloop takes ({name})")


def dense_map(net: nn.Module, images: torch.Tensor, card: DeviceCard) -> ConductanceMap:
    """Map the network without pruning."""
    layers = crossbar_layers(net)
    masks = {
        name: torch.ones(layer.weight[0].numel(), layer.weight.shape[0], dtype=torch.bool)
        for name, layer in layers.items()
    }
    codes = {name: (layer.codes, layer.scale) for name, layer in quantize(net, masks, card.levels).items()}
    return build_map("hwloop.networks:lenet", net, codes, card, (ARRAY, ARRAY), calibrate_inputs(net, images))


def cross_sim(
    net: nn.Module,
    conductance_map: ConductanceMap,
    *,
    sliced: bool = False,
    both_polarities: bool = False,
    wires: bool = False,
) -> nn.Module:
    """Return the network on CrossSim's cores: balanced, same array size, same input ranges."""
    simulator = importlib.import_module("simulator")
    convert = importlib.import_module("simulator.algorithms.dnn.torch.convert")
    adc_parameters = importlib.import_module("simulator.parameters.xbar_parameters")
    all_parameters = []
    for layer in conductance_map.layers.values():
        parameters = simulator.CrossSimParameters()
        parameters.core.style = "BALANCED"
        parameters.core.rows_max = parameters.core.cols_max = ARRAY
        parameters.core.balanced.style = "ONE_SIDED"
        parameters.core.balanced.subtract_current_in_xbar = not both_polarities
        parameters.core.mapping.weights.percentile = 1.0
        parameters.core.mapping.inputs.mvm.min = -layer.input_scale if layer.input_signed else 0.0
        parameters.core.mapping.inputs.mvm.max = layer.input_scale
        parameters.core.mapping.inputs.mvm.clipping = True
        parameters.xbar.device.infinite_on_off_ratio = True
        parameters.xbar.device.Rmin = 1 / conductance_map.card.g_max.value
        parameters.xbar.dac.mvm.model = "SignMagnitudeDAC" if layer.input_signed else "QuantizerDAC"
        parameters.xbar.dac.mvm.signed = layer.input_signed
        parameters.xbar.dac.mvm.bits = DAC_BITS + layer.input_signed
        if sliced:
            parameters.xbar.dac.mvm.input_bitslicing = True
            parameters.xbar.dac.mvm.slice_size = 1
            signed = layer.input_signed or not both_polarities
            parameters.xbar.adc.mvm.model = "SignMagnitudeADC" if signed else "QuantizerADC"
            parameters.xbar.adc.mvm.signed = signed
            parameters.xbar.adc.mvm.bits = ADC_BITS + signed
            parameters.xbar.adc.mvm.adc_per_ibit = True
            parameters.xbar.adc.mvm.adc_range_option = adc_parameters.ADCRangeLimits.MAX
        if wires:
            parameters.xbar.array.parasitics.enable = True
            parameters.xbar.array.parasitics.Rp_row = 2.0
            parameters.xbar.array.parasitics.Rp_col = 2.0
            parameters.simulation.Verr_th_mvm = 2e-4
        all_parameters.append(parameters)
    converted: nn.Module = convert.from_torch(net, all_parameters)
    return converted.eval()


def row(
    title: str,
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    arguments: argparse.Namespace,
    note: str = "",
) -> float:
    """Time the network, print one row and return milliseconds per image."""
    right = accuracy(
        net, x[: arguments.batch], y[: arguments.batch], arguments.batch
    )  # compiles and warms up
    best = min(_seconds(lambda: accuracy(net, x, y, arguments.batch)) for _ in range(arguments.rounds))
    print(f"{title:64}{best / len(x) * 1e3:9.3f}{right:10.4f}{note}", flush=True)
    return best / len(x) * 1e3


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _without_read_noise(card: DeviceCard) -> DeviceCard:
    fields = card.model_dump()
    fields["read_noise"]["value"] = 0.0
    return DeviceCard.model_validate(fields)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1024, help="images of the fast modes")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument(
        "--images-at-once",
        type=int,
        help="images of a batch that go through hwloop together; bounds its memory",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wire-images", type=int, default=2, help="images of CrossSim's wire mode")
    parser.add_argument(
        "--weights", default="", help="safetensors file of a LeNet; without it, one is trained"
    )
    parser.add_argument("--cross-sim", default="", type=str, help="checkout of sandialabs/cross-sim")
    arguments = parser.parse_args()
    if arguments.cross_sim and not (Path(arguments.cross_sim) / "simulator").is_dir():
        parser.error(f"--cross-sim: {arguments.cross_sim} has no folder simulator")
    return arguments


if __name__ == "__main__":
    warnings.simplefilter("ignore", category=FutureWarning)
    main()
