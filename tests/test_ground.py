"""What the project stands on: versions that are pinned, scripts that run, no address of a registry."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_requirement_has_a_pin_that_meets_it() -> None:
    pinned = {canonicalize_name(name): version for name, version in pins().items()}
    extras = PROJECT["optional-dependencies"]
    installed = [text for name in ("dev", "bench", "cluster", "interchange") for text in extras[name]]
    for text in PROJECT["dependencies"] + installed:
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"]:
            continue  # its own extras
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


def test_pins_name_no_build_of_one_machine() -> None:
    assert all(re.fullmatch(r"\d+(\.\w+)*", version) for version in pins().values())


def test_no_registry_is_named() -> None:
    for name in ("Makefile", "constraints.txt", "pyproject.toml", "tools/setup.sh", ".ci/run", "README.md"):
        text = (ROOT / name).read_text("utf-8")
        assert not re.search(r"index-url|https?://\S*(pypi|pythonhosted|pytorch)", text), name


def test_scripts_are_executable_and_stop_at_the_first_error() -> None:
    for name in (".ci/run", "tools/setup.sh"):
        path = ROOT / name
        assert os.access(path, os.X_OK), name
        assert "set -euo pipefail" in path.read_text("utf-8")


def test_the_licence_is_the_one_that_is_declared() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "PySpice" in readme
    assert "GPL" in readme


def test_the_readme_begins_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.index("make run") < text.index("make test") < text.index("## ")
