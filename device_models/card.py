"""Device cards: TOML files that hold the figures of a memristor process, each with its unit and source."""

from __future__ import annotations

import difflib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_CARD_BYTES = 1 << 20

Card = TypeVar("Card", bound=BaseModel)


class CardError(ValueError):
    """A device card that cannot be used; the message names the file, the field and the fix."""


class Figure(BaseModel):
    """One number of a card: its value, its SI unit and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    value: float
    unit: Literal["S", "V", "K", "1"]
    source: str = Field(min_length=3)


class FigureList(BaseModel):
    """Several numbers of a card that belong together, such as the coefficients of a polynomial."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    value: tuple[float, ...] = Field(min_length=1, max_length=32)
    unit: Literal["S", "V", "K", "1"]
    source: str = Field(min_length=3)


class ProgrammingError(BaseModel):
    """Spread of the conductance after programming, a polynomial of the target conductance."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    coefficients: FigureList
    g_reference: Figure

    def sigma(self, g: np.ndarray) -> np.ndarray:
        """Return the standard deviation in siemens for target conductances ``g`` in siemens, any shape."""
        x = np.asarray(g, dtype=np.float64) / self.g_reference.value
        return np.clip(np.polynomial.polynomial.polyval(x, self.coefficients.value), 0.0, None)


class DeviceCard(BaseModel):
    """The figures of one memristor process.

    Conductance level ``k`` (1 to ``level_count``) is ``k * g_max / level_count``. Level 0 is a pruned
    cell: it is not formed, conducts nothing and is not drawn.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["hwloop-device-card"]
    version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    title: str = Field(max_length=200)
    temperature: Figure
    g_max: Figure
    level_count: Figure
    read_voltage: Figure
    read_noise: Figure
    programming_error: ProgrammingError

    @model_validator(mode="after")
    def _check(self) -> DeviceCard:
        units = {"temperature": "K", "g_max": "S", "level_count": "1", "read_voltage": "V", "read_noise": "1"}
        for field, unit in units.items():
            if getattr(self, field).unit != unit:
                raise ValueError(f"{field} must be given in {unit!r}")
        if self.programming_error.coefficients.unit != "S" or self.programming_error.g_reference.unit != "S":
            raise ValueError("programming_error must be given in 'S'")
        if not 1e-9 <= self.g_max.value <= 1e-2:
            raise ValueError("g_max must lie between 1e-9 and 1e-2 S")
        if not 0 < self.programming_error.g_reference.value <= 1e-2:
            raise ValueError("programming_error.g_reference must lie between 0 and 1e-2 S")
        if self.level_count.value != int(self.level_count.value) or not 1 <= self.level_count.value <= 127:
            raise ValueError("level_count must be a whole number from 1 to 127")
        if not 0 < self.read_voltage.value <= 10:
            raise ValueError("read_voltage must lie between 0 and 10 V")
        if not 0 <= self.read_noise.value < 1:
            raise ValueError("read_noise must lie between 0 and 1")
        return self

    @property
    def levels(self) -> int:
        """Number of conducting levels."""
        return int(self.level_count.value)

    @property
    def g_step(self) -> float:
        """Conductance between neighbouring levels, in siemens."""
        return self.g_max.value / self.levels


def load_card(name_or_path: str | Path) -> DeviceCard:
    """Load a card by the name of a shipped one (``rram-neurram``) or from a TOML file.

    Raises:
        CardError: if there is no such card, or the file is not a valid one.
    """
    name = str(name_or_path)
    if name.endswith(".toml"):
        return parse_card(DeviceCard, read_toml(Path(name)), name)
    if name not in card_names():
        raise CardError(
            f"no device card {name!r}: shipped are {', '.join(card_names())}; or give a .toml file"
        )
    text = (resources.files("device_models") / "cards" / f"{name}.toml").read_text("utf-8")
    return parse_card(DeviceCard, tomllib.loads(text), name)


def card_names() -> list[str]:
    """Names of the device cards that ship with the package."""
    folder = resources.files("device_models") / "cards"
    names = (entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return sorted(name for name in names if name != "wires")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of at most 1 MiB; raises CardError with the file's name."""
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise CardError(f"{path}: larger than {MAX_CARD_BYTES} bytes, which no card is")
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CardError(f"{path}: no such file") from None
    except OSError as error:
        raise CardError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: not valid TOML ({error})") from error


def parse_card(kind: type[Card], data: dict[str, Any], where: str) -> Card:
    """Validate a parsed TOML document as a pydantic model; raises CardError naming file and field."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "card"
        problem = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            problem = f"no such key{_suggest(kind, first['loc'])}"
        raise CardError(f"{where}: {field}: {problem}") from error


def _suggest(kind: type[BaseModel], location: tuple[str | int, ...]) -> str:
    """Name the keys a document may have where it has an unknown one; the likeliest alone if one is close."""
    model: Any = kind
    for part in location[:-1]:
        field = model.model_fields.get(part)
        model = field.annotation if field is not None else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return ""
    known = list(model.model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
