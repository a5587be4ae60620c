"""``hwloop init``: a recipe that fits a network and its images, to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import JsonOption, emit_json, fail, output

if TYPE_CHECKING:
    from hwloop.line import Inputs

_TEXT = """\
# {network_text} on {data_text}: {images}, {classes} classes,
# {train} to train on, {test} to test with. Run it with: hwloop run {name} --out DIR
# What is not here has its default; the reference of recipes says what every field means.
seed = 1

[network]
factory = {network_text}
# weights = "FILE.safetensors"  # taken as they are; without it the network is trained
# masks = "FILE.safetensors"    # which of these weights are pruned

[data]
name = {data_text}
validation = {validation}  # training images held back for every choice on the way
# shift = 2  # training images are moved by up to so many pixels each way

[train]
epochs = {epochs}
learning_rate = 2e-3

# Pruning: what a layer keeps, or a target from which it is searched. Without either, nothing is pruned.
[prune]
method = "admm"
# target = "tiles=4x"  # or weights=10x, adc_bits=5, accuracy=-0.5

{layers}

[hardware]
card = {card}      # hwloop devices list
rows = {rows}
cols = {cols}
# wire = 2.0                   # ohm of a segment; without it the figure of the node and cell
# adc_bits = 6                 # without it, as many as lose nothing

[spice]
tiles = 4  # that ngspice checks

[retrain]
strategy = "hardware"
epochs = 2

[evaluate]
instances = 10  # chips before and after
"""


def init(
    network: Annotated[
        str,
        typer.Option(
            "--network", help="Network, as package.module:factory or FILE.onnx.", show_default=False
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="Images: mnist, an NPZ file, a folder, or package.module:factory.",
            show_default=True,
        ),
    ] = "mnist",
    out: Annotated[Path, typer.Option("--out", help="Recipe to write.")] = Path("recipe.toml"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Write over a recipe that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented recipe that fits a network and its images, for run and all other commands."""
    from device_models.files import write_atomically
    from hwloop.datasets import load_dataset
    from hwloop.line import load_inputs
    from hwloop.recipe import neutral_recipe, with_values

    if out.exists() and not fresh:
        fail(f"{out}: is there already; use --out, or --fresh to write over it")
    images = len(load_dataset(data, 0, 1).train_x)
    validation = min(5000, images // 10)
    recipe = with_values(neutral_recipe(network), "data", name=data, validation=validation)
    inputs = load_inputs(recipe)
    text = _fill(inputs, out.name)
    write_atomically(out, text.encode())
    if as_json:
        emit_json({"recipe": str(out)})
    else:
        output.print(f"recipe: {out}; next: hwloop run {out} --out DIR", markup=False, soft_wrap=True)


def _fill(inputs: Inputs, name: str) -> str:
    """Return the text of a recipe."""
    from hwloop.networks import crossbar_layers, to_matrix

    recipe, dataset = inputs.recipe, inputs.dataset
    layers = []
    for layer, module in crossbar_layers(inputs.network()).items():
        rows, cols = to_matrix(module).shape
        counts = f"rows = {_half(rows)}, filters = {_half(cols)}, weights = N, ..."
        layers += [
            f"# [prune.keep.{_toml(layer)}]  # {rows} rows, {cols} columns",
            f"# share = 0.5  # of its weights; or {counts}",
        ]
    return _TEXT.format(
        name=name,
        network_text=_toml(recipe.network.factory),
        data_text=_toml(recipe.data.name),
        images="×".join(map(str, dataset.test_x.shape[1:])) + " inputs",
        classes=dataset.classes,
        train=len(dataset.train_x),
        test=len(dataset.test_x),
        validation=recipe.data.validation,
        epochs=recipe.train.epochs,
        layers="\n".join(layers),
        card=_toml(recipe.hardware.card),
        rows=recipe.hardware.rows,
        cols=recipe.hardware.cols,
    )


def _half(count: int) -> int:
    return -(-count // 2)


def _toml(text: str) -> str:
    """Return a text as TOML quotes it: JSON's escapes are TOML's."""
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
