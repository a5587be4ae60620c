"""Checkpoints: the state of a training after an epoch, in one safetensors file.

The tensors (network and optimiser) are the file's tensors; everything else is one JSON object in its header.
Both are in one file, so that they cannot be of two different epochs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from device_models.files import write_atomically

FORMAT = "hwloop-checkpoint-1"


class CheckpointError(ValueError):
    """A checkpoint that cannot be resumed from; the message names the file and the fix."""


def save_checkpoint(
    path: Path, settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]
) -> None:
    """Write a checkpoint atomically; its folder is made if there is none.

    Args:
        path: the file.
        settings: what the training is; only a training with the same settings may resume.
        tensors: state of network and optimiser.
        state: everything else, JSON-compatible.
    """
    header = {"format": FORMAT, "json": json.dumps({"settings": dict(settings), "state": dict(state)})}
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, safetensors.torch.save(copies, header))


def load_checkpoint(
    path: Path, settings: Mapping[str, Any]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Read a checkpoint: its tensors and its state, or None if there is no such file.

    Raises:
        CheckpointError: if the file is damaged, or of a training with other settings.
    """
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if header.get("format") != FORMAT:
            raise CheckpointError(f"{path}: not a checkpoint of this version; delete it to start anew")
        content = json.loads(header["json"])
        found, state = dict(content["settings"]), dict(content["state"])
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); delete it to start anew") from error
    for name, value in json.loads(json.dumps(dict(settings))).items():
        if found.get(name) != value:
            raise CheckpointError(
                f"{path}: made with {name} = {found.get(name)!r}, now it is {value!r}; "
                "delete it to start anew, or write to another folder"
            )
    return tensors, state
