"""Hardware back ends behind one protocol: program a conductance map, then read layers."""

from .fast import FastHardware as FastHardware
from .ideal import IdealHardware as IdealHardware
from .protocol import Hardware as Hardware
