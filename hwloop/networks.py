"""Networks: how they are built, loaded and saved, which of their layers go onto crossbars, and in what form.

GEMM form of a layer: a matrix ``[rows, cols]`` with one row for each input (word line) and one column for
each output (bit line). Row ``(c * kh + y) * kw + x`` of a convolution is input channel ``c`` and kernel
position ``y, x``, the order of :func:`torch.nn.functional.unfold`. Grouped convolutions are block diagonal.
"""

from __future__ import annotations

import importlib
import inspect
from collections import OrderedDict
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from device_models.files import write_atomically
from device_models.random import stream_key

CrossbarLayer = nn.Linear | nn.Conv2d

# Layers with parameters that work on one value, or one channel, at a time: digital logic does them.
DIGITAL_LAYERS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.LayerNorm,
    nn.PReLU,
)


class NetworkError(ValueError):
    """A network or a weights file that cannot be used; the message names the layer or the file."""


def lenet() -> nn.Sequential:
    """LeNet of the Caffe examples: 430,500 weights for 28×28 grey images and 10 classes."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 20, 5),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 50, 5),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(800, 500),
            relu1=nn.ReLU(),
            fc2=nn.Linear(500, 10),
        )
    )


def convnet() -> nn.Sequential:
    """ConvNet of the Caffe examples (``cifar10_full``): 89,440 weights for 32×32 colour images, 10 classes.

    Its two response normalisations are left out: they are made for pixels of 0 to 255, and with pixels of
    0 to 1 they divide by 1 to within rounding.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 32, 5, padding=2),
            pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 32, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.AvgPool2d(3, 2, ceil_mode=True),
            conv3=nn.Conv2d(32, 64, 5, padding=2),
            relu3=nn.ReLU(),
            pool3=nn.AvgPool2d(3, 2, ceil_mode=True),
            flatten=nn.Flatten(),
            fc=nn.Linear(1024, 10),
        )
    )


def build_network(spec: str, seed: int = 0) -> nn.Module:
    """Import ``package.module:factory`` and call the factory without arguments.

    Args:
        spec: where the factory is. Its module is imported, that is, its code runs.
        seed: fixes the initial weights (torch's global generator is left as it was).

    Raises:
        NetworkError: if there is no such module or factory, or it does not return a ``torch.nn.Module``.
    """
    module_name, colon, factory_name = spec.partition(":")
    if not (module_name and colon and factory_name):
        raise NetworkError(f"network {spec!r}: must read package.module:factory")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise NetworkError(
            f"network {spec!r}: module {module_name!r} cannot be imported ({error})"
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise NetworkError(f"network {spec!r}: {module_name!r} has no factory {factory_name!r}")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise NetworkError(f"network {spec!r}: the factory must need no arguments ({error})") from error
    with torch.random.fork_rng():
        torch.manual_seed(stream_key(seed, "network", spec) % 2**63)
        net = factory()
    if not isinstance(net, nn.Module):
        raise NetworkError(f"network {spec!r}: gives {type(net).__name__}, not a torch.nn.Module")
    return net


def save_weights(net: nn.Module, path: str | Path) -> None:
    """Write parameters and buffers as safetensors, atomically."""
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in net.state_dict().items()}
    write_atomically(path, safetensors.torch.save(tensors))


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Fill ``net`` with the weights of a safetensors file.

    Raises:
        NetworkError: if the file cannot be read or holds the weights of another network; ``net`` is
            then as it was before.
    """
    try:
        weights = safetensors.torch.load_file(str(path))
    except FileNotFoundError:
        raise NetworkError(f"{path}: no such file") from None
    except OSError as error:
        raise NetworkError(f"{path}: cannot be read ({error})") from error
    except safetensors.SafetensorError as error:
        raise NetworkError(f"{path}: not a complete safetensors file ({error})") from error
    state = net.state_dict()
    for names, fault in ((state.keys() - weights, "lacks"), (weights.keys() - state, "does not know")):
        if names:
            subject = path if fault == "lacks" else f"{path}: the network"
            raise NetworkError(f"{subject} {fault} {_some(names)}: these are weights of another network")
    for name, value in weights.items():
        if value.shape != state[name].shape:
            raise NetworkError(
                f"{path}: {name} is {list(value.shape)}, the network's is {list(state[name].shape)}"
            )
        if value.is_floating_point() != state[name].is_floating_point():
            raise NetworkError(f"{path}: {name} is {value.dtype}, the network's is {state[name].dtype}")
        if not value.isfinite().all():
            raise NetworkError(f"{path}: {name} holds values that are not finite")
    net.load_state_dict(weights)


def _some(names: set[str], most: int = 4) -> str:
    """Join the first few names."""
    first = sorted(names)[:most]
    return ", ".join(first) + (f" and {len(names) - most} more" if len(names) > most else "")


def crossbar_layers(net: nn.Module) -> dict[str, CrossbarLayer]:
    """Return the layers that go onto crossbars, by dotted name, in the order in which they are defined.

    Raises:
        NetworkError: naming every layer that has weights of a kind that no station knows.
    """
    layers: dict[str, CrossbarLayer] = {}
    faults: list[str] = []
    for name, module in net.named_modules():
        # A subclass may compute something else with its weights, so the class itself must match.
        if type(module) is nn.Linear or type(module) is nn.Conv2d:
            layers[name] = module
            if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
                faults.append(f"{name} (padding_mode {module.padding_mode!r})")
        elif not isinstance(module, DIGITAL_LAYERS) and any(True for _ in module.parameters(recurse=False)):
            faults.append(f"{name or 'the network itself'} ({type(module).__name__})")
    if faults:
        raise NetworkError(
            f"unsupported layers: {', '.join(faults)}; crossbars hold Linear and Conv2d with zero padding"
        )
    if not layers:
        raise NetworkError("the network has no Linear or Conv2d layer")
    owners: dict[int, str] = {}
    for name, layer in layers.items():
        other = owners.setdefault(id(layer.weight), name)
        if other != name:
            raise NetworkError(
                f"{other} and {name} share one weight; crossbar layers must each have their own"
            )
    return layers


def to_matrix(layer: CrossbarLayer, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return a layer's weight in GEMM form, ``[rows, cols]``; differentiable.

    Args:
        layer: the layer.
        weight: another tensor in the shape of the layer's weight, such as a gradient, to use instead.
    """
    weight = layer.weight if weight is None else weight
    if isinstance(layer, nn.Linear):
        return weight.T
    blocks = weight.reshape(layer.groups, layer.out_channels // layer.groups, -1).transpose(1, 2)
    return torch.block_diag(*blocks) if layer.groups > 1 else blocks[0]


def from_matrix(layer: CrossbarLayer, matrix: torch.Tensor) -> torch.Tensor:
    """Return the weight of ``layer`` whose GEMM form is ``matrix``: the inverse of :func:`to_matrix`.

    Entries outside the blocks of a grouped convolution are ignored. Differentiable.
    """
    if isinstance(layer, nn.Linear):
        return matrix.T.contiguous()
    rows, cols = matrix.shape[0] // layer.groups, matrix.shape[1] // layer.groups
    blocks = [matrix[i * rows : (i + 1) * rows, i * cols : (i + 1) * cols].T for i in range(layer.groups)]
    return torch.cat(blocks).reshape(layer.weight.shape)


def record_inputs(net: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run ``net`` on ``x`` and return what reaches each crossbar layer, by name.

    A layer that runs more than once gets its inputs joined along the batch; one that never runs is absent.
    """
    seen: dict[str, list[torch.Tensor]] = {}
    layers = crossbar_layers(net)

    def keep(name: str, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.setdefault(name, []).append(inputs[0].detach())

    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: keep(name, inputs))
        for name, layer in layers.items()
    ]
    training = net.training
    try:
        net.eval()
        with torch.no_grad():
            net(x)
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    return {name: torch.cat(seen[name]) for name in layers if name in seen}
