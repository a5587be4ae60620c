"""Thousands of damaged and deceiving files of each kind: none may crash, hang, swell or pass for another.

    python benchmarks/fuzz_files.py --each 10000 --out docs/results/hostile-files.md

Files are mutated with fixed seeds and read in worker processes that are watched from outside: a worker that
ends is a crash, one that says nothing for ten seconds hangs. A file whose checksums the mutation left as they
were must hold what it held before, or be refused; a refusal is a ValueError or OSError of one printable line.
"""

from __future__ import annotations

import argparse
import re
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # mutations are those of the tests

HANG_SECONDS = 10
MEMORY_MIB = 1024
COLUMNS = {
    "refused": "refused in one line",
    "screened": "of which the HDF5 library would have crashed, run on or swollen",
    "same": "read as before",
    "other": "read as another file that is whole",
    "changed": "changed and accepted in silence",
    "many-lines": "refused in more than one line",
    "fault": "error that is no refusal",
    "crash": "crash",
    "hang": "hang (> 10 s)",
    "memory": "memory > 1 GiB",
}


def main() -> None:
    """Fuzz every kind and print a table; exits with 1 if any file did harm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=1000, help="mutated files of each kind")
    parser.add_argument("--kind", action="append", help="one kind only")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--worker", nargs=3, metavar=("KIND", "FIRST", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        kind, first, folder = arguments.worker
        return work(kind, int(first), arguments.each, Path(folder))
    from tests.files.kinds import all_kinds

    with tempfile.TemporaryDirectory() as folder:
        names = arguments.kind or list(all_kinds(Path(folder)))
    rows = {}
    for name in names:
        rows[name] = campaign(name, arguments.each)
        print(name, *rows[name], file=sys.stderr, flush=True)
    text = table(rows, arguments.each)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    harm = ("changed", "many-lines", "fault", "crash", "hang", "memory")
    sys.exit(any(counts[what] for counts, _, _ in rows.values() for what in harm))


def campaign(name: str, each: int) -> tuple[Counter[str], float, int]:
    """Return what became of the files of one kind, the seconds it took, and the most memory in MiB."""
    counts: Counter[str] = Counter()
    started, most, seed = time.monotonic(), 0, 0
    while seed < each:
        with tempfile.TemporaryDirectory() as folder:
            worker = subprocess.Popen(
                [sys.executable, __file__, "--each", str(each), "--worker", name, str(seed), folder],
                stdout=subprocess.PIPE,
            )
            assert worker.stdout is not None
            wait = 60.0  # it has to import everything first
            while seed < each:
                if not select.select([worker.stdout], [], [], wait)[0]:
                    outcome, memory = "hang", 0
                elif line := worker.stdout.readline():
                    _, outcome, memory = line.decode().split()
                else:
                    outcome, memory = "crash", 0
                most = max(most, int(memory))
                for what in outcome.split("+"):
                    counts[what] += 1
                if set(outcome.split("+")) & {"crash", "hang", "memory", "changed", "fault", "many-lines"}:
                    print(f"{name}: seed {seed}: {outcome}", file=sys.stderr, flush=True)
                seed += 1
                wait = HANG_SECONDS
                if outcome in ("hang", "crash"):
                    break
            worker.kill()
            worker.wait()
    return counts, time.monotonic() - started, most


def work(name: str, first: int, each: int, folder: Path) -> None:
    """Read mutated files, one line on standard output for each: seed, what became of it, memory in MiB."""
    from tests.files.kinds import all_kinds

    kind = all_kinds(folder)[name]
    path = folder / "mutated" / kind.file
    path.parent.mkdir()
    whole = {}
    for data in kind.examples:
        path.write_bytes(data)
        whole[data] = kind.read(path)
    for seed in range(first, each):
        example, data, must_stay = kind.mutated(seed)
        path.write_bytes(data)
        Path("/proc/self/clear_refs").write_text("5")  # peak of the resident memory starts anew
        try:
            same = kind.read(path) == whole[example]
            outcome = "same" if same else "changed" if must_stay else "other"
        except (ValueError, OSError) as error:
            text = str(error)
            outcome = "refused" if text.isprintable() and len(text) < 2000 else "many-lines"
            if "structures crash the HDF5" in text or "structures take more than" in text:
                outcome += "+screened"
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is counted
            print(f"{name}: seed {seed}: {type(error).__name__}: {error}"[:300], file=sys.stderr)
            outcome = "fault"
        memory = peak_mib()
        print(seed, outcome + ("+memory" if memory > MEMORY_MIB else ""), memory, flush=True)


def peak_mib() -> int:
    """Peak of the resident memory of this process since it was last reset, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) >> 10 if found else 0


def table(rows: dict[str, tuple[Counter[str], float, int]], each: int) -> str:
    """Return a Markdown page."""
    lines = [
        "# Mutated files",
        "",
        f"Made by `python benchmarks/fuzz_files.py --each {each}`, one worker at a time.",
        "",
        "| | " + " | ".join(rows) + " |",
        "|---|" + "---:|" * len(rows),
        "| files | " + " | ".join(str(each) for _ in rows) + " |",
    ]
    for what, title in COLUMNS.items():
        lines.append(f"| {title} | " + " | ".join(str(counts[what]) for counts, _, _ in rows.values()) + " |")
    lines.append("| peak memory, MiB | " + " | ".join(str(most) for _, _, most in rows.values()) + " |")
    lines.append("| ms per file | " + " | ".join(f"{1e3 * s / each:.1f}" for _, s, _ in rows.values()) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
