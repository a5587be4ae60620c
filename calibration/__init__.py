"""Measured data in, device and wire figures with their uncertainty out."""

from .wires import WireFit as WireFit
from .wires import effective_conductance_slopes as effective_conductance_slopes
from .wires import fit_wires as fit_wires
