"""Networks: how they are built from their factory, saved and loaded."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from device_models.files import write_atomically
from device_models.random import stream_key

from .factors import factor_layers
from .layers import NetworkError

_SPEC = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)(?:\[([\w.]+=[0-9]{1,9}(?:,[\w.]+=[0-9]{1,9})*)\])?")


def build_network(spec: str, seed: int = 0) -> nn.Module:
    """Import ``package.module:factory``, call the factory without arguments, and factor layers if it says so.

    With ``package.module:factory[conv1=5,fc1=36]`` layer ``conv1`` becomes two of rank 5, and so on; see
    :func:`hwloop.networks.factor_layers`.

    Args:
        spec: where the factory is. Its module is imported, that is, its code runs.
        seed: fixes the initial weights (torch's global generator is left as it was).

    Raises:
        NetworkError: if there is no such module or factory, it does not return a ``torch.nn.Module``, or a
            layer cannot be factored.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise NetworkError(
            f"network {spec!r}: must read package.module:factory or package.module:factory[layer=rank,...]"
        )
    module_name, factory_name, factors = match.groups()
    factory = _factory(spec, module_name, factory_name)
    with torch.random.fork_rng():
        torch.manual_seed(stream_key(seed, "network", f"{module_name}:{factory_name}") % 2**63)
        net = factory()
    if not isinstance(net, nn.Module):
        raise NetworkError(f"network {spec!r}: gives {type(net).__name__}, not a torch.nn.Module")
    if factors is not None:
        pairs = [part.split("=") for part in factors.split(",")]
        ranks = {name: int(rank) for name, rank in pairs}
        if len(ranks) < len(pairs):
            raise NetworkError(f"network {spec!r}: names a layer twice")
        try:
            factor_layers(net, ranks)
        except NetworkError as error:
            raise NetworkError(f"network {spec!r}: {error}") from error
    return net


def _factory(spec: str, module_name: str, factory_name: str) -> Callable[[], object]:
    """Return a callable that needs no arguments."""
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise NetworkError(
            f"network {spec!r}: module {module_name!r} cannot be imported ({error})"
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise NetworkError(f"network {spec!r}: {module_name!r} has no factory {factory_name!r}")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise NetworkError(f"network {spec!r}: the factory must need no arguments ({error})") from error
    return factory


def save_weights(net: nn.Module, path: str | Path) -> None:
    """Write parameters and buffers as safetensors, atomically."""
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in net.state_dict().items()}
    write_atomically(path, safetensors.torch.save(tensors))


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Fill ``net`` with the weights of a safetensors file.

    Raises:
        NetworkError: if the file cannot be read or holds the weights of another network; ``net`` is
            then as it was before.
    """
    try:
        weights = safetensors.torch.load_file(str(path))
    except FileNotFoundError:
        raise NetworkError(f"{path}: no such file") from None
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read ({error})") from error
    except safetensors.SafetensorError as error:
        raise NetworkError(f"{path}: not a complete safetensors file ({error})") from error
    state = net.state_dict()
    for names, fault in ((state.keys() - weights, "lacks"), (weights.keys() - state, "does not know")):
        if names:
            subject = path if fault == "lacks" else f"{path}: the network"
            raise NetworkError(f"{subject} {fault} {_some(names)}: these are weights of another network")
    for name, value in weights.items():
        if value.shape != state[name].shape:
            raise NetworkError(
                f"{path}: {name} is {list(value.shape)}, the network's is {list(state[name].shape)}"
            )
        if value.is_floating_point() != state[name].is_floating_point():
            raise NetworkError(f"{path}: {name} is {value.dtype}, the network's is {state[name].dtype}")
        if not value.isfinite().all():
            raise NetworkError(f"{path}: {name} holds values that are not finite")
    net.load_state_dict(weights)


def _some(names: set[str], most: int = 4) -> str:
    """Join the first few names."""
    first = sorted(names)[:most]
    return ", ".join(first) + (f" and {len(names) - most} more" if len(names) > most else "")
