"""Sweeps: many designs of the hardware for one network, as tasks for Dask."""

from .axes import Axis as Axis
from .axes import Design as Design
from .axes import SweepError as SweepError
from .axes import designs as designs
from .cluster import connect as connect
from .run import mark_best as mark_best
from .run import sweep as sweep
