"""Arrays of cells with curved current-voltage laws: exact currents and node voltages, with gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from .cells import Cells, ConvergenceError, Ohmic
from .newton import Arrays, solve
from .wires import Wires

# Tiles and inputs are taken in parts of about this many numbers, all work arrays together.
_PART_NUMBERS = 1 << 25


@dataclass(frozen=True, eq=False)
class ArraySolution:
    """Operating points of arrays, from :func:`solve_array`.

    Attributes:
        currents: out of each bit line into its sense, ``[..., batch, cols]`` in ampere; differentiable.
        word_line: node voltages in volt, ``[..., batch, rows, cols]``; not differentiable.
        bit_line: the same for the bit lines.
        residual: largest violation of Kirchhoff's current law at any node, ``[..., batch]``, relative to the
            largest cell current of that input (or to 1e-4 of what the cells would carry with ideal wires, if
            that is more).
        steps: Newton steps taken, ``[..., batch]``.
        converged: whether ``residual`` is within the tolerance, ``[..., batch]``.
    """

    currents: torch.Tensor
    word_line: torch.Tensor
    bit_line: torch.Tensor
    residual: torch.Tensor
    steps: torch.Tensor
    converged: torch.Tensor


def solve_array(
    cells: Cells,
    wires: Wires,
    voltages: torch.Tensor,
    *,
    bit_line_voltages: torch.Tensor | None = None,
    tolerance: float = 1e-9,
    require_convergence: bool = True,
) -> ArraySolution:
    """Solve arrays of cells of any law for a batch of inputs each.

    Word line i is driven at its column-0 end; bit line j is sensed at its last-row end, and its current is
    positive towards the sense for positive voltages. A line whose driver or sense is infinite floats. Newton
    steps with one factorization per tile for all inputs, then conjugate gradients on each input, damping, and
    a factorization of each input of its own are tried in this order.

    Args:
        cells: laws of the cells, ``[..., rows, cols]``.
        wires: wire figures in ohm.
        voltages: of the word-line sources, ``[..., batch, rows]`` in volt, float64.
        bit_line_voltages: behind the senses, ``[..., batch, cols]`` in volt; virtual ground when left out.
        tolerance: of Kirchhoff's current law at every node, relative to the largest cell current.
        require_convergence: raise where the tolerance is not reached; otherwise ``converged`` tells.

    Returns:
        The solution. Its currents are differentiable (once) with respect to the parameters of the cells,
        every wire figure and both sets of voltages, by the implicit function theorem. Apart from the result,
        memory stays below 0.5 GiB whatever the numbers of tiles and inputs, for arrays to 128 x 128; larger
        ones need ``5 * min(rows, cols)`` times the memory of one array.

    Raises:
        ValueError: if a shape does not fit, a voltage is not finite, or a cell ends outside the range of its
            law.
        TypeError: if a tensor is not float64.
        ConvergenceError: if an input does not reach the tolerance; names it, with its residual.
    """
    if len(cells.shape) < 2:
        raise ValueError(f"cells have shape {list(cells.shape)}, but an array needs [..., rows, cols]")
    *lead, rows, cols = cells.shape
    voltages = _check_voltages("voltages", voltages, lead, rows)
    batch = voltages.shape[-2]
    if bit_line_voltages is None:
        bit_line_voltages = voltages.new_zeros(batch, cols)
    bit_line_voltages = _check_voltages("bit_line_voltages", bit_line_voltages, lead, cols)
    if bit_line_voltages.shape[-2] != batch:
        raise ValueError(
            f"bit_line_voltages holds {bit_line_voltages.shape[-2]} inputs, but voltages holds {batch}"
        )
    if not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance!r}: it must be positive")
    r_word, r_bit = wires.segments(voltages.new_zeros(1).expand(*lead, rows, cols))
    request = _Request(cells, tuple(lead), tolerance, require_convergence)
    tiled = (x.expand(*lead, *x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (voltages, bit_line_voltages))
    outputs = _SolveArray.apply(request, *tiled, r_word, r_bit, *cells.parameters)
    currents, word, bit, residual, steps = (x.reshape(*lead, *x.shape[1:]) for x in outputs)
    return ArraySolution(currents, word, bit, residual, steps, residual <= tolerance)


@dataclass(frozen=True)
class _Request:
    cells: Cells
    lead: tuple[int, ...]
    tolerance: float
    require_convergence: bool

    def tiles(self, part: slice) -> Cells:
        """Laws of some of the tiles, their parameters ``[T or 1, 1, R, C]``."""

        def view(p: torch.Tensor) -> torch.Tensor:
            if p.dim() > 2:
                p = p.expand(*self.lead, *p.shape[-2:])
            p = p.reshape(-1, *p.shape[-2:])
            return (p[part] if p.shape[0] > 1 else p)[:, None]

        return self.cells.map(view)


class _SolveArray(torch.autograd.Function):
    """Tiles ``[T, B, ...]`` in; ``currents``, node voltages, ``residual`` and ``steps`` out.

    The gradient is that of the linear network of the slopes at the solution, driven at the senses by the
    gradient of the currents (Director and Rohrer, IEEE Trans. Circuit Theory 16, 1969): by Tellegen's theorem
    each element contributes the product of what it carries in both networks. A segment contributes currents,
    so an ideal conductor is no special case.
    """

    @staticmethod
    def forward(
        ctx: Any,
        request: _Request,
        voltages: torch.Tensor,
        senses: torch.Tensor,
        r_word: torch.Tensor,
        r_bit: torch.Tensor,
        *parameters: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        tiles, batch, rows = voltages.shape
        cols = senses.shape[2]
        currents = voltages.new_empty(tiles, batch, cols)
        word, bit = (voltages.new_empty(tiles, batch, rows, cols) for _ in range(2))
        residual = voltages.new_empty(tiles, batch)
        steps = torch.empty(tiles, batch, dtype=torch.long, device=voltages.device)
        # A source behind an open segment has no effect; as 0 V it leaves isolated nodes at 0 V.
        driven = torch.where(torch.isinf(r_word[:, None, :, 0]), 0.0, voltages)
        sensed = torch.where(torch.isinf(r_bit[:, None, -1, :]), 0.0, senses)
        for part in _parts(tiles, batch, rows, cols):
            source = driven[part][..., :, None] - sensed[part][..., None, :]
            cells = request.tiles(part[0])
            done = solve(Arrays(cells, _of(r_word, part), _of(r_bit, part), source), request.tolerance)
            currents[part] = done.current.sum(2)
            word[part] = driven[part][..., :, None] + done.word
            bit[part] = sensed[part][..., None, :] + done.bit
            residual[part], steps[part] = done.residual, done.steps
            if request.require_convergence:
                _require("an array", done.residual, request, part)
            if (done.residual <= request.tolerance).all():
                _check_range(cells, word[part] - bit[part], part)
        ctx.request = request
        ctx.save_for_backward(word, bit, residual, r_word, r_bit, *parameters)
        ctx.mark_non_differentiable(word, bit, residual, steps)
        return currents, word, bit, residual, steps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        word, bit, residual, r_word, r_bit, *parameters = ctx.saved_tensors
        request: _Request = ctx.request
        tiles, batch, rows, cols = word.shape
        d_voltages, d_senses = grad.new_empty(tiles, batch, rows), grad.new_empty(tiles, batch, cols)
        d_word, d_bit = torch.zeros_like(r_word), torch.zeros_like(r_bit)
        leaves = [p.detach().requires_grad_(p.requires_grad) for p in parameters]
        wanted = [p for p in leaves if p.requires_grad]
        for part in _parts(tiles, batch, rows, cols):
            _require("an array", residual[part], request, part)
            with torch.enable_grad():
                cells = replace(request, cells=request.cells.replace(leaves)).tiles(part[0])
                carried, slope = cells.evaluate(word[part] - bit[part])
            source = grad[part][..., None, :].expand(-1, -1, rows, -1)
            network = Arrays(Ohmic(slope.detach()), _of(r_word, part), _of(r_bit, part), source)
            adjoint = solve(network, request.tolerance)
            _require("the gradient of an array", adjoint.residual, request, part)
            d_voltages[part], d_senses[part] = adjoint.current.sum(3), -adjoint.current.sum(2)
            here = carried.detach().flip(3).cumsum(3) * adjoint.current.flip(3).cumsum(3)
            _accumulate(d_word, -here.flip(3).sum(1), part)
            _accumulate(d_bit, -(carried.detach().cumsum(2) * adjoint.current.cumsum(2)).sum(1), part)
            if wanted:
                carried.backward(source + adjoint.word - adjoint.bit)
        return None, d_voltages, d_senses, d_word, d_bit, *(p.grad for p in leaves)


def _of(segments: torch.Tensor, part: tuple[slice, slice]) -> torch.Tensor:
    """Segments ``[T or 1, R, C]`` of some tiles."""
    return segments[part[0]] if segments.shape[0] > 1 else segments


def _accumulate(total: torch.Tensor, here: torch.Tensor, part: tuple[slice, slice]) -> None:
    """Add the gradients ``[T, R, C]`` of some tiles to ``total`` ``[T or 1, R, C]``."""
    if total.shape[0] > 1:
        total[part[0]] += here
    else:
        total += here.sum(0)


def _parts(tiles: int, batch: int, rows: int, cols: int) -> Iterator[tuple[slice, slice]]:
    """Parts of the tiles and inputs whose work arrays fit the bound."""
    factors = rows * cols * 4 * min(rows, cols)
    per_input = 24 * rows * cols
    inputs = max(1, min(batch, (_PART_NUMBERS - factors) // per_input))
    size = max(1, _PART_NUMBERS // (factors + inputs * per_input))
    for tile in range(0, tiles, size):
        for entry in range(0, batch, inputs):
            yield slice(tile, tile + size), slice(entry, entry + inputs)


def _check_voltages(name: str, value: torch.Tensor, lead: Sequence[int], lines: int) -> torch.Tensor:
    """Return ``value`` expanded to ``[*lead, batch, lines]``, or raise naming what is wrong with it."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float64:
        raise TypeError(
            f"{name} must be a float64 torch.Tensor: non-linear cells are solved in double precision"
        )
    want = ", ".join(str(n) for n in (*lead, "batch", lines))
    wrong = f"{name} has shape {list(value.shape)}, but these cells need [{want}]"
    if value.dim() < 2 or value.shape[-1] != lines or value.shape[-2] == 0:
        raise ValueError(wrong)
    bad = ~torch.isfinite(value)
    if bad.any():
        index = [int(k) for k in bad.nonzero()[0]]
        raise ValueError(
            f"{name} at index {index} is {value[tuple(index)].item()}: it must be finite (in volt)"
        )
    try:
        return value.expand(*lead, *value.shape[-2:])
    except RuntimeError:
        raise ValueError(wrong) from None


def _check_range(cells: Cells, drop: torch.Tensor, part: tuple[slice, slice]) -> None:
    try:
        cells.check_range(drop)
    except ValueError as error:
        raise ValueError(f"tiles from {part[0].start}, inputs from {part[1].start}: {error}") from None


def _require(what: str, residual: torch.Tensor, request: _Request, part: tuple[slice, slice]) -> None:
    """Raise unless every input of a part is within tolerance."""
    bad = ~(residual <= request.tolerance)
    if bad.any():
        tile, entry = (int(k) for k in bad.nonzero()[0])
        at = [int(k) for k in np.unravel_index(tile + part[0].start, request.lead)]
        raise ConvergenceError(
            f"{what} was not solved: at tile {at}, input {entry + part[1].start} Kirchhoff's current law "
            f"fails by {residual[tile, entry].item():.3g} of the largest cell current (tolerance "
            f"{request.tolerance:g}); lower the voltages, or check the laws of the cells"
        )
