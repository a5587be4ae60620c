"""Purification: planted waste is found, what is found is whole groups, and the budget holds."""

import copy
from dataclasses import replace

import pytest
import torch

from hwloop.datasets import DatasetError
from hwloop.networks import crossbar_layers, to_matrix
from hwloop.pruning import apply_masks, full_masks, purify
from hwloop.pruning.purify import groups_of
from hwloop.training.fit import accuracy, fit
from tests.line.small import digits, small_network
from tests.line.test_zoo import small_resnet

KINDS = ("channels", "tile_rows", "tile_columns")


@pytest.fixture(scope="module")
def data():
    """Digits whose test part nobody may look at."""
    whole = digits()
    return replace(whole, test_x=torch.full_like(whole.test_x, torch.nan), test_y=whole.test_y - 100)


def trained(factory, data):
    torch.manual_seed(3)
    net = factory()
    fit(net, data, epochs=4, batch=50, learning_rate=5e-3, seed=1, station="test")
    return net


@pytest.fixture(scope="module")
def resnet(data):
    return trained(small_resnet, data)


@pytest.fixture(scope="module")
def plain(data):
    return trained(small_network, data)


def rows_of(mask, channels):
    """A mask ``[channels, rest, cols]`` by channel."""
    return mask.reshape(channels, -1, mask.shape[1])


def test_dead_paths_through_a_residual_block_are_found_and_nothing_else_changes(resnet, data):
    net = copy.deepcopy(resnet)
    masks = full_masks(net)
    # Dead inside a block; dead in all branches of an addition; and used by nobody behind it.
    masks["block1.conv1"][:, 1] = False
    masks["block2.conv2"][:, 2] = masks["block2.downsample.0"][:, 2] = False
    masks["fc"][4] = False
    with torch.no_grad():
        net.block1.bn1.bias[1], net.block1.bn1.running_mean[1] = -1.0, 0.0
        net.block2.bn2.bias[2] = net.block2.downsample[1].bias[2] = 0.3
    apply_masks(net, masks)
    before = copy.deepcopy(net)
    kept = purify(net, masks, (), data, max_loss=0.0)
    expected = {name: mask.clone() for name, mask in masks.items()}
    rows_of(expected["block1.conv2"], 4)[1] = False
    expected["fc"][2] = False
    expected["block2.conv2"][:, 4] = expected["block2.downsample.0"][:, 4] = False
    for name, mask in kept.items():
        assert torch.equal(mask, expected[name]), name
    torch.testing.assert_close(net(data.train_x), before(data.train_x), rtol=1e-3, atol=1e-4)


def test_without_dead_paths_and_groups_nothing_changes(resnet, data):
    net = copy.deepcopy(resnet)
    kept = purify(net, full_masks(net), (), data, max_loss=1.0)
    assert all(mask.all() for mask in kept.values())
    assert all(torch.equal(value, resnet.state_dict()[name]) for name, value in net.state_dict().items())


def test_nearly_empty_channels_that_hold_nearly_nothing_go_for_no_loss(plain, data):
    net = copy.deepcopy(plain)
    masks = full_masks(net)
    channel = rows_of(masks["conv2"], 6)[2]
    channel[:] = False
    channel[4, 7] = True
    with torch.no_grad():
        net.conv2.weight[7, 2, 1, 1] = 1e-7
    apply_masks(net, masks)
    before = accuracy(net, data.validation_x, data.validation_y)
    kept = purify(net, masks, ("channels",), data, max_loss=0.0, min_emptiness=0.8)
    assert not rows_of(kept["conv2"], 6)[2].any()
    assert not kept["conv1"][:, 2].any()
    assert accuracy(net, data.validation_x, data.validation_y) >= before


@pytest.mark.parametrize(("factory", "max_loss"), [("plain", 0.0), ("plain", 0.3), ("resnet", 0.05)])
def test_the_loss_stays_within_the_budget(factory, max_loss, data, request):
    net = copy.deepcopy(request.getfixturevalue(factory))
    before = accuracy(net, data.validation_x, data.validation_y)
    full = full_masks(net)
    kept = purify(net, full, KINDS, data, max_loss=max_loss, min_emptiness=0.0, array_shape=(16, 8), rounds=1)
    assert accuracy(net, data.validation_x, data.validation_y) >= before - max_loss
    left, whole = (sum(int(mask.sum()) for mask in masks.values()) for masks in (kept, full))
    assert left < whole * (0.5 if max_loss == 0.3 else 1.0)
    for name, layer in crossbar_layers(net).items():
        assert not (to_matrix(layer).detach()[~kept[name]]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_groups_are_those_that_loops_find(kind):
    generator = torch.Generator().manual_seed(4)
    matrix = torch.randn(24, 10, generator=generator) * (torch.rand(24, 10, generator=generator) < 0.3)
    matrix[[3, 9]] = 0.0
    matrix[:, 6] = 0.0
    channel = torch.arange(24) // 4
    groups = groups_of(kind, matrix, torch.ones(24, 10, dtype=torch.bool), channel, (5, 4))
    rows = [i for i in range(24) if matrix[i].any()]
    cols = [j for j in range(10) if matrix[:, j].any()]
    if kind == "channels":
        expected = [[(i, j) for i in range(24) if i // 4 == c for j in cols] for c in range(6)]
    elif kind == "tile_rows":
        expected = [[(i, j) for j in cols[k : k + 4]] for i in rows for k in range(0, len(cols), 4)]
    else:
        expected = [[(i, j) for i in rows[k : k + 5]] for k in range(0, len(rows), 5) for j in cols]
    found = [
        [tuple(place) for place in (groups.labels == g).nonzero().tolist()]
        for g in range(len(groups.weights))
    ]
    assert sorted(found) == sorted(expected)
    total = matrix.double().square().sum()
    for g, places in enumerate(found):
        values = torch.stack([matrix[i, j] for i, j in places])
        assert groups.weights[g] == (values != 0).sum()
        torch.testing.assert_close(groups.importance[g], values.double().square().sum() / total)
        if kind == "channels":
            kernels = [matrix[channel == g][:, j].any() for j in cols]
            empty = 1 - sum(bool(kernel) for kernel in kernels) / len(kernels)
        else:
            empty = float((values == 0).float().mean())
        assert float(groups.emptiness[g]) == pytest.approx(empty)


def test_whole_lines_of_tiles_go(plain, data):
    net = copy.deepcopy(plain)
    masks = full_masks(net)
    generator = torch.Generator().manual_seed(0)
    masks["fc1"] &= torch.rand(masks["fc1"].shape, generator=generator) < 0.5
    apply_masks(net, masks)
    # Every place is half empty, so with a budget for all of them one tile row after the other goes.
    kept = purify(
        net, masks, ("tile_rows",), data, max_loss=0.1, min_emptiness=0.3, array_shape=(8, 8), rounds=1
    )
    blocks = kept["fc1"].reshape(40, 3, 8), masks["fc1"].reshape(40, 3, 8)
    living = kept["fc1"].any(0).reshape(3, 8)
    for block in range(3):
        for row in range(40):
            now, then = (part[row, block][living[block]] for part in blocks)
            assert not now.any() or torch.equal(now, then)
    assert int(kept["fc1"].sum()) < int(masks["fc1"].sum())


def test_without_validation_images_there_is_nothing_to_choose_by(plain, data):
    none = replace(data, validation_x=data.validation_x[:0], validation_y=data.validation_y[:0])
    with pytest.raises(DatasetError, match="hold some back"):
        purify(copy.deepcopy(plain), full_masks(plain), KINDS, none, max_loss=0.1)
