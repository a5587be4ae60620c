"""How many bits the ADCs of a map need: exactly, to lose nothing, and by search, to keep accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

import torch
from torch import nn

from device_models.crossbar import Wires
from hwloop.datasets import Goal
from hwloop.hardware import FastHardware, network_from_map, on_hardware
from hwloop.mapping import (
    UNUSED_LINE,
    ConductanceMap,
    LayerMap,
    exact_adc_bits,
    full_scale,
    largest_sums,
    resolution,
)
from hwloop.networks import Batch
from hwloop.observe import adc_counts
from hwloop.recipe import Readout
from hwloop.training import accuracy

Chosen = TypeVar("Chosen", bound=Readout)

CALIBRATION_IMAGES = 200
"""Training images that ranges are chosen by, unless said otherwise."""

_FINE = 0.5  # level steps: how finely currents are told apart when ranges are chosen,
_MOST_STEPS = 1 << 14  # unless that were more steps than these
_RANGES = 32  # candidates of the range for each resolution
_NARROWEST = 16  # of them, the largest current over the narrowest range


@dataclass(frozen=True)
class LayerNeed:
    """Bits that lose nothing of what the bit lines of a layer can carry.

    Attributes:
        tiles: tile positions.
        conducting: l, most conducting cells in a bit line.
        formula: TinyADC's bits of the worst tile, from l alone.
        exact: bits of each bit line from the levels of its own cells, int64
            ``[tiles, polarity, slice, cols]``, 0 on unused bit lines.
        leakage: most LSB that cells which ought not to conduct add to a bit line.
        with_leakage: bits that hold the largest sum with that leakage.
    """

    tiles: int
    conducting: int
    formula: int
    exact: torch.Tensor
    leakage: float
    with_leakage: int

    def per_adc(self, bit_lines_per_adc: int | None) -> torch.Tensor:
        """Return the bits of each ADC, int64 ``[tiles, polarity, slice, adcs]``: of its worst bit line.

        Args:
            bit_lines_per_adc: bit lines that take turns at one ADC; None = all of an array.
        """
        share = bit_lines_per_adc or self.exact.shape[-1]
        return torch.stack([group.amax(-1) for group in self.exact.split(share, dim=-1)], dim=-1)


def lossless_need(
    conductance_map: ConductanceMap, readout: Readout, on_off: float = float("inf")
) -> dict[str, LayerNeed]:
    """Return the bits that lose nothing, layer by layer.

    Args:
        conductance_map: the map.
        readout: how it is read; the ADCs that it names are not considered.
        on_off: ratio of the highest level's conductance to that of a cell that ought not to conduct; pruned
            cells are absent and conduct nothing unless this is finite.

    Raises:
        ValueError: if ``on_off`` is not above 1.
    """
    if not on_off > 1:
        raise ValueError(f"on_off must be above 1, not {on_off}")
    levels = conductance_map.card.levels
    return {
        name: _need(
            layer, levels, readout.lossless.of(name).model_copy(update={"subtraction": "digital"}), on_off
        )
        for name, layer in conductance_map.layers.items()
    }


def _need(layer: LayerMap, levels: int, readout: Readout, on_off: float) -> LayerNeed:
    digit, rows_at_once = readout.bits_per_conversion, readout.rows_at_once
    steps = (1 << digit) - 1
    used = layer.col_index[:, None, None, :] != UNUSED_LINE
    leak = levels / on_off
    silent = layer.codes == 0

    def most(cells: torch.Tensor) -> float:
        return max([0.0, *(largest_sums(layer, cells, rows_at_once) * used).flatten().tolist()])

    largest = steps * most(torch.where(silent, leak, layer.codes.double()))
    return LayerNeed(
        tiles=layer.tiles,
        conducting=int(most((~silent).to(torch.int64))),
        formula=max(1, resolution(layer, levels, readout).widest),
        exact=exact_adc_bits(layer, digit, rows_at_once) * used,
        leakage=steps * most(silent * leak),
        with_leakage=max(1, int(largest + 0.5).bit_length()),
    )


class Ranges:
    """Chooses ranges of ADCs by the currents that training images cause.

    The range is that of least squared error of a layer's sums, in which clipping and rounding both count (the
    cycle of weight 2^b counts 4^b).

    Args:
        net: the network's structure.
        conductance_map: what is programmed.
        wires: figures of the lines of every array.
        readout: how arrays are read; the ADCs' bits and ranges are not looked at.
        seed: seed of the devices; their instance has a name, so that evaluation never meets it.
        images: training images.
    """

    def __init__(
        self,
        net: nn.Module,
        conductance_map: ConductanceMap,
        wires: Wires,
        readout: Readout,
        *,
        seed: int,
        images: Batch,
    ) -> None:
        card, layers = conductance_map.card, conductance_map.layers
        read = {name: readout.of(name) for name in layers}
        self._digit_bits = {name: own.bits_per_cycle for name, own in read.items()}
        bipolar = {name: own.subtraction == "analog" for name, own in read.items()}
        spans = {
            name: max(
                [
                    0,
                    *full_scale(
                        layer, card.levels, readout, idle=0.0 if bipolar[name] else card.idle_steps
                    ).tolist(),
                ]
            )
            for name, layer in layers.items()
        }
        self._fine = {name: max(_FINE, span / _MOST_STEPS) for name, span in spans.items()}
        self.lossless_bits = {name: max(1, span.bit_length() + bipolar[name]) for name, span in spans.items()}
        fine = readout.lossless.model_copy(update={"adc_lsb": self._fine})
        hardware = FastHardware(wires, fine, seed=seed, instance="adc ranges")
        hardware.program(conductance_map)
        self._counts = adc_counts(net, conductance_map, hardware, images)
        self._bottoms = {
            name: max([0, *resolution(layer, card.levels, fine, idle=card.idle_steps).bottom.tolist()])
            for name, layer in conductance_map.layers.items()
        }

    def best_lsb(self, layer: str, bits: int) -> float:
        """Return the least significant bit, in level steps, for ``bits``; 1 if they lose nothing."""
        if bits >= self.lossless_bits[layer]:
            return 1.0
        counts, bottom = self._counts[layer].double(), self._bottoms[layer]
        currents = (torch.arange(counts.shape[1], dtype=torch.float64) - bottom) * self._fine[layer]
        cycles = torch.arange(len(counts), dtype=torch.float64)
        weight = 4.0 ** (self._digit_bits[layer] * cycles) @ counts
        sign = int(bottom > 0)
        high = (1 << (bits - sign)) - 1
        low = -high - 1 if sign else 0
        widest = max([1.0, *(currents[weight > 0].abs() / max(high, 1)).tolist()])

        def error(lsb: float) -> float:
            codes = torch.floor(currents / lsb + 0.5).clamp(low, high)
            return float((weight * (codes * lsb - currents).square()).sum())

        steps = torch.linspace(0, 1, _RANGES, dtype=torch.float64)
        return min((widest * _NARROWEST**-step for step in steps.tolist()), key=error)

    def readout(self, readout: Chosen, bits: int | Mapping[str, int]) -> Chosen:
        """Return ``readout`` with ADCs of these bits, for all layers or by layer, and the best ranges.

        Layers with ``adc_bits`` of their own in ``readout.layer`` keep these.

        Raises:
            ValueError: if a layer is not in the map.
        """
        if isinstance(bits, int):
            bits = {name: min(bits, most) for name, most in self.lossless_bits.items()}
        bits = dict(bits) | {
            name: own["adc_bits"] for name, own in readout.layer.items() if "adc_bits" in own
        }
        if unknown := sorted(bits.keys() - self.lossless_bits.keys()):
            known = ", ".join(self.lossless_bits)
            raise ValueError(f"adc_bits.{unknown[0]}: no such layer; the map has {known}")
        lsb = {name: self.best_lsb(name, count) for name, count in bits.items()}
        return readout.lossless.model_copy(update={"adc_bits": bits, "adc_lsb": lsb})


@dataclass(frozen=True)
class Choice:
    """ADCs that keep accuracy.

    Attributes:
        bits: resolution by layer.
        lsb: least significant bit in level steps at the read voltage, by layer.
        accuracy: on the validation images with these ADCs, mean over the instances.
        lossless: the same with lossless ADCs.
        within: whether the loss is as small as was asked for.
        reads: how many times the validation images went through the network.
    """

    bits: dict[str, int]
    lsb: dict[str, float]
    accuracy: float
    lossless: float
    within: bool
    reads: int


class Search:
    """Finds the fewest ADC bits, and their ranges, with which a network keeps its accuracy.

    Each layer alone is given fewer bits, all others being lossless, as long as accuracy on the validation
    images falls by no more than the allowed loss. Then all layers get their bits together, and as long as
    that loses too much, the layer whose next bit helps most gets it. Test images are not used.

    Args:
        net: the network's structure.
        conductance_map: what is programmed.
        wires: figures of the lines of every array.
        readout: how arrays are read; the ADCs' bits and ranges are chosen, the rest stays.
        seed: seed of the devices.
        calibration: training images that ranges are chosen by.
        validation: images and labels that bits are chosen by.
        instances: device instances of which the mean counts; named, so that evaluation never meets them.
        batch: images at a time.
        goal: what the score is; None = what follows from the labels.
        progress: called with the fraction done and a few words.
    """

    def __init__(
        self,
        net: nn.Module,
        conductance_map: ConductanceMap,
        wires: Wires,
        readout: Readout,
        *,
        seed: int,
        calibration: torch.Tensor,
        validation: tuple[torch.Tensor, torch.Tensor],
        instances: int = 2,
        batch: int = 500,
        goal: Goal | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> None:
        self._net, self._map, self._wires = network_from_map(net, conductance_map), conductance_map, wires
        self._readout = readout.lossless
        self._ranges = Ranges(net, conductance_map, wires, readout, seed=seed, images=calibration)
        self._lossless = self._ranges.lossless_bits
        self._seed, self._validation, self._batch, self._goal = seed, validation, batch, goal
        self._names = [f"adc {number}" for number in range(instances)]
        self._progress = progress
        self._reads = 0

    def run(self, max_loss: float) -> Choice:
        """Return the choice whose accuracy is at most ``max_loss`` (0 to 1) below that of lossless ADCs."""
        target = (lossless := self._accuracy({})) - max_loss
        bits: dict[str, int] = {}
        for done, name in enumerate(self._lossless):
            bits[name] = self._fewest(name, target)
            self._tell(0.8 * (done + 1) / len(self._lossless), f"{name}: {bits[name]} bits")
        reached = self._accuracy(bits)
        while reached < target:
            wider = [
                {**bits, name: bits[name] + 1} for name, most in self._lossless.items() if bits[name] < most
            ]
            if not wider:
                break
            reached, bits = max(
                ((self._accuracy(choice), choice) for choice in wider), key=lambda found: found[0]
            )
            self._tell(0.9, f"together {100 * reached:.2f} %")
        lsb = {name: self._ranges.best_lsb(name, count) for name, count in bits.items()}
        return Choice(bits, lsb, reached, lossless, reached >= target, self._reads)

    def _fewest(self, name: str, target: float) -> int:
        """Return the fewest bits of one layer that reach the target, by bisection."""
        low, high = 1, self._lossless[name]
        while low < high:
            middle = (low + high) // 2
            if self._accuracy({name: middle}) >= target:
                high = middle
            else:
                low = middle + 1
        return high

    def _accuracy(self, bits: Mapping[str, int]) -> float:
        """Return the accuracy on the validation images with these bits, and lossless ADCs elsewhere."""
        readout = self._ranges.readout(self._readout, bits)
        return fmean(self._on(readout, instance) for instance in self._names)

    def _on(self, readout: Readout, instance: str) -> float:
        hardware = FastHardware(self._wires, readout, seed=self._seed, instance=instance)
        hardware.program(self._map)
        self._reads += 1
        return accuracy(on_hardware(self._net, hardware), *self._validation, self._batch, self._goal)

    def _tell(self, fraction: float, text: str) -> None:
        if self._progress is not None:
            self._progress(fraction, text)
