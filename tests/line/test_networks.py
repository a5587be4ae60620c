"""Networks: the GEMM form is the network's own arithmetic, and what cannot be mapped is named."""

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from hwloop.networks import (
    NetworkError,
    build_network,
    crossbar_layers,
    digital_modules,
    from_matrix,
    lenet,
    load_weights,
    record_inputs,
    save_weights,
    to_matrix,
)
from tests.line.small import small_network


def a_number():
    return 3


def needs_width(width):
    return nn.Linear(width, 1)


def test_lenet_has_its_430500_weights_and_names():
    layers = crossbar_layers(lenet())
    assert list(layers) == ["conv1", "conv2", "fc1", "fc2"]
    assert sum(layer.weight.numel() for layer in layers.values()) == 430_500
    assert [tuple(to_matrix(layer).shape) for layer in layers.values()] == [
        (25, 20),
        (500, 50),
        (800, 500),
        (500, 10),
    ]
    assert lenet()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@settings(deadline=None, max_examples=40)
@given(
    groups=st.integers(1, 3),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
)
def test_unfolded_inputs_times_the_matrix_are_the_convolution(
    groups, inputs, outputs, kernel, stride, padding, dilation
):
    torch.manual_seed(0)
    layer = nn.Conv2d(
        groups * inputs,
        groups * outputs,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=False,
        dtype=torch.float64,
    )
    x = torch.randn(2, groups * inputs, 7, 6, dtype=torch.float64)
    patches = F.unfold(x, kernel, dilation=dilation, padding=padding, stride=stride)
    expected = layer(x)
    product = (patches.transpose(1, 2) @ to_matrix(layer)).transpose(1, 2)
    torch.testing.assert_close(product.reshape(expected.shape), expected)
    assert torch.equal(from_matrix(layer, to_matrix(layer)), layer.weight)


def test_inputs_times_the_matrix_are_the_linear_layer():
    layer = nn.Linear(5, 3, bias=False)
    x = torch.randn(4, 5)
    torch.testing.assert_close(x @ to_matrix(layer), layer(x))
    assert torch.equal(from_matrix(layer, to_matrix(layer)), layer.weight)


def test_entries_outside_the_blocks_of_a_grouped_convolution_are_ignored():
    layer = nn.Conv2d(4, 6, 3, groups=2)
    assert torch.equal(from_matrix(layer, to_matrix(layer) + 0.0), layer.weight)
    full = to_matrix(layer).detach() + (to_matrix(layer) == 0).float()
    assert torch.equal(from_matrix(layer, full), layer.weight)


def test_the_seed_fixes_the_initial_weights_and_nothing_else_random():
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    first = build_network("hwloop.networks:lenet", 1)
    assert torch.equal(torch.rand(1), before)
    again, other = build_network("hwloop.networks:lenet", 1), build_network("hwloop.networks:lenet", 2)
    assert torch.equal(first.fc1.weight, again.fc1.weight)
    assert not torch.equal(first.fc1.weight, other.fc1.weight)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("lenet", "package.module:factory"),
        ("no_such_module_here:net", "cannot be imported"),
        ("hwloop.networks:alexnet", "no factory 'alexnet'"),
        ("tests.line.test_networks:a_number", "int, not a torch.nn.Module"),
        ("tests.line.test_networks:needs_width", "no arguments"),
    ],
)
def test_a_spec_that_gives_no_network_is_named_with_its_fault(spec, words):
    with pytest.raises(NetworkError, match=words):
        build_network(spec)


def test_layers_that_no_array_computes_stay_digital_and_are_listed():
    class Doubled(nn.Linear):  # may compute anything with its weight
        def forward(self, x):
            return 2 * super().forward(x)

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.gain = nn.Linear(2, 2), nn.Parameter(torch.ones(2))

    net = nn.Sequential(Scaled(), nn.LSTM(2, 2), nn.BatchNorm1d(2), Doubled(2, 2), nn.Embedding(3, 2))
    assert list(crossbar_layers(net)) == ["0.inner"]
    assert digital_modules(net) == {"0": "Scaled", "1": "LSTM", "3": "Doubled", "4": "Embedding"}


def test_padding_modes_and_shared_weights_are_named():
    with pytest.raises(NetworkError, match="padding_mode 'reflect'"):
        crossbar_layers(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")))
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    with pytest.raises(NetworkError, match="0 and 1 share one weight"):
        crossbar_layers(tied)
    with pytest.raises(NetworkError, match="no Linear or Conv2d"):
        crossbar_layers(nn.Sequential(nn.ReLU()))


def test_digital_layers_need_no_crossbar():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.PReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(8, 2)
    )
    assert list(crossbar_layers(net)) == ["0", "5"]


def test_saved_weights_come_back_exactly(tmp_path):
    net, other = small_network(), small_network()
    save_weights(net, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path):
    net = small_network()
    before = [p.clone() for p in net.parameters()]
    state = net.state_dict()
    cases = {
        "lacks fc2.bias": {name: value for name, value in state.items() if name != "fc2.bias"},
        "does not know extra": state | {"extra": torch.zeros(1)},
        r"fc1.bias is \[3\]": state | {"fc1.bias": torch.zeros(3)},
        "fc1.bias is torch.int8": state | {"fc1.bias": torch.zeros(24, dtype=torch.int8)},
        "fc1.bias holds values that are not finite": state | {"fc1.bias": torch.full((24,), torch.nan)},
    }
    for words, weights in cases.items():
        safetensors.torch.save_file(weights, tmp_path / "other.safetensors")
        with pytest.raises(NetworkError, match=words):
            load_weights(net, tmp_path / "other.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))


def test_what_a_damaged_weights_file_says_is_shown_in_one_printable_line(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(small_network(), path)
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"\x7f32"', 1))
    with pytest.raises(NetworkError, match="not a complete safetensors file") as raised:
        load_weights(small_network(), path)
    assert str(raised.value).isprintable()


def test_a_weights_file_that_is_missing_or_cut_is_named(tmp_path):
    save_weights(small_network(), tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("missing.safetensors", "cut.safetensors", "empty.safetensors"):
        with pytest.raises(NetworkError, match=name):
            load_weights(small_network(), tmp_path / name)


def test_recorded_inputs_are_what_the_layers_compute_with():
    net = small_network()
    x = torch.rand(3, 1, 8, 8)
    inputs = record_inputs(net, x)
    assert list(inputs) == ["conv1", "conv2", "fc1", "fc2"]
    assert torch.equal(inputs["conv1"], x)
    torch.testing.assert_close(net.fc2(inputs["fc2"]), net(x))
    assert not net.fc2._forward_pre_hooks
