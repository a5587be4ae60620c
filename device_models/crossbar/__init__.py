"""The crossbar as a circuit: resistive wires, effective conductances, node voltages and gradients."""

from .access import SeriesAccess as SeriesAccess
from .access import Transistor as Transistor
from .cells import Cells as Cells
from .cells import ConvergenceError as ConvergenceError
from .cells import Ohmic as Ohmic
from .cells import Polynomial as Polynomial
from .cells import Sinh as Sinh
from .cells import Table as Table
from .effective import effective_conductance as effective_conductance
from .factorization import Factorization as Factorization
from .factorization import factorize as factorize
from .nonlinear import ArraySolution as ArraySolution
from .nonlinear import solve_array as solve_array
from .wires import Wires as Wires
