"""Quantization: kept weights lie on a level exactly, pruned ones stay zero, and the scale is the best one."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.mapping import LevelSet
from hwloop.networks import crossbar_layers, digest, to_matrix
from hwloop.pruning import apply_masks, full_masks
from hwloop.quantization import best_scale, quantize, quantize_and_tune
from hwloop.recipe import Quantize
from hwloop.training.fit import accuracy, fit, one_cycle
from tests.line.small import digits, seeded_network

DIGITS = digits()


@pytest.fixture(scope="module")
def masked():
    """A trained network of which half is pruned, and its masks."""
    net = seeded_network()
    masks = full_masks(net)
    generator = torch.Generator().manual_seed(0)
    for name in ("conv2", "fc1"):
        masks[name] &= torch.rand(masks[name].shape, generator=generator) < 0.5
    fit(
        net,
        DIGITS,
        epochs=8,
        batch=25,
        learning_rate=1e-2,
        seed=1,
        station="train",
        schedule=one_cycle,
        after_step=lambda: apply_masks(net, masks),
    )
    return net, masks


@pytest.mark.parametrize("levels", [1, 3, 15, 127])
def test_kept_weights_are_codes_from_one_to_the_levels_and_pruned_ones_are_zero(masked, levels):
    net, masks = masked
    for name, layer in quantize(net, masks, levels).items():
        assert layer.codes.dtype == torch.int8
        assert torch.equal(layer.codes != 0, masks[name])
        assert int(layer.codes.abs().max()) <= levels
        assert layer.scale > 0
        assert torch.tensor(layer.scale, dtype=torch.float32).item() == layer.scale


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_no_other_scale_fits_better(seed, levels):
    values = torch.randn(60, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def error(scale):
        return float((LevelSet(scale, levels).project(values) - values).square().sum())

    found = error(best_scale(values, levels))
    # The grid of the search is finite, so a better scale may lie between its points.
    others = torch.linspace(0.02, 1.2, 500, dtype=torch.float64) * values.abs().max() / levels
    assert found <= 1.01 * min(error(scale) for scale in others.tolist())


def test_weights_that_lie_on_levels_come_back_exactly(masked):
    net, masks = copy.deepcopy(masked)
    first = quantize(net, masks, 15)
    with torch.no_grad():
        for name, layer in crossbar_layers(net).items():
            to_matrix(layer).copy_(first[name].matrix)
    second = quantize(net, masks, 15)
    for name, layer in first.items():
        assert torch.equal(second[name].codes, layer.codes)
        assert second[name].scale == pytest.approx(layer.scale, rel=1e-6)


@pytest.mark.parametrize("epochs", [0, 2])
def test_the_network_then_carries_exactly_scale_times_code(masked, epochs):
    net, masks = copy.deepcopy(masked)
    types = [type(layer) for layer in net.modules()]
    choice = Quantize(epochs=epochs, learning_rate=1e-3)
    result = quantize_and_tune(net, DIGITS, masks, 15, choice, batch=50, seed=1)
    for name, layer in crossbar_layers(net).items():
        assert torch.equal(to_matrix(layer), result.layers[name].matrix)
        assert torch.equal(result.layers[name].codes != 0, masks[name])
        assert isinstance(layer.weight, torch.nn.Parameter)
    assert [type(layer) for layer in net.modules()] == types
    assert len(result.records) == epochs


def test_signs_stay_where_they_must_and_change_where_they_may(masked):
    codes = {}
    for keep_signs in (False, True):
        net, masks = copy.deepcopy(masked)
        before = {name: to_matrix(layer).detach().sign() for name, layer in crossbar_layers(net).items()}
        choice = Quantize(epochs=2, learning_rate=2e-2)
        tuned = quantize_and_tune(net, DIGITS, masks, 3, choice, batch=25, seed=1, keep_signs=keep_signs)
        codes[keep_signs] = tuned.layers["fc1"].codes
        kept = [torch.equal(tuned.layers[name].codes.sign(), masks[name] * before[name]) for name in before]
        assert all(kept) == keep_signs
    assert torch.equal(codes[False] != 0, codes[True] != 0)
    assert not torch.equal(codes[False].abs(), codes[True].abs())


def test_training_on_two_levels_wins_back_most_of_what_rounding_lost(masked):
    net, masks = masked
    accuracies = {}
    for epochs in (0, 4):
        tuned = copy.deepcopy(net)
        choice = Quantize(epochs=epochs, learning_rate=5e-3)
        quantize_and_tune(tuned, DIGITS, masks, 2, choice, batch=25, seed=1)
        accuracies[epochs] = accuracy(tuned, DIGITS.test_x, DIGITS.test_y)
    before = accuracy(net, DIGITS.test_x, DIGITS.test_y)
    assert before - accuracies[4] < 0.5 * (before - accuracies[0])


def test_fifteen_levels_cost_little(masked):
    net, masks = copy.deepcopy(masked)
    before = accuracy(net, DIGITS.test_x, DIGITS.test_y)
    quantize_and_tune(net, DIGITS, masks, 15, Quantize(epochs=1), batch=50, seed=1)
    assert accuracy(net, DIGITS.test_x, DIGITS.test_y) > before - 0.03


def test_a_resumed_training_on_levels_ends_bit_for_bit_where_an_unbroken_one_ends(masked, tmp_path):
    class CutOffError(Exception):
        pass

    def listen(fraction, _):
        if fraction > 0.6:
            raise CutOffError

    choice = Quantize(epochs=3)

    def run(**arguments):
        net, masks = copy.deepcopy(masked)
        try:
            quantize_and_tune(net, DIGITS, masks, 7, choice, batch=50, seed=1, **arguments)
        finally:
            types = {type(layer).__name__ for layer in net.modules()}
        return digest(net.state_dict()), types

    expected, types = run()
    assert "ParametrizedLinear" not in types
    with pytest.raises(CutOffError):
        run(checkpoint=tmp_path / "quantize.safetensors", progress=listen)
    assert run(checkpoint=tmp_path / "quantize.safetensors")[0] == expected


@pytest.mark.parametrize("scale", ["largest", "least-squares"])
def test_weights_are_clipped_at_standard_deviations_of_those_that_are_kept(masked, scale):
    net, masks = masked
    plain, clipped = quantize(net, masks, 127, "largest"), quantize(net, masks, 127, scale, clip=1.5)
    for name, layer in crossbar_layers(net).items():
        matrix, found = to_matrix(layer).detach(), clipped[name]
        largest = 1.5 * float(matrix[masks[name]].std())
        assert largest < float(matrix.abs().max())
        assert torch.equal(found.codes.sign(), plain[name].codes.sign())
        beyond = masks[name] & (matrix.abs() > largest)
        torch.testing.assert_close(
            found.matrix[beyond].abs(), torch.full_like(found.matrix[beyond], largest), rtol=0.02, atol=0
        )
