"""An array with frozen cell conductances, seen from its cells: injected currents in, cell voltages out.

The same elimination as in :mod:`.factorization`, arranged for the one question that Newton steps ask many
times: given currents that leave one node of each cell and enter the other, what are the voltages across the
    cells? All
inputs go through each column in one matrix product. To make these products contiguous, arrays are packed as
``[columns, tiles, batch, rows]``, those of the mirrored array if it has more rows than columns.
"""

from __future__ import annotations

import torch

from .elimination import Ladder, ladder_inverse, mirror
from .factorization import factorize
from .wires import Wires


class Ports:
    """Tiles ``g`` ``[T, R, C]`` (siemens) with merged segments ``[T or 1, R, C]`` (ohm), factored.

    Keeps ``2 * min(R, C)`` times the memory of ``g``.
    """

    def __init__(self, g: torch.Tensor, r_word: torch.Tensor, r_bit: torch.Tensor) -> None:
        self.factorization = factorize(g, Wires(r_word, r_bit))
        net, ladder = self.factorization._network, self.factorization._ladder
        self.mirrored = self.factorization._mirrored
        tiles, rows, cols = net.cell.shape
        each = Ladder(*(x.permute(2, 0, 1).reshape(-1, rows, 1) for x in (ladder.pivot, ladder.ratio)))
        self._ladders = ladder_inverse(each, 0).reshape(cols, tiles, rows, rows)
        self._inverses = self.factorization._inverses
        self._cell, self._word = (x.permute(2, 0, 1)[:, :, None].contiguous() for x in (net.cell, net.word))
        self._scale = net.scale[:, None, None]

    def drops(self, current: torch.Tensor) -> torch.Tensor:
        """Voltages across the cells for ``current`` (A) into the word-line node and out of the bit-line node
        of each.

        All sources and senses are at 0 V; both arrays are packed. The map is symmetric and positive
        semidefinite.
        """
        total = torch.addcmul(current, torch.matmul(current, self._ladders), self._cell, value=-1)
        last = len(total) - 1
        word = torch.empty_like(total)  # first the answer to what is right of a column, then the voltages
        for j in range(last, -1, -1):
            if j < last:
                total[j].addcmul_(word[j + 1], self._word[j + 1])
            torch.bmm(total[j], self._inverses[j], out=word[j])
        for j in range(1, last + 1):
            word[j].baddbmm_(word[j - 1] * self._word[j], self._inverses[j])
        # What leaves a bit-line node: the current injected less that of the frozen cell.
        torch.addcmul(current, word, self._cell, value=-1, out=total)
        return word.add_(torch.matmul(total, self._ladders)).div_(self._scale)


def pack(x: torch.Tensor, mirrored: bool) -> torch.Tensor:
    """``[T, B, R, C]``, or what broadcasts to it, as ``[C, T, B, R]``, contiguous."""
    return (mirror(x) if mirrored else x).permute(3, 0, 1, 2).contiguous()


def unpack(x: torch.Tensor, mirrored: bool) -> torch.Tensor:
    """Undo :func:`pack`."""
    x = x.permute(1, 2, 3, 0)
    return mirror(x) if mirrored else x
