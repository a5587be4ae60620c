"""What all commands share: one-line errors, JSON on stdout, notes on stderr, and progress with time left."""

from __future__ import annotations

import errno
import functools
import inspect
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

console = Console(stderr=True, highlight=False)
"""Progress and notes. Standard output belongs to results."""

output = Console(highlight=False)
"""Results that people read: tables and paths."""

ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Go on where it was cut off, as without it, and fail if there is nothing."),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", help="No progress and no notes: results and errors only.")
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Throw away what was done before.")]

SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.FIELD=VALUE",
        help="Another value for a field of the recipe, as TOML writes it, or none.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


_quiet: ContextVar[bool] = ContextVar("quiet", default=False)

Command = TypeVar("Command", bound=Callable[..., Any])


def fail(message: str) -> NoReturn:
    """Print ``error: message`` as one line on stderr and exit with 1."""
    console.print("[bold red]error:[/]", end=" ")
    console.print(" ".join(message.split()), markup=False, soft_wrap=True)
    raise typer.Exit(1)


def check_resume(resume: bool, fresh: bool, there: bool, where: Path) -> None:
    """End the command if it is to go on where nothing was begun, or to go on and begin anew at once."""
    if resume and fresh:
        raise typer.BadParameter("--resume and --fresh exclude each other", param_hint="--resume")
    if resume and not there:
        fail(f"{where}: nothing to resume; leave out --resume to begin")


@contextmanager
def resumable() -> Iterator[None]:
    """Say, where the user interrupts, how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted; the same command without --fresh goes on where it stopped")


def note(message: str) -> None:
    """Print one plain line on stderr, unless the command is to be quiet."""
    if _quiet.get():
        return
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


class App(typer.Typer):
    """App whose commands all take ``--quiet``."""

    def command(self, *names: Any, **settings: Any) -> Callable[[Command], Command]:
        """Return what registers a command; see :class:`typer.Typer`."""
        register = super().command(*names, **settings)

        def add(command: Command) -> Command:
            register(_with_quiet(command))
            return command

        return add


def _with_quiet(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with one option more, which holds while the command runs."""

    @functools.wraps(command)
    def run(*values: Any, quiet: bool = False, **options: Any) -> Any:
        token = _quiet.set(quiet)
        try:
            return command(*values, **options)
        finally:
            _quiet.reset(token)

    signature = inspect.signature(command, eval_str=True)
    last = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=QuietOption)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), last])  # type: ignore[attr-defined]
    run.__annotations__ = {**inspect.get_annotations(command, eval_str=True), last.name: last.annotation}
    return run


def new_app(**settings: Any) -> typer.Typer:
    """Return a typer app whose errors are one line; sub-apps and the main one are all made here."""
    return App(cls=OneLineErrors, no_args_is_help=True, pretty_exceptions_enable=False, **settings)


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
            disable=not console.is_terminal or _quiet.get(),
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
