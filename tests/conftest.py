"""What all tests share: one thread; tests that need ngspice are skipped, with the reason, without it."""

import os

import pytest

# Before any library reads them, and for the commands that tests start: sums of several threads differ in
# their last bits, and threads that wait for each other on busy cores take many times as long. Compiled loops
# give torch as many threads as numba has, when the first of them is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@pytest.fixture(scope="session")
def ngspice_missing():
    """Why ngspice cannot run here; empty if it can."""
    from spice_netlists import find_ngspice

    install = find_ngspice()
    return "" if install and install.library else "no ngspice shared library (apt-get install libngspice0)"


@pytest.fixture(autouse=True)
def _need_ngspice(request):
    if request.node.get_closest_marker("ngspice") and (why := request.getfixturevalue("ngspice_missing")):
        pytest.skip(why)
