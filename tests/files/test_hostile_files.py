"""Whatever a file holds, it is read as what it was or refused in one line: nothing crashes or hangs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .kinds import Kind, all_kinds

NAMES = (
    "conductance map",
    "exported tables",
    "device card",
    "recipe",
    "weights",
    "network (ONNX)",
    "recording",
    "measurements (HDF5)",
    "measurements (CSV)",
)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    return all_kinds(tmp_path_factory.mktemp("kinds"))


def test_every_kind_is_tried(kinds: dict[str, Kind]) -> None:
    assert tuple(kinds) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_read(kinds: dict[str, Kind], tmp_path: Path, name: str) -> None:
    for data in kinds[name].examples:
        (tmp_path / kinds[name].file).write_bytes(data)
        assert kinds[name].read(tmp_path / kinds[name].file) is not None


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_a_mutated_file_is_read_as_it_was_or_refused_in_one_line(
    kinds: dict[str, Kind], tmp_path: Path, name: str, seed: int
) -> None:
    kind = kinds[name]
    example, data, must_stay = kind.mutated(seed)
    path = tmp_path / kind.file
    path.write_bytes(data)
    found, refusal = _read(kind, path)
    assert refusal.isprintable()
    assert len(refusal) < 2000
    if must_stay and not refusal:
        path.write_bytes(example)
        assert found == kind.read(path)


def _read(kind: Kind, path: Path) -> tuple[object, str]:
    """Return what a file holds, or why it is refused; any other error fails the test."""
    try:
        return kind.read(path), ""
    except (ValueError, OSError) as error:
        return None, str(error) or "nothing"
