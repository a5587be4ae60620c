"""A matrix on arrays: products, the transpose by reciprocity, and equations solved with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hwloop

WIDE = hwloop.HardwareConfig(rows=16, cols=24, wire=20.0, driver=300.0, sense=70.0, dac_bits=12)


def matrix(m: int = 20, n: int = 30) -> torch.Tensor:
    w = torch.randn(m, n, generator=torch.Generator().manual_seed(2))
    return w * (w.abs() > 0.3)


def silent(hardware: hwloop.HardwareConfig, tmp_path) -> hwloop.HardwareConfig:
    """The same on a card without read noise."""
    from device_models import load_card
    from device_models.toml import to_toml

    card = load_card(hardware.card)
    quiet = card.model_copy(update={"read_noise": card.read_noise.model_copy(update={"value": 0.0})})
    (tmp_path / "quiet.toml").write_text(to_toml(quiet.model_dump(mode="json", exclude_none=True)))
    return hardware.model_copy(update={"card": str(tmp_path / "quiet.toml")})


def test_products_are_those_of_the_matrix_but_for_the_arrays() -> None:
    w = matrix()
    on = hwloop.MatrixOnArrays(
        w, hwloop.HardwareConfig(rows=16, cols=16, wire=0.0, driver=0.0, sense=0.0)
    ).program(0)
    assert on.shape == (20, 30)
    assert torch.equal(on.matrix != 0, w != 0)
    some = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    for x in (some[:, 0], 1e6 * some, torch.zeros(30)):
        found, wanted = on @ x, w @ x
        assert found.shape == wanted.shape
        assert float((found - wanted).norm()) <= 0.25 * float(wanted.norm())


def test_the_transpose_is_what_the_same_cells_read_backwards(tmp_path) -> None:
    on = hwloop.MatrixOnArrays(matrix(), silent(WIDE, tmp_path)).program(1)
    forward, backward = on @ torch.eye(30), on.T @ torch.eye(20)
    assert float((forward - on.matrix).norm()) > 0.02 * float(forward.norm())  # wires and devices are seen,
    assert float((forward - backward.T).norm()) < 5e-3 * float(forward.norm())  # and from both sides alike
    assert on.T.T is on
    assert on.T.shape == (30, 20)


def test_rows_from_the_left_and_arrays_of_numpy(tmp_path) -> None:
    on = hwloop.MatrixOnArrays(matrix().numpy(), silent(WIDE, tmp_path)).program(1)
    y = np.random.default_rng(1).normal(size=(3, 20))
    left = y @ on
    assert isinstance(left, np.ndarray)
    assert left.dtype == y.dtype
    np.testing.assert_allclose(left, (on.T @ y.T).T)
    assert torch.equal(torch.from_numpy(y) @ on, torch.from_numpy(y @ on))
    assert (torch.ones(20) @ on).shape == (30,)
    np.testing.assert_allclose(y @ matrix().numpy(), left, atol=0.3 * np.abs(left).max())


def test_an_equation_is_solved_by_imprecise_products_and_exact_residuals() -> None:
    # Le Gallo et al., Nature Electronics 1 (2018): arrays correct, and digital logic sees what is left.
    a = torch.eye(12) + 0.1 * torch.rand(12, 12, generator=torch.Generator().manual_seed(4))
    b = torch.ones(12)
    on = hwloop.MatrixOnArrays(a, hwloop.HardwareConfig(rows=16, cols=16, wire=0.5)).program(0)
    x = torch.zeros(12)
    for _ in range(6):
        residual, correction = b - a @ x, torch.zeros(12)
        for _ in range(8):
            correction = correction + 0.8 * (residual - on @ correction)
        x = x + correction
    assert float((a @ x - b).norm()) < 1e-3 * float(b.norm())


def test_bad_matrices_and_vectors_are_one_line() -> None:
    on = hwloop.MatrixOnArrays(matrix(), WIDE)
    with pytest.raises(RuntimeError, match=r"program\(chip\)"):
        _ = on @ torch.ones(30)
    with pytest.raises(ValueError, match="a matrix of 20x30 is multiplied with"):
        _ = on.program(0) @ torch.ones(20)
    for bad in (torch.ones(3), torch.tensor([[float("nan")]]), torch.ones(0, 3)):
        with pytest.raises(ValueError, match="needed is a matrix"):
            hwloop.MatrixOnArrays(bad)
    offset = hwloop.MatrixOnArrays(matrix(), hwloop.HardwareConfig(encoding="offset")).program(0)
    with pytest.raises(ValueError, match="differential"):
        _ = offset.T @ torch.ones(20)
