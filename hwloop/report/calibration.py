"""The page of a calibration: data against model, held-out coverage, verdicts, and what is not known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from calibration import Calibration, Fit, card_text, verdict
from hwloop.files import write_atomically
from hwloop.report.style import BLUE, GREY, MUTED, ORANGE, drawing, new_figure, quiet, to_svg

DOTS = 4000  # of a figure; more only make the page large


def write_calibration_page(calibration: Calibration, path: Path) -> None:
    """Write the page, atomically."""
    write_atomically(path, render_calibration(calibration).encode())


def render_calibration(calibration: Calibration) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=PackageLoader("hwloop.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = {fit.section: fit_figure(fit) for fit in calibration.fits if fit.curve is not None}
    return environment.get_template("calibration.html").render(
        c=calibration,
        verdicts={fit.section: verdict(fit) for fit in calibration.fits},
        # The figures are made here, from numbers and escaped names; everything else is escaped by the page.
        figures={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704
        text=card_text(calibration.card),
    )


def fit_figure(fit: Fit) -> str:
    """Data against model on the left; coverage of predicted intervals on the right."""
    curve = fit.curve
    if curve is None:
        raise ValueError(f"{fit.section}: this fit has no curve to draw")
    coverage = fit.coverage()
    with drawing():
        figure = new_figure(10.75, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        shown = np.random.default_rng(0).permutation(len(curve.x))[:DOTS]
        left.scatter(
            curve.x[shown], curve.y[shown], s=5, color=GREY, alpha=0.35, linewidths=0, rasterized=True
        )
        left.fill_between(curve.model_x, curve.low, curve.high, color=BLUE, alpha=0.18, linewidth=0)
        left.plot(curve.model_x, curve.middle, color=BLUE)
        reach = np.quantile(curve.y, [0.005, 0.995])
        margin = 0.15 * float(np.ptp(reach))
        left.set_ylim(
            min(reach[0], float(curve.low.min())) - margin, max(reach[1], float(curve.high.max())) + margin
        )
        left.set_xlabel(curve.x_name)
        left.set_ylabel(curve.y_name)
        if curve.x.min() > 0 and curve.x.max() > 100 * curve.x.min():
            left.set_xscale("log")
        right.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8)
        if coverage:
            nominal = [100 * p for p in coverage]
            right.plot(nominal, [100 * p for p in coverage.values()], "o", color=ORANGE)
        right.set_xlabel("nominal (%)")
        right.set_ylabel("observed (%)")
        right.set_title("Coverage" if coverage else "Coverage: not checked")
        for axes in (left, right):
            quiet(axes)
        told = ", ".join(f"{100 * p:.0f} %: {100 * seen:.1f} %" for p, seen in coverage.items())
        return to_svg(
            figure, fit.section, f"{fit.section}: data against model; coverage {told or 'not checked'}."
        )
