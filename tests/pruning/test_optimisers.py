"""Optimisers on problems whose answers are known."""

import pytest
import torch
from torch import nn

from device_models.random import torch_stream
from hwloop.datasets import Dataset
from hwloop.networks import crossbar_layers, factor_layers, to_matrix
from hwloop.pruning import PruningError, prune
from hwloop.pruning.course import Course
from hwloop.pruning.gates import choose
from hwloop.pruning.groups import Rows
from hwloop.pruning.lasso import group_lasso
from hwloop.pruning.ranks import Factored
from hwloop.recipe import Keep, Prune

USEFUL = (1, 4, 7, 10)


def planted(seed=0, images=600):
    """Two classes told apart by four of twelve inputs; the other inputs are noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images, 1, 1, 12, generator=generator)
    y = (x[:, 0, 0, USEFUL].sum(1) > 0).long()
    return Dataset("planted", x[:400], y[:400], x[400:500], y[400:500], x[500:], y[500:])


class Two(nn.Module):
    """A hidden layer and a classifier."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.hidden, self.out = nn.Linear(12, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.hidden(x.flatten(1)).relu())


def trained(seed=0):
    net, data = Two(seed), planted(seed)
    Course(net, data, epochs=8, batch=20, seed=seed).train("dense", 8, 1e-2)
    return net, data


def kept_rows(mask):
    return tuple(mask.any(1).nonzero()[:, 0].tolist())


@pytest.mark.parametrize("method", ["admm", "hard-threshold"])
def test_rows_that_carry_the_answer_are_the_ones_kept(method):
    net, data = trained()
    choice = Prune(method=method, rounds=4, rho=0.05, learning_rate=5e-3, retrain_epochs=1,
                   keep={"hidden": Keep(rows=4)})  # fmt: skip
    assert kept_rows(prune(net, data, choice, batch=20, seed=1).masks["hidden"]) == USEFUL


@pytest.mark.parametrize("kind", ["lasso", "clipped", "reweighted"])
def test_group_lasso_drives_noise_to_exactly_zero_and_keeps_the_answer(kind):
    net, data = trained()
    course = Course(net, data, epochs=6, batch=20, seed=1)
    strength = 2.0 if kind == "reweighted" else 8.0
    choice = Prune(strength=strength, clip=1.0, learning_rate=2e-3)
    group_lasso(course, {"hidden": [Rows(12)]}, choice, kind, 6)
    assert kept_rows(to_matrix(net.hidden)) == USEFUL


def test_clipped_lasso_leaves_important_groups_their_size():
    norms = {}
    for kind in ("lasso", "clipped"):
        net, data = trained()
        course = Course(net, data, epochs=4, batch=20, seed=1)
        group_lasso(
            course, {"hidden": [Rows(12)]}, Prune(strength=8.0, clip=0.8, learning_rate=2e-3), kind, 4
        )
        norms[kind] = to_matrix(net.hidden)[list(USEFUL)].norm().item()
    assert norms["clipped"] > 1.1 * norms["lasso"]


@pytest.mark.parametrize("projection", ["pool", "draw", "largest"])
def test_gates_find_the_groups_that_make_the_output(projection):
    generator = torch.Generator().manual_seed(1)
    x, matrix = torch.randn(400, 12, generator=generator), 0.02 * torch.randn(12, 3, generator=generator)
    matrix[3:6] = torch.randn(3, 3, generator=generator)
    matrix[9:12, 1] = torch.randn(3, generator=generator)
    groups = (torch.arange(12) // 3)[:, None] * 3 + torch.arange(3)
    gates = choose(x, matrix, groups, 4, projection, torch_stream(1, "test"))
    assert gates.nonzero()[:, 0].tolist() == [3, 4, 5, 10]


def test_gates_are_those_of_least_squared_error_for_their_support():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(300, 8, generator=generator) @ torch.randn(8, 8, generator=generator)
    matrix = torch.randn(8, 2, generator=generator)
    groups = (torch.arange(8) // 2)[:, None].expand(8, 2)
    gates = choose(x, matrix, groups, 2, "largest", torch_stream(2, "test"))
    support = gates.nonzero()[:, 0]
    parts = torch.stack([(x @ (matrix * (groups == g))).flatten() for g in support], 1)
    best = torch.linalg.lstsq(parts, (x @ matrix).flatten()[:, None]).solution[:, 0]
    torch.testing.assert_close(gates[support], best, rtol=1e-3, atol=1e-3)


def test_a_matrix_of_low_rank_is_clipped_to_that_rank_without_error():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 15), nn.ReLU(), nn.Linear(15, 3))
    with torch.no_grad():
        net[0].weight.copy_(torch.randn(15, 4) @ torch.randn(4, 20))
    x = torch.randn(5, 20)
    before = net(x)
    factored = Factored(net, {"0": 15})
    for by in ("factor", "product"):
        factored.clip(1e-6, by)
        assert factored.ranks == {"0": 4}
    torch.testing.assert_close(net(x), before, rtol=1e-4, atol=1e-4)
    assert list(crossbar_layers(net)) == ["0.u", "0.v", "2"]


def test_clipped_ranks_lose_no_more_than_the_error_allowed():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(20, 15), nn.ReLU(), nn.Linear(15, 3))
    matrix = to_matrix(net[0]).detach().clone()
    factored = Factored(net, {"0": 15})
    factored.clip(0.2, "factor")
    layers = crossbar_layers(net)
    product = (to_matrix(layers["0.u"]) @ to_matrix(layers["0.v"])).detach()
    error = float((product - matrix).square().sum() / matrix.square().sum())
    singular = torch.linalg.svdvals(matrix).square()
    rank = factored.ranks["0"]
    assert error == pytest.approx(float(singular[rank:].sum() / singular.sum()), rel=1e-3)
    assert error <= 0.2 < float(singular[rank - 1 :].sum() / singular.sum())


def test_group_scissor_ends_as_the_network_that_its_spec_builds():
    net, data = trained()
    choice = Prune(method="group-scissor", rounds=2, retrain_epochs=1, keep={"hidden": Keep(rank=3)})
    pruned = prune(net, data, choice, batch=20, seed=1, array_shape=(4, 4))
    assert pruned.ranks == {"hidden": 3}
    again = Two()
    factor_layers(again, pruned.ranks)
    again.load_state_dict(pruned.net.state_dict())
    torch.testing.assert_close(again(data.test_x), pruned.net(data.test_x))


def test_weights_of_fragments_share_their_sign_to_the_end():
    net, data = trained()
    choice = Prune(method="forms", rounds=2, retrain_epochs=2, keep={"hidden": Keep(fragment=4)})
    pruned = prune(net, data, choice, batch=20, seed=1)
    for fragment in to_matrix(pruned.net.hidden)[pruned.masks["hidden"].any(1)].split(4):
        assert ((fragment >= 0).all(0) | (fragment <= 0).all(0)).all()


def test_what_cannot_be_kept_is_named():
    net, data = trained()
    with pytest.raises(PruningError, match=r"prune\.keep\.hidden\.rank: only group-scissor"):
        prune(net, data, Prune(keep={"hidden": Keep(rank=2)}), batch=20, seed=1)
    choice = Prune(method="group-scissor", keep={"hidden": Keep(rank=9)})
    with pytest.raises(PruningError, match=r"hidden\.rank: a matrix of 12x8 has no rank 9"):
        prune(net, data, choice, batch=20, seed=1)
