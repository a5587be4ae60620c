"""What all commands share: one-line errors, JSON on stdout, notes on stderr, and progress with time left."""

from __future__ import annotations

import errno
import json
import time
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

console = Console(stderr=True, highlight=False)
"""Progress and notes. Standard output belongs to results."""

output = Console(highlight=False)
"""Results that people read: tables and paths."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


def fail(message: str) -> NoReturn:
    """Print ``error: message`` as one line on stderr and exit with 1."""
    console.print("[bold red]error:[/]", end=" ")
    console.print(" ".join(message.split()), markup=False, soft_wrap=True)
    raise typer.Exit(1)


def note(message: str) -> None:
    """Print one plain line on stderr."""
    console.print(message, markup=False, soft_wrap=True)


def emit_json(value: Any) -> None:
    """Print ``value`` as one JSON object on stdout; infinite and undefined numbers are an error."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


class OneLineErrors(TyperGroup):
    """Command group that turns the errors of bad input into one line and exit status 1.

    Bad input raises ``ValueError`` (or a subclass) with a message that names the file and the fix, or
    ``OSError`` on a path. Anything else is a fault of hwloop and keeps its traceback, as does everything
    where the command has an option ``--traceback`` and it is given.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors of bad input end as one line."""
        show_all = bool(ctx.find_root().params.get("traceback"))
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE or show_all:
                raise
            name = f"{error.filename}: " if error.filename is not None else ""
            fail(f"{name}{error.strerror or error}")
        except ValueError as error:
            if show_all:
                raise
            fail(str(error))
        except KeyboardInterrupt:
            fail("interrupted")


def new_app(**settings: Any) -> typer.Typer:
    """Return a typer app whose errors are one line; sub-apps and the main one are all made here."""
    return typer.Typer(cls=OneLineErrors, no_args_is_help=True, pretty_exceptions_enable=False, **settings)


class TerminalProgress:
    """Shows how far each station is: a bar with time left on a terminal, and a plain line when it is done.

    Implements :class:`hwloop.progress.Progress`. Use as a context manager.
    """

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=16),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(compact=True),
            TextColumn("left  {task.fields[detail]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._station = ""
        self._started = 0.0

    def __enter__(self) -> TerminalProgress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def begin(self, station: str) -> None:
        """A station starts."""
        self._station, self._started = station, time.monotonic()
        self._task = self._bar.add_task(station, total=1.0, detail="")

    def update(self, fraction: float, detail: str = "") -> None:
        """The running station is ``fraction`` (0 to 1) done."""
        if self._task is not None:
            self._bar.update(self._task, completed=fraction, detail=detail)

    def end(self, result: str) -> None:
        """The running station is done; ``result`` is its outcome in a few words."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        seconds = round(time.monotonic() - self._started)
        note(f"{self._station:<16}{seconds // 60:3d}:{seconds % 60:02d}  {result}")
