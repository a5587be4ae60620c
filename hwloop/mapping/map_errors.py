"""What can be wrong with a conductance map file, said in one line that names file, place and problem."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from device_models.hdf5_screen import reason

NAME = re.compile(r"\w[\w.-]{0,199}")
"""Names of layers and data sets: no path, no control characters."""
MAX_CHUNK_BYTES = 1 << 26
"""Largest chunk of a data set that is written or read."""

# Everything that h5py, HDF5, zlib and the system raise on damaged bytes, full disks and the like.
_FAULTS = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    SystemError,
    zlib.error,
)


class MapFileError(ValueError):
    """A conductance map that cannot be read or written; one line names file, data set and problem."""


class MapProblemError(ValueError):
    """What is wrong, in words; :func:`guarded` adds where."""


@contextmanager
def guarded(where: str, fault: str = "damaged") -> Iterator[None]:
    """Turn whatever goes wrong inside into a :class:`MapFileError` that begins with ``where``."""
    try:
        yield
    except MapFileError:
        raise
    except MapProblemError as error:
        raise MapFileError(f"{where}: {error}") from error
    except _FAULTS as error:
        raise MapFileError(f"{where}: {fault} ({reason(error)})") from error
