"""``hwloop calibrate``: measurements in, a device card and a verdict out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from .common import (
    FreshOption,
    JsonOption,
    ResumeOption,
    TerminalProgress,
    check_resume,
    emit_json,
    note,
    output,
    resumable,
)

if TYPE_CHECKING:
    from calibration import Calibration


def calibrate_command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Measurements: .csv, .h5.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Device card to write (.toml).", show_default=False)],
    base: Annotated[
        str | None,
        typer.Option(help="Card that keeps its figures where nothing was measured.", show_default=False),
    ] = None,
    read_voltage: Annotated[
        float | None, typer.Option(help="Read voltage in volt.", show_default=False)
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Page with figures; beside the card, as .html, if left out.", show_default=False),
    ] = None,
    resume: ResumeOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a device card to measurements, with uncertainty and a verdict on every effect.

    Fits are kept in CARD.toml.calibrate until all are done: the same command again goes on.
    """
    from calibration import calibrate, read_measurements, write_card
    from device_models.card import load_card
    from hwloop.report.calibration import write_calibration_page
    from hwloop.unfinished import file_digest, unfinished_folder, unfinished_work

    if out.suffix != ".toml":
        raise typer.BadParameter("the card must end in .toml", param_hint="--out")
    check_resume(resume, fresh, unfinished_folder(out, "calibrate").is_dir(), out)
    shown = out.with_suffix(".html") if page is None else page
    with resumable(), TerminalProgress() as progress:
        progress.begin("read")
        tables = [table for file in files for table in read_measurements(file)]
        progress.end(f"{sum(len(table) for table in tables)} readings in {len(tables)} tables")
        card = None if base is None else load_card(base)
        choices = {
            "measurements": [file_digest(file) for file in files],
            "base": None if card is None else card.model_dump(mode="json"),
            "read_voltage": read_voltage,
        }
        with unfinished_work(out, "calibrate", choices, fresh) as folder:
            progress.begin("fit")
            result = calibrate(
                tables,
                re.sub(r"[^a-z0-9-]+", "-", out.stem.lower()).strip("-")[:64] or "calibrated",
                base=card,
                read_voltage=read_voltage,
                checkpoint=folder,
                progress=progress.update,
            )
            progress.end(f"{len(result.fits)} effects")
            write_card(result.card, out)
            write_calibration_page(result, shown)
    if as_json:
        emit_json(_as_dict(result, out, shown))
        return
    _print(result)
    output.print(f"card: {out}\npage: {shown}", markup=False)
    if not result.passed:
        note("A model does not fit its held-out data: see the page before you rely on the card.")


def _print(result: Calibration) -> None:
    from calibration import verdict

    for fit in result.fits:
        left_out = f", {fit.rejected} left out" if fit.rejected else ""
        output.print(f"{fit.section}: {verdict(fit)} ({fit.samples} readings{left_out})", markup=False)
        table = Table(box=None, pad_edge=False, show_header=False)
        for heading in ("parameter", "value", "interval", "unit"):
            table.add_column(heading, justify="right" if heading == "value" else "left", no_wrap=True)
        for p in fit.parameters:
            table.add_row(f"  {p.name}", f"{p.value:.4g}", f"{p.low:.4g} to {p.high:.4g}", p.unit)
        output.print(table)
        for text in fit.notes:
            output.print(f"  {escape(text)}")
    if result.missing:
        output.print("not identified by these data, and what to measure next:")
        for section, text in result.missing.items():
            output.print(f"  {section}: {escape(text)}")


def _as_dict(result: Calibration, out: Path, page: Path) -> dict[str, object]:
    from calibration import verdict

    return {
        "card": str(out),
        "page": str(page),
        "passed": result.passed,
        "effects": {
            fit.section: {
                "verdict": verdict(fit),
                "readings": fit.samples,
                "left_out": fit.rejected,
                "parameters": {
                    p.name: {"value": p.value, "low": p.low, "high": p.high, "unit": p.unit}
                    for p in fit.parameters
                },
                "coverage": {f"{p:g}": seen for p, seen in fit.coverage().items()},
                "coverage_is_held_out": fit.held_out,
                "held_out_log_likelihood": dict(fit.likelihood),
                "notes": list(fit.notes),
            }
            for fit in result.fits
        },
        "not_identified": result.missing,
    }
