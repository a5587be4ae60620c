"""From quantized layers to a map: the conductances are the weights, and what is wrong is named."""

import math

import pytest
import torch
from torch import nn

from device_models import load_card
from hwloop.mapping import assemble, build_map, decode
from hwloop.networks import crossbar_layers, from_matrix, lenet, to_matrix

CARD = load_card("rram-neurram")


def quantize(net, density=0.3):
    """Level codes and scale of every crossbar layer, with most weights pruned."""
    quantized = {}
    for name, layer in crossbar_layers(net).items():
        matrix = to_matrix(layer).detach()
        scale = float(matrix.abs().max()) / CARD.levels
        codes = (matrix / scale).round().to(torch.int8) * (torch.rand_like(matrix) < density)
        quantized[name] = (codes, scale)
    return quantized


def scales(net):
    return dict.fromkeys(crossbar_layers(net), (1.0, False))


def mixed():
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 5)
    )


@pytest.mark.parametrize("factory", [lenet, mixed])
def test_conductances_times_their_scale_are_the_weights(factory):
    torch.manual_seed(1)
    net = factory()
    quantized = quantize(net)
    conductance_map = build_map("tests:net", net, quantized, CARD, (16, 16), scales(net))
    assert list(conductance_map.layers) == list(quantized)
    for name, module in crossbar_layers(net).items():
        layer, (codes, scale) = conductance_map.layers[name], quantized[name]
        assert layer.matrix_shape == tuple(codes.shape)
        steps = decode(layer, CARD.levels, conductance_map.target(name) / CARD.g_step)
        siemens = CARD.g_step * assemble(steps, layer.row_index, layer.col_index, layer.matrix_shape)
        weights = from_matrix(module, siemens * layer.weight_per_siemens)
        assert weights.shape == layer.weight_shape
        torch.testing.assert_close(weights, from_matrix(module, codes * scale).double(), rtol=1e-6, atol=0)


def test_all_but_the_mapped_weights_stay_digital():
    net = mixed()
    conductance_map = build_map("tests:net", net, quantize(net), CARD, (16, 16), scales(net), {"seed": 3})
    mapped = {"0.weight", "3.weight"}
    assert conductance_map.digital.keys() == net.state_dict().keys() - mapped
    assert conductance_map.attributes == {"seed": 3}
    net[1].running_mean += 1.0
    assert not conductance_map.digital["1.running_mean"].any(), "the map keeps its own copy"


def test_adc_bits_are_those_of_the_fullest_bit_line():
    net = nn.Sequential(nn.Linear(40, 20))
    quantized = quantize(net, density=0.5)
    layer = build_map("tests:net", net, quantized, CARD, (16, 8), scales(net)).layers["0"]
    for cells, bits in zip(layer.codes, layer.adc_bits.tolist(), strict=True):
        fullest = max(
            sum(int(cell != 0) for cell in bit_line) for array in cells[:, 0] for bit_line in array.T
        )
        assert bits == math.ceil(math.log2(fullest * CARD.levels + 1))


def test_a_layer_that_is_pruned_away_has_no_tiles():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    quantized = quantize(net, density=0.0)
    conductance_map = build_map("tests:net", net, quantized, CARD, (8, 8), scales(net))
    assert conductance_map.tiles == conductance_map.arrays() == 0


def test_what_does_not_fit_is_named():
    net = nn.Sequential(nn.Linear(4, 3))
    codes, scale = quantize(net)["0"]
    good = {"0": (codes, scale)}

    def build(quantized=good, input_scales=None):
        build_map("tests:net", net, quantized, CARD, (8, 8), input_scales or {"0": (1.0, False)})

    build()
    with pytest.raises(ValueError, match="layer 0: weight codes missing"):
        build({})
    with pytest.raises(ValueError, match=r"layer 1: .* no such crossbar layer"):
        build(good | {"1": good["0"]})
    with pytest.raises(ValueError, match="layer 0: input scale missing"):
        build(input_scales={"1": (1.0, False)})
    with pytest.raises(ValueError, match=r"layer 0: weight codes are \[3, 4\], must be \[4, 3\]"):
        build({"0": (codes.T, scale)})
    with pytest.raises(
        ValueError, match="layer 0: weight code 16 is above 15, the most that differential encoding"
    ):
        build({"0": (torch.full((4, 3), 16, dtype=torch.int8), scale)})
    with pytest.raises(ValueError, match="layer 0: weight codes must be int8"):
        build({"0": (codes.int(), scale)})
