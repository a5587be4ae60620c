"""Programming: the spread of the card, the same draws however the tiles are cut, nothing in pruned cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from device_models import load_card
from device_models.memristor import program, read_noise_variance

CARD = load_card("rram-neurram")
SIDE = 200


def all_levels() -> torch.Tensor:
    """One tile for each level, and one of absent cells."""
    levels = torch.arange(CARD.levels + 1, dtype=torch.float64) * CARD.g_step
    return levels[:, None, None].expand(-1, SIDE, SIDE).contiguous()


def test_mean_and_spread_of_every_level_are_the_cards() -> None:
    target = all_levels()
    actual = program(target, CARD, seed=1, instance=0, layer="fc")
    sigma = CARD.programming_error.sigma(target[:, 0, 0].numpy())
    error = (actual - target).flatten(1).numpy()
    cells = SIDE * SIDE
    for level in range(3, CARD.levels + 1):  # from 8 uS on, nothing reaches the clip at zero
        assert abs(error[level].mean()) < 4 * sigma[level] / np.sqrt(cells)
        assert abs(error[level].std() / sigma[level] - 1) < 4 / np.sqrt(2 * cells)
    assert (actual >= 0).all()


def test_absent_cells_stay_absent() -> None:
    assert (program(all_levels(), CARD, 1, 0, "fc")[0] == 0).all()


def test_a_card_without_error_lands_on_the_target() -> None:
    assert torch.equal(program(all_levels(), load_card("ideal"), 1, 0, "fc"), all_levels())


def test_tiles_draw_the_same_devices_alone_and_together() -> None:
    target = torch.full((3, 2, 1, 8, 8), 20e-6)
    together = program(target, CARD, 1, 0, "fc")
    alone = [program(target[i : i + 1], CARD, 1, 0, "fc", first_tile=i) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_seed_instance_layer_and_tile_each_give_other_devices() -> None:
    target = torch.full((2, 100, 100), 20e-6, dtype=torch.float64)
    first = program(target, CARD, 1, 0, "fc")
    names = [(2, 0, "fc"), (1, 1, "fc"), (1, 0, "conv")]
    others = [program(target, CARD, *name)[0] for name in names]
    for other in (*others, first[1]):
        correlation = np.corrcoef(first[0].flatten(), other.flatten())[0, 1]
        assert abs(correlation) < 4 / 100


def test_programming_keeps_shape_and_dtype() -> None:
    actual = program(torch.full((1, 2, 1, 3, 4), 40e-6, dtype=torch.float32), CARD, 1, 0, "fc")
    assert (actual.dtype, actual.shape) == (torch.float32, (1, 2, 1, 3, 4))


@pytest.mark.parametrize("value", [-1e-6, 41e-6, float("nan")])
def test_targets_outside_the_card_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="layer fc: target conductances must lie between 0 and 4e-05 S"):
        program(torch.full((1, 2, 2), value), CARD, 1, 0, "fc")


def test_read_noise_is_relative_to_the_conductance() -> None:
    g = torch.tensor([0.0, 1e-6, 4e-5], dtype=torch.float64)
    assert torch.allclose(read_noise_variance(g, 0.01).sqrt(), 0.01 * g)
