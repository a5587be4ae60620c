"""Measurement files: all comes out in SI units, and what is wrong is named with file, column and row."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from calibration import Measurement, MeasurementError, calibrate, read_measurements, write_measurements
from calibration.importers import (
    read_change_archive,
    read_change_tables,
    read_normalized_train,
    train_measurement,
)
from calibration.synthetic import MAKERS

LEVELS = "# kind: levels\n# temperature: 298 K\ndevice,target [uS],conductance [S]\n"


def csv(path: Path, text: str) -> Path:
    file = path / "levels.csv"
    file.write_text(text, "utf-8")
    return file


def test_csv_comes_out_in_si_units(tmp_path: Path) -> None:
    (table,) = read_measurements(csv(tmp_path, LEVELS + "1,10,9.9e-6\n2,20,2.1e-5\n"))
    assert (table.kind, table.temperature, len(table)) == ("levels", 298.0, 2)
    assert table["target"] == pytest.approx([10e-6, 20e-6])
    assert table["conductance"] == pytest.approx([9.9e-6, 2.1e-5])
    assert table.device.tolist() == [0, 1]


def test_hdf5_gives_back_what_was_written(tmp_path: Path) -> None:
    tables = {name.replace(" ", "-"): make(1, False)[0] for name, make in MAKERS.items()}
    write_measurements(tmp_path / "all.h5", tables)
    read = {table.source.split(":")[-1]: table for table in read_measurements(tmp_path / "all.h5")}
    assert read.keys() == tables.keys()
    for name, table in tables.items():
        assert read[name].kind == table.kind
        for column, values in table.columns.items():
            assert np.array_equal(read[name][column], values)


def test_hdf5_units_are_those_of_the_attributes(tmp_path: Path) -> None:
    write_measurements(tmp_path / "m.h5", {"t": MAKERS["I-V"](1, False)[0]})
    with h5py.File(tmp_path / "m.h5", "a") as file:
        before = file["t/voltage"][()]
        file["t/voltage"].attrs["unit"] = "mV"
    (table,) = read_measurements(tmp_path / "m.h5")
    assert table["voltage"] == pytest.approx(1e-3 * before)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n", r"levels.csv: no line '# kind: ...'"),
        ("# kind: level\nx\n", "unknown kind 'level'; known are levels"),
        (
            "# kind: levels\n# temperature: 25 C\n" + LEVELS.splitlines()[2] + "\n1,1,1e-6\n",
            "'# temperature: 298 K'",
        ),
        (LEVELS.replace(" [uS]", "") + "1,1,1\n", "column 'target' has no unit; write target .S."),
        (LEVELS.replace("[uS]", "[uV]") + "1,1,1\n", "column 'target': unit 'uV' is not one of S"),
        (LEVELS.replace("[uS]", "[MS]") + "1,1,1\n", "unit 'MS' is not one of S"),
        (
            LEVELS.replace("target", "wanted") + "1,1,1\n",
            "a table of kind levels has target .S., conductance",
        ),
        (LEVELS, "column 'device' is empty"),
        (LEVELS + "1,10,nan\n", "column 'conductance', row 1 is nan: it must be a finite number"),
        (LEVELS + "1,10,1e-5\n1,10,\n", "column 'conductance', row 2 is '', which is no number"),
        (LEVELS + "1,10\n", "line 4: 2 values, but 3 columns"),
        (LEVELS + "1,10,9.9\n", "column 'conductance': half of the conductances are above 10 mS"),
        (LEVELS + "1,-10,1e-5\n", "column 'target', row 1 is -1e-05: it must not be negative"),
        (
            LEVELS.replace("device,", "") + "10,1e-5\n" * 5,
            "5 readings of cells that are not stuck are too few",
        ),
    ],
)
def test_bad_csv_is_named_with_what_would_do(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        calibrate(read_measurements(csv(tmp_path, text)), "x")


def test_a_whole_table_may_be_of_one_wafer(tmp_path: Path) -> None:
    heading = LEVELS.replace("298 K\n", "298 K\n# wafer: 3\n")
    (table,) = read_measurements(csv(tmp_path, heading + "1,10,9.9e-6\n2,20,2.1e-5\n"))
    assert table["wafer"].tolist() == [3, 3]
    plain = MAKERS["variation"](1, False)[0]
    write_measurements(tmp_path / "m.h5", {"t": plain})
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file["t"].attrs["wafer"] = 5
    (read,) = read_measurements(tmp_path / "m.h5")
    assert set(read["wafer"]) == {5.0}
    with pytest.raises(MeasurementError, match=r"levels.csv: wafer is 'W3'; give its number"):
        read_measurements(csv(tmp_path, heading.replace("wafer: 3", "wafer: W3") + "1,10,9.9e-6\n"))
    with pytest.raises(MeasurementError, match="as a column and for the whole table; keep one"):
        read_measurements(csv(tmp_path, heading.replace("device,", "wafer,device,") + "1,1,10,9.9e-6\n"))


def test_wafers_must_be_known_for_all_files_and_devices() -> None:
    table = MAKERS["variation over wafers"](1, False)[0]
    unknown = Measurement("levels", MAKERS["variation"](1, False)[0].columns, 298.0, "plain.csv")
    with pytest.raises(MeasurementError, match=r"plain.csv: no column 'wafer', but other files have it"):
        calibrate([table, unknown], "x")
    device = np.array([1.0, 1.0, 2.0, 2.0])
    columns = {"device": device, "target": np.full(4, 1e-5), "conductance": np.full(4, 1e-5)}
    places = {"wafer": np.array([1.0, 1.0, 2.0, 2.0]), "array": np.array([1.0, 1.0, 1.0, 2.0])}
    with pytest.raises(
        MeasurementError, match=r"column 'array', row 4: device 2 was in another array before"
    ):
        Measurement("levels", columns | places, 298.0, "x.csv")


def iv(voltages: list[float]) -> Measurement:
    v = np.array(voltages)
    return Measurement("iv", {"voltage": v, "current": 1e-5 * v}, 298.0, "sweep.csv")


def test_a_sweep_that_goes_to_and_fro_is_refused() -> None:
    iv([0, 0.1, 0.2, 0.1, 0.0, -0.1, 0.0])  # up, down and back is one sweep
    with pytest.raises(
        MeasurementError, match=r"sweep\.csv: column 'voltage', row 4: the sweep is not monotone"
    ):
        iv([0, 0.2, 0.1, 0.3, 0.2, 0.4, 0.3])
    with pytest.raises(MeasurementError, match="row 3 repeats the one before"):
        iv([0, 0.1, 0.1])


def test_mixed_temperatures_are_refused() -> None:
    one, other = MAKERS["I-V"](1, False)[0], MAKERS["read noise"](1, False)[0]
    hot = Measurement(other.kind, other.columns, 358.0, "hot.csv")
    with pytest.raises(
        MeasurementError, match=r"hot.csv: mixed temperatures: 358 K, but synthetic is at 298 K"
    ):
        calibrate([one, hot], "x")
    table, _ = MAKERS["drift"](1, False)
    warm = {**table.columns, "temperature": np.where(table.device < 50, 300.0, 350.0)}
    with pytest.raises(
        MeasurementError, match=r"mixed temperatures .300 and 350 K.; give one, or three or more"
    ):
        calibrate([Measurement("retention", warm, 300.0, "r.csv")], "x")


def test_uneven_and_short_traces_are_refused() -> None:
    time = np.arange(100.0)
    time[50] += 0.4
    uneven = Measurement("read-noise", {"time": time, "conductance": np.full(100, 1e-5)}, 298.0, "t.csv")
    with pytest.raises(MeasurementError, match="column 'time', row 51: readings are not evenly spaced"):
        calibrate([uneven], "x")
    short = Measurement("read-noise", {"time": time[:9], "conductance": np.full(9, 1e-5)}, 298.0, "t.csv")
    with pytest.raises(MeasurementError, match=r"t.csv: 9 readings of a trace are too few"):
        calibrate([short], "x")


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.xls").write_text("x")
    with pytest.raises(MeasurementError, match=r"are .csv, .h5 or .hdf5 files"):
        read_measurements(tmp_path / "m.xls")
    (tmp_path / "m.h5").write_text("x")
    with pytest.raises(MeasurementError, match=r"m.h5: not an HDF5 file"):
        read_measurements(tmp_path / "m.h5")
    with pytest.raises(FileNotFoundError):
        read_measurements(tmp_path / "none.h5")


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    table, _ = MAKERS["I-V"](1, False)
    write_measurements(tmp_path / "m.h5", {"t": table})
    before = (tmp_path / "m.h5").read_bytes()
    with pytest.raises((TypeError, ValueError)):
        write_measurements(tmp_path / "m.h5", {"t": table, "t/kind/x": table, "": table})
    assert (tmp_path / "m.h5").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.h5"]


def test_change_tables_become_pulses_with_their_distribution(tmp_path: Path) -> None:
    g, cdf = np.array([1e-4, 2e-4]), np.linspace(0, 1, 11)
    lines = ["heading", ",".join(map(str, g)), ",".join(map(str, cdf))]
    lines += [",".join(str(p * 1e-6 * (k + 1)) for k in range(2)) for p in cdf]
    for name in ("up.txt", "down.txt"):
        (tmp_path / name).write_text("\n".join(lines), "utf-8")
    table = read_change_tables(tmp_path / "up.txt", tmp_path / "down.txt")
    rows = (table["up"] == 1) & (table["before"] == 2e-4)
    change = (table["after"] - table["before"])[rows]
    assert np.quantile(change, [0.25, 0.5, 0.75]) == pytest.approx([0.5e-6, 1e-6, 1.5e-6], rel=0.03)
    np.savez(tmp_path / "t.npz", G_bins_S=g, cdf=cdf, dG_set_S=np.outer(cdf, [1e-6, 2e-6]))
    with pytest.raises(MeasurementError, match="has no array dG_reset_S"):
        read_change_archive(tmp_path / "t.npz")
    (tmp_path / "up.txt").write_text("h\n1,x\n", "utf-8")
    with pytest.raises(MeasurementError, match="expected lines of numbers"):
        read_change_tables(tmp_path / "up.txt", tmp_path / "down.txt")


def test_a_normalized_train_needs_its_conductances(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("-1,1\n0,0.5\n1,-1\n")
    up, down = read_normalized_train(tmp_path / "t.csv")
    table = train_measurement(up, down, 1e-5, 1e-4, "t")
    assert table["conductance"] == pytest.approx([1e-5, 5.5e-5, 1e-4, 1e-4, 7.75e-5, 1e-5])
    assert table["up"].tolist() == [1, 1, 1, 0, 0, 0]
