"""What the tile explorer of a report shows: figures of every tile, and the cells of some, within a bound.

A page must not grow with the network: however many tiles there are, only so many are solved for the voltage
that their wires lose, and only so many have their cells on the page.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from device_models.crossbar import Wires, factorize
from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap, decode, largest_code, wires_of

LISTED = 20_000
"""Tiles whose figures are on the page."""
SOLVED = 1_024
"""Tiles whose voltage loss is computed."""
DETAILED = 192
"""Tiles whose cells are on the page."""
TOP = 254
"""Steps from no loss (byte 1) to the largest loss of the tile; byte 0 is a line that is not used."""
_CHUNK = 16


def share(counts: Mapping[str, int], most: int) -> dict[str, list[int]]:
    """Choose tiles of every layer, evenly spread: at most ``most`` in all.

    Args:
        counts: tiles of each layer.
        most: tiles to choose in all; where there are more layers than that, the first ones have one each.
    """
    chosen: dict[str, list[int]] = {}
    layers, left = len(counts), most
    for name, count in sorted(counts.items(), key=lambda item: item[1]):
        number = min(count, left // layers) if left >= layers else min(count, left, 1)
        chosen[name] = sorted({round(k) for k in np.linspace(0, count - 1, number)}) if number else []
        left, layers = left - number, layers - 1
    return {name: chosen[name] for name in counts}


def explore(conductance_map: ConductanceMap, wires: Wires) -> dict[str, Any]:
    """Return what the explorer needs, JSON-compatible.

    Args:
        conductance_map: a programmed map.
        wires: wire figures of its arrays.

    Raises:
        ValueError: if the map is not programmed.
    """
    counts = {name: layer.tiles for name, layer in conductance_map.layers.items() if layer.tiles}
    solved, detailed = share(counts, SOLVED), share(counts, DETAILED)
    listed = share(counts, LISTED)
    levels = conductance_map.card.levels
    layers = []
    for name in counts:
        layer = conductance_map.layers[name]
        weights = decode(layer, levels)
        worst: dict[int, float] = {}
        pictures = {}
        most, largest = None, -1.0
        for tile, loss in _losses(layer, wires, sorted({*solved[name], *detailed[name]})):
            worst[tile] = float(np.nan_to_num(loss).max())
            if tile in detailed[name]:
                pictures[str(tile)] = _cells(weights[tile].numpy(), loss)
            if worst[tile] > largest:
                most, largest = (tile, loss), worst[tile]
        if most is not None:  # the page opens at the tile that loses most
            pictures.setdefault(str(most[0]), _cells(weights[most[0]].numpy(), most[1]))
        rows_used = (layer.row_index != UNUSED_LINE).sum(1)
        cols_used = (layer.col_index != UNUSED_LINE).sum(1)
        cells = layer.mask.flatten(1).sum(1)
        layers.append(
            {
                "name": name,
                "count": layer.tiles,
                "tiles": [
                    [
                        tile,
                        int(cells[tile]),
                        int(rows_used[tile]),
                        int(cols_used[tile]),
                        int(layer.adc_bits[tile]),
                        round(worst[tile], 6) if tile in worst else None,
                    ]
                    for tile in listed[name]
                ],
                "largest": largest_code(layer.encoding, levels, layer.slices),
                "cells": pictures,
            }
        )
    rows, cols = conductance_map.array_shape
    return {
        "rows": rows,
        "cols": cols,
        "read_voltage": conductance_map.card.read_voltage.value,
        "layers": layers,
    }


def _losses(layer: LayerMap, wires: Wires, tiles: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield what each tile loses on wires, with every used word line at the same voltage.

    Fractions of that voltage, ``[polarity, rows, cols]``, in the slice that conducts most; NaN on lines that
    are not used.
    """
    if layer.actual is None:
        raise ValueError(f"layer {layer.name}: not programmed")
    for start in range(0, len(tiles), _CHUNK):
        chosen = tiles[start : start + _CHUNK]
        actual = layer.actual[chosen].double()
        slices = actual.sum(dim=(1, 3, 4)).argmax(1)
        g = actual[torch.arange(len(chosen)), :, slices]
        rows_used = layer.row_index[chosen] != UNUSED_LINE
        cols_used = layer.col_index[chosen] != UNUSED_LINE
        voltages = rows_used.double()[:, None, None].expand(-1, g.shape[1], 1, -1)
        word, bit = factorize(g, wires_of(wires, layer.name)).node_voltages(voltages)
        used = (rows_used[:, :, None] & cols_used[:, None, :])[:, None]
        loss = torch.where(used, (1 - (word - bit)[:, :, 0]).clamp(min=0), torch.nan)
        yield from zip(chosen, loss.numpy(), strict=True)


def _cells(codes: np.ndarray, loss: np.ndarray) -> dict[str, Any]:
    """Weight codes, int8 ``[rows, cols]``, and losses ``[polarity, rows, cols]`` of a tile, compressed."""
    largest = float(np.nan_to_num(loss).max()) or 1.0
    steps = np.nan_to_num(1 + np.rint(TOP * loss / largest)).astype("u1")
    panels = codes.astype("i1").tobytes() + steps.tobytes()
    return {
        "loss": round(largest, 6),
        "polarities": len(loss),
        "data": base64.b64encode(zlib.compress(panels, 9)).decode(),
    }
