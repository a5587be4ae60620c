"""What is wanted of a network's outputs: the loss that training lowers, and the score that figures are of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn import functional as F

from hwloop.factories import imported

KINDS = ("classification", "regression", "next-token")
_NAME = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)")

Function = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class GoalError(ValueError):
    """Outputs that a loss or score cannot take, or a name of neither; the message says what is needed."""


@dataclass(frozen=True)
class Goal:
    """Loss and score of a task.

    Either is ``classification`` (cross-entropy; the share that is right), ``regression`` (mean squared error;
    1 less the squared error over the variance of the targets, R²), ``next-token`` (cross-entropy of every
    place of a sequence; the share of places that are right), ``auto``, which takes the one that targets are
    of (floats are regression, whole numbers in sequences next-token, others classification), or
    ``package.module:function``, of outputs and targets: a loss gives a scalar, a score one number for each
    sample, the more the better.
    """

    loss: str = "auto"
    metric: str = "auto"

    def loss_of(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch; differentiable.

        Raises:
            GoalError: if it does not take what the network gives.
        """
        outputs = tensor_of(outputs)
        own = self._own(self.loss)
        if own is not None:
            return own(outputs, targets)
        if _kind(self.loss, targets) == "regression":
            return F.mse_loss(_like(outputs, targets), targets)
        return F.cross_entropy(_classes_second(outputs, targets), targets)

    def scores(self, outputs: Any, targets: torch.Tensor, spread: float) -> torch.Tensor:
        """Return the score of every sample of a batch, ``[n]``.

        Args:
            outputs: what the network gives.
            targets: what is wanted.
            spread: :meth:`spread` of all targets that the score is over.

        Raises:
            GoalError: as :meth:`loss_of`.
        """
        outputs = tensor_of(outputs)
        own = self._own(self.metric)
        if own is not None:
            found = own(outputs, targets)
            if found.shape != targets.shape[:1]:
                raise GoalError(
                    f"task.metric {self.metric!r} gives {list(found.shape)}, not one for each sample"
                )
            return found
        if _kind(self.metric, targets) == "regression":
            error = (_like(outputs, targets) - targets).double().square()
            return 1 - error.flatten(1).mean(1) / spread if error.ndim > 1 else 1 - error / spread
        right = _classes_second(outputs, targets).argmax(1) == targets
        return right.flatten(1).double().mean(1) if right.ndim > 1 else right.double()

    def spread(self, targets: torch.Tensor) -> float:
        """Return the variance of targets, which the error of a regression is compared with; 1 for others."""
        if not targets.is_floating_point() or len(targets) < 2:
            return 1.0
        return float(targets.double().var(0, correction=0).mean()) or 1.0

    def words(self, targets: torch.Tensor) -> str:
        """Return what the score is, for a report."""
        if self.metric not in ("auto", *KINDS):
            return f"Mean of {self.metric}"
        kind = _kind(self.metric, targets)
        if kind == "regression":
            return "Share of the variance of the targets that is explained (R²)"
        return "Fraction that is right" + (
            ", over all places of the sequences" if kind == "next-token" else ""
        )

    def _own(self, name: str) -> Function | None:
        return None if name in ("auto", *KINDS) else self._functions[name]

    @cached_property
    def _functions(self) -> dict[str, Function]:
        found: dict[str, Function] = {}
        for field in ("loss", "metric"):
            name = getattr(self, field)
            if name in ("auto", *KINDS):
                continue
            match = _NAME.fullmatch(name)
            if match is None:
                raise GoalError(
                    f"task.{field} {name!r}: is none of auto, {', '.join(KINDS)}, package.module:function"
                )
            try:
                found[name] = imported(*match.groups())
            except ValueError as error:
                raise GoalError(f"task.{field} {name!r}: {error}") from error
        return found


def tensor_of(outputs: Any) -> torch.Tensor:
    """Return the tensor that losses take: the output itself, or its ``logits``.

    Raises:
        GoalError: if it is neither.
    """
    if isinstance(outputs, torch.Tensor):
        return outputs
    found = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if isinstance(found, torch.Tensor):
        return found
    raise GoalError(f"the network gives {type(outputs).__name__}; needed is a tensor, or what has logits")


def _kind(name: str, targets: torch.Tensor) -> str:
    if name != "auto":
        return name
    if targets.is_floating_point():
        return "regression"
    return "next-token" if targets.ndim > 1 else "classification"


def _classes_second(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return outputs with the classes along dimension 1, where they are last for sequences."""
    if targets.is_floating_point():
        raise GoalError("targets are floats, which are no classes; use regression")
    sizes = list(outputs.shape)
    if outputs.ndim == targets.ndim + 1:
        if outputs.shape[:-1] == targets.shape:
            return outputs.movedim(-1, 1)
        if (outputs.shape[0], *outputs.shape[2:]) == tuple(targets.shape):
            return outputs
    raise GoalError(f"outputs of shape {sizes} are no classes for targets of shape {list(targets.shape)}")


def _like(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return outputs in the shape of targets, but for dimensions of one value."""
    if outputs.shape == targets.shape:
        return outputs
    if outputs.numel() == targets.numel() and outputs.shape[0] == targets.shape[0]:
        return outputs.reshape(targets.shape)
    raise GoalError(
        f"outputs of shape {list(outputs.shape)} do not fit targets of shape {list(targets.shape)}"
    )
