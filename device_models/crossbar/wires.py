"""Resistances of the lines of a crossbar, and how they attach to the cells.

Every cell owns two wire segments: the one to its left on its word line and the one below it on its bit line.

    driver_i ──[word_line 0]──●──[word_line 1]──●── ...        word line i
                            cell(i,0)         cell(i,1)
                              ●── ...           ●
                        [bit_line i]      [bit_line i]
                              ●                 ●              bit lines 0 and 1
                             ...               ...
                         [bit_line rows-1] then sense_j, into virtual ground

So the segment of cell (i, 0) is the one at the driver, and the segment of cell (rows-1, j) is the one at
the sense.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from .checks import check_resistance


@dataclass(frozen=True, eq=False)
class Wires:
    """Wire figures in ohm. Each is a number, or a tensor that may require grad.

    Attributes:
        word_line: one segment of a word line; broadcasts to ``[..., rows, cols]``, where entry (i, j) is the
            segment to the left of cell (i, j).
        bit_line: one segment of a bit line; broadcasts to ``[..., rows, cols]``, where entry (i, j) is the
            segment below cell (i, j).
        driver: between each source and its word line, in series with the first segment; broadcasts to
            ``[..., rows]``.
        sense: between each bit line and its virtual ground, in series with the last segment; broadcasts to
            ``[..., cols]``.

    Zero is an ideal conductor. Infinity is an open segment, and as ``driver`` or ``sense`` a floating line.

    Raises:
        ValueError: if a figure is negative or NaN.
    """

    word_line: float | torch.Tensor
    bit_line: float | torch.Tensor
    driver: float | torch.Tensor = 0.0
    sense: float | torch.Tensor = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_resistance(f"wires.{field.name}", self._figure(field.name))

    @property
    def requires_grad(self) -> bool:
        """Whether any figure is a tensor that requires grad."""
        return any(self._figure(field.name).requires_grad for field in fields(self))

    @property
    def ideal(self) -> bool:
        """Whether every figure is zero."""
        return not any(self._figure(field.name).any() for field in fields(self))

    def _figure(self, name: str) -> torch.Tensor:
        figure = getattr(self, name)
        # Numbers must not pass through torch's default float32: 1e-3 ohm would be off by 5e-8.
        return figure if isinstance(figure, torch.Tensor) else torch.as_tensor(figure, dtype=torch.float64)

    def segments(self, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Resistance in ohm of the word-line segment left of, and bit-line segment below, each cell of ``g``.

        Driver and sense are merged into the segments they are in series with. Both results are
        ``[tiles or 1, rows, cols]`` float64, on the device of ``g``; the leading size is 1 when no
        figure differs between the tiles.

        Raises:
            ValueError: if a figure does not broadcast to the shape of ``g``.
        """
        rows, cols = g.shape[-2:]
        word = self._per_tile("word_line", (rows, cols), g)
        bit = self._per_tile("bit_line", (rows, cols), g)
        driver = self._per_tile("driver", (rows,), g)
        sense = self._per_tile("sense", (cols,), g)
        first = word[:, :, :1] + driver[:, :, None]
        last = bit[:, -1:, :] + sense[:, None, :]
        word = torch.cat([first, word[:, :, 1:].expand(first.shape[0], -1, -1)], dim=2)
        bit = torch.cat([bit[:, :-1, :].expand(last.shape[0], -1, -1), last], dim=1)
        return word, bit

    def _per_tile(self, name: str, line: tuple[int, ...], g: torch.Tensor) -> torch.Tensor:
        """Broadcast one figure to ``[tiles or 1, *line]``."""
        value = self._figure(name).to(dtype=torch.float64, device=g.device)
        lead = g.shape[:-2]
        try:
            if value.dim() <= len(line):
                return value.expand(1, *line)
            return value.expand(*lead, *line).reshape(-1, *line)
        except RuntimeError:
            raise ValueError(
                f"wires.{name} has shape {list(value.shape)}, which does not broadcast to {[*lead, *line]} "
                f"as conductances of shape {list(g.shape)} need"
            ) from None
