"""ADMM pruning: it ends inside its constraint sets, beats pruning without it, and resumes to the bit."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from hwloop.networks import build_network, crossbar_layers, digest, from_matrix, record_inputs, to_matrix
from hwloop.pruning import PruningError, apply_masks, full_masks, prune, without_unused_paths
from hwloop.recipe import Keep, Prune
from hwloop.training.fit import accuracy, fit, one_cycle
from tests.line.small import digits, seeded_network

DIGITS = digits()
KEEP = {
    "conv1": Keep(filters=4),
    "conv2": Keep(filters=5, rows=20),
    "fc1": Keep(filters=12, rows=14, blocks=3),
}
PRUNE = Prune(
    rounds=6,
    epochs_per_round=2,
    rho=3e-2,
    rho_growth=2,
    learning_rate=3e-3,
    retrain_epochs=4,
    retrain_learning_rate=1e-2,
    keep=KEEP,
)


@pytest.fixture(scope="module")
def trained():
    net = seeded_network()
    fit(
        net,
        DIGITS,
        epochs=8,
        batch=25,
        learning_rate=1e-2,
        seed=1,
        station="train",
        schedule=one_cycle,
    )
    return net


def pruned(net, choice=PRUNE, **arguments):
    result = prune(net, DIGITS, choice, batch=25, seed=1, array_shape=(8, 8), **arguments)
    return result.net, result


def test_the_pruned_network_keeps_what_the_recipe_says_and_its_accuracy(trained):
    net, result = pruned(trained)
    masks = result.masks
    for name, layer in crossbar_layers(net).items():
        assert torch.equal(to_matrix(layer) != 0, masks[name])
    assert int(masks["conv1"].any(0).sum()) <= 4
    assert int(masks["conv2"].any(0).sum()) <= 5
    assert int(masks["conv2"].any(1).sum()) <= 20
    assert int(masks["fc1"].any(0).sum()) <= 12
    assert int(masks["fc1"].any(1).sum()) <= 14
    assert masks["fc2"].any(1).tolist() == masks["fc1"].any(0).tolist()
    assert len(result.records) == 6 * 2 + 4
    dense = accuracy(trained, DIGITS.test_x, DIGITS.test_y)
    assert accuracy(net, DIGITS.test_x, DIGITS.test_y) > dense - 0.06


def test_rounds_bring_the_weights_to_their_sets(trained):
    """After ADMM the masked mapping costs little; without it, it costs most of what the network knew."""
    without_retraining = PRUNE.model_copy(update={"retrain_epochs": 0})
    without_admm = without_retraining.model_copy(update={"rounds": 1, "epochs_per_round": 1, "rho": 1e-9})
    accuracies = {}
    for name, choice in (("admm", without_retraining), ("cut", without_admm)):
        net, _ = pruned(trained, choice)
        accuracies[name] = accuracy(net, DIGITS.train_x, DIGITS.train_y)
    assert accuracies["admm"] > accuracies["cut"] + 0.2


def test_a_resumed_pruning_ends_bit_for_bit_where_an_unbroken_one_ends(trained, tmp_path):
    class CutOffError(Exception):
        pass

    def run_until(stop):
        seen = []

        def listen(fraction, _):
            seen.append(fraction)
            if fraction > stop:
                raise CutOffError

        with pytest.raises(CutOffError):
            pruned(trained, checkpoint=tmp_path, progress=listen)
        assert seen == sorted(seen)

    expected, unbroken = pruned(trained)
    for stop in (0.1, 0.4, 0.8):
        run_until(stop)
    net, resumed = pruned(trained, checkpoint=tmp_path)
    assert digest(net.state_dict()) == digest(expected.state_dict())
    assert resumed.records == unbroken.records
    assert all(torch.equal(resumed.masks[name], mask) for name, mask in unbroken.masks.items())


def test_a_recipe_that_keeps_everything_leaves_the_network_alone(trained):
    net, result = pruned(trained, Prune())
    assert digest(net.state_dict()) == digest(trained.state_dict())
    assert all(mask.all() for mask in result.masks.values())


def test_a_layer_that_is_not_there_is_named(trained):
    with pytest.raises(PruningError, match=r"prune\.keep\.fc9: no such layer; the network has conv1, conv2"):
        pruned(trained, PRUNE.model_copy(update={"keep": {"fc9": Keep(rows=1)}}))


def test_unused_paths_change_no_output_in_either_direction():
    net = seeded_network()
    masks = full_masks(net)
    masks["conv1"][:, 2] = False  # feeds rows 18 to 26 of conv2
    masks["conv2"][36:45] = False  # all that reads filter 4 of conv1
    masks["fc2"][5] = False  # all that reads filter 5 of fc1
    less = without_unused_paths(net, masks, (1, 8, 8))
    assert not less["conv2"][18:27].any()
    assert not less["conv1"][:, 4].any()
    assert not less["fc1"][:, 5].any()
    expected = sum(int(mask.sum()) for mask in masks.values()) - 9 * 10 - 9 - 40
    assert sum(int(mask.sum()) for mask in less.values()) == expected
    apply_masks(net, masks)
    x = torch.rand(5, 1, 8, 8)
    before = net(x)
    with torch.no_grad():
        for name, layer in crossbar_layers(net).items():
            layer.weight.copy_(from_matrix(layer, to_matrix(layer) * less[name]))
    torch.testing.assert_close(net(x), before)


@pytest.mark.parametrize("seed", range(5))
def test_a_network_that_nobody_pruned_has_no_unused_path(seed):
    torch.manual_seed(seed)
    normed = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 1),
        nn.GroupNorm(2, 6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(216, 20),
        nn.ReLU(),
        nn.Linear(20, 3),
    )
    with torch.no_grad():
        for tensor in (normed[1].weight, normed[1].bias, normed[1].running_mean):
            tensor.normal_()
    for net, shape in ((build_network("hwloop.networks:lenet", seed), (1, 28, 28)), (normed, (1, 8, 8))):
        masks = full_masks(net)
        less = without_unused_paths(net, masks, shape)
        assert all(torch.equal(less[name], mask) for name, mask in masks.items())


def test_unused_paths_follow_additions_and_batch_norm():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
            self.plain, self.out = nn.Linear(4, 4), nn.Linear(8, 3)

        def forward(self, x):
            return self.out(torch.cat([self.a(x) + self.b(x), self.plain(x)], 1))

    net = Residual()
    masks = full_masks(net)
    masks["a"][:, 0] = False  # b still gives this channel
    masks["plain"][:, 1] = False  # nothing else gives this one
    less = without_unused_paths(net, masks, (4,))
    assert [i for i, row in enumerate(less["out"]) if not row.any()] == [5]

    net = nn.Sequential(OrderedDict(a=nn.Linear(4, 4), norm=nn.BatchNorm1d(4), out=nn.Linear(4, 2)))
    nn.init.constant_(net.norm.bias, 0.3)
    masks = full_masks(net)
    masks["a"][:, 0] = False  # batch norm shifts this channel, so its row is in use
    assert without_unused_paths(net, masks, (4,))["out"].all()


def test_a_column_without_weights_loses_its_bias_so_that_it_feeds_nothing():
    net = seeded_network()
    masks = full_masks(net)
    masks["conv1"][:, 3] = False
    apply_masks(net, masks)
    assert not record_inputs(net, torch.rand(2, 1, 8, 8))["conv2"][:, 3].any()


def test_grouped_convolutions_are_pruned_in_their_blocks():
    net = nn.Sequential(OrderedDict(a=nn.Conv2d(4, 8, 3, groups=2), flat=nn.Flatten(), b=nn.Linear(288, 10)))
    wide = digits()
    net = nn.Sequential(OrderedDict(first=nn.Conv2d(1, 4, 1), **dict(net.named_children())))
    result = prune(
        net,
        wide,
        Prune(rounds=1, retrain_epochs=1, keep={"a": Keep(filters=5, rows=20)}),
        batch=100,
        seed=1,
    )
    layer = result.net.a
    outside = to_matrix(layer, torch.ones_like(layer.weight)) == 0
    assert not (result.masks["a"] & outside).any()
    assert torch.equal(to_matrix(layer) != 0, result.masks["a"])


def test_filters_that_die_before_a_batch_norm_take_their_rows_with_them():
    torch.manual_seed(0)
    net = nn.Sequential(
        OrderedDict(
            a=nn.Conv2d(1, 6, 3, bias=False),
            norm=nn.BatchNorm2d(6),
            relu=nn.ReLU(),
            b=nn.Conv2d(6, 5, 3, padding=1),
            flat=nn.Flatten(),
            c=nn.Linear(180, 10),
        )
    )
    nn.init.constant_(net.norm.bias, 0.3)
    choice = Prune(rounds=1, retrain_epochs=1, keep={"a": Keep(filters=4)})
    result = prune(net, digits(), choice, batch=100, seed=1)
    assert int(result.masks["a"].any(0).sum()) == 4
    assert int(result.masks["b"].any(1).sum()) == 4 * 9


def test_pruning_goes_through_residual_additions():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
            self.inner, self.inner_norm = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
            self.outer, self.outer_norm = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
            self.out = nn.Linear(216, 10)

        def forward(self, x):
            x = self.norm(self.stem(x)).relu()
            y = self.outer_norm(self.outer(self.inner_norm(self.inner(x)).relu()))
            return self.out((x + y).relu().flatten(1))

    torch.manual_seed(0)
    choice = Prune(method="tiny", rounds=1, retrain_epochs=1, keep={"inner": Keep(filters=3)})
    result = prune(Residual(), digits(), choice, batch=100, seed=1)
    assert int(result.masks["outer"].any(1).sum()) <= 27
    assert all(mask.any() for mask in result.masks.values())
