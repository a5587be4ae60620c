"""Instruments at a bench: drivers over PyVISA, the hardware they make, and a virtual instrument."""

from .bank import ArrayBank as ArrayBank
from .connect import connect as connect
from .drivers import DRIVERS as DRIVERS
from .drivers import Driver as Driver
from .drivers import SwitchMatrixSmu as SwitchMatrixSmu
from .drivers import TileBoard as TileBoard
from .errors import BenchError as BenchError
from .errors import LimitError as LimitError
from .hardware import BenchHardware as BenchHardware
from .instrument import VirtualInstrument as VirtualInstrument
from .limits import check_limits as check_limits
from .limits import check_pulses as check_pulses
from .link import Link as Link
from .server import BenchServer as BenchServer
from .server import virtual_instrument as virtual_instrument
