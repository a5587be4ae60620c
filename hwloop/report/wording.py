"""How pages write figures."""

from __future__ import annotations

from hwloop.report.summary import Spread


def percent(fraction: float) -> str:
    """Return ``0.9912`` as ``99.12 %``."""
    return f"{100 * fraction:.2f} %"


def spread(value: Spread) -> str:
    """Return mean and standard deviation, in percent."""
    if value.std is None:
        return percent(value.mean)
    return f"{100 * value.mean:.2f} ± {100 * value.std:.2f} %"


def count(number: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,}".replace(",", "\u202f")


def engineering(value: float, unit: str) -> str:
    """Return a figure with the prefix that keeps its number between 1 and 1000, such as ``1.24 mW``."""
    prefixes = {0: "", -3: "m", -6: "µ", -9: "n", -12: "p", -15: "f"}
    for exponent, prefix in prefixes.items():
        if abs(value) >= 10.0**exponent or exponent == -15:
            return f"{value / 10.0**exponent:.3g}\u202f{prefix}{unit}"
    raise AssertionError


def power_of_ten(value: float | None) -> str:
    """Return ``3.1e-12`` as ``3.1·10⁻¹²``; None is what could not be solved."""
    if value is None:
        return "not solved"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


FILTERS = {
    "percent": percent,
    "spread": spread,
    "count": count,
    "engineering": engineering,
    "power_of_ten": power_of_ten,
    "duration": duration,
}
"""By their names in templates."""
