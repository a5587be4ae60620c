"""Targets in the user's terms: they are met, or what can be met is said."""

import pytest
import torch

from device_models.converters import lossless_bits
from hwloop.mapping import tile_count
from hwloop.mapping.tiles import tile_lines
from hwloop.networks import crossbar_layers, to_matrix
from hwloop.pruning import METHODS, Target, TargetError, full_masks, prune_to_target
from hwloop.pruning.targets import Shares, most_per_column
from hwloop.recipe import HardwareConfig, Prune
from hwloop.training.fit import accuracy, fit, one_cycle
from tests.line.small import digits, seeded_network

DIGITS = digits()
HARDWARE = HardwareConfig(rows=16, cols=8)


@pytest.fixture(scope="module")
def trained():
    net = seeded_network()
    fit(net, DIGITS, epochs=6, batch=50, learning_rate=1e-2, seed=1, station="train", schedule=one_cycle)
    return net


def pruned(net, levels=3, **choice):
    asked = Prune(**{"trials": 3, "rounds": 1, "retrain_epochs": 1, "retrain_learning_rate": 5e-3} | choice)
    return prune_to_target(net, DIGITS, asked, hardware=HARDWARE, levels=levels, seed=1, batch=50)


def weights(masks):
    return sum(int(torch.count_nonzero(mask)) for mask in masks.values())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_a_third_of_the_weights_when_asked_to(trained, method):
    result, reached = pruned(trained, method=method, target="weights=3x")
    factor = weights(full_masks(trained)) / weights(result.masks)
    assert factor >= 3
    assert reached == {"weights": pytest.approx(factor)}
    logits = result.net(DIGITS.test_x[:4])
    assert logits.shape == (4, 10)
    assert logits.isfinite().all()


def test_the_search_sees_what_a_lower_rank_loses(trained):
    shares = Shares(trained, Prune(method="group-scissor"), (16, 8), "weights", (1, 8, 8))
    name = shares.free[0]
    matrix = to_matrix(crossbar_layers(trained)[name]).detach()
    for step in (0, 16):
        rank = shares.keep({name: step})[name].rank
        lower = shares.lower_ranks({name: step})[name]
        assert torch.linalg.matrix_rank(lower) == rank
        lost = (matrix - lower).square().sum()
        rest = float(torch.linalg.svdvals(matrix)[rank:].square().sum())
        assert lost == pytest.approx(rest, rel=1e-3, abs=1e-6)


def test_tiles_are_met_as_the_mapping_counts_them(trained):
    result, _ = pruned(trained, target="tiles=3x")
    before, after = (
        sum(tile_count(mask, (16, 8)) for mask in masks.values())
        for masks in (full_masks(trained), result.masks)
    )
    assert before / after >= 3


def test_adc_bits_bound_the_weights_of_every_bit_line(trained):
    result, _ = pruned(trained, method="tinyadc", target="adc_bits=4")
    for mask in result.masks.values():
        for rows, cols in tile_lines(mask, (16, 8), cells_per_column=5):
            assert lossless_bits(int(mask[rows][:, cols].sum(0).max()), 3) <= 4


def test_leakage_takes_its_part_of_the_range():
    assert most_per_column(4, 3, 1, 64) == 5
    # 63 cells that leak 0.03 steps each take 1.9 of the 15 that the converter holds.
    assert most_per_column(4, 3, 1, 64, on_off=100) == 4
    assert most_per_column(4, 3, 1, 64, on_off=10) == 0


def test_an_accuracy_is_kept_on_validation_images(trained):
    result, reached = pruned(trained, target="accuracy=-10", retrain_epochs=2)
    dense = accuracy(trained, DIGITS.validation_x, DIGITS.validation_y)
    now = accuracy(result.net, DIGITS.validation_x, DIGITS.validation_y)
    assert 100 * (now - dense) >= -10
    assert reached["validation_loss_points"] == pytest.approx(100 * (dense - now))
    assert weights(result.masks) < weights(full_masks(trained))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"target": "tiles=1000x"}, "admm cannot leave 0.0.* tiles and something of every layer"),
        ({"target": "adc_bits=3"}, "admm does not bound ADC bits; methods that do: tinyadc, forms"),
        ({"target": "adc_bits=1", "method": "tinyadc"}, "adc_bits=1: not enough for weights of 3 levels"),
        (
            {"target": "accuracy=-0", "retrain_epochs": 0, "learning_rate": 1.0},
            "accuracy=-0.0 was not reached",
        ),
    ],
)
def test_what_cannot_be_met_is_said(trained, choice, message):
    with pytest.raises(TargetError, match=message):
        pruned(trained, **choice)


@pytest.mark.parametrize("text", ["tiles=0.5x", "speed=3x", "accuracy=1", "tiles=", "weights=nanx"])
def test_targets_that_nobody_could_mean_are_refused(text):
    with pytest.raises(TargetError, match="write tiles=8x or weights=20x"):
        Target.parse(text)
