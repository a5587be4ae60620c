"""Networks: how they are built from their factory."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from device_models.random import stream_key
from hwloop.factories import call_factory

from .factors import factor_layers
from .layers import NetworkError
from .onnx_network import load_onnx
from .settled import settle

_SPEC = re.compile(
    r"(?:(?P<file>[^\[\]\x00-\x1f]+\.onnx)|([A-Za-z_][\w.]*):([A-Za-z_]\w*))"
    r"(?:\[([\w.]+=[0-9]{1,9}(?:,[\w.]+=[0-9]{1,9})*)\])?"
)


def build_network(spec: str, seed: int = 0) -> nn.Module:
    """Import ``package.module:factory`` and call the factory without arguments, or read ``FILE.onnx``.

    The network of a file has its weights; see :func:`hwloop.networks.load_onnx`. With
    ``package.module:factory[conv1=5,fc1=36]`` layer ``conv1`` becomes two of rank 5, and so on; see
    :func:`hwloop.networks.factor_layers`.

    Args:
        spec: where the factory is, or the file. A factory's module is imported, that is, its code runs.
        seed: fixes the initial weights (torch's global generator is left as it was).

    Raises:
        NetworkError: if there is no such module or factory, it does not return a ``torch.nn.Module``, or a
            layer cannot be factored.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise NetworkError(
            f"network {spec!r}: must read package.module:factory or FILE.onnx; [layer=rank,...] may follow"
        )
    file, module_name, factory_name, factors = match.groups()
    net = load_onnx(file) if file else _from_factory(spec, module_name, factory_name, seed)
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


def onnx_file(spec: str) -> str | None:
    """Return the file that a network comes from; None if it comes from a factory."""
    match = _SPEC.fullmatch(spec)
    return match["file"] if match else None


def with_ranks(spec: str, ranks: Mapping[str, int]) -> str:
    """Return the spec of a network some layers of which have become two of a lower rank."""
    if not ranks:
        return spec
    factory, _, factored = spec.partition("[")
    parts = [factored.removesuffix("]")] * bool(factored) + [f"{name}={rank}" for name, rank in ranks.items()]
    return f"{factory}[{','.join(parts)}]"


def _from_factory(spec: str, module_name: str, factory_name: str, seed: int) -> nn.Module:
    """Return what a factory makes, its initial weights fixed by the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_key(seed, "network", f"{module_name}:{factory_name}") % 2**63)
        try:
            net = call_factory(module_name, factory_name)
        except ValueError as error:
            raise NetworkError(f"network {spec!r}: {error}") from error
    if not isinstance(net, nn.Module):
        raise NetworkError(f"network {spec!r}: gives {type(net).__name__}, not a torch.nn.Module")
    try:
        return settle(net)
    except NetworkError as error:
        raise NetworkError(f"network {spec!r}: {error}") from error
