"""The crossbar as a circuit: resistive wires, effective conductances, node voltages and gradients."""

from .effective import effective_conductance as effective_conductance
from .factorization import Factorization as Factorization
from .factorization import factorize as factorize
from .wires import Wires as Wires
