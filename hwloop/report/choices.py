"""A page that tells choices apart, such as designs or pruning methods: accuracy against what they cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from device_models.files import write_atomically
from hwloop.report.environment import page_environment
from hwloop.report.style import BLUE, GREY, drawing, new_figure, quiet, to_svg


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


def pareto_chart(
    choices: Sequence[Choice], columns: Sequence[Column], best: str, listed: bool = True
) -> Figure:
    """Draw choices: accuracy against each of some figures, those that no other beats in colour and numbered.

    Args:
        choices: none that failed; bars show their smallest and largest accuracy.
        columns: what accuracy is drawn against, a panel for each.
        best: what the best ones are not beaten in.
        listed: whether the settings of the best are written below.
    """
    numbered = [choice for choice in choices if choice.best]
    with drawing():
        figure = new_figure(4.5 * len(columns), 4.2 + 0.17 * len(numbered) * listed)
        grid = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axes, column in zip(grid, columns, strict=True):
            for chosen, colour, text in (
                ([choice for choice in choices if not choice.best], GREY, "beaten by another"),
                (numbered, BLUE, f"not beaten in {best}"),
            ):
                if not chosen:
                    continue
                values = [100 * np.array(choice.accuracy) for choice in chosen]
                mean = np.array([v.mean() for v in values])
                x = [column.factor * choice.figures[column.key] for choice in chosen]
                spread = [mean - [v.min() for v in values], [v.max() for v in values] - mean]
                axes.errorbar(x, mean, spread, fmt="o", color=colour, markersize=4, capsize=2, label=text)
            for number, choice in enumerate(numbered, 1):
                place = (column.factor * choice.figures[column.key], 100 * statistics.fmean(choice.accuracy))
                axes.annotate(str(number), place, (4, 4), textcoords="offset points", fontsize=8)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(column.heading)
            quiet(axes)
        grid[0].set_ylabel("accuracy on test images, %")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        if listed:
            told = [f"{number}: {choice.name}" for number, choice in enumerate(numbered, 1)]
            figure.supxlabel("\n".join(told), fontsize=8, ha="left", x=0.08)
        return figure
