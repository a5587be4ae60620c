"""A crossbar factored once, to be solved for any number of inputs, injections and adjoints."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .checks import check_conductance, check_field
from .effective import backend, network
from .elimination import Factors, Ladder, Network, mirror
from .wires import Wires


@dataclass(frozen=True, eq=False)
class Factorization:
    """The solved network of one or many arrays, made by :func:`factorize`. Not differentiable.

    Attributes:
        effective_conductance: ``[..., rows, cols]`` in siemens.

    The nodal matrix K (siemens) is symmetric, so :meth:`solve` is its own adjoint. It keeps, per tile,
    ``min(rows, cols) + 6`` float64 numbers per cell.
    """

    effective_conductance: torch.Tensor
    _factors: Factors
    _mirrored: bool

    @property
    def _network(self) -> Network:
        return self._factors.network

    @property
    def _ladder(self) -> Ladder:
        return self._factors.ladder

    @property
    def _inverses(self) -> torch.Tensor:
        return self._factors.inverses

    def node_voltages(
        self, voltages: torch.Tensor, bit_line_voltages: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Voltages of all cell nodes for given line voltages: the IR-drop map.

        Args:
            voltages: at the sources of the word lines, ``[..., batch, rows]`` in volt.
            bit_line_voltages: at the far side of the sense resistances, ``[..., batch, cols]``; virtual
                ground when left out. A line whose driver or sense is infinite floats, and its entry here
                has no effect.

        Returns:
            Word-line and bit-line node voltages, each ``[..., batch, rows, cols]``. The current of a cell is
            ``g * (word - bit)``. Nodes without any path to a source or sense are at 0 V.

        Raises:
            ValueError: if a shape does not fit the array, or a value is not finite.
            TypeError: if the dtype or device is not that of the conductances.
        """
        lead, (rows, cols) = self.effective_conductance.shape[:-2], self.effective_conductance.shape[-2:]
        check_field("voltages", voltages, self.effective_conductance, lead, (rows,))
        word_in = voltages.new_zeros(*voltages.shape, cols)
        first, last = self._terminals()
        word_in[..., 0] = voltages * first.reshape(*lead, 1, rows)
        bit_in = torch.zeros_like(word_in)
        if bit_line_voltages is not None:
            check_field("bit_line_voltages", bit_line_voltages, self.effective_conductance, lead, (cols,))
            bit_in[..., -1, :] = bit_line_voltages * last.reshape(*lead, 1, cols)
        return self._solve(word_in, bit_in)

    def solve(
        self, word_line_current: torch.Tensor, bit_line_current: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Node voltages for currents injected at the nodes, with all sources and senses at 0 V.

        Args:
            word_line_current: ``[..., batch, rows, cols]`` in ampere, into the word-line node of each cell.
            bit_line_current: the same for the bit-line nodes.

        Returns:
            Word-line and bit-line node voltages, each ``[..., batch, rows, cols]``.

        Raises:
            ValueError: if a shape does not fit the array, or a value is not finite.
            TypeError: if the dtype or device is not that of the conductances.
        """
        lead, trail = self.effective_conductance.shape[:-2], tuple(self.effective_conductance.shape[-2:])
        check_field("word_line_current", word_line_current, self.effective_conductance, lead, trail)
        check_field("bit_line_current", bit_line_current, self.effective_conductance, lead, trail)
        by = self._network.scale.reshape(*lead, 1, 1, 1)
        return self._solve(word_line_current / by, bit_line_current / by)

    def _terminals(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised conductances of the driver-side ``[T, rows]`` and sense-side ``[T, cols]`` segments."""
        net = self._network
        if self._mirrored:
            return mirror(net.bit)[:, :, 0], mirror(net.word)[:, -1, :]
        return net.word[:, :, 0], net.bit[:, -1, :]

    def _solve(self, word_in: torch.Tensor, bit_in: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = word_in.shape
        tiles = self._network.cell.shape[0]
        word_in, bit_in = (x.detach().reshape(tiles, *shape[-3:]) for x in (word_in, bit_in))
        if self._mirrored:
            word_in, bit_in = mirror(bit_in), mirror(word_in)
        word, bit = backend(word_in).solve(self._factors, word_in.double(), bit_in.double())
        if self._mirrored:
            word, bit = mirror(bit), mirror(word)
        dtype = self.effective_conductance.dtype
        return word.reshape(shape).to(dtype), bit.reshape(shape).to(dtype)


def factorize(g: torch.Tensor, wires: Wires) -> Factorization:
    """Factor arrays ``g`` ``[..., rows, cols]`` (siemens) with the given wires, to be solved many times.

    Raises:
        ValueError: if a conductance is negative or not finite, or a wire figure does not fit the shape of
            ``g``.
        TypeError: if ``g`` is not a float32 or float64 tensor.
    """
    check_conductance(g)
    with torch.no_grad():
        r_word, r_bit = wires.segments(g)
        net, mirrored = network(g.reshape(-1, *g.shape[-2:]), r_word, r_bit)
        factors = backend(g).factor(net)
        transfer = mirror(factors.transfer) if mirrored else factors.transfer
        effective = g if wires.ideal else transfer.reshape(g.shape).to(g.dtype)
    return Factorization(effective, factors, mirrored)
