"""The rebuilt comparison of TinyADC: shapes, bits and bounds of its ratios."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hwloop.cost import estimate_by_law, load_cost_card

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tinyadc_claim.py"


@pytest.fixture(scope="module")
def claim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tinyadc_claim", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def test_resnet_18_has_its_weights_and_tiles(claim: ModuleType) -> None:
    layers = claim.resnet18_layers()
    assert sum(rows * cols for (rows, cols), _ in layers.values()) == 11_164_352
    assert sum(rows * cols * vectors for (rows, cols), vectors in layers.values()) == pytest.approx(
        0.556e9, rel=0.01
    )
    chip = claim.resnet18_chip(128, None)
    assert sum(len(layer.tiles) for layer in chip.layers.values()) == 698


def test_eight_cells_for_a_column_save_four_bits(claim: ModuleType) -> None:
    dense, pruned = claim.resnet18_chip(128, None), claim.resnet18_chip(128, 8)
    assert {tile.adc_bits for tile in dense.layers["layer4.1.conv2"].tiles} == {9}
    assert {tile.adc_bits for layer in pruned.layers.values() for tile in layer.tiles} == {5}


def test_ratios_lie_between_one_and_that_of_the_converters(
    claim: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = load_cost_card()
    chips = [claim.resnet18_chip(128, cells) for cells in (None, 8)]
    found = claim.ratios(*(estimate_by_law(chip, card, claim.READOUT) for chip in chips), card)
    for law in card.adc:
        adcs, arrays, chip = (row for row in found if row.law == law)
        assert 1 < chip.power < arrays.power < adcs.power
        assert 1 < chip.area < arrays.area < adcs.area
    alone = {row.law: row for row in found if row.scope == "ADCs alone"}
    assert alone["exponential"].power == pytest.approx(16, rel=0.02)
    assert alone["linear"].power == pytest.approx(9 / 5, rel=0.02)
    assert alone["sar"].power == pytest.approx(1.97 / 0.99, rel=0.02)

    monkeypatch.setattr(sys, "argv", ["tinyadc_claim.py"])
    claim.main()
    printed = capsys.readouterr().out
    assert "3.5x" in printed
    assert "2.9x" in printed
