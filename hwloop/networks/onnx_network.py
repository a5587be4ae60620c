"""Networks from ONNX files: feed-forward graphs of the layers that crossbars and digital logic know.

A file is data: its operators are made into modules of torch one by one, and whatever is not among them is an
error that names the node. No weights outside the file are read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from device_models.files import open_regular

from .layers import NetworkError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

MAX_BYTES = 1 << 31
"""Largest file: protocol buffers hold no more."""
MAX_NODES = 10_000
_NUMBERS = ("float16", "float32", "float64", "int32", "int64")


class Step(NamedTuple):
    """One module of the network: its name, and which values it takes and gives."""

    name: str
    inputs: tuple[str, ...]
    output: str


class Add(nn.Module):
    """The sum of two values."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return first + second


class WithConstant(nn.Module):
    """A value plus, minus, times or over a constant, which digital logic keeps.

    Args:
        operator: ``Add``, ``Sub``, ``Mul`` or ``Div``.
        constant: broadcast to the value.
    """

    constant: torch.Tensor

    def __init__(self, operator: str, constant: torch.Tensor) -> None:
        super().__init__()
        self._function = _ARITHMETIC[operator]
        self.register_buffer("constant", constant)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the result."""
        return self._function(x, self.constant)


class OnnxNetwork(nn.Module):
    """Modules in the order of a graph, each a child by its node's name.

    Args:
        steps: in an order in which every value is there before it is taken.
        modules: by the names of the steps.
        source: name of the value that the network takes.
        result: name of the value that it gives.
    """

    def __init__(
        self, steps: Sequence[Step], modules: Mapping[str, nn.Module], source: str, result: str
    ) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self._steps, self._source, self._result = tuple(steps), source, result

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the network's output for a batch."""
        values = {self._source: x}
        for step in self._steps:
            # By name, since modules are exchanged for others in networks that run on hardware.
            module = getattr(self, step.name)
            values[step.output] = module(*(values[name] for name in step.inputs))
        return values[self._result]


def load_onnx(path: str | Path) -> OnnxNetwork:
    """Return the network of an ONNX file, with its weights.

    Operators: Conv (two dimensions), Gemm, MatMul (and an Add of a bias after it), BatchNormalization, Relu,
    MaxPool, AveragePool, GlobalAveragePool, Add, Flatten, Reshape to two dimensions, Dropout, Identity, and
    Add, Sub, Mul and Div with a constant.

    Raises:
        NetworkError: naming the file, the node and what is not supported, or if the package onnx is missing.
    """
    graph = _read(Path(path)).graph
    try:
        return _Builder(graph).build()
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from error
    except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError, MemoryError) as error:
        reason = " ".join(ascii(str(error))[1:-1].split())[:200]
        raise NetworkError(f"{path}: not a network that can be built ({reason})") from error


def _read(path: Path) -> ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise NetworkError(
            f"{path}: reading ONNX files needs the package onnx: pip install hwloop[interchange]"
        ) from error
    try:
        with open_regular(path, MAX_BYTES) as file:
            model = onnx.load_model_from_string(file.read())
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (DecodeError, ValueError, RuntimeError) as error:
        raise NetworkError(f"{path}: not an ONNX file") from error
    if len(model.graph.node) > MAX_NODES:
        raise NetworkError(f"{path}: {len(model.graph.node)} nodes; at most {MAX_NODES} are read")
    if model.functions:
        raise NetworkError(f"{path}: defines functions of its own, which are not read")
    return model


class _Builder:
    """Makes a network of a graph, node by node."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._uses = Counter(name for node in graph.node for name in node.input)
        self._ranks: dict[str, int] = {}
        self._made: dict[str, nn.Module] = {}
        self._steps: list[Step] = []
        self._products: dict[str, nn.Linear] = {}

    def build(self) -> OnnxNetwork:
        """Return the network."""
        inputs = [entry for entry in self._graph.input if entry.name not in self._constants]
        if len(inputs) != 1 or len(self._graph.output) != 1:
            raise NetworkError("must have one input and one output")
        source, result = inputs[0], self._graph.output[0].name
        self._ranks[source.name] = len(source.type.tensor_type.shape.dim)
        same = {source.name: source.name}  # values under the name of the module's output that they are
        for node in self._graph.node:
            self._add(node, same)
        if result not in same:
            raise NetworkError(f"nothing gives its output {_shown(result)}")
        return OnnxNetwork(self._steps, self._made, source.name, same[result])

    def _add(self, node: NodeProto, same: dict[str, str]) -> None:
        if node.domain not in ("", "ai.onnx"):
            raise NetworkError(f"{_title(node)}: operators of {_shown(node.domain)} are not known")
        if node.op_type == "Constant":
            given = {entry.name: entry for entry in node.attribute}
            if set(given) != {"value"}:
                raise NetworkError(f"{_title(node)}: only constants that are tensors are read")
            self._constants[node.output[0] if node.output else ""] = given["value"].t
            return
        if node.op_type == "Identity" and node.output and node.input and node.input[0] in self._constants:
            self._constants[node.output[0]] = self._constants[node.input[0]]
            return
        values = [name for name in node.input if name and name not in self._constants]
        if unknown := [name for name in values if name not in same]:
            raise NetworkError(f"{_title(node)}: nothing before it gives {_shown(unknown[0])}")
        if not values or not node.output:
            raise NetworkError(f"{_title(node)}: takes or gives no value")
        taken, output = tuple(same[name] for name in values), node.output[0]
        if node.op_type in ("Identity", "Dropout"):
            same[output] = taken[0]
            return
        if node.op_type == "Add" and self._add_bias(node, values[0], taken[0]):
            same[output] = taken[0]
            return
        make = _OPERATORS.get(node.op_type)
        if node.op_type in _ARITHMETIC and len(values) == 1:
            make = _with_constant
        if make is None:
            raise NetworkError(f"{_title(node)}: is not supported; known are {', '.join(sorted(_OPERATORS))}")
        if len(taken) != (2 if make is _OPERATORS["Add"] else 1):
            raise NetworkError(f"{_title(node)}: takes {len(taken)} values")
        module, rank = make(_Node(node, self._constants), self._ranks[taken[0]])
        if node.op_type == "MatMul" and isinstance(module, nn.Linear):
            self._products[output] = module
        name = self._name(node)
        self._made[name] = module
        self._steps.append(Step(name, taken, output))
        self._ranks[output], same[output] = rank, output

    def _add_bias(self, node: NodeProto, value: str, product: str) -> bool:
        """Give the linear layer that makes a value its bias, if that is what a node adds."""
        layer = self._products.get(product)
        constants = [name for name in node.input if name in self._constants]
        if layer is None or layer.bias is not None or self._uses[value] != 1 or len(constants) != 1:
            return False
        layer.bias = nn.Parameter(_floats(self._constants[constants[0]]).reshape(layer.out_features))
        return True

    def _name(self, node: NodeProto) -> str:
        """Return a name for a node's module that no other has and that is no path."""
        wanted = re.sub(r"\W+", "_", node.name or f"{node.op_type}_{len(self._made)}", flags=re.ASCII)
        wanted = wanted.strip("_")[:100] or node.op_type
        wanted = wanted if not wanted[0].isdigit() else f"n{wanted}"
        name, number = wanted, 1
        while name in self._made or hasattr(OnnxNetwork, name) or name in ("training",):
            name, number = f"{wanted}_{number}", number + 1
        return name


class _Node:
    """A node's attributes and constants, each of which is asked for by name or place."""

    def __init__(self, node: NodeProto, constants: Mapping[str, TensorProto]) -> None:
        self.title, self._node, self._constants = _title(node), node, constants
        self._attributes = {entry.name: entry for entry in node.attribute}

    @property
    def operator(self) -> str:
        """Name of the operator."""
        return str(self._node.op_type)

    def is_constant(self, place: int) -> bool:
        """Whether an input is a constant."""
        return self._tensor(place) is not None

    def constant(self, place: int) -> torch.Tensor:
        """Return a constant input as float32."""
        found = self._tensor(place)
        if found is None:
            raise NetworkError(f"{self.title}: input {place} must be a constant")
        return _floats(found)

    def optional(self, place: int) -> torch.Tensor | None:
        """Return a constant input as float32, or None where it is left out."""
        given = place < len(self._node.input) and self._node.input[place]
        return self.constant(place) if given else None

    def whole(self, place: int) -> list[int]:
        """Return a constant input as whole numbers."""
        found = self._tensor(place)
        if found is None:
            raise NetworkError(f"{self.title}: input {place} must be a constant")
        return [int(value) for value in _numbers(found).reshape(-1)[:100]]

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is a number."""
        entry = self._attributes.pop(name, None)
        return default if entry is None else float(entry.f if entry.type == entry.FLOAT else entry.i)

    def numbers(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        """Return an attribute that is a list of as many whole numbers as the default."""
        entry = self._attributes.pop(name, None)
        found = tuple(default) if entry is None else tuple(entry.ints)
        if len(found) != len(default):
            raise NetworkError(f"{self.title}: {name} has {len(found)} numbers, must have {len(default)}")
        return found

    def pair(self, name: str, default: tuple[int, int]) -> tuple[int, int]:
        """Return an attribute that is two whole numbers, of rows and of columns."""
        rows, columns = self.numbers(name, default)
        return rows, columns

    def padding(self) -> tuple[int, int]:
        """Return the padding of both sides, which must be the same."""
        entry = self._attributes.pop("auto_pad", None)
        if entry is not None and entry.s not in (b"NOTSET", b"VALID"):
            raise NetworkError(f"{self.title}: auto_pad is not supported; export with explicit pads")
        top, left, bottom, right = self.numbers("pads", (0, 0, 0, 0))
        if (top, left) != (bottom, right):
            raise NetworkError(f"{self.title}: pads differ between sides")
        return top, left

    def no_more(self, *ignored: str) -> None:
        """Raise if an attribute was not asked for: it would change what the node computes."""
        if left := self._attributes.keys() - set(ignored):
            raise NetworkError(f"{self.title}: attribute {_shown(min(left))} is not supported")

    def _tensor(self, place: int) -> TensorProto | None:
        if place >= len(self._node.input):
            return None
        return self._constants.get(self._node.input[place])


def _numbers(tensor: TensorProto) -> np.ndarray:
    """Return the numbers of a tensor that lie in the file itself."""
    from onnx import TensorProto as Proto
    from onnx import numpy_helper

    if tensor.data_location == Proto.EXTERNAL or tensor.external_data:
        raise NetworkError(f"constant {_shown(tensor.name)} lies in another file, which is not read")
    array = numpy_helper.to_array(tensor)
    if array.dtype.name not in _NUMBERS:
        raise NetworkError(f"constant {_shown(tensor.name)} holds {array.dtype}")
    return array


def _floats(tensor: TensorProto) -> torch.Tensor:
    values = torch.from_numpy(np.array(_numbers(tensor), dtype=np.float32))
    if not values.isfinite().all():
        raise NetworkError(f"constant {_shown(tensor.name)} holds values that are not finite")
    return values


def _conv(node: _Node, rank: int) -> tuple[nn.Module, int]:
    weight, bias = node.constant(1), node.optional(2)
    if weight.ndim != 4 or rank != 4:
        raise NetworkError(f"{node.title}: only convolutions of two dimensions are known")
    outputs, inputs, height, width = weight.shape
    if node.pair("kernel_shape", (height, width)) != (height, width):
        raise NetworkError(f"{node.title}: kernel_shape is not that of its weight")
    groups = int(node.number("group", 1))
    strides, dilations = node.pair("strides", (1, 1)), node.pair("dilations", (1, 1))
    padding = node.padding()
    node.no_more()
    if not 1 <= groups <= outputs or min(*strides, *dilations) < 1 or min(padding) < 0:
        raise NetworkError(f"{node.title}: group, strides, dilations or pads make no convolution")
    with torch.device("meta"):
        layer = nn.Conv2d(
            inputs * groups, outputs, (height, width), strides, padding, dilations, groups, bias is not None
        )
    return _filled(node, layer, weight, bias), 4


def _gemm(node: _Node, rank: int) -> tuple[nn.Module, int]:
    weight, bias = node.constant(1), node.optional(2)
    if (node.number("alpha", 1), node.number("beta", 1), node.number("transA", 0)) != (1, 1, 0):
        raise NetworkError(f"{node.title}: alpha, beta and transA are not supported")
    transposed = node.number("transB", 0) == 1
    node.no_more()
    return _linear(node, weight if transposed else weight.T, bias, rank)


def _matmul(node: _Node, rank: int) -> tuple[nn.Module, int]:
    node.no_more()
    return _linear(node, node.constant(1).T, None, rank)


def _linear(node: _Node, weight: torch.Tensor, bias: torch.Tensor | None, rank: int) -> tuple[nn.Module, int]:
    if weight.ndim != 2:
        raise NetworkError(f"{node.title}: its weight must have two dimensions")
    outputs, inputs = weight.shape
    with torch.device("meta"):
        layer = nn.Linear(inputs, outputs, bias is not None)
    return _filled(node, layer, weight, None if bias is None else bias.reshape(-1)), rank


def _filled(
    node: _Node, layer: nn.Linear | nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor | None
) -> nn.Module:
    """Return a layer without memory with the weights of the file."""
    layer.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        if bias.shape != weight.shape[:1]:
            raise NetworkError(f"{node.title}: its bias is {list(bias.shape)}, must be [{len(weight)}]")
        layer.bias = nn.Parameter(bias)
    return layer


def _batch_norm(node: _Node, rank: int) -> tuple[nn.Module, int]:
    scale, shift, mean, variance = (node.constant(place) for place in range(1, 5))
    if node.number("training_mode", 0) != 0 or not scale.shape == shift.shape == mean.shape == variance.shape:
        raise NetworkError(f"{node.title}: must have four lists of one length, and no training mode")
    epsilon = node.number("epsilon", 1e-5)
    node.no_more("momentum", "spatial")
    made = (nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d)(len(scale), eps=epsilon)
    made.weight, made.bias = nn.Parameter(scale), nn.Parameter(shift)
    made.running_mean, made.running_var = mean, variance
    return made, rank


def _pool(kind: Callable[..., nn.Module]) -> Callable[[_Node, int], tuple[nn.Module, int]]:
    def make(node: _Node, rank: int) -> tuple[nn.Module, int]:
        kernel, strides = node.pair("kernel_shape", (0, 0)), node.pair("strides", (1, 1))
        padding, ceil = node.padding(), node.number("ceil_mode", 0) == 1
        options: dict[str, Any] = {}
        if kind is nn.AvgPool2d:
            options["count_include_pad"] = node.number("count_include_pad", 0) == 1
        if node.pair("dilations", (1, 1)) != (1, 1) or rank != 4:
            raise NetworkError(f"{node.title}: only pooling of two dimensions without dilation is known")
        node.no_more("storage_order")
        fits = all(0 <= 2 * pad <= size for pad, size in zip(padding, kernel, strict=True))
        if min(*kernel, *strides) < 1 or not fits:
            raise NetworkError(f"{node.title}: kernel_shape, strides or pads make no pooling")
        return kind(kernel, strides, padding, ceil_mode=ceil, **options), 4

    return make


def _plain(kind: Callable[[], nn.Module]) -> Callable[[_Node, int], tuple[nn.Module, int]]:
    def make(node: _Node, rank: int) -> tuple[nn.Module, int]:
        node.no_more()
        return kind(), rank

    return make


def _with_constant(node: _Node, rank: int) -> tuple[nn.Module, int]:
    operator = node.operator
    places = [place for place in (0, 1) if node.is_constant(place)]
    if operator in ("Sub", "Div") and places != [1]:
        raise NetworkError(f"{node.title}: only a constant that is taken off or divided by is supported")
    constant = node.constant(places[0])
    node.no_more()
    if constant.ndim > rank:
        raise NetworkError(f"{node.title}: its constant has more dimensions than its value")
    return WithConstant(operator, constant), rank


def _flatten(node: _Node, rank: int) -> tuple[nn.Module, int]:  # noqa: ARG001 - one of the operators
    if node.number("axis", 1) != 1:
        raise NetworkError(f"{node.title}: only axis 1 is supported")
    return nn.Flatten(), 2


def _reshape(node: _Node, rank: int) -> tuple[nn.Module, int]:  # noqa: ARG001 - one of the operators
    shape = node.whole(1)
    node.no_more("allowzero")
    if len(shape) != 2 or (shape[0] > 1 and shape[1] != -1):
        raise NetworkError(f"{node.title}: only reshaping to [batch, values] is supported, not {shape}")
    return nn.Flatten(), 2


def _title(node: NodeProto) -> str:
    return f"node {_shown(node.name or (node.output[0] if node.output else ''))} ({_shown(node.op_type)})"


def _shown(text: str) -> str:
    return ascii(text)[1:-1][:80]


_ARITHMETIC: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
}
_OPERATORS: Mapping[str, Callable[[_Node, int], tuple[nn.Module, int]]] = {
    "Add": _plain(Add),
    "AveragePool": _pool(nn.AvgPool2d),
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _plain(lambda: nn.AdaptiveAvgPool2d(1)),
    "MatMul": _matmul,
    "MaxPool": _pool(nn.MaxPool2d),
    "Relu": _plain(nn.ReLU),
    "Reshape": _reshape,
}
