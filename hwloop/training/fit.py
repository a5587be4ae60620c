"""The one epoch loop: dense, ADMM, masked and quantized training all use it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from device_models.random import stream_key, torch_stream
from hwloop.datasets import Dataset, Goal
from hwloop.networks import digest
from hwloop.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

Schedule = Callable[[float], float]
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Scalar loss of images, the logits that the network gives for them, and their labels."""


class TrainingError(ValueError):
    """A training that cannot go on; the message names the station and the fix."""


@dataclass(frozen=True)
class EpochRecord:
    """One epoch as the learning curves show it.

    Attributes:
        station: name of the training.
        epoch: from 1.
        loss: mean training loss, with the regulariser.
        train_accuracy: fraction of the training images that were right when it was their turn.
        validation_accuracy: fraction after the epoch; None without validation images.
    """

    station: str
    epoch: int
    loss: float
    train_accuracy: float
    validation_accuracy: float | None


def one_cycle(progress: float) -> float:
    """Learning rate as a fraction of its peak: up over the first quarter, then down to 0 along a cosine."""
    warm_up = 0.25
    if progress < warm_up:
        return 0.1 + 0.9 * progress / warm_up
    return cosine((progress - warm_up) / (1 - warm_up))


def cosine(progress: float) -> float:
    """Learning rate as a fraction of its first value: down to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def constant(_progress: float) -> float:
    """Learning rate that stays as it is."""
    return 1.0


def plain_loss(goal: Goal) -> Loss:
    """Return the loss that knows the targets alone."""
    return lambda _images, outputs, targets: goal.loss_of(outputs, targets)


def fit(
    net: nn.Module,
    dataset: Dataset,
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    seed: int,
    station: str,
    weight_decay: float = 0.0,
    shift: int = 0,
    schedule: Schedule = cosine,
    loss_of: Loss | None = None,
    regulariser: Callable[[], torch.Tensor] | None = None,
    after_step: Callable[[], None] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> list[EpochRecord]:
    """Train ``net`` in place with AdamW on the loss of its outputs, and leave it in evaluation mode.

    The order of the images, and whatever else an epoch draws, depends on ``seed``, ``station`` and the
    number of the epoch alone, so a training that resumes gives the very weights of one that ran through.

    Args:
        net: network that gives logits ``[batch, classes]``.
        dataset: its training part is learned, its validation part is watched; the test part is not used.
        epochs: passes over the training images.
        batch: images of one step.
        learning_rate: peak learning rate of AdamW.
        seed: seed of the run.
        station: name of this training; two trainings of one run need two names.
        weight_decay: decoupled weight decay of everything but biases and scales.
        shift: each image is moved by up to so many pixels in both directions, anew in each epoch.
        schedule: learning rate as a fraction of its peak, over the fraction of the training done.
        loss_of: gives the loss of a batch; None = that of the dataset's goal.
        regulariser: gives a scalar that is added to the loss of each step.
        after_step: called after each step, for example to set pruned weights back to zero.
        checkpoint: file to save to after each epoch and to resume from.
        progress: called with the fraction done and a few words.

    Returns:
        One record for each epoch, those of before a resumption included.

    Raises:
        TrainingError: if the loss is no longer finite.
        CheckpointError: if the checkpoint is damaged or of another training.
    """
    decayed = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in net.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate)
    settings = {
        "station": station,
        "seed": seed,
        "epochs": epochs,
        "batch": batch,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "shift": shift,
        "images": len(dataset.train_x),
        "start": digest(net.state_dict()),
    }
    records = _resume(checkpoint, settings, net, optimizer)
    if after_step is not None and not records:
        after_step()
    goal, spread = dataset.goal, dataset.goal.spread(dataset.train_y)
    loss_of = loss_of or plain_loss(goal)
    steps = math.ceil(len(dataset.train_x) / batch)
    device = next(net.parameters()).device
    memory_format = _memory_format(net)
    net.to(memory_format=memory_format)  # type: ignore[call-overload]
    net.train()
    for epoch in range(len(records) + 1, epochs + 1):
        order = torch.randperm(len(dataset.train_x), generator=torch_stream(seed, station, "epoch", epoch))
        moves = torch_stream(seed, station, "shift", epoch)
        loss_sum, right = 0.0, 0.0
        with torch.random.fork_rng():
            torch.manual_seed(stream_key(seed, station, "dropout", epoch) % 2**63)
            for step, index in enumerate(order.split(batch)):
                done = ((epoch - 1) * steps + step) / (epochs * steps)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * schedule(done)
                x = shifted(dataset.train_x[index], shift, moves)
                x = x.to(device, memory_format=memory_format) if x.ndim == 4 else x.to(device)
                y = dataset.train_y[index].to(device)
                logits = net(x)
                loss = loss_of(x, logits, y)
                if regulariser is not None:
                    loss = loss + regulariser()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if after_step is not None:
                    after_step()
                if not math.isfinite(loss.item()):
                    raise TrainingError(
                        f"{station}: the loss is not finite in epoch {epoch}; lower its learning_rate"
                    )
                loss_sum += loss.item() * len(index)
                right += float(goal.scores(logits.detach(), y, spread).sum())
                if progress is not None:
                    progress(done, f"epoch {epoch} of {epochs}, loss {loss.item():.3f}")
        images = len(dataset.train_x)
        validation = (
            accuracy(net, dataset.validation_x, dataset.validation_y, goal=goal)
            if len(dataset.validation_x)
            else None
        )
        records.append(EpochRecord(station, epoch, loss_sum / images, right / images, validation))
        if checkpoint is not None:
            tensors = {f"network.{name}": value for name, value in net.state_dict().items()}
            if epoch < epochs:
                tensors |= _optimizer_tensors(optimizer)
            save_checkpoint(
                checkpoint, settings, tensors, {"records": [asdict(record) for record in records]}
            )
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    net.eval()
    return records


def shifted(x: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """Move each image ``[n, channels, height, width]`` by up to ``most`` pixels each way; zeros fill in."""
    if most == 0:
        return x
    images, _, height, width = x.shape
    down = torch.randint(2 * most + 1, (images, 1), generator=generator) + torch.arange(height)
    across = torch.randint(2 * most + 1, (images, 1), generator=generator) + torch.arange(width)
    padded = F.pad(x, (most, most, most, most)).permute(0, 2, 3, 1)
    which = torch.arange(images)[:, None, None]
    return padded[which, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)


def accuracy(
    net: nn.Module, x: torch.Tensor, y: torch.Tensor, batch: int = 1000, goal: Goal | None = None
) -> float:
    """Return the mean score of a network: of classes, the fraction of ``x`` that it gives their label ``y``.

    Args:
        net: the network.
        x: inputs.
        y: what is wanted of each.
        batch: inputs at a time.
        goal: what the score is; None = what follows from ``y``.

    Raises:
        ValueError: if there are no images.
    """
    if not len(x):
        raise ValueError("accuracy of no images is not defined")
    goal, device = goal or Goal(), next(net.parameters()).device
    spread, training = goal.spread(y), net.training
    net.eval()
    with torch.no_grad():
        total = sum(
            float(goal.scores(net(part.to(device)), wanted.to(device), spread).sum())
            for part, wanted in zip(x.split(batch), y.split(batch), strict=True)
        )
    net.train(training)
    return total / len(x)


def _memory_format(net: nn.Module) -> torch.memory_format:
    """Return the format in which convolutions on a CPU run 1.6 times faster, where it is safe.

    There, on CPUs without AVX-512, torch 2.13 writes beyond its buffers in the gradient of strided 1x1
    convolutions of fewer than 8 channels.
    """
    unsafe = any(
        layer.kernel_size == (1, 1) and layer.stride != (1, 1) and layer.in_channels < 8
        for layer in net.modules()
        if isinstance(layer, nn.Conv2d)
    )
    return torch.contiguous_format if unsafe else torch.channels_last


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimiser's state as named tensors."""
    return {
        f"optimizer.{index}.{name}": value
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }


def _resume(
    checkpoint: Path | None, settings: dict[str, Any], net: nn.Module, optimizer: torch.optim.Optimizer
) -> list[EpochRecord]:
    """Bring network and optimiser to where the checkpoint left them; return the epochs done so far."""
    found = None if checkpoint is None else load_checkpoint(checkpoint, settings)
    if found is None:
        return []
    tensors, state = found
    try:
        records = [EpochRecord(**record) for record in state["records"]]
        net.load_state_dict(
            {name.removeprefix("network."): v for name, v in tensors.items() if name.startswith("network.")}
        )
        entries: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            kind, index, entry = [*name.split(".", 2), ""][:3]
            if kind == "optimizer":
                entries.setdefault(int(index), {})[entry] = value
        if entries:
            optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{checkpoint}: damaged ({error}); delete it to start anew") from error
    return records
