"""The traced graph: channels are followed wherever they go, and what cannot be followed is named."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hwloop.networks import NetworkError, build_network, crossbar_layers, lenet, record_inputs, to_matrix
from hwloop.pruning.graph import IMAGE, trace
from tests.line.small import small_network
from tests.line.test_zoo import small_resnet, used


class Functional(nn.Module):
    """The operations of torch as functions and methods instead of modules."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.conv3 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 5, 1)
        self.fc1, self.fc2 = nn.Linear(20, 7), nn.Linear(5, 7)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x * 2 - 1)))
        y = torch.relu(self.conv2(x))
        y = y + F.dropout(x, training=self.training)
        z = torch.cat([F.max_pool2d(x, 2), F.avg_pool2d(y, 2)], 1)
        z = self.conv3(z).relu()
        p = F.adaptive_avg_pool2d(z, 2)
        return self.fc1(p.view(p.size(0), -1)) + self.fc2(z.mean(dim=(2, 3)))


def probed_feeds(net, shape):
    """For each layer and row, which columns of other layers move it: found by moving every column in turn."""
    layers = crossbar_layers(net)
    x = torch.rand(1, *shape)
    plain = record_inputs(net, x)
    feeds = {name: {} for name in layers}
    for producer, layer in layers.items():
        for column in range(to_matrix(layer).shape[1]):

            def shift(_module, _inputs, out, column=column):
                out = out.clone()
                out[:, column] += 3.0
                return out

            handle = layer.register_forward_hook(shift)
            moved = record_inputs(net, x)
            handle.remove()
            for name, consumer in layers.items():
                changed = (moved[name] != plain[name])[0]
                if isinstance(consumer, nn.Conv2d):
                    changed = changed.flatten(1).any(1).repeat_interleave(consumer.weight[0, 0].numel())
                feeds[name].setdefault(producer, []).append(changed)
    return {name: {p: torch.stack(c, 1) for p, c in found.items()} for name, found in feeds.items()}


@pytest.mark.parametrize("factory", [small_network, Functional, small_resnet])
def test_rows_are_fed_by_the_channels_that_move_them(factory):
    torch.manual_seed(0)
    net = used(factory())
    probed = probed_feeds(net, (1, 8, 8))
    graph = trace(net, (1, 8, 8))
    layers = crossbar_layers(net)
    assert graph.feeds.keys() == layers.keys()
    for name, feeds in graph.feeds.items():
        for producer, channels in feeds.items():
            assert len(channels) == len(to_matrix(layers[name]))
            if producer != IMAGE:
                # A column moves rows further down as well; those it feeds at once must move with it.
                rows = (channels >= 0).nonzero()[:, 0]
                moved = probed[name][producer]
                assert (moved[rows, channels[rows]]).float().mean() > 0.9
        direct = {producer for producer in feeds if producer != IMAGE}
        for producer, moved in probed[name].items():
            assert not moved.any() or producer in direct or graph_reaches(graph, producer, name)


def graph_reaches(graph, producer, name):
    """Whether a layer feeds another one by way of others."""
    before = set(graph.feeds[name]) - {IMAGE}
    return producer in before or any(graph_reaches(graph, producer, other) for other in before)


def test_a_channel_feeds_height_times_width_rows_behind_a_flattening():
    graph = trace(lenet(), (1, 28, 28))
    assert graph.feeds["fc1"]["conv2"].tolist() == [channel for channel in range(50) for _ in range(16)]
    assert graph.feeds["conv2"]["conv1"].tolist() == [channel for channel in range(20) for _ in range(25)]
    assert graph.feeds["conv1"] == {IMAGE: graph.feeds["conv1"][IMAGE]}
    assert graph.ties == (("conv1",), ("conv2",), ("fc1",), ("fc2",))
    assert graph.fixed == {"fc2"}


def test_residual_additions_tie_channels():
    graph = trace(small_resnet(), (1, 8, 8))
    assert graph.ties == (
        ("conv1", "block1.conv2"),
        ("block1.conv1",),
        ("block2.conv1",),
        ("block2.conv2", "block2.downsample.0"),
        ("fc",),
    )
    assert graph.feeds["block2.conv1"].keys() == {"conv1", "block1.conv2"}
    assert graph.norms["block2.downsample.0"] == "block2.downsample.1"
    assert graph.fixed == {"fc"}
    big = trace(build_network("hwloop.networks:resnet18"), (3, 32, 32))
    assert ("layer3.0.conv2", "layer3.0.downsample.0", "layer3.1.conv2") in big.ties


def test_functions_and_methods_are_followed_like_modules():
    graph = trace(Functional(), (1, 8, 8))
    assert graph.ties == (("conv1", "conv2"), ("conv3",), ("fc1", "fc2"))
    assert graph.feeds["conv3"]["conv1"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert graph.feeds["conv3"]["conv2"].tolist() == [-1] * 4 + [0, 1, 2, 3]
    assert graph.feeds["fc1"]["conv3"].tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert graph.feeds["fc2"]["conv3"].tolist() == [0, 1, 2, 3, 4]


def test_grouped_convolutions_and_norms_over_channels_keep_them_in_their_places():
    net = nn.Sequential(
        OrderedDict(
            a=nn.Conv2d(1, 4, 3),
            b=nn.Conv2d(4, 4, 3, groups=2),
            c=nn.Conv2d(4, 4, 1),
            norm=nn.GroupNorm(2, 4),
            d=nn.Conv2d(4, 3, 1),
            e=nn.Conv2d(3, 2, 1),
        )
    )
    assert trace(net, (1, 8, 8)).fixed == {"a", "b", "c", "e"}


def test_tracing_leaves_the_network_as_it_was():
    net = small_resnet().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trace(net, (1, 8, 8))
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Branches(nn.Module):
    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.how = forward

    def forward(self, x):
        return self.how(self, x)


FC = {"fc": nn.Linear(64, 64)}


@pytest.mark.parametrize(
    ("forward", "layers", "words"),
    [
        (lambda s, x: s.fc(x.flatten(1)) if x.sum() > 0 else x, FC, "cannot be traced.*control flow"),
        (lambda s, x: s.fc(s.fc(x.flatten(1))), FC, "at fc: a layer is used twice"),
        (lambda s, x: s.fc(x.flatten(1)) * x.flatten(1), FC, "at mul: two values .* can only be added"),
        (lambda s, x: s.fc(x.flatten(1)).softmax(1), FC, "at softmax: channels cannot be followed"),
        (lambda s, x: s.fc(x.reshape(-1, 64)[:, :64]), FC, "at getitem"),
        (lambda s, x: s.fc(x).mean(1), {"fc": nn.Linear(8, 64)}, "at fc: takes values of shape"),
        (lambda s, x: x.flatten(1), FC, "layer fc is never used"),
        (lambda s, x: (s.fc(x.flatten(1)), x), FC, "must return one tensor"),
        (lambda s, x: s.fc(x.view(1, 8, 4, 2).flatten(1)), FC, r"at view: makes \[1, 8, 4, 2\]"),
        (lambda s, x: s.fc(x.flatten(1)) + x.flatten(1)[:, :1], FC, "at getitem"),
        (lambda s, x: s.bn(s.fc(s.bn(x.flatten(1)))), {**FC, "bn": nn.BatchNorm1d(64)}, "a layer is used"),
        (lambda s, x: s.a(x) + s.b(x), {"a": nn.Conv2d(1, 4, 1), "b": nn.Conv2d(1, 1, 1)}, "one shape"),
        (lambda s, x: s.act(s.fc(x.flatten(1))), {**FC, "act": nn.Softmax(1)}, "at act: channels"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_named(forward, layers, words):
    with pytest.raises(NetworkError, match=words) as error:
        trace(Branches(forward, **layers), (1, 8, 8))
    assert "supported are" in str(error.value) or "never used" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_network_with_another_kind_of_weights_or_images_is_named():
    with pytest.raises(NetworkError, match="cannot be followed at 0"):
        trace(nn.Sequential(nn.ConvTranspose2d(1, 1, 2), nn.Conv2d(1, 1, 2)), (1, 8, 8))
    with pytest.raises(NetworkError, match="cannot be traced"):
        trace(lenet(), (3, 28, 28))


def test_a_view_that_names_its_features_keeps_the_channels_in_their_places():
    layers = {"conv": nn.Conv2d(1, 4, 1), "fc": nn.Linear(256, 3)}
    named = Branches(lambda s, x: s.fc(s.conv(x).view(-1, 256)), **layers)
    free = Branches(lambda s, x: s.fc(s.conv(x).view(x.size(0), -1)), **layers)
    assert trace(named, (1, 8, 8)).fixed == {"conv", "fc"}
    assert trace(free, (1, 8, 8)).fixed == {"fc"}
