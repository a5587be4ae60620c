"""Exact elimination of a crossbar column by column, in batched torch operations for any device.

Each bit line is a ladder, so the cells of one column seen from their word lines are a dense positive
coupling with a closed form. Columns are then eliminated from the far end towards the drivers, one block of
word-line nodes each. Every matrix here is a diagonally dominant M-matrix kept as its non-negative couplings
and its non-negative conductance to ground, never as its diagonal: then nothing is ever subtracted and each
entry is accurate to rounding, whatever the spread of the resistances (Alfa, Xue, Ye, Math. Comp. 71, 2002;
the idea is the GTH algorithm of Grassmann, Taksar, Heyman, Oper. Res. 33, 1985).

Shapes: T tiles, R rows, C columns, B inputs. All conductances are relative to the largest cell of their tile,
and all arithmetic is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# A segment below this resistance, relative to the largest cell, cannot be told from an ideal one in float64.
SHORT = 1e-24


@dataclass(frozen=True)
class Network:
    """Tiles in normalised form: cells, segments left of and below each, ``[T, R, C]``; ``scale``
    ``[T]`` in siemens.
    """

    cell: torch.Tensor
    word: torch.Tensor
    bit: torch.Tensor
    scale: torch.Tensor


@dataclass(frozen=True)
class Ladder:
    """Bit lines as resistor ladders ``[T, R, C]``, by the inverse of the conductance matrix of each.

    ``pivot`` is its diagonal, and ``inverse[i, k] = ratio[i] * inverse[i + 1, k]`` for i < k; it is
    symmetric.
    """

    pivot: torch.Tensor
    ratio: torch.Tensor


@dataclass(frozen=True)
class Factors:
    """An eliminated network.

    ``inverses`` ``[C, T, R, R]``: per column, the inverse of the word-line block with all columns right of it
    eliminated. ``transfer`` ``[T, R, C]``: the effective conductance in siemens.
    """

    network: Network
    ladder: Ladder
    inverses: torch.Tensor
    transfer: torch.Tensor


def normalise(g: torch.Tensor, r_word: torch.Tensor, r_bit: torch.Tensor) -> Network:
    """Scale tiles ``[T, R, C]`` (siemens, ohm) so that the largest cell of each is 1."""
    g = g.double()
    largest = g.amax(dim=(1, 2))
    scale = torch.where(largest > 0, largest, 1.0)
    by = scale[:, None, None]
    word, bit = ((r * by).clamp_min_(SHORT).reciprocal_() for r in (r_word, r_bit))
    return Network(g / by, word, bit, scale)


def mirror(x: torch.Tensor) -> torch.Tensor:
    """Reflect an array about its anti-diagonal: word lines become bit lines and drivers become senses.

    By reciprocity the mirrored array, with ``word`` and ``bit`` exchanged, has the mirrored transfer.
    """
    return x.flip(-1, -2).mT


def ladders(net: Network) -> Ladder:
    """Solve all bit lines as ladders, by sums, products and quotients of positive terms only."""
    cell, bit = net.cell, net.bit
    rows = cell.shape[1]
    above = [cell[:, 0]]  # conductance from a node upwards, its own cell included
    for i in range(1, rows):
        above.append(cell[:, i] + _series(above[-1], bit[:, i - 1]))
    below = [bit[:, rows - 1]]  # from a node downwards, its own cell excluded
    for i in range(rows - 2, -1, -1):
        below.append(_series(bit[:, i], below[-1] + cell[:, i + 1]))
    up, down = torch.stack(above, 1), torch.stack(below[::-1], 1)
    return Ladder(pivot=_reciprocal(up + down), ratio=bit * _reciprocal(bit + up))


def ladder_inverse(ladder: Ladder, j: int) -> torch.Tensor:
    """Inverse ``[T, R, R]`` of the conductance matrix of bit line j."""
    ratio, pivot = ladder.ratio[:, :, j], ladder.pivot[:, :, j]
    rows = ratio.shape[1]
    above = torch.ones(rows, rows, dtype=torch.bool, device=ratio.device).triu(1)
    steps = torch.where(above, ratio[:, :, None], 1.0)
    upper = steps.flip(1).cumprod(1).flip(1).triu() * pivot[:, None, :]
    return upper + upper.triu(1).mT


def grounded_inverse(coupling: torch.Tensor, ground: torch.Tensor) -> torch.Tensor:
    """Invert ``diag(ground + coupling.sum(-1)) - coupling`` by halves, without subtractions.

    Args:
        coupling: ``[T, n, n]``, symmetric and non-negative; its diagonal is ignored.
        ground: ``[T, n]``, non-negative. A node without any path to ground gets a zero row.
    """
    n = ground.shape[-1]
    if n == 1:
        return _reciprocal(ground)[..., None]
    h = n // 2
    cross = coupling[:, :h, h:]
    first = grounded_inverse(coupling[:, :h, :h], ground[:, :h] + cross.sum(-1))
    spread = first @ cross  # voltages of the first half per volt at the second
    second = grounded_inverse(
        coupling[:, h:, h:] + cross.mT @ spread, ground[:, h:] + (ground[:, None, :h] @ spread)[:, 0]
    )
    corner = spread @ second
    return torch.cat(
        [torch.cat([first + corner @ spread.mT, corner], 2), torch.cat([corner.mT, second], 2)], dim=1
    )


def transfer(net: Network) -> torch.Tensor:
    """Effective conductance ``[T, R, C]`` of normalised tiles, in siemens."""
    return _eliminate(net, ladders(net), keep=False)[2] * net.scale[:, None, None]


def factor(net: Network) -> Factors:
    """Eliminate normalised tiles and keep every column's inverse."""
    ladder = ladders(net)
    inverses, _, effective = _eliminate(net, ladder, keep=True)
    return Factors(net, ladder, torch.stack(inverses), effective * net.scale[:, None, None])


def solve(factors: Factors, word_in: torch.Tensor, bit_in: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Node voltages ``[T, B, R, C]`` for currents injected at the nodes (normalised)."""
    net, ladder, inverses = factors.network, factors.ladder, factors.inverses
    cols = net.cell.shape[2]
    total: list[torch.Tensor] = []
    for j in range(cols - 1, -1, -1):
        here = word_in[..., j] + (bit_in[..., j] @ ladder_inverse(ladder, j)) * net.cell[:, None, :, j]
        if total:
            here = here + (total[-1] @ inverses[j + 1]) * net.word[:, None, :, j + 1]
        total.append(here)
    total.reverse()
    word_v, bit_v = torch.empty_like(word_in), torch.empty_like(bit_in)
    for j in range(cols):
        rhs = total[j]
        if j:
            rhs = rhs + net.word[:, None, :, j] * word_v[..., j - 1]
        word_v[..., j] = rhs @ inverses[j]
        into_bit = bit_in[..., j] + net.cell[:, None, :, j] * word_v[..., j]
        bit_v[..., j] = into_bit @ ladder_inverse(ladder, j)
    return word_v, bit_v


def gradient(
    net: Network, grad: torch.Tensor, wires: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Adjoint of :func:`transfer`: gradients ``[T, R, C]`` for cells, word-line and bit-line segments.

    By Tellegen's theorem d transfer[i, l] / d(cell) = - drop_i * drop_l, with drop_i the voltage across the
    cell when driver i is at 1 V and drop_l when sense l is. ``grad`` is folded into the first set, so one
    pair of fields per sense line is enough. For a segment the currents through it replace the drops, and
    the gradient is that for its resistance; they come from Kirchhoff's current law, so an ideal conductor
    is no special case. Without ``wires`` the last two results mean nothing.
    """
    rows, cols = net.cell.shape[1:]
    ladder = ladders(net)
    inverses, outputs, effective = _eliminate(net, ladder, keep=True)
    forward = grad.mT  # [T, C, R]: driver voltages of the C forward fields
    adjoint = torch.zeros_like(forward)
    forward_current = _driver_currents(net, inverses[0], effective, forward)
    adjoint_current = -effective.mT
    d_cell, d_word, d_bit = (torch.empty_like(net.cell) for _ in range(3))
    for j in range(cols):
        word, cell, bit_inverse = net.word[:, None, :, j], net.cell[:, None, :, j], ladder_inverse(ladder, j)
        forward = (word * forward) @ inverses[j]
        adjoint = (word * adjoint) @ inverses[j]
        adjoint[:, j:] += outputs[j]
        forward_drop = forward - (cell * forward) @ bit_inverse
        adjoint_bit = (cell * adjoint) @ bit_inverse
        adjoint_bit[:, j] += net.bit[:, rows - 1, j, None] * bit_inverse[:, rows - 1]
        adjoint_drop = adjoint - adjoint_bit
        d_cell[:, :, j] = -(forward_drop * adjoint_drop).sum(1)
        if wires:
            forward_cell, adjoint_cell = cell * forward_drop, cell * adjoint_drop
            d_word[:, :, j] = (forward_current * adjoint_current).sum(1)
            d_bit[:, :, j] = (forward_cell.cumsum(2) * adjoint_cell.cumsum(2)).sum(1)
            forward_current = forward_current - forward_cell
            adjoint_current = adjoint_current - adjoint_cell
    return d_cell, d_word, d_bit


def _eliminate(
    net: Network, ladder: Ladder, keep: bool
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Eliminate column C-1 first, column 0 last.

    Returns, with ``keep``, the inverse of every column ``[T, R, R]`` and per column j the currents ``[T, C
    - j, R]`` into senses j.. per ampere injected there; and the transfer ``[T, R, C]``.
    """
    rows, cols = net.cell.shape[1:]
    inverses: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    inverse = output = net.cell  # replaced in the first round
    for j in range(cols - 1, -1, -1):
        cell, bit_inverse = net.cell[:, :, j], ladder_inverse(ladder, j)
        coupling = cell[:, :, None] * bit_inverse * cell[:, None, :]
        to_sense = (cell * bit_inverse[:, :, rows - 1] * net.bit[:, rows - 1, j, None])[:, None]
        if j < cols - 1:
            word = net.word[:, :, j + 1]
            coupling = coupling + word[:, :, None] * inverse * word[:, None, :]
            to_sense = torch.cat([to_sense, output * word[:, None, :]], 1)
        inverse = grounded_inverse(coupling, net.word[:, :, j] + to_sense.sum(1))
        output = to_sense @ inverse
        if keep:
            inverses.append(inverse)
            outputs.append(output)
    return inverses[::-1], outputs[::-1], (output * net.word[:, None, :, 0]).mT


def _driver_currents(
    net: Network, inverse: torch.Tensor, effective: torch.Tensor, source: torch.Tensor
) -> torch.Tensor:
    """Currents ``[T, L, R]`` out of the drivers for their voltages ``source``; ``inverse`` is that of
    column 0.
    """
    first = net.word[:, :, 0]
    mutual = first[:, :, None] * inverse * first[:, None, :]
    mutual = mutual - torch.diag_embed(mutual.diagonal(dim1=1, dim2=2))
    return source * (mutual.sum(2) + effective.sum(2))[:, None] - source @ mutual


def _reciprocal(x: torch.Tensor) -> torch.Tensor:
    """1/x, and 0 where nothing is connected (x = 0)."""
    return torch.where(x > 0, 1 / torch.where(x > 0, x, 1.0), 0.0)


def _series(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Conductance of a and b in series."""
    return a * (b * _reciprocal(a + b))
