"""ADCs as data: a table says all that a bank is, and nothing that it is not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, TypeAdapter, ValidationError

from device_models.converters import AdcModel, flash, ramp, sar, uniform

adapter: TypeAdapter[AdcModel] = TypeAdapter(AdcModel)
ERRORS = {
    "uniform": {},
    "sar": {"unit_capacitor_mismatch": 0.02, "comparator_offset": 0.7, "noise": 0.1},
    "flash": {"threshold_offset": 0.3, "noise": 0.2},
    "ramp": {
        "gain_error": -0.02,
        "offset": 0.4,
        "curvature": 0.5,
        "step_mismatch": 0.1,
        "comparator_offset": 0.6,
        "noise": 0.3,
    },
}


@pytest.mark.parametrize(("kind", "builder"), [("sar", sar), ("flash", flash), ("ramp", ramp)])
def test_a_description_builds_what_its_builder_builds(kind: str, builder) -> None:
    built = adapter.validate_python({"kind": kind, **ERRORS[kind]}).build(6, 5, 9, "tile", 3)
    direct = builder(6, 5, 9, "tile", 3, **ERRORS[kind])
    assert torch.equal(built.thresholds, direct.thresholds)
    assert built.noise == direct.noise == ERRORS[kind]["noise"]


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_a_description_without_errors_is_uniform(kind: str) -> None:
    built = adapter.validate_python({"kind": kind}).build(7, 3, 0, "adc")
    assert torch.equal(built.thresholds, uniform(7, 3).thresholds)
    assert built.noise == 0


def test_a_description_comes_from_a_table_of_a_toml_file_and_goes_back() -> None:
    class Recipe(BaseModel):
        adc: AdcModel

    recipe = Recipe.model_validate(tomllib.loads("[adc]\nkind = 'sar'\nunit_capacitor_mismatch = 0.01"))
    assert recipe.adc.kind == "sar"
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_a_measured_adc_must_have_the_bits_that_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "adc.csv"
    file.write_text("# unit: LSB\ncode,threshold\n1,0.4\n2,1.7\n3,2.6\n", "utf-8")
    model = adapter.validate_python({"kind": "measured", "file": str(file)})
    assert model.build(2, 4, 0, "adc").thresholds.tolist() == [[0.4, 1.7, 2.6]] * 4
    with pytest.raises(ValueError, match=r"adc\.csv: a curve of 2 bits cannot be an ADC of 3 bits"):
        model.build(3, 4, 0, "adc")


@pytest.mark.parametrize(
    "table",
    [
        {"kind": "pipeline"},
        {},
        {"kind": "uniform", "noise": 0.1},
        {"kind": "sar", "unit_capacitor_mismatch": 0.2},
        {"kind": "sar", "noise": -0.1},
        {"kind": "sar", "comparator_offset": float("nan")},
        {"kind": "flash", "unit_capacitor_mismatch": 0.01},
        {"kind": "ramp", "gain_error": -1.0},
        {"kind": "measured"},
    ],
)
def test_what_no_adc_is_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        adapter.validate_python(table)


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_every_figure_says_its_unit(kind: str) -> None:
    model = type(adapter.validate_python({"kind": kind}))
    for name, field in model.model_fields.items():
        if name != "kind":
            assert field.description, name
            assert "LSB" in field.description or "relative" in field.description, name
