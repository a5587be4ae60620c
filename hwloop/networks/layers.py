"""Which layers of a network go onto crossbars, and in what form.

GEMM form of a layer: a matrix ``[rows, cols]`` with one row for each input (word line) and one column for
each output (bit line). Row ``(c * kh + y) * kw + x`` of a convolution is input channel ``c`` and kernel
position ``y, x``, the order of :func:`torch.nn.functional.unfold`. Grouped convolutions are block diagonal.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .calling import feed

CrossbarLayer = nn.Linear | nn.Conv2d

_KEPT = "_hwloop_kept_digital"

# Layers with parameters that work on one value, or one channel, at a time: digital logic does them.
DIGITAL_LAYERS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.LayerNorm,
    nn.PReLU,
)


class NetworkError(ValueError):
    """A network or a weights file that cannot be used; the message names the layer or the file."""


def batch_norms(net: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    """Return the batch norms of a network."""
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]


def crossbar_layers(net: nn.Module) -> dict[str, CrossbarLayer]:
    """Return the layers that go onto crossbars, by dotted name, in the order in which they are defined.

    Layers that :func:`keep_digital` has marked are not among them. Whatever else has parameters, of whatever
    kind, is digital.

    Raises:
        NetworkError: naming convolutions with other padding than zeros, or layers that share a weight.
    """
    layers: dict[str, CrossbarLayer] = {}
    faults: list[str] = []
    for name, module in net.named_modules():
        if is_kept_digital(module):
            continue
        # A subclass may compute something else with its weights, so the class itself must match.
        if type(module) is nn.Linear or type(module) is nn.Conv2d:
            layers[name] = module
            if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
                faults.append(f"{name} (padding_mode {module.padding_mode!r})")
    if faults:
        raise NetworkError(
            f"unsupported layers: {', '.join(faults)}; arrays pad with zeros; keep such layers digital"
        )
    if not layers:
        raise NetworkError("the network has no Linear or Conv2d layer")
    owners: dict[int, str] = {}
    for name, layer in layers.items():
        other = owners.setdefault(id(layer.weight), name)
        if other != name:
            raise NetworkError(
                f"{other} and {name} share one weight; crossbar layers must each have their own"
            )
    return layers


def no_shortcut(_module: nn.Module, _inputs: object) -> None:
    """Do nothing: a hook on what stands for a layer, for torch's fused paths to see.

    ``nn.TransformerEncoderLayer`` in evaluation multiplies with the weights of its layers by itself, past the
    arrays, unless something in it has a hook.
    """


def digital_modules(net: nn.Module) -> dict[str, str]:
    """Return the modules, but norms, whose parameters digital logic works with: their kind, by name."""
    on_arrays = {id(layer) for layer in crossbar_layers(net).values()}
    return {
        name: type(module).__name__
        for name, module in net.named_modules()
        if id(module) not in on_arrays
        and not isinstance(module, DIGITAL_LAYERS)
        and any(True for _ in module.parameters(recurse=False))
    }


def put_in_place(net: nn.Module, layer: nn.Module, by: nn.Module) -> None:
    """Put ``by`` in all places of ``net``, in place, where it has a layer, under whatever names."""
    for parent in list(net.modules()):
        for child, module in parent._modules.items():
            if module is layer and parent is not by:
                parent._modules[child] = by


def weight_names(net: nn.Module) -> set[str]:
    """Return how the state of ``net`` calls the weights of crossbar layers, each by all of its names."""
    weights = {id(layer.weight) for layer in crossbar_layers(net).values()}
    return {name for name, value in net.named_parameters(remove_duplicate=False) if id(value) in weights}


def keep_digital(net: nn.Module, patterns: Iterable[str]) -> None:
    """Mark layers of ``net``, and of copies of it, that stay digital although arrays could hold them.

    Args:
        net: the network.
        patterns: names of layers, or of modules with all that is in them; ``*`` and ``?`` as in file names.

    Raises:
        NetworkError: if a pattern matches nothing.
    """
    modules = dict(net.named_modules())
    for pattern in patterns:
        found = [name for name in modules if name and fnmatchcase(name, pattern)]
        if not found:
            names = ", ".join(name for name in crossbar_layers(net))
            raise NetworkError(
                f"digital: {pattern!r} matches nothing in the network; layers on arrays are {names}"
            )
        for name in found:
            for module in modules[name].modules():
                setattr(module, _KEPT, True)


def is_kept_digital(module: nn.Module) -> bool:
    """Whether :func:`keep_digital` has marked a module."""
    return hasattr(module, _KEPT)


def to_matrix(layer: CrossbarLayer, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return a layer's weight in GEMM form, ``[rows, cols]``; differentiable.

    Args:
        layer: the layer.
        weight: another tensor in the shape of the layer's weight, such as a gradient, to use instead.
    """
    weight = layer.weight if weight is None else weight
    if isinstance(layer, nn.Linear):
        return weight.T
    blocks = weight.reshape(layer.groups, layer.out_channels // layer.groups, -1).transpose(1, 2)
    return torch.block_diag(*blocks) if layer.groups > 1 else blocks[0]


def bias_of(layer: CrossbarLayer) -> torch.Tensor:
    """Return a layer's bias in a shape that broadcasts over its outputs; zero if it has none."""
    if layer.bias is None:
        return torch.zeros(())
    return layer.bias[:, None, None] if isinstance(layer, nn.Conv2d) else layer.bias


def from_matrix(layer: CrossbarLayer, matrix: torch.Tensor) -> torch.Tensor:
    """Return the weight of ``layer`` whose GEMM form is ``matrix``: the inverse of :func:`to_matrix`.

    Entries outside the blocks of a grouped convolution are ignored. Differentiable.
    """
    if isinstance(layer, nn.Linear):
        return matrix.T.contiguous()
    rows, cols = matrix.shape[0] // layer.groups, matrix.shape[1] // layer.groups
    blocks = [matrix[i * rows : (i + 1) * rows, i * cols : (i + 1) * cols].T for i in range(layer.groups)]
    return torch.cat(blocks).reshape(layer.weight.shape)


def record_inputs(net: nn.Module, x: Any) -> dict[str, torch.Tensor]:
    """Run ``net`` on ``x`` and return what reaches each crossbar layer, by name.

    A layer that runs more than once gets its inputs joined along the batch; one that never runs is absent.
    """
    seen: dict[str, list[torch.Tensor]] = {}
    layers = crossbar_layers(net)

    def keep(name: str, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.setdefault(name, []).append(inputs[0].detach())

    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: keep(name, inputs))
        for name, layer in layers.items()
    ]
    training = net.training
    try:
        net.eval()
        with torch.no_grad():
            feed(net, x)
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    return {name: torch.cat(seen[name]) for name in layers if name in seen}


def windows(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Return what each output position sees: ``[batch, out height, out width, channels, kh, kw]``, a view.

    Reshaped to two dimensions it holds the input vectors of the layer's GEMM form. A strided view makes that
    one copy, several times faster than :func:`torch.nn.functional.unfold` and a transposition.
    """
    # Torch keeps the numbers behind padding="same" here, in the order that F.pad takes.
    x = F.pad(x, layer._reversed_padding_repeated_twice).contiguous()
    batch, channels, height, width = x.shape
    (kh, kw), (sh, sw), (dh, dw) = layer.kernel_size, layer.stride, layer.dilation
    out = ((height - dh * (kh - 1) - 1) // sh + 1, (width - dw * (kw - 1) - 1) // sw + 1)
    b, c, i, j = x.stride()
    return x.as_strided((batch, *out, channels, kh, kw), (b, i * sh, j * sw, c, i * dh, j * dw))
