"""``summary.json``: the figures of a run, each with how it was obtained; see ``docs/summary.md``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from device_models.files import write_atomically

FIGURES = (
    "accuracy.dense",
    "accuracy.pruned",
    "accuracy.quantized",
    "accuracy.ideal",
    "accuracy.hardware_before",
    "accuracy.hardware_after",
    "compression.weights",
    "compression.tiles",
    "layers",
    "mapping.max_logit_difference",
    "adc.bits_per_layer",
    "spice.max_rel_error",
    "cost.area_mm2",
    "cost.power_w",
    "cost.energy_per_image_j",
    "cost.latency_s",
    "cost.by_adc_law",
    "cost.saving",
    "cost.routing_area",
    "seconds",
)
"""Figures that must say how they were obtained, by their path in the file."""


class SummaryError(ValueError):
    """A summary that cannot be read; the message names the file and the field."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Spread(_Section):
    """A figure over device instances: the mean, how far they lie apart, and each one.

    ``std`` is the sample standard deviation; null for a single instance.
    """

    mean: float
    std: float | None
    min: float
    max: float
    instances: list[float] = Field(min_length=1)

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(
            mean=statistics.fmean(values),
            std=statistics.stdev(values) if len(values) > 1 else None,
            min=min(values),
            max=max(values),
            instances=list(values),
        )


class Accuracy(_Section):
    """Fraction of the test images that are classified right, at each station of the line."""

    dense: float = Field(ge=0, le=1)
    pruned: float = Field(ge=0, le=1)
    quantized: float = Field(ge=0, le=1)
    ideal: float = Field(ge=0, le=1)
    hardware_before: Spread
    hardware_after: Spread


class Compression(_Section):
    """How many times fewer weights and tiles than the dense network, with the counts behind the ratios."""

    weights: float = Field(gt=0)
    tiles: float = Field(gt=0)
    weights_dense: int
    weights_kept: int
    tiles_dense: int
    tiles_kept: int
    arrays_dense: int
    arrays_kept: int


class Layer(_Section):
    """One layer as it lies on the arrays, after retraining."""

    kind: Literal["linear", "conv2d"]
    rows: int
    cols: int
    weights_dense: int
    weights_kept: int
    tiles_dense: int
    tiles_kept: int
    adc_bits: int
    read_error: float = Field(ge=0)


class MappingCheck(_Section):
    """The quantized network against ideal hardware, which must agree to float rounding."""

    max_logit_difference: float = Field(ge=0)
    images: int


class Adc(_Section):
    """Resolution that reading without loss takes, in bits."""

    bits_per_layer: dict[str, int]
    bits_per_tile: dict[str, list[int]]


class SpiceArray(_Section):
    """One array that ngspice solved; errors are null where it could not."""

    layer: str
    tile: int
    polarity: Literal["positive", "negative"]
    cells: int
    rel_error: float | None
    rel_error_of_largest: float | None


class SpiceStation(_Section):
    """One station of the readout; figures are null where nothing was compared.

    ``judged`` is what the budget is for: the worst difference, or the share of clear reads of other codes.
    """

    name: str
    unit: str
    worst: float | None
    typical: float | None
    judged: float | None
    budget: float
    reads: int
    unclear: int
    status: Literal["passed", "failed", "not run"]
    reason: str


class Spice(_Section):
    """ngspice against the fast models on sampled tiles, all arrays of each.

    ``rel_error`` is relative to the full-scale column current, ``rel_error_of_largest`` to the largest column
    current of that array under the same inputs.
    """

    status: Literal["passed", "failed", "not run"]
    reason: str
    ngspice: str
    tiles_checked: int = Field(ge=0)
    inputs_per_array: int = Field(ge=1)
    tolerance: float
    max_rel_error: float | None
    typical_rel_error: float | None
    max_rel_error_of_largest: float | None
    stations: list[SpiceStation]
    arrays: list[SpiceArray]


class LawCost(_Section):
    """Cost of the chip under one law of what converters cost."""

    area_mm2: float
    power_w: float
    energy_per_image_j: float


class SavingShares(_Section):
    """A figure of the dense chip and of this one, and what each factor takes off; the parts add up."""

    dense: float
    kept: float
    parts: dict[str, float]


class Cost(_Section):
    """Area, power, energy and time of the arrays and the parts around them."""

    card: str
    area_mm2: float
    power_w: float
    energy_per_image_j: float
    latency_s: float
    images_per_s: float
    conversions_per_image: int
    area_mm2_by_part: dict[str, float]
    power_w_by_part: dict[str, float]
    energy_per_image_j_by_part: dict[str, float]
    area_mm2_by_layer: dict[str, float]
    power_w_by_layer: dict[str, float]
    by_adc_law: dict[str, LawCost]
    saving: dict[str, SavingShares]
    routing_area: float


class Summary(_Section):
    """Everything that one run found."""

    format: Literal["hwloop-summary"] = "hwloop-summary"
    version: Literal[2] = 2
    seed: int
    network: str
    data: str
    test_images: int
    accuracy: Accuracy
    compression: Compression
    layers: dict[str, Layer]
    mapping: MappingCheck
    adc: Adc
    spice: Spice
    cost: Cost
    seconds: dict[str, float]
    how: dict[str, str]
    recipe: dict[str, Any]
    versions: dict[str, str]

    @model_validator(mode="after")
    def _every_figure_says_how(self) -> Summary:
        for figure in FIGURES:
            if not self.how.get(figure):
                raise ValueError(f"how.{figure} is missing: it must say how the figure was obtained")
        return self


def write_summary(summary: Summary, path: Path) -> None:
    """Write ``summary.json`` atomically."""
    write_atomically(path, (summary.model_dump_json(indent=2) + "\n").encode())


def read_summary(path: Path) -> Summary:
    """Read and check a ``summary.json``.

    Raises:
        SummaryError: if the file is missing, damaged or of another version.
    """
    try:
        return Summary.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise SummaryError(f"{path}: no such file; the run has not reached its end") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "summary"
        raise SummaryError(f"{path}: {field}: {first['msg']}") from error
