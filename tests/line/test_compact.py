"""Compaction: what cannot matter is gone, and the network computes what it did."""

import copy
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwloop.networks import build_network, crossbar_layers, lenet, to_matrix
from hwloop.networks.zoo import BasicBlock
from hwloop.pruning import apply_masks, compact, full_masks
from tests.line.small import small_network
from tests.line.test_graph import Functional
from tests.line.test_zoo import small_resnet, used

SHAPE = (1, 8, 8)


def normed():
    """Batch norms of all sorts, and a padded, an unpadded and a strided convolution."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(6),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(6, 8, 3),
            bn2=nn.BatchNorm2d(8, affine=False),
            act=nn.Sigmoid(),
            pool=nn.MaxPool2d(2),
            conv3=nn.Conv2d(8, 5, 3, padding=1, stride=2),
            flatten=nn.Flatten(),
            bn3=nn.BatchNorm1d(20),
            fc1=nn.Linear(20, 12, bias=False),
            bn4=nn.BatchNorm1d(12),
            fc2=nn.Linear(12, 10),
        )
    )


def shifted(net):
    """The network with batch norms that scale and shift, so that dead filters give constants."""
    generator = torch.Generator().manual_seed(7)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            module.weight.data = torch.randn(module.weight.shape, generator=generator)
            module.bias.data = torch.randn(module.bias.shape, generator=generator)
    return net


def masked(net, masks):
    copied = copy.deepcopy(net)
    apply_masks(copied, masks)
    return copied.eval()


def random_masks(net, density, dead, seed):
    """Masks that keep weights at random, and of which some columns and some rows are empty."""
    generator = torch.Generator().manual_seed(seed)

    def chance(shape, p):
        return torch.rand(shape, generator=generator) < p

    return {
        name: mask
        & chance(mask.shape, density)
        & chance((1, mask.shape[1]), 1 - dead)
        & chance((len(mask), 1), 1 - dead / 2)
        for name, mask in full_masks(net).items()
    }


def weights(net):
    return sum(layer.weight.numel() for layer in crossbar_layers(net).values())


@pytest.mark.parametrize("factory", [small_network, normed, small_resnet, Functional])
@settings(deadline=None, max_examples=12)
@given(
    density=st.sampled_from([0.05, 0.3, 1.0]),
    dead=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    seed=st.integers(0, 99),
)
def test_a_compact_network_computes_the_same(factory, density, dead, seed):
    torch.manual_seed(seed)
    net = shifted(used(factory())).double()
    masks = random_masks(net, density, dead, seed)
    small = compact(net, masks, SHAPE)
    assert weights(small) <= weights(net)
    x = torch.rand(5, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(small.eval()(x), masked(net, masks)(x), rtol=1e-9, atol=1e-9)


def test_dead_filters_and_what_only_they_feed_are_gone():
    net = lenet().eval()
    masks = full_masks(net)
    masks["conv1"][:, 5:] = False
    masks["conv2"][:, 10:] = False
    masks["fc1"][:, 30:] = False
    masks["fc2"][:7] = False
    small = compact(net, masks, (1, 28, 28))
    assert [tuple(to_matrix(layer).shape) for layer in crossbar_layers(small).values()] == [
        (25, 5),
        (125, 10),
        (160, 23),
        (23, 10),
    ]
    assert (small.fc1.in_features, small.conv2.out_channels) == (160, 10)
    x = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(small(x), masked(net, masks)(x), rtol=1e-5, atol=1e-6)
    assert net.conv1.out_channels == 20


def test_a_channel_of_an_addition_goes_when_all_branches_can_spare_it():
    torch.manual_seed(1)
    net = used(small_resnet())
    masks = full_masks(net)
    masks["block2.conv2"][:, :2] = False
    assert compact(net, masks, SHAPE).fc.in_features == 6
    masks["block2.downsample.0"][:, 1:3] = False
    small = compact(net, masks, SHAPE)
    # What the batch norms shift goes into the biases of fc: average pooling leaves a constant what it is.
    assert small.fc.in_features == 5
    assert (small.block2.conv2.out_channels, small.block2.bn2.num_features) == (5, 5)
    x = torch.rand(3, *SHAPE)
    torch.testing.assert_close(small(x), masked(net, masks)(x), rtol=1e-4, atol=1e-5)


def test_a_shift_that_a_padded_convolution_would_see_keeps_its_channel_unless_it_is_shut():
    net = nn.Sequential(OrderedDict(block=BasicBlock(1, 1), flatten=nn.Flatten(), fc=nn.Linear(64, 2)))
    net.block.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
    net.block.bn1, net.block.conv2 = nn.BatchNorm2d(4), nn.Conv2d(4, 1, 3, padding=1, bias=False)
    net = used(net)
    masks = full_masks(net)
    masks["block.conv1"][:, :2] = False
    net.block.bn1.bias.data[:2] = net.block.bn1.running_mean[:2] = 0.0
    net.block.bn1.bias.data[0] = 1.0
    small = compact(net, masks, SHAPE)
    assert small.block.conv1.out_channels == 3
    x = torch.rand(3, *SHAPE)
    torch.testing.assert_close(small(x), masked(net, masks)(x), rtol=1e-4, atol=1e-5)


def test_a_network_without_any_weight_keeps_one_channel_of_each_layer():
    net = lenet().eval()
    masks = {name: torch.zeros_like(mask) for name, mask in full_masks(net).items()}
    small = compact(net, masks, (1, 28, 28))
    assert [layer.weight.shape[0] for layer in crossbar_layers(small).values()] == [1, 1, 1, 10]
    torch.testing.assert_close(small(torch.rand(2, 1, 28, 28)), torch.zeros(2, 10))


def test_grouped_convolutions_stay_whole_and_what_is_behind_them_shrinks():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 6, 1), nn.Flatten(), nn.Linear(96, 10)
    ).eval()
    masks = full_masks(net)
    masks["0"][:, 1] = masks["1"][:, 2] = masks["2"][:, :3] = False
    small = compact(net, masks, SHAPE)
    assert (small[0].out_channels, small[2].out_channels, small[4].in_features) == (4, 3, 48)
    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(small(x), masked(net, masks)(x), rtol=1e-4, atol=1e-5)


def test_a_compact_network_can_be_trained_and_keeps_the_mode_of_the_first():
    net = used(normed()).train()
    masks = full_masks(net)
    masks["conv2"][:, :4] = False
    small = compact(net, masks, SHAPE)
    assert small.training
    small(torch.rand(4, *SHAPE)).sum().backward()
    assert all(p.grad is not None for p in small.parameters() if p.requires_grad)


def test_resnet18_shrinks_with_its_stages():
    net = build_network("hwloop.networks:resnet18").eval()
    masks = full_masks(net)
    for name in ("layer4.0.conv2", "layer4.1.conv2", "layer4.0.downsample.0"):
        masks[name][:, 100:] = False
    masks["layer4.0.conv1"][:, 60:] = False
    small = compact(net, masks, (3, 32, 32))
    assert small.fc.in_features == 100
    assert small.layer4[0].conv1.out_channels == 60
    assert small.layer4[1].conv1.in_channels == 100
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(small(x), masked(net, masks)(x), rtol=1e-4, atol=1e-4)
