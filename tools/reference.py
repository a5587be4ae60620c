"""Writes the pages of the documentation that follow from the code: commands, recipes and device cards.

Its argument is the folder to write to; ``make docs`` calls it before the site is built.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
import typer
from annotated_types import Ge, Gt, Interval, Le, Lt, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from device_models.card import DeviceCard
from hwloop.cli.app import app
from hwloop.cost import CostCard
from hwloop.recipe import Recipe

_NAMES = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "dict": "table"}


def main(folder: Path) -> None:
    """Write every page anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, title, blocks in (
        ("commands", "Commands", _command(typer.main.get_command(app), "hwloop")),
        ("recipe", "Recipes", _sections(Recipe, "")),
        ("device-card", "Fields of device cards", _sections(DeviceCard, "")),
        ("cost-card", "Fields of cost cards", _sections(CostCard, "")),
    ):
        (folder / f"{name}.md").write_text(f"# {title}\n\n" + "\n\n".join(blocks) + "\n", encoding="utf-8")


def _command(command: Any, path: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        for name, below in sorted(command.commands.items()):
            yield from _command(below, f"{path} {name}")
        return
    context = command.make_context(path, [], resilient_parsing=True)
    yield f"## {path}"
    yield inspect.cleandoc(command.help or "").replace("\f", "")
    yield f"    {path} {' '.join(command.collect_usage_pieces(context))}"
    rows = [
        (_names(parameter), _cell(getattr(parameter, "help", None) or ""), _default(parameter))
        for parameter in command.get_params(context)
        if parameter.name != "help"
    ]
    yield _table(("argument or option", "meaning", "default"), rows)


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])


def _default(parameter: Any) -> str:
    value = parameter.default
    return "" if value is None or value is False or callable(value) or value == () else f"`{value}`"


def _sections(model: type[BaseModel], path: str, written: set[type] | None = None) -> Iterator[str]:
    """Describe a model: its fields in a table, then each model below it once, under a heading of its own."""
    written = set() if written is None else written
    yield _introduction(model)
    meanings = _meanings(model)
    rows, below = [], []
    for name, field in model.model_fields.items():
        inner = [part for part in _parts(field.annotation) if _is_model(part)]
        where = f"{path}.{name}".lstrip(".")
        below += [(where, part) for part in inner]
        kind = " or ".join(f"table {part.__name__}" for part in inner) or _kind(field)
        rows.append((f"`{name}`", kind, _range(field), _start(field), _cell(meanings.get(name, ""))))
    yield _table(("field", "type", "range", "default", "meaning"), rows)
    for where, part in below:
        if part not in written:
            written.add(part)
            yield f"## {part.__name__}: [{where}]"
            yield from _sections(part, where, written)


def _introduction(model: type[BaseModel]) -> str:
    text = inspect.cleandoc(model.__doc__ or "").split("\n\nAttributes:")[0]
    return re.sub(r"``([^`]*)``", r"`\1`", re.sub(r":\w+:`([^`]*)`", r"`\1`", text))


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Read the ``Attributes:`` of a model's docstring and of those that it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if cls is BaseModel or not issubclass(cls, BaseModel) or not cls.__doc__:
            continue
        for section in griffe.Docstring(inspect.cleandoc(cls.__doc__)).parse("google", warnings=False):
            if section.kind is griffe.DocstringSectionKind.attributes:
                found |= {item.name: item.description for item in section.value}
    return found


def _parts(annotation: object) -> list[object]:
    """Return every type that an annotation is made of."""
    inside = typing.get_args(annotation)
    return [annotation, *(part for one in inside for part in _parts(one))]


def _is_model(part: object) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)


def _kind(field: FieldInfo) -> str:
    kinds = [part for part in _parts(field.annotation) if part not in (None, type(None))]
    for part in kinds:
        if typing.get_origin(part) is typing.Literal:
            return _cell(" or ".join(f"`{choice}`" for choice in typing.get_args(part)))
    names = {
        "str": "text",
        "int": "whole number",
        "float": "number",
        "bool": "true or false",
        "dict": "table",
    }
    found = [names[part.__name__] for part in kinds if isinstance(part, type) and part.__name__ in _NAMES]
    return " or ".join(dict.fromkeys(found)) or "table"


def _range(field: FieldInfo) -> str:
    limits = list(field.metadata)
    for part in _parts(field.annotation):
        for extra in getattr(part, "__metadata__", ()):
            limits += extra.metadata if isinstance(extra, FieldInfo) else [extra]
    found = []
    for limit in limits:
        match limit:
            case Ge(ge=value):
                found.append(f"≥ {value}")
            case Gt(gt=value):
                found.append(f"> {value}")
            case Le(le=value):
                found.append(f"≤ {value}")
            case Lt(lt=value):
                found.append(f"< {value}")
            case Interval() | MultipleOf():
                found.append(str(limit))
    return ", ".join(dict.fromkeys(found))


def _start(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "needed" if field.default_factory is None else "empty"
    if field.default is None or isinstance(field.default, BaseModel):
        return "" if field.default else "none"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    text = re.sub(r"``([^`]*)``", r"`\1`", re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text))
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
