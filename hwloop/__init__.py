"""From a trained network to conductance maps, simulated and measured arrays, and back.

    analog = hwloop.convert(model, hwloop.HardwareConfig(card="rram-neurram", wire=2.0), calibrate=images)

Names are imported when they are first used, so that ``import hwloop`` itself takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwloop.on_arrays import MatrixOnArrays as MatrixOnArrays
    from hwloop.on_arrays import NetworkOnArrays as NetworkOnArrays
    from hwloop.on_arrays import convert as convert
    from hwloop.on_arrays import load as load
    from hwloop.recipe import HardwareConfig as HardwareConfig

_HOMES = {
    "HardwareConfig": "hwloop.recipe",
    "MatrixOnArrays": "hwloop.on_arrays",
    "NetworkOnArrays": "hwloop.on_arrays",
    "convert": "hwloop.on_arrays",
    "load": "hwloop.on_arrays",
}

__all__ = ["HardwareConfig", "MatrixOnArrays", "NetworkOnArrays", "convert", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hwloop' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
