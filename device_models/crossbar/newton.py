"""Kirchhoff's laws of arrays of non-linear cells, solved by damped Newton steps for many inputs at once.

The unknowns are the cell currents. Summing them along the lines gives every wire current, and summing the
voltage drops of those gives every node voltage; what is left to satisfy is the law of each cell. Its
mismatch, the current assumed less the current that the cell conducts at its voltage, is the current by which
Kirchhoff's law fails at its two nodes. Wires are positive definite and laws rise, so the solution is the
minimum of a convex function (the content of Millar, Phil. Mag. 42, 1951) and every Newton direction leads
down it.

The slopes of the cells differ from input to input, but one factorization with frozen slopes serves all inputs
of a tile: as the preconditioner of conjugate gradients on the exact equations of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .cells import Cells
from .ports import Ports, pack, unpack

# Typical: 3 to 5 steps of 1 to 5 products; laws that rise by e^30 within the applied voltage take about 30
# steps.
_MAX_STEPS = 80
_MAX_PRODUCTS = 60
_MAX_SHORTENINGS = 40
# Arrays that carry next to nothing (floating lines) are measured against this share of what their cells would
# carry with ideal wires: their own currents are what rounding leaves.
_FAINT = 1e-4


@dataclass(frozen=True)
class Arrays:
    """Arrays to be solved, each for a batch of inputs.

    Attributes:
        cells: parameters broadcast to ``[T, B, R, C]``.
        r_word: merged segments in ohm, ``[T or 1, R, C]``.
        r_bit: the same for the bit lines.
        source: word-line source less bit-line source of each cell in volt, ``[T, B, R, C]``.
    """

    cells: Cells
    r_word: torch.Tensor
    r_bit: torch.Tensor
    source: torch.Tensor

    def single(self, tile: torch.Tensor, entry: torch.Tensor) -> Arrays:
        """Input ``entry[k]`` of tile ``tile[k]`` as a tile of its own with one input, for every k."""

        def pick(p: torch.Tensor) -> torch.Tensor:
            return p[tile if p.shape[0] > 1 else tile * 0, entry if p.shape[1] > 1 else entry * 0][:, None]

        r_word, r_bit = (r[tile if r.shape[0] > 1 else tile * 0] for r in (self.r_word, self.r_bit))
        return Arrays(self.cells.map(pick), r_word, r_bit, pick(self.source))


@dataclass(frozen=True)
class Solved:
    """What :func:`solve` returns, for ``[T, B]`` inputs.

    Attributes:
        current: cell currents in ampere, ``[T, B, R, C]``.
        word: word-line node voltages less the voltage of their source, ``[T, B, R, C]``.
        bit: the same for the bit lines and the voltage behind their sense.
        residual: largest violation of Kirchhoff's current law at any node, relative to the largest cell
            current (or to 1e-4 of what the cells would carry with ideal wires, if that is more).
        steps: Newton steps.
    """

    current: torch.Tensor
    word: torch.Tensor
    bit: torch.Tensor
    residual: torch.Tensor
    steps: torch.Tensor


@dataclass(frozen=True)
class _State:
    """Cell currents and what follows; ``violation`` and ``largest`` are ``[1, T, B, 1]`` in ampere."""

    current: torch.Tensor
    drop: torch.Tensor
    mismatch: torch.Tensor
    slope: torch.Tensor
    violation: torch.Tensor
    largest: torch.Tensor

    def done(self, tolerance: float) -> torch.Tensor:
        return self.violation <= tolerance * self.largest


def solve(arrays: Arrays, tolerance: float) -> Solved:
    """Solve all inputs; those that fail with a shared factorization are solved again with one of their own.

    Nothing is raised when that fails too: ``residual`` then exceeds ``tolerance`` (or is NaN).
    """
    solved = _Iteration(arrays, tolerance).run()
    left = ~(solved.residual <= tolerance)
    if solved.residual.shape[1] > 1 and left.any():
        tile, entry = left.nonzero(as_tuple=True)
        for at in range(len(tile)):
            one = _Iteration(arrays.single(tile[at : at + 1], entry[at : at + 1]), tolerance).run()
            for name in ("current", "word", "bit", "residual"):
                getattr(solved, name)[tile[at], entry[at]] = getattr(one, name)[0, 0]
            solved.steps[tile[at], entry[at]] += one.steps[0, 0]
    return solved


class _Iteration:
    """Newton steps for one group of tiles. All arrays are packed (see :mod:`.ports`)."""

    def __init__(self, arrays: Arrays, tolerance: float) -> None:
        tiles, _, rows, cols = arrays.source.shape
        self.arrays, self.tolerance, self.mirrored = arrays, tolerance, rows > cols
        self.cells = arrays.cells.map(lambda p: pack(p, self.mirrored))
        self.source = pack(arrays.source, self.mirrored)
        self.applied = _peak(self.source)
        word, bit = (pack(r[:, None], self.mirrored) for r in (arrays.r_word, arrays.r_bit))
        self.r_word, self.r_bit = (bit, word) if self.mirrored else (word, bit)
        slope = arrays.cells.evaluate(arrays.source.new_zeros(1, 1, 1, 1))[1]
        self._freeze(slope.mean(1).expand(tiles, rows, cols))
        # Across these the voltage is known better than the current: Ohm's law is read the other way round.
        largest = slope.max()
        self.resistive = tuple((r * largest > 1) | torch.isinf(r) for r in (self.r_word, self.r_bit))
        self.any_resistive = any(bool(where.any()) for where in self.resistive)

    def run(self) -> Solved:
        """Iterate until every input is done, or none gets better."""
        drop = self.source - self.ports.drops(self.frozen * self.source)
        state = self._state(self.frozen * drop, drop)
        batch, side = state.current.shape[2:]
        steps = torch.zeros_like(state.violation, dtype=torch.long)
        alive = torch.isfinite(state.violation + state.largest)
        products = 0
        for step in range(_MAX_STEPS):
            open_ = alive & ~state.done(self.tolerance)
            if not open_.any():
                break
            # A factorization costs about as much as one product for each of ``side`` inputs.
            if step == 0 or products * batch > side:
                meant = torch.where(open_.any(2, keepdim=True), open_, alive)
                mean = torch.where(meant, state.slope, 0.0).sum(2, keepdim=True)
                mean /= meant.sum(2, keepdim=True).clamp_min(1)
                self._freeze(unpack(mean, self.mirrored)[:, 0])
            change, left, products = self._newton_change(state, open_)
            state, good = self._search(state, open_, change, left)
            alive &= good
            steps += open_
        current, word, bit, _ = self._follow(state.current, state.drop)
        if self.mirrored:
            word, bit = -bit, -word
        residual = torch.where(state.violation > 0, state.violation / state.largest, state.violation)
        current, word, bit = (unpack(x, self.mirrored) for x in (current, word, bit))
        return Solved(current, word, bit, residual[0, :, :, 0], steps[0, :, :, 0])

    def _freeze(self, g: torch.Tensor) -> None:
        """Factor the tiles with cells ``g`` ``[T, R, C]``."""
        self.ports = Ports(g, self.arrays.r_word, self.arrays.r_bit)
        self.frozen = pack(g[:, None], self.mirrored)

    def _state(self, current: torch.Tensor, drop: torch.Tensor) -> _State:
        current, word, bit, violation = self._follow(current, drop)
        drop = self.source + word - bit
        conducted, slope = self.cells.evaluate(drop)
        mismatch = current - conducted
        violation = torch.maximum(violation, _peak(mismatch))
        least = _FAINT * _peak(slope) * self.applied
        return _State(current, drop, mismatch, slope, violation, torch.maximum(_peak(conducted), least))

    def _follow(
        self, current: torch.Tensor, drop: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Follow Kirchhoff's laws along the lines from cell currents.

        Returns the currents, the voltages along word and bit lines above their sources, and the current that
        is missing at resistive segments. With such segments the currents are first made to agree with node
        voltages solved for them, since a sum of currents cannot tell the voltage across an open segment.
        """
        if self.any_resistive:
            injected = self.frozen * (drop - self.source) - current
            # A trial step may overflow; it is then refused for its current, which stays infinite below.
            injected = unpack(injected.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), self.mirrored)
            nodes = self.ports.factorization.solve(injected, -injected)
            word, bit = (pack(x, self.mirrored) for x in nodes)
            if self.mirrored:
                word, bit = -bit, -word
            current = current + self.frozen * (self.source + word - bit - drop)
        in_word, in_bit = current.flip(0).cumsum_(0).flip(0), current.cumsum(3)
        over_word, over_bit = in_word * self.r_word, in_bit * self.r_bit
        missing = torch.zeros_like(current[:1, :, :, :1])
        if self.any_resistive:
            by_word = torch.cat([-word[:1], -word.diff(dim=0)])
            by_bit = torch.cat([-bit.diff(dim=3), bit[..., -1:]], 3)
            on_word, on_bit = self.resistive
            missing = torch.maximum(
                _peak(torch.where(on_word, in_word - by_word / self.r_word, 0.0)),
                _peak(torch.where(on_bit, in_bit - by_bit / self.r_bit, 0.0)),
            )
            over_word, over_bit = (
                torch.where(on_word, by_word, over_word),
                torch.where(on_bit, by_bit, over_bit),
            )
        return current, over_word.cumsum_(0).neg_(), over_bit.flip(3).cumsum_(3).flip(3), missing

    def _newton_change(self, state: _State, open_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Conjugate gradients for the change of the cell voltages.

        Returns it, the mismatch that it leaves by the linearised laws, and the number of products with Z.

        In terms of cell voltages the Jacobian is Z^-1 - (frozen - slope), where Z (:meth:`Ports.drops`)
        preconditions; ``lifted`` follows Z^-1 direction by recurrence. Lines of zero resistance make Z
        singular, which its inner product cannot see; a last whole step Z left settles those cells exactly,
        and is free when it helps.
        """
        relative = state.violation / state.largest
        target = torch.maximum(
            relative.clamp_max(0.1) * state.violation, 0.1 * self.tolerance * state.largest
        )
        target = torch.where(open_, target, float("inf"))
        less = self.frozen - state.slope
        change, left = torch.zeros_like(state.drop), state.mismatch.clone()
        direction = lifted = before = change  # replaced in the first round
        for k in range(_MAX_PRODUCTS):
            reply = self.ports.drops(left)
            settled = less * reply
            with_it, without = _peak(settled), _peak(left)
            if (torch.minimum(with_it, without) <= target).all() or k == _MAX_PRODUCTS - 1:
                break
            power = _dot(left, reply)
            if k == 0:
                direction, lifted = reply, left.clone()
            else:
                turn = _ratio(power, before)
                direction, lifted = reply.addcmul_(turn, direction), lifted.mul_(turn).add_(left)
            ahead = torch.addcmul(lifted, less, direction, value=-1)
            length = _ratio(power, _dot(direction, ahead))
            change.addcmul_(length, direction)
            left.addcmul_(length, ahead, value=-1)
            before = power
        better = with_it <= without
        if better.all():
            return change.add_(reply), settled, k + 1
        return torch.where(better, change + reply, change), torch.where(better, settled, left), k + 1

    def _search(
        self, state: _State, open_: torch.Tensor, change: torch.Tensor, left: torch.Tensor
    ) -> tuple[_State, torch.Tensor]:
        """Go along ``change`` until the violation or the content falls; also say for which it does."""
        step = state.slope * change - state.mismatch + left
        finite = torch.isfinite(_peak(step) + _peak(change))
        if not finite.all():
            step, change = (torch.where(finite, x, 0.0) for x in (step, change))
        downhill = _dot(state.mismatch, change)
        length = open_.to(step.dtype)
        for _ in range(_MAX_SHORTENINGS):
            trial = self._state(state.current + length * step, state.drop + length * change)
            rest = _dot(trial.mismatch, change)
            better = (trial.violation < state.violation) | (rest >= -0.5 * downhill)
            good = ~open_ | ~finite | (better & torch.isfinite(trial.violation + trial.largest))
            if good.all():
                return trial, good & finite
            shorter = torch.nan_to_num(_ratio(downhill, downhill - rest), nan=0.1).clamp(0.1, 0.5)
            length = torch.where(good, length, length * shorter)
        length = torch.where(good, length, 0.0)
        return self._state(state.current + length * step, state.drop + length * change), good & finite


def _peak(x: torch.Tensor) -> torch.Tensor:
    """Largest magnitude of each input, ``[1, T, B, 1]``."""
    return x.abs().amax(3, keepdim=True).amax(0, keepdim=True)


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Inner product of each input, ``[1, T, B, 1]``."""
    return torch.linalg.vecdot(a, b).sum(0)[None, :, :, None]


def _ratio(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a / b, and 0 where b is 0."""
    return torch.where(b != 0, a / torch.where(b != 0, b, 1.0), 0.0)
