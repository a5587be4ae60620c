"""The current-voltage laws: physics of each, agreement with independent formulas, and refusals."""

import numpy as np
import pytest
import torch
from scipy.interpolate import PchipInterpolator

from device_models.crossbar import Ohmic, Polynomial, SeriesAccess, Sinh, Table, Transistor
from tests.circuits.nonlinear_reference import transistor


def grid(*values):
    """A [1, n] row of cells."""
    return torch.tensor([values], dtype=torch.float64)


G = grid(2e-6, 4e-5, 1e-4)
POINTS = torch.tensor([-0.8, -0.5, -0.1, 0.0, 0.2, 0.6, 1.0], dtype=torch.float64)
TABLE = (G[..., None] * torch.tensor([-1.6, -0.7, -0.1, 0.0, 0.22, 0.9, 2.4])).to(torch.float64)

LAWS = {
    "ohmic": Ohmic(G),
    "sinh": Sinh(G, 3.0),
    "polynomial": Polynomial([G, -0.3 * G, 0.5 * G], v_max=0.9),
    "table": Table(POINTS, TABLE),
    "transistor": Transistor(G, 0.4, 0.1),
    "series resistance": SeriesAccess(Sinh(G, 3.0), Ohmic(grid(1e-4, 1e-3, 1e-5))),
    "1t1r": SeriesAccess(Sinh(G, 3.0), Transistor(grid(3e-4, 3e-4, 3e-5), 0.5, 0.05)),
}


@pytest.fixture(params=LAWS)
def law(request):
    return LAWS[request.param]


def sweep(n=41, span=0.75):
    return torch.linspace(-span, span, n, dtype=torch.float64)[:, None, None]


def test_no_voltage_no_current(law):
    assert (law.current(torch.zeros(1, 3, dtype=torch.float64)) == 0).all()


def test_current_rises_with_voltage(law):
    assert (law.current(sweep()).diff(dim=0) > 0).all()
    assert (law.conductance(sweep()) > 0).all()


@pytest.mark.parametrize("name", ["series resistance", "1t1r"])
def test_behind_an_access_device_a_voltage_that_is_not_finite_spoils_only_its_own_cell(name):
    v = torch.tensor([[0.3, float("inf"), 0.3]], dtype=torch.float64)
    current = LAWS[name].current(v)
    assert current[0, 1].isnan()
    torch.testing.assert_close(current[0, ::2], LAWS[name].current(torch.full_like(v, 0.3))[0, ::2])


def test_conductance_is_the_slope_of_the_current(law):
    v, h = sweep(40), 1e-6
    slope = (law.current(v + h) - law.current(v - h)) / (2 * h)
    torch.testing.assert_close(law.conductance(v), slope, rtol=2e-6, atol=0)


def test_current_is_differentiable_in_voltage_and_parameters(law):
    leaves = [p.clone().requires_grad_() for p in law.parameters]
    v = sweep(5, 0.55).expand(-1, 1, 3).clone().requires_grad_()
    scale = 1e5  # so that the steps of gradcheck are small against every parameter and large against rounding

    def current(v, *scaled):
        return law.replace(p / scale for p in scaled).current(v) * scale

    assert torch.autograd.gradcheck(
        current, (v, *((p * scale).detach().requires_grad_() for p in leaves)), eps=1e-6, atol=1e-4, rtol=1e-4
    )


def test_parameters_broadcast_over_arrays_and_inputs(law):
    v = torch.rand(2, 5, 1, 3, dtype=torch.float64) * 0.5
    batched = law.map(lambda p: p.expand(2, 1, *p.shape[-2:])).current(v)
    torch.testing.assert_close(batched, law.current(v), rtol=1e-14, atol=0)
    assert batched.shape == (2, 5, 1, 3)


@pytest.mark.parametrize(
    "absent",
    [
        Ohmic(grid(0.0)),
        Sinh(grid(0.0), 3.0),
        Polynomial([grid(0.0), grid(0.0)], 1.0),
        Table(POINTS, torch.zeros(1, 1, 7, dtype=torch.float64)),
        SeriesAccess(Sinh(grid(0.0), 3.0), Transistor(grid(1e-4), 0.5)),
        SeriesAccess(Sinh(grid(1e-4), 3.0), Transistor(grid(0.0), 0.5)),
        SeriesAccess(Ohmic(grid(0.0)), Ohmic(grid(0.0))),
    ],
)
def test_absent_cells_conduct_nothing(absent):
    assert (absent.current(sweep()) == 0).all()
    assert (absent.conductance(sweep()) == 0).all()


def test_sinh_tends_to_ohms_law():
    v = sweep()
    torch.testing.assert_close(Sinh(G, 1e-5).current(v), Ohmic(G).current(v), rtol=1e-9, atol=0)


def test_polynomial_is_its_formula():
    v = sweep(11)
    want = G * v - 0.3 * G * v**2 + 0.5 * G * v**3
    torch.testing.assert_close(LAWS["polynomial"].current(v), want, rtol=1e-13, atol=1e-20)


def test_table_is_the_monotone_cubic_of_scipy_and_passes_through_its_points():
    v = torch.linspace(-0.8, 1.0, 301, dtype=torch.float64)
    current = LAWS["table"].current(v[:, None, None])
    slope = LAWS["table"].conductance(v[:, None, None])
    for k in range(3):
        curve = PchipInterpolator(POINTS.numpy(), TABLE[0, k].numpy())
        np.testing.assert_allclose(current[:, 0, k], curve(v.numpy()), rtol=1e-12, atol=1e-19)
        np.testing.assert_allclose(slope[:, 0, k], curve.derivative()(v.numpy()), rtol=1e-10, atol=1e-17)
    torch.testing.assert_close(
        LAWS["table"].current(POINTS[:, None, None]), TABLE.permute(2, 0, 1), rtol=1e-13, atol=1e-20
    )


def test_table_of_two_points_is_a_straight_line():
    two = Table(torch.tensor([0.0, 1.0], dtype=torch.float64), grid(0.0, 1e-4)[None])
    torch.testing.assert_close(two.current(grid(0.25)), grid(2.5e-5))


def test_beyond_its_range_a_law_raises_unless_extrapolation_is_asked():
    v = torch.full((4, 1, 3), 0.3, dtype=torch.float64)
    v[2, 0, 1] = 1.2
    with pytest.raises(ValueError, match=r"cell \(0, 1\) of array \[2\] is 1.2 V, outside the table"):
        LAWS["table"].current(v)
    with pytest.raises(ValueError, match=r"cell \(0, 1\).*outside the polynomial"):
        LAWS["polynomial"].current(v)
    tangent = Table(POINTS, TABLE, extrapolate=True)
    edge, beyond = torch.full((1, 3), 1.0, dtype=torch.float64), torch.full((1, 3), 1.5, dtype=torch.float64)
    line = tangent.current(edge) + 0.5 * tangent.conductance(edge)
    torch.testing.assert_close(tangent.current(beyond), line)


def test_range_of_a_cell_in_series_is_that_of_its_own_voltage():
    stiff = SeriesAccess(Table(POINTS, TABLE), Ohmic(grid(1e-9, 1e-9, 1e-9)))
    stiff.current(torch.full((1, 3), 5.0, dtype=torch.float64))  # nearly all of it across the resistance
    with pytest.raises(ValueError, match="outside the table"):
        LAWS["table"].current(torch.full((1, 3), 5.0, dtype=torch.float64))


def test_transistor_is_the_square_law_in_all_three_regions():
    law = Transistor(grid(1e-4), 0.4, 0.1)
    for v in (-0.5, -0.1, 0.0, 0.3, 0.4, 0.9):
        current, slope = transistor(1e-4, 0.4, 0.1)(v)
        assert law.current(grid(v)).item() == pytest.approx(current, rel=1e-13)
        assert law.conductance(grid(v)).item() == pytest.approx(slope, rel=1e-13)


def test_resistances_in_series_add():
    a, b = grid(1e-4, 1e-6, 3e-5), grid(1e-6, 1e-2, 1e-12)
    law = SeriesAccess(Ohmic(a), Ohmic(b))
    v = sweep(5)
    torch.testing.assert_close(law.current(v), v * (1 / (1 / a + 1 / b)), rtol=1e-12, atol=0)
    torch.testing.assert_close(law.conductance(v)[0], 1 / (1 / a + 1 / b), rtol=1e-12, atol=0)


@pytest.mark.parametrize("g_access", [1e-12, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("alpha", [0.1, 3.0, 40.0])
def test_series_node_satisfies_both_laws(g_access, alpha):
    """The drop that the current causes across the access device, and what is left across the cell."""
    law = SeriesAccess(Sinh(G, alpha), Ohmic(torch.full_like(G, g_access)))
    v = sweep(7)
    current = law.current(v)
    drop = current / g_access
    over_cell = torch.asinh(alpha * current / G) / alpha
    torch.testing.assert_close(drop + over_cell, v.expand_as(drop), rtol=1e-12, atol=1e-15)


def test_saturated_access_transistor_limits_the_current():
    limit = 1e-6 * 0.5**2 / 2
    law = SeriesAccess(Ohmic(grid(1e-3)), Transistor(grid(1e-6), 0.5))
    assert law.current(grid(2.0)).item() == pytest.approx(limit, rel=1e-12)
    assert law.current(grid(-2.0)).item() < -10 * limit


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ohmic(grid(1e-6, -1e-6)), r"conductance at cell \(0, 1\) is -1e-06"),
        (lambda: Ohmic(grid(float("nan"))), r"conductance at cell \(0, 0\) is nan"),
        (lambda: Sinh(G, 0.0), "alpha is 0"),
        (lambda: Sinh(G, -1.0), "alpha is -1"),
        (lambda: Sinh(G, grid(1.0, 2.0, float("inf"))), r"alpha at cell \(0, 2\) is inf"),
        (
            lambda: Polynomial([G, G, grid(0.0, 0.0, 0.0)], 0.6),
            r"slope dI/dv at cell \(0, 0\).*not at -0.6 V",
        ),
        (lambda: Polynomial([G, -1.0 * G], 0.6), r"slope dI/dv at cell \(0, 0\)"),
        (lambda: Polynomial([], 0.6), "at least the coefficient"),
        (lambda: Polynomial([G], 0.0), "v_max is 0.0"),
        (lambda: Table(POINTS, -TABLE), r"rise of the current from -0.8 to -0.5 V at cell \(0, 0\)"),
        (lambda: Table(POINTS, TABLE + 1e-9), r"current at 0 V at cell \(0, 0\) is 1e-09"),
        (lambda: Table(POINTS[4:], TABLE[..., 4:]), "one of them 0 V"),
        (lambda: Table(POINTS, TABLE[..., 1:]), r"needs \[..., rows, cols, 7\]"),
        (lambda: Transistor(G, 0.0), "overdrive is 0"),
        (lambda: Transistor(-G, 0.5), r"gain at cell \(0, 0\)"),
        (lambda: Transistor(G, 0.5, -0.1), "channel_length_modulation is -0.1"),
    ],
)
def test_unphysical_parameters_are_refused_naming_the_cell(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_single_precision_is_refused():
    with pytest.raises(TypeError, match="float64"):
        Ohmic(torch.ones(2, 2, dtype=torch.float32))
