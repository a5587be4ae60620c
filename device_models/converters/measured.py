"""Transfer curves that were measured: transition levels in a CSV file."""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch

from .bank import MAX_BITS
from .transfer import Transfer

MAX_FILE_BYTES = 1 << 23
_HEADER = re.compile(r"#\s*(unit|lsb)\s*:\s*(\S+)\s*")


class TransferFileError(ValueError):
    """A file of transition levels that cannot be used; the message names the file, the line and the fix."""


def measured(file: str | Path, adcs: int = 1, noise: float = 0.0) -> Transfer:
    """Return a bank of ADCs that all have the curve of a CSV file of transition levels.

    The file begins with its unit, and with the size of one LSB if that unit is volt or ampere; then come the
    columns ``code,threshold`` for the codes 1 to ``2^bits - 1``, where the threshold is the input from which
    the code, or a higher one, is returned::

        # unit: V
        # lsb: 0.001
        code,threshold
        1,0.00052
        2,0.00149
        3,0.00251

    Args:
        file: the CSV file; at most 8 MiB.
        adcs: number of ADCs in the bank.
        noise: rms noise at the input, in LSB.

    Raises:
        TransferFileError: if the file cannot be read or does not hold such a curve.
        ValueError: if there are fewer than 1 ADCs or the noise is negative.
    """
    if adcs < 1:
        raise ValueError(f"a bank has at least 1 ADC, not {adcs}")
    path = Path(file)
    lines = [(number, line.strip()) for number, line in enumerate(_read(path).splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line]
    headers = [(number, line) for number, line in lines if line.startswith("#")]
    rows = [(number, line) for number, line in lines if not line.startswith("#")]
    lsb = _lsb(path, headers)
    if not rows or [name.strip() for name in rows[0][1].split(",")] != ["code", "threshold"]:
        line = rows[0][0] if rows else len(headers) + 1
        raise TransferFileError(f"{path}:{line}: the first row must name the columns: code,threshold")
    levels: list[float] = []
    for number, row in rows[1:]:
        level = _level(f"{path}:{number}", row, len(levels) + 1) / lsb
        if levels and level < levels[-1]:
            raise TransferFileError(
                f"{path}:{number}: threshold of code {len(levels) + 1} lies below the one before; "
                f"give the input from which that code or a higher one is returned"
            )
        levels.append(level)
    if len(levels) not in [(1 << bits) - 1 for bits in range(1, MAX_BITS + 1)]:
        raise TransferFileError(
            f"{path}:{rows[-1][0]}: {len(levels)} thresholds; a curve has 2^bits - 1 (1 to {MAX_BITS} bits); "
            f"add or remove codes"
        )
    return Transfer(torch.tensor(levels, dtype=torch.float64).repeat(adcs, 1), noise)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TransferFileError(f"{path}: larger than {MAX_FILE_BYTES} bytes, which no transfer curve is")
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise TransferFileError(f"{path}: no such file") from None
    except OSError as error:
        raise TransferFileError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TransferFileError(f"{path}: not UTF-8 text; save the levels as CSV") from error


def _lsb(path: Path, headers: list[tuple[int, str]]) -> float:
    """Return the size of one LSB in the unit of the file, from its comment lines."""
    given = {match[1]: (number, match[2]) for number, line in headers if (match := _HEADER.fullmatch(line))}
    if "unit" not in given:
        raise TransferFileError(f"{path}:1: no unit; begin with a line such as '# unit: LSB'")
    number, unit = given["unit"]
    if unit not in ("LSB", "V", "A"):
        raise TransferFileError(f"{path}:{number}: unit {unit!r} is not known; give LSB, V or A")
    if unit == "LSB":
        if "lsb" in given:
            raise TransferFileError(
                f"{path}:{given['lsb'][0]}: thresholds in LSB need no lsb; remove the line"
            )
        return 1.0
    if "lsb" not in given:
        raise TransferFileError(
            f"{path}:{number}: thresholds in {unit} need the size of one LSB; "
            f"add a line such as '# lsb: 0.001', in {unit}"
        )
    number, text = given["lsb"]
    lsb = _number(text)
    if not 0 < lsb < math.inf:
        raise TransferFileError(f"{path}:{number}: lsb must be a positive number of {unit}, not {text!r}")
    return lsb


def _level(where: str, row: str, code: int) -> float:
    """Return the threshold of a row that must belong to ``code``."""
    cells = [cell.strip() for cell in row.split(",")]
    if len(cells) != 2:
        raise TransferFileError(f"{where}: {len(cells)} values; a row is code,threshold")
    if cells[0] != str(code):
        raise TransferFileError(
            f"{where}: code {cells[0]!r} where {code} must come; list each code once, in order"
        )
    level = _number(cells[1])
    if not math.isfinite(level):
        raise TransferFileError(f"{where}: threshold {cells[1]!r} of code {code} must be a finite number")
    return level


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
