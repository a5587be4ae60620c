"""Masks at rest: which weights of a network its owner pruned, as safetensors or NPZ."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import torch
from torch import nn

from device_models.files import open_regular

from .layers import NetworkError, crossbar_layers, from_matrix
from .weights import MAX_BYTES, refuse_pickle

_ENDINGS = (".weight_mask", ".weight", ".mask")


def prune_by_masks(net: nn.Module, masks: str | Path | Mapping[str, torch.Tensor]) -> None:
    """Set the weights of ``net`` to zero that masks, or a file of them, prune.

    They have one array for each layer, called as the layer is, or as its weight or its mask of
    ``torch.nn.utils.prune`` is (``fc1``, ``fc1.weight``, ``fc1.weight_mask``), in the shape of the weight;
    what is not zero is kept. Layers without one keep what they have. What hwloop itself pruned is in GEMM
    form, and says so.

    Raises:
        NetworkError: if the file cannot be read, or names a layer or has a shape that the network does not
            have; ``net`` is then as it was before.
    """
    layers = crossbar_layers(net)
    found: dict[str, torch.Tensor] = {}
    path, gemm = "masks", False
    if isinstance(masks, str | Path):
        path = str(masks)
        masks, gemm = _read(Path(masks))
    for key, mask in masks.items():
        ending = next((end for end in _ENDINGS if key.endswith(end)), "")
        name = key if key in layers else key.removesuffix(ending)
        if name not in layers:
            raise NetworkError(
                f"{path}: {ascii(key)[1:-1][:80]} is no layer on arrays; these are {', '.join(layers)}"
            )
        if name in found:
            raise NetworkError(f"{path}: has two masks for {name}")
        weight = layers[name].weight
        if gemm and mask.ndim == 2:
            mask = from_matrix(layers[name], mask)
        if mask.shape != weight.shape:
            raise NetworkError(f"{path}: {name} is {list(mask.shape)}, its weight is {list(weight.shape)}")
        found[name] = mask != 0
    with torch.no_grad():
        for name, mask in found.items():
            layers[name].weight.mul_(mask)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], bool]:
    """Return the arrays of a file, and whether they are in GEMM form."""
    refuse_pickle(path)
    try:
        open_regular(path, MAX_BYTES).close()
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {
                    name: torch.from_numpy(np.ascontiguousarray(file[name])) for name in file.files
                }, False
        with safetensors.safe_open(str(path), framework="pt") as file:
            gemm = (file.metadata() or {}).get("form") == "gemm"
            return {name: file.get_tensor(name) for name in file.keys()}, gemm  # noqa: SIM118
    except FileNotFoundError:
        raise NetworkError(f"{path}: no such file") from None
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
        reason = ascii(str(error))[1:-1][:200]
        raise NetworkError(f"{path}: no masks in safetensors or NPZ ({reason})") from error
