"""A page that tells choices apart, such as designs or pruning methods: accuracy against what they cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from device_models.files import write_atomically
from hwloop.report.charts import pareto_chart
from hwloop.report.environment import page_environment
from hwloop.report.style import to_svg


@dataclass(frozen=True)
class Choice:
    """One choice.

    Attributes:
        settings: what makes it, by name, as they are shown; all choices have the same names.
        accuracy: of each device instance or seed, as fractions; empty if it failed.
        figures: the others, in SI units, by the key of their column; empty if it failed.
        best: whether no other choice beats it.
        error: why it failed; else empty.
    """

    settings: Mapping[str, str]
    accuracy: Sequence[float]
    figures: Mapping[str, float]
    best: bool = False
    error: str = ""

    @property
    def name(self) -> str:
        """Its settings in a line."""
        return ", ".join(f"{name} {value}" for name, value in self.settings.items()) or "as the recipe says"


@dataclass(frozen=True)
class Column:
    """One figure of all choices: its key, its heading with the unit, and the factor from SI units to it."""

    key: str
    heading: str
    factor: float = 1.0


@dataclass(frozen=True)
class ChoicesPage:
    """Everything that the page shows.

    Attributes:
        title: what was compared.
        lead: how, in one or two sentences.
        choices: all of them.
        columns: their figures.
        against: keys of the columns that accuracy is drawn against.
        each: what the values of ``accuracy`` are of, such as ``device instances``.
        best: what the best ones are not beaten in.
        command: how to make the page again.
        recipe: as TOML.
    """

    title: str
    lead: str
    choices: Sequence[Choice]
    columns: Sequence[Column]
    against: Sequence[str]
    each: str
    best: str
    command: str
    recipe: str


def write_choices(page: ChoicesPage, path: Path) -> None:
    """Write the page, atomically.

    Raises:
        OSError: if the folder cannot be written.
    """
    write_atomically(path, render_choices(page).encode())


def render_choices(page: ChoicesPage) -> str:
    """Return the page as HTML."""
    good = [choice for choice in page.choices if choice.accuracy]
    columns = [column for column in page.columns if column.key in page.against]
    told = f"Accuracy of {len(good)} choices against {', '.join(column.heading for column in columns)}."
    drawn = to_svg(pareto_chart(good, columns, page.best, listed=False), "pareto", told) if good else None
    rows = [
        {
            "choice": choice,
            "mean": statistics.fmean(choice.accuracy) if choice.accuracy else None,
            "std": statistics.stdev(choice.accuracy) if len(choice.accuracy) > 1 else None,
        }
        for choice in page.choices
    ]
    return (
        page_environment()
        .get_template("choices.html")
        .render(
            page=page,
            rows=rows,
            best=[choice for choice in good if choice.best],
            figure=None if drawn is None else Markup(drawn),  # noqa: S704  made here, from escaped names
        )
    )
