"""The command tree: ``hwloop COMMAND``."""

from __future__ import annotations

from .common import new_app
from .devices import devices_app
from .doctor import doctor

app = new_app(help="Hardware-in-the-loop evaluation of neural networks on memristor crossbars.")
app.command()(doctor)
app.add_typer(devices_app, name="devices")


def main() -> None:
    """Run the ``hwloop`` command; exits 0 done, 1 failed with one line, 2 wrong usage."""
    app(prog_name="hwloop")
