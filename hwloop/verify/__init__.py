"""ngspice against the fast models, station by station of a readout."""

from .check import verify as verify
from .report import ArrayCheck as ArrayCheck
from .report import VerifyReport as VerifyReport
from .stations import Station as Station
