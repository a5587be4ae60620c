"""What all tests share: those that need ngspice are skipped, with the reason, where there is none."""

import pytest


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
