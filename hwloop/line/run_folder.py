"""The folder of a run: which recipe it belongs to, which stations are done, and what each one found.

DIR/run.json                       recipe and code that everything in the folder was made with
DIR/stations/NAME/result.json      figures of a station; written last, so it marks the station as done
DIR/stations/NAME/...              what the station hands on, and checkpoints while it runs
DIR/maps.h5, summary.json, report.html
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import calibration
import device_models
import hwloop
import spice_netlists
from device_models.files import write_atomically
from device_models.folders import alone_in, discard, is_vacant
from hwloop.datasets import fingerprint
from hwloop.factories import module_file
from hwloop.networks import onnx_file
from hwloop.recipe import Recipe

FORMAT = "hwloop-run-1"

# Parts of the code that show results and do not make them.
_SHOW = ("cli", "report")


class RunError(ValueError):
    """A run folder that cannot be used; the message names the folder and the fix."""


class RunFolder:
    """One run's folder, bound to one recipe, one code and one set of input files."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path = path
        self.recipe = recipe

    @classmethod
    def create(cls, path: Path, recipe: Recipe, fresh: bool = False) -> RunFolder:
        """Make the folder, or go on in it if it belongs to this recipe.

        Args:
            path: the folder.
            recipe: every choice of the run.
            fresh: throw away what an earlier run left in the folder.

        Raises:
            RunError: if the folder holds another run, or other files.
            OSError: if it cannot be written.
        """
        identity = _identity(recipe)
        if (path / "run.json").is_file():
            if fresh:
                _clear(path)
            else:
                _compare(path, _read_run(path), identity)
        elif path.is_dir() and not is_vacant(path):
            raise RunError(f"{path}: not empty, and not the folder of a run; use another folder")
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / "run.json", _json({**identity, "versions": _versions()}))
        return cls(path, recipe)

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """Open a folder that a run has been started in, to look at it.

        Raises:
            RunError: if there is none.
        """
        try:
            return cls(path, Recipe.model_validate(_read_run(path)["recipe"]))
        except (KeyError, ValidationError) as error:
            raise RunError(f"{path / 'run.json'}: its recipe is damaged ({error})") from error

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the programs that the run was made with."""
        return dict(_read_run(self.path).get("versions", {}))

    def station(self, name: str) -> Path:
        """Folder of one station; made if there is none."""
        folder = self.path / "stations" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def has_begun(self, name: str) -> bool:
        """Whether a station has been started."""
        return (self.path / "stations" / name).is_dir()

    def is_done(self, name: str) -> bool:
        """Whether a station has finished."""
        return (self.path / "stations" / name / "result.json").is_file()

    def result(self, name: str) -> dict[str, Any]:
        """What a finished station found.

        Raises:
            RunError: if it has not finished, or its file is damaged.
        """
        path = self.path / "stations" / name / "result.json"
        try:
            result = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path}: station {name!r} has not run yet") from None
        except ValueError as error:
            raise RunError(f"{path}: damaged ({error}); delete it to run the station again") from error
        if not isinstance(result, dict):
            raise RunError(f"{path}: damaged (no JSON object); delete it to run the station again")
        return result

    def forget(self, names: Iterable[str]) -> None:
        """Throw away what stations left, the last first: if this is cut off, those before are whole."""
        with alone_in(self.path):
            for name in reversed(list(names)):
                discard(self.path / "stations" / name)

    def finish(self, name: str, result: Mapping[str, Any]) -> None:
        """Write what a station found, which marks it as done."""
        write_atomically(self.station(name) / "result.json", _json(result))


def _identity(recipe: Recipe) -> dict[str, Any]:
    """Everything that results depend on: the recipe, the code, and the files that the recipe names."""
    files = [name for name in (recipe.network.weights, recipe.network.masks) if name]
    files += [recipe.hardware.card] if recipe.hardware.card.endswith(".toml") else []
    network = onnx_file(recipe.network.factory)
    files += [network] if network else []
    digests = {name: _digest(Path(name)) for name in files} | fingerprint(recipe.data.name)
    module = recipe.network.factory.partition(":")[0]
    if not network and (origin := module_file(module)) is not None:
        digests[module] = _digest(origin)
    return {
        "format": FORMAT,
        "recipe": recipe.model_dump(mode="json"),
        "code": code_digest(),
        "files": digests,
    }


def _versions() -> dict[str, str]:
    packages = ("hwloop", "torch", "numpy", "numba", "scipy", "h5py", "PySpice")
    installed = {package: _version(package) for package in packages}
    return {"Python": platform.python_version(), **installed, "machine": platform.machine()}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def code_digest() -> str:
    """SHA-256 of the sources that make results."""
    total = hashlib.sha256()
    for package in (calibration, device_models, hwloop, spice_netlists):
        root = Path(next(iter(package.__path__)))
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root)
            if path.suffix in (".py", ".toml") and relative.parts[0] not in _SHOW:
                total.update(f"{root.name}/{relative.as_posix()}\n".encode())
                total.update(path.read_bytes())
    return total.hexdigest()


def _compare(path: Path, found: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise RunError if the folder's run is not the one that is asked for."""
    way_out = "use another folder, or --fresh to throw that run away"
    for section, value in now["recipe"].items():
        before = found.get("recipe", {}).get(section)
        if before == value:
            continue
        field = section
        if isinstance(value, dict) and isinstance(before, dict):
            field += "." + next(name for name in {**value, **before} if value.get(name) != before.get(name))
        raise RunError(f"{path}: holds a run with another {field}; {way_out}")
    for name, digest in now["files"].items():
        if found.get("files", {}).get(name) != digest:
            raise RunError(f"{path}: holds a run with another content of {name}; {way_out}")
    if found.get("code") != now["code"]:
        raise RunError(f"{path}: holds a run of another version of hwloop; {way_out}")


def _read_run(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / "run.json").read_text("utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: not the folder of a run (it has no run.json)") from None
    except ValueError as error:
        raise RunError(f"{path / 'run.json'}: damaged ({error})") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise RunError(f"{path / 'run.json'}: not written by this version of hwloop")
    return found


def _clear(path: Path) -> None:
    """Remove what a run writes, and nothing else."""
    with alone_in(path):
        discard(path / "stations")
        for name in ("maps.h5", "summary.json", "report.html"):
            (path / name).unlink(missing_ok=True)


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()
