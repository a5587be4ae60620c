"""Device cards: TOML files that hold the figures of a memristor process, each with its unit and source."""

from __future__ import annotations

import difflib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from .effects import (
    CellEffect,
    Curve,
    Drift,
    FlickerNoise,
    ProgrammingError,
    PulseResponse,
    RangeError,
    Relaxation,
    Retention,
    Stuck,
    TelegraphNoise,
    Variation,
    WhiteNoise,
    WriteVerify,
    described,
)
from .figures import Figure as Figure
from .figures import FigureList as FigureList
from .figures import Kelvin, Number, Siemens, Volt
from .files import open_regular
from .limits import Limits
from .random import stream

MAX_CARD_BYTES = 1 << 20

Card = TypeVar("Card", bound=BaseModel)


class CardError(ValueError):
    """A device card that cannot be used; the message names the file, the field and the fix."""


SECTIONS = (
    "white_noise",
    "flicker_noise",
    "telegraph_noise",
    "variation",
    "write_verify",
    "stuck",
    "drift",
    "relaxation",
    "retention",
    "iv",
    "pulse",
)
"""Sections that a card may have from version 2 on."""


class DeviceCard(BaseModel):
    """The figures of one memristor process.

    Conductance level ``k`` (1 to ``level_count``) is ``k * g_step`` above ``g_min``, and the highest is
    ``g_max`` (LRS). With ``g_min`` every cell on a word line that is driven is formed, and those that hold
    nothing conduct ``g_min`` (HRS). Without it, level 0 is a pruned cell: it is not formed, conducts
    nothing and is not drawn.

    A section that is missing is an effect that the card knows nothing about, and that is not simulated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["hwloop-device-card"]
    version: Literal[1, 2]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    title: str = Field(max_length=200)
    temperature: Kelvin
    g_max: Siemens
    g_min: Siemens | None = None
    level_count: Number
    read_voltage: Volt
    read_noise: Number
    programming_error: ProgrammingError | None = None
    white_noise: WhiteNoise | None = None
    flicker_noise: FlickerNoise | None = None
    telegraph_noise: TelegraphNoise | None = None
    variation: Variation | None = None
    write_verify: WriteVerify | None = None
    stuck: Stuck | None = None
    drift: Drift | None = None
    relaxation: Relaxation | None = None
    retention: Retention | None = None
    iv: Curve | None = None
    pulse: PulseResponse | None = None
    limits: Limits | None = None
    effects: Annotated[dict[str, SerializeAsAny[CellEffect]] | None, BeforeValidator(described)] = None

    @model_validator(mode="after")
    def _check(self) -> DeviceCard:
        if not 1e-9 <= self.g_max.value <= 1e-2:
            raise ValueError("g_max must lie between 1e-9 and 1e-2 S")
        if self.level_count.value != int(self.level_count.value) or not 1 <= self.level_count.value <= 127:
            raise ValueError("level_count must be a whole number from 1 to 127")
        if not 0 < self.read_voltage.value <= 10:
            raise ValueError("read_voltage must lie between 0 and 10 V")
        if not 0 <= self.read_noise.value < 1:
            raise ValueError("read_noise must lie between 0 and 1")
        if not 0 < self.temperature.value <= 1000:
            raise ValueError("temperature must lie between 0 and 1000 K")
        if not 0 <= self.g_idle < self.g_max.value:
            raise ValueError("g_min must lie between 0 and g_max")
        if self.version == 1:
            if self.g_min is not None:
                raise ValueError("g_min needs version = 2")
            if self.programming_error is None:
                raise ValueError("programming_error is missing (only version 2 may leave it out)")
            for section in (*SECTIONS, "limits", "effects"):
                if getattr(self, section) is not None:
                    raise ValueError(f"{section} needs version = 2")
        self._check_effects()
        if self.limits is not None and self.read_voltage.value > self.limits.read_voltage.value:
            raise ValueError("read_voltage is above limits.read_voltage")
        return self

    def _check_effects(self) -> None:
        if self.programming_error is not None and self.write_verify is not None:
            raise ValueError("programming_error and write_verify both say where a cell lands: keep one")
        if self.drift is not None and self.relaxation is not None:
            raise ValueError("drift and relaxation both say how a cell moves: keep one")
        if self.programming_error is not None:
            if self.programming_error.later and (self.drift is not None or self.relaxation is not None):
                raise ValueError("programming_error.later and drift both say how a cell moves: keep one")
            levels: np.ndarray = (
                self.g_idle + np.arange(0.0 if self.g_idle else 1.0, self.levels + 1) * self.g_step
            )
            for spread in (self.programming_error, *self.programming_error.later):
                try:
                    spread.within(levels)
                except RangeError as error:
                    raise ValueError(f"programming_error: {error}") from error

    def drawn(self, seed: int, instance: int | str) -> DeviceCard:
        """Return the card with every uncertain figure of its effects drawn: the parameters of one instance.

        A section draws from a stream of its own, so that a further section changes none of the others. Range
        and levels of the targets (``g_max``, ``level_count``, ``read_voltage``) are choices and stay. A card
        that states no uncertainty is returned as it is.
        """
        changed: dict[str, Any] = {}
        for name in ("read_noise", "programming_error", *SECTIONS):
            value = getattr(self, name)
            if value is not None:
                drawn = value.drawn(stream(seed, "parameters", instance, name))
                if drawn != value:
                    changed[name] = drawn
        if self.effects is not None:
            drawn_effects = {
                name: effect.drawn(stream(seed, "parameters", instance, f"effect {name}"))
                for name, effect in self.effects.items()
            }
            if drawn_effects != self.effects:
                changed["effects"] = drawn_effects
        return self.model_copy(update=changed) if changed else self

    @property
    def safe_limits(self) -> Limits:
        """What must not be exceeded at a bench: the card's limits.

        Without that section it is what reading the largest conductance takes, and nothing may be pulsed.
        """
        if self.limits is not None:
            return self.limits
        current = self.g_max.value * self.read_voltage.value
        source = "the card states no limits: no more than reading g_max takes"
        return Limits(
            read_voltage=self.read_voltage, cell_current=Figure(value=current, unit="A", source=source)
        )

    @property
    def levels(self) -> int:
        """Number of conducting levels."""
        return int(self.level_count.value)

    @property
    def g_step(self) -> float:
        """Conductance between neighbouring levels, in siemens."""
        return (self.g_max.value - self.g_idle) / self.levels

    @property
    def g_idle(self) -> float:
        """Conductance of a cell of level 0, in siemens."""
        return 0.0 if self.g_min is None else self.g_min.value

    @property
    def idle_steps(self) -> float:
        """Conductance of a cell of level 0, in level steps."""
        return self.g_idle / self.g_step

    def with_levels(self, levels: int) -> DeviceCard:
        """Return the card with fewer levels, evenly spaced up to the same ``g_max``.

        Raises:
            ValueError: if that is not 1 to the card's own number of levels.
        """
        if not 1 <= levels <= self.levels:
            raise ValueError(
                f"card {self.name} has {self.levels} levels; choose 1 to {self.levels}, not {levels}"
            )
        if levels == self.levels:
            return self
        source = f"{levels} of the {self.levels} levels of this card; {self.level_count.source}"
        count = self.level_count.model_copy(update={"value": float(levels), "source": source})
        return self.model_copy(update={"level_count": count})


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
        with open_regular(path, MAX_CARD_BYTES) as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise CardError(f"{path}: no such file") from None
    except OSError as error:
        raise CardError(f"{path}: cannot be read ({error.strerror})") from error
    except RecursionError:
        raise CardError(f"{path}: not valid TOML (nested too deeply)") from None
    except ValueError as error:
        raise CardError(f"{path}: not valid TOML ({error})") from error


def parse_card(kind: type[Card], data: dict[str, Any], where: str) -> Card:
    """Validate a parsed TOML document as a pydantic model; raises CardError naming file and field."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = _clearest(error.errors())
        field = _brief(".".join(str(part) for part in first["loc"] if not _is_kind(part)) or "card")
        problem = _brief(first["msg"].removeprefix("Value error, "), 500)
        if first["type"] == "extra_forbidden":
            problem = f"no such key{_suggest(kind, first['loc'])}"
        raise CardError(f"{where}: {field}: {problem}") from error


def _clearest(errors: list[ErrorDetails]) -> ErrorDetails:
    """Return the first error; of a field that is a number or a table, the one that is deepest in it."""
    first = errors[0]["loc"]
    if not (first and _is_kind(first[-1])):
        return errors[0]
    return max(
        (one for one in errors if one["loc"][: len(first) - 1] == first[:-1]), key=lambda one: len(one["loc"])
    )


def _is_kind(part: str | int) -> bool:
    """Whether part of a place is what pydantic calls one of the kinds that a field may be."""
    return isinstance(part, str) and part.startswith(("constrained-", "dict["))


def _brief(text: str, most: int = 100) -> str:
    """Return text that may come from a file as so many characters of one line."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= most else shown[:most] + "..."


def _suggest(kind: type[BaseModel], location: tuple[str | int, ...]) -> str:
    """Name the keys a document may have where it has an unknown one; the likeliest alone if one is close."""
    model: type[BaseModel] = kind
    for part in location[:-1]:
        found = _section(model, part)
        if found is None:
            return ""
        model = found
    known = list(model.model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def _section(model: type[BaseModel], part: str | int) -> type[BaseModel] | None:
    """The model of a section of ``model``, or None where it is not one that can be told."""
    field = model.model_fields.get(str(part))
    if field is None:
        return None
    for choice in (field.annotation, *get_args(field.annotation)):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return choice
    return None
