"""ADCs as data: what a recipe or a card says of them, checked, and the bank that follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from device_models.parts import Parts

from . import builders
from .bank import MAX_OFFSET_LSB
from .builders import MAX_STEP_MISMATCH
from .capacitors import MAX_CAPACITOR_MISMATCH, sar
from .measured import TransferFileError, measured
from .transfer import Transfer

Lsb = Annotated[float, Field(ge=-MAX_OFFSET_LSB, le=MAX_OFFSET_LSB)]
LsbRms = Annotated[float, Field(ge=0, le=MAX_OFFSET_LSB)]


class _Description(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class UniformAdc(_Description):
    """An ADC without errors."""

    kind: Literal["uniform"] = "uniform"

    def build(self, bits: int, adcs: int, seed: int, *names: str | int) -> Transfer:  # noqa: ARG002 one call for all
        """Return the bank; nothing is drawn. Raises ValueError as ``uniform``."""
        return builders.uniform(bits, adcs)


class SarAdc(_Description):
    """A SAR ADC with an array of ``2^bits`` unit capacitors."""

    kind: Literal["sar"] = "sar"
    unit_capacitor_mismatch: float = Field(
        0.0, ge=0, le=MAX_CAPACITOR_MISMATCH, description="relative standard deviation of a unit capacitor"
    )
    comparator_offset: LsbRms = Field(0.0, description="standard deviation from ADC to ADC, LSB")
    noise: LsbRms = Field(0.0, description="rms noise at the input, LSB")

    def build(self, bits: int, adcs: int, seed: int, *names: str | int) -> Transfer:
        """Return the bank that is drawn from the stream of ``names``. Raises ValueError as ``sar``."""
        return sar(
            bits,
            adcs,
            seed,
            *names,
            unit_capacitor_mismatch=self.unit_capacitor_mismatch,
            comparator_offset=self.comparator_offset,
            noise=self.noise,
        )


class FlashAdc(_Description):
    """A flash ADC: one comparator per threshold."""

    kind: Literal["flash"] = "flash"
    threshold_offset: LsbRms = Field(0.0, description="standard deviation of each comparator's offset, LSB")
    noise: LsbRms = Field(0.0, description="rms noise at the input, LSB")

    def build(self, bits: int, adcs: int, seed: int, *names: str | int) -> Transfer:
        """Return the bank that is drawn from the stream of ``names``. Raises ValueError as ``flash``."""
        return builders.flash(
            bits, adcs, seed, *names, threshold_offset=self.threshold_offset, noise=self.noise
        )


class RampAdc(_Description):
    """A single-slope ADC: one ramp for the bank, one comparator for each ADC."""

    kind: Literal["ramp"] = "ramp"
    gain_error: float = Field(0.0, gt=-1, le=1, description="relative error of the ramp's slope")
    offset: Lsb = Field(0.0, description="level at which the ramp begins too high, LSB")
    curvature: Lsb = Field(0.0, description="bow of the ramp at mid-scale, LSB")
    step_mismatch: float = Field(
        0.0, ge=0, le=MAX_STEP_MISMATCH, description="relative standard deviation of a step of the ramp"
    )
    comparator_offset: LsbRms = Field(0.0, description="standard deviation from ADC to ADC, LSB")
    noise: LsbRms = Field(0.0, description="rms noise at the input, LSB")

    def build(self, bits: int, adcs: int, seed: int, *names: str | int) -> Transfer:
        """Return the bank that is drawn from the stream of ``names``. Raises ValueError as ``ramp``."""
        return builders.ramp(
            bits,
            adcs,
            seed,
            *names,
            gain_error=self.gain_error,
            offset=self.offset,
            curvature=self.curvature,
            step_mismatch=self.step_mismatch,
            comparator_offset=self.comparator_offset,
            noise=self.noise,
        )


class MeasuredAdc(_Description):
    """An ADC whose transition levels were measured; all of a bank have this curve."""

    kind: Literal["measured"] = "measured"
    file: Path = Field(description="CSV file of transition levels, as ``measured`` reads it")
    noise: LsbRms = Field(0.0, description="rms noise at the input, LSB")

    def build(self, bits: int, adcs: int, seed: int, *names: str | int) -> Transfer:  # noqa: ARG002 one call for all
        """Return the bank; nothing is drawn.

        Raises:
            TransferFileError: as ``measured``, and if the curve has another resolution than ``bits``.
        """
        transfer = measured(self.file, adcs, self.noise)
        if transfer.bits != bits:
            raise TransferFileError(
                f"{self.file}: a curve of {transfer.bits} bits cannot be an ADC of {bits} bits; "
                f"give one with {(1 << bits) - 1} thresholds"
            )
        return transfer


class AdcDescription(_Description):
    """An ADC of another package: a subclass says its ``kind``, its figures, and how a bank of it is built."""

    kind: str

    def build(self, bits: int, adcs: int, seed: int, *names: str | int) -> Transfer:
        """Return the bank that is drawn from the stream of ``names`` (:func:`device_models.stream`).

        Args:
            bits: resolution.
            adcs: how many there are in the bank.
            seed: seed of the run.
            names: of the bank's stream.
        """
        raise NotImplementedError


def _fits(part: object) -> str:
    own = isinstance(part, type) and issubclass(part, _Description) and "kind" in part.model_fields
    return "" if own else "is no subclass of device_models.converters.AdcDescription"


ADCS: Parts[Any] = Parts("hwloop.adcs", "kind of ADC", __name__, _fits)
"""What an ADC can be, by its ``kind``."""

_OURS = {
    model.model_fields["kind"].default: model
    for model in (UniformAdc, SarAdc, FlashAdc, RampAdc, MeasuredAdc)
}
for _kind, _model in _OURS.items():
    ADCS.add(_kind)(_model)


def _described(value: Any, ours: ValidatorFunctionWrapHandler) -> Any:
    """Validate what says it is an ADC of another package by that package's model."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if isinstance(value, AdcDescription):
        return value
    if not isinstance(kind, str) or kind in _OURS:
        return ours(value)
    try:
        return ADCS[kind].model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in (kind, *first["loc"]))
        raise ValueError(f"{place}: {first['msg']}") from error


AdcModel = Annotated[
    SerializeAsAny[
        Annotated[
            UniformAdc | SarAdc | FlashAdc | RampAdc | MeasuredAdc,
            Field(discriminator="kind"),
        ]
    ],
    WrapValidator(_described),
    Field(description="what the ADCs of a bank are, by the circuit they are made of"),
]
