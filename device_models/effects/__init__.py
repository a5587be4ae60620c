"""What programming, time and reading do to a cell: one small part for each effect."""

from .base import EFFECTS as EFFECTS
from .base import Array as Array
from .base import CellEffect as CellEffect
from .base import Effect as Effect
from .base import RangeError as RangeError
from .base import described as described
from .drift import Drift as Drift
from .drift import Relaxation as Relaxation
from .drift import Retention as Retention
from .iv import Curve as Curve
from .iv import PolynomialCurve as PolynomialCurve
from .iv import SinhCurve as SinhCurve
from .programming import ProgrammingError as ProgrammingError
from .programming import Spread as Spread
from .pulses import PulseResponse as PulseResponse
from .pulses import PulseTable as PulseTable
from .pulses import QuantileTable as QuantileTable
from .pulses import SoftBounds as SoftBounds
from .read_noise import FlickerNoise as FlickerNoise
from .read_noise import TelegraphNoise as TelegraphNoise
from .read_noise import WhiteNoise as WhiteNoise
from .stuck import Stuck as Stuck
from .variation import Variation as Variation
from .write_verify import WriteVerify as WriteVerify
from .write_verify import Written as Written
