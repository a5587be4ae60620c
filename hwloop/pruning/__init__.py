"""Pruning: constraint sets with their projections, and the optimisers that drive weights into them."""

from .admm import Pruned as Pruned
from .admm import PruningError as PruningError
from .admm import admm_prune as admm_prune
from .clear import clear_dead as clear_dead
from .compact import compact as compact
from .constraints import Blocks as Blocks
from .constraints import ConstraintSet as ConstraintSet
from .constraints import Filters as Filters
from .constraints import Intersection as Intersection
from .constraints import LevelSet as LevelSet
from .constraints import Rows as Rows
from .graph import Graph as Graph
from .graph import trace as trace
from .masks import Masks as Masks
from .masks import apply_masks as apply_masks
from .masks import full_masks as full_masks
from .masks import without_unused_paths as without_unused_paths
from .purify import purify as purify
from .reorder import reorder as reorder
