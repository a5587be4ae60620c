"""The ``hwloop`` command."""

import os

# Before torch reads it: threads that spin while they wait cost little less than threads that sleep on idle
# cores, and many times as much on cores that have other work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from .app import main as main
