"""``hwloop devices``: the device cards, with the source of every figure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel
from rich.table import Table

from .common import JsonOption, emit_json, new_app, output

if TYPE_CHECKING:
    from device_models.card import Figure, FigureList
    from device_models.effects import QuantileTable

devices_app = new_app(help="Device cards: the figures of memristor processes, with their sources.")


@devices_app.command("list")
def list_cards(as_json: JsonOption = False) -> None:
    """List the device cards that ship with hwloop."""
    from device_models.card import card_names, load_card

    cards = [load_card(name) for name in card_names()]
    if as_json:
        emit_json({card.name: card.title for card in cards})
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("card", no_wrap=True)
    table.add_column("what it is")
    for card in cards:
        table.add_row(card.name, card.title)
    output.print(table)


@devices_app.command("show")
def show_card(
    card: Annotated[str, typer.Argument(help="Name of a shipped card, or a .toml file.")],
    as_json: JsonOption = False,
) -> None:
    """Show every figure of a device card: value, unit and source."""
    from device_models.card import Figure, FigureList, load_card

    loaded = load_card(card)
    if as_json:
        emit_json(loaded.model_dump(mode="json", exclude_none=True))
        return
    table = Table(title=loaded.title, title_justify="left", box=None, pad_edge=False)
    for heading in ("figure", "value", "unit", "source"):
        table.add_column(heading, overflow="fold")
    for name, figure in _figures(loaded):
        if isinstance(figure, FigureList):
            errors = [row[k] ** 0.5 for k, row in enumerate(figure.covariance or ())]
            shown = zip_longest(figure.value, errors)
            table.add_row(name, "\n".join(_number(*pair) for pair in shown), figure.unit, figure.source)
        elif isinstance(figure, Figure):
            table.add_row(name, _number(figure.value, figure.standard_error), figure.unit, figure.source)
        else:
            size = f"{len(figure.probability)} quantiles at {len(figure.g)} conductances"
            table.add_row(name, size, figure.unit, figure.source)
    output.print(table)


def _figures(
    section: BaseModel, prefix: str = ""
) -> Iterator[tuple[str, Figure | FigureList | QuantileTable]]:
    """Every figure of a card or a section of one, by its dotted name."""
    from device_models.card import Figure, FigureList
    from device_models.effects import QuantileTable

    for name, value in section:
        if isinstance(value, Figure | FigureList | QuantileTable):
            yield prefix + name, value
        elif isinstance(value, BaseModel):
            yield from _figures(value, f"{prefix}{name}.")
        elif isinstance(value, tuple):
            for k, part in enumerate(value):
                if isinstance(part, BaseModel):
                    yield from _figures(part, f"{prefix}{name}.{k}.")


def _number(value: float, error: float | None) -> str:
    return f"{value:g}" if error is None else f"{value:g} ± {error:.1g}"
