"""The line: its stations in order, each resumable, in the folder of a run."""

from .inputs import Inputs as Inputs
from .inputs import load_images as load_images
from .inputs import load_inputs as load_inputs
from .inputs import make_wires as make_wires
from .results import write_results as write_results
from .run_folder import RunError as RunError
from .run_folder import RunFolder as RunFolder
from .stations import Run as Run
from .walk import STATIONS as STATIONS
from .walk import walk as walk
