"""From level codes to tiles of crossbars, and the conductance map file."""

from .build import build_map as build_map
from .build import tile_adc_bits as tile_adc_bits
from .compare import Difference as Difference
from .compare import compare_maps as compare_maps
from .conductance_map import NEGATIVE as NEGATIVE
from .conductance_map import POSITIVE as POSITIVE
from .conductance_map import UNUSED_LINE as UNUSED_LINE
from .conductance_map import ConductanceMap as ConductanceMap
from .conductance_map import LayerMap as LayerMap
from .export import export_csv as export_csv
from .export import export_npz as export_npz
from .map_errors import MapFileError as MapFileError
from .mapfile import read_map as read_map
from .mapfile import validate_map as validate_map
from .mapfile import write_map as write_map
from .tiles import assemble as assemble
from .tiles import form_tiles as form_tiles
from .tiles import tile_count as tile_count
