"""ONNX files become torch networks that compute the same, or are refused in one line that names the node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwloop.line import RunError, RunFolder
from hwloop.networks import NetworkError, build_network, crossbar_layers, load_onnx
from hwloop.recipe import Recipe

onnx = pytest.importorskip("onnx", reason="reading ONNX files needs the extra interchange")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the skip


def torch_network() -> nn.Module:
    """A convolutional network with a shortcut, in torch."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 4, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(4)
            self.second = nn.Conv2d(4, 4, (3, 1), stride=2, padding=(1, 0), groups=2)
            self.fc = nn.Linear(4 * 4 * 4, 6)
            self.last = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.norm(self.first(x)))
            x = x + x.relu()
            x = nn.functional.max_pool2d(self.second(x), 3, 2, 1)
            x = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            return self.last(torch.relu(self.fc(x.flatten(1))))

    torch.manual_seed(0)
    net = Net()
    net.norm.running_mean.normal_()
    net.norm.running_var.uniform_(0.5, 2)
    return net.eval()


def model_of(net: nn.Module) -> onnx.ModelProto:
    """The same network as an ONNX graph, written node by node."""
    values = {name.replace(".", "_"): value.numpy() for name, value in net.state_dict().items()}
    del values["norm_num_batches_tracked"]
    values["last_weight"] = values["last_weight"].T.copy()  # MatMul takes it the other way round
    values["shape"] = np.array([0, -1], dtype=np.int64)
    nodes = [
        helper.make_node("Conv", ["x", "first_weight"], ["a"], "first/Conv", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization",
            ["a", "norm_weight", "norm_bias", "norm_running_mean", "norm_running_var"],
            ["b"],
            "norm",
            epsilon=1e-5,
        ),
        helper.make_node("Relu", ["b"], ["c"], "relu"),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["e"], "forward"),
        helper.make_node(
            "Conv",
            ["e", "second_weight", "second_bias"],
            ["f"],
            "second",
            strides=[2, 2],
            pads=[1, 0, 1, 0],
            group=2,
            kernel_shape=[3, 1],
        ),
        helper.make_node("MaxPool", ["f"], ["g"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("AveragePool", ["g"], ["h"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["h", "shape"], ["i"]),
        helper.make_node("Gemm", ["i", "fc_weight", "fc_bias"], ["j"], "fc", transB=1),
        helper.make_node("Relu", ["j"], ["k"]),
        helper.make_node("Dropout", ["k"], ["l"]),
        helper.make_node("MatMul", ["l", "last_weight"], ["m"], "last"),
        helper.make_node("Add", ["m", "last_bias"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


def test_the_network_of_a_file_computes_the_same(tmp_path: Path) -> None:
    net = torch_network()
    # 8 values high and 8 wide after the second convolution, 4 and 4 after pooling.
    found = build_network(str(saved(model_of(net), tmp_path))).eval()
    x = torch.randn(5, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(found(x), net(x), atol=1e-6)
    layers = crossbar_layers(found)
    assert list(layers) == ["first_Conv", "second", "fc", "last"]
    assert torch.equal(layers["last"].weight, net.last.weight)
    assert torch.equal(layers["second"].weight, net.second.weight)


def test_layers_of_a_file_are_factored_by_name(tmp_path: Path) -> None:
    path = saved(model_of(torch_network()), tmp_path)
    assert len(crossbar_layers(build_network(f"{path}[fc=2]"))) == 5


def change(place: int, **arguments: object):
    def apply(model: onnx.ModelProto) -> None:
        node = model.graph.node[place]
        for name, value in arguments.items():
            if name == "op_type":
                node.op_type = value
                continue
            for entry in [entry for entry in node.attribute if entry.name == name]:
                node.attribute.remove(entry)
            node.attribute.append(helper.make_attribute(name, value))

    return apply


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def huge(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 20, 3, 3]


def loop(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (change(2, op_type="Erf"), "node relu (Erf): is not supported; known are Add, "),
        (change(2, op_type="\x1b[2J"), "(\\x1b[2J): is not supported"),
        (change(0, pads=[0, 0, 1, 1]), "node first/Conv (Conv): pads differ between sides"),
        (change(0, pads=[-5, -5, -5, -5]), "node first/Conv (Conv): group, strides, dilations or pads"),
        (change(0, strides=[0, 0]), "make no convolution"),
        (change(0, auto_pad="SAME_UPPER"), "auto_pad is not supported"),
        (change(6, kernel_shape=[3, 3, 3]), "kernel_shape has 3 numbers"),
        (change(9, alpha=2.0), "alpha, beta and transA are not supported"),
        (change(2, strange=1), "node relu (Relu): attribute strange is not supported"),
        (outside, "constant first_weight lies in another file, which is not read"),
        (huge, "not a network that can be built"),
        (loop, "node first/Conv (Conv): nothing before it gives y"),
        (lambda model: model.graph.node.pop(), "nothing gives its output y"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path: Path, apply, message: str) -> None:
    model = model_of(torch_network())
    apply(model)
    path = saved(model, tmp_path)
    with pytest.raises(NetworkError) as failure:
        load_onnx(path)
    assert str(failure.value).startswith(f"{path}: ")
    assert message in str(failure.value)
    assert str(failure.value).isprintable()


def test_what_is_no_onnx_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    for name, message in [("text.onnx", "not an ONNX file"), ("none.onnx", "cannot be read")]:
        with pytest.raises(NetworkError, match=message):
            build_network(str(tmp_path / name))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("factory", "shape"), [("lenet", (1, 28, 28)), ("resnet20", (3, 32, 32))])
def test_what_torch_exports_comes_back(tmp_path: Path, factory: str, shape: tuple[int, ...]) -> None:
    net = build_network(f"hwloop.networks:{factory}", 1).eval()
    path, x = tmp_path / "net.onnx", torch.randn(3, *shape)
    torch.onnx.export(net, (x[:1],), str(path), dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}})
    found = build_network(str(path)).eval()
    with torch.no_grad():
        assert torch.allclose(found(x), net(x), atol=1e-5)
    assert len(crossbar_layers(found)) == len(crossbar_layers(net))


def test_a_run_belongs_to_the_file_of_its_network(tmp_path: Path) -> None:
    path = saved(model_of(torch_network()), tmp_path)
    recipe = Recipe.model_validate({"network": {"factory": str(path)}, "train": {"epochs": 0}})
    RunFolder.create(tmp_path / "run", recipe)
    RunFolder.create(tmp_path / "run", recipe)
    model = model_of(torch_network())
    model.graph.node[0].name = "other"
    saved(model, tmp_path)
    with pytest.raises(RunError, match=r"net.onnx"):
        RunFolder.create(tmp_path / "run", recipe)
