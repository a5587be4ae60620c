"""The graph of a network, traced and not guessed from names: which channels reach which rows.

A channel is an output of a crossbar layer, a column of its matrix. It goes through batch norms, activations,
poolings, additions and so on, and feeds rows of other layers: one of a linear layer, as many as a kernel has
positions of a convolution, and height × width behind a flattening.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from hwloop.networks import DIGITAL_LAYERS, NetworkError, crossbar_layers

IMAGE = ""
"""Stands where the name of a layer would, for the channels of images."""

Kind = Literal["image", "layer", "norm", "each", "same", "padded", "flatten", "add", "cat", "fixed"]

_MODULES: dict[type[nn.Module], Kind] = {
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d), "norm"),
    **dict.fromkeys((nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU), "each"),
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Tanh), "each"),
    **dict.fromkeys((nn.Dropout, nn.Dropout2d, nn.Identity), "same"),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d), "same"),
    **dict.fromkeys(set(DIGITAL_LAYERS) - {nn.BatchNorm1d, nn.BatchNorm2d}, "fixed"),
    nn.Flatten: "flatten",
}
_FUNCTIONS: dict[Any, Kind] = {
    **dict.fromkeys((F.relu, F.relu6, F.gelu, F.silu, F.leaky_relu, F.hardswish), "each"),
    **dict.fromkeys((torch.relu, torch.sigmoid, torch.tanh, "relu", "relu_", "sigmoid", "tanh"), "each"),
    **dict.fromkeys((F.dropout, "contiguous", "mean", torch.mean), "same"),
    **dict.fromkeys((F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d), "same"),
    **dict.fromkeys((torch.flatten, "flatten", "view", "reshape"), "flatten"),
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), "add"),
    **dict.fromkeys((operator.sub, operator.mul, operator.truediv, torch.sub, torch.mul, torch.div), "fixed"),
    torch.cat: "cat",
}
_SUPPORTED = (
    "supported are Linear, Conv2d, norms, activations, poolings, flattening, dropout, additions and joining "
    "of channels, each layer used once"
)


@dataclass(frozen=True)
class Node:
    """One operation of a network.

    Attributes:
        kind: ``layer`` is a crossbar layer and ``norm`` a batch norm; ``each`` computes value by value;
            ``same`` keeps what is the same everywhere in a channel; ``padded`` keeps zeros; ``fixed`` needs
            its channels in their places.
        inputs: names of the nodes whose values go in.
        module: dotted name of the module; empty if the operation is a function.
        channels: channels of what comes out; after a flattening, features.
        area: values of one channel, height times width.
        origin: for each layer whose channels come out here, which of them each channel is: int64
            ``[channels]``, -1 where none. Where there are several, they were added.
        apply: what a function of kind ``each`` computes.
    """

    kind: Kind
    inputs: tuple[str, ...]
    module: str
    channels: int
    area: int
    origin: dict[str, torch.Tensor]
    apply: Callable[[torch.Tensor], torch.Tensor] | None


@dataclass(frozen=True)
class Graph:
    """What :func:`trace` finds.

    Attributes:
        nodes: every operation, by name, in the order in which they run.
        layers: the node of each crossbar layer.
        feeds: for each layer, which channel of which other layers comes in at each of its rows: int64
            ``[rows]`` for each of them, -1 where none; ``""`` is the image. Where there are several, they
            were added.
        norms: the batch norm that takes all that a layer gives, for layers that have one.
        ties: groups of layers whose channels are added one by one, so that they share one order; each layer
            is in one group, most of them alone.
        fixed: layers whose channels must stay in their places: those of the output, those into and out of
            grouped convolutions, and those that are added or normalised in another order.
        output: the node that the network returns.
    """

    nodes: dict[str, Node]
    layers: dict[str, str]
    feeds: dict[str, dict[str, torch.Tensor]]
    norms: dict[str, str]
    ties: tuple[tuple[str, ...], ...]
    fixed: frozenset[str]
    output: str


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, DIGITAL_LAYERS) or super().is_leaf_module(m, module_qualified_name)


def trace(net: nn.Module, image_shape: tuple[int, ...]) -> Graph:
    """Follow the channels through a network.

    Args:
        net: the network; not changed.
        image_shape: channels, height and width of an image.

    Raises:
        NetworkError: if the network cannot be traced, or has an operation that channels cannot be followed
            through; the message names it.
    """
    crossbar_layers(net)
    training = net.training
    net.eval()
    try:
        graph = _Tracer().trace(net)
        example = next(net.parameters()).new_zeros(1, *image_shape)
        with torch.no_grad():
            ShapeProp(fx.GraphModule(net, graph)).propagate(example)
    except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise NetworkError(f"the network cannot be traced ({reason}); {_SUPPORTED}") from error
    finally:
        net.train(training)
    return _Follower(net).follow(graph)


class _Follower:
    """Turns what torch traced into a :class:`Graph`."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._crossbar = crossbar_layers(net)
        self._nodes: dict[str, Node] = {}
        self._layers: dict[str, str] = {}
        self._feeds: dict[str, dict[str, torch.Tensor]] = {}
        self._group = {name: name for name in (*self._crossbar, IMAGE)}
        self._fixed = {IMAGE}

    def follow(self, graph: fx.Graph) -> Graph:
        """Follow all nodes in the order in which they run."""
        output = ""
        for node in graph.nodes:
            if node.op == "output":
                output = self._output(node)
            elif node.op != "get_attr" and "tensor_meta" in node.meta:
                self._nodes[node.name] = self._node(node)
        unused = [name for name in self._crossbar if name not in self._layers]
        if unused:
            raise NetworkError(f"layer {unused[0]} is never used")
        groups: dict[str, list[str]] = {}
        for name in self._crossbar:
            groups.setdefault(self._root(name), []).append(name)
        fixed = {self._root(name) for name in self._fixed}
        return Graph(
            nodes=self._nodes,
            layers=self._layers,
            feeds=self._feeds,
            norms=self._norms(output),
            ties=tuple(tuple(group) for group in groups.values()),
            fixed=frozenset(name for name in self._crossbar if self._root(name) in fixed),
            output=output,
        )

    def _node(self, node: fx.Node) -> Node:
        kind, module = self._kind(node)
        shape = _shape(node)
        values = node.args[0] if kind == "cat" else node.args
        inputs = [arg.name for arg in values if isinstance(arg, fx.Node) and arg.name in self._nodes]  # type: ignore[union-attr]
        if kind == "image":
            if self._nodes:
                raise _error(node, "a network takes one batch of images and nothing else")
            origin = {IMAGE: torch.arange(shape[1])}
            return Node(kind, (), "", shape[1], math.prod(shape[2:]), origin, None)
        if not inputs or any(
            arg.name in self._nodes for arg in node.kwargs.values() if isinstance(arg, fx.Node)
        ):
            raise _error(node, "its operands must be given by place, and come from the image")
        if kind in ("add", "fixed") and not module:
            kind = self._arithmetic(node, kind, len(inputs))
        sources = [self._nodes[name] for name in inputs]
        origin = self._origin(node, kind, module, sources, shape)
        apply = _function(node) if kind == "each" and not module else None
        return Node(kind, tuple(inputs), module, shape[1], math.prod(shape[2:]), origin, apply)

    def _kind(self, node: fx.Node) -> tuple[Kind, str]:
        """Return the kind of a node, and the name of its module."""
        if node.op == "placeholder":
            return "image", ""
        kind: Kind | None
        if node.op == "call_module":
            name = str(node.target)
            module = self._net.get_submodule(name)
            if any(
                other.module == name and other.kind in ("layer", "norm") for other in self._nodes.values()
            ):
                raise _error(node, "a layer is used twice")
            if name in self._crossbar:
                return "layer", name
            kind, padded = (
                _MODULES.get(type(module)),
                isinstance(module, nn.AvgPool2d) and _any(module.padding),
            )
        else:
            # A function or the name of a method.
            name, kind = "", _FUNCTIONS.get(node.target)
            padding = node.kwargs.get("padding", node.args[3] if len(node.args) > 3 else 0)
            padded = node.target is F.avg_pool2d and _any(padding)
        if kind is None:
            raise _error(node, "channels cannot be followed through it")
        return "padded" if padded else kind, name

    def _arithmetic(self, node: fx.Node, kind: Kind, values: int) -> Kind:
        """Return the kind of a sum, difference, product or quotient of so many values of the network."""
        if values == 2 and kind == "add" and len(node.args) == 2 and not node.kwargs:
            return kind
        if values == 1:
            return "each" if len(node.all_input_nodes) == 1 else "fixed"
        raise _error(node, "two values of the network can only be added")

    def _origin(
        self, node: fx.Node, kind: Kind, module: str, sources: Sequence[Node], shape: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        """Return which channels come out of a node."""
        first = sources[0]
        before = [_shape(arg) for arg in node.all_input_nodes if arg.name in self._nodes]
        if kind == "layer":
            return self._through_layer(node, module, first, before[0])
        if kind == "flatten":
            if tuple(shape) != (1, first.channels * first.area):
                raise _error(node, f"makes {list(shape)} of {list(before[0])}; it must keep the batch alone")
            if node.target in ("view", "reshape") and node.args[-1] != -1:
                self._fixed.update(first.origin)
            return {name: channel.repeat_interleave(first.area) for name, channel in first.origin.items()}
        if kind == "cat":
            dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            if dim != 1 or len(sources) != len(node.args[0]):  # type: ignore[arg-type]
                raise _error(node, "only channels, dimension 1, can be joined")
            return _joined(sources)
        if kind == "add":
            if any(other != before[0] for other in before):
                raise _error(node, "what is added must have one shape")
            return self._added(node, *sources)
        if shape[1] != first.channels or (node.target in ("mean", torch.mean) and not _over_area(node)):
            raise _error(node, "it mixes channels")
        if kind == "fixed":
            self._fixed.update(first.origin)
        return first.origin

    def _through_layer(
        self, node: fx.Node, name: str, source: Node, shape: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        layer = self._crossbar[name]
        if len(shape) != (4 if isinstance(layer, nn.Conv2d) else 2):
            raise _error(node, f"takes values of shape {list(shape)}")
        self._layers[name] = node.name
        positions = 1
        if isinstance(layer, nn.Conv2d):
            positions = math.prod(layer.kernel_size)
            if layer.groups > 1:
                self._fixed.update((name, *source.origin))
        self._feeds[name] = {
            producer: channel.repeat_interleave(positions) for producer, channel in source.origin.items()
        }
        return {name: torch.arange(layer.weight.shape[0])}

    def _added(self, node: fx.Node, first: Node, second: Node) -> dict[str, torch.Tensor]:
        """Return the channels of a sum, and tie those that are added."""
        result = dict(first.origin)
        for name, channel in second.origin.items():
            for other, there in first.origin.items():
                both = (channel >= 0) & (there >= 0)
                if not both.any():
                    continue
                if not torch.equal(channel, there):
                    self._fixed.update((name, other))
                    if name == other and not torch.equal(channel[both], there[both]):
                        raise _error(node, f"adds different channels of {name}")
                self._group[self._root(name)] = self._root(other)
            there = result.get(name, torch.full_like(channel, -1))
            result[name] = torch.maximum(there, channel)
        return result

    def _output(self, node: fx.Node) -> str:
        returned = node.args[0]
        if not isinstance(returned, fx.Node) or returned.name not in self._nodes:
            raise _error(node, "the network must return one tensor")
        self._fixed.update(self._nodes[returned.name].origin)
        return returned.name

    def _root(self, name: str) -> str:
        while self._group[name] != name:
            name = self._group[name]
        return name

    def _norms(self, output: str) -> dict[str, str]:
        users: dict[str, list[Node]] = {name: [] for name in self._nodes}
        for node in self._nodes.values():
            for name in node.inputs:
                users[name].append(node)
        return {
            layer: users[name][0].module
            for layer, name in self._layers.items()
            if name != output and len(users[name]) == 1 and users[name][0].kind == "norm"
        }


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of what a node gives for one image."""
    shape = getattr(node.meta["tensor_meta"], "shape", None)
    if shape is None or len(shape) not in (2, 4):
        raise _error(node, "its result is not one tensor of 2 or 4 dimensions")
    return tuple(shape)


def _joined(sources: Sequence[Node]) -> dict[str, torch.Tensor]:
    """Return the channels of several values one after the other."""
    names = dict.fromkeys(name for source in sources for name in source.origin)
    return {
        name: torch.cat([source.origin.get(name, torch.full((source.channels,), -1)) for source in sources])
        for name in names
    }


def _over_area(node: fx.Node) -> bool:
    """Say whether a mean is over height and width."""
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    return isinstance(dims, list | tuple) and {int(dim) % 4 for dim in dims} == {2, 3}


def _any(padding: Any) -> bool:
    return any(padding) if isinstance(padding, tuple | list) else bool(padding)


def _function(node: fx.Node) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what a function or method computes of its one tensor."""
    target, args, kwargs = node.target, node.args, dict(node.kwargs)

    def apply(x: torch.Tensor) -> torch.Tensor:
        filled = [x if isinstance(arg, fx.Node) else arg for arg in args]
        if isinstance(target, str):
            return getattr(filled[0], target)(*filled[1:], **kwargs)
        return target(*filled, **kwargs)

    return apply


def _error(node: fx.Node, fault: str) -> NetworkError:
    """Return an error that says where the network cannot be followed."""
    what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
    places = [path for path, _ in node.meta.get("nn_module_stack", {}).values() if path]
    where = f" in {places[-1]}" if places and places[-1] != what else ""
    return NetworkError(f"the network cannot be followed at {what}{where}: {fault}; {_SUPPORTED}")
