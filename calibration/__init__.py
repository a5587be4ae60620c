"""Measured data in, device and wire figures with their uncertainty out."""

from .calibrate import Calibration as Calibration
from .calibrate import calibrate as calibrate
from .calibrate import verdict as verdict
from .card_file import card_text as card_text
from .card_file import write_card as write_card
from .files import read_measurements as read_measurements
from .measurement import KINDS as KINDS
from .measurement import Measurement as Measurement
from .measurement import MeasurementError as MeasurementError
from .measurement_hdf5 import write_measurements as write_measurements
from .readout import ReadoutFit as ReadoutFit
from .readout import fit_readout as fit_readout
from .result import Fit as Fit
from .result import Fitted as Fitted
from .wires import WireFit as WireFit
from .wires import effective_conductance_slopes as effective_conductance_slopes
from .wires import fit_wires as fit_wires
