"""The format of conductance map files: what is in one, of which type, and how it describes itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from device_models.card import DeviceCard

from .conductance_map import UNUSED_LINE
from .hdf5_reading import SafeGroup
from .map_checks import LayerFacts
from .map_errors import MapProblemError, guarded

FORMAT = "hwloop-conductance-map"
VERSIONS = (1, 2)
MAX_CARD_BYTES = 1 << 20
MAX_ATTRIBUTES_BYTES = 1 << 24
MAX_LAYERS = 10_000
MAX_DATA = 100
MAX_DIGITAL = 100_000
DIGITAL_TYPES = ("<f4", "<f8", "<f2", "<i8", "<i4", "<i2", "|i1", "|u1", "|b1")

ROOT = (
    "Conductance map: a neural network on memristor crossbars. Word lines are inputs, bit lines are outputs. "
    "rows, cols: lines of one array. g_step_siemens: conductance between neighbouring levels, of which the "
    "card says how many there are. network: factory that builds the network, package.module:factory."
)
LAYERS = "One group per layer that lies on crossbars."
LAYER = (
    "One layer. Its matrix has one row per input and one column per output; row (c * kh + y) * kw + x of a "
    "convolution is input channel c at kernel position y, x, and grouped convolutions are block diagonal. "
    "Slice s of a weight counts b^s, with b = levels + 1. Two polarities: for every used line, "
    "matrix[row_index[t, i], col_index[t, j]] = weight_per_siemens * sum over s of b^s * (g[t, 0, s, i, j] - "
    "g[t, 1, s, i, j]), with g in siemens. One polarity (offset): weight_per_siemens * (sum over s of b^s * "
    "h[t, s, i, j] - W * g_step_siemens) with h = g[t, 0, s, i, j], or levels * g_step_siemens - g[t, 0, s, "
    "i, j] where flipped[t, s, j] is 1, and W = the smaller of 127 and (b^slices - 1) // 2. One polarity "
    "with negative (polarised): weight_per_siemens * sum over s of b^s * g[t, 0, s, i, j], times -1 where "
    "negative[t, f, j] is 1, f being the fragment of word line i; fragments are equal runs of word lines. "
    "Entries of the matrix that no tile holds are zero. "
    "position: place in the network. weight_per_siemens: weight units per siemens in slice 0. input_scale: "
    "activation that the DAC's full-scale code stands for. input_signed: 1 if activations can be negative, 0 "
    "if not."
)
DIGITAL = "Parameters and buffers of the network that digital logic keeps, by name."
DIGITAL_ENTRY = "Parameter or buffer that digital logic keeps."
CARD = "The device card, whole, as JSON; every figure with its unit and source."
ATTRIBUTES = "Further facts kept with the map, as JSON."

_CELLS = (
    "[tile, polarity (0 positive, 1 negative; or one alone: offset or polarised), slice (least significant "
    "first), word line, bit line]"
)
DATA = {
    "codes": ("|u1", "1", f"Level of every cell, 0 = absent cell. {_CELLS}"),
    "target": (
        "<f4",
        "S",
        f"Conductance to program: level code times g_step_siemens above the card's g_min. {_CELLS}",
    ),
    "actual": ("<f4", "S", f"Conductance after programming. {_CELLS}"),
    "mask": ("|u1", "1", "1 where a weight is kept, 0 where it is pruned. [tile, word line, bit line]"),
    "row_index": ("<i4", "1", "Matrix row of each word line, -1 = line not used. [tile, word line]"),
    "col_index": ("<i4", "1", "Matrix column of each bit line, -1 = line not used. [tile, bit line]"),
    "adc_bits": ("|u1", "1", "ADC resolution of the tile in bits. [tile]"),
    "flipped": ("|u1", "1", "1 where a bit line holds levels - digit, 0 if not. [tile, slice, bit line]"),
    "negative": (
        "|u1",
        "1",
        "1 where the weights of a fragment are negative, 0 if not. [tile, fragment of word lines, bit line]",
    ),
}
"""Data sets of a layer: type, SI unit, description."""
OPTIONAL = ("actual", "target")
OFFSET_ONLY, POLARISED_ONLY = "flipped", "negative"
PER_TILE = ("codes", "target", "mask", "actual")
"""Data sets that are stored, written and read one tile at a time."""


def version(layers: Iterable[LayerFacts], targets: bool) -> int:
    """Return the version of a file: 2 if a layer is polarised or there are no targets, unknown to 1."""
    return 1 if targets and all(layer.encoding != "polarised" for layer in layers) else 2


def shapes(facts: LayerFacts, array_shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every data set that a layer can have."""
    rows, cols = array_shape
    cells = (facts.tiles, facts.polarities, facts.slices, rows, cols)
    found: dict[str, tuple[int, ...]] = {
        "codes": cells,
        "target": cells,
        "actual": cells,
        "mask": (facts.tiles, rows, cols),
        "row_index": (facts.tiles, rows),
        "col_index": (facts.tiles, cols),
        "adc_bits": (facts.tiles,),
    }
    if facts.encoding == "offset":
        found[OFFSET_ONLY] = (facts.tiles, facts.slices, cols)
    if facts.encoding == "polarised":
        found[POLARISED_ONLY] = (facts.tiles, facts.fragments, cols)
    return found


def target_of(codes: np.ndarray, row_index: np.ndarray, card: DeviceCard) -> np.ndarray:
    """Return the target conductances in siemens, float32, of level codes.

    Args:
        codes: ``[..., polarity, slice, rows, cols]``.
        row_index: of the word lines, ``[..., rows]``; cells on word lines that are not used do not conduct.
        card: the device card.
    """
    driven = (row_index != UNUSED_LINE)[..., None, None, :, None]
    return (codes * np.float64(card.g_step) + driven * card.g_idle).astype(np.float32)


def attributes_of(facts: LayerFacts) -> dict[str, Any]:
    """Return what is written as attributes of a layer; what the shape of the data says is not.

    With the description they are eight, the most that HDF5 keeps in the object itself.
    """
    attributes = dataclasses.asdict(facts)
    for extent in ("tiles", "polarities", "slices", "fragments"):
        del attributes[extent]
    return attributes


def read_facts(group: SafeGroup) -> LayerFacts:
    """Return the checked facts of a layer; raises MapFileError."""
    _, polarities, slices, _, _ = group.shape("codes", 5)
    polarised = polarities == 1 and POLARISED_ONLY in group.names(MAX_DATA)
    facts = LayerFacts(
        position=group.integer("position"),
        kind=group.string("kind"),
        weight_shape=group.integers("weight_shape"),
        groups=group.integer("groups"),
        tiles=group.shape("adc_bits", 1)[0],
        polarities=polarities,
        slices=slices,
        fragments=group.shape(POLARISED_ONLY, 3)[1] if polarised else 0,
        weight_per_siemens=group.real("weight_per_siemens"),
        input_scale=group.real("input_scale"),
        input_signed=group.integer("input_signed"),
    )
    with guarded(group.where):
        facts.check()
    return facts


def layer_names(layers: SafeGroup) -> list[str]:
    """Return the layers in the order of the network; raises MapFileError."""
    names = layers.names(MAX_LAYERS)
    positions = {name: layers.group(name).integer("position") for name in names}
    with guarded(layers.where):
        if sorted(positions.values()) != list(range(len(names))):
            raise MapProblemError("positions of the layers must be 0, 1, 2, ... once each")
    return sorted(names, key=positions.__getitem__)


def fingerprint(root: SafeGroup) -> str:
    """Return the SHA-256 over all facts and checksums of a file: equal for equal maps, whoever wrote them."""
    layers, digital = root.group("layers"), root.group("digital")
    facts = {
        "format": root.string("format"),
        "version": root.integer("version"),
        "network": root.string("network"),
        "array": [root.integer("rows"), root.integer("cols")],
        "g_step_siemens": root.real("g_step_siemens"),
        "card": root.checksum("card"),
        "attributes": root.checksum("attributes"),
        "layers": {name: _layer_facts(layers.group(name)) for name in layers.names(MAX_LAYERS)},
        "digital": {name: digital.checksum(name) for name in digital.names(MAX_DIGITAL)},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _layer_facts(group: SafeGroup) -> dict[str, object]:
    facts = read_facts(group)
    return attributes_of(facts) | {"data": {name: group.checksum(name) for name in group.names(MAX_DATA)}}
