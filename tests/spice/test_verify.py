"""The check of the fast solver: what it finds, what it samples, and that it never passes unrun."""

import json
import re
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from device_models.converters import draw_capacitors
from device_models.crossbar import Wires, effective_conductance
from hwloop.cli.common import new_app
from hwloop.cli.verify import verify_command
from hwloop.hardware.fast import FastHardware
from hwloop.mapping import write_map
from hwloop.recipe import Readout
from hwloop.verify import verify

from .maps import random_map

WIRES = Wires(word_line=2.0, bit_line=3.0, driver=50.0, sense=80.0)


@pytest.mark.ngspice
def test_the_fast_solver_passes_on_small_tiles_with_room_to_spare():
    report = verify(random_map([(20, 9), (8, 8)]), WIRES, tiles=3, inputs=3)
    assert report.passed
    assert report.tiles_checked == 3
    assert len(report.arrays) == 6
    assert report.max_error < 1e-12
    assert report.max_error_of_largest < 1e-11
    assert report.typical_error <= report.max_error
    assert report.ngspice
    json.dumps(report.as_dict(), allow_nan=False)


@pytest.mark.ngspice
def test_polarised_tiles_pass_too_one_array_each():
    conductance_map = random_map([(20, 9)], fragment=4)
    report = verify(conductance_map, WIRES, Readout(rows_at_once=4), tiles=2, inputs=3)
    assert report.passed, report.reason
    assert len(report.arrays) == report.tiles_checked == 2
    assert [station.status for station in report.stations] == ["passed"] * 3


@pytest.mark.ngspice
def test_a_wrong_solver_fails(monkeypatch):
    def forgets_the_sense(g, wires):
        return effective_conductance(g, replace(wires, sense=0.0))

    monkeypatch.setattr("hwloop.verify.check.effective_conductance", forgets_the_sense)
    report = verify(random_map([(8, 8)]), WIRES, tiles=1, columns=0)
    assert report.status == "failed"
    assert "differ by more than 1e-06" in report.reason
    assert report.max_error > 1e-6


@pytest.mark.ngspice
@pytest.mark.parametrize(
    "adc",
    [
        {"kind": "uniform"},
        {"kind": "sar", "unit_capacitor_mismatch": 0.05, "comparator_offset": 0.6},
        {"kind": "flash", "threshold_offset": 0.4},
        {"kind": "ramp", "curvature": 0.8},
    ],
    ids=lambda adc: adc["kind"],
)
def test_amplifiers_and_adcs_of_a_readout_are_checked_as_circuits(adc):
    readout = Readout.model_validate({"adc": adc})
    report = verify(random_map([(20, 9)]), WIRES, readout, tiles=2, inputs=3, columns=5)
    assert report.passed, report.reason
    currents, amplifier, codes = report.stations
    assert currents.worst == report.max_error
    assert [station.status for station in report.stations] == ["passed"] * 3
    assert amplifier.reads == codes.reads > 20
    assert 0 < amplifier.worst < 0.02
    assert codes.judged == 0
    assert report.as_dict()["stations"][2]["name"] == "ADC code"


@pytest.mark.ngspice
def test_an_adc_that_its_model_does_not_know_fails_at_its_station(monkeypatch):
    def forgets_the_offset(bits, adcs, *names, **figures):
        return draw_capacitors(bits, adcs, *names, unit_capacitor_mismatch=figures["unit_capacitor_mismatch"])

    monkeypatch.setattr("hwloop.verify.readout.draw_capacitors", forgets_the_offset)
    readout = Readout.model_validate({"adc": {"kind": "sar", "comparator_offset": 3.0}})
    report = verify(random_map([(8, 8)]), WIRES, readout, tiles=1, inputs=2)
    assert [station.status for station in report.stations] == ["passed", "passed", "failed"]
    assert report.status == "failed"
    assert "ADC code: 0." in report.reason or "ADC code: 1 " in report.reason


@pytest.mark.ngspice
@pytest.mark.parametrize(
    ("readout", "reason"),
    [({"subtraction": "analog"}, "no circuit"), ({"adc_bits": 12, "adc_lsb": 0.01}, "1 to 10 bits")],
)
def test_readouts_without_a_circuit_are_not_run_and_say_so(readout, reason):
    report = verify(random_map([(8, 8)]), WIRES, Readout.model_validate(readout), tiles=1, inputs=1)
    assert report.passed
    assert [station.status for station in report.stations] == ["passed", "not run", "not run"]
    assert reason in report.stations[2].reason


@pytest.mark.ngspice
def test_programmed_conductances_are_the_ones_that_are_checked():
    target = random_map([(8, 8)])
    hardware = FastHardware(WIRES, Readout(dac_bits=4), seed=1)
    programmed = hardware.program(target)
    stuck = programmed.layers["fc0"]
    stuck = replace(stuck, actual=torch.full_like(stuck.actual, 5e-6))
    report = verify(replace(programmed, layers={"fc0": stuck}), WIRES, tiles=1, columns=0)
    assert report.passed
    assert all(array.cells == 64 for array in report.arrays)


@pytest.mark.ngspice
def test_the_sample_depends_on_the_seed_alone():
    conductance_map = random_map([(60, 8), (40, 8)])

    def arrays(seed, workers):
        report = verify(conductance_map, WIRES, tiles=3, inputs=1, columns=0, seed=seed, workers=workers)
        return [replace(array, seconds=0.0) for array in report.arrays]

    assert arrays(5, 1) == arrays(5, 2)
    assert arrays(5, 2) != arrays(6, 2)


@pytest.mark.ngspice
def test_a_map_with_fewer_tiles_is_checked_whole():
    assert verify(random_map([(8, 8)]), WIRES, tiles=10, inputs=1, columns=0).tiles_checked == 1


@pytest.mark.ngspice
def test_arrays_that_ngspice_cannot_solve_fail_with_the_reason_and_the_netlist(monkeypatch, tmp_path):
    seen = []
    report = verify(
        random_map([(8, 8)]),
        WIRES,
        tiles=1,
        time_limit=1e-6,
        keep_failed=tmp_path,
        progress=lambda *a: seen.append(a),
    )
    assert report.status == "failed"
    assert report.max_error is None
    assert "could not solve 2 of 2" in report.reason
    assert str(tmp_path) in report.arrays[0].failure
    assert len(list(tmp_path.glob("*.cir"))) == 2
    assert [fraction for fraction, _ in seen] == [0.4, 0.8, 1.0]


@pytest.fixture
def no_ngspice(monkeypatch):
    monkeypatch.setenv("NGSPICE_LIBRARY_PATH", "libno-such-ngspice.so")
    monkeypatch.setenv("PATH", "")


def test_without_ngspice_it_is_not_run_and_never_passed(no_ngspice):
    report = verify(random_map([(8, 8)]), WIRES)
    assert report.status == "not run"
    assert not report.passed
    assert report.tiles_checked == 0
    assert "libngspice0" in report.reason


def test_a_check_of_no_tile_is_not_run():
    assert verify(random_map([(8, 8)]), WIRES, tiles=0).status == "not run"


@pytest.mark.parametrize("settings", [{"tiles": -1}, {"inputs": 0}, {"columns": -1}])
def test_senseless_samples_are_refused(settings):
    with pytest.raises(ValueError, match="must"):
        verify(random_map([(8, 8)]), WIRES, **settings)


def command(*arguments):
    app = new_app()
    app.command()(verify_command)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["verify-command", *map(str, arguments)], env={"COLUMNS": "80"})


@pytest.mark.ngspice
def test_the_command_prints_a_table_of_at_most_80_columns(tmp_path):
    write_map(random_map([(20, 9)]), tmp_path / "maps.h5")
    result = command(tmp_path / "maps.h5", "--tiles", 2)
    assert result.exit_code == 0, result.output
    assert "positive" in result.stdout
    assert re.search(r"array current +\S+ +\S+ +full scale +1e-06 +\d+ +0 +passed", result.stdout)
    assert re.search(r"ADC code +0.0e\+00 +0.0e\+00 +codes +0.1 % differ +\d+ +\d+ +passed", result.stdout)
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.ngspice
def test_the_command_prints_one_json_object(tmp_path):
    write_map(random_map([(20, 9)]), tmp_path / "maps.h5")
    result = command(tmp_path / "maps.h5", "--tiles", 2, "--json")
    assert json.loads(result.stdout)["status"] == "passed"


def test_the_command_without_ngspice_fails_in_one_line(tmp_path, no_ngspice):
    write_map(random_map([(20, 9)]), tmp_path / "maps.h5")
    result = command(tmp_path / "maps.h5")
    assert result.exit_code == 1
    assert "not run" in result.stderr
    assert result.stdout == ""
