"""Long commands, killed at random moments and resumed: the same figures, and no file that cannot be used.

    python benchmarks/kill_resume.py [--kills 100] [--command NAME] [--out docs/results/kill-resume.md]

``run``, ``prune``, ``retrain``, ``sweep``, ``calibrate`` and ``verify`` each go through once undisturbed,
on digits and a network that take seconds. Then each is started in a folder of its own and ended by SIGKILL
after a time drawn evenly from 0 to as long as it took; what has ended by then is drawn again. Every file that
is then there is checked, the command is resumed, and its figures, weights, masks, codes and conductances are
held against those of the undisturbed one, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
from rich.console import Console
from safetensors import safe_open

from calibration import write_measurements
from calibration.synthetic import MAKERS
from device_models.files import UNFINISHED
from hwloop.mapping import validate_map
from hwloop.unfinished import unfinished_folder
from tests.line.tiny import NETWORK, write_recipe

ROOT = Path(__file__).parents[1]
TIMES = ("seconds", "versions")


@dataclass
class Command:
    """One command: how it is called in a folder, what is there before, and what it ends with."""

    name: str
    arguments: Callable[[Path], list[str | Path]]
    prepare: Callable[[Path], None]
    begun: Callable[[Path], bool]
    seconds: float = 0.0
    truth: Any = None
    moments: list[float] = field(default_factory=list)
    nothing_yet: int = 0
    same: int = 0
    bad_files: int = 0

    def start(self, folder: Path, *more: str) -> subprocess.Popen[str]:
        """Start the command."""
        given = [*map(str, self.arguments(folder)), "--quiet", "--json", *more]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-m", "hwloop", *given],
            cwd=folder,  # a card says which file it comes from, as it was named
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(self, folder: Path, *more: str) -> Any:
        """Run the command to its end; return everything it found but times."""
        out, err = (process := self.start(folder, *more)).communicate()
        if process.returncode:
            raise SystemExit(f"{self.name}: {err}")
        return without_times(json.loads(out)), contents(folder)


def without_times(value: Any) -> Any:
    """Figures without the seconds that things took, and the versions of programs."""
    if isinstance(value, dict):
        return {n: without_times(v) for n, v in value.items() if n not in (*TIMES, "out", "card", "page")}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """Cards, weights, masks, codes, conductances and tables in a folder, by file; checkpoints left out."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".toml" and path.name != "recipe.toml":
            found[name] = path.read_bytes()
        elif path.name in ("weights.safetensors", "masks.safetensors", "codes.safetensors"):
            with safe_open(str(path), "np") as file:
                found[name] = {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118
        elif path.suffix == ".h5" and path.name != "measured.h5":
            found[name] = datasets(path)
    return found


def datasets(path: Path) -> dict[str, bytes]:
    """Every data set of an HDF5 file, as bytes; the times in a sweep's table left out."""
    found: dict[str, bytes] = {}

    def keep(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            value = node[()]
            if getattr(value, "dtype", None) is not None and value.dtype.names:
                value = value[[column for column in value.dtype.names if column != "seconds"]].tolist()
            found[name] = value.tobytes() if hasattr(value, "tobytes") else repr(value).encode()

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


def damaged(folder: Path) -> list[str]:
    """Files of a killed command that cannot be used; those that are marked as unfinished do not count."""
    found = []
    for path in folder.rglob("*"):
        if path.name.endswith(UNFINISHED) or not path.is_file():
            continue
        try:
            if path.name == "maps.h5" and (problems := validate_map(path)):
                found.append(f"{path}: {problems[0]}")
            elif path.suffix == ".json":
                json.loads(path.read_text("utf-8"))
            elif path.suffix == ".safetensors":
                with safe_open(str(path), "np"):
                    pass
            elif path.suffix == ".h5":
                datasets(path)
        except Exception as error:  # noqa: BLE001  whatever is wrong with a file is what is looked for
            found.append(f"{path}: {error}")
    return found


def commands(recipe: Path, given: Path) -> list[Command]:
    """All commands; ``given`` holds a mapped run, a finished one, and measurements."""

    def copy(name: str) -> Callable[[Path], None]:
        def prepare(folder: Path) -> None:
            source = given / name
            if source.is_dir():
                shutil.copytree(source, folder / name)
            else:
                shutil.copy(source, folder / name)

        return prepare

    def run_json(folder: Path) -> bool:
        return (folder / "run" / "run.json").exists()

    return [
        Command("run", lambda f: ["run", recipe, "--out", f / "run"], lambda _: None, run_json),
        Command(
            "prune",
            lambda f: ["prune", NETWORK, "--recipe", recipe, "--out", f / "run"],
            lambda _: None,
            run_json,
        ),
        Command(
            "retrain",
            lambda f: ["retrain", f / "mapped"],
            copy("mapped"),
            lambda f: (f / "mapped" / "stations" / "program").exists(),
        ),
        Command(
            "sweep",
            lambda f: ["sweep", recipe, "--set", "adc_bits=4,6", "--workers", "1", "--out", f / "sweep"],
            lambda _: None,
            lambda f: (f / "sweep" / "sweep.json").exists(),
        ),
        Command(
            "calibrate",
            lambda f: ["calibrate", "measured.h5", "--out", f / "cell.toml"],
            copy("measured.h5"),
            lambda f: unfinished_folder(f / "cell.toml", "calibrate").exists(),
        ),
        Command(
            "verify",
            lambda f: [
                *("verify", f / "maps.h5", "--recipe", recipe, "--workers", "1"),
                *("--tiles", "6", "--columns", "2"),
            ],
            copy("maps.h5"),
            lambda f: unfinished_folder(f / "maps.h5", "verify").exists(),
        ),
    ]


def kill_and_resume(command: Command, folder: Path, rng: random.Random, console: Console) -> bool:
    """Kill a command once and resume it; False if it had ended before it could be killed."""
    command.prepare(folder)
    moment = rng.uniform(0, command.seconds)
    process = command.start(folder)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if process.returncode != -signal.SIGKILL:
        return False
    command.moments.append(moment / command.seconds)
    bad = damaged(folder)
    command.bad_files += len(bad)
    begun = command.begun(folder)
    command.nothing_yet += not begun
    found = command.finish(folder, *(["--resume"] if begun else []))
    left = [path for path in folder.rglob(f".*{UNFINISHED}") if path.parent.exists()]
    same = found == command.truth and not left and not damaged(folder)
    command.same += same
    for line in bad:
        console.print(f"damaged: {line}")
    if not same:
        console.print(f"{command.name}, killed at {moment:.2f} s: not the same; left {left}")
    return True


def main() -> None:
    """Kill, resume, compare, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--command", action="append", help="one command only")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    console, rng = Console(highlight=False), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        recipe = write_recipe(root)
        tried = commands(recipe, root)
        whole = root / "whole"
        whole.mkdir()
        tried[0].finish(whole)
        shutil.copy(whole / "run" / "maps.h5", root / "maps.h5")
        shutil.copytree(whole / "run", root / "mapped")
        for station in ("program", "evaluate_before", "verify", "retrain", "evaluate_after"):
            shutil.rmtree(root / "mapped" / "stations" / station)
        names = ("variation", "drift", "pulse response", "I-V", "telegraph noise")
        write_measurements(
            root / "measured.h5", {name.replace(" ", "-"): MAKERS[name](1, True)[0] for name in names}
        )
        tried = [command for command in tried if command.name in (given.command or [command.name])]
        for command in tried:
            folder = root / f"{command.name}-whole"
            folder.mkdir()
            command.prepare(folder)
            started = time.monotonic()
            command.truth = command.finish(folder)
            command.seconds = time.monotonic() - started
            console.print(f"{command.name}: {command.seconds:.1f} s undisturbed")
        kills = missed = 0
        while kills < given.kills:
            command = tried[kills % len(tried)]
            folder = root / f"{command.name}-{kills}-{missed}"
            folder.mkdir()
            if kill_and_resume(command, folder, rng, console):
                kills += 1
                console.print(f"{kills:3d} {command.name}: killed at {100 * command.moments[-1]:.0f} %")
            else:
                missed += 1
            shutil.rmtree(folder)
            if given.out is not None:
                given.out.write_text(report(tried, missed), "utf-8")
    console.print(report(tried, missed), markup=False, soft_wrap=True)


def report(tried: list[Command], missed: int) -> str:
    """Return the table as Markdown."""
    kills = sum(len(command.moments) for command in tried)
    same, bad = sum(command.same for command in tried), sum(command.bad_files for command in tried)
    early = sum(command.nothing_yet for command in tried)
    rows = [
        f"| `{command.name}` | {command.seconds:.1f} | {len(command.moments)} "
        f"| {100 * min(command.moments):.0f} to {100 * max(command.moments):.0f} "
        f"| {command.nothing_yet} | {command.bad_files} | {command.same} |"
        for command in tried
        if command.moments
    ]
    return f"""# Commands that were killed and resumed

As `python benchmarks/kill_resume.py --kills {kills}` wrote it: {kills} SIGKILLs at moments drawn
evenly over the time that a command takes undisturbed, each followed by a resumption. Same: every figure,
weight, mask, code, conductance, row of a table and card is that of the undisturbed command, bit for bit,
and nothing half-written is left. {missed} draws came after the command had ended, and were drawn again.

| command | s undisturbed | kills | at % of that time | before its folder was there | files damaged | same |
|---|--:|--:|--:|--:|--:|--:|
{chr(10).join(rows)}
| all | | {kills} | | {early} | {bad} | {same} |
"""


if __name__ == "__main__":
    main()
