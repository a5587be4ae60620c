"""Parts by name: our own, those that a script registers, and those that installed packages offer.

A package offers a part as an entry point of the group (``[project.entry-points."hwloop.adcs"]``), a script by
the decorator :meth:`Parts.add`, as our own are. Files name parts and never code: a name is looked up among
what is registered and installed, and nothing is imported but the entry point of that name.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

Part = TypeVar("Part")


class PartError(ValueError):
    """A name that no part has, or a part that cannot be used; the message says what there is."""


@dataclass(frozen=True)
class Offer:
    """A part that is there.

    Attributes:
        group: entry points that it belongs to.
        name: that recipes and cards call it.
        source: package that offers it; empty for our own and what a script registered.
        fault: why it cannot be used; empty if it can, or was not tried.
    """

    group: str
    name: str
    source: str = ""
    fault: str = ""


class Parts(Mapping[str, Part], Generic[Part]):
    """The parts of one kind.

    Args:
        group: of entry points, such as ``hwloop.adcs``.
        what: one of them, in words, for messages.
        home: module that registers our own; imported when they are first asked for.
        fits: says what is wrong with a part, or nothing.
    """

    def __init__(self, group: str, what: str, home: str, fits: Callable[[Any], str] = lambda _: "") -> None:
        self.group, self._what, self._home, self._fits = group, what, home, fits
        self._own: dict[str, Part] = {}
        self._offered: dict[str, Part] = {}

    def add(self, name: str) -> Callable[[Part], Part]:
        """Return a decorator that registers a part by its name, and returns it as it is.

        Raises:
            PartError: if another part has this name, or what is decorated is no such part.
        """

        def register(part: Part) -> Part:
            if name in self._own:
                raise PartError(f"there is a {self._what} {name!r} already")
            self._own[name] = self._checked(name, part)
            return part

        return register

    def __getitem__(self, name: str) -> Part:
        """Return a part.

        Raises:
            PartError: if there is none of this name, or what a package offers cannot be used.
        """
        own = self._all_own()
        if name in own:
            return own[name]
        if name not in self._offered:
            points = [point for point in self._points() if point.name == name]
            if not points:
                raise PartError(
                    f"no {self._what} {str(name)[:100]!r}; there are {', '.join(self) or 'none'}, and no "
                    f"installed package offers one of that name (entry points {self.group})"
                )
            if len(points) > 1:
                raise PartError(f"{len(points)} packages offer a {self._what} {name!r}; keep one of them")
            self._offered[name] = self._loaded(points[0])
        return self._offered[name]

    def __contains__(self, name: object) -> bool:
        return any(name == known for known in self)

    def __iter__(self) -> Iterator[str]:
        own = self._all_own()
        yield from own
        yield from sorted({point.name for point in self._points()} - own.keys())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def offers(self) -> list[Offer]:
        """Return what other packages offer, each part tried."""
        found = []
        for point in self._points():
            source = point.dist.name if point.dist else "?"
            fault = f"there is a {self._what} of this name already" if point.name in self._all_own() else ""
            try:
                self[point.name]
            except PartError as error:
                fault = str(error)
            found.append(Offer(self.group, point.name, source, fault))
        return found

    def _all_own(self) -> dict[str, Part]:
        importlib.import_module(self._home)
        return self._own

    def _points(self) -> list[importlib.metadata.EntryPoint]:
        return list(importlib.metadata.entry_points(group=self.group))

    def _loaded(self, point: importlib.metadata.EntryPoint) -> Part:
        try:
            part = point.load()
        except Exception as error:
            source = point.dist.name if point.dist else "an installed package"
            raise PartError(
                f"{self._what} {point.name!r} of {source} cannot be imported "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            ) from error
        return self._checked(point.name, part)

    def _checked(self, name: str, part: Any) -> Part:
        if fault := self._fits(part):
            raise PartError(f"{self._what} {name!r}: {fault}")
        return part


def part_parameters(part: Any, given: Mapping[str, Any]) -> Any:
    """Return the parameters of a part by its own model, ``part.parameters``; None if it has no model.

    Raises:
        PartError: naming the parameter, if they do not fit.
    """
    model: type[BaseModel] | None = getattr(part, "parameters", None)
    if model is None:
        if given:
            raise PartError(f"parameters.{next(iter(given))}: it takes no parameters")
        return None
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        raise PartError(f"parameters.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
