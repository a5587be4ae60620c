"""Arrays of non-linear cells: agreement with independent solutions, physics, gradients, and refusals."""

import subprocess

import numpy as np
import pytest
import torch

from device_models.crossbar import (
    ConvergenceError,
    Ohmic,
    Polynomial,
    SeriesAccess,
    Sinh,
    Table,
    Transistor,
    Wires,
    effective_conductance,
    solve_array,
)
from tests.circuits import nonlinear_reference as reference

INF = float("inf")
WIRES = {
    "low": {"word_line": 1e-3, "bit_line": 2e-3},
    "lopsided": {"word_line": 40.0, "bit_line": 3.0, "driver": 700.0, "sense": 50.0},
    "high": {"word_line": 1e3, "bit_line": 1e3},
    "above 1/g": {"word_line": 3e4, "bit_line": 1e5, "driver": 1e4},
    "ideal lines": {"word_line": 0.0, "bit_line": 0.0, "driver": 300.0, "sense": 200.0},
    "ideal word lines": {"word_line": 0.0, "bit_line": 28.0, "sense": 10.0},
}


def random(*shape, seed=0, low=0.0, high=1.0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, high, shape))


def conductances(*shape, seed=0):
    """On/off 100, a tenth of the cells absent."""
    g = 1e-6 * 10 ** random(*shape, seed=seed, high=2.0)
    return torch.where(random(*shape, seed=seed + 1) < 0.1, 0.0, g)


def sinh_case(rows, cols, alpha=3.0, seed=0):
    g = conductances(rows, cols, seed=seed)
    laws = [[reference.sinh(x, alpha) if x else None for x in row] for row in g.tolist()]
    return Sinh(g, alpha), laws


def compare(cells, laws, voltages, figures, senses=None, rtol=1e-8):
    solution = solve_array(cells, Wires(**figures), voltages, bit_line_voltages=senses)
    for k in range(len(voltages)):
        ends = 0.0 if senses is None else senses[k].numpy()
        currents, word, bit = reference.solve_crossbar(laws, voltages[k].numpy(), senses=ends, **figures)
        largest = np.abs(currents).max()
        np.testing.assert_allclose(solution.currents[k], currents, rtol=rtol, atol=rtol * largest)
        np.testing.assert_allclose(solution.word_line[k], word, rtol=0, atol=1e-8)
        np.testing.assert_allclose(solution.bit_line[k], bit, rtol=0, atol=1e-8)
    return solution


@pytest.mark.parametrize("shape", [(5, 4), (4, 7), (1, 1), (1, 6), (6, 1)])
@pytest.mark.parametrize("figures", WIRES.values(), ids=WIRES)
def test_sinh_cells_agree_with_nodal_analysis(figures, shape):
    cells, laws = sinh_case(*shape, seed=3)
    compare(cells, laws, random(3, shape[0], seed=2, low=-1.0), figures)


def test_bit_lines_driven_from_their_senses_agree_with_nodal_analysis():
    cells, laws = sinh_case(5, 4)
    compare(cells, laws, random(2, 5, seed=2), WIRES["lopsided"], senses=random(2, 4, seed=4, low=-0.5))


def test_transistor_and_cell_agree_with_a_node_of_their_own():
    g = conductances(4, 5)
    gain = random(4, 5, seed=6, low=1e-5, high=1e-4)
    laws = [
        [
            (reference.sinh(x, 2.0), reference.transistor(k, 0.4, 0.05)) if x else None
            for x, k in zip(*rows, strict=True)
        ]
        for rows in zip(g.tolist(), gain.tolist(), strict=True)
    ]
    cells = SeriesAccess(Sinh(g, 2.0), Transistor(gain, 0.4, 0.05))
    compare(cells, laws, random(3, 4, seed=2, low=-0.8, high=1.2), WIRES["lopsided"])


def test_cells_that_conduct_differently_backwards_agree_with_nodal_analysis():
    g = conductances(4, 3) + 1e-7

    def law(g):
        return lambda v: (g * (v - 0.4 * v**2 + 0.3 * v**3), g * (1 - 0.8 * v + 0.9 * v**2))

    laws = [[law(x) for x in row] for row in g.tolist()]
    compare(Polynomial([g, -0.4 * g, 0.3 * g], 1.5), laws, random(3, 4, low=-1.0), WIRES["lopsided"])


def test_array_is_lopsided_the_documented_way():
    """One cell: its current passes driver, word line left of it, bit line below it, and sense."""
    g = torch.zeros(3, 4, dtype=torch.float64)
    g[0, 2] = 1e-4
    figures = Wires(word_line=100.0, bit_line=10.0, driver=1000.0, sense=5.0)
    voltages = torch.tensor([[0.5, 0.0, 0.0]], dtype=torch.float64)
    solution = solve_array(Ohmic(g), figures, voltages)
    current = 0.5 / (1e4 + 1000 + 3 * 100 + 3 * 10 + 5)
    torch.testing.assert_close(solution.currents, torch.tensor([[0, 0, current, 0]], dtype=torch.float64))
    assert solution.word_line[0, 0, 2].item() == pytest.approx(0.5 - 1300 * current)
    assert solution.bit_line[0, 2, 2].item() == pytest.approx(15 * current)


@pytest.mark.parametrize("figures", WIRES.values(), ids=WIRES)
def test_straight_cells_give_the_effective_conductance(figures):
    g = conductances(3, 9, 6)
    voltages = random(3, 4, 9, low=-0.3)
    want = voltages @ effective_conductance(g, Wires(**figures))
    got = solve_array(Ohmic(g), Wires(**figures), voltages).currents
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9 * want.abs().max().item())


def test_without_wires_every_cell_sees_the_whole_voltage():
    cells, _ = sinh_case(5, 4)
    voltages = random(3, 5)
    solution = solve_array(cells, Wires(0.0, 0.0), voltages)
    want = cells.map(lambda p: p[None]).current(voltages[:, :, None]).sum(1)
    torch.testing.assert_close(solution.currents, want, rtol=1e-14, atol=0)
    assert (solution.word_line == voltages[:, :, None]).all()
    assert (solution.bit_line == 0).all()


@pytest.mark.parametrize("law", ["sinh", "table", "1t1r"])
def test_kirchhoffs_current_law_holds_at_every_node(law):
    """With the currents of the segments taken from the returned node voltages alone."""
    g = conductances(16, 12)
    points = torch.arange(-10, 11, dtype=torch.float64) / 10
    cells = {
        "sinh": Sinh(g, 3.0),
        "table": Table(points, g[..., None] * torch.sinh(3 * points) / 3),
        "1t1r": SeriesAccess(Sinh(g, 3.0), Transistor(torch.full_like(g, 1e-4), 0.5)),
    }[law]
    voltages = random(5, 16)
    r_word, r_bit = 20.0, 30.0
    solution = solve_array(cells, Wires(r_word, r_bit), voltages)
    word, bit = solution.word_line, solution.bit_line
    current = cells.map(lambda p: p[None]).current(word - bit)
    into = torch.cat([voltages[:, :, None], word], 2).diff(dim=2) / -r_word
    onward = torch.cat([into[:, :, 1:], torch.zeros_like(into[:, :, :1])], 2)
    down = torch.cat([bit, torch.zeros_like(bit[:, :1])], 1).diff(dim=1) / -r_bit
    above = torch.cat([torch.zeros_like(down[:, :1]), down[:, :-1]], 1)
    largest = current.abs().amax((1, 2))
    assert ((into - onward - current).abs().amax((1, 2)) <= 2e-9 * largest).all()
    assert ((above + current - down).abs().amax((1, 2)) <= 2e-9 * largest).all()
    torch.testing.assert_close(down[:, -1], solution.currents, rtol=1e-9, atol=0)
    assert (solution.residual <= 1e-9).all()


def test_power_of_the_sources_is_what_cells_and_wires_dissipate():
    cells, _ = sinh_case(9, 7)
    voltages = random(4, 9, low=-1.0)
    r_word, r_bit = 15.0, 25.0
    solution = solve_array(cells, Wires(r_word, r_bit), voltages)
    drop = solution.word_line - solution.bit_line
    current = cells.map(lambda p: p[None]).current(drop)
    in_word = current.flip(2).cumsum(2).flip(2)
    supplied = (voltages * in_word[:, :, 0]).sum(1)
    heat = r_word * in_word.square().sum((1, 2)) + r_bit * current.cumsum(1).square().sum((1, 2))
    in_cells = (current * drop).sum((1, 2))
    assert (current * drop >= 0).all()  # no cell delivers power
    torch.testing.assert_close(supplied, in_cells + heat, rtol=1e-9, atol=0)


def test_reversed_voltages_reverse_the_currents_of_odd_cells():
    cells, _ = sinh_case(6, 5)
    voltages = random(3, 6)
    forward = solve_array(cells, Wires(20.0, 20.0), voltages, tolerance=1e-12).currents
    backward = solve_array(cells, Wires(20.0, 20.0), -voltages, tolerance=1e-12).currents
    torch.testing.assert_close(backward, -forward, rtol=1e-10, atol=0)


def test_batches_tiles_and_single_inputs_give_the_same_currents():
    g, voltages = conductances(2, 3, 6, 5), random(2, 3, 7, 6)
    together = solve_array(Sinh(g, 3.0), Wires(20.0, 5.0), voltages, tolerance=1e-12).currents
    for a in range(2):
        for b in range(3):
            alone = [
                solve_array(Sinh(g[a, b], 3.0), Wires(20.0, 5.0), v[None], tolerance=1e-12).currents[0]
                for v in voltages[a, b]
            ]
            torch.testing.assert_close(together[a, b], torch.stack(alone), rtol=1e-10, atol=0)


def test_work_is_cut_into_parts_without_a_trace(monkeypatch):
    g, voltages = conductances(5, 6, 4), random(5, 9, 6)
    g.requires_grad_()
    whole = solve_array(Sinh(g, 3.0), Wires(20.0, 5.0), voltages, tolerance=1e-12)
    (grad,) = torch.autograd.grad(whole.currents.square().sum(), g)
    monkeypatch.setattr("device_models.crossbar.nonlinear._PART_NUMBERS", 24 * 24 * 4)
    parts = solve_array(Sinh(g, 3.0), Wires(20.0, 5.0), voltages, tolerance=1e-12)
    (grad_parts,) = torch.autograd.grad(parts.currents.square().sum(), g)
    torch.testing.assert_close(parts.currents, whole.currents, rtol=1e-10, atol=0)
    torch.testing.assert_close(grad_parts, grad, rtol=1e-8, atol=0)


def test_one_set_of_cells_and_wires_serves_many_tiles():
    cells, _ = sinh_case(6, 5)
    voltages = random(3, 2, 6)
    each = [solve_array(cells, Wires(20.0, 5.0), v, tolerance=1e-12).currents for v in voltages]
    expanded = cells.map(lambda p: p.expand(3, *p.shape[-2:]))
    together = solve_array(expanded, Wires(20.0, 5.0), voltages[:, :, :], tolerance=1e-12).currents
    torch.testing.assert_close(together, torch.stack(each), rtol=1e-10, atol=0)
    shared = solve_array(expanded, Wires(20.0, 5.0), voltages[0], tolerance=1e-12).currents
    torch.testing.assert_close(shared, each[0].expand(3, -1, -1), rtol=1e-10, atol=0)


@pytest.mark.parametrize("alpha", [10.0, 20.0, 30.0])
def test_strongly_curved_cells_converge(alpha):
    cells, laws = sinh_case(6, 8, alpha=alpha)
    solution = compare(cells, laws, random(4, 6, low=-1.0), WIRES["lopsided"], rtol=1e-7)
    assert solution.converged.all()


def test_open_segments_cut_their_line_off():
    cells, laws = sinh_case(4, 5)
    word_line = torch.full((4, 5), 20.0, dtype=torch.float64)
    bit_line = torch.full((4, 5), 30.0, dtype=torch.float64)
    word_line[1, 3] = bit_line[2, 2] = INF
    figures = {"word_line": word_line, "bit_line": bit_line}
    compare(cells, laws, random(3, 4), figures)


def test_floating_lines_carry_no_current_and_find_their_voltage():
    g = conductances(5, 5, seed=7) + 1e-7
    laws = [[reference.sinh(x, 3.0) for x in row] for row in g.tolist()]
    driver = torch.tensor([50.0, INF, 50.0, INF, INF], dtype=torch.float64)
    sense = torch.tensor([INF, 20.0, INF, INF, 20.0], dtype=torch.float64)
    figures = {"word_line": 20.0, "bit_line": 30.0, "driver": driver, "sense": sense}
    solution = compare(Sinh(g, 3.0), laws, random(2, 5), figures, senses=random(2, 5, seed=5))
    assert (solution.currents[:, torch.isinf(sense)].abs() < 1e-15).all()


def test_array_that_floats_altogether_carries_nothing():
    cells, _ = sinh_case(5, 4)
    solution = solve_array(cells, Wires(10.0, 10.0, driver=INF), random(2, 5))
    assert solution.converged.all()
    assert (solution.currents.abs() < 1e-16).all()


def test_no_input_gives_no_current():
    cells, _ = sinh_case(5, 4)
    solution = solve_array(cells, Wires(10.0, 10.0), torch.zeros(2, 5, dtype=torch.float64))
    assert (solution.currents == 0).all()
    assert solution.converged.all()


POINTS = torch.arange(-4, 5, dtype=torch.float64)
LAWS = {
    "sinh": lambda g, a: Sinh(g, a),
    "polynomial": lambda g, a: Polynomial([g, -0.05 * a * g, 0.5 * g], 9.0),
    "table": lambda g, a: Table(POINTS, g[..., None] * torch.sinh(a * POINTS)),
    "series": lambda g, a: SeriesAccess(Sinh(g, a), Ohmic(3 * g)),
    "1t1r": lambda g, a: SeriesAccess(Sinh(g, 1.5), Transistor(g, a, 0.1)),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", [(3, 2), (2, 3)])
def test_gradients_for_cells_wires_and_voltages(law, shape):
    rows, cols = shape
    g = random(2, rows, cols, low=0.2).requires_grad_()
    voltages = random(2, 2, rows, low=-1.0, seed=1).requires_grad_()
    senses = random(2, 2, cols, low=-0.2, high=0.2, seed=2).requires_grad_()
    figures = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.03, 0.02, 0.05, 0.04)]
    shape_figure = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)

    def currents(g, a, voltages, senses, *figures):
        cells = LAWS[law](g, a)
        return solve_array(
            cells, Wires(*figures), voltages, bit_line_voltages=senses, tolerance=1e-12
        ).currents

    assert torch.autograd.gradcheck(
        currents, (g, shape_figure, voltages, senses, *figures), eps=1e-5, atol=1e-7, rtol=1e-6
    )


@pytest.mark.parametrize("figures", [(0.0, 0.0, 0.0, 0.0), (0.0, 20.0, 0.0, 5.0), (30.0, 0.0, 10.0, 0.0)])
def test_gradients_for_ideal_conductors_are_the_one_sided_differences(figures):
    cells, _ = sinh_case(5, 6)
    voltages, weights = random(3, 5), random(3, 6, seed=9)
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in figures]
    out = solve_array(cells, Wires(*leaves), voltages, tolerance=1e-12).currents
    grads = torch.autograd.grad((out * weights).sum(), leaves)

    def value(changed):
        return (
            (solve_array(cells, Wires(*changed), voltages, tolerance=1e-13).currents * weights).sum().item()
        )

    for k, grad in enumerate(grads):
        h = 0.01
        one, two = ([x + n * h * (j == k) for j, x in enumerate(figures)] for n in (1, 2))
        slope = (4 * value(one) - value(two) - 3 * value(list(figures))) / (2 * h)
        assert grad.item() == pytest.approx(slope, rel=1e-4)


def test_gradient_of_every_segment_agrees_with_differences_of_nodal_analysis():
    cells, laws = sinh_case(4, 3, seed=11)
    voltages = random(1, 4)
    word_line = random(4, 3, seed=12, low=5.0, high=50.0).requires_grad_()
    bit_line = random(4, 3, seed=13, low=5.0, high=50.0).requires_grad_()
    out = solve_array(cells, Wires(word_line, bit_line), voltages, tolerance=1e-12).currents
    grads = torch.autograd.grad(out[0, 1], (word_line, bit_line))
    base = {"word_line": word_line.detach().numpy(), "bit_line": bit_line.detach().numpy()}
    for name, grad in zip(base, grads, strict=True):
        for cell in ((0, 0), (2, 1), (3, 2)):
            ends = []
            for sign in (1, -1):
                changed = {key: r.copy() for key, r in base.items()}
                changed[name][cell] += sign * 0.5
                ends.append(reference.solve_crossbar(laws, voltages[0].numpy(), **changed)[0][1])
            assert grad[cell].item() == pytest.approx(ends[0] - ends[1], rel=1e-4, abs=1e-14)


def test_gradient_past_an_open_segment_is_zero():
    cells, _ = sinh_case(3, 3)
    driver = torch.tensor([10.0, INF, 10.0], dtype=torch.float64, requires_grad=True)
    voltages = random(1, 3).requires_grad_()
    solve_array(cells, Wires(5.0, 5.0, driver=driver), voltages).currents.sum().backward()
    assert abs(driver.grad[1]) < 1e-30
    # Zero to rounding, which is relative to what the driven lines see.
    assert abs(voltages.grad[0, 1]) < 1e-12 * abs(voltages.grad[0, 0])
    assert (driver.grad[[0, 2]] < 0).all()


def test_a_missed_tolerance_raises_and_names_the_input(monkeypatch):
    monkeypatch.setattr("device_models.crossbar.newton._MAX_STEPS", 1)
    cells, _ = sinh_case(5, 4)
    voltages = torch.stack([torch.zeros(5, dtype=torch.float64), random(5)])
    with pytest.raises(ConvergenceError, match=r"tile \[\], input 1 Kirchhoff's current law fails by"):
        solve_array(cells, Wires(20.0, 20.0), voltages)


def test_a_missed_tolerance_is_told_when_asked_for(monkeypatch):
    monkeypatch.setattr("device_models.crossbar.newton._MAX_STEPS", 1)
    cells, _ = sinh_case(5, 4)
    voltages = torch.stack([torch.zeros(5, dtype=torch.float64), random(5)]).requires_grad_()
    solution = solve_array(cells, Wires(20.0, 20.0), voltages, require_convergence=False)
    assert solution.converged.tolist() == [True, False]
    assert 1e-9 < solution.residual[1] < 1
    with pytest.raises(ConvergenceError):
        solution.currents.sum().backward()


def test_currents_beyond_all_numbers_are_not_an_answer():
    cells, _ = sinh_case(3, 3, alpha=3.0)
    voltages = torch.tensor([[1.0, 0, 0], [1e4, 0, 0]], dtype=torch.float64)
    with pytest.raises(ConvergenceError, match="input 1"):
        solve_array(cells, Wires(1e-3, 1e-3), voltages)
    solution = solve_array(cells, Wires(1e-3, 1e-3), voltages, require_convergence=False)
    assert solution.converged.tolist() == [True, False]


def test_a_cell_outside_its_table_raises_after_the_wires_are_counted():
    points = torch.linspace(0.0, 0.5, 6, dtype=torch.float64)
    table = Table(points, 1e-4 * torch.ones(4, 3, 1, dtype=torch.float64) * points)
    voltages = torch.full((1, 4), 0.6, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"cell \(0, 0\).*outside the table"):
        solve_array(table, Wires(0.1, 0.1), voltages)
    assert solve_array(table, Wires(0.1, 0.1, driver=5e3), voltages).converged.all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"voltages": torch.ones(2, 4)}, TypeError, "float64"),
        ({"voltages": torch.ones(2, 5, dtype=torch.float64)}, ValueError, r"need \[batch, 4\]"),
        ({"voltages": torch.ones(4, dtype=torch.float64)}, ValueError, r"need \[batch, 4\]"),
        ({"voltages": torch.ones(7, 2, 4, dtype=torch.float64)}, ValueError, r"need \[batch, 4\]"),
        ({"voltages": torch.full((2, 4), INF, dtype=torch.float64)}, ValueError, r"index \[0, 0\] is inf"),
        ({"bit_line_voltages": torch.ones(2, 4, dtype=torch.float64)}, ValueError, r"need \[batch, 3\]"),
        ({"bit_line_voltages": torch.ones(3, 3, dtype=torch.float64)}, ValueError, "holds 3 inputs"),
        ({"tolerance": 0.0}, ValueError, "must be positive"),
        ({"wires": Wires(torch.ones(5, 3), 1.0)}, ValueError, "wires.word_line has shape"),
        ({"cells": Ohmic(torch.tensor(1e-6, dtype=torch.float64))}, ValueError, r"\[..., rows, cols\]"),
    ],
)
def test_input_that_does_not_fit_is_refused(change, error, message):
    request = {"cells": sinh_case(4, 3)[0], "wires": Wires(1.0, 1.0), "voltages": random(2, 4)} | change
    with pytest.raises(error, match=message):
        solve_array(**request)


def ngspice_currents(tmp_path, lines, cols):
    """Run a netlist of elements and return the currents of the sense sources ``vs0``, ``vs1``, ..."""
    save = " ".join(f"i(vs{j})" for j in range(cols))
    deck = ["array", *lines, ".options reltol=1e-9 abstol=1e-18 vntol=1e-12 gmin=1e-18 itl1=500", ".op"]
    deck += [".control", "run", "set numdgt=15", f"print {save}", ".endc", ".end"]
    path = tmp_path / "array.cir"
    path.write_text("\n".join(deck) + "\n")
    done = subprocess.run(["ngspice", "-b", str(path)], capture_output=True, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("i(vs"):
            name, value = line.split("=")
            found[name.strip()] = float(value)
    return np.array([found[f"i(vs{j})"] for j in range(cols)])


@pytest.mark.ngspice
@pytest.mark.parametrize("law", ["sinh", "1t1r"])
def test_ngspice_finds_the_same_currents(law, tmp_path):
    rows, cols, r_word, r_bit, driver, sense = 8, 6, 28.0, 12.0, 200.0, 30.0
    g, voltages = conductances(rows, cols, seed=21), random(1, rows, seed=22, low=-0.9)
    lines = []
    for i in range(rows):
        lines.append(f"vin{i} in{i} 0 {voltages[0, i].item():.17g}")
        lines.append(f"rw{i}_0 in{i} w{i}_0 {driver + r_word:.17g}")
        lines += [f"rw{i}_{j} w{i}_{j - 1} w{i}_{j} {r_word:.17g}" for j in range(1, cols)]
    for j in range(cols):
        lines += [f"rb{i}_{j} b{i}_{j} b{i + 1}_{j} {r_bit:.17g}" for i in range(rows - 1)]
        lines += [f"rb{rows - 1}_{j} b{rows - 1}_{j} s{j} {r_bit + sense:.17g}", f"vs{j} s{j} 0 0"]
    lines.append(".model access nmos level=1 vto=0 kp=1e-4 lambda=0.05 gamma=0 is=1e-30")
    for i in range(rows):
        for j in range(cols):
            x, word, bit = g[i, j].item(), f"w{i}_{j}", f"b{i}_{j}"
            if x == 0:
                continue
            end = bit if law == "sinh" else f"m{i}_{j}"
            lines.append(f"bc{i}_{j} {word} {end} i={x:.17g}*sinh(3*v({word},{end}))/3")
            if law == "1t1r":
                # The bulk is far below, so that its diodes stay closed; gamma = 0 keeps the threshold.
                lines.append(f"vg{i}_{j} g{i}_{j} {bit} 0.5")
                lines.append(f"mt{i}_{j} {end} g{i}_{j} {bit} bulk access l=1u w=1u")
    lines.append("vbulk bulk 0 -5")
    cells = Sinh(g, 3.0)
    if law == "1t1r":
        cells = SeriesAccess(cells, Transistor(torch.full_like(g, 1e-4), 0.5, 0.05))
    got = solve_array(cells, Wires(r_word, r_bit, driver, sense), voltages).currents[0]
    want = ngspice_currents(tmp_path, lines, cols)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6 * np.abs(want).max())
