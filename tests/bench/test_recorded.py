"""Records: a replay is what was read, nothing else is answered, and a run that was cut short goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from benchmarks.faulty_wire import Fault, FaultyWire
from device_models.crossbar import Wires
from device_models.folders import FolderInUseError
from hwloop.bench import BenchError, connect
from hwloop.hardware import (
    FastHardware,
    Hardware,
    RecordedHardware,
    RecordError,
    RecordingHardware,
    Resumable,
)
from hwloop.mapping import MapFileError
from tests.line.maps import card_with, map_of, random_layer

from .conftest import serving

CARD = card_with(read_noise=0.02, programming_error=2e-6)
MAP = map_of(random_layer("a", signed=True), random_layer("b", matrix_shape=(6, 5)), card=CARD)
OTHER = map_of(random_layer("a", signed=True, seed=9), random_layer("b", matrix_shape=(6, 5)), card=CARD)


def fast(seed: int = 1) -> FastHardware:
    return FastHardware(Wires(2.0, 2.0), seed=seed)


def x(layer: str, shift: float = 0.0) -> torch.Tensor:
    rows = MAP.layers[layer].matrix_shape[0]
    return torch.linspace(-1, 2 + shift, 4 * rows).reshape(4, rows)


def session(hardware: Hardware, steps: int = 7) -> list[torch.Tensor]:
    """A few exchanges of every kind; what was read, and what was programmed."""
    results: list[torch.Tensor] = []

    def programmed(part: tuple[str, ...] | None, conductance_map=MAP) -> None:
        done = hardware.program(conductance_map, part)
        results.extend(done.layers[name].actual for name in part or done.layers)

    plan = [
        lambda: programmed(None),
        lambda: results.append(hardware.read("a", x("a"))),
        lambda: results.append(hardware.read("b", x("b"))),
        lambda: results.append(hardware.read("a", x("a"))),
        lambda: programmed(("a",), OTHER),
        lambda: results.append(hardware.read("a", x("a"))),
        lambda: results.append(hardware.read("b", x("b"))),
    ]
    for step in plan[:steps]:
        step()
    return results


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


@pytest.fixture
def record(tmp_path: Path) -> Path:
    with RecordingHardware(fast(), tmp_path / "run.h5") as hardware:
        session(hardware)
    return tmp_path / "run.h5"


def test_recording_changes_nothing_and_a_replay_is_what_was_read(record: Path) -> None:
    assert same(session(RecordedHardware(record)), session(fast()))
    assert not record.with_name("run.h5.record").exists()


def test_a_replay_says_what_it_is(record: Path) -> None:
    replay = RecordedHardware(record)
    session(replay)
    assert replay.identity["backend"] == "recorded"
    assert replay.identity["recorded_backend"] == "fast"
    assert replay.identity["simulated"] is True


def test_a_replay_refuses_what_was_not_asked_then(record: Path) -> None:
    def after_programming() -> RecordedHardware:
        replay = RecordedHardware(record)
        replay.program(MAP)
        return replay

    with pytest.raises(RecordError, match=r"run.h5, exchange 0: program a, b was recorded, not read a"):
        RecordedHardware(record).read("a", x("a"))
    with pytest.raises(RecordError, match="with other values"):
        RecordedHardware(record).program(OTHER)
    with pytest.raises(RecordError, match="exchange 1: read a was recorded, not read b"):
        after_programming().read("b", x("b"))
    with pytest.raises(RecordError, match="with other values"):
        after_programming().read("a", x("a", 0.1))
    replay = RecordedHardware(record)
    session(replay)
    with pytest.raises(RecordError, match="exchange 7: the record ends here"):
        replay.read("a", x("a"))


def test_a_file_that_is_there_is_not_overwritten(record: Path) -> None:
    with pytest.raises(RecordError, match="is there already"):
        RecordingHardware(fast(), record)


@pytest.mark.parametrize("steps", range(1, 7))
def test_a_run_that_is_cut_short_goes_on_wherever_it_was(tmp_path: Path, steps: int) -> None:
    cut_after(tmp_path / "run.h5", fast(), steps)
    assert not (tmp_path / "run.h5").exists()
    with RecordingHardware(fast(), tmp_path / "run.h5") as hardware:
        results = session(hardware)
    assert same(results, session(fast()))
    assert same(session(RecordedHardware(tmp_path / "run.h5")), results)


def test_a_half_written_exchange_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    cut_after(tmp_path / "run.h5", fast(), 3)
    (tmp_path / "run.h5.record" / ".00000003.h5.1234.part").write_bytes(b"half")
    with RecordingHardware(fast(), tmp_path / "run.h5") as hardware:
        assert same(session(hardware), session(fast()))


def cut_after(path: Path, hardware: Resumable, steps: int) -> None:
    def run() -> None:
        with RecordingHardware(hardware, path) as recording:
            session(recording, steps)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()


def test_going_on_with_another_run_or_another_chip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    cut_after(path, fast(), 3)
    with pytest.raises(RecordError, match="with other values"), RecordingHardware(fast(), path) as hardware:
        hardware.program(OTHER)
    with (
        pytest.raises(RecordError, match=r"other hardware \(seed was 1, is 2\)"),
        RecordingHardware(fast(seed=2), path) as hardware,
    ):
        session(hardware)
    with (
        pytest.raises(RecordError, match="holds 3 exchanges of an earlier run, and this one asked for 1"),
        RecordingHardware(fast(), path) as hardware,
    ):
        session(hardware, 1)
    with RecordingHardware(fast(), path) as hardware:
        assert same(session(hardware), session(fast()))


def test_two_runs_do_not_make_one_record(tmp_path: Path) -> None:
    with RecordingHardware(fast(), tmp_path / "run.h5") as hardware:
        with pytest.raises(FolderInUseError), RecordingHardware(fast(), tmp_path / "run.h5"):
            pass
        session(hardware)


@pytest.mark.parametrize("driver", ["tile", "smu"])
def test_a_bench_that_is_lost_is_taken_up_where_it_was(tmp_path: Path, driver: str) -> None:
    small = map_of(random_layer("a", matrix_shape=(5, 4)), random_layer("b", matrix_shape=(6, 3)), card=CARD)

    def work(hardware: Hardware) -> list[torch.Tensor]:
        results = [hardware.program(small).layers["a"].actual]
        results += [
            hardware.read(name, torch.rand(1, rows, generator=torch.Generator().manual_seed(1)))
            for name, rows in (("a", 5), ("b", 6), ("a", 5))
        ]
        results.append(hardware.program(small, ["b"]).layers["b"].actual)
        results.append(hardware.read("a", torch.ones(1, 5)))
        return results

    with serving(CARD) as server:
        undisturbed = work(connect(f"127.0.0.1:{server.port}", driver=driver))
    with serving(CARD) as server:
        for attempt in range(1, 200):
            # Every time the wire breaks for good a little later, wherever that is: in a write, in a read.
            lost = attempt * (12 if driver == "tile" else 150)
            choose = lambda _, number, lost=lost: Fault.CUT if number >= lost else Fault.NONE  # noqa: E731
            with FaultyWire(server.port, choose) as wire:
                try:
                    hardware = connect(wire.address, driver=driver, attempts=2)
                    with RecordingHardware(hardware, tmp_path / "run.h5") as recording:
                        results = work(recording)
                    break
                except BenchError:
                    continue
        assert attempt > 2
    assert same(results, undisturbed)
    assert same(work(RecordedHardware(tmp_path / "run.h5")), undisturbed)


def change(path: Path, how: str) -> None:
    with h5py.File(path, "r+") as file:
        exchanges = file["exchanges"]
        read = exchanges["00000001/arrays"]
        if how == "soft link":
            del read["outputs"]
            read["outputs"] = h5py.SoftLink("/exchanges/00000002/arrays/outputs")
        elif how == "external link":
            del exchanges["00000001"]
            exchanges["00000001"] = h5py.ExternalLink("/etc/passwd", "/")
        elif how == "claims too much":
            attributes = dict(read["outputs"].attrs)
            del read["outputs"]
            data = read.create_dataset(
                "outputs", shape=(1 << 40, 12), dtype="<f4", chunks=(1, 12), compression=2, shuffle=True
            )
            data.attrs.update(attributes)
        elif how == "facts":
            facts = exchanges["00000001/facts"]
            attributes = {name: facts.attrs[name] for name in ("description", "sha256")}
            del exchanges["00000001/facts"]
            text = json.dumps({"layers": 3}).encode()
            replaced = exchanges["00000001"].create_dataset(
                "facts", data=np.array(text, dtype=f"S{len(text)}")
            )
            replaced.attrs.update(attributes)
        elif how == "kind":
            exchanges["00000001"].attrs["kind"] = np.array(b"burn", dtype="S4")
        elif how == "values":
            values = read["outputs"][()]
            values[0, 0] += 1
            read["outputs"][...] = values
        elif how == "format":
            file.attrs["format"] = np.array(b"x", dtype="S1")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("soft link", "link to somewhere else"),
        ("external link", "link to somewhere else"),
        ("claims too much", "can hold|must be stored|fixed length|missing|damaged"),
        ("facts", "checksum differs"),
        ("kind", "must be program or read"),
        ("values", "checksum differs"),
        ("format", "not hwloop-hardware-record"),
    ],
)
def test_a_hostile_or_damaged_record_is_one_line(record: Path, how: str, said: str) -> None:
    change(record, how)
    with pytest.raises((RecordError, MapFileError), match=said):
        session(RecordedHardware(record), 3)


def test_a_record_that_is_cut_off_or_no_record_is_one_line(record: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.h5"
    cut.write_bytes(record.read_bytes()[:3000])
    with pytest.raises((RecordError, MapFileError), match=r"cut\.h5"):
        session(RecordedHardware(cut))
    with pytest.raises(MapFileError, match="no such file"):
        RecordedHardware(tmp_path / "none.h5")


def test_a_damaged_exchange_of_an_unfinished_record_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    cut_after(path, fast(), 3)
    folder = path.with_name("run.h5.record")
    shutil.copy(folder / "00000000.h5", folder / "00000001.h5")
    with (
        pytest.raises(RecordError, match="exchange 1: program a, b was recorded, not read a"),
        RecordingHardware(fast(), path) as hardware,
    ):
        session(hardware)
