"""Hardware back ends behind one protocol: program a conductance map, then read layers."""

from .protocol import Hardware as Hardware
