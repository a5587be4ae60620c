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
from .programming import LineBias as LineBias
from .programming import Writes as Writes
from .programming import line_bias as line_bias
from .programming import select_cells as select_cells
from .programming import write_cells as write_cells
from .wires import Wires as Wires
