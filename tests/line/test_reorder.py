"""Feature maps in order, and dead filters behind batch norms: the network computes what it did."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwloop.networks import crossbar_layers, lenet, to_matrix
from hwloop.networks.zoo import BasicBlock
from hwloop.pruning import apply_masks, clear_dead, full_masks, reorder, trace, without_unused_paths
from tests.line.small import small_network
from tests.line.test_compact import SHAPE, masked, normed, random_masks, shifted
from tests.line.test_graph import Functional
from tests.line.test_zoo import small_resnet, used


@pytest.mark.parametrize("factory", [small_network, normed, small_resnet, Functional])
def test_a_reordered_network_computes_the_same_and_so_do_its_masks(factory):
    torch.manual_seed(1)
    net = shifted(used(factory())).double()
    masks = random_masks(net, 0.4, 0.3, 5)
    ordered, moved = reorder(net, masks, SHAPE)
    x = torch.rand(4, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(ordered(x), net(x))
    torch.testing.assert_close(masked(ordered, moved)(x), masked(net, masks)(x))
    assert ordered.state_dict().keys() == net.state_dict().keys()
    assert [int(mask.sum()) for mask in moved.values()] == [int(mask.sum()) for mask in masks.values()]
    assert any(not torch.equal(moved[name], masks[name]) for name in masks)


def test_maps_that_matter_little_share_word_line_groups():
    torch.manual_seed(0)
    net = lenet().eval()
    masks = full_masks(net)
    masks["fc1"] = masks["fc1"].clone()
    rows = torch.arange(800) // 16
    masks["fc1"][(rows % 2 == 0), :450] = False  # every other feature map feeds a tenth of the outputs

    def segments(mask):
        """Columns of groups of 64 word lines that hold any weight."""
        return sum(int(part.any(0).sum()) for part in mask.split(64))

    ordered, moved = reorder(net, masks, (1, 28, 28))
    assert segments(masks["fc1"]) == 13 * 500
    assert segments(moved["fc1"]) == 7 * 500 + 6 * 50
    energy = (
        (to_matrix(ordered.fc1).detach() * moved["fc1"]).square().reshape(50, 16, 500).sum(1).sqrt().sum(1)
    )
    assert (energy[1:] <= energy[:-1] * (1 + 1e-6)).all()


def test_given_importance_orders_and_added_channels_share_one_order():
    torch.manual_seed(0)
    net = used(small_resnet())
    masks = full_masks(net)
    importance = {name: torch.zeros_like(mask, dtype=torch.float32) for name, mask in masks.items()}
    importance["block1.conv1"] = (
        torch.tensor([1.0, 4.0, 2.0, 3.0]).repeat_interleave(9)[:, None].expand(36, 4)
    )
    ordered, _ = reorder(net, masks, SHAPE, importance)
    order = torch.tensor([1, 3, 2, 0])
    assert torch.equal(ordered.conv1.weight, net.conv1.weight[order])
    assert torch.equal(ordered.bn1.running_mean, net.bn1.running_mean[order])
    assert torch.equal(ordered.block1.conv2.weight, net.block1.conv2.weight[order])
    assert torch.equal(ordered.block1.conv1.weight, net.block1.conv1.weight[:, order])
    assert torch.equal(ordered.block2.downsample[0].weight, net.block2.downsample[0].weight[:, order])


@pytest.mark.parametrize("factory", [normed, small_resnet, Functional])
@settings(deadline=None, max_examples=10)
@given(dead=st.sampled_from([0.2, 0.5, 0.8]), seed=st.integers(0, 99))
def test_clearing_dead_filters_changes_nothing_where_that_is_asked(factory, dead, seed):
    torch.manual_seed(seed)
    net = shifted(used(factory())).double()
    masks = random_masks(net, 1.0, dead, seed)
    graph = trace(net, SHAPE)
    for name, layer in crossbar_layers(net).items():
        # A column without a norm that loses its last weight as an unused path loses its bias as well.
        if layer.bias is not None and name not in graph.norms:
            layer.bias.data.zero_()
    before = masked(net, masks)
    kept = clear_dead(net, masks, SHAPE)
    x = torch.rand(4, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(net(x), before(x), rtol=1e-8, atol=1e-8)
    assert all((mask <= masks[name]).all() for name, mask in kept.items())


def block():
    """A padded and an unpadded convolution behind batch norms."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(),
        nn.Conv2d(5, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Flatten(), nn.Linear(96, 3),
    )  # fmt: skip


def with_dead(net, layer, columns, shift):
    masks = full_masks(net)
    norm = net[int(layer) + 1]
    masks[layer][:, columns] = False
    with torch.no_grad():
        norm.bias[columns], norm.running_mean[columns] = shift, 0.0
    apply_masks(net, masks)
    return masks


def test_a_dead_filter_behind_a_norm_is_an_unused_path_once_it_is_cleared():
    torch.manual_seed(2)
    net = used(block())
    masks = with_dead(net, "0", [1, 2], 0.7)
    before = copy.deepcopy(net)
    assert without_unused_paths(net, masks, SHAPE)["3"].all()
    kept = clear_dead(net, masks, SHAPE)
    assert not kept["3"].reshape(4, 9, 5)[1:3].any()
    assert kept["3"].reshape(4, 9, 5)[[0, 3]].all()
    x = torch.rand(4, *SHAPE)
    torch.testing.assert_close(net(x), before(x), rtol=1e-4, atol=1e-5)


def test_where_a_border_would_see_the_change_it_is_made_only_if_that_is_accepted():
    torch.manual_seed(2)
    net = used(block())
    masks = with_dead(net, "3", [0], 0.7)
    before = copy.deepcopy(net)
    x = torch.rand(4, *SHAPE)
    assert clear_dead(net, masks, SHAPE)["6"].all()
    torch.testing.assert_close(net(x), before(x))
    kept = clear_dead(net, masks, SHAPE, exact=False)
    assert not kept["6"][:9].any()
    inner = net[:9](x)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner, before[:9](x)[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(net(x), before(x), rtol=1e-4)


def test_a_shift_that_is_shut_is_cleared_even_before_a_padded_convolution():
    torch.manual_seed(2)
    net = used(block())
    masks = with_dead(net, "3", [0, 4], -0.7)
    before = copy.deepcopy(net)
    kept = clear_dead(net, masks, SHAPE)
    assert not kept["6"].reshape(5, 9, 6)[[0, 4]].any()
    x = torch.rand(4, *SHAPE)
    torch.testing.assert_close(net(x), before(x))


def test_clearing_goes_on_through_layers_that_fall_dead_in_turn():
    torch.manual_seed(2)
    net = used(block())
    masks = with_dead(net, "0", [0, 1, 2, 3], 0.7)
    with torch.no_grad():
        net[4].bias.fill_(-50.0)
    before = copy.deepcopy(net)
    kept = clear_dead(net, masks, SHAPE)
    assert not any(mask.any() for name, mask in kept.items() if name != "10")
    x = torch.rand(4, *SHAPE)
    torch.testing.assert_close(net(x), before(x))


def test_a_bias_that_goes_with_the_last_weight_of_a_column_goes_to_its_norm():
    torch.manual_seed(2)
    net = block()
    net[3] = nn.Conv2d(4, 5, 3)
    net = used(net)
    masks = with_dead(net, "0", [0, 1, 2, 3], 0.7)
    before = copy.deepcopy(net)
    kept = clear_dead(net, masks, SHAPE)
    assert not kept["3"].any()
    assert not net[3].bias.any()
    x = torch.rand(4, *SHAPE)
    torch.testing.assert_close(net(x), before(x), rtol=1e-4, atol=1e-5)


def test_added_channels_are_cleared_where_all_are_dead():
    torch.manual_seed(3)
    net = used(nn.Sequential(BasicBlock(1, 4, 2), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(12, 3)))
    masks = full_masks(net)
    masks["0.conv2"][:, :2] = False
    masks["0.downsample.0"][:, 1:3] = False
    apply_masks(net, masks)
    before = copy.deepcopy(net)
    kept = clear_dead(net, masks, SHAPE)
    alive = kept["1"].reshape(4, 9, 3).flatten(1).any(1)
    assert alive.tolist() == [True, False, True, True]
    x = torch.rand(4, *SHAPE)
    torch.testing.assert_close(net(x), before(x), rtol=1e-4, atol=1e-5)
    assert trace(net, SHAPE).ties[1] == ("0.conv2", "0.downsample.0")
