"""Networks of the literature: their sizes, residual additions on the line, and low-rank forms."""

from collections import OrderedDict
from importlib import resources
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from device_models import load_card
from device_models.crossbar import Wires
from hwloop.hardware import FastHardware, IdealHardware, calibrate_inputs, network_from_map, on_hardware
from hwloop.mapping import build_map, read_map, write_map
from hwloop.networks import (
    NetworkError,
    build_network,
    convnet,
    crossbar_layers,
    factor_layers,
    load_weights,
    record_inputs,
    resnet18,
    resnet18_imagenet,
    resnet20,
    save_weights,
    to_matrix,
    vgg16,
)
from hwloop.networks.zoo import BasicBlock, Normalise
from hwloop.pruning import full_masks, without_unused_paths
from hwloop.quantization import quantize
from hwloop.recipe import Network, Readout, load_recipe
from tests.line.small import small_network


def small_resnet():
    """Two residual blocks, one with a shortcut of its own, for 8×8 images."""
    return nn.Sequential(
        OrderedDict(
            normalise=Normalise((0.4,), (0.3,)),
            conv1=nn.Conv2d(1, 4, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(4),
            relu=nn.ReLU(),
            block1=BasicBlock(4, 4),
            block2=BasicBlock(4, 6, 2),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(6, 10),
        )
    )


def used(net, shape=(1, 8, 8)):
    """The network with batch norms that have seen images."""
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.rand(16, *shape))
    return net.eval()


@pytest.mark.parametrize(
    ("factory", "weights", "tiles_of_64", "shape"),
    [
        (convnet, 89_440, 44, (3, 32, 32)),
        (vgg16, 14_715_584, 3_600, (3, 32, 32)),
        (resnet18, 11_164_352, 2_733, (3, 32, 32)),
        (resnet18_imagenet, 11_678_912, None, (3, 64, 64)),
        (resnet20, 270_896, None, (3, 32, 32)),
    ],
)
def test_weights_and_dense_tiles_are_those_of_the_literature(factory, weights, tiles_of_64, shape):
    net = factory().eval()
    matrices = [to_matrix(layer) for layer in crossbar_layers(net).values()]
    assert sum(layer.weight.numel() for layer in crossbar_layers(net).values()) == weights
    tiles = sum(-(-len(matrix) // 64) * -(-matrix.shape[1] // 64) for matrix in matrices)
    assert tiles_of_64 in (None, tiles)
    classes = 1000 if factory is resnet18_imagenet else 10
    with torch.no_grad():
        assert net(torch.zeros(1, *shape)).shape == (1, classes)


def test_figures_that_normalise_images_are_in_no_weights_file(tmp_path):
    net = resnet20()
    names = net.state_dict().keys()
    assert not [name for name in names if "normalise" in name]
    assert {"conv1.weight", "bn1.running_mean", "res2.0.downsample.1.bias", "classifier.2.bias"} <= names
    assert net.bn1.eps == 1e-3
    save_weights(net, tmp_path / "w.safetensors")
    again = build_network("hwloop.networks:resnet20", 3)
    load_weights(again, tmp_path / "w.safetensors")
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again.eval()(x), net.eval()(x))


def test_images_are_normalised_channel_by_channel():
    x = torch.tensor([0.5, 0.2]).reshape(1, 2, 1, 1).expand(3, 2, 4, 4)
    out = Normalise((0.3, 0.4), (0.1, 0.2))(x)
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([2.0, -1.0]))


def test_residual_networks_go_through_the_line(tmp_path):
    net = used(small_resnet())
    x = torch.rand(6, 1, 8, 8)
    inputs = record_inputs(net, x)
    assert set(inputs) == set(crossbar_layers(net))
    assert inputs["block2.conv1"].shape == (6, 4, 8, 8)
    assert torch.equal(inputs["block2.conv1"], inputs["block2.downsample.0"])
    masks = full_masks(net)
    assert all(torch.equal(masks[n], m) for n, m in without_unused_paths(net, masks, (1, 8, 8)).items())
    card = load_card("rram-neurram")
    layers = quantize(net, masks, card.levels)
    quantized = {name: (layer.codes, layer.scale) for name, layer in layers.items()}
    scales = calibrate_inputs(net, x)
    assert scales["conv1"][1]
    assert not scales["block1.conv1"][1]
    built = build_map("tests.line.test_zoo:small_resnet", net, quantized, card, (16, 16), scales)
    write_map(built, tmp_path / "maps.h5")
    conductance_map = read_map(tmp_path / "maps.h5")
    assert conductance_map.digital["bn1.num_batches_tracked"] == 3
    expected = network_from_map(small_resnet().eval(), conductance_map)
    for hardware in (IdealHardware(), FastHardware(Wires(1.0, 1.0), Readout(), seed=1)):
        hardware.program(conductance_map)
        logits = on_hardware(expected, hardware)(x)
        assert logits.shape == (6, 10)
        if isinstance(hardware, IdealHardware):
            torch.testing.assert_close(logits, expected(x))


def test_a_network_of_factors_of_full_rank_is_the_network():
    net, x = build_network("tests.line.small:small_network").eval(), torch.rand(3, 1, 8, 8)
    factored = build_network("tests.line.small:small_network[conv1=6,conv2=10,fc1=24,fc2=10]").eval()
    assert list(crossbar_layers(factored)) == [
        f"{name}.{factor}" for name in ("conv1", "conv2", "fc1", "fc2") for factor in "uv"
    ]
    torch.testing.assert_close(factored(x), net(x))
    assert factored.fc1.u.bias is None
    assert torch.equal(factored.fc1.v.bias, net.fc1.bias)


def test_factors_are_the_nearest_matrix_of_their_rank():
    net, factored = small_network(), small_network()
    factored.load_state_dict(net.state_dict())
    factor_layers(factored, {"conv2": 4, "fc1": 7})
    for name, rank in (("conv2", 4), ("fc1", 7)):
        matrix = to_matrix(getattr(net, name)).detach().double()
        u, v = (to_matrix(getattr(getattr(factored, name), part)).detach().double() for part in "uv")
        assert (u.shape[1], v.shape[0]) == (rank, rank)
        values = torch.linalg.svdvals(matrix)
        error = (matrix - u @ v).square().sum()
        torch.testing.assert_close(error, values[rank:].square().sum(), rtol=1e-5, atol=1e-9)


def test_strides_paddings_and_dilations_stay_with_the_factored_convolution():
    net = nn.Sequential(nn.Conv2d(2, 6, 3, stride=2, padding=2, dilation=2))
    x = torch.rand(2, 2, 9, 9)
    expected = net(x)
    factor_layers(net, {"0": 6})
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ("[conv1=0]", "conv1=0: a matrix of 9x6 has ranks 1 to 6"),
        ("[conv1=7]", "conv1=7: a matrix of 9x6 has ranks 1 to 6"),
        ("[conv9=2]", "conv9=2: no such layer; the network has conv1"),
        ("[conv1=2,conv1=3]", "names a layer twice"),
        ("[]", "must read"),
        ("[conv1]", "must read"),
        ("[conv1=-1]", "must read"),
        ("[conv1=2", "must read"),
        ("[conv1=2]x", "must read"),
        ("[conv1=2]\n", "must read"),
    ],
)
def test_factors_that_cannot_be_are_named(factors, words):
    with pytest.raises(NetworkError, match=words):
        build_network(f"tests.line.small:small_network{factors}")


def test_grouped_convolutions_and_bare_layers_are_not_factored():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 1))
    with pytest.raises(NetworkError, match="0=1: a grouped"):
        factor_layers(net, {"1": 1, "0": 1})
    assert isinstance(net[1], nn.Conv2d)
    with pytest.raises(NetworkError, match=r"nn\.Sequential"):
        factor_layers(nn.Linear(3, 3), {"": 1})


@pytest.mark.parametrize(
    ("factory", "good"),
    [
        ("hwloop.networks:lenet", True),
        ("hwloop.networks:lenet[conv1=5,fc1=36]", True),
        ("pkg.mod:net[layer1.0.conv1=12]", True),
        ("hwloop.networks:lenet[conv1=5", False),
        ("hwloop.networks:lenet[conv1=5];import os", False),
        ("hwloop.networks:lenet[conv1=5]\n", False),
        ("hwloop.networks:lenet[conv1=a]", False),
        ("hwloop.networks:lenet[../x=1]", False),
    ],
)
def test_recipes_take_factories_and_factors_and_nothing_else(factory, good):
    if good:
        assert Network(factory=factory).factory == factory
    else:
        with pytest.raises(ValidationError):
            Network(factory=factory)


def test_a_map_of_a_factored_network_says_how_to_build_it(tmp_path):
    spec = "tests.line.small:small_network[fc1=5]"
    net = build_network(spec).eval()
    card = load_card("rram-neurram")
    layers = quantize(net, full_masks(net), card.levels)
    quantized = {name: (layer.codes, layer.scale) for name, layer in layers.items()}
    built = build_map(spec, net, quantized, card, (16, 16), calibrate_inputs(net, torch.rand(4, 1, 8, 8)))
    write_map(built, tmp_path / "maps.h5")
    read = read_map(tmp_path / "maps.h5")
    assert list(read.layers) == ["conv1", "conv2", "fc1.u", "fc1.v", "fc2"]
    again = network_from_map(build_network(read.network, 5), read)
    torch.testing.assert_close(again.fc1.v.bias, net.fc1.v.bias)


RECIPES = Path(str(resources.files("hwloop") / "recipes"))


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda path: path.name)
def test_shipped_recipes_name_layers_that_their_networks_have(path):
    recipe = load_recipe(path)
    assert recipe.prune.keep.keys() <= crossbar_layers(build_network(recipe.network.factory)).keys()
