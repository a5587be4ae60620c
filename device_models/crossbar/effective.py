"""The effective conductance of a crossbar with resistive wires, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from . import elimination
from .checks import check_conductance
from .wires import Wires


def effective_conductance(g: torch.Tensor, wires: Wires) -> torch.Tensor:
    """Return the conductances that an ideal crossbar would need to carry the same currents.

    With wires the array is still linear: ``currents = voltages @ effective_conductance(g, wires)``, for any number of
    inputs. Word line i (row i) is driven at its column-0 end; bit line j (column j) is sensed at its last-row end, into
    a virtual ground, and its current is positive towards the sense for positive voltages.

    Args:
        g: cell conductances in siemens, ``[..., rows, cols]``, float32 or float64, on any device.
        wires: wire figures in ohm. If all are zero the result is ``g``, exactly.

    Returns:
        Effective conductances in siemens, ``[..., rows, cols]``. Differentiable (once) with respect to ``g`` and to
        every wire figure. The network is solved again in the backward pass, so nothing but ``g`` and the wires is kept.

    Raises:
        ValueError: if a conductance is negative or not finite, or a wire figure does not fit the shape of ``g``.
        TypeError: if ``g`` is not a float32 or float64 tensor.
    """
    check_conductance(g)
    if wires.ideal and not wires.requires_grad:
        return g
    r_word, r_bit = wires.segments(g)
    tiles = g.reshape(-1, *g.shape[-2:])
    result: torch.Tensor = _EffectiveConductance.apply(tiles, r_word, r_bit)
    return result.reshape(g.shape)


class _EffectiveConductance(torch.autograd.Function):
    """Tiles ``[T, R, C]`` and segments ``[T or 1, R, C]`` to effective conductances ``[T, R, C]``."""

    @staticmethod
    def forward(ctx: Any, g: torch.Tensor, r_word: torch.Tensor, r_bit: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(g, r_word, r_bit)
        return forward_tiles(g, r_word, r_bit)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        g, r_word, r_bit = ctx.saved_tensors
        gradients = backward_tiles(g, r_word, r_bit, grad)
        return tuple(x if needed else None for x, needed in zip(gradients, ctx.needs_input_grad, strict=True))


def forward_tiles(g: torch.Tensor, r_word: torch.Tensor, r_bit: torch.Tensor) -> torch.Tensor:
    """Effective conductance of tiles ``[T, R, C]`` with segments ``[T or 1, R, C]``, in torch operations."""
    result = torch.empty_like(g)
    for part in _parts(g, bytes_per_tile=8 * g.shape[-1] * (g.shape[-1] + g.shape[-2]) * g.element_size()):
        net, flip = _network(g[part], _of(r_word, part), _of(r_bit, part))
        done = elimination.eliminate(net, elimination.ladders(net), keep=False)
        result[part] = flip(done.transfer) * net.scale[:, None, None]
    return result


def backward_tiles(
    g: torch.Tensor, r_word: torch.Tensor, r_bit: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients for ``g``, ``r_word`` and ``r_bit`` given the one for the effective conductance."""
    d_g, d_word, d_bit = torch.empty_like(g), torch.zeros_like(r_word), torch.zeros_like(r_bit)
    side = max(g.shape[-2:])
    for part in _parts(g, bytes_per_tile=2 * side * side * min(g.shape[-2:]) * g.element_size()):
        net, flip = _network(g[part], _of(r_word, part), _of(r_bit, part))
        cell, word, bit = (flip(x) for x in elimination.gradient(net, flip(grad[part])))
        if flip is elimination.mirror:
            word, bit = bit, word
        d_g[part] = cell
        for total, here in ((d_word, word), (d_bit, bit)):
            here = here * net.scale[:, None, None] ** 2
            if total.shape[0] == 1:
                total += here.sum(0, keepdim=True)
            else:
                total[part] = here
    return d_g, d_word, d_bit


# Tiles are taken in parts so that the blocks kept at one time stay below this, whatever the batch.
_WORKSPACE_BYTES = 1 << 28


def _parts(g: torch.Tensor, bytes_per_tile: int) -> list[slice]:
    size = max(1, _WORKSPACE_BYTES // bytes_per_tile)
    return [slice(start, start + size) for start in range(0, g.shape[0], size)]


def _of(segments: torch.Tensor, part: slice) -> torch.Tensor:
    return segments if segments.shape[0] == 1 else segments[part]


def _network(g: torch.Tensor, r_word: torch.Tensor, r_bit: torch.Tensor) -> tuple[elimination.Network, Any]:
    """Normalised network with blocks along the shorter side, and the map back to the array as it was given."""
    if g.shape[-2] <= g.shape[-1]:
        return elimination.normalise(g, r_word, r_bit), lambda x: x
    net = elimination.normalise(elimination.mirror(g), elimination.mirror(r_bit), elimination.mirror(r_word))
    return net, elimination.mirror
