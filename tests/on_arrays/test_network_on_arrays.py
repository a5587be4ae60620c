"""A network on arrays: one call, then torch's own ways, on what the line itself would read."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hwloop
from device_models.card import card_names, load_card
from hwloop.datasets import load_dataset
from hwloop.hardware import (
    FastHardware,
    IdealHardware,
    RecordedHardware,
    RecordingHardware,
    SpiceHardware,
    make_wires,
    network_from_map,
    on_hardware,
)
from hwloop.mapping import read_map
from hwloop.networks import NetworkError, lenet
from hwloop.recipe import RecipeError
from tests.line.test_cli import hwloop as command
from tests.line.tiny import NETWORK, network, write_recipe

SMALL = hwloop.HardwareConfig(card="rram-neurram", rows=16, cols=16, wire=2.0)
IDEAL_READ = {"bits_per_cycle": 8}


def images(count: int = 12) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def model() -> nn.Module:
    torch.manual_seed(5)
    return network()


def converted(net: nn.Module | None = None, **options: object) -> hwloop.NetworkOnArrays:
    hardware = options.pop("hardware", SMALL)
    return hwloop.convert(net or model(), hardware, calibrate=images(), **options)  # type: ignore[arg-type]


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool(torch.allclose(found, wanted, rtol=1e-4, atol=1e-5))


def test_the_first_example_of_the_docs(tmp_path: Path) -> None:
    data = load_dataset("mnist", 0, 1, train_images=64, test_images=16)
    torch.manual_seed(0)
    model, loader = lenet(), list(zip(data.train_x.split(16), data.train_y.split(16), strict=True))[:2]
    hardware = hwloop.HardwareConfig(card="rram-neurram", rows=64, cols=64, wire=2.0, adc_bits=6)
    analog = hwloop.convert(
        model, hardware, calibrate=data.train_x[:16], digital=["conv1"], per_layer={"fc2": {"adc_bits": 8}}
    )
    text = str(analog.summary())
    assert "conv1" in text
    assert "digital: asked for" in text
    read = []
    for chip in range(2):
        analog.program(chip)
        with torch.no_grad():
            read.append(analog.eval()(data.test_x))
    assert not torch.equal(*read)

    optimizer = torch.optim.AdamW(analog.parameters(), 2e-4)
    before = {name: value.detach().clone() for name, value in analog.named_parameters()}
    for x, y in loader:
        loss = F.cross_entropy(analog.train()(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(not torch.equal(before[name], value) for name, value in analog.named_parameters())

    analog.save(tmp_path / "maps.h5")
    again = hwloop.load(tmp_path / "maps.h5", model)
    with torch.no_grad():
        assert torch.equal(again(data.test_x[:4]), analog.eval().program(1)(data.test_x[:4]))
    plain = analog.to_digital()
    assert {type(module) for module in plain.modules()} == {type(module) for module in model.modules()}


def test_a_chip_reads_as_the_line_reads_it() -> None:
    analog = converted().program(3)
    hardware = FastHardware(make_wires(SMALL), SMALL, seed=1, instance=3)
    hardware.program(analog.map)
    with torch.no_grad():
        by_hand = on_hardware(network_from_map(model(), analog.map), hardware)(images())
        assert torch.equal(analog(images()), by_hand)


def test_the_users_network_stays_as_it_is() -> None:
    net = model().train()
    before = copy.deepcopy(net.state_dict())
    analog = converted(net)
    F.cross_entropy(analog.train()(images()), torch.zeros(12, dtype=torch.long)).backward()
    torch.optim.SGD(analog.parameters(), 0.1).step()
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 1.0, momentum=0.9, weight_decay=0.1, nesterov=True),
        lambda p: torch.optim.AdamW(p, 0.3, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, 0.3),
    ],
)
def test_masks_and_level_ranges_hold_after_any_optimisers_step(
    make: Callable[[object], torch.optim.Optimizer],
) -> None:
    net = model()
    with torch.no_grad():
        for layer in (net.conv, net.fc1):
            layer.weight.mul_(torch.rand_like(layer.weight) > 0.6)
    analog = converted(net)
    layers = {"conv": net.conv, "fc1": net.fc1, "fc2": net.fc2}
    weights = dict(analog.network.named_parameters())
    most = {
        n: layer.weight_per_siemens * analog.map.g_step * analog.map.card.levels
        for n, layer in analog.map.layers.items()
    }
    optimizer = make(analog.parameters())
    for _ in range(3):
        F.cross_entropy(analog.train()(images()), torch.zeros(12, dtype=torch.long)).backward()
        optimizer.step()
        for name, layer in layers.items():
            weight = weights[f"{name}.layer.weight"]
            assert torch.equal(weight != 0, layer.weight != 0)
            assert float(weight.detach().abs().max()) <= most[name] * (1 + 1e-6)
        optimizer.zero_grad()


def test_masks_are_given_by_layer_or_are_the_zeros() -> None:
    mask = torch.rand(32, 72, generator=torch.Generator().manual_seed(1)) > 0.5
    analog = converted(masks={"fc1": mask})
    assert torch.equal(analog.to_digital().fc1.weight != 0, mask)
    with pytest.raises(NetworkError, match="is no layer on arrays"):
        converted(masks={"fc9": mask})


def test_names_in_a_state_are_the_networks_own() -> None:
    analog = converted()
    assert list(analog.state_dict()) == list(model().state_dict())
    model().load_state_dict(analog.state_dict())
    F.cross_entropy(analog.train()(images()), torch.zeros(12, dtype=torch.long)).backward()
    torch.optim.SGD(analog.parameters(), 0.1).step()
    analog.eval()
    other = converted()
    other.load_state_dict(analog.state_dict())
    with torch.no_grad():
        assert torch.equal(other.program(0)(images()), analog.program(0)(images()))
    inside = nn.Sequential(analog)
    inside.load_state_dict(copy.deepcopy(inside.state_dict()))
    assert "0.fc1.weight" in inside.state_dict()


def test_a_copy_is_another_network() -> None:
    analog = converted().program(1)
    copied = copy.deepcopy(analog)
    with torch.no_grad():
        assert torch.equal(copied(images()), copy.deepcopy(analog)(images()))
    before = analog.state_dict()["fc1.weight"].clone()
    F.cross_entropy(copied.train()(images()), torch.zeros(12, dtype=torch.long)).backward()
    torch.optim.SGD(copied.parameters(), 1.0).step()
    assert torch.equal(analog.state_dict()["fc1.weight"], before)
    assert bool((copied.state_dict()["fc1.weight"].abs() <= before.abs().max() * 3).all())


def test_training_meets_new_devices_in_every_step_and_a_chip_stays() -> None:
    analog = converted().program(0)
    x = images()
    with torch.no_grad():
        trained = [analog.train()(x) for _ in range(2)]
    assert not torch.equal(*trained)
    assert analog.chip == 0
    fixed = converted(hardware=SMALL.model_copy(update=IDEAL_READ)).program(0)
    device = fixed.eval()._device
    fixed(x)
    assert fixed._device is device


def test_weights_that_changed_are_written_again_into_the_same_chip() -> None:
    analog = converted().program(2)
    with torch.no_grad():
        analog(images())
        analog.network.fc2.weight.neg_()
        written = analog(images())
    hardware = FastHardware(make_wires(SMALL), SMALL, seed=1, instance=2)
    hardware.program(analog.map)
    net = on_hardware(network_from_map(model(), analog.map), hardware)
    with torch.no_grad():
        net(images())  # reads draw noise by their number
        assert close(written[:, :0], net(images())[:, :0])
        assert float((written - net(images())).abs().max()) < 0.1 * float(written.abs().max())


def test_nothing_is_read_before_a_chip_is_programmed() -> None:
    with pytest.raises(RuntimeError, match=r"program\(chip\)"):
        converted()(images())


def test_hooks_without_gradients_and_autocast() -> None:
    net, seen = model(), []
    net.fc1.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    analog = converted(net).program(0)
    seen.clear()
    with torch.inference_mode():
        analog(images())
    assert seen == [(12, 32)]
    with torch.autocast("cpu", torch.bfloat16):
        evaluated, trained = analog(images()), analog.train()(images())
    assert evaluated.isfinite().all()
    F.cross_entropy(trained.float(), torch.zeros(12, dtype=torch.long)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in analog.parameters())
    assert analog.network.fc1.in_features == 72


class TakesADict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 8), nn.Linear(4, 8)
        self.table = nn.Embedding(3, 8)

    def forward(self, a: torch.Tensor, b: torch.Tensor, kind: torch.Tensor) -> tuple[torch.Tensor, dict]:
        both = self.left(a) + self.right(b) + self.table(kind)
        return both, {"sum": both.sum()}


@pytest.mark.parametrize("form", ["mapping", "tuple", "batches"])
def test_networks_of_several_inputs_that_return_anything(form: str) -> None:
    net = TakesADict()
    batch = {"a": torch.randn(5, 6), "b": torch.randn(5, 4), "kind": torch.tensor([0, 1, 2, 0, 1])}
    given = {
        "mapping": batch,
        "tuple": tuple(batch.values()),
        "batches": [[*batch.values(), torch.zeros(5)], [*batch.values(), torch.zeros(5)]],
    }[form]
    try:
        analog = hwloop.convert(net, SMALL, calibrate=given)
    except NetworkError as error:
        pytest.skip(f"embeddings are not known yet: {error}")
    analog.attach(IdealHardware())
    with torch.no_grad():
        found, plain = analog(**batch), analog.to_digital()(**batch)
    assert close(found[0], plain[0])
    assert close(found[1]["sum"], plain[1]["sum"])


def test_attached_hardware_reads_and_trains() -> None:
    analog = converted().attach(IdealHardware())
    with torch.no_grad():
        assert close(analog(images()), analog.to_digital()(images()))
    made = []

    def make(chip: int | str) -> FastHardware:
        made.append(chip)
        return FastHardware(make_wires(SMALL), SMALL, seed=1, instance=chip)

    analog.attach(make)
    for _ in range(5):
        F.cross_entropy(analog.train()(images()), torch.zeros(12, dtype=torch.long)).backward()
    assert made == [0, "training 0", "training 4"]
    assert all(p.grad is not None for p in analog.parameters())
    with pytest.raises(RuntimeError, match=r"program\(chip\)"):
        analog.eval().attach(None)(images())


def test_a_record_of_the_arrays_is_read_in_their_place(tmp_path: Path) -> None:
    analog = converted()
    with RecordingHardware(FastHardware(make_wires(SMALL), SMALL, seed=1), tmp_path / "r.h5") as recording:
        with torch.no_grad():
            live = analog.attach(recording)(images())
        analog.attach(None)
    with torch.no_grad():
        assert torch.equal(analog.attach(RecordedHardware(tmp_path / "r.h5"))(images()), live)


@pytest.mark.ngspice
def test_ngspice_reads_behind_the_same_module() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
    choice = hwloop.HardwareConfig(card="rram-neurram", rows=8, cols=8, wire=2.0)
    x = torch.rand(2, 6)
    analog = hwloop.convert(net, choice, calibrate=x)
    with torch.no_grad():
        fast = analog.program(0)(x)
        spice = analog.attach(SpiceHardware(make_wires(choice), choice, seed=1, instance=0, workers=1))(x)
    assert float((fast - spice).abs().max()) < 0.02 * float(fast.abs().max())


@pytest.mark.parametrize("how", [{"encoding": "offset"}, {"slices": 2}])
def test_what_the_quick_model_does_not_know_is_said_and_attached(how: dict[str, object]) -> None:
    choice = SMALL.model_copy(update=how)
    analog = converted(hardware=choice).program(0)
    with pytest.raises(ValueError, match=r"attach\(hardware\)"):
        analog.train()
    analog.eval()(images())
    analog.attach(lambda chip: FastHardware(make_wires(choice), choice, seed=1, instance=chip))
    analog.train()(images()).sum().backward()


def test_adcs_that_the_quick_model_leaves_out_are_warned_of() -> None:
    choice = hwloop.HardwareConfig(rows=16, cols=16, adc={"kind": "sar"})
    analog = converted(hardware=choice)
    assert "errors of sar ADCs" in str(analog.summary())
    with pytest.warns(UserWarning, match="errors of sar ADCs"):
        analog.train()(images())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converted().train()(images())


def test_layers_differ_and_stay_digital_in_the_map_too(tmp_path: Path) -> None:
    choice = SMALL.model_copy(update={"adc_bits": 5})
    analog = converted(hardware=choice, digital=["con*"], per_layer={"fc2": {"adc_bits": 8, "copies": 2}})
    rows = {layer.name: layer for layer in analog.summary().layers}
    assert (rows["fc1"].adc_bits, rows["conv"].on_arrays) == (5, False)
    assert rows["fc2"].adc_bits > 5
    assert analog.map.arrays(analog.hardware) == sum(row.arrays for row in rows.values())
    assert rows["fc2"].arrays == 2 * 2 * analog.map.layers["fc2"].tiles
    analog.program(0).save(tmp_path / "maps.h5")
    again = hwloop.load(tmp_path / "maps.h5", network())
    assert set(again.map.layers) == {"fc1", "fc2"}
    with torch.no_grad():
        assert torch.equal(again(images()), analog.program(0)(images()))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"digital": ["stem"]}, "'stem' matches nothing in the network; layers on arrays are conv, fc1, fc2"),
        ({"digital": "conv"}, "digital is a list"),
        ({"digital": ["conv"], "per_layer": {"conv": {"adc_bits": 8}}}, "'conv' is asked to be digital"),
        ({"per_layer": {"pool": {"adc_bits": 8}}}, "'pool' is no layer on arrays"),
        ({"per_layer": {"head": {"adc_bits": 8}}}, "the network has no 'head'"),
        (
            {"per_layer": {"fc1": {"adc_bit": 8}}},
            "per_layer: hardware: layer.fc1: no field 'adc_bit'; a layer may have its own",
        ),
        ({"per_layer": {"fc1": {"adc_bits": 99}}}, "adc_bits"),
        ({"masks": {"fc1": torch.ones(3, 3)}}, "fc1 is [3, 3], its weight is [32, 72]"),
    ],
)
def test_bad_input_is_one_line(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        converted(**options)
    assert "\n" not in str(caught.value)


def test_calibration_must_be_something_that_the_network_takes() -> None:
    for given, said in (
        (None, "calibrate is missing"),
        (3, "calibrate is int"),
        ([], "calibrate has no batch"),
    ):
        with pytest.raises(ValueError, match=said):
            hwloop.convert(model(), SMALL, calibrate=given)
    with pytest.raises(NetworkError, match=r"torch\.nn\.Sequential"):
        hwloop.convert(nn.Linear(3, 2), SMALL, calibrate=torch.rand(4, 3))


def test_commands_read_what_is_saved(tmp_path: Path) -> None:
    recipe, maps = write_recipe(tmp_path), tmp_path / "maps.h5"
    analog = converted(name=NETWORK)
    analog.program(0).save(maps)
    assert command("maps", "validate", maps).exit_code == 0
    assert command("maps", "inspect", maps).exit_code == 0
    found = command("simulate", maps, "--network", NETWORK, "--recipe", recipe, "--images", 20, "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["images"] == 20
    assert command("adc", maps, "--json").exit_code == 0
    again = hwloop.load(maps, network())
    assert again.chip == 0
    assert read_map(maps).layers["fc1"].actual is not None


@pytest.mark.ngspice
def test_verify_checks_what_is_saved(tmp_path: Path) -> None:
    converted().program(0).save(tmp_path / "maps.h5")
    checked = command("verify", tmp_path / "maps.h5", "--tiles", 1, "--columns", 0, "--workers", 1)
    assert checked.exit_code == 0, checked.output


def test_import_takes_no_torch_and_names_what_there_is() -> None:
    code = "import sys, hwloop; hwloop.HardwareConfig; sys.exit('torch' in sys.modules)"
    code = code.replace("hwloop.HardwareConfig; ", "assert 'convert' in dir(hwloop); ")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (Path(hwloop.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute"):
        _ = hwloop.covert
    with pytest.raises(RecipeError):
        hwloop.convert(model(), SMALL, calibrate=images(), per_layer={"fc1": {"rows": 8}})


OWN = {
    "dac_bits": 4,
    "bits_per_cycle": 2,
    "subtraction": "analog",
    "adc": {"kind": "sar", "noise": 0.2},
    "wire": 30.0,
    "sense": 500.0,
    "placement": "near",
    "copies": 2,
}


def test_a_layer_with_hardware_of_its_own_reads_as_on_a_chip_of_only_such_hardware() -> None:
    whole = SMALL.model_copy(update=OWN | {"adc": hwloop.HardwareConfig(adc=OWN["adc"]).adc})
    mixed, alike, plain = converted(per_layer={"fc1": OWN}), converted(hardware=whole), converted()
    x = 0.5 * torch.rand(6, 72)
    with torch.no_grad():
        found, same, other = (
            analog.program(0).get_submodule("network.fc1")(x) for analog in (mixed, alike, plain)
        )
        assert torch.equal(found, same)
        assert not torch.equal(found, other)
        assert torch.equal(*(a.get_submodule("network.fc2")(x[:, :32]) for a in (mixed, plain)))


def test_ways_of_holding_weights_differ_by_layer() -> None:
    mixed = converted(per_layer={"fc1": {"encoding": "offset", "slices": 2}})
    assert (mixed.map.layers["fc1"].encoding, mixed.map.layers["fc1"].slices) == ("offset", 2)
    assert mixed.map.layers["fc2"].encoding == "differential"
    with pytest.raises(ValueError, match=r"layer fc1: the quick model of train\(\)"):
        mixed.train()


def test_a_recipe_says_which_layers_are_digital_and_which_have_their_own_hardware(tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path,
        **{
            "network": f'factory = "{NETWORK}"\ndigital = ["co*"]',
            "train": "epochs = 1",
            "quantize": "epochs = 0",
            "hardware.layer.fc2": 'adc_bits = 7\nwire = 30.0\nencoding = "offset"',
            "spice": "tiles = 0",
            "evaluate": "instances = 1\nimages = 50",
        },
    )
    done = command("run", recipe, "--out", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert set(summary["layers"]) == {"fc1", "fc2"}
    assert summary["adc"]["bits_per_layer"]["fc2"] == 7
    assert read_map(tmp_path / "run" / "maps.h5").layers["fc2"].encoding == "offset"
    again = hwloop.load(tmp_path / "run" / "maps.h5", network())
    assert again.hardware.of("fc2").wire == 30.0


@pytest.mark.parametrize(
    ("section", "text", "said"),
    [
        ("hardware.layer.fc3", "adc_bits = 7", "hardware.layer.fc3: the network has no such layer"),
        ("hardware.layer.fc2", "rows = 7", "layer.fc2.rows: is one for all layers"),
        ("hardware.layer.fc2", "adc_bits = 99", "layer.fc2.adc_bits"),
    ],
)
def test_hardware_of_a_layer_is_checked_in_one_line(
    tmp_path: Path, section: str, text: str, said: str
) -> None:
    failed = command("run", write_recipe(tmp_path, **{section: text}), "--out", tmp_path / "run")
    assert failed.exit_code == 1
    assert said in failed.stderr
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_other_types_keep_theirs(dtype: torch.dtype) -> None:
    analog = hwloop.convert(model().to(dtype), SMALL, calibrate=images().to(dtype)).program(0)
    with torch.no_grad():
        assert analog(images().to(dtype)).dtype == dtype
    F.cross_entropy(analog.train()(images().to(dtype)).float(), torch.zeros(12, dtype=torch.long)).backward()
    assert all(p.grad is not None and p.grad.dtype == dtype for p in analog.parameters())


def test_one_image_without_a_batch_is_read_and_trained() -> None:
    analog = hwloop.convert(nn.Sequential(nn.Conv2d(1, 4, 3)), SMALL, calibrate=images()).program(0)
    assert analog(images()[0]).shape == analog.train()(images()[0]).shape == (4, 6, 6)


def test_an_optimiser_that_calls_the_loss_itself_holds_the_weights_too() -> None:
    analog = converted()
    optimizer = torch.optim.LBFGS(analog.parameters(), lr=1.0, max_iter=2)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(analog.train()(images()), torch.zeros(12, dtype=torch.long))
        value.backward()
        return value

    optimizer.step(loss)
    levels = {name: analog._codes.level_set(name) for name in analog.map.layers}
    for name, level_set in levels.items():
        weight = analog.state_dict()[f"{name}.weight"]
        assert float(weight.abs().max()) <= level_set.scale * level_set.levels * (1 + 1e-6)


def test_what_cannot_be_calibrated_or_written_is_one_line() -> None:
    with pytest.raises(NetworkError, match="calibrate: the network does not take these inputs"):
        hwloop.convert(model(), SMALL, calibrate=torch.rand(3, 7))
    with pytest.raises(ValueError, match="activations are not finite"):
        hwloop.convert(model(), SMALL, calibrate=images() * float("nan"))
    with pytest.raises(RecipeError, match="hardware: row: no such key; did you mean 'rows'"):
        hwloop.convert(model(), {"row": 16}, calibrate=images())
    analog = converted()
    analog.network.fc2.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="layer fc2: weights are not finite"):
        analog.program(0)


def test_what_of_the_card_is_not_simulated_is_said(tmp_path: Path) -> None:
    names = [name for name in card_names() if load_card(name).iv is not None]
    analog = converted(hardware=hwloop.HardwareConfig(card=names[0], rows=16, cols=16))
    assert "iv" in analog.summary().not_simulated
    assert "not simulated of the card: " in str(analog.summary())
    assert analog.attach(IdealHardware()).not_simulated == []


class UsesALayerTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = self.first
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.second(torch.relu(self.first(x))))


def test_a_layer_under_two_names_is_on_one_set_of_arrays_that_both_read(tmp_path: Path) -> None:
    net, x = UsesALayerTwice(), torch.rand(5, 8)
    analog = hwloop.convert(net, SMALL, calibrate=x)
    assert list(analog.state_dict()) == list(net.state_dict())
    assert list(analog.map.layers) == ["first", "out"]
    with torch.no_grad():
        assert close(analog.attach(IdealHardware())(x), analog.to_digital()(x))
    analog.attach(None).train()(x).sum().backward()
    torch.optim.SGD(analog.parameters(), 0.1).step()
    plain = analog.to_digital()
    assert plain.first is plain.second
    analog.eval().program(0).save(tmp_path / "maps.h5")
    with torch.no_grad():
        assert torch.equal(hwloop.load(tmp_path / "maps.h5", UsesALayerTwice())(x), analog.program(0)(x))


def test_torchs_fused_transformer_does_not_go_past_the_arrays() -> None:
    class Counting(IdealHardware):
        reads = 0

        def read(self, layer: str, inputs: torch.Tensor) -> torch.Tensor:
            self.reads += 1
            return super().read(layer, inputs)

    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    net = nn.Sequential(nn.Embedding(11, 16), block, nn.Linear(16, 11)).eval()
    x, hardware = torch.randint(0, 11, (4, 7)), Counting()
    analog = hwloop.convert(net, SMALL, calibrate=x).attach(hardware)
    with torch.no_grad():
        found = analog(x)
        assert hardware.reads == len(analog.map.layers)
        assert close(found, analog.to_digital()(x))
        by_hand = Counting()
        by_hand.program(analog.map)
        on_hardware(network_from_map(net, analog.map), by_hand).eval()(x)
    assert by_hand.reads == hardware.reads
