"""Maps and device cards for other simulators: CrossSim, aihwkit and NeuroSim.

Each gets what its own files can say. Matrices go tile by tile, as signed level codes over the card's levels,
so that 1 is ``g_max``; a simulator that maps them to differential pairs has the map's target conductances.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from device_models.card import DeviceCard
from device_models.memristor import program_cells
from device_models.random import stream

from .chip_wires import ChipWires
from .conductance_map import ConductanceMap, LayerMap
from .encoding import decode
from .export import file_names, write_together

if TYPE_CHECKING:
    from device_models.crossbar import Wires

CELLS = 20_000
"""Cells that are drawn for the mean and the spread of each level."""


def export_crosssim(conductance_map: ConductanceMap, folder: str | Path, wires: Wires) -> list[Path]:
    """Write ``crosssim.json``, parameters that CrossSim 3 loads, and the matrices of each layer.

    Arrays are balanced and one-sided, without quantization of its own, since matrices are on levels already.
    Read noise is proportional to the conductance; programming errors that depend on the level are not among
    what its parameters can say, and are left out.

    Args:
        conductance_map: in differential encoding and one slice.
        folder: made if it is not there.
        wires: resistances of the lines of every array, in ohm.

    Returns:
        The files: ``crosssim.json`` and ``LAYER.npz``, with ``weights`` float32 ``[tiles, rows, cols]`` (1 is
        ``g_max``), ``row_index`` and ``col_index``. CrossSim takes the transpose of such a matrix.

    Raises:
        FileExistsError: if one of them is there already; nothing is written then.
        OSError: if the folder cannot be written; nothing is left behind then.
        ValueError: if the map has another encoding, layers have wires of their own, or names give the same
            file.
    """
    if isinstance(wires, ChipWires):
        raise ValueError(f"CrossSim has one kind of wires; layers with their own: {', '.join(wires.layers)}")  # noqa: TRY004
    card, (rows, cols) = conductance_map.card, conductance_map.array_shape
    g_max, g_idle = card.g_max.value, card.g_idle
    noise = card.read_noise.value
    parameters = {
        "core": {
            "style": "BALANCED",
            "rows_max": cols,
            "cols_max": rows,
            "weight_bits": 0,
            "balanced": {"style": "ONE_SIDED", "interleaved_posneg": False, "subtract_current_in_xbar": True},
            "mapping": {"weights": {"clipping": True, "min": -1.0, "max": 1.0, "percentile": None}},
        },
        "xbar": {
            "device": {
                "Rmin": 1 / (g_max + g_idle),
                "Rmax": 1 / g_idle if g_idle else 1e12,
                "infinite_on_off_ratio": g_idle == 0,
                "cell_bits": 0,
                "Vread": card.read_voltage.value,
                "read_noise": {
                    "enable": noise > 0,
                    "model": "NormalProportionalDevice" if noise else "IdealDevice",
                    "magnitude": noise,
                },
            },
            "array": {
                "parasitics": {
                    "enable": not wires.ideal,
                    "Rp_row": float(wires.word_line),
                    "Rp_col": float(wires.bit_line),
                    "Rp_row_terminal": float(wires.driver),
                    "Rp_col_terminal": float(wires.sense),
                }
            },
        },
    }
    return _export(conductance_map, Path(folder), "crosssim.json", parameters)


def export_aihwkit(conductance_map: ConductanceMap, folder: str | Path) -> list[Path]:
    """Write ``aihwkit.json``, figures for an inference configuration of aihwkit, and each layer's matrices.

    aihwkit's configurations are Python objects, so the file names the classes and their arguments. Its
    converter gives the largest weight of a tile ``g_max``, so each tile has a ``g_max`` of its own there, in
    microsiemens, as aihwkit counts.

    Args, returns and raises as :func:`export_crosssim`; the layers' files also hold ``g_max_us [tiles]``.
    """
    card, (rows, cols) = conductance_map.card, conductance_map.array_shape
    if card.g_min is not None:
        raise ValueError(
            f"card {card.name}: aihwkit has no cells that conduct next to ones that do not (g_min)"
        )
    parameters = {
        "InferenceRPUConfig": {
            "mapping": {"max_input_size": rows, "max_output_size": cols, "weight_scaling_omega": 0.0},
            "forward": {"out_noise": 0.0, "w_noise": card.read_noise.value, "inp_res": 0.0, "out_res": 0.0},
        },
        "SinglePairConductanceConverter": {"g_max": card.g_max.value * 1e6, "g_min": 0.0},
    }
    return _export(conductance_map, Path(folder), "aihwkit.json", parameters)


def export_neurosim(conductance_map: ConductanceMap, folder: str | Path, seed: int = 0) -> list[Path]:
    """Write ``mem_states.csv``, NeuroSim V1.5's table of mean and deviation of every memory state.

    One line for each level from 0 on, conductances in siemens: ``mean,deviation``. Both are of cells drawn
    from the card, as programming leaves them. ``neurosim.json`` has the arguments that go with it.

    Args:
        conductance_map: of its card and arrays.
        folder: made if it is not there.
        seed: of the cells.

    Returns and raises as :func:`export_crosssim`; any encoding will do.
    """
    folder, card = Path(folder), conductance_map.card
    states = level_states(card, seed)
    arguments = {
        "bitcell": card.levels.bit_length(),
        "mem_type": "resistive",
        "mem_states_file": "mem_states.csv",
        "on_state": card.g_max.value,
        "off_state": card.g_idle,
        "read_noise": card.read_noise.value,
        "sub_array": list(conductance_map.array_shape),
    }
    text = "".join(f"{mean!r},{deviation!r}\n" for mean, deviation in states)
    writers: dict[Path, Callable[[Path], None]] = {
        folder / "mem_states.csv": lambda path: _text(path, text),
        folder / "neurosim.json": lambda path: _text(path, json.dumps(arguments, indent=1) + "\n"),
    }
    return write_together(folder, writers)


def level_states(card: DeviceCard, seed: int) -> list[tuple[float, float]]:
    """Return mean and standard deviation in siemens of each level, as programming leaves its cells."""
    states = []
    for level in range(card.levels + 1):
        target = np.full(CELLS, level * card.g_step + card.g_idle)
        if not target[0]:
            states.append((0.0, 0.0))
            continue

        def draws(effect: str, level: int = level) -> np.random.Generator:
            return stream(seed, "states", level, effect)

        cells = program_cells(target, card, draws)
        states.append((float(cells.mean()), float(cells.std())))
    return states


def _export(
    conductance_map: ConductanceMap, folder: Path, name: str, parameters: dict[str, Any]
) -> list[Path]:
    """Write parameters as JSON, and the matrices of each layer."""
    for layer in conductance_map.layers.values():
        if layer.encoding != "differential" or layer.slices != 1:
            raise ValueError(
                f"layer {layer.name}: {layer.encoding} in {layer.slices} slices; other simulators get maps "
                "in differential encoding and one slice"
            )
    levels = conductance_map.card.levels

    def arrays(layer: LayerMap) -> Callable[[Path], None]:
        return lambda path: _matrices(path, layer, levels, conductance_map.g_step)

    names = file_names(conductance_map)
    writers = {folder / f"{names[key]}.npz": arrays(layer) for key, layer in conductance_map.layers.items()}
    text = json.dumps(parameters, indent=1, allow_nan=False) + "\n"
    return write_together(folder, writers | {folder / name: lambda path: _text(path, text)})


def _matrices(path: Path, layer: LayerMap, levels: int, g_step: float) -> None:
    codes = decode(layer, levels)
    largest = codes.abs().amax(dim=(1, 2)).to(torch.float64) if layer.tiles else torch.zeros(0)
    with path.open("xb") as file:
        np.savez_compressed(
            file,
            weights=(codes.to(torch.float32) / levels).numpy(),
            g_max_us=(largest * g_step * 1e6).numpy(),
            row_index=layer.row_index.numpy(force=True),
            col_index=layer.col_index.numpy(force=True),
        )


def _text(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
