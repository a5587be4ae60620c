"""From level codes to tiles of crossbars, and the conductance map file."""

from .conductance_map import NEGATIVE as NEGATIVE
from .conductance_map import POSITIVE as POSITIVE
from .conductance_map import UNUSED_LINE as UNUSED_LINE
from .conductance_map import ConductanceMap as ConductanceMap
from .conductance_map import LayerMap as LayerMap
