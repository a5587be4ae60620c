"""The page of a calibration: data against model, held-out coverage, verdicts, and what is not known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter

from calibration import Calibration, Fit, card_text, verdict
from device_models.files import write_atomically
from hwloop.report.environment import page_environment
from hwloop.report.style import (
    BLUE,
    GREY,
    MUTED,
    ORANGE,
    drawing,
    new_figure,
    quiet,
    to_svg,
)

DOTS = 4000  # of a figure; more only make the page large


def write_calibration_page(calibration: Calibration, path: Path) -> None:
    """Write the page, atomically."""
    write_atomically(path, render_calibration(calibration).encode())


def render_calibration(calibration: Calibration) -> str:
    """Return the page as HTML."""
    environment = page_environment()
    drawn = {fit.section: fit_figure(fit) for fit in calibration.fits if fit.curve is not None}
    return environment.get_template("calibration.html").render(
        c=calibration,
        verdicts={fit.section: verdict(fit) for fit in calibration.fits},
        # The figures are made here, from numbers and escaped names; everything else is escaped by the page.
        figures={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704
        text=card_text(calibration.card),
    )


def fit_figure(fit: Fit) -> str:
    """Data against model, held-out residuals, and coverage of predicted intervals."""
    curve = fit.curve
    if curve is None:
        raise ValueError(f"{fit.section}: this fit has no curve to draw")
    coverage = fit.coverage()
    with drawing():
        figure = new_figure(10.75, 3.6)
        left, middle, right = figure.subplots(1, 3, width_ratios=(2, 1, 1))
        x_scale, y_scale = _scale(curve.x_name), _scale(curve.y_name)
        shown = np.random.default_rng(0).permutation(len(curve.x))[:DOTS]
        left.scatter(
            x_scale * curve.x[shown],
            y_scale * curve.y[shown],
            s=5,
            color=GREY,
            alpha=0.35,
            linewidths=0,
            rasterized=True,
        )
        model_x = x_scale * curve.model_x
        left.fill_between(
            model_x, y_scale * curve.low, y_scale * curve.high, color=BLUE, alpha=0.18, linewidth=0
        )
        left.plot(model_x, y_scale * curve.middle, color=BLUE)
        if "power" in curve.y_name:
            left.set_yscale("log")
            left.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0e}"))
        else:
            reach = np.quantile(curve.y, [0.005, 0.995])
            low, high = min(reach[0], float(curve.low.min())), max(reach[1], float(curve.high.max()))
            margin = 0.05 * (high - low)
            left.set_ylim(y_scale * (low - margin), y_scale * (high + margin))
        if curve.x.min() > 0 and curve.x.max() > 100 * curve.x.min():
            left.set_xscale("log")
            left.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        left.set_xlabel(_micro(curve.x_name))
        left.set_ylabel(_micro(curve.y_name))
        left.set_title("Data and model")
        middle.set_title("Held-out residuals" if fit.held_out else "Residuals")
        middle.set_xlabel("predicted standard deviations")
        if fit.scores is not None:
            edges = np.linspace(-5, 5, 41)
            middle.hist(fit.scores.clip(-5, 5), edges, density=True, color=GREY, alpha=0.6)
            grid = np.linspace(-5, 5, 201)
            middle.plot(grid, np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi), color=BLUE)
        right.plot([0, 100], [0, 100], color=MUTED, linewidth=0.8)
        if coverage:
            nominal = [100 * p for p in coverage]
            right.plot(nominal, [100 * p for p in coverage.values()], "o", color=ORANGE)
        right.set_xlabel("nominal (%)")
        right.set_ylabel("observed (%)")
        right.set_title("Coverage" if coverage else "Coverage: not checked")
        for axes in (left, middle, right):
            quiet(axes)
        told = ", ".join(f"{100 * p:.0f} %: {100 * seen:.1f} %" for p, seen in coverage.items())
        return to_svg(
            figure, fit.section, f"{fit.section}: data against model; coverage {told or 'not checked'}."
        )


def _scale(name: str) -> float:
    """Conductances are shown in microsiemens."""
    return 1e6 if name.endswith("(S)") else 1.0


def _micro(name: str) -> str:
    return name.replace("(S)", "(µS)") if name.endswith("(S)") else name
