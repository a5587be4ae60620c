"""``hwloop devices``: the device cards, with the source of every figure."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from .common import JsonOption, emit_json, new_app, output

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
        emit_json(loaded.model_dump(mode="json"))
        return
    table = Table(title=loaded.title, title_justify="left", box=None, pad_edge=False)
    for heading in ("figure", "value", "unit", "source"):
        table.add_column(heading, overflow="fold")
    sections = {"": loaded, "programming_error.": loaded.programming_error}
    for prefix, section in sections.items():
        for name, figure in section:
            if isinstance(figure, Figure):
                table.add_row(prefix + name, f"{figure.value:g}", figure.unit, figure.source)
            elif isinstance(figure, FigureList):
                values = "\n".join(f"{value:g}" for value in figure.value)
                table.add_row(prefix + name, values, figure.unit, figure.source)
    output.print(table)
