"""Loss of column current in percent, for devices, wires and array sizes used in the literature.

All inputs at full voltage, cells ON or OFF at random, mean over the columns. The printed figures come from an
independent solution of the same network, each for one draw of the cells. They have no wire segment between a
line and its driver or sense, only the resistance of those.
"""

from __future__ import annotations

import pytest
import torch

from device_models.crossbar import Wires, effective_conductance
from device_models.random import torch_stream

# LRS in ohm, on/off ratio, wires of word and bit lines, driver and sense in ohm; then percent for sizes 32,
# 64 and 128 at densities of ON cells 1, 0.5, 0.1. The last device is the default of PytorX (He et al., DAC
# 2019).
TABLE = [
    ((1e6, 10, 1, 1, 1, 1), [(0.07, 0.04, 0.02), (0.28, 0.16, 0.05), (1.09, 0.61, 0.21)]),
    ((1e5, 10, 1, 1, 1, 1), [(0.71, 0.37, 0.15), (2.71, 1.51, 0.55), (9.86, 5.76, 2.06)]),
    ((1e4, 10, 1, 1, 1, 1), [(6.6, 3.8, 1.4), (21.5, 13.5, 5.0), (50.8, 36.7, 17.3)]),
    ((2e4, 10, 5, 10, 1000, 1000), [(77, 65, 40), (88, 80, 58), (94, 90, 76)]),
    ((3e3, 1000, 28, 28, 4, 4), [(83, 73, 39), (95, 90, 71), (98, 97, 89)]),
]


@pytest.mark.parametrize("density", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("device", range(len(TABLE)))
@pytest.mark.parametrize("size", [32, 64, 128])
def test_losses_match_the_table(size, device, density):
    (lrs, on_off, word_line, bit_line, driver, sense), printed = TABLE[device]
    want = printed[(32, 64, 128).index(size)][(1.0, 0.5, 0.1).index(density)]
    first_left_out = torch.full((size, size), float(word_line), dtype=torch.float64)
    first_left_out[:, 0] = 0
    last_left_out = torch.full((size, size), float(bit_line), dtype=torch.float64)
    last_left_out[-1] = 0
    draws = 1 if density == 1 else 8 if size < 128 else 3
    on = torch.rand(draws, size, size, generator=torch_stream(0, "losses", size)) < density
    g = torch.where(on, 1 / lrs, 1 / (lrs * on_off)).double()
    effective = effective_conductance(g, Wires(first_left_out, last_left_out, driver, sense))
    losses = 100 * (1 - effective.sum(1) / g.sum(1)).mean(1)
    half_digit = 0.5 * 10.0 ** -(len(str(want)) - str(want).index(".") - 1 if "." in str(want) else 0)
    # Another draw of the cells: four standard deviations, as measured here or a fiftieth of the loss.
    drawn = 0.0 if draws == 1 else 4 * max(losses.std().item(), 0.02 * want / 4)
    assert losses.mean().item() == pytest.approx(want, abs=1.02 * half_digit + drawn)
