"""Arrays of sinh cells with wires: solve_array, ngspice and SciPy on the same circuits in the same run.

    python benchmarks/crossbar_nonlinear.py [--inputs 256] [--spice-inputs 4] [--size 64]

Cells I = g sinh(alpha v) / alpha, g uniform from 1 to 100 uS, inputs uniform from 0 to 1 V. ngspice gets each
circuit twice: as one ``.op``, as a user starts, and several inputs as one ``.dc`` sweep, which orders the
matrix once and starts each input from the last. Both times include parsing. SciPy is Newton's method with a
sparse LU per step. Times are wall clock, the better of two runs for solve_array.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from rich.console import Console
from rich.table import Table as RichTable
from scipy.sparse.linalg import splu

from device_models.crossbar import Sinh, Wires, solve_array

OPTIONS = ".options reltol=1e-7 abstol=1e-16 vntol=1e-10 itl1=500 itl2=500"


def netlist(g, alpha, inputs, ohm, sweep):
    """The array as text; with ``sweep`` the sources step through all inputs, or else the first is applied."""
    rows, cols = g.shape
    lines = ["array of sinh cells"]
    for i in range(rows):
        if sweep:
            points = ",".join(f"{k},{v:.17g}" for k, v in enumerate(inputs[:, i]))
            lines.append(f"bin{i} in{i} 0 v=pwl(v(sel),{points})")
        else:
            lines.append(f"vin{i} in{i} 0 {inputs[0, i]:.17g}")
        lines += [f"rw{i}_{j} {f'w{i}_{j - 1}' if j else f'in{i}'} w{i}_{j} {ohm:.17g}" for j in range(cols)]
    for j in range(cols):
        lines += [
            f"rb{i}_{j} b{i}_{j} {f'b{i + 1}_{j}' if i < rows - 1 else f's{j}'} {ohm:.17g}"
            for i in range(rows)
        ]
        lines.append(f"vs{j} s{j} 0 0")
    for i in range(rows):
        for j in range(cols):
            cell = f"w{i}_{j},b{i}_{j}"
            lines.append(
                f"bc{i}_{j} {cell.replace(',', ' ')} i={g[i, j]:.17g}*sinh({alpha:g}*v({cell}))/{alpha:g}"
            )
    lines += ["vsel sel 0 0", OPTIONS, ".save " + " ".join(f"i(vs{j})" for j in range(cols))]
    lines += [f".dc vsel 0 {len(inputs) - 1} 1" if sweep else ".op", ".end"]
    return "\n".join(lines) + "\n"


def ngspice(text, cols):
    """Run ``ngspice -b``; return the sense currents ``[points, cols]`` and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        deck, raw = Path(folder) / "array.cir", Path(folder) / "array.raw"
        deck.write_text(text)
        start = time.perf_counter()
        done = subprocess.run(
            ["ngspice", "-b", "-r", str(raw), str(deck)], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        if not raw.exists():
            raise SystemExit(f"ngspice failed: {done.stderr[-500:]}")
        head, body = raw.read_bytes().split(b"Binary:\n", 1)
    header = head.decode(errors="replace").splitlines()
    names = [line.split()[1] for line in header[header.index("Variables:") + 1 :] if line.startswith("\t")]
    points = np.frombuffer(body, dtype="<f8").reshape(-1, len(names))
    return points[:, [names.index(f"i(vs{j})") for j in range(cols)]], seconds


def scipy_newton(g, alpha, voltages, ohm):
    """Sense currents of one input by Newton's method on the nodal equations, a sparse LU per step."""
    rows, cols = g.shape
    n = rows * cols
    node = np.arange(n).reshape(rows, cols)
    ends = [(node[:, :-1], node[:, 1:]), (n + node[:-1], n + node[1:])]
    a, b = (np.concatenate([pair[k].ravel() for pair in ends]) for k in (0, 1))
    diagonal = np.zeros(2 * n)
    for x in (a, b):
        np.add.at(diagonal, x, 1 / ohm)
    diagonal[node[:, 0]] += 1 / ohm
    diagonal[n + node[-1]] += 1 / ohm
    off = sp.coo_array((np.full(len(a), -1 / ohm), (a, b)), shape=(2 * n, 2 * n))
    wires = (off + off.T + sp.diags_array(diagonal)).tocsc()
    source = np.zeros(2 * n)
    source[node[:, 0]] = voltages / ohm
    flat, x = g.ravel(), np.zeros(2 * n)
    for _ in range(100):
        v = x[:n] - x[n:]
        current, slope = flat * np.sinh(alpha * v) / alpha, flat * np.cosh(alpha * v)
        excess = wires @ x + np.concatenate([current, -current]) - source
        if np.abs(excess).max() < 1e-11 * np.abs(current).max():
            break
        cells = sp.diags_array([np.tile(slope, 2), -slope, -slope], offsets=[0, n, -n], shape=(2 * n, 2 * n))
        x = x - splu(
            (wires + cells).tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}
        ).solve(excess)
    return x[n + node[-1]] / ohm


def timed(run, repeats=1):
    """Result and the best wall-clock seconds."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    return result, best


def compare(g, alpha, ohm, inputs, count):
    """One row of the table: all inputs by solve_array, the first ``count`` by the others."""
    size = len(g)
    wires, batch, leaf = Wires(ohm, ohm), torch.from_numpy(inputs), torch.from_numpy(g).requires_grad_()

    def with_gradient():
        solve_array(Sinh(leaf, alpha), wires, batch).currents.square().sum().backward()

    cells = Sinh(leaf.detach(), alpha)
    solution, seconds = timed(lambda: solve_array(cells, wires, batch), 2)
    _, both = timed(with_gradient, 2)
    exact, scipy_seconds = timed(lambda: np.stack([scipy_newton(g, alpha, v, ohm) for v in inputs[:count]]))
    _, op_seconds = ngspice(netlist(g, alpha, inputs[:1], ohm, sweep=False), size)
    swept, dc_seconds = ngspice(netlist(g, alpha, inputs[:count], ohm, sweep=True), size)
    ours = solution.currents[:count].numpy()
    each, scipy_each, dc_each = seconds / len(inputs), scipy_seconds / count, dc_seconds / count
    return (
        f"{alpha:g}",
        f"{ohm:g}",
        f"{each * 1e3:.2f}",
        f"{both / len(inputs) * 1e3:.2f}",
        f"{scipy_each * 1e3:.0f}",
        f"{op_seconds * 1e3:.0f}",
        f"{dc_each * 1e3:.0f}",
        f"{scipy_each / each:.0f}",
        f"{op_seconds / each:.0f}",
        f"{dc_each / each:.0f}",
        f"{solution.residual.max():.1e}",
        f"{np.abs(ours / exact - 1).max():.1e}",
        f"{np.abs(ours / swept - 1).max():.1e}",
    )


def main():
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--inputs", type=int, default=256)
    parser.add_argument(
        "--spice-inputs", type=int, default=4, help="how many of them ngspice .dc and SciPy get"
    )
    options = parser.parse_args()
    count = min(options.spice_inputs, options.inputs)
    random = np.random.default_rng(1)
    g = random.uniform(1e-6, 1e-4, (options.size, options.size))
    inputs = random.uniform(0.0, 1.0, (options.inputs, options.size))
    table = RichTable(
        title=f"{options.size} x {options.size} sinh cells, {options.inputs} inputs, "
        f"{torch.get_num_threads()} threads: ms per input, and how many times faster"
    )
    columns = ["alpha V", "ohm", "solve_array", "and gradient", "SciPy LU", "ngspice .op", f".dc of {count}"]
    columns += ["x SciPy", "x .op", "x .dc", "KCL", "off SciPy", "off ngspice"]
    for name in columns:
        table.add_column(name, justify="right")
    compare(g[:4, :4], 1.0, 1.0, inputs[:2, :4], 2)  # compiles what is compiled
    for alpha in (0.6, 1.5, 3.0):
        for ohm in (2.0, 28.0):
            table.add_row(*compare(g, alpha, ohm, inputs, count))
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
