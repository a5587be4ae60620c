"""Loss and score of a task: those of each kind of target, one's own, and a line for what fits neither."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hwloop.datasets import Goal, GoalError
from hwloop.training import accuracy
from tests.line.test_cli import failed_with_one_line, hwloop

SOURCE = """\
import torch
from torch.utils.data import TensorDataset


def _split(x, y):
    return TensorDataset(x[:300], y[:300]), TensorDataset(x[300:], y[300:])


def line():
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(1))
    return _split(x, x @ torch.tensor([1.0, -2.0, 0.5, 0.0, 1.5, -1.0]))


def tokens():
    x = torch.randint(0, 5, (400, 8), generator=torch.Generator().manual_seed(1))
    return _split(torch.nn.functional.one_hot(x, 5).float(), (x + 1) % 5)


def regressor():
    return torch.nn.Sequential(torch.nn.Linear(6, 1))


def speaker():
    return torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.ReLU(), torch.nn.Linear(16, 5))


def within_half(outputs, targets):
    return ((outputs[:, 0] - targets).abs() < 0.5).float()


def absolute(outputs, targets):
    return (outputs[:, 0] - targets).abs().mean()


def everything(outputs, targets):
    return torch.ones(3)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "own_goals_of_a_user.py").write_text(SOURCE, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_goals_of_a_user", None)


def run(network: str, data: str, *settings: str) -> object:
    given = [
        f"data.name=own_goals_of_a_user:{data}",
        "data.validation=50",
        "train.epochs=6",
        "train.batch=20",
        "train.learning_rate=1e-1",
        "quantize.epochs=1",
        "hardware.rows=16",
        "hardware.cols=16",
        "spice.tiles=0",
        "retrain.epochs=1",
        "evaluate.instances=1",
        *settings,
    ]
    words = [word for text in given for word in ("--set", text)]
    return hwloop("run", "--network", f"own_goals_of_a_user:{network}", *words, "--out", "run", "--json")


@pytest.mark.parametrize(
    ("network", "data", "settings", "least", "words"),
    [
        ("regressor", "line", [], 0.9, "explained (R²)"),
        ("speaker", "tokens", [], 0.9, "over all places of the sequences"),
        (
            "regressor",
            "line",
            ["task.loss=own_goals_of_a_user:absolute", "task.metric=own_goals_of_a_user:within_half"],
            0.8,
            "Mean of own_goals_of_a_user:within_half",
        ),
    ],
)
def test_every_kind_of_task_goes_through_the_line(
    module: Path, network: str, data: str, settings: list[str], least: float, words: str
) -> None:
    done = run(network, data, *settings)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert least < summary["accuracy"]["dense"] <= 1
    assert summary["accuracy"]["hardware_after"]["mean"] > 0.5
    assert words in summary["how"]["accuracy.dense"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["task.metric=own_goals_of_a_user:everything"], "gives [3], not one for each sample"),
        (["task.loss=own_goals_of_a_user:nothing"], "'own_goals_of_a_user' has no function 'nothing'"),
        (["task.loss=classification"], "targets are floats, which are no classes"),
        (["task.loss=hinge"], "must read auto, classification, regression, next-token or"),
    ],
)
def test_what_does_not_fit_is_one_line_before_training(module: Path, settings: list[str], said: str) -> None:
    assert said in failed_with_one_line(run("regressor", "line", *settings))


def test_scores_are_what_they_are_called() -> None:
    x, y = torch.randn(40, 3), torch.randint(0, 3, (40,))
    net = nn.Linear(3, 3)
    assert accuracy(net, x, y, batch=7) == pytest.approx(float((net(x).argmax(1) == y).float().mean()))
    wanted = torch.randn(40, 3)
    error = (net(x) - wanted).detach().square().mean()
    assert accuracy(net, x, wanted, batch=7) == pytest.approx(
        1 - float(error / wanted.var(0, correction=0).mean()), rel=1e-5
    )
    sequence, tokens = torch.randn(4, 6, 9), torch.randint(0, 9, (4, 6))
    goal = Goal()
    assert torch.allclose(
        goal.loss_of(sequence, tokens), F.cross_entropy(sequence.reshape(-1, 9), tokens.reshape(-1))
    )
    assert torch.allclose(goal.loss_of(sequence.movedim(2, 1), tokens), goal.loss_of(sequence, tokens))


class Output(dict):
    @property
    def logits(self) -> torch.Tensor:
        return self["logits"]


def test_logits_are_taken_from_what_holds_them() -> None:
    logits, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    assert Goal().loss_of({"logits": logits}, y) == F.cross_entropy(logits, y)
    assert Goal().loss_of(Output(logits=logits), y) == F.cross_entropy(logits, y)
    with pytest.raises(GoalError, match="gives tuple"):
        Goal().loss_of((logits,), y)
