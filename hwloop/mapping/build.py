"""From quantized layers to a conductance map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from device_models.card import DeviceCard
from hwloop.networks import CrossbarLayer, crossbar_layers, weight_names

from .conductance_map import ConductanceMap, Encoding, LayerMap
from .encoding import Cells, encode
from .placement import Placement, near
from .resolution import tile_adc_bits
from .tiles import form_tiles


def build_map(
    network: str,
    net: nn.Module,
    quantized: Mapping[str, tuple[torch.Tensor, float]],
    card: DeviceCard,
    array_shape: tuple[int, int],
    input_scales: Mapping[str, tuple[float, bool]],
    attributes: Mapping[str, Any] | None = None,
    *,
    encoding: Encoding = "differential",
    slices: int = 1,
    fragment: int = 1,
    placement: Placement = "matrix",
    cells_per_column: int | None = None,
    of_layer: Mapping[str, Mapping[str, Any]] | None = None,
) -> ConductanceMap:
    """Map every crossbar layer of a quantized network to tiles of a device card's conductances.

    Args:
        network: factory of the network, ``package.module:factory``; kept with the map.
        net: the network; all its parameters and buffers but the weights of crossbar layers stay digital.
        quantized: for each crossbar layer its signed weight codes, int8 ``[rows, cols]`` in GEMM form, and
            the scale that makes them weights: ``weight = scale * code``.
        card: the device card; level ``k`` is programmed as ``k * card.g_step`` siemens.
        array_shape: word lines and bit lines of one array.
        input_scales: for each crossbar layer the activation that the DAC's full-scale code stands for, and
            whether activations can be negative.
        attributes: further facts to keep with the map (JSON-compatible).
        encoding: how signed weights become cells.
        slices: cells of one polarity that hold a weight.
        fragment: word lines whose weights have one sign, for polarised encoding; 1 otherwise.
        placement: order of the lines within a tile.
        cells_per_column: most weights of a bit line; None = as many as it has word lines.
        of_layer: other values of these five, by layer.

    Raises:
        ValueError: naming the layer, if one is missing or its codes do not fit the layer or the cells.
    """
    layers = crossbar_layers(net)
    _check_names(layers, quantized, "weight codes")
    _check_names(layers, input_scales, "input scale")
    mapped = {}
    held = {
        "encoding": encoding,
        "slices": slices,
        "fragment": fragment,
        "placement": placement,
        "cells_per_column": cells_per_column,
    }
    for name, layer in layers.items():
        _, (mapped[name],) = map_layer(
            name,
            layer,
            *quantized[name],
            card,
            array_shape,
            *input_scales[name],
            **(held | dict((of_layer or {}).get(name, {}))),
        )
    weights = weight_names(net)
    digital = {
        name: value.detach().cpu().clone() for name, value in net.state_dict().items() if name not in weights
    }
    return ConductanceMap(network, card, array_shape, mapped, digital, dict(attributes or {}))


def map_layer(
    name: str,
    layer: CrossbarLayer,
    codes: torch.Tensor,
    scale: float,
    card: DeviceCard,
    array_shape: tuple[int, int],
    input_scale: float,
    input_signed: bool,
    *,
    encoding: Encoding = "differential",
    slices: int = 1,
    fragment: int = 1,
    placement: Placement = "matrix",
    cells_per_column: int | None = None,
    part: int | None = None,
) -> tuple[int, Iterator[LayerMap]]:
    """Map one layer, in parts that are made one after the other.

    The conductances of a layer take many times the memory of its weight codes; parts need not be there at
    once. :func:`~hwloop.mapping.create_map` writes them as they come.

    Args:
        name: of the layer.
        layer: the layer; of its weight only the shape counts, so it may be on the meta device.
        codes: signed weight codes, int8 ``[rows, cols]`` in GEMM form.
        scale: makes them weights: ``weight = scale * code``.
        card: the device card.
        array_shape: word lines and bit lines of one array.
        input_scale: activation that the DAC's full-scale code stands for.
        input_signed: whether activations can be negative.
        encoding: how signed weights become cells.
        slices: cells of one polarity that hold a weight.
        fragment: word lines whose weights have one sign, for polarised encoding; 1 otherwise.
        placement: order of the lines within a tile.
        cells_per_column: most weights of a bit line; None = as many as it has word lines.
        part: tiles of a part; None = all in one.

    Returns:
        Number of tiles, and the parts: at least one, which may be without tiles.

    Raises:
        ValueError: naming the layer, if its codes do not fit the layer or, where parts are taken, the cells.
    """
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    matrix_shape = (layer.weight[0].numel() * groups, layer.weight.shape[0])
    if tuple(codes.shape) != matrix_shape:
        raise ValueError(f"layer {name}: weight codes are {list(codes.shape)}, must be {list(matrix_shape)}")
    if card.g_min is not None and encoding != "differential":
        raise ValueError(
            f"layer {name}: cells of card {card.name} conduct at level 0 (g_min), which {encoding} "
            "encoding does not subtract; use differential encoding"
        )
    try:
        tiles = form_tiles(codes, array_shape, groups, fragment, cells_per_column)
    except (TypeError, ValueError) as error:
        raise ValueError(f"layer {name}: {error}") from error

    def cells_of(
        blocks: torch.Tensor, row_index: torch.Tensor, col_index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, Cells]:
        cells = encode(blocks, row_index, col_index, encoding, card.levels, slices, fragment)
        if placement == "near":
            blocks, row_index, col_index = near(blocks, row_index, col_index, cells.codes, fragment)
            cells = encode(blocks, row_index, col_index, encoding, card.levels, slices, fragment)
        return row_index, col_index, cells

    def parts() -> Iterator[LayerMap]:
        count = len(tiles[0])
        for first in range(0, max(1, count), part or max(1, count)):
            chosen = slice(first, first + (part or count))
            try:
                row_index, col_index, cells = cells_of(*(values[chosen] for values in tiles))
            except (TypeError, ValueError) as error:
                raise ValueError(f"layer {name}: {error}") from error
            yield LayerMap(
                name=name,
                kind="conv2d" if isinstance(layer, nn.Conv2d) else "linear",
                weight_shape=tuple(layer.weight.shape),
                groups=groups,
                row_index=row_index,
                col_index=col_index,
                weight_per_siemens=scale / card.g_step,
                input_scale=float(input_scale),
                input_signed=bool(input_signed),
                adc_bits=tile_adc_bits(cells.codes, card.levels),
                **cells._asdict(),
            )

    return len(tiles[0]), parts()


def _check_names(layers: Mapping[str, CrossbarLayer], given: Mapping[str, Any], what: str) -> None:
    """Raise unless ``given`` has exactly the names of the layers."""
    if missing := [name for name in layers if name not in given]:
        raise ValueError(f"layer {missing[0]}: {what} missing")
    if unknown := [name for name in given if name not in layers]:
        raise ValueError(f"layer {unknown[0]}: given {what}, but the network has no such crossbar layer")
