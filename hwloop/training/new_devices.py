"""A network that is trained on ever new devices."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from hwloop.networks import batch_norms


class NewDevices(nn.Module):
    """A network whose arrays are renewed every few steps, while it is trained.

    Batch norms stay in evaluation mode: their statistics in training would be those of the devices of one
    step, which a fresh chip does not have. Their scales and shifts are learned.

    Args:
        running: the network on its arrays.
        steps_per_epoch: an epoch begins with new devices.
        every: steps after which they are renewed.
        renew: renews them; is told the number of the step.
    """

    step: torch.Tensor

    def __init__(
        self, running: nn.Module, steps_per_epoch: int, every: int, renew: Callable[[int], None]
    ) -> None:
        super().__init__()
        self.running, self._steps_per_epoch, self._every, self._renew = running, steps_per_epoch, every, renew
        # A buffer, so that a training that resumes goes on with the devices that are next.
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the network, on new devices if their turn has come."""
        if self.training:
            if int(self.step) % self._steps_per_epoch % self._every == 0:
                self._renew(int(self.step))
            self.step += 1
        result: torch.Tensor = self.running(x)
        return result

    def train(self, mode: bool = True) -> NewDevices:
        """Batch norms stay in evaluation mode."""
        super().train(mode)
        for norm in batch_norms(self.running):
            norm.eval()
        return self
