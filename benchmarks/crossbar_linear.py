"""Arrays of ohmic cells with wires: this solver and its peers on the same work in the same run.

    python benchmarks/crossbar_linear.py [--quick] [--network] [--json FILE]

The work is an array of 64 x 64 cells, 1 to 100 uS, 2 ohm segments, solved for all 64 unit inputs in
float64. Times are wall clock, the best of several, on as many threads as torch uses. SciPy gets its matrix
ready made; badcrossbar and ngspice build theirs, as their users must. Both Python peers get one BLAS thread,
with which they are fastest. ngspice solves one input, and is charged for 64. The floor is 50 MFLOP per array
at the rate of a large float64 matrix product on the same threads, timed between the other runs.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy.sparse as sp
import torch
import typer
from rich.console import Console
from rich.table import Table
from scipy.sparse.linalg import splu
from threadpoolctl import threadpool_limits

from device_models.crossbar import Wires, effective_conductance, elimination
from device_models.crossbar.effective import network

SIDE = 64
OHM = 2.0
FLOOR_FLOP = 50e6
# Arrays of LeNet (20-50-500-10) in both polarities, and of a network of VGG-16's size.
LENET_TILES = 242
VGG_TILES = 7200


def conductances(tiles: int, rows: int = SIDE, cols: int = SIDE, seed: int = 0) -> torch.Tensor:
    """Cells between 1 and 100 uS."""
    generator = torch.Generator().manual_seed(seed)
    return 1e-6 + 99e-6 * torch.rand(tiles, rows, cols, dtype=torch.float64, generator=generator)


def best(run: Callable[[], Any], seconds: float) -> float:
    """Shortest of the runs that fit in about ``seconds``, at least two after one to warm up."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def product_rate(seconds: float) -> float:
    """Floating-point operations per second of a large float64 matrix product."""
    a = torch.rand(2048, 2048, dtype=torch.float64)
    return 2 * 2048**3 / best(lambda: a @ a, seconds)


def nodal_matrix(g: np.ndarray) -> tuple[Any, np.ndarray]:
    """Conductance matrix of one array, word-line nodes first, and its right-hand sides for all unit
    inputs.
    """
    rows, cols = g.shape
    word = np.arange(rows * cols).reshape(rows, cols)
    bit = word + rows * cols
    a = np.concatenate([word[:, 1:].ravel(), bit[:-1].ravel(), word.ravel()])
    b = np.concatenate([word[:, :-1].ravel(), bit[1:].ravel(), bit.ravel()])
    c = np.concatenate([np.full(len(a) - g.size, 1 / OHM), g.ravel()])
    ends = np.concatenate([word[:, 0], bit[-1]])
    rows_ = np.concatenate([a, b, a, b, ends])
    cols_ = np.concatenate([b, a, a, b, ends])
    matrix = sp.csc_matrix((np.concatenate([-c, -c, c, c, np.full(len(ends), 1 / OHM)]), (rows_, cols_)))
    inputs = np.zeros((2 * g.size, rows))
    inputs[word[:, 0], np.arange(rows)] = 1 / OHM
    return matrix, inputs


def scipy_solve(matrix: Any, inputs: np.ndarray, cols: int) -> np.ndarray:
    """Effective conductance by sparse LU with all inputs as right-hand sides."""
    lu = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return (lu.solve(inputs)[-cols:] / OHM).T


def netlist(g: np.ndarray) -> str:
    """The array as text for ngspice, 1 V at the first word line."""
    rows, cols = g.shape
    lines = ["array", "v0 in0 0 1", *(f"v{i} in{i} 0 0" for i in range(1, rows))]
    for i in range(rows):
        lines += [f"rw{i}_{j} {f'w{i}_{j - 1}' if j else f'in{i}'} w{i}_{j} {OHM}" for j in range(cols)]
        lines += [f"rc{i}_{j} w{i}_{j} b{i}_{j} {1 / g[i, j]:.17g}" for j in range(cols)]
        lines += [
            f"rb{i}_{j} b{i}_{j} {f'b{i + 1}_{j}' if i < rows - 1 else f'out{j}'} {OHM}" for j in range(cols)
        ]
    lines += [f"vout{j} out{j} 0 0" for j in range(cols)]
    return "\n".join([*lines, ".op", f".print op i(vout{cols - 1})", ".end", ""])


def ngspice_seconds(g: np.ndarray) -> float:
    """Wall-clock time of one ``.op`` of one array."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "array.cir"
        file.write_text(netlist(g))
        start = time.perf_counter()
        subprocess.run(["ngspice", "-b", str(file)], check=True, capture_output=True)
        return time.perf_counter() - start


def with_torch(g: torch.Tensor) -> torch.Tensor:
    """The torch operations, which serve devices other than the processor."""
    net, _ = network(g, *Wires(OHM, OHM).segments(g))
    return elimination.transfer(net)


def one_array(seconds: float) -> dict[str, float]:
    """Seconds per array of everything that can solve one, and the floor."""
    many = conductances(LENET_TILES)
    one, few, wires = many[:1], many[:32], Wires(OHM, OHM)
    g = one[0].numpy()
    matrix, inputs = nodal_matrix(g)
    want = scipy_solve(matrix, inputs, SIDE)
    found = {"error": float(np.abs(effective_conductance(one, wires)[0].numpy() / want - 1).max())}
    rates = [product_rate(seconds)]
    found["together"] = best(lambda: effective_conductance(many, wires), seconds) / len(many)
    found["few"] = best(lambda: effective_conductance(few, wires), seconds) / len(few)
    found["alone"] = best(lambda: effective_conductance(one, wires), seconds)
    rates.append(product_rate(seconds))
    found["torch"] = best(lambda: with_torch(few), seconds) / len(few)
    with threadpool_limits(1, user_api="blas"):
        found["scipy"] = best(lambda: scipy_solve(matrix, inputs, SIDE), seconds)
    try:
        import badcrossbar
    except ImportError:
        pass
    else:
        logging.disable(logging.INFO)
        options = {"node_voltages": False, "all_currents": False}
        with threadpool_limits(1, user_api="blas"):
            found["badcrossbar"] = best(
                lambda: badcrossbar.compute(np.eye(SIDE), 1 / g, OHM, **options), seconds
            )
    if shutil.which("ngspice"):
        found["ngspice"] = SIDE * ngspice_seconds(g)
    rates.append(product_rate(seconds))
    found["product_rate"] = max(rates)
    found["floor"] = FLOOR_FLOP / max(rates)
    return found


def gradients(seconds: float) -> dict[str, float]:
    """Seconds for all arrays of LeNet: forward, gradient for the cells, gradient for the wires too."""
    g = conductances(LENET_TILES)
    upstream = torch.rand(g.shape, dtype=g.dtype, generator=torch.Generator().manual_seed(1))
    cells = g.clone().requires_grad_()
    figures = [torch.tensor(OHM, dtype=g.dtype, requires_grad=True) for _ in range(4)]
    for_cells = effective_conductance(cells, Wires(OHM, OHM))
    for_all = effective_conductance(cells, Wires(*figures))
    grad = torch.autograd.grad
    return {
        "forward": best(lambda: effective_conductance(g, Wires(OHM, OHM)), seconds),
        "cells": best(lambda: grad(for_cells, cells, upstream, retain_graph=True), seconds),
        "cells_and_wires": best(
            lambda: grad(for_all, [cells, *figures], upstream, retain_graph=True), seconds
        ),
    }


def whole_network() -> dict[str, float]:
    """Seconds and peak memory to solve as many arrays as VGG-16 has, in a process of its own."""
    effective_conductance(conductances(2), Wires(OHM, OHM))
    g = conductances(VGG_TILES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    effective_conductance(g, Wires(OHM, OHM))
    took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"tiles": VGG_TILES, "seconds": took, "peak_gib": after / 2**20, "before_gib": before / 2**20}


def on_gpu(seconds: float) -> dict[str, float]:
    """Seconds for the same arrays on a GPU, and what part of its rate of large matrix products that is."""
    g = conductances(VGG_TILES).cuda()
    a = torch.rand(8192, 8192, dtype=torch.float64, device="cuda")

    def product() -> None:
        a @ a
        torch.cuda.synchronize()

    def solve() -> None:
        effective_conductance(g, Wires(OHM, OHM))
        torch.cuda.synchronize()

    rate, took = 2 * 8192**3 / best(product, seconds), best(solve, seconds)
    return {"tiles": VGG_TILES, "seconds": took, "fraction": VGG_TILES * FLOOR_FLOP / took / rate}


def show(console: Console, found: dict[str, Any]) -> None:
    """Print everything that was measured."""
    one = found["one_array"]
    table = Table(title="One 64 x 64 array, all 64 inputs")
    for column in ("solver", "ms", "times this", "times the floor"):
        table.add_column(column, justify="left" if column == "solver" else "right")
    names = {
        "floor": f"floor: 50 MFLOP at {one['product_rate'] / 1e9:.0f} GFLOP/s",
        "together": f"this, {LENET_TILES} arrays at once",
        "few": "this, 32 arrays at once",
        "alone": "this, one array",
        "torch": "this in torch operations, 32 arrays at once",
        "scipy": "SciPy sparse LU, 64 right-hand sides",
        "badcrossbar": "badcrossbar",
        "ngspice": "ngspice .op, one input times 64",
    }
    for key, name in names.items():
        if key in one:
            ratios = f"{one[key] / one['together']:.2f}", f"{one[key] / one['floor']:.2f}"
            table.add_row(name, f"{1e3 * one[key]:.3f}", *ratios)
    console.print(table)
    console.print(f"largest relative difference of any entry to sparse LU: {one['error']:.1e}")
    grad = found["gradients"]
    console.print(
        f"LeNet, {LENET_TILES} arrays: solve {grad['forward']:.3f} s; gradient for cells "
        f"{grad['cells'] / grad['forward']:.2f} times that, for cells and wires "
        f"{grad['cells_and_wires'] / grad['forward']:.2f} times"
    )
    if "network" in found:
        net = found["network"]
        console.print(
            f"{net['tiles']} arrays: {net['seconds']:.2f} s, peak {net['peak_gib']:.2f} GiB "
            f"({net['before_gib']:.2f} GiB before)"
        )
        gpu = found["gpu"]
        rate = "of the rate of a large float64 matrix product"
        console.print(
            f"on {torch.cuda.get_device_name()}: {gpu['seconds']:.2f} s, {gpu['fraction']:.0%} {rate}"
            if gpu
            else "on a GPU: not run, no CUDA device"
        )


def main(
    quick: Annotated[bool, typer.Option(help="Spend less time on every figure.")] = False,
    with_network: Annotated[bool, typer.Option("--network", help="Solve 7200 arrays too.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
) -> None:
    """Measure, print, and write what was asked for."""
    seconds = 0.3 if quick else 3.0
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "one_array": one_array(seconds)}
    found["gradients"] = gradients(seconds)
    if with_network:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found["network"] = pool.submit(whole_network).result()
        found["gpu"] = on_gpu(seconds) if torch.cuda.is_available() else None
    show(Console(), found)
    if json_file:
        json_file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
