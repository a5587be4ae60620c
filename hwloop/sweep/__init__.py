"""Sweeps: many designs of the hardware for one network, as tasks for Dask."""

from .axes import Axis as Axis
from .axes import Design as Design
from .axes import SweepError as SweepError
from .axes import designs as designs
from .cluster import connect as connect
from .page import AREA as AREA
from .page import BEST as BEST
from .page import COLUMNS as COLUMNS
from .page import ENERGY as ENERGY
from .page import choices as choices
from .page import sweep_page as sweep_page
from .run import mark_best as mark_best
from .run import sweep as sweep
