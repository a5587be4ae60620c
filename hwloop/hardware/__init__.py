"""Hardware back ends behind one protocol: program a conductance map, then read layers."""

from .chosen import card_of as card_of
from .chosen import largest_codes as largest_codes
from .chosen import make_wires as make_wires
from .chosen import not_simulated as not_simulated
from .execution import HardwareLayer as HardwareLayer
from .execution import calibrate_inputs as calibrate_inputs
from .execution import network_from_map as network_from_map
from .execution import on_hardware as on_hardware
from .fast import FastHardware as FastHardware
from .ideal import IdealHardware as IdealHardware
from .measured import MeasuredHardware as MeasuredHardware
from .protocol import Capabilities as Capabilities
from .protocol import Hardware as Hardware
from .protocol import Resumable as Resumable
from .record_file import RecordError as RecordError
from .recorded import RecordedHardware as RecordedHardware
from .recorded import RecordingHardware as RecordingHardware
from .spice import SpiceHardware as SpiceHardware
from .streaming import SolvedLayer as SolvedLayer
from .streaming import program_stored as program_stored
from .streaming import solve_stored as solve_stored
