"""How time and memory of exact arrays with wires grow with their size, their number and the inputs.

    python benchmarks/crossbar_growth.py FIGURE

Cells of 1 to 100 uS, 2 ohm segments, float64. Times are the best of several. Memory is the peak resident
memory that a call adds to its process (Linux), without its inputs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import torch
import typer
from crossbar_linear import OHM, SIDE, best, conductances

from device_models.crossbar import Wires, effective_conductance, factorize

SECONDS = 0.3
SIZES = (8, 16, 32, 64, 128, 256)
TILES = (1, 4, 16, 64, 256, 1024)
WIRES = Wires(OHM, OHM)
M_MMAP_THRESHOLD = -3  # of glibc's mallopt


def added_memory(run: Callable[[], Any]) -> float:
    """Peak memory in MiB that ``run`` adds, as the kernel counts it."""
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)  # freed arrays go back, so that each call asks anew
    run()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is in use
    before = resident("VmRSS")
    run()
    return max(resident("VmHWM") - before, 0.0)


def resident(field: str) -> float:
    """One of the memory figures of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def point(tiles: int, rows: int, cols: int) -> dict[str, float]:
    """Seconds per array and MiB in all, of the solve and of its gradient."""
    g = conductances(tiles, rows, cols).requires_grad_()
    fixed = g.detach()
    out = effective_conductance(g, WIRES)
    up = torch.ones_like(out)

    def solve() -> torch.Tensor:
        return effective_conductance(fixed, WIRES)

    def gradient() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(out, g, up, retain_graph=True)

    return {
        "solve": best(solve, SECONDS) / tiles,
        "gradient": best(gradient, SECONDS) / tiles,
        "solve_mib": added_memory(solve),
        "gradient_mib": added_memory(gradient),
    }


def inputs() -> list[tuple[int, float, float]]:
    """(inputs, seconds for their currents once the array is solved, for all node voltages)."""
    array = factorize(conductances(1)[0], WIRES)
    effective = array.effective_conductance
    found = []
    for batch in TILES:
        volts = torch.rand(batch, SIDE, dtype=torch.float64)
        currents = best(lambda v=volts: v @ effective, SECONDS)
        found.append((batch, currents, best(lambda v=volts: array.node_voltages(v), SECONDS)))
    return found


def main(figure: Annotated[Path, typer.Argument(help="File to draw into: .png or .svg.")]) -> None:
    """Measure, and draw."""
    mpl.use("svg" if figure.suffix == ".svg" else "agg")
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    shapes = {
        "rows x 64": lambda n: (n, SIDE),
        "64 x columns": lambda n: (SIDE, n),
        "square": lambda n: (n, n),
    }
    for label, shape in shapes.items():
        points = [point(4, *shape(n)) for n in SIZES]
        (line,) = axes[0].loglog(SIZES, [1e3 * p["solve"] for p in points], "o-", label=label)
        axes[0].loglog(SIZES, [1e3 * p["gradient"] for p in points], "o--", color=line.get_color(), alpha=0.6)
    axes[0].set(xlabel="lines", ylabel="ms per array (dashed: gradient)", title="Size of the array")
    points = [point(n, SIDE, SIDE) for n in TILES]
    axes[1].loglog(TILES, [n * p["solve"] for n, p in zip(TILES, points, strict=True)], "o-", label="solve")
    axes[1].loglog(
        TILES, [n * p["gradient"] for n, p in zip(TILES, points, strict=True)], "o--", label="gradient"
    )
    axes[1].set(xlabel="arrays of 64 x 64", ylabel="s", title="Number of arrays")
    axes[2].loglog(TILES, [p["solve_mib"] for p in points], "o-", label="solve")
    axes[2].loglog(TILES, [p["gradient_mib"] for p in points], "o--", label="gradient")
    axes[2].loglog(TILES, [n * SIDE**2 * 8 / 2**20 for n in TILES], color="grey", label="the conductances")
    axes[2].set(xlabel="arrays of 64 x 64", ylabel="MiB added", title="Memory")
    batch, currents, voltages = zip(*inputs(), strict=True)
    axes[3].loglog(batch, [1e3 * x for x in currents], "o-", label="currents, array solved")
    axes[3].loglog(batch, [1e3 * x for x in voltages], "o--", label="all node voltages, factored")
    axes[3].set(xlabel="inputs to one array of 64 x 64", ylabel="ms", title="Number of inputs")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(figure, dpi=110)


if __name__ == "__main__":
    typer.run(main)
