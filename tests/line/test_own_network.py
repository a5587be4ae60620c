"""A network of the user's own: found where it lies, a recipe that fits it, weights as people have them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import parametrizations as torch_parametrizations
from torch.nn.utils import prune as torch_prune

from hwloop import convert
from hwloop.line import RunFolder, load_inputs
from hwloop.networks import (
    NetworkError,
    build_network,
    crossbar_layers,
    load_weights,
    prune_by_masks,
    to_matrix,
)
from hwloop.recipe import Recipe, RecipeError, load_recipe, with_setting
from tests.line.test_cli import failed_with_one_line, hwloop
from tests.line.tiny import write_digits

SOURCE = """\
from torch import nn


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
"""
SMALL = ["train.epochs=1", "quantize.epochs=0", "spice.tiles=0", "retrain.epochs=0", "evaluate.images=50"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module and images."""
    (tmp_path / "own_net_of_a_user.py").write_text(SOURCE, "utf-8")
    write_digits(tmp_path / "digits.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_net_of_a_user", None)


def _settings(*more: str) -> list[str]:
    return [word for text in (*SMALL, *more) for word in ("--set", text)]


def test_init_writes_a_recipe_that_every_command_runs(folder: Path) -> None:
    made = hwloop("init", "--network", "own_net_of_a_user:net", "--data", "digits.npz", "--out", "own.toml")
    assert made.exit_code == 0, made.output
    recipe = load_recipe(folder / "own.toml")
    assert recipe.data.validation == 90
    assert '[prune.keep."1"]' in (folder / "own.toml").read_text("utf-8")
    load_inputs(recipe)
    settings = _settings("evaluate.instances=1", "hardware.rows=16", "hardware.cols=16")
    assert (
        hwloop("prune", "own_net_of_a_user:net", "--recipe", "own.toml", *settings, "--out", "a").exit_code
        == 0
    )
    # A process of its own has not imported the module yet.
    command = [sys.executable, "-c", "from hwloop.cli import main; main()", "map", "a"]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": root}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_init_writes_over_nothing(folder: Path) -> None:
    (folder / "recipe.toml").write_text("seed = 1\n", "utf-8")
    line = failed_with_one_line(hwloop("init", "--network", "own_net_of_a_user:net", "--data", "digits.npz"))
    assert "--fresh" in line


def test_the_working_directory_shadows_nothing_but_what_the_user_names(folder: Path) -> None:
    (folder / "colorsys.py").write_text("raise RuntimeError('not mine')\n", "utf-8")
    sys.modules.pop("colorsys", None)
    load_inputs(_recipe(folder))
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0.0)


def test_a_network_without_a_recipe_gets_none_of_lenets_choices(folder: Path) -> None:
    failed = hwloop("run", "--network", "own_net_of_a_user:net", "--out", "a")
    line = failed_with_one_line(failed)
    assert "does not take images" in line  # MNIST's, the default; LeNet's layers are not looked for
    assert "prune.keep" not in line


def test_a_network_does_not_erase_the_recipes_weights(folder: Path) -> None:
    (folder / "own.toml").write_text(
        '[network]\nweights = "gone.safetensors"\n[data]\nname = "digits.npz"\nvalidation = 90\n', "utf-8"
    )
    failed = hwloop("run", "own.toml", "--network", "own_net_of_a_user:net", "--out", "a")
    assert "gone.safetensors: no such file" in failed_with_one_line(failed)


def _recipe(folder: Path, **network: str) -> object:
    text = '[network]\nfactory = "own_net_of_a_user:net"\n' + "".join(
        f'{k} = "{v}"\n' for k, v in network.items()
    )
    (folder / "r.toml").write_text(text + '[data]\nname = "digits.npz"\nvalidation = 90\n', "utf-8")
    return load_recipe(folder / "r.toml")


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.mark.parametrize("ending", ["", ".weight", ".weight_mask"])
@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_masks_say_which_weights_are_pruned(tmp_path: Path, ending: str, suffix: str) -> None:
    net, mask = _net(), torch.rand(16, 64) > 0.7
    if suffix == "npz":
        np.savez(tmp_path / "m.npz", **{f"1{ending}": mask.numpy()})
    else:
        safetensors.torch.save_file({f"1{ending}": mask.to(torch.uint8)}, tmp_path / "m.safetensors")
    before = net[3].weight.detach().clone()
    prune_by_masks(net, tmp_path / f"m.{suffix}")
    assert torch.equal(net[1].weight != 0, mask)
    assert torch.equal(net[3].weight, before)


def test_masks_of_a_run_are_taken_in_their_own_form(tmp_path: Path) -> None:
    from hwloop.line.stations import _save_tensors

    net, masks = _net(), {"1": torch.rand(64, 16) > 0.5, "3": torch.rand(16, 10) > 0.5}
    _save_tensors(masks, tmp_path / "masks.safetensors", {"form": "gemm"})
    prune_by_masks(net, tmp_path / "masks.safetensors")
    for name, layer in crossbar_layers(net).items():
        assert torch.equal(to_matrix(layer) != 0, masks[name])


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("9", (16, 64), "9 is no layer on arrays; these are 1, 3"),
        ("1", (64, 16), "[64, 16], its weight is [16, 64]"),
    ],
)
def test_masks_of_another_network_are_refused(
    tmp_path: Path, name: str, shape: tuple[int, int], said: str
) -> None:
    np.savez(tmp_path / "m.npz", **{name: np.ones(shape)})
    with pytest.raises(NetworkError) as caught:
        prune_by_masks(_net(), tmp_path / "m.npz")
    assert said in str(caught.value)


def test_masks_need_weights(folder: Path) -> None:
    with pytest.raises(RecipeError, match="give the weights too"):
        _recipe(folder, masks="m.npz")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.safetensors"])
def test_a_pickle_is_called_one(tmp_path: Path, name: str, legacy: bool) -> None:
    torch.save(_net().state_dict(), tmp_path / name, _use_new_zipfile_serialization=not legacy)
    for reads in (load_weights, prune_by_masks):
        with pytest.raises(
            NetworkError, match=r"is a pickle.*save_file\(net\.state_dict\(\), 'w\.safetensors'\)"
        ):
            reads(_net(), tmp_path / name)


def test_weights_of_an_onnx_file_are_not_trained_anew() -> None:
    recipe = with_setting(load_recipe(), "network.factory=nets/a.onnx[conv1=5]")
    assert recipe.network.trained == "nets/a.onnx"
    assert with_setting(recipe, "network.weights=b.safetensors").network.trained == "b.safetensors"
    assert load_recipe().network.trained == ""


DATA = """\
import torch
from torch.utils.data import TensorDataset


def _part(count, seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    x = torch.randn(count, 2, 20, generator=generator) + y[:, None, None]
    return TensorDataset(x, y)


def two():
    return _part(120, 1), _part(60, 2)


def three():
    return _part(120, 1), _part(30, 3), _part(60, 2)


def ragged():
    return [(torch.zeros(3), 0), (torch.zeros(4), 1)], [(torch.zeros(3), 0)]


def one():
    return _part(3, 1)


def text():
    return [("a", 0)], [("b", 1)]


def net():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(40, 3))


class Both(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(40, 3)

    def forward(self, x):
        return self.fc(x.flatten(1)), x
"""


@pytest.fixture
def own_data(folder: Path) -> Iterator[Path]:
    (folder / "own_data_of_a_user.py").write_text(DATA, "utf-8")
    yield folder
    sys.modules.pop("own_data_of_a_user", None)


@pytest.mark.parametrize(("factory", "held"), [("two", 20), ("three", 30)])
def test_data_of_a_factory_go_through_the_line(own_data: Path, factory: str, held: int) -> None:
    settings = _settings("data.validation=20", "train.epochs=3", "evaluate.instances=1")
    network, data = "own_data_of_a_user:net", f"data.name=own_data_of_a_user:{factory}"
    done = hwloop("run", "--network", network, "--set", data, *settings, "--out", "run", "--json")
    assert done.exit_code == 0, done.output
    recipe = load_recipe_of(own_data / "run")
    inputs = load_inputs(recipe)
    assert len(inputs.dataset.validation_x) == held
    assert inputs.dataset.train_x.shape == (100 if held == 20 else 120, 2, 20)
    assert float(inputs.dataset.train_x.min()) < 0  # floats stay what they are
    # Another content of the module is another run.
    (own_data / "own_data_of_a_user.py").write_text(DATA + "\n# changed\n", "utf-8")
    again = hwloop("run", "--network", network, "--set", data, *settings, "--out", "run")
    assert "another content of own_data_of_a_user" in failed_with_one_line(again)


def load_recipe_of(run: Path) -> Recipe:
    return RunFolder.reopen(run).recipe


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("ragged", "training, item 1: [4], those before [3]"),
        ("one", "gives TensorDataset; needed are two data sets"),
        ("text", "training, item 0: no tensors"),
        ("none", "'own_data_of_a_user' has no factory 'none'"),
    ],
)
def test_data_that_a_factory_cannot_give_are_one_line(own_data: Path, factory: str, said: str) -> None:
    failed = hwloop(
        "run",
        "--network",
        "own_data_of_a_user:net",
        "--set",
        f"data.name=own_data_of_a_user:{factory}",
        "--out",
        "r",
    )
    assert said in failed_with_one_line(failed)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["network.factory=own_data_of_a_user:Both"], "the network gives tuple; needed is a tensor"),
        (["data.shift=2"], "data.shift: moves images; inputs of shape [2, 20] are none"),
    ],
)
def test_what_no_loss_takes_is_said_before_training(own_data: Path, settings: list[str], said: str) -> None:
    given = ["data.name=own_data_of_a_user:three", *settings]
    words = [word for text in given for word in ("--set", text)]
    failed = hwloop("run", "--network", "own_data_of_a_user:net", *words, "--out", "r")
    assert said in failed_with_one_line(failed)


@pytest.mark.parametrize("form", ["zeros", "orig and mask"])
def test_zeros_of_the_users_own_stay_pruned_through_training_on_levels(folder: Path, form: str) -> None:
    state = _net().state_dict()
    tensors, kept = {}, {}
    for name, value in state.items():
        if value.ndim == 2:
            mask = value.abs() > value.abs().flatten().kthvalue(int(0.8 * value.numel())).values
            kept[name.removesuffix(".weight")] = mask.T
            if form == "zeros":
                tensors[name] = value * mask
            else:
                tensors |= {f"{name}_orig": value, f"{name}_mask": mask.float()}
        else:
            tensors[name] = value
    safetensors.torch.save_file(tensors, folder / "w.safetensors")
    settings = ("data.name=digits.npz", "data.validation=50", "quantize.epochs=1")
    words = [word for text in settings for word in ("--set", text)]
    prune = ["prune", "own_net_of_a_user:net", "--weights", "w.safetensors", *words, "--out", "a"]
    assert hwloop(*prune).exit_code == 0
    assert hwloop("map", "a").exit_code == 0
    codes = safetensors.torch.load_file(folder / "a/stations/quantize/codes.safetensors")
    assert all(torch.equal(codes[name] != 0, mask) for name, mask in kept.items())


def masked() -> nn.Module:
    net = _net()
    torch_prune.l1_unstructured(net[1], "weight", amount=0.5)
    net(torch.rand(2, 64))
    return net


def with_norm() -> nn.Module:
    net = _net()
    net[1] = torch_parametrizations.weight_norm(net[1])
    return net


def test_masks_of_torch_are_kept_and_weights_made_anew_are_refused() -> None:
    net = build_network("tests.line.test_own_network:masked")
    assert int((net[1].weight == 0).sum()) == 512
    analog = convert(masked(), {"rows": 16, "cols": 16}, calibrate=torch.rand(4, 64))
    assert int((analog.state_dict()["1.weight"] == 0).sum()) == 512
    with pytest.raises(NetworkError, match=r"layer 1: WeightNorm makes its weight anew.*remove_param"):
        build_network("tests.line.test_own_network:with_norm")
