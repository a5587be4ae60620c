"""Whether other simulators have the conductances of a map that was exported to them.

    python benchmarks/interchange_peers.py --crosssim ../cross-sim --aihwkit ../aihwkit

A map of a random layer is exported; CrossSim programs each tile's matrix into one of its cores, and aihwkit's
converter turns it into conductances. Both are compared with the target conductances of the map.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from device_models import load_card
from device_models.crossbar import Wires
from device_models.random import torch_stream
from hwloop.mapping import ConductanceMap, export_aihwkit, export_crosssim, map_layer


def example() -> ConductanceMap:
    """A map of one layer of 300×200 random codes in arrays of 64×64."""
    card = load_card("rram-neurram")
    draws = torch_stream(1, "peers")
    codes = torch.randint(-card.levels, card.levels + 1, (300, 200), generator=draws, dtype=torch.int8)
    layer = torch.nn.Linear(300, 200, bias=False, device="meta")
    _, (mapped,) = map_layer("fc", layer, codes, 1e-3, card, (64, 64), 1.0, False)
    return ConductanceMap("benchmarks:random", card, (64, 64), {"fc": mapped}, {})


def from_crosssim(folder: Path) -> np.ndarray:
    """Return the conductances in siemens, ``[tiles, polarity, rows, cols]``, that CrossSim programs."""
    from simulator import AnalogCore, CrossSimParameters

    parameters = CrossSimParameters.from_json(folder / "crosssim.json")
    # Conductances are compared, so neither noise nor wires may change what is read back.
    parameters.xbar.device.read_noise.enable = False
    parameters.xbar.array.parasitics.enable = False
    found = []
    with np.load(folder / "fc.npz") as arrays:
        for weights in arrays["weights"]:
            core = AnalogCore(weights.T, params=parameters).cores[0][0]
            pair = [core.core_pos._read_matrix(), core.core_neg._read_matrix()]
            found.append([np.asarray(cells).T / parameters.xbar.device.Rmin for cells in pair])
    return np.array(found)


def from_aihwkit(folder: Path) -> np.ndarray:
    """Return the conductances in siemens, ``[tiles, polarity, rows, cols]``, that aihwkit converts to."""
    from aihwkit.inference.converter.conductance import SinglePairConductanceConverter

    found = []
    with np.load(folder / "fc.npz") as arrays:
        for weights, g_max in zip(arrays["weights"], arrays["g_max_us"], strict=True):
            converter = SinglePairConductanceConverter(g_max=float(g_max), g_min=0.0)
            pair, _ = converter.convert_to_conductances(torch.from_numpy(weights))
            found.append([cells.numpy() * 1e-6 for cells in pair])
    return np.array(found)


def main() -> None:
    """Print one JSON object: the largest relative difference for each simulator that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crosssim", type=Path, help="checkout of CrossSim 3")
    parser.add_argument("--aihwkit", type=Path, help="folder in which aihwkit is installed")
    arguments = parser.parse_args()
    conductance_map = example()
    target = conductance_map.target("fc")[:, :, 0].numpy()
    wires = Wires(word_line=2.0, bit_line=2.0, driver=100.0, sense=100.0)
    results = {}
    with tempfile.TemporaryDirectory() as name:
        for peer, path in (("crosssim", arguments.crosssim), ("aihwkit", arguments.aihwkit)):
            if path is None:
                continue
            sys.path.insert(0, str(path.resolve()))
            folder = Path(name) / peer
            if peer == "crosssim":
                export_crosssim(conductance_map, folder, wires)
                found = from_crosssim(folder)
            else:
                export_aihwkit(conductance_map, folder)
                found = from_aihwkit(folder)
            results[peer] = {
                "tiles": len(found),
                "largest_difference_of_g_max": float(
                    np.abs(found - target).max() / conductance_map.card.g_max.value
                ),
                "cells_on_the_wrong_side": int(((found > 0) != (target > 0)).sum()),
            }
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
