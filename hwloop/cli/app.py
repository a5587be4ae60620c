"""The command tree: ``hwloop COMMAND``."""

from __future__ import annotations

from typing import Annotated

import typer

from .adc import adc
from .bench import bench_app
from .calibrate import calibrate_command
from .common import new_app
from .compare import compare
from .devices import devices_app
from .doctor import doctor
from .init import init
from .ladder import ladder
from .maps import maps_app
from .run import map_command, prune, report, retrain, run
from .simulate import simulate
from .sweep import sweep
from .verify import verify_command

app = new_app(help="Hardware-in-the-loop evaluation of neural networks on memristor crossbars.")


@app.callback()
def _options(
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where in the code an error arose.")
    ] = False,
) -> None:
    """Take the options of all commands; OneLineErrors looks at them."""


app.command()(init)
app.command()(run)
app.command()(prune)
app.command("map")(map_command)
app.command()(simulate)
app.command("verify")(verify_command)
app.command()(adc)
app.command()(retrain)
app.command()(report)
app.command("calibrate")(calibrate_command)
app.command()(sweep)
app.command()(ladder)
app.command()(compare)
app.add_typer(maps_app, name="maps")
app.add_typer(devices_app, name="devices")
app.add_typer(bench_app, name="bench")
app.command()(doctor)


def main() -> None:
    """Run the ``hwloop`` command; exits 0 done, 1 failed with one line, 2 wrong usage."""
    app(prog_name="hwloop")
