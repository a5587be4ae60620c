"""Fits as files, so that a calibration that is cut off goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from device_models.card import DeviceCard
from device_models.files import write_atomically

from .measurement import MeasurementError
from .result import Curve, Fit, Fitted


def save_fits(path: Path, fits: Sequence[Fit]) -> None:
    """Write fits as JSON, atomically; :func:`load_fits` gives the very same numbers.

    Raises:
        OSError: if the folder cannot be written.
    """
    write_atomically(path, json.dumps([_as_dict(fit) for fit in fits]).encode())


def load_fits(path: Path) -> list[Fit]:
    """Read fits.

    Raises:
        MeasurementError: if the file is damaged.
        OSError: if it cannot be read.
    """
    try:
        return [_fit(data) for data in json.loads(path.read_text("utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise MeasurementError(f"{path}: damaged ({error}); delete it to fit again") from error


def _as_dict(fit: Fit) -> dict[str, Any]:
    curve = fit.curve
    return {field.name: getattr(fit, field.name) for field in fields(fit)} | {
        "effect": fit.effect.model_dump(mode="json"),
        "parameters": [vars(parameter) for parameter in fit.parameters],
        "scores": None if fit.scores is None else fit.scores.tolist(),
        "likelihood": dict(fit.likelihood),
        "curve": None if curve is None else {name: _plain(value) for name, value in vars(curve).items()},
    }


def _fit(data: dict[str, Any]) -> Fit:
    curve = data["curve"]
    section: Any = DeviceCard.model_fields[data["section"]].annotation
    effect = TypeAdapter(section).validate_python(data["effect"])
    return Fit(
        **data
        | {
            "effect": effect,
            "parameters": tuple(Fitted(**parameter) for parameter in data["parameters"]),
            "scores": None if data["scores"] is None else np.array(data["scores"]),
            "notes": tuple(data["notes"]),
            "curve": None if curve is None else Curve(**{n: _array(value) for n, value in curve.items()}),
        }
    )


def _plain(value: str | np.ndarray) -> Any:
    return value if isinstance(value, str) else value.tolist()


def _array(value: str | list[float]) -> Any:
    return value if isinstance(value, str) else np.array(value)
