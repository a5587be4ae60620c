"""The network on arrays as a torch module."""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from hwloop.hardware import FastHardware, Hardware, make_wires, network_from_map, not_simulated
from hwloop.mapping import ConductanceMap, write_map
from hwloop.networks import batch_norms
from hwloop.on_arrays.layer import ArrayLayer, as_network
from hwloop.on_arrays.summary import NetworkSummary, summarize
from hwloop.recipe import HardwareConfig, Network, Recipe
from hwloop.training.codes import Codes
from hwloop.training.surrogate import SurrogateLayer, make_arrays

STEPS_PER_WIRES = 20
"""Steps of training after which the quick model solves the wires anew, for the weights as they are then."""

STEPS_PER_CHIP = 4
"""Steps of training on attached hardware after which new devices are programmed."""


class NetworkOnArrays(nn.Module):
    """A network some layers of which lie on memristor arrays; make one by :func:`hwloop.convert`.

    It is called as the network itself is. In ``eval()`` every layer on arrays is read from the chip that
    :meth:`program` wrote, exactly: wires solved, ADCs converting, read noise new in every read. Weights that
    have changed since are written again first, into the same devices. In ``train()`` the quick model of
    arrays takes the place of the chip, with new devices in every step; gradients go to the parameters, which
    are those of the
    network under their own names, and any optimiser may move them: after each of its steps pruned weights are
    zero again, and the others within the levels of the cells. Batch norms keep their statistics, since those
    of one step's devices are not a fresh chip's; their scales and shifts are learned. The devices of a step
    come from torch's global generator (``torch.manual_seed``), those of a chip from ``seed`` and the chip's
    number.

    Parameters and buffers have the names of the network's own in ``state_dict``, so that either loads the
    other's; masks, scales and ranges are not in it, but in what :meth:`save` writes. Arrays compute in
    float32 on the CPU.

    Args:
        net: a network whose array layers are :class:`ArrayLayer`.
        conductance_map: the map that it starts from.
        hardware: how the arrays are made and read.
        seed: seed of the devices.
    """

    def __init__(
        self, net: nn.Module, conductance_map: ConductanceMap, hardware: HardwareConfig, seed: int
    ) -> None:
        super().__init__()
        self.network = net
        self.hardware, self.seed = hardware, seed
        self._start = conductance_map
        self._layers = {m.name: m for m in net.modules() if isinstance(m, ArrayLayer)}
        self._codes = Codes(conductance_map, self._layers)
        self._chip: int | str | None = None
        self._make: Callable[[int | str], Hardware] = self._simulated
        self._attached = False
        self._device: Hardware | None = None
        self._programmed: ConductanceMap | None = None
        self._written: dict[str, torch.Tensor] = {}
        self._steps = 0
        self.register_state_dict_post_hook(_own_names)
        self.register_load_state_dict_pre_hook(_inner_names)
        _ALIVE.add(self)
        self.eval()

    @property
    def map(self) -> ConductanceMap:
        """The conductance map of the weights and digital parameters as they are now, not programmed.

        Raises:
            ValueError: if weights are not finite.
        """
        self.hold()
        for name, layer in self._layers.items():
            if not bool(layer.layer.weight.isfinite().all()):
                raise ValueError(f"layer {name}: weights are not finite; lower the learning rate")
        return self._codes.reached(self.network)

    @property
    def chip(self) -> int | str | None:
        """Number or name of the chip that is programmed; None before :meth:`program`."""
        return self._chip

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network; arguments and result are the network's own.

        Raises:
            RuntimeError: in ``eval()``, if nothing is programmed.
        """
        self.hold()
        if not self.training:
            self._write_changes()
        elif self._attached:
            if self._steps % STEPS_PER_CHIP == 0:
                self._write(f"training {self._steps}")
            self._steps += 1
        else:
            self._renew_quick_model()
        return self.network(*args, **kwargs)

    def program(self, chip: int | str = 0) -> NetworkOnArrays:
        """Draw the devices of a chip and write the weights into them; return the network itself.

        Args:
            chip: number or name; another one is another draw of all devices and converters.

        Raises:
            ValueError: if the hardware cannot hold the map.
        """
        self._write(chip)
        return self

    def attach(self, hardware: Hardware | Callable[[int | str], Hardware] | None) -> NetworkOnArrays:
        """Put other hardware behind the layers, in ``eval()`` and in ``train()``, and program it.

        Args:
            hardware: a back end (:mod:`hwloop.hardware`, :mod:`hwloop.bench`), or a function that makes one
                for a chip, so that training meets new devices every few steps; None = simulated arrays again.

        Raises:
            ValueError: if it cannot hold the map.
        """
        self._attached = hardware is not None
        if hardware is None:
            self._make = self._simulated
            self._forget_chip()
        else:
            self._make = hardware if callable(hardware) else _Always(hardware)
            self._write(0)
        return self

    def train(self, mode: bool = True) -> NetworkOnArrays:
        """Set training or evaluation; batch norms keep evaluating.

        Raises:
            ValueError: if the quick model does not know how the weights are held; attached hardware does.
        """
        if mode and not self._attached:
            self._check_quick_model()
        super().train(mode)
        for norm in batch_norms(self.network):
            norm.eval()
        return self

    def hold(self) -> None:
        """Set pruned weights to zero and keep the others within the levels, as happens after every step."""
        with torch.no_grad():
            self._codes.constrain()

    def summary(self) -> NetworkSummary:
        """Return what lies where: print it."""
        return summarize(
            self.network, self.map, self.hardware, self.not_simulated, self._unknown_in_training()
        )

    @property
    def not_simulated(self) -> list[str]:
        """Sections of the card that ``eval()`` on simulated arrays leaves out."""
        return [] if self._attached else not_simulated(self._start.card)

    def save(self, path: str | Path) -> None:
        """Write the map, with what the chip holds if one is programmed; :func:`load` and commands read it.

        Raises:
            OSError: if the file cannot be written.
        """
        if self._programmed is not None:
            self._write_changes()
        kept = self._programmed or self.map
        recipe = Recipe(seed=self.seed, network=Network(), hardware=self.hardware)
        attributes = {**kept.attributes, "recipe": recipe.model_dump(mode="json"), "chip": self._chip}
        write_map(replace(kept, digital=self.map.digital, attributes=attributes), path)

    def to_digital(self) -> nn.Module:
        """Return a plain torch network with the weights that the cells hold, in evaluation mode."""
        return network_from_map(as_network(copy.deepcopy(self.network)), self.map).eval()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        _ALIVE.add(self)

    def _simulated(self, chip: int | str) -> Hardware:
        return FastHardware(make_wires(self.hardware), self.hardware, seed=self.seed, instance=chip)

    def _write(self, chip: int | str) -> None:
        device = self._make(chip)
        conductance_map = self.map
        self._programmed = device.program(conductance_map)
        self._device, self._chip = device, chip
        for name, layer in self._layers.items():
            layer.hardware = device
            self._written[name] = layer.layer.weight.detach().clone()

    def _write_changes(self) -> None:
        """Write layers again whose weights are not those that were written."""
        if self._device is None or self._programmed is None:
            raise RuntimeError("nothing is programmed: program(chip) draws a chip and writes it")
        changed = [
            name
            for name, layer in self._layers.items()
            if not torch.equal(layer.layer.weight, self._written[name])
        ]
        if changed:
            now = self.map
            layers = {
                name: now.layers[name] if name in changed else old
                for name, old in self._programmed.layers.items()
            }
            self._programmed = self._device.program(replace(now, layers=layers), changed)
            for name in changed:
                self._written[name] = self._layers[name].layer.weight.detach().clone()

    def _forget_chip(self) -> None:
        self._chip = self._device = self._programmed = None
        for layer in self._layers.values():
            layer.hardware = None

    def _check_quick_model(self) -> None:
        for name, layer in self._start.layers.items():
            if layer.encoding != "differential" or layer.slices != 1:
                raise ValueError(
                    f"layer {name}: the quick model of train() knows differential encoding in one slice, not "
                    f"{layer.encoding} in {layer.slices}; attach(hardware) trains with the arrays themselves"
                )

    def _unknown_in_training(self) -> list[str]:
        """What of the readout the quick model leaves out."""
        choice, found = self.hardware, []
        if choice.adc.kind != "uniform":
            found.append(f"errors of {choice.adc.kind} ADCs other than rounding and clipping")
        if choice.dac_level_mismatch:
            found.append("mismatch of DAC levels")
        return found

    def _renew_quick_model(self) -> None:
        if next(iter(self._layers.values())).quick is None:
            if unknown := self._unknown_in_training():
                warnings.warn(
                    f"train() leaves out {' and '.join(unknown)}; attach(hardware) trains with them",
                    stacklevel=4,
                )
            arrays = make_arrays(self._start, make_wires(self.hardware), self.hardware, self.seed)
            for name, layer in self._layers.items():
                layer.use_quick(SurrogateLayer(name, layer.layer, self._start.layers[name], arrays))
        if self._steps % STEPS_PER_WIRES == 0:
            for layer in self._layers.values():
                if isinstance(layer.quick, SurrogateLayer):
                    layer.quick.refresh()
        self._steps += 1


def _own_names(module: NetworkOnArrays, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    """Call parameters and buffers in ``state`` as the network itself calls them."""
    for inner, own in _names(module, prefix).items():
        if inner in state:
            state[own] = state.pop(inner)


def _inner_names(module: NetworkOnArrays, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Undo :func:`_own_names`."""
    for inner, own in _names(module, prefix).items():
        if own in state:
            state[inner] = state.pop(own)


def _names(module: NetworkOnArrays, prefix: str) -> dict[str, str]:
    """Return how the network calls its own parameters and buffers, by how they are called here."""
    found = {}
    tensors = (
        *module.network.named_parameters(remove_duplicate=False),
        *module.network.named_buffers(remove_duplicate=False),
    )
    for inner, _ in tensors:
        own = inner
        for name, part in module.network.named_modules(remove_duplicate=False):
            if isinstance(part, ArrayLayer) and inner.startswith(f"{name}.layer."):
                own = name + inner.removeprefix(f"{name}.layer")
        found[f"{prefix}network.{inner}"] = prefix + own
    return found


class _Always:
    """Makes the same hardware for every chip."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware

    def __call__(self, _chip: int | str) -> Hardware:
        return self._hardware


_ALIVE: weakref.WeakSet[NetworkOnArrays] = weakref.WeakSet()


def _hold(optimizer: Optimizer, *_: Any) -> None:
    """Hold the networks that an optimiser has just moved."""
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for network in list(_ALIVE):
        if any(id(layer.layer.weight) in moved for layer in network._layers.values()):
            network.hold()


register_optimizer_step_post_hook(_hold)
