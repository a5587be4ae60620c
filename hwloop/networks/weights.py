"""Weights of networks at rest: safetensors files with a checksum of what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from device_models.files import open_regular, write_atomically

from .layers import NetworkError

MAX_BYTES = 1 << 40
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool)


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256, in hexadecimal, of the names and values of ``tensors``."""
    total = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        total.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def save_weights(net: nn.Module, path: str | Path) -> None:
    """Write parameters and buffers as safetensors, atomically; the header holds their :func:`digest`."""
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in net.state_dict().items()}
    write_atomically(path, safetensors.torch.save(tensors, {"sha256": digest(tensors)}))


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Fill ``net`` with the weights of a safetensors file; its checksum is compared where it states one.

    What ``torch.nn.utils.prune`` left as ``weight_orig`` and ``weight_mask`` becomes ``weight``.

    Tensors are read only once their names and shapes are those of the network, so that a file of any size
    takes no more memory than the network.

    Raises:
        NetworkError: if the file cannot be read, is damaged or holds the weights of another network; ``net``
            is then as it was before.
    """
    refuse_pickle(path)
    state = net.state_dict()
    try:
        open_regular(path, MAX_BYTES).close()
        with safetensors.safe_open(str(path), framework="pt") as file:
            stated = (file.metadata() or {}).get("sha256")
            shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            masked = _masked(state, shapes)
            _check_shapes(path, state, shapes)
            weights = {
                name: file.get_tensor(f"{name}_orig") * file.get_tensor(f"{name}_mask")
                if name in masked
                else file.get_tensor(name)
                for name in state
            }
    except FileNotFoundError:
        raise NetworkError(f"{path}: no such file") from None
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read ({error.strerror or error})") from error
    except safetensors.SafetensorError as error:
        reason = ascii(str(error))[1:-1][:200]  # it may quote the file
        raise NetworkError(f"{path}: not a complete safetensors file ({reason})") from error
    for name, value in weights.items():
        known = _FLOATS if state[name].is_floating_point() else _WHOLE
        if value.dtype not in known:
            raise NetworkError(f"{path}: {name} is {value.dtype}, the network's is {state[name].dtype}")
        if not value.to(state[name].dtype).isfinite().all():
            raise NetworkError(f"{path}: {name} holds values that are not finite")
    if stated is not None and not masked and stated != digest(weights):
        raise NetworkError(f"{path}: its checksum differs: the weights were changed; write the file again")
    net.load_state_dict(weights)


def refuse_pickle(path: str | Path) -> None:
    """Raise NetworkError if a file is what ``torch.save`` writes: reading a pickle runs what is in it."""
    path = Path(path)
    try:
        with open_regular(path, MAX_BYTES) as file:
            start = file.read(9)
    except OSError:
        return  # whoever reads it says why it cannot
    if start[8:] == b"{":
        return  # safetensors, whatever it is called
    zipped = start.startswith(b"PK\x03\x04") and path.suffix != ".npz"
    if path.suffix in _PICKLES or zipped or start[:2] in _PROTOCOLS:
        raise NetworkError(
            f"{path}: is a pickle, and reading one runs what is in it; load it yourself if you trust it, and "
            "save it by safetensors.torch.save_file(net.state_dict(), "
            f"{path.with_suffix('.safetensors').name!r})"
        )


def _masked(state: Mapping[str, torch.Tensor], shapes: dict[str, list[int]]) -> set[str]:
    """Return what a file has with a mask beside it; ``shapes`` then has it whole."""
    masked = {
        name
        for name in state
        if name not in shapes and shapes.get(f"{name}_orig") == shapes.get(f"{name}_mask", ())
    }
    for name in masked:
        shapes[name] = shapes.pop(f"{name}_orig")
        del shapes[f"{name}_mask"]
    return masked


def _check_shapes(
    path: str | Path, state: Mapping[str, torch.Tensor], shapes: Mapping[str, list[int]]
) -> None:
    """Raise unless a file has the tensors of a network, all of their shapes."""
    for names, fault in ((state.keys() - shapes, "lacks"), (shapes.keys() - state, "does not know")):
        if names:
            subject = path if fault == "lacks" else f"{path}: the network"
            raise NetworkError(f"{subject} {fault} {_some(names)}: these are weights of another network")
    for name, shape in shapes.items():
        if shape != list(state[name].shape):
            raise NetworkError(f"{path}: {name} is {shape}, the network's is {list(state[name].shape)}")


def _some(names: set[str], most: int = 4) -> str:
    """Join the first few names."""
    first = [name if name.isprintable() else ascii(name) for name in sorted(names)[:most]]
    shown = ", ".join(name[:80] for name in first)
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
