"""A fitted I-V curve gives the same current in ngspice, in the card and in the circuit solver."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.iv import fit_iv
from calibration.synthetic import MAKERS
from device_models import load_card
from device_models.effects import PolynomialCurve, SinhCurve


def curves() -> dict[str, SinhCurve | PolynomialCurve]:
    fitted = fit_iv(MAKERS["I-V"](1, False)[0]).effect
    assert isinstance(fitted, SinhCurve)
    published = load_card("rram-milo").iv
    assert published is not None
    return {"fitted": fitted, "published": published}


def ngspice_currents(expression: str, volts: np.ndarray, folder: Path) -> np.ndarray:
    step = float(volts[1] - volts[0])
    out = folder / "i.txt"
    lines = ["a curve", "V1 a 0 0", f"B1 a 0 I={expression}", ".options reltol=1e-9 abstol=1e-18 gmin=1e-20"]
    lines += [".control", "set numdgt=15", f"dc V1 {volts[0]} {volts[-1] + step / 2} {step}"]
    lines += [f"wrdata {out} i(V1)", ".endc", ".end", ""]
    (folder / "c.cir").write_text("\n".join(lines))
    subprocess.run(["ngspice", "-b", str(folder / "c.cir")], capture_output=True, check=False, timeout=60)
    return -np.loadtxt(out)[:, 1]


@pytest.mark.ngspice
@pytest.mark.skipif(shutil.which("ngspice") is None, reason="no ngspice command (apt-get install ngspice)")
@pytest.mark.parametrize("name", ["fitted", "published"])
def test_ngspice_draws_the_current_of_the_card(name: str, tmp_path: Path) -> None:
    curve = curves()[name]
    assert curve.valid is not None
    volts = np.linspace(-0.5, 0.5, 21)
    for g in np.geomspace(*curve.valid.value, 3):
        current = curve.current(np.array(g), volts)
        measured = ngspice_currents(curve.spice(float(g), "v(a)"), volts, tmp_path)
        assert np.abs(measured - current).max() < 1e-6 * np.abs(current).max()


@pytest.mark.parametrize("name", ["fitted", "published"])
def test_the_circuit_solver_draws_the_current_of_the_card(name: str) -> None:
    curve = curves()[name]
    assert curve.valid is not None
    g = np.geomspace(*curve.valid.value, 6).reshape(2, 3)
    cells = curve.cells(torch.from_numpy(g))
    for v in (-0.5, 0.1, 0.5):
        solved = cells.current(torch.tensor(v, dtype=torch.float64)).numpy()
        assert solved == pytest.approx(curve.current(g, np.array(v)), rel=1e-12)
