"""PySpice, where it is installed.

Some remove it, because it is under the GPL; everything in hwloop but netlists works without it.
"""

from __future__ import annotations

from typing import Any

try:
    from PySpice.Spice.Netlist import Circuit as Circuit
    from PySpice.Spice.Netlist import SubCircuit as SubCircuit
    from PySpice.Spice.NgSpice.Shared import NgSpiceShared as NgSpiceShared
    from PySpice.Spice.NgSpice.Shared import ffi as ffi
except ModuleNotFoundError as error:
    if error.name != "PySpice":
        raise
    INSTALLED = False
    ffi = None

    class Circuit:  # type: ignore[no-redef]
        """Stands in for PySpice's class: whoever makes one is told what is missing."""

        def __init__(self, *_: Any, **__: Any) -> None:
            raise SpiceError(MISSING)

    SubCircuit = NgSpiceShared = Circuit
else:
    INSTALLED = True

MISSING = "PySpice is not installed, and netlists need it: pip install PySpice"


class SpiceError(ValueError):
    """PySpice or ngspice is missing, or a circuit could not be solved; the message says which and why."""
