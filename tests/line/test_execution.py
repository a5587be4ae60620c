"""Networks on hardware: exact for every kind of layer, and what is not a crossbar stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from device_models import load_card, stream
from device_models.crossbar import Wires
from hwloop.evaluation import evaluate_instances
from hwloop.hardware import (
    FastHardware,
    HardwareLayer,
    IdealHardware,
    calibrate_inputs,
    execution,
    network_from_map,
    on_hardware,
)
from hwloop.mapping import ConductanceMap, build_map
from hwloop.networks import crossbar_layers, from_matrix, lenet, to_matrix
from hwloop.recipe import Readout
from hwloop.training import accuracy

SCALE = 0.02


def quantized_map(
    net: nn.Module, x: torch.Tensor, card: str = "ideal", array: tuple[int, int] = (16, 8)
) -> ConductanceMap:
    """Give ``net`` random weights on levels, some of them pruned, and map it."""
    layers = crossbar_layers(net)
    quantized = {}
    for name, layer in layers.items():
        rng = stream(1, "test", name)
        block = torch.from_numpy(
            rng.integers(-15, 16, layer.weight.shape) * (rng.random(layer.weight.shape) < 0.6)
        )
        layer.weight.data.copy_(block * SCALE)
        quantized[name] = ((to_matrix(layer).detach() / SCALE).round().to(torch.int8), SCALE)
    return build_map("tests:none", net, quantized, load_card(card), array, calibrate_inputs(net, x))


def convolution(**options: object) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 6, **options), nn.ReLU())  # type: ignore[arg-type]


KINDS = {
    "linear": (nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 5, bias=False)), (7, 30)),
    "linear over positions": (nn.Sequential(nn.Linear(10, 20)), (3, 4, 10)),
    "kernel": (convolution(kernel_size=3), (3, 4, 9, 8)),
    "oblong kernel": (convolution(kernel_size=(1, 5)), (3, 4, 9, 8)),
    "stride": (convolution(kernel_size=3, stride=(2, 3)), (3, 4, 9, 11)),
    "padding": (convolution(kernel_size=(3, 5), padding=(1, 3)), (3, 4, 9, 8)),
    "same padding": (convolution(kernel_size=(3, 5), padding="same"), (3, 4, 9, 8)),
    "valid padding": (convolution(kernel_size=3, padding="valid"), (3, 4, 9, 8)),
    "dilation": (convolution(kernel_size=3, dilation=(2, 3)), (3, 4, 9, 11)),
    "groups": (
        nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, padding=1), nn.Conv2d(6, 6, 3, groups=6)),
        (3, 4, 9, 8),
    ),
    "no bias": (convolution(kernel_size=3, bias=False), (3, 4, 9, 8)),
    "everything": (
        convolution(kernel_size=(3, 2), stride=2, padding=2, dilation=(1, 2), groups=2),
        (3, 4, 11, 12),
    ),
    "one image": (convolution(kernel_size=3), (4, 9, 8)),
    "nested, with digital layers": (
        nn.Sequential(
            nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
            nn.Flatten(),
            nn.Linear(6 * 7 * 6, 5),
        ),
        (3, 4, 9, 8),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ideal_hardware_gives_the_networks_logits(kind: str) -> None:
    net, shape = KINDS[kind]
    net.eval()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    conductance_map = quantized_map(net, x)
    hardware = IdealHardware()
    hardware.program(conductance_map)
    with torch.no_grad():
        wanted, given = net(x), on_hardware(net, hardware)(x)
        channels_last = (
            on_hardware(net, hardware)(x.to(memory_format=torch.channels_last)) if x.ndim == 4 else given
        )
    assert given.shape == wanted.shape
    assert torch.allclose(given, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    assert torch.allclose(channels_last, given, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_converters_of_many_bits_give_the_logits_too() -> None:
    net, shape = KINDS["everything"]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    hardware = FastHardware(Wires(0.0, 0.0), Readout(dac_bits=16), seed=0)
    hardware.program(quantized_map(net, x))
    with torch.no_grad():
        wanted = net(x)
        assert torch.allclose(on_hardware(net, hardware)(x), wanted, atol=1e-4 * float(wanted.abs().max()))


def test_the_network_given_is_not_changed() -> None:
    net = lenet()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    copied = on_hardware(net, IdealHardware())
    assert not any(isinstance(module, HardwareLayer) for module in net.modules())
    assert sum(isinstance(module, HardwareLayer) for module in copied.modules()) == 4
    copied.conv1.layer.weight.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_batches_do_not_change_what_noisy_hardware_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    net, shape = KINDS["kernel"]
    x = torch.randn((10, *shape[1:]), generator=torch.Generator().manual_seed(0))
    conductance_map = quantized_map(net, x, card="rram-neurram")
    outputs = []
    for batch, windows, at_once in ((10, 1 << 20, None), (3, 1 << 20, None), (10, 1, None), (10, 1 << 20, 3)):
        monkeypatch.setattr(execution, "_WINDOWS", windows)
        hardware = FastHardware(Wires(1.0, 3.0), seed=1)
        hardware.program(conductance_map)
        running = on_hardware(net, hardware, images_at_once=at_once)
        with torch.no_grad():
            outputs.append(torch.cat([running(part) for part in x.split(batch)]))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[0], outputs[3])
    assert not torch.equal(outputs[0], net(x))


def test_the_gradient_is_that_of_the_network() -> None:
    net, shape = KINDS["everything"]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    hardware = FastHardware(Wires(1.0, 3.0), seed=1)
    hardware.program(quantized_map(net, x, card="rram-neurram"))
    running = on_hardware(net, hardware)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    layer_net, layer_running = net[0], running[0]
    layer_net(inputs[0]).sum().backward()
    outputs = layer_running(inputs[1])
    outputs.sum().backward()
    assert not torch.allclose(outputs, layer_net(x))  # the value is the hardware's
    assert torch.allclose(inputs[0].grad, inputs[1].grad)
    assert torch.allclose(layer_net.weight.grad, layer_running.layer.weight.grad)
    assert torch.allclose(layer_net.bias.grad, layer_running.layer.bias.grad)


# What calibration and maps give


def test_calibration_covers_every_activation_of_its_images() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.tensor([[1.0, -3.0, 0.5, 0.0], [2.0, 1.0, 1.0, 1.0]])
    scales = calibrate_inputs(net, x)
    hidden = torch.relu(net[0](x))
    assert scales["0"] == (3.0, True)
    assert scales["2"] == (pytest.approx(float(hidden.detach().max())), False)


def test_calibration_says_which_layer_is_unreached_or_overflows() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    with pytest.raises(ValueError, match="layer idle: no input reaches it"):
        calibrate_inputs(Idle(), torch.ones(1, 2))
    with pytest.raises(ValueError, match="layer 0: activations are not finite"):
        calibrate_inputs(nn.Sequential(nn.Linear(2, 2)), torch.full((1, 2), float("inf")))


def test_a_layer_that_sees_only_zeros_still_gets_a_range() -> None:
    assert calibrate_inputs(nn.Sequential(nn.Linear(2, 2)), torch.zeros(1, 2)) == {"0": (1.0, False)}


@pytest.mark.parametrize("kind", ["groups", "nested, with digital layers"])
def test_a_map_holds_the_whole_network(kind: str) -> None:
    net, shape = KINDS[kind]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    conductance_map = quantized_map(net, x)
    other = KINDS[kind][0]
    for parameter in (copied := network_from_map(other, conductance_map)).parameters():
        parameter.data.mul_(0)
    copied = network_from_map(copied, conductance_map)
    for name, value in net.state_dict().items():
        assert torch.allclose(value, copied.state_dict()[name], rtol=1e-6)


def test_a_map_of_another_network_is_refused() -> None:
    net, shape = KINDS["kernel"]
    conductance_map = quantized_map(net, torch.randn(shape))
    with pytest.raises(ValueError, match=r"another network: 0 is \[6, 4, 3, 3\] in the map"):
        network_from_map(convolution(kernel_size=5), conductance_map)
    with pytest.raises(ValueError, match="another network: 1 is not in both"):
        network_from_map(nn.Sequential(nn.Conv2d(4, 6, 3), nn.Linear(3, 3)), conductance_map)
    with pytest.raises(ValueError, match=r"another network: 0\.bias is not in both"):
        network_from_map(convolution(kernel_size=3, bias=False), conductance_map)
    digital = {"0.bias": torch.zeros(7)}
    with pytest.raises(ValueError, match=r"another network: 0.bias is \[7\] in the map"):
        network_from_map(net, replace(conductance_map, digital=digital))


def test_weights_come_back_from_the_map_to_the_last_level() -> None:
    net, shape = KINDS["groups"]
    conductance_map = quantized_map(net, torch.randn(shape))
    copied = network_from_map(net, conductance_map)
    for name, layer in crossbar_layers(net).items():
        again = to_matrix(crossbar_layers(copied)[name])
        assert torch.allclose(from_matrix(layer, again), layer.weight, rtol=1e-6)


# Evaluation


def test_every_instance_is_evaluated_as_it_would_be_alone() -> None:
    net, shape = nn.Sequential(nn.Linear(12, 6)), (200, 12)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    conductance_map = quantized_map(net, x, card="rram-neurram")
    y = net(x).argmax(1)

    def make(instance: int | str) -> FastHardware:
        return FastHardware(Wires(1.0, 3.0), Readout(dac_bits=6), seed=4, instance=instance)

    heard: list[float] = []
    together = evaluate_instances(
        net, conductance_map, make, x, y, instances=range(4), batch=50, progress=lambda f, _: heard.append(f)
    )
    hardware = make(2)
    hardware.program(conductance_map)
    assert together[2] == accuracy(on_hardware(net, hardware), x, y, 200)
    assert len(set(together)) > 1
    assert all(0.5 < value < 1 for value in together)
    assert heard == [0.25, 0.5, 0.75, 1.0]
