"""What a report says of the arrays and of how they are read, in words."""

from __future__ import annotations

from hwloop.mapping import ConductanceMap
from hwloop.recipe import HardwareConfig, Readout


def arrays_of_a_tile(conductance_map: ConductanceMap, readout: Readout) -> str:
    """Return which arrays a tile stands for, such as ``two arrays, one for each polarity``."""
    times = {name: readout.copies_of(name) for name in conductance_map.layers}
    arrays = _of_one_copy(conductance_map)
    if len(set(times.values())) > 1:
        return arrays + "".join(f", {count} times in {name}" for name, count in times.items() if count > 1)
    return arrays if readout.most_copies == 1 else f"{arrays}, {readout.most_copies} times"


def wires(choice: HardwareConfig) -> str:
    """Return what the wires are, such as ``45nm wires at 1t1r pitch``."""
    if choice.wire is None:
        return f"{choice.node} wires at {choice.cell} pitch"
    return f"wires of {choice.wire:g} Ω a segment"


def inputs(readout: Readout) -> str:
    """Return how inputs are applied, such as ``8-bit inputs, bit by bit``."""
    if readout.bits_per_cycle == readout.dac_bits:
        return f"{readout.dac_bits}-bit inputs, whole in one cycle"
    if readout.bits_per_cycle == 1:
        return f"{readout.dac_bits}-bit inputs, bit by bit"
    return f"{readout.dac_bits}-bit inputs, {readout.bits_per_cycle} bits in a cycle"


def converters(readout: Readout) -> str:
    """Return what shares an ADC, such as ``one ADC for each array``."""
    shared = readout.bit_lines_per_adc
    return "one ADC for each array" if shared is None else f"one ADC for {shared} bit lines"


def _of_one_copy(conductance_map: ConductanceMap) -> str:
    kinds = {(layer.encoding, layer.slices) for layer in conductance_map.layers.values()}
    if kinds == {("differential", 1)}:
        return "two arrays, one for each polarity"
    if kinds == {("offset", 1)}:
        return "one array, in which weights are stored with an offset"
    if kinds == {("polarised", 1)}:
        return "one array of magnitudes, with the signs of its fragments outside"
    return "one array for each polarity and slice of the weights"
