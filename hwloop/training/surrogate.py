"""A quick, differentiable model of the arrays: what hardware of a new device instance would read, in every
step.

Each step draws every cell anew from where the card says that cells end up (:mod:`.cell_table`), and reads the
inputs tile by tile through DAC and ADC. Of the wires it knows either what the exact solver said some steps
ago, cell by cell (the effective conductance over the programmed one), or it solves every array in every
step and takes the gradient through the solver.

The value is that of the arrays; the gradient is that of a layer with the effective weights, so that rounding
counts as if it had not been (straight-through estimator). What it leaves out: conductance that neighbours,
arrays or wafers have in common, and errors of ADCs other than rounding and clipping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from device_models.card import DeviceCard
from device_models.converters import slices
from device_models.crossbar import Wires, effective_conductance
from device_models.random import stream_key
from hwloop.hardware.bit_serial import add_to_lines, neighbours
from hwloop.mapping import UNUSED_LINE, ConductanceMap, LayerMap, LevelSet, resolution, wires_of
from hwloop.networks import (
    Batch,
    CrossbarLayer,
    bias_of,
    crossbar_layers,
    feed,
    from_matrix,
    no_shortcut,
    put_in_place,
    to_matrix,
    windows,
)
from hwloop.recipe import Readout
from hwloop.training.cell_table import cell_table, look_up


@dataclass(frozen=True)
class Arrays:
    """What all layers have in common.

    Attributes:
        card: the device card.
        wires: figures of the lines; None = ideal.
        readout: how arrays are read.
        table: where cells end up, as :func:`.cell_table.cell_table` gives it.
        exact: whether wires are solved in every step, with their gradient.
    """

    card: DeviceCard
    wires: Wires | None
    readout: Readout
    table: torch.Tensor
    exact: bool = False

    def of(self, layer: str) -> Arrays:
        """The same for one layer, with its own wires and its own way of being read."""
        wires = None if self.wires is None else wires_of(self.wires, layer)
        return replace(self, wires=wires, readout=self.readout.of(layer))


class _Band:
    """Word lines that are read at once, and the bit lines that cross them."""

    def __init__(
        self, rows: torch.Tensor, cols: torch.Tensor, top: torch.Tensor, bottom: torch.Tensor, window: int
    ) -> None:
        self.rows, self.cols = neighbours(rows), neighbours(cols)
        self.low, self.high = -bottom, top - bottom
        # The channels whose windows the word lines see, and where in these windows.
        self.channels = slice(int(rows.min()) // window, int(rows.max()) // window + 1)
        self.places = rows - self.channels.start * window


class SurrogateLayer(nn.Module):
    """A crossbar layer as arrays of ever new devices compute it.

    Args:
        name: the layer's name in the map.
        layer: the layer, with its quantized weights.
        mapped: its tiles, differential and in one slice.
        arrays: what all layers have in common.

    Raises:
        ValueError: if the layer is encoded in another way.
    """

    def __init__(self, name: str, layer: CrossbarLayer, mapped: LayerMap, arrays: Arrays) -> None:
        super().__init__()
        arrays = arrays.of(name)
        if mapped.encoding != "differential" or mapped.slices != 1:
            raise ValueError(
                f"layer {name}: the quick model of arrays knows differential encoding in one slice; "
                "retrain with strategy hardware"
            )
        self.name, self.layer, self._mapped, self._arrays = name, layer, mapped, arrays
        self.register_forward_pre_hook(no_shortcut)
        card = arrays.card
        self.levels = LevelSet(mapped.weight_per_siemens * card.g_step, card.levels)
        self._found = resolution(mapped, card.levels, arrays.readout, idle=card.idle_steps)
        self._kept = to_matrix(layer).detach() != 0
        rows, cols = mapped.matrix_shape
        used = (mapped.row_index != UNUSED_LINE)[:, :, None] & (mapped.col_index != UNUSED_LINE)[:, None, :]
        place = mapped.row_index.long()[:, :, None] * cols + mapped.col_index.long()[:, None, :]
        # One place more than the matrix has: where cells are that hold no entry of it.
        self._place = torch.where(used, place, rows * cols)
        self._driven = (mapped.row_index != UNUSED_LINE)[:, None, :, None]
        # Places of the matrix that have cells, flat; all others need no draws.
        formed = self._matrix(used.to(torch.float32)).flatten().nonzero().squeeze(1)
        self._formed = neighbours(formed)
        self._window = math.prod(layer.kernel_size) if isinstance(layer, nn.Conv2d) else 1
        self._bands = self._form_bands()
        # Convolving a band's channels spares laying out windows; where bands take their word lines from
        # channels far apart, it costs more than that spares.
        seen = self._window * sum(band.channels.stop - band.channels.start for band in self._bands)
        self._convolves = isinstance(layer, nn.Conv2d) and layer.groups == 1 and seen <= 2 * rows
        self._gain = torch.ones(2, len(formed))
        self._sneak = torch.zeros(2, len(formed))
        self._seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the arrays read, with the layer's bias."""
        low = -self._mapped.input_scale if self._mapped.input_signed else 0.0
        x = x.clamp(low, self._mapped.input_scale)
        if self.training or self._seen is None:
            effective, cells = self._program()
            self._seen = cells.detach()
        else:
            effective, cells = _signed(self._seen).mean(0), self._seen
        weight = from_matrix(self.layer, effective * self.levels.scale)
        with torch.no_grad():
            value = self._read(x, cells)
        sums = _through(x, weight, value, self.layer)
        return sums if self.layer.bias is None else sums + bias_of(self.layer)

    @torch.no_grad()
    def refresh(self) -> None:
        """Solve the wires for the weights as they are now, unless that is done in every step."""
        wires = self._arrays.wires
        if wires is None or self._arrays.exact:
            return
        g = self._blocks(self._targets()).to(torch.float64)
        solved = self._solved(g, wires)
        self._gain = self._at_cells(self._matrices(torch.where(g > 0, solved / g.clamp(min=1e-30), 1.0)))
        self._sneak = self._at_cells(self._matrices(torch.where(g > 0, 0.0, solved)))

    def _program(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw cells; return effective weights ``[rows, cols]``, with gradient, and the effective cells of
        every copy ``[copies, 2, rows, cols]``, both in level steps."""
        weight, copies = to_matrix(self.layer), self._arrays.readout.copies_of(self.name)
        codes = self._codes(weight)
        levels = self._at_cells(_polarities(codes))
        drawn = look_up(self._arrays.table, levels.expand(copies, *levels.shape))
        wires = self._arrays.wires
        if wires is None or not self._arrays.exact:
            cells = self._spread(drawn.mul_(self._gain).add_(self._sneak))
            gain = self._spread(self._gain)
            factor = torch.where(codes >= 0, gain[0], gain[1])
            return _Scaled.apply(weight, _signed(cells).mean(0), factor / self.levels.scale), cells
        exact = _polarities(weight / self.levels.scale)
        cells = exact + (self._spread(drawn) - exact).detach()
        blocks = [self._blocks(copy).to(torch.float64) for copy in cells]
        effective = torch.stack([self._matrices(self._solved(copy, wires)) for copy in blocks])
        return _signed(effective).mean(0), effective

    def _solved(self, blocks: torch.Tensor, wires: Wires) -> torch.Tensor:
        """Return arrays ``[tiles, 2, rows, cols]`` as the wires let them be seen, both in level steps."""
        step = self._arrays.card.g_step
        return effective_conductance(blocks * step, wires) / step

    def _at_cells(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return the entries of ``[..., rows, cols]`` that have cells, ``[..., cells]``."""
        return matrix.flatten(-2)[..., self._formed]

    def _spread(self, cells: torch.Tensor) -> torch.Tensor:
        """Put ``[..., cells]`` into their places in the matrix ``[..., rows, cols]``."""
        shape = self._mapped.matrix_shape
        flat = torch.zeros(*cells.shape[:-1], shape[0] * shape[1])
        flat[..., self._formed] = cells
        return flat.unflatten(-1, shape)

    def _codes(self, weight: torch.Tensor) -> torch.Tensor:
        """Weight codes as whole numbers, int32."""
        codes = (weight.detach() / self.levels.scale).round_().clamp_(-self.levels.levels, self.levels.levels)
        return torch.where(self._kept & (codes == 0), 1.0, codes).to(torch.int32)

    def _targets(self) -> torch.Tensor:
        """Programmed levels of both polarities without error, ``[2, rows, cols]`` in level steps."""
        codes = self._codes(to_matrix(self.layer)).to(torch.float32)
        return self._spread(self._at_cells(_polarities(codes)) + self._arrays.card.idle_steps)

    def _blocks(self, cells: torch.Tensor) -> torch.Tensor:
        """Cut ``[2, rows, cols]`` into arrays ``[tiles, 2, rows, cols]``; idle cells share the word lines."""
        padded = torch.cat([cells.reshape(2, -1), torch.full((2, 1), self._arrays.card.idle_steps)], dim=1)
        return padded[:, self._place].transpose(0, 1) * self._driven

    def _matrices(self, blocks: torch.Tensor) -> torch.Tensor:
        """Put ``[tiles, 2, rows, cols]`` back to the layer's matrix of each polarity, float32."""
        return torch.stack([self._matrix(part.to(torch.float32)) for part in blocks.unbind(1)])

    def _matrix(self, blocks: torch.Tensor) -> torch.Tensor:
        """Put ``[tiles, rows, cols]`` back to the layer's matrix."""
        rows, cols = self._mapped.matrix_shape
        flat = torch.zeros(rows * cols + 1, dtype=blocks.dtype).index_add(
            0, self._place.reshape(-1), blocks.reshape(-1)
        )
        return flat[:-1].reshape(rows, cols)

    def _form_bands(self) -> list[_Band]:
        members: dict[bytes, list[int]] = {}
        for tile, rows in enumerate(self._mapped.row_index):
            members.setdefault(rows.numpy().tobytes(), []).append(tile)
        top = (2.0**self._found.bits - 1).to(torch.float32)
        bottom, bands = self._found.bottom.to(torch.float32), []
        for tiles in members.values():
            rows = self._mapped.row_index[tiles[0]]
            which, line = (self._mapped.col_index[tiles] != UNUSED_LINE).nonzero(as_tuple=True)
            of = torch.tensor(tiles)[which]
            used = rows[rows != UNUSED_LINE].long()
            size = self._arrays.readout.rows_at_once or max(1, len(used))
            cols = self._mapped.col_index[of, line].long()
            bands += [
                _Band(group, cols, top[of], bottom[of], self._window)
                for group in used.split(size)
                if len(group)
            ]
        return bands

    def _read(self, x: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Read inputs through DAC, arrays ``[copies, 2, rows, cols]`` and ADC; without bias."""
        full = (1 << self._arrays.readout.dac_bits) - 1
        # Inputs become codes before they are laid out: a convolution lays each one out many times.
        x = (x * (full / self._mapped.input_scale)).round_().clamp_(max=full)
        rows, cols = self._mapped.matrix_shape
        if isinstance(self.layer, nn.Conv2d):
            # Where channels are convolved, windows of one of them tell how many vectors there are.
            seen = windows(self.layer, x[:, :1] if self._convolves else x)
            shape, codes = seen.shape[:3], x if self._convolves else seen.reshape(-1, rows)
        else:
            shape, codes = x.shape[:-1], x.reshape(-1, rows)
        lines = [(_signed(cells), 1.0)] if self._found.bipolar else [(cells[:, 0], 1.0), (cells[:, 1], -1.0)]
        total = torch.zeros(shape.numel(), cols)
        for sign in (1.0, -1.0) if self._mapped.input_signed else (1.0,):
            passed = (sign * codes).clamp_(min=0) if self._mapped.input_signed else codes
            for digits, weight in self._digits(passed):
                for array, polarity in lines:
                    self._convert(digits, array, sign * polarity * weight, total)
        total *= self._found.lsb * self.levels.scale * self._mapped.input_scale / (full * len(cells))
        if not isinstance(self.layer, nn.Conv2d):
            return total.reshape(*shape, -1)
        return total.reshape(*shape, -1).permute(0, 3, 1, 2)

    def _digits(self, codes: torch.Tensor) -> list[tuple[torch.Tensor, float]]:
        """What the drivers apply in each conversion, and what its code counts."""
        readout = self._arrays.readout
        if readout.accumulation == "analog" or readout.bits_per_cycle >= readout.dac_bits:
            return [(codes, 1.0)]
        width = readout.bits_per_cycle
        digits = slices(codes.to(torch.int32), readout.dac_bits, width)
        return [(digit.to(torch.float32), 2.0 ** (width * place)) for place, digit in enumerate(digits)]

    def _convert(
        self, digits: torch.Tensor, arrays: torch.Tensor, weight: float, total: torch.Tensor
    ) -> None:
        """Add up over copies, ``arrays [copies, rows, cols]``, what their ADCs give."""
        noise, copies = self._arrays.card.read_noise.value, len(arrays)
        for band in self._bands:
            # Bit lines of all copies side by side see the same word lines.
            cells = arrays[:, band.rows][:, :, band.cols].transpose(0, 1).flatten(1) / self._found.lsb
            seen = self._sums(digits, band, cells)
            if noise:
                spread = self._sums(digits.square(), band, (noise * cells).square()).sqrt_()
                seen += spread * torch.randn_like(seen)
            found = torch.clamp(seen.round_(), band.low.repeat(copies), band.high.repeat(copies), out=seen)
            if copies > 1:
                found = found.unflatten(1, (copies, -1)).sum(1)
            add_to_lines(total, band.cols, found, weight)

    def _sums(self, digits: torch.Tensor, band: _Band, cells: torch.Tensor) -> torch.Tensor:
        """Return the sums of a band's ``cells [word lines, bit lines]``, ``[vectors, bit lines]``."""
        layer = self.layer
        if not (self._convolves and isinstance(layer, nn.Conv2d)):
            return digits[:, band.rows] @ cells
        x, lines = digits[:, band.channels].contiguous(memory_format=torch.channels_last), cells.shape[1]
        kernel = torch.zeros(lines, x.shape[1] * self._window).index_copy_(1, band.places, cells.T)
        found = F.conv2d(
            x,
            kernel.reshape(lines, x.shape[1], *layer.kernel_size),
            None,
            layer.stride,
            layer.padding,
            layer.dilation,
        )
        return found.permute(0, 2, 3, 1).reshape(-1, lines)


def surrogate_network(net: nn.Module, conductance_map: ConductanceMap, arrays: Arrays) -> nn.Module:
    """Turn every crossbar layer of ``net`` into a :class:`SurrogateLayer`, in place, and return it.

    Args:
        net: the network of the map, as :func:`hwloop.hardware.network_from_map` gives it.
        conductance_map: its tiles.
        arrays: what all layers have in common.
    """
    for name, layer in crossbar_layers(net).items():
        surrogate = SurrogateLayer(name, layer, conductance_map.layers[name], arrays)
        put_in_place(net, layer, surrogate)
    return net


@torch.no_grad()
def gains(net: nn.Module, x: Batch, seed: int) -> dict[str, float]:
    """Return by what factor the sums of each layer must grow to be nearest to those without arrays.

    Least squares, layer by layer, on inputs that reach a layer when those before it have grown already.

    Args:
        net: a network of surrogate layers; not changed.
        x: images.
        seed: seed of the devices that they are read on.
    """
    found: dict[str, float] = {}

    def grow(layer: SurrogateLayer, given: tuple[torch.Tensor], read: torch.Tensor) -> torch.Tensor:
        bias = bias_of(layer.layer)
        exact, sums = layer.layer(given[0]) - bias, read - bias
        size = float(sums.square().sum())
        found[layer.name] = float((exact * sums).sum()) / size if size else 1.0
        return sums * found[layer.name] + bias

    layers = [module for module in net.modules() if isinstance(module, SurrogateLayer)]
    hooks = [layer.register_forward_hook(grow) for layer in layers]
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_key(seed, "gains") % 2**63)
            for layer in layers:
                layer.refresh()
            feed(net.eval(), x)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def make_arrays(
    conductance_map: ConductanceMap,
    wires: Wires | None,
    readout: Readout,
    seed: int,
    *,
    exact: bool = False,
) -> Arrays:
    """Return what the layers of a map have in common; see :class:`Arrays`."""
    card = conductance_map.card
    return Arrays(card, wires, readout, cell_table(card, seed, readout.elapsed), exact)


def _polarities(signed: torch.Tensor) -> torch.Tensor:
    """Return the positive and the negative part of a matrix, ``[2, rows, cols]``."""
    return torch.stack([signed.clamp(min=0), (-signed).clamp(min=0)])


def _signed(cells: torch.Tensor) -> torch.Tensor:
    """Return positive minus negative cells ``[..., 2, rows, cols]``."""
    return cells[..., 0, :, :] - cells[..., 1, :, :]


class _Scaled(torch.autograd.Function):
    """A value whose gradient is a factor for each entry."""

    @staticmethod
    def forward(ctx: Any, _weight: torch.Tensor, value: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(factor)
        return value

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (factor,) = ctx.saved_tensors
        return grad * factor, None, None


class _Product(torch.autograd.Function):
    """A value whose gradient is that of a linear or convolutional layer."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, value: torch.Tensor, layer: CrossbarLayer
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        return value

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need_x, need_weight = ctx.needs_input_grad[:2]
        if isinstance(ctx.layer, nn.Linear):
            flat = grad.reshape(-1, grad.shape[-1])
            to_weight = flat.T @ x.reshape(-1, x.shape[-1]) if need_weight else None
            return grad @ weight if need_x else None, to_weight, None, None
        layer = ctx.layer
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, weight, None, layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups,
            [need_x, need_weight, False],
        )  # fmt: skip
        return to_x, to_weight, None, None


def _through(
    x: torch.Tensor, weight: torch.Tensor, value: torch.Tensor, layer: CrossbarLayer
) -> torch.Tensor:
    """Return ``value`` with the gradient that a layer of these weights has."""
    padding = layer.padding if isinstance(layer, nn.Conv2d) else None
    if isinstance(padding, str):
        model = F.conv2d(x, weight, None, layer.stride, padding, layer.dilation, layer.groups)  # type: ignore[arg-type]
        return value + (model - model.detach())
    result: torch.Tensor = _Product.apply(x, weight, value, layer)
    return result
