"""Transition levels from a file: what was measured is what converts, and every mistake names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_models.converters import TransferFileError, measured

GOOD = "# unit: LSB\ncode,threshold\n1,0.4\n2,1.7\n3,2.6\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        file = tmp_path / "adc.csv"
        file.write_text(text, "utf-8")
        return file

    return write


def test_levels_in_lsb_are_the_thresholds_of_every_adc(write) -> None:
    transfer = measured(write(GOOD), adcs=2, noise=0.1)
    assert transfer.thresholds.tolist() == [[0.4, 1.7, 2.6]] * 2
    assert transfer.bits == 2
    assert transfer.noise == 0.1


@pytest.mark.parametrize("unit", ["V", "A"])
def test_levels_in_another_unit_are_divided_by_the_lsb(write, unit: str) -> None:
    text = (
        f"# board 7, 25 degrees\n# unit: {unit}\n# lsb: 2e-3\n\ncode, threshold\n1, 1e-3\n2, 3e-3\n3, 3e-3\n"
    )
    assert measured(write(text)).thresholds.tolist() == [pytest.approx([0.5, 1.5, 1.5])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: no unit; begin with a line such as '# unit: LSB'"),
        ("code,threshold\n1,0.5\n", ":1: no unit"),
        ("# unit: mV\n", ":1: unit 'mV' is not known; give LSB, V or A"),
        ("# unit: V\ncode,threshold\n1,0.5\n", ":1: thresholds in V need the size of one LSB; add"),
        ("# unit: A\n# lsb: -1\ncode,threshold\n1,0.5\n", ":2: lsb must be a positive number of A, not '-1'"),
        ("# unit: A\n# lsb: 1uA\ncode,threshold\n1,0.5\n", ":2: lsb must be a positive number"),
        ("# unit: LSB\n# lsb: 2\n" + GOOD, ":2: thresholds in LSB need no lsb; remove"),
        ("# unit: LSB\n", ":2: the first row must name the columns: code,threshold"),
        ("# unit: LSB\n1,0.5\n", ":2: the first row must name the columns"),
        (GOOD.replace("2,1.7", "2,0.3"), ":4: threshold of code 2 lies below the one before; give"),
        (GOOD.replace("2,1.7", "2,x"), ":4: threshold 'x' of code 2 must be a finite number"),
        (GOOD.replace("2,1.7", "2,inf"), ":4: threshold 'inf' of code 2 must be a finite number"),
        (GOOD.replace("2,1.7", "4,1.7"), ":4: code '4' where 2 must come; list each code once"),
        (GOOD.replace("2,1.7", "2,1.7,9"), ":4: 3 values; a row is code,threshold"),
        (GOOD + "4,3.5\n", r":6: 4 thresholds; a curve has 2\^bits - 1"),
        ("# unit: LSB\ncode,threshold\n", ":2: 0 thresholds"),
    ],
)
def test_mistakes_name_file_line_and_fix(write, text: str, message: str) -> None:
    with pytest.raises(TransferFileError, match=r"adc\.csv" + message):
        measured(write(text))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(TransferFileError, match=r"none\.csv: no such file"):
        measured(tmp_path / "none.csv")
    with pytest.raises(TransferFileError, match="cannot be read"):
        measured(tmp_path)
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TransferFileError, match="not UTF-8"):
        measured(binary)
    binary.write_bytes(b"#" * ((1 << 23) + 1))
    with pytest.raises(TransferFileError, match="larger than"):
        measured(binary)
    with pytest.raises(ValueError, match="at least 1 ADC"):
        measured(binary, adcs=0)
