"""From level codes to tiles of crossbars, and the conductance map file."""

from .adc_bits import exact_adc_bits as exact_adc_bits
from .adc_bits import tile_adc_bits as tile_adc_bits
from .build import build_map as build_map
from .compare import Difference as Difference
from .compare import compare_maps as compare_maps
from .conductance_map import NEGATIVE as NEGATIVE
from .conductance_map import POSITIVE as POSITIVE
from .conductance_map import UNUSED_LINE as UNUSED_LINE
from .conductance_map import ConductanceMap as ConductanceMap
from .conductance_map import Encoding as Encoding
from .conductance_map import LayerMap as LayerMap
from .encoding import decode as decode
from .encoding import encode as encode
from .encoding import largest_code as largest_code
from .encoding import line_weights as line_weights
from .export import export_csv as export_csv
from .export import export_npz as export_npz
from .map_errors import MapFileError as MapFileError
from .mapfile import read_map as read_map
from .mapfile import validate_map as validate_map
from .mapfile import write_map as write_map
from .tiles import assemble as assemble
from .tiles import form_tiles as form_tiles
from .tiles import tile_count as tile_count
