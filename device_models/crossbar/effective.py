"""The effective conductance of a crossbar with resistive wires, and its gradient."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from . import compiled, elimination
from .checks import check_conductance
from .elimination import Network, mirror
from .wires import Wires

# Tiles are taken in parts, so that what is kept at one time stays below this whatever the batch.
_PART_BYTES = 1 << 28
# What each tile takes meanwhile, in multiples of its conductances (in compiled code, only its copies).
_COPIES = 16


def effective_conductance(g: torch.Tensor, wires: Wires) -> torch.Tensor:
    """Return the conductances that an ideal crossbar would need to carry the same currents.

    With wires the array is still linear: ``currents = voltages @ effective_conductance(g, wires)``, for any
    number of inputs. Word line i (row i) is driven at its column-0 end; bit line j (column j) is sensed at
    its last-row end, into a virtual ground, and its current is positive towards the sense for positive
    voltages.

    Args:
        g: cell conductances in siemens, ``[..., rows, cols]``, on the processor or a GPU. float32 is solved
            in float64 too, and only rounded in the end: sums along the lines would cost it three digits.
        wires: wire figures in ohm. If all are zero the result is ``g``, exactly.

    Returns:
        Effective conductances in siemens, ``[..., rows, cols]``. Differentiable (once) with respect to
        ``g`` and to every wire figure. The network is solved again in the backward pass, so nothing but
        ``g`` and the wires is kept until then.

    Raises:
        ValueError: if a conductance is negative or not finite, or a wire figure does not fit the shape of
            ``g``.
        TypeError: if ``g`` is not a float32 or float64 tensor.
    """
    check_conductance(g)
    if wires.ideal and not wires.requires_grad:
        return g
    r_word, r_bit = wires.segments(g)
    tiles = g.reshape(-1, *g.shape[-2:])
    result: torch.Tensor = _EffectiveConductance.apply(tiles, r_word, r_bit)
    return result.reshape(g.shape)


def backend(g: torch.Tensor) -> ModuleType:
    """The implementation for the device of ``g``: compiled on the processor, torch operations elsewhere."""
    return compiled if g.device.type == "cpu" else elimination


def network(g: torch.Tensor, r_word: torch.Tensor, r_bit: torch.Tensor) -> tuple[Network, bool]:
    """Normalise tiles ``[T, R, C]``, mirrored if they have more rows than columns; also say whether they are.

    The work grows with the square of the rows of a network and less with its columns.
    """
    mirrored = g.shape[-2] > g.shape[-1]
    if mirrored:
        g, r_word, r_bit = (mirror(x).contiguous() for x in (g, r_bit, r_word))
    return backend(g).normalise(g, r_word, r_bit), mirrored


class _EffectiveConductance(torch.autograd.Function):
    """Tiles ``[T, R, C]`` and segments ``[T or 1, R, C]`` to effective conductances ``[T, R, C]``."""

    @staticmethod
    def forward(ctx: Any, g: torch.Tensor, r_word: torch.Tensor, r_bit: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(g, r_word, r_bit)
        if not r_word.any() and not r_bit.any():
            return g.clone()
        result = torch.empty_like(g)
        for part in _parts(g, _COPIES):
            net, mirrored = network(g[part], _of(r_word, part), _of(r_bit, part))
            solved = backend(g).transfer(net)
            result[part] = mirror(solved) if mirrored else solved
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        g, r_word, r_bit = ctx.saved_tensors
        wires = any(ctx.needs_input_grad[1:])
        d_g = torch.empty_like(g)
        d_word, d_bit = (torch.zeros_like(r) if wires else None for r in (r_word, r_bit))
        blocks = 0 if backend(g) is compiled else 2 * min(g.shape[-2:])
        for part in _parts(g, _COPIES + blocks):
            net, mirrored = network(g[part], _of(r_word, part), _of(r_bit, part))
            upstream = mirror(grad[part]) if mirrored else grad[part]
            cell, word, bit = backend(g).gradient(net, upstream.double().contiguous(), wires)
            if mirrored:
                cell, word, bit = mirror(cell), mirror(bit), mirror(word)
            d_g[part] = cell
            if d_word is not None and d_bit is not None:
                _collect(d_word, part, word, net.scale)
                _collect(d_bit, part, bit, net.scale)
        return d_g if ctx.needs_input_grad[0] else None, d_word, d_bit


def _parts(g: torch.Tensor, multiple: int) -> list[slice]:
    """Cut the tiles into parts, for work that takes ``multiple`` times the memory of the conductances."""
    # A GPU needs all tiles at once to be busy: there, a quarter of what is free.
    room = torch.cuda.mem_get_info(g.device)[0] // 4 if g.is_cuda else _PART_BYTES
    size = max(1, room // (multiple * g.shape[-1] * g.shape[-2] * g.element_size()))
    return [slice(start, start + size) for start in range(0, g.shape[0], size)]


def _of(segments: torch.Tensor, part: slice) -> torch.Tensor:
    return segments if segments.shape[0] == 1 else segments[part]


def _collect(total: torch.Tensor, part: slice, gradient: torch.Tensor, scale: torch.Tensor) -> None:
    """Undo the normalisation of the gradient for segments, and sum it over tiles that share them."""
    gradient = gradient * scale[:, None, None] ** 2
    if total.shape[0] == 1:
        total += gradient.sum(0, keepdim=True)
    else:
        total[part] = gradient
