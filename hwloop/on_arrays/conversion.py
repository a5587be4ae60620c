"""From a user's network, or a map, to a network on arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwloop.adc import CALIBRATION_IMAGES, Ranges
from hwloop.hardware import calibrate_inputs, card_of, largest_codes, make_wires, network_from_map
from hwloop.mapping import ConductanceMap, build_map, read_map
from hwloop.networks import (
    Batch,
    NetworkError,
    batches,
    copied,
    crossbar_layers,
    first_of,
    is_kept_digital,
    keep_digital,
    prune_by_masks,
    put_in_place,
    settle,
    to_matrix,
)
from hwloop.on_arrays.layer import ArrayLayer
from hwloop.on_arrays.network import NetworkOnArrays
from hwloop.quantization import quantize
from hwloop.recipe import HardwareConfig, Recipe, RecipeError, Scale, checked


def convert(
    model: nn.Module,
    hardware: HardwareConfig | Mapping[str, Any] | None = None,
    calibrate: Batch | Iterable[Batch] = None,
    *,
    digital: Sequence[str] = (),
    per_layer: Mapping[str, Mapping[str, Any]] | None = None,
    masks: Mapping[str, torch.Tensor] | str | Path | None = None,
    scale: Scale = "least-squares",
    clip: float | None = None,
    seed: int = 1,
    name: str | None = None,
) -> NetworkOnArrays:
    """Put a trained network on memristor arrays.

    Its ``Linear`` and convolutional layers become :class:`~hwloop.on_arrays.layer.ArrayLayer`; everything
    else stays digital. Weights go onto the levels of the card's cells, without training.

    Args:
        model: the network; it is copied and stays as it is.
        hardware: card, arrays, wires and converters, as the section ``[hardware]`` of a recipe; None = its
            defaults.
        calibrate: inputs from training data, a batch of whatever the network takes (a tensor; a mapping; a
            tuple of its arguments) or an iterable of batches, such as a ``DataLoader``. They set the range of
            every DAC, and with ``adc_bits`` but no ``adc_lsb`` the range of every ADC.
        digital: layers that stay digital: names, or patterns such as ``blocks.*.norm``; of a module all
            layers in it do.
        per_layer: for a layer other values of fields of the hardware: ``{"head": {"adc_bits": 8}}``.
        masks: which weights are kept, by layer, in the shape of its weight; or a file of them. None: zeros of
            the weights are pruned cells.
        scale: how the scale of a layer's levels is chosen: of least squared error, or its largest weight at
            the highest level.
        clip: standard deviations of a layer's weights beyond which they end there; None = none does.
        seed: seed of the devices, of every chip.
        name: ``package.module:factory`` that builds the network, kept with the map for commands that build
            it; None = the class of ``model``.

    Returns:
        The network on arrays, in evaluation mode; :meth:`~hwloop.NetworkOnArrays.program` writes a chip.

    Raises:
        ValueError: (a subclass) in one line that names the layer, pattern or field.
    """
    if calibrate is None:
        raise ValueError("calibrate is missing: a batch of training inputs sets the ranges of DACs and ADCs")
    if isinstance(digital, str):
        raise ValueError("digital is a list of names or patterns, not one text")  # noqa: TRY004
    net = copied(model).eval()
    keep_digital(net, digital)
    settle(net)
    if masks is not None:
        prune_by_masks(net, masks)
    layers = crossbar_layers(net)
    if not isinstance(hardware, HardwareConfig):
        hardware = checked(HardwareConfig, dict(hardware or {}), "hardware")
    choice = _by_layer(net, hardware, per_layer or {})
    card = card_of(choice)
    kept = {name: to_matrix(layer).detach() != 0 for name, layer in layers.items()}
    codes = quantize(net, kept, largest_codes(choice, card, layers), scale, clip)
    inputs = list(batches(net, calibrate))
    try:
        ranges_of_inputs = calibrate_inputs(net, iter(inputs))
    except (RuntimeError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise NetworkError(f"calibrate: the network does not take these inputs ({reason})") from error
    built = build_map(
        name or f"{type(model).__module__}:{type(model).__qualname__}",
        net,
        {name: (layer.codes, layer.scale) for name, layer in codes.items()},
        card,
        (choice.rows, choice.cols),
        ranges_of_inputs,
        **choice.held,
        of_layer={name: choice.of(name).held for name in choice.layer},
    )
    if choice.chooses_ranges:
        ranges = Ranges(
            net, built, make_wires(choice), choice, seed=seed, images=first_of(inputs[0], CALIBRATION_IMAGES)
        )
        choice = ranges.readout(choice, choice.adc_bits)
    return _on_arrays(net, built, choice, seed)


def load(path: str | Path, model: nn.Module, hardware: HardwareConfig | None = None) -> NetworkOnArrays:
    """Return the network on arrays that :meth:`~hwloop.NetworkOnArrays.save` or a run wrote.

    The chip that was programmed, if one was, is programmed again: the same devices.

    Args:
        path: the map.
        model: a network of the map's structure; its weights are not used.
        hardware: how the arrays are read; None = as the map says.

    Raises:
        ValueError: (a subclass) if the file is no sound map, or of another network.
        OSError: if it cannot be read.
    """
    conductance_map = read_map(path)
    recipe = checked(Recipe, conductance_map.attributes.get("recipe", {}), f"{path}: its recipe")
    choice = hardware or recipe.hardware
    if hardware is None and choice.adc.kind == "measured":
        raise RecipeError(f"{path}: was read with an ADC from a file; give hardware that names it")
    loaded = _on_arrays(model, conductance_map, choice, recipe.seed)
    chip = conductance_map.attributes.get("chip")
    return loaded if not isinstance(chip, int | str) else loaded.program(chip)


def _by_layer(
    net: nn.Module, choice: HardwareConfig, per_layer: Mapping[str, Mapping[str, Any]]
) -> HardwareConfig:
    """Return a choice of hardware in which layers have values of their own."""
    layers, modules = crossbar_layers(net), dict(net.named_modules())
    for name in per_layer:
        if name not in layers:
            known = f"layers on arrays are {', '.join(layers)}"
            if name in modules:
                reason = "asked to be digital" if is_kept_digital(modules[name]) else "no layer on arrays"
                raise RecipeError(f"per_layer: {name!r} is {reason}; {known}")
            raise RecipeError(f"per_layer: the network has no {name!r}; {known}")
    own = {name: choice.layer.get(name, {}) | dict(fields) for name, fields in per_layer.items()}
    data = {"hardware": choice.model_dump() | {"layer": choice.layer | own}}
    return checked(Recipe, data, "per_layer").hardware


def _on_arrays(
    net: nn.Module, conductance_map: ConductanceMap, choice: HardwareConfig, seed: int
) -> NetworkOnArrays:
    """Return the network of a map with its layers on arrays."""
    placed = network_from_map(net, conductance_map).eval()
    for name, layer in crossbar_layers(placed).items():
        if not name:
            raise NetworkError(
                f"the network is one {type(layer).__name__}; put it into a torch.nn.Sequential"
            )
        put_in_place(placed, layer, ArrayLayer(name, layer, conductance_map.layers[name]))
    return NetworkOnArrays(placed, conductance_map, choice, seed)
