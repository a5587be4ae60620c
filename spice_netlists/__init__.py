"""Crossbars as PySpice circuits, and the worker processes that run them in ngspice."""

from .crossbar import CrossbarRead as CrossbarRead
from .crossbar import crossbar_circuit as crossbar_circuit
from .crossbar import crossbar_read as crossbar_read
from .jobs import Job as Job
from .jobs import JobResult as JobResult
from .jobs import column_currents as column_currents
from .jobs import run_jobs as run_jobs
from .ngspice import NgspiceInstall as NgspiceInstall
from .ngspice import SpiceError as SpiceError
from .ngspice import find_ngspice as find_ngspice
