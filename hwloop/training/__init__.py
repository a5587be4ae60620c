"""Training: the epoch loop, its checkpoints, and retraining on what hardware gives back."""

from .checkpoint import CheckpointError as CheckpointError
from .fit import EpochRecord as EpochRecord
from .fit import TrainingError as TrainingError
from .fit import accuracy as accuracy
from .fit import fit as fit
