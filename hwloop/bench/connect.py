"""From an address on the command line to hardware."""

from __future__ import annotations

from collections.abc import Callable

from device_models.parts import PartError
from hwloop.recipe import Readout

from .drivers import DRIVERS, TileBoard
from .errors import BenchError
from .hardware import BenchHardware
from .link import ATTEMPTS, TIMEOUT, Link


def connect(
    address: str,
    readout: Readout | None = None,
    *,
    driver: str = TileBoard.name,
    timeout: float = TIMEOUT,
    attempts: int = ATTEMPTS,
    progress: Callable[[float, str], None] | None = None,
) -> BenchHardware:
    """Return hardware at ``HOST:PORT``.

    Args:
        address: of the instrument.
        readout: as :class:`BenchHardware`.
        driver: name of a driver, hwloop's own or an installed package's.
        timeout: seconds that the instrument may be silent.
        attempts: how often a message is sent before giving up.
        progress: as :class:`BenchHardware`.

    Raises:
        BenchError: if there is no such driver, PyVISA is missing, or the instrument does not answer.
    """
    try:
        make = DRIVERS[driver]
    except PartError as error:
        raise BenchError(str(error)) from error
    link = Link(address, timeout=timeout, attempts=attempts)
    return BenchHardware(make(link), readout, address=address, progress=progress)
