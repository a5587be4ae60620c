"""How a network learns to live with its arrays: strategies behind one interface."""

from .calibrate import calibrate_batch_norm as calibrate_batch_norm
from .calibrate import calibrate_batch_norm_on_chip as calibrate_batch_norm_on_chip
from .calibrate import calibrate_columns as calibrate_columns
from .chip import train_last_layers as train_last_layers
from .chip import train_on_chip as train_on_chip
from .model import train_on_ir_drop as train_on_ir_drop
from .model import train_on_variation as train_on_variation
from .table import ON_ONE_CHIP as ON_ONE_CHIP
from .table import STRATEGIES as STRATEGIES
from .table import run_strategy as run_strategy
from .task import Outcome as Outcome
from .task import Task as Task
