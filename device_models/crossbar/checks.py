"""What the solver accepts: errors that name the figure, the tile and the cell."""

from __future__ import annotations

import math

import torch


def check_conductance(g: torch.Tensor) -> None:
    """Raise unless ``g`` is a float32 or float64 tensor ``[..., rows, cols]`` of finite, non-negative
    siemens.
    """
    if not isinstance(g, torch.Tensor):
        raise TypeError(f"conductances must be a torch.Tensor, not {type(g).__name__}")
    if g.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"conductances must be float32 or float64, not {g.dtype}")
    if g.dim() < 2 or 0 in g.shape[-2:]:
        raise ValueError(
            f"conductances need shape [..., rows, cols] with at least one cell, not {list(g.shape)}"
        )
    values = g.detach()
    # A sum is NaN or infinite as soon as one term is (two huge terms may also make it so; the second look
    # then finds nothing). On the processor numpy takes it: torch's threads would still spin when ours begin.
    seen = values.numpy() if values.device.type == "cpu" else values
    if values.numel() and not (seen.min() >= 0 and math.isfinite(seen.sum())):
        bad = ~(torch.isfinite(values) & (values >= 0))
        if bad.any():
            raise ValueError(
                f"conductance {_first(values, bad)}: conductances in siemens must be finite and not negative"
            )


def check_resistance(name: str, value: torch.Tensor) -> None:
    """Raise unless every entry of ``value`` is zero, positive or infinite."""
    values = value.detach()
    bad = ~(values >= 0)
    if bad.any():
        raise ValueError(f"{name} {_first(values, bad)}: resistances in ohm must not be negative or NaN")


def check_field(
    name: str, value: torch.Tensor, like: torch.Tensor, lead: tuple[int, ...], trail: tuple[int, ...]
) -> None:
    """Raise unless ``value`` is ``[*lead, batch, *trail]``, finite, and of the dtype and device of
    ``like``.
    """
    if value.dtype != like.dtype or value.device != like.device:
        here, there = f"{value.dtype} on {value.device}", f"{like.dtype} on {like.device}"
        raise TypeError(f"{name} is {here}, but this array was factored as {there}")
    batch = len(lead)
    shape = tuple(value.shape)
    if len(shape) <= batch or shape[:batch] + shape[batch + 1 :] != lead + trail:
        want = ", ".join(str(n) for n in (*lead, "batch", *trail))
        raise ValueError(f"{name} has shape {list(value.shape)}, but this array needs [{want}]")
    if not torch.isfinite(value.sum()) and not torch.isfinite(value).all():
        index = [int(i) for i in (~torch.isfinite(value)).nonzero()[0]]
        raise ValueError(f"{name} is {value[tuple(index)].item()!r} at {index}: values must be finite")


def _first(values: torch.Tensor, bad: torch.Tensor) -> str:
    """Describe the first bad entry, as ``is -1.0 at tile [2] cell (3, 5)``."""
    index = tuple(int(i) for i in bad.nonzero()[0])
    where = ""
    if len(index) > 2:
        where += f" at tile {list(index[:-2])}"
    if index:
        where += f" at cell {index[-2:]}" if len(index) >= 2 else f" at line {index[0]}"
    return f"is {values[index].item()!r}{where}"
