"""The pool: whatever happens to one worker or one circuit, every other job's result arrives."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from device_models.crossbar import Wires
from spice_netlists import Job, SpiceError, column_currents, crossbar_read, find_ngspice, run_jobs

from .circuits import Dying, Sleeper, Text

SINGULAR = ".title two sources on one node\nVa out 0 1\nVb out 0 2\nVout out 0 0\n.op\n.end\n"
NONSENSE = ".title no such element\nVout out 0 0\nQwerty out 0\n.op\n.end\n"
# No solution exists: the current of a source that grows faster than any resistor can carry.
DIVERGING = ".title diverging\nVin in 0 1\nR1 in x 1\nBx 0 x i={1+exp(abs(v(x)))}\nVout out 0 0\n.op\n.end\n"


def good(count, first=0):
    return [Job(f"good-{first + k}", Text()) for k in range(count)]


def outcome(jobs, **settings):
    return {result.job.label: result for result in run_jobs(jobs, **settings)}


def check_good(results, count):
    for k in range(count):
        assert results[f"good-{k}"].values == pytest.approx(np.array([[0.5e-3]]), rel=1e-12)


@pytest.mark.ngspice
@pytest.mark.parametrize("text", [SINGULAR, NONSENSE, DIVERGING], ids=["singular", "nonsense", "diverging"])
def test_an_unsolvable_circuit_is_retried_reported_and_kept_and_the_others_arrive(text, tmp_path):
    folder = tmp_path / "failed"
    results = outcome(
        [*good(2), Job("bad: tile 1/../x", Text(text)), *good(2, 2)], workers=2, keep_failed=folder
    )
    check_good(results, 4)
    failed = results["bad: tile 1/../x"]
    assert failed.values is None
    assert failed.attempts == 2
    assert failed.error
    assert "\n" not in failed.error
    assert failed.netlist is not None
    assert failed.netlist.parent == folder
    assert [path.name for path in folder.iterdir()] == ["bad_tile_1_x.cir"]
    assert text.splitlines()[1] in failed.netlist.read_text()


@pytest.mark.ngspice
def test_a_short_sweep_is_no_result():
    failed = outcome([Job("short", Text(points=2))], workers=1)["short"]
    assert failed.values is None


@pytest.mark.ngspice
def test_a_job_over_its_time_limit_is_given_up_and_the_others_arrive():
    results = outcome([*good(1), Job("sleeper", Sleeper()), *good(3, 1)], workers=2, time_limit=4.0)
    check_good(results, 4)
    assert results["sleeper"].values is None
    assert results["sleeper"].error == "no answer within 4 s"
    assert results["sleeper"].attempts == 1


@pytest.mark.ngspice
def test_a_circuit_that_crashes_its_worker_is_given_up_and_the_others_arrive():
    results = outcome([*good(1), Job("dying", Dying()), *good(3, 1)], workers=2)
    check_good(results, 4)
    assert results["dying"].error == "the worker ended with status 3"


@pytest.mark.ngspice
def test_a_worker_killed_in_the_middle_of_a_job_costs_no_result():
    rng = np.random.default_rng(0)
    reads = [
        crossbar_read(
            rng.uniform(1e-6, 4e-5, (32, 32)), Wires(2.0, 2.0), rng.uniform(0, 0.2, (40, 32)), "busy"
        )
        for _ in range(4)
    ]
    undisturbed = outcome([Job(f"{k}", read) for k, read in enumerate(reads)], workers=2)
    victims = []

    def kill_one():
        while not victims:
            for process in workers():
                time.sleep(0.7)
                os.kill(process.pid, signal.SIGKILL)
                victims.append(process.pid)
                break

    killer = threading.Thread(target=kill_one)
    killer.start()
    results = outcome([Job(f"{k}", read) for k, read in enumerate(reads)], workers=2)
    killer.join()
    assert victims
    for label, result in results.items():
        assert result.error == ""
        assert np.allclose(result.values, undisturbed[label].values, rtol=1e-9, atol=1e-18)


@pytest.mark.ngspice
def test_leaving_the_loop_early_stops_the_workers():
    before = workers()
    for result in run_jobs([*good(1), Job("a", Sleeper()), Job("b", Sleeper()), *good(50, 1)], workers=2):
        assert result.values is not None
        break
    del result
    assert workers() <= before


@pytest.mark.ngspice
def test_jobs_are_taken_as_workers_become_free_not_all_at_once():
    taken = []

    def source():
        for job in good(40):
            taken.append(job)
            yield job

    results = run_jobs(source(), workers=1)
    next(results)
    assert len(taken) < 5
    results.close()


@pytest.mark.ngspice
def test_an_error_of_the_job_source_reaches_the_caller_and_stops_the_workers():
    def source():
        yield from good(2)
        raise ValueError("the source broke")

    before = workers()
    with pytest.raises(ValueError, match="the source broke"):
        list(run_jobs(source(), workers=2))
    assert workers() <= before


@pytest.mark.ngspice
def test_a_netlist_that_cannot_be_kept_is_said_and_does_not_stop_the_run(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    results = outcome([Job("bad", Text(SINGULAR)), *good(1)], workers=1, keep_failed=blocked)
    check_good(results, 1)
    assert "could not be kept" in results["bad"].error


WITHOUT_DISK = """
import resource, sys
from pathlib import Path
from tests.spice.circuits import Text
from spice_netlists import Job, run_jobs

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    jobs = [Job("good-0", Text()), Job("bad", Text({singular!r})), Job("good-1", Text())]
    for result in run_jobs(jobs, workers=2, keep_failed=Path(sys.argv[1])):
        print(result.job.label, result.values, result.error)
"""


@pytest.mark.ngspice
def test_without_a_byte_of_disk_the_other_results_arrive_and_the_failed_job_says_why(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(WITHOUT_DISK.format(singular=SINGULAR))
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-B", script, tmp_path / "kept"],
        env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines["good-0"].strip() == lines["good-1"].strip() == "[[0.0005]]", done.stderr
    assert "could not be kept" in lines["bad"]
    assert "File too large" in lines["bad"]
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.ngspice
def test_a_worker_killed_at_every_attempt_is_one_clear_line():
    def kill_all():
        while not over:
            for process in workers():
                os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.1)

    over = []
    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        (result,) = run_jobs([Job("sleeper", Sleeper())], workers=1, time_limit=60.0)
    finally:
        over.append(True)
        killer.join()
    assert result.error == "the worker was ended by SIGKILL"
    assert result.attempts == 2


@pytest.mark.ngspice
def test_the_memory_of_a_worker_stays_flat():
    rng = np.random.default_rng(0)
    g, v = rng.uniform(1e-6, 4e-5, (8, 8)), rng.uniform(0, 0.2, (2, 8))
    jobs = (Job(f"{k}", crossbar_read(g, Wires(2.0, 2.0), v, "flat")) for k in range(300))
    resident, before = [], workers()
    for done, _ in enumerate(run_jobs(jobs, workers=1)):
        if done in (50, 250):
            (worker,) = workers() - before
            resident.append(resident_bytes(worker.pid))
    assert resident[1] - resident[0] < 8 * 2**20  # what is not freed adds up to ten times that


def workers():
    """Child processes, but for those of a Dask cluster that tests share: its nanny starts them again."""
    return {child for child in multiprocessing.active_children() if "Dask" not in child.name}


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.ngspice
def test_the_installed_ngspice_is_described():
    install = find_ngspice()
    assert install.version[0].isdigit()
    assert isinstance(install.klu, bool)


def test_without_ngspice_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setenv("NGSPICE_LIBRARY_PATH", "libno-such-ngspice.so")
    monkeypatch.setenv("PATH", "")
    assert find_ngspice() is None
    with pytest.raises(SpiceError, match="libngspice0"):
        column_currents([[1e-5]], Wires(0.0, 0.0), [[0.1]])


@pytest.mark.parametrize("settings", [{"workers": 0}, {"time_limit": 0.0}, {"time_limit": float("nan")}])
def test_senseless_settings_are_refused(settings):
    with pytest.raises(ValueError, match="positive"):
        list(run_jobs([], **settings))
