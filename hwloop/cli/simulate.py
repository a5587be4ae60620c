"""``hwloop simulate``: a conductance map on hardware, its accuracy and the error of each layer."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from .backends import Backend, BackendOption, DriverOption, make_hardware
from .common import JsonOption, TerminalProgress, emit_json, fail, output
from .sources import MapRecipeOption, MapsArgument, NetworkOption, network_of, recipe_of

if TYPE_CHECKING:
    from hwloop.hardware import Hardware

ERROR_IMAGES = 100


def simulate(
    maps: MapsArgument,
    backend: BackendOption = Backend("fast"),
    driver: DriverOption = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Write every exchange to this file; cut short, the same command goes on.", show_default=False
        ),
    ] = None,
    network: NetworkOption = None,
    recipe: MapRecipeOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the devices.", show_default=False)] = None,
    instances: Annotated[int, typer.Option(min=1, help="Device instances to program.")] = 1,
    images: Annotated[
        int | None,
        typer.Option(min=1, help="Test images to use; the recipe's if left out.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the network of a map on hardware: accuracy, and error of each layer."""
    from hwloop.evaluation import evaluate_instances
    from hwloop.hardware import RecordingHardware, Resumable
    from hwloop.line import load_images
    from hwloop.mapping import read_map
    from hwloop.networks import build_network
    from hwloop.observe import layer_errors
    from spice_netlists import SpiceError

    if backend.one_chip and (instances > 1 or seed is not None):
        raise typer.BadParameter(f"{backend} is one chip, which no seed draws", param_hint="--backend")
    if driver is not None and backend.kind != "bench":
        raise typer.BadParameter("only an instrument has a driver", param_hint="--driver")
    if record is not None and (instances > 1 or backend.kind == "recorded"):
        raise typer.BadParameter("a record is of one chip, and not of a record", param_hint="--record")
    conductance_map = read_map(maps)
    choice = recipe_of(conductance_map, maps, recipe)
    net = build_network(network_of(conductance_map, maps, network))
    dataset = load_images(choice, choice.evaluate.images if images is None else images)
    x, y = dataset.test_x, dataset.test_y
    made: list[Hardware] = []
    with TerminalProgress() as progress, ExitStack() as recording:

        def make(instance: int | str) -> Hardware:
            draws = choice.seed if seed is None else seed
            hardware = make_hardware(backend, choice, draws, instance, progress.update, driver)
            if record is not None and isinstance(hardware, Resumable):
                hardware = recording.enter_context(RecordingHardware(hardware, record))
            made.append(hardware)
            return hardware

        progress.begin("simulate")
        try:
            accuracies = evaluate_instances(
                net,
                conductance_map,
                make,
                x,
                y,
                instances=range(instances),
                batch=choice.evaluate.batch,
                goal=dataset.goal,
                progress=progress.update,
            )
        except SpiceError as error:
            fail(str(error))
        errors = layer_errors(net, conductance_map, made[-1], x[:ERROR_IMAGES])
        progress.end(f"{100 * statistics.fmean(accuracies):.2f} %")
    if as_json:
        emit_json(
            {
                "maps": str(maps),
                "hardware": made[-1].identity,
                "data": choice.data.name,
                "images": len(x),
                "accuracy": accuracies,
                "layer_errors": errors,
            }
        )
        return
    shown = ", ".join(f"{100 * value:.2f} %" for value in accuracies)
    output.print(f"accuracy on {len(x)} images of {choice.data.name}: {shown}", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("RMS error of a read, relative", justify="right")
    for name, rms in errors.items():
        table.add_row(escape(name), f"{rms:.2e}")
    output.print(table)
