"""What the user names as ``package.module:factory``, found where ``python -m`` finds it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def working_directory_first() -> Iterator[None]:
    """Find modules in the working directory first, and last from then on.

    A module that the user names wins over an installed one of the same name. What hwloop and others import
    later does not change by what else lies in that folder, but what the user's code imports later is found.
    """
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def module_file(module_name: str) -> Path | None:
    """Return the file of a module that has been imported, or can be found; None if it has none."""
    with working_directory_first():
        spec = importlib.util.find_spec(module_name)
    return None if spec is None or spec.origin is None else Path(spec.origin)


def imported(module_name: str, name: str, what: str = "function") -> Any:
    """Import a module, that is, run its code, and return a callable of it.

    Raises:
        ValueError: if there is no such module or callable.
    """
    with working_directory_first():
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise ValueError(f"module {module_name!r} cannot be imported ({error})") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"{module_name!r} has no {what} {name!r}")  # noqa: TRY004 - a wrong name
    return found


def call_factory(module_name: str, name: str) -> Any:
    """Import a module, that is, run its code, and return what a callable of it gives without arguments.

    Raises:
        ValueError: if there is no such module or callable, or it needs arguments. What its code raises is
            its own.
    """
    factory = imported(module_name, name, "factory")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise ValueError(f"the factory must need no arguments ({error})") from error
    with working_directory_first():
        return factory()
