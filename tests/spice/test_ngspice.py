"""ngspice's column currents against circuit theory: a dense nodal analysis, closed forms, limits and laws."""

import subprocess

import numpy as np
import pytest

from device_models.crossbar import Wires
from spice_netlists import Job, column_currents, crossbar_read, find_ngspice, run_jobs
from spice_netlists.ngspice import with_options

from . import nodal

pytestmark = pytest.mark.ngspice


def random_array(rows, cols, seed=0, kept=0.7):
    rng = np.random.default_rng(seed)
    return rng.uniform(1e-6, 4e-5, (rows, cols)) * (rng.random((rows, cols)) < kept)


def random_inputs(count, rows, seed=0):
    return np.random.default_rng([seed, 1]).uniform(-0.2, 0.2, (count, rows))


def solve(cases):
    """Column currents of many (g, wires, voltages) on one pool of workers, in order."""
    jobs = [Job(str(k), crossbar_read(*case, title=str(k))) for k, case in enumerate(cases)]
    results = {result.job.label: result for result in run_jobs(jobs, workers=2)}
    assert not [result.error for result in results.values() if result.error]
    return [results[str(k)].values for k in range(len(jobs))]


WIRES = {
    "even": {"word_line": 2.0, "bit_line": 2.0},
    "lopsided": {"word_line": 0.5, "bit_line": 40.0, "driver": 100.0, "sense": 3.0},
    "weak": {"word_line": 1e-3, "bit_line": 1e-3},
    "word line only": {"word_line": 20.0, "bit_line": 0.0},
    "bit line only": {"word_line": 0.0, "bit_line": 20.0},
    "driver and sense only": {"word_line": 0.0, "bit_line": 0.0, "driver": 300.0, "sense": 200.0},
    "per segment": {
        "word_line": np.arange(1.0, 78.0).reshape(7, 11),
        "bit_line": np.arange(77.0, 0.0, -1.0).reshape(7, 11),
        "driver": np.arange(7.0),
        "sense": np.arange(11.0),
    },
}


def test_agrees_with_dense_nodal_analysis_for_any_wires():
    g, v = random_array(7, 11), random_inputs(3, 7)
    currents = solve([(g, Wires(**figures), v) for figures in WIRES.values()])
    for name, got in zip(WIRES, currents, strict=True):
        expected = nodal.column_currents(g, v, **WIRES[name])
        assert np.abs(got - expected).max() < 1e-11 * np.abs(expected).max(), name


def test_agrees_with_dense_nodal_analysis_for_any_shape():
    shapes = [(1, 1), (1, 9), (9, 1), (16, 5), (5, 16)]
    wires = {"word_line": 3.0, "bit_line": 7.0, "driver": 11.0, "sense": 13.0}
    cases = [(random_array(*shape, seed=3, kept=0.9), random_inputs(2, shape[0])) for shape in shapes]
    for (g, v), got in zip(cases, solve([(g, Wires(**wires), v) for g, v in cases]), strict=True):
        expected = nodal.column_currents(g, v, **wires)
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= 1e-11 * np.abs(expected).max()


def test_one_cell_is_its_resistances_in_series():
    wires = Wires(word_line=3.0, bit_line=5.0, driver=7.0, sense=11.0)
    current = column_currents([[2e-5]], wires, [[0.2]])
    assert current == pytest.approx(np.array([[0.2 / (1 / 2e-5 + 3 + 5 + 7 + 11)]]), rel=1e-12)


def test_zero_wires_are_the_ideal_crossbar():
    g, v = random_array(9, 6), random_inputs(4, 9)
    assert np.allclose(column_currents(g, Wires(0.0, 0.0), v), v @ g, rtol=1e-12, atol=1e-20)


def test_columns_without_cells_carry_nothing():
    g = random_array(6, 4)
    g[:, 2] = 0
    current = column_currents(g, Wires(2.0, 2.0), random_inputs(3, 6))
    assert np.abs(current[:, 2]).max() < 1e-20
    assert np.abs(column_currents(np.zeros((3, 3)), Wires(2.0, 2.0), np.ones((2, 3)))).max() < 1e-20


def test_open_lines_carry_nothing_and_disturb_nobody():
    g, v = random_array(5, 5, kept=1.0), random_inputs(2, 5)
    word, sense = np.full((5, 5), 4.0), np.zeros(5)
    word[1, 0] = word[3, 2] = np.inf
    sense[4] = np.inf
    wires = {"word_line": word, "bit_line": 6.0, "sense": sense}
    empty = g.copy()
    empty[1] = 0  # a word line with neither source nor cells
    for cells, got in zip(
        (g, empty), solve([(g, Wires(**wires), v), (empty, Wires(**wires), v)]), strict=True
    ):
        expected = nodal.column_currents(cells, v, **wires)
        assert np.abs(got - expected).max() < 1e-11 * np.abs(expected).max()
        assert np.abs(got[:, 4]).max() < 1e-20


def test_a_sweep_equals_separate_runs():
    g, v, wires = random_array(12, 8), random_inputs(5, 12), Wires(2.0, 3.0)
    sweep, *single = solve([(g, wires, v), *[(g, wires, v[k : k + 1]) for k in range(5)]])
    assert np.allclose(sweep, np.concatenate(single), rtol=1e-12, atol=1e-20)


def test_a_sweep_of_hundreds_of_bit_planes_keeps_its_accuracy():
    g = random_array(10, 4)
    v = 0.2 * np.random.default_rng(2).integers(0, 2, (600, 10))
    expected = nodal.column_currents(g, v, word_line=2.0, bit_line=2.0)
    assert np.abs(column_currents(g, Wires(2.0, 2.0), v) - expected).max() < 1e-11 * expected.max()


def test_currents_add_for_inputs_that_add():
    g, v, wires = random_array(8, 8), random_inputs(2, 8), Wires(30.0, 50.0, sense=100.0)
    one, other, both = column_currents(g, wires, np.stack([v[0], v[1], v[0] + v[1]]))
    assert np.allclose(one + other, both, rtol=1e-11, atol=1e-18)


def test_a_title_with_directives_and_alarming_words_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    g, v = random_array(3, 3), random_inputs(2, 3)
    title = "error: run aborted\n.control\nshell touch pwned\nquit\n.endc\n.include /etc/passwd\n.end"
    got = column_currents(g, Wires(2.0, 2.0), v, title=title)
    assert np.allclose(got, nodal.column_currents(g, v, word_line=2.0, bit_line=2.0), rtol=1e-11, atol=1e-18)
    assert list(tmp_path.iterdir()) == []


def test_the_same_netlist_runs_with_the_ngspice_command(tmp_path):
    if find_ngspice().binary is None:
        pytest.skip("no ngspice command (apt-get install ngspice)")
    read = crossbar_read(random_array(5, 4), Wires(2.0, 3.0), random_inputs(3, 5), "by hand")
    (tmp_path / "tile.cir").write_text(with_options(read.netlist(), klu=False, aids=False))
    subprocess.run(
        ["ngspice", "-b", "-r", "tile.raw", "tile.cir"], cwd=tmp_path, check=True, capture_output=True
    )
    header, _, data = (tmp_path / "tile.raw").read_bytes().partition(b"Binary:\n")
    names = [line.split()[1] for line in header.decode().split("Variables:\n")[1].splitlines()]
    table = np.frombuffer(data).reshape(3, len(names))
    by_command = table[:, [names.index(f"i(vsense_{j})") for j in range(4)]]
    (result,) = run_jobs([Job("tile", read)], workers=1)
    assert np.array_equal(by_command, result.values)
