"""A whole layer read through ngspice, arrays and converters, against the fast path: codes and logits.

    python benchmarks/spice_layer.py MAPS.H5 [--layer conv2] [--images 16] [--reads 400] [--workers 2]

The map's network classifies test images. Its layer is read twice with the same devices and ADCs, noiseless:

* fast: the fast solver's currents, and the thresholds of the behavioural ADCs;
* SPICE: every array of the layer is a netlist that ngspice sweeps, one word line at the read voltage after
  the other; the circuit is linear, so the currents of a bit plane are sums of these. Every array has one SAR
  ADC with 2 % mismatch and an offset behind a transimpedance amplifier and a sample-and-hold. Transients find
  the thresholds that its reads can meet: conversions 0.05 and 0.01 LSB on both sides of where the model has
  them tell in which of the intervals between they lie. Each code is that of the thresholds so found.

``--reads`` conversions, drawn from all that the layer does, are also run as transients of their own. Codes
and outputs of the layer, and the logits that follow when the fast path reads the other layers, are compared.
"""

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from device_models.converters import bit_planes, dac_codes
from hwloop.datasets import load_dataset
from hwloop.hardware import FastHardware, network_from_map, on_hardware
from hwloop.hardware.spice import SpiceHardware
from hwloop.line import make_wires
from hwloop.mapping import UNUSED_LINE, read_map, resolution
from hwloop.networks import build_network
from hwloop.recipe import Readout, Recipe
from hwloop.verify.readout import AdcUnderTest, adc_under_test
from spice_netlists import Job, run_jobs

MARGIN, STEPS = 0.05, (-0.05, -0.01, 0.01, 0.05)
SAR = {"kind": "sar", "unit_capacitor_mismatch": 0.02, "comparator_offset": 0.5}


class LevelTap:
    """Mixed into hardware: keeps the effective conductances that it reads through, in level steps."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.levels = {}

    def _program_tiles(self, name, conductance_map):
        actual, levels = super()._program_tiles(name, conductance_map)
        self.levels[name] = levels.copy()
        return actual, levels


class Fast(LevelTap, FastHardware):
    """The fast path."""


class Spice(LevelTap, SpiceHardware):
    """The arrays by ngspice."""


@dataclass
class Bank:
    """The ADC of one array, the LSB that its bit lines carry, and the thresholds that transients found."""

    under_test: AdcUnderTest
    fast: np.ndarray
    spice: np.ndarray
    thresholds: np.ndarray = field(default_factory=lambda: np.empty(0))
    off: np.ndarray = field(default_factory=lambda: np.empty(0))


class Replay:
    """Hardware that is the fast path but for one layer, whose outputs are given."""

    def __init__(self, hardware, layer, outputs):
        self._hardware, self._layer, self._outputs = hardware, layer, outputs

    def read(self, layer, inputs):
        """Return the given outputs, or what the hardware reads."""
        return self._outputs if layer == self._layer else self._hardware.read(layer, inputs)


class Listen:
    """Hardware that remembers what reaches one layer."""

    def __init__(self, hardware, layer):
        self._hardware, self._layer = hardware, layer

    def read(self, layer, inputs):
        """Return what the hardware reads."""
        if layer == self._layer:
            self.inputs = inputs
        return self._hardware.read(layer, inputs)


def convert_all(requests, workers):
    """Codes of many ``(under_test, currents)`` as transients of 200 reads, in order."""
    parts, jobs = [], []
    for under_test, currents in requests:
        mine = []
        for part in np.array_split(currents, max(1, -(-len(currents) // 200))):
            if len(part):
                mine.append(under_test.conversions(f"conversions {len(jobs)}", part))
                jobs.append(Job(mine[-1].title, mine[-1]))
        parts.append(mine)
    found = {}
    for result in run_jobs(jobs, workers):
        if result.values is None:
            raise SystemExit(f"{result.job.label}: {result.error}")
        found[result.job.label] = result.job.circuit.converted(result.values).codes
    return [np.concatenate([found[each.title] for each in mine] or [np.empty(0, int)]) for mine in parts]


def largest_reads(layer, banks, inputs, readout):
    """The most LSB that any read of each array meets."""
    most = []
    for (tile, _), bank in banks.items():
        rows = layer.row_index[tile].numpy()
        active = (plane[:, rows[rows != UNUSED_LINE]] for _, plane in planes_of(layer, inputs, readout))
        most.append(max(float((each @ bank.fast[rows != UNUSED_LINE]).max()) for each in active))
    return most


def find_thresholds(banks, most, workers):
    """Locate thresholds that reads can meet, between ``STEPS`` beside the model's; count conversions."""
    met, count = [], 0
    for bank, largest in zip(banks, most, strict=True):
        levels = bank.under_test.transfer.thresholds[0].numpy()
        met.append(np.flatnonzero((levels > -MARGIN) & (levels < largest + MARGIN)))
    reached = [np.zeros(len(places), int) for places in met]
    for step in STEPS:
        requests = []
        for bank, places in zip(banks, met, strict=True):
            inputs = bank.under_test.transfer.thresholds[0].numpy()[places] + step
            requests.append((bank.under_test, inputs / gain(bank) * bank.under_test.front.lsb_current))
            count += len(places)
        for total, codes, places in zip(reached, convert_all(requests, workers), met, strict=True):
            total += codes > places
    ends = np.array([-2 * MARGIN, *STEPS, 2 * MARGIN])
    for bank, total, places in zip(banks, reached, met, strict=True):
        bank.thresholds = bank.under_test.transfer.thresholds[0].numpy().copy()
        # Of four rising inputs those above the threshold reach its code: that many steps lie above it.
        above = len(STEPS) - total
        bank.off = (ends[above] + ends[above + 1]) / 2
        bank.thresholds[places] += bank.off
    return count


def gain(bank):
    """LSB at the ADC for an LSB of current."""
    return bank.under_test.front.gain(bank.under_test.adc.lsb)


def make_banks(layer, fast, spice, conductance_map, readout, seed):
    """The ADCs of the arrays of a layer that have cells, by tile and polarity; a weight has one slice."""
    card, found, banks = conductance_map.card, resolution(layer, conductance_map.card.levels, readout), {}
    for tile, polarity, slice_ in np.argwhere(layer.codes.numpy().any(axis=(3, 4))).tolist():
        place = (tile, polarity, slice_)
        siemens = layer.actual[place].double()
        under_test = adc_under_test(
            readout.adc,
            int(found.bits[tile]),
            found.lsb * card.g_step * card.read_voltage.value,
            1 / float(siemens.sum(0).max()),
            polarity * layer.slices + slice_,
            seed,
            ("adc", 0, layer.name, tile),
        )
        levels = (hardware.levels[layer.name][place] / found.lsb for hardware in (fast, spice))
        banks[place[:2]] = Bank(under_test, *levels)
    return banks


def planes_of(layer, inputs, readout):
    """Bit planes of the DAC codes: sign and place value, and float64 ``[vectors, matrix rows]``."""
    for sign in (1, -1) if layer.input_signed else (1,):
        codes = dac_codes(sign * inputs, layer.input_scale, readout.dac_bits)
        for bit, plane in enumerate(bit_planes(codes, readout.dac_bits)):
            yield sign * 2**bit, plane.double().numpy()


def read_layer(layer, banks, inputs, readout, rng, reads):
    """Read a layer twice; return outputs in LSB times input codes, counts, and a sample of single reads."""
    totals = {name: np.zeros((len(inputs), layer.matrix_shape[1])) for name in ("fast", "spice")}
    counts, sample = {"reads": 0, "clear": 0, "unequal": 0, "unequal clear": 0}, defaultdict(list)
    for (tile, polarity), bank in banks.items():
        rows, cols = layer.row_index[tile].numpy(), layer.col_index[tile].numpy()
        used, placed = rows != UNUSED_LINE, cols != UNUSED_LINE
        model = bank.under_test.transfer.thresholds[0].numpy()
        edges = np.concatenate([[-np.inf], model, [np.inf]])
        share = gain(bank)
        for value, plane in planes_of(layer, inputs, readout):
            active = plane[:, rows[used]]
            seen, by_spice = (active @ x[used][:, placed] * share for x in (bank.fast, bank.spice))
            codes = np.searchsorted(model, seen, side="right")
            found = np.searchsorted(bank.thresholds, by_spice, side="right")
            clear = np.minimum(seen - edges[codes], edges[codes + 1] - seen) >= MARGIN
            sign = value if polarity == 0 else -value
            totals["fast"][:, cols[placed]] += sign * codes
            totals["spice"][:, cols[placed]] += sign * found
            counts["reads"] += codes.size
            counts["clear"] += int(clear.sum())
            counts["unequal"] += int((codes != found).sum())
            counts["unequal clear"] += int((codes != found)[clear].sum())
            share_of_reads = 1 + reads // (len(banks) * readout.dac_bits * (1 + layer.input_signed))
            few = rng.choice(codes.size, share_of_reads, replace=False)
            sample[tile, polarity].append([x.ravel()[few] for x in (by_spice / share, codes, clear)])
    merged = {
        key: [np.concatenate(parts) for parts in zip(*each, strict=True)] for key, each in sample.items()
    }
    return totals, counts, merged


def main():
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maps", type=Path)
    parser.add_argument("--layer", default="conv2")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--reads", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    stored = read_map(options.maps)
    recipe = Recipe.model_validate(stored.attributes.get("recipe", {}))
    quiet = stored.card.read_noise.model_copy(update={"value": 0.0})
    whole = replace(stored, card=stored.card.model_copy(update={"read_noise": quiet}))
    readout = Readout.model_validate({"dac_bits": recipe.hardware.dac_bits, "adc": SAR})
    wires, seed = make_wires(recipe.hardware), recipe.seed
    dataset = load_dataset(recipe.data.name, recipe.data.validation, recipe.seed)
    x = dataset.test_x[: options.images].clone()
    started = time.perf_counter()

    def say(text):
        print(f"{time.perf_counter() - started:6.0f} s  {text}", flush=True)

    fast, spice = Fast(wires, readout, seed=seed), Spice(wires, readout, seed=seed, workers=options.workers)
    programmed = fast.program(whole)
    layer = programmed.layers[options.layer]
    spice.program(replace(whole, layers={options.layer: whole.layers[options.layer]}))
    difference = (fast.levels[options.layer] - spice.levels[options.layer]).sum(-2)
    worst = np.abs(difference).max() / (whole.card.levels * whole.array_shape[0])
    say(
        f"ngspice solved the arrays of {options.layer}: bit lines differ by at most {worst:.1e} of full scale"
    )

    banks = make_banks(layer, fast, spice, whole, readout, seed)
    net = network_from_map(build_network(stored.network), whole)
    listener = Listen(fast, options.layer)
    with torch.no_grad():
        logits = on_hardware(net, listener).eval()(x)
    inputs = listener.inputs
    most = largest_reads(layer, banks, inputs, readout)
    count = find_thresholds(list(banks.values()), most, options.workers)
    off = np.abs(np.concatenate([bank.off for bank in banks.values()]))
    say(
        f"{len(banks)} ADCs: {len(off)} thresholds by {count} conversions; {int((off < 0.01).sum())} lie "
        f"within 0.01 LSB of the model's, {int((off > MARGIN).sum())} not within {MARGIN}"
    )
    rng = np.random.default_rng(0)
    totals, counts, sample = read_layer(layer, banks, inputs, readout, rng, options.reads)
    say(
        f"{counts['reads']} reads of {len(inputs)} vectors: {counts['unequal clear']} of {counts['clear']} "
        f"clear reads differ, {counts['unequal']} of all"
    )
    requests = [
        (banks[key].under_test, sample[key][0] * banks[key].under_test.front.lsb_current) for key in banks
    ]
    wrong = near = total = 0
    for codes, key in zip(convert_all(requests, options.workers), banks, strict=True):
        _, expected, clear = sample[key]
        wrong += int((codes != expected)[clear].sum())
        near += int((~clear).sum())
        total += len(codes)
    say(f"{total} of them as transients of their own: {wrong} of {total - near} clear ones differ")

    unit = layer.weight_per_siemens * whole.g_step * layer.input_scale / (2**readout.dac_bits - 1)
    unit *= resolution(layer, whole.card.levels, readout).lsb
    outputs = {name: torch.from_numpy(value * unit).float() for name, value in totals.items()}
    path = fast.read(options.layer, inputs)
    with torch.no_grad():
        by_spice = on_hardware(net, Replay(fast, options.layer, outputs["spice"])).eval()(x)
    apart = {name: float((y - path).abs().max() / path.abs().max()) for name, y in outputs.items()}
    say(
        f"outputs of the layer differ by at most {apart['spice']:.1e} of the largest "
        f"(models alone: {apart['fast']:.1e})"
    )
    same = int((by_spice.argmax(1) == logits.argmax(1)).sum())
    largest = float((by_spice - logits).abs().max() / logits.abs().max())
    say(f"logits differ by at most {largest:.1e} of the largest; {same} of {len(x)} images keep their class")


if __name__ == "__main__":
    main()
