"""Labelled images: the MNIST that ships with the package, and the user's own files, never pickles."""

from .dataset import SHIPPED as SHIPPED
from .dataset import Dataset as Dataset
from .dataset import fingerprint as fingerprint
from .dataset import load_dataset as load_dataset
from .goal import KINDS as KINDS
from .goal import Goal as Goal
from .goal import GoalError as GoalError
from .part import DatasetError as DatasetError
