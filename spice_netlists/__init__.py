"""Crossbars and converters as PySpice circuits, and the worker processes that run them in ngspice."""

from .amplifier import Amplifier as Amplifier
from .conversion import AdcCircuit as AdcCircuit
from .conversion import BitLine as BitLine
from .conversion import Conversions as Conversions
from .conversion import Converted as Converted
from .conversion import convert as convert
from .crossbar import CrossbarRead as CrossbarRead
from .crossbar import crossbar_circuit as crossbar_circuit
from .crossbar import crossbar_read as crossbar_read
from .crossbar import safe_title as safe_title
from .flash import FlashCircuit as FlashCircuit
from .jobs import Job as Job
from .jobs import JobResult as JobResult
from .jobs import column_currents as column_currents
from .jobs import run_jobs as run_jobs
from .ngspice import NgspiceInstall as NgspiceInstall
from .ngspice import SpiceError as SpiceError
from .ngspice import find_ngspice as find_ngspice
from .sar import MAX_BITS as MAX_BITS
from .sar import SarCircuit as SarCircuit
from .sequencer import ReadCycle as ReadCycle
from .sequencer import Timing as Timing
from .settling import ArrayTransient as ArrayTransient
from .settling import array_transient as array_transient
from .settling import settling_time as settling_time
