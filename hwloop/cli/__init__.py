"""The ``hwloop`` command."""

from .app import main as main
