"""The operations of :mod:`.elimination` on the processor: compiled kernels, tiles spread over
threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from . import adjoint, fields, kernels, tiles
from .elimination import SHORT, Factors, Ladder, Network


def normalise(g: torch.Tensor, r_word: torch.Tensor, r_bit: torch.Tensor) -> Network:
    """Scale tiles ``[T, R, C]`` (siemens, ohm) so that the largest cell of each is 1."""
    g = g.double()
    cell, word, bit = (g.new_empty(g.shape) for _ in range(3))
    scale = g.new_empty(g.shape[0])
    arrays = _arrays(g, r_word, r_bit, cell, word, bit, scale)
    _spread(lambda start, stop: tiles.normalise_tiles(start, stop, SHORT, *arrays), g.shape[0])
    return Network(cell, word, bit, scale)


def transfer(net: Network) -> torch.Tensor:
    """Effective conductance ``[T, R, C]`` of normalised tiles, in siemens."""
    result = net.cell.new_empty(net.cell.shape)
    cell, word, bit, scale, out = _arrays(net.cell, net.word, net.bit, net.scale, result)
    rows, cols = cell.shape[1:]

    def run(start: int, stop: int) -> None:
        tiles.transfer_tiles(start, stop, cell, word, bit, scale, out, kernels.workspace(rows, cols))

    _spread(run, cell.shape[0])
    return result


def factor(net: Network) -> Factors:
    """Ladders, column inverses and effective conductances (siemens) of normalised tiles."""
    count, rows, cols = net.cell.shape
    pivot, ratio, result = (net.cell.new_empty(net.cell.shape) for _ in range(3))
    inverses = net.cell.new_empty(cols, count, rows, rows)
    arrays = _arrays(net.cell, net.word, net.bit, net.scale, pivot, ratio, inverses, result)

    def run(start: int, stop: int) -> None:
        tiles.factor_tiles(start, stop, *arrays, kernels.workspace(rows, cols))

    _spread(run, count)
    return Factors(net, Ladder(pivot, ratio), inverses, result)


def solve(factors: Factors, word_in: torch.Tensor, bit_in: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Node voltages ``[T, B, R, C]`` for currents injected at the nodes (normalised)."""
    count, batch, rows, cols = word_in.shape
    word_out, bit_out = (word_in.new_empty(word_in.shape) for _ in range(2))
    net, ladder = factors.network, factors.ladder
    arrays = _arrays(
        net.cell, net.word, ladder.pivot, ladder.ratio, factors.inverses, word_in, bit_in, word_out, bit_out
    )

    def run(start: int, stop: int) -> None:
        space = fields.field_space(rows, cols, batch, gradients=False)
        fields.solve_parts(start, stop, *arrays, space)

    _spread(run, count * -(-batch // fields.FIELD_WIDTH))
    return word_out, bit_out


def gradient(
    net: Network, grad: torch.Tensor, wires: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients ``[T, R, C]`` for cells and segments; those of the segments mean nothing without
    ``wires``.
    """
    count, rows, cols = net.cell.shape
    d_cell = net.cell.new_empty(net.cell.shape)
    d_word, d_bit = (net.cell.new_empty(count if wires else 1, rows, cols) for _ in range(2))
    arrays = _arrays(net.cell, net.word, net.bit, grad, d_cell, d_word, d_bit)

    def run(start: int, stop: int) -> None:
        space = fields.field_space(rows, cols, cols, gradients=True)
        work = kernels.workspace(rows, 1)
        adjoint.gradient_tiles(start, stop, wires, *arrays, work, space)

    _spread(run, count)
    return d_cell, d_word, d_bit


def _arrays(*tensors: torch.Tensor) -> list[np.ndarray[Any, Any]]:
    return [x.detach().contiguous().numpy() for x in tensors]


def _spread(run: Callable[[int, int], None], count: int) -> None:
    """Call ``run(start, stop)`` for parts of 0..count on as many threads as torch uses."""
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        if count:
            run(0, count)
        return
    parts = min(count, 4 * threads)
    bounds = [count * k // parts for k in range(parts + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, bounds[:-1], bounds[1:]))
