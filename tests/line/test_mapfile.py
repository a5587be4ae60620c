"""Map files: what is written is read, and whatever else is in a file is refused in one line."""

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest
import torch

from device_models import DeviceCard
from hwloop.mapping import MapFileError, read_map, validate_map, write_map
from hwloop.mapping.hdf5_reading import SafeGroup
from hwloop.mapping.hdf5_writing import put_attributes
from hwloop.mapping.map_schema import fingerprint

from .maps import map_of, random_layer


def programmed(layer, seed=0):
    """The layer with conductances that miss their target by a few percent."""
    factor = torch.rand(layer.codes.shape, generator=torch.Generator().manual_seed(seed)) * 0.1 + 0.95
    return dataclasses.replace(layer, actual=(layer.codes * factor * 1e-6).float())


def example():
    """A map with a programmed layer, one that is not, one without tiles, and all types of parameters."""
    grouped = dataclasses.replace(
        random_layer("features.conv", matrix_shape=(12, 6), seed=2),
        kind="conv2d",
        weight_shape=(6, 3, 2, 2),
    )
    layers = (programmed(random_layer("fc")), grouped, random_layer("gone", density=0.0))
    gone = layers[2]
    empty = {name: getattr(gone, name)[:0] for name in ("codes", "row_index", "col_index", "adc_bits")}
    digital = {
        "fc.bias": torch.linspace(-1, 1, 12),
        "bn.running_var": torch.rand(3, dtype=torch.float64),
        "bn.num_batches_tracked": torch.tensor(7),
        "table": torch.arange(600_000, dtype=torch.int32).reshape(1000, 600),
        "half": torch.tensor([[0.5], [2.0]], dtype=torch.float16),
        "flags": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 4),
    }
    conductance_map = map_of(*layers[:2], dataclasses.replace(gone, **empty), card="rram-neurram")
    attributes = {"seed": 5, "recipe": {"prune": [1, 2.5, None, "µ"]}}
    return dataclasses.replace(conductance_map, digital=digital, attributes=attributes)


def assert_equal(first, second):
    for field in ("network", "card", "array_shape", "attributes"):
        assert getattr(first, field) == getattr(second, field), field
    assert list(first.layers) == list(second.layers)
    assert first.digital.keys() == second.digital.keys()
    pairs = [(first.digital[name], second.digital[name], name) for name in first.digital]
    for name in first.layers:
        for field in dataclasses.fields(first.layers[name]):
            values = (getattr(of.layers[name], field.name) for of in (first, second))
            pairs.append((*values, f"{name}.{field.name}"))
    for ours, theirs, name in pairs:
        if isinstance(ours, torch.Tensor):
            assert ours.dtype == theirs.dtype, name
            assert torch.equal(ours, theirs), name
        else:
            assert ours == theirs, name


@pytest.fixture(scope="module")
def original():
    return example()


@pytest.fixture
def path(tmp_path, original):
    path = tmp_path / "maps.h5"
    write_map(original, path)
    return path


def test_a_map_reads_back_as_it_was(path, original):
    assert_equal(read_map(path), original)
    assert validate_map(path) == []


def test_one_map_gives_one_file(path, original):
    again = path.with_name("again.h5")
    write_map(original, again)
    assert again.read_bytes() == path.read_bytes()


def test_any_hdf5_reader_sees_the_same_and_is_told_what_it_is(path, original):
    described = []

    def look(name, item):
        described.append(name)
        assert len(item.attrs["description"]) > 10, name
        for attribute in item.attrs:
            assert item.attrs.get_id(attribute).dtype.kind in "Sif", f"{name}: no text of variable length"
        if isinstance(item, h5py.Dataset):
            stored = item[()]
            data = stored if isinstance(stored, bytes) else np.ascontiguousarray(stored).tobytes()
            assert item.attrs["sha256"].decode() == hashlib.sha256(data).hexdigest()
            assert item.dtype.kind == "S" or item.attrs["unit"] in (b"1", b"S")

    with h5py.File(path) as file:
        file.visititems(look)
        layer = original.layers["fc"]
        assert np.array_equal(file["layers/fc/actual"], layer.actual)
        assert np.array_equal(file["layers/fc/mask"], layer.mask)
        assert np.allclose(file["layers/fc/target"], original.target("fc"), rtol=1e-7, atol=0)
        assert file["layers/fc/target"].attrs["unit"] == b"S"
        assert file["layers/fc/target"].chunks == (1, 2, 1, 8, 8)
        assert DeviceCard.model_validate(json.loads(file["card"][()])) == original.card
    assert {"layers/fc/codes", "layers/features.conv/row_index", "digital/flags", "card"} <= set(described)


def test_reading_takes_no_more_memory_than_allowed(path):
    with pytest.raises(MapFileError, match="raise max_bytes"):
        read_map(path, max_bytes=10_000)
    assert "raise max_bytes" in validate_map(path, max_bytes=100)[0]


# What must not be written.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": torch.full((6, 2, 1, 8, 8), 1, dtype=torch.uint8)}, "both polarities conduct"),
        ({"codes": torch.zeros(6, 2, 1, 8, 8)}, "codes is float32"),
        ({"adc_bits": torch.zeros(6, dtype=torch.uint8)}, "adc_bits: tile 0: 0 bits"),
        ({"weight_per_siemens": float("nan")}, "weight_per_siemens is nan"),
        ({"weight_shape": (12, 19)}, "row_index: tile"),
        ({"row_index": torch.zeros(6, 8, dtype=torch.int32)}, "row_index: tile 0: 0 comes twice"),
        ({"kind": "lstm"}, "neither linear nor conv2d"),
    ],
)
def test_an_inconsistent_map_is_not_written(tmp_path, change, message):
    layer = random_layer("fc")
    assert layer.tiles == 6
    conductance_map = map_of(dataclasses.replace(layer, **change))
    with pytest.raises(MapFileError, match=f"maps.h5: layers/fc: .*{message}"):
        write_map(conductance_map, tmp_path / "maps.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x\n", "\x1b[31m", "n" * 201])
def test_names_that_are_paths_or_more_are_not_written(tmp_path, name):
    with pytest.raises(MapFileError, match="is not allowed") as failure:
        write_map(map_of(random_layer(name)), tmp_path / "maps.h5")
    assert str(failure.value).isprintable()


def test_what_cannot_be_stored_is_named(tmp_path, original):
    for value, message in [
        (torch.tensor([1.0, torch.nan]), "not finite"),
        (torch.zeros(2, 2) + 0j, "complex64"),
    ]:
        bad = dataclasses.replace(original, digital={"fc.bias": value})
        with pytest.raises(MapFileError, match=f"digital/fc.bias: .*{message}"):
            write_map(bad, tmp_path / "maps.h5")
    with pytest.raises(MapFileError, match=r"maps.h5: cannot be written .*JSON"):
        write_map(dataclasses.replace(original, attributes={"x": object()}), tmp_path / "maps.h5")
    assert list(tmp_path.iterdir()) == []


# Writing is all or nothing.


def test_a_failed_write_leaves_the_old_file(path, original, monkeypatch):
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MapFileError, match="No space left on device"):
        write_map(dataclasses.replace(original, network="tests:other"), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


FULL_DISK = """
import resource, sys
from hwloop.mapping import MapFileError, read_map, write_map
conductance_map = read_map(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    write_map(conductance_map, sys.argv[2])
except MapFileError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_full_disk_is_one_line_and_leaves_nothing(path, share):
    target = path.with_name("new.h5")
    limit = str(int(path.stat().st_size * share))
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path, target, limit], capture_output=True, text=True, check=False
    )
    # A failing write must not reach the HDF5 library, which would crash on the way out.
    assert (done.returncode, done.stderr) == (1, f"{target}: cannot be written (File too large)\n")
    assert list(path.parent.iterdir()) == [path]


def test_folders_that_are_not_there_are_named(tmp_path, original):
    (tmp_path / "file").touch()
    for place, reason in [("none/maps.h5", "No such file"), ("file/maps.h5", "Not a directory")]:
        with pytest.raises(MapFileError, match=f"{place}: cannot be written .{reason}"):
            write_map(original, tmp_path / place)
    with pytest.raises(MapFileError, match="Is a directory"):
        write_map(original, tmp_path)


# Files that are not maps.


def test_what_is_not_a_map_file_is_said(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("hello, this is not HDF5")
    (tmp_path / "empty").touch()
    (tmp_path / "short").write_bytes(path.read_bytes()[:-100])
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file["x"] = 1
    with h5py.File(tmp_path / "other.h5", "w", libver="latest") as file:
        file["x"] = 1
    for name, message in {
        "none": "no such file",
        "": "a folder, not a file",
        "pipe": "not a regular file",
        "text": "not an HDF5 file",
        "empty": "not an HDF5 file",
        "short": "damaged (truncated file",
        "old.h5": "superblock version 0",
        "other.h5": "attribute format: missing",
    }.items():
        with pytest.raises(MapFileError) as failure:
            read_map(tmp_path / name)
        assert message in str(failure.value)
        assert str(failure.value).startswith(str(tmp_path / name))
        assert validate_map(tmp_path / name) == [str(failure.value)]


# Files made to deceive: everything sealed again after the change, so that no checksum gives it away.


def seal(file):
    """Give every data set the checksum of what it holds, and the file its fingerprint."""

    def put(_, item):
        if isinstance(item, h5py.Dataset):
            stored = item[()]
            data = stored if isinstance(stored, bytes) else np.ascontiguousarray(stored).tobytes()
            put_attributes(item, sha256=hashlib.sha256(data).hexdigest())

    file.visititems(put)
    put_attributes(file, sha256=fingerprint(SafeGroup(file, "", 0)))


def replace(file, name, **arguments):
    """Put another data set in the place of one, with its attributes."""
    attributes = {key: value.decode() for key, value in file[name].attrs.items()}
    del file[name]
    put_attributes(file.create_dataset(name, **arguments), **attributes)


def set_cell(name, index, value):
    def change(file):
        file[f"layers/fc/{name}"][index] = value

    return change


def set_attribute(name, at="layers/fc", **values):
    return lambda file: put_attributes(file[at], **{name: values["to"]})


def both_polarities(file):
    file["layers/fc/codes"][0, :, 0, 0, 0] = 1
    file["layers/fc/target"][0, :, 0, 0, 0] = np.float32(40e-6 / 15)
    file["layers/fc/mask"][0, 0, 0] = 1


def change_card(file):
    card = json.loads(file["card"][()])
    card["g_max"]["value"] = 30e-6
    text = json.dumps(card).encode()
    replace(file, "card", data=np.array(text, dtype=h5py.string_dtype("utf-8", len(text))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_cell("codes", (0, 0, 0, 0, 0), 16), "codes: tile 0: level code 16"),
        (both_polarities, "codes: tile 0: both polarities conduct at word line 0, bit line 0"),
        (set_cell("target", (2, 0, 0, 1, 1), 3e-6), "target: tile 2: is not level code times g_step"),
        (set_cell("mask", (1, 7, 7), 1), "mask: tile 1: is not 1 exactly where"),
        (set_cell("actual", (5, 1, 0, 3, 3), np.nan), "actual: tile 5: conductance nan S"),
        (set_cell("actual", (5, 1, 0, 3, 3), -1e-6), "actual: tile 5: conductance -"),
        (set_cell("row_index", (0, 0), 20), "row_index: tile 0: line 0 is 20, of 20"),
        (set_cell("row_index", (0, 0), -2), "row_index: tile 0: line 0 is -2"),
        (set_cell("row_index", (0, slice(None)), -1), "codes: tile 0: cell on an unused line"),
        (set_cell("col_index", (3, slice(None)), 4), "col_index: tile 3: 4 comes twice"),
        (set_cell("adc_bits", 4, 0), "adc_bits: tile 4: 0 bits"),
        (set_cell("adc_bits", 4, 200), "adc_bits: tile 4: 200 bits"),
        (set_attribute("groups", to=0), "0 groups do not fit"),
        (set_attribute("weight_shape", to=(12, -20)), "weight_shape [12, -20]"),
        (set_attribute("weight_shape", to=(2**31, 2**31)), "is too large"),
        (set_attribute("weight_per_siemens", to=float("inf")), "weight_per_siemens is inf"),
        (set_attribute("kind", to="<script>"), "kind '<script>' is neither"),
        (set_attribute("position", to=1), "positions of the layers"),
        (set_attribute("unit", at="layers/fc/target", to="uS"), "layers/fc/target: unit is 'uS'"),
        (set_attribute("version", at="/", to=3), "format version 3"),
        (set_attribute("format", at="/", to="\x1b[2J"), "format is '\\x1b[2J'"),
        (set_attribute("network", at="/", to="a:b\x1b[2J"), "network must be printable"),
        (set_attribute("rows", at="/", to=10**9), "arrays of 1000000000x8"),
        (change_card, "card: its level step"),
        (lambda file: file["layers"].create_group("a b"), "name 'a b' is not allowed"),
        (lambda file: file["layers/fc"].create_group("x"), "x is no data set of such a layer"),
    ],
)
def test_values_that_no_map_has_are_refused(path, change, message):
    with h5py.File(path, "r+") as file:
        change(file)
        # Where not even the fingerprint can be taken, reading must say so all the same.
        with contextlib.suppress(MapFileError):
            seal(file)
    with pytest.raises(MapFileError) as failure:
        read_map(path)
    assert message in str(failure.value)
    assert str(failure.value).isprintable()
    assert validate_map(path) == [str(failure.value)]


STORAGE = {"shuffle": True, "compression": 4}


def soft_link(file):
    del file["layers/fc/codes"]
    file["layers/fc/codes"] = h5py.SoftLink("/layers/fc/target")


def external_link(file):
    del file["layers/fc"]
    file["layers/fc"] = h5py.ExternalLink("/etc/hostname", "/layers/fc")


def external_storage(file):
    replace(
        file, "digital/fc.bias", shape=(12,), dtype="<f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    )


def virtual_data(file):
    attributes = {key: value.decode() for key, value in file["digital/fc.bias"].attrs.items()}
    del file["digital/fc.bias"]
    # Of unlimited length, so that its very shape depends on the other file, which is one that blocks.
    pipe = f"{file.filename}.pipe"
    os.mkfifo(pipe)
    layout = h5py.VirtualLayout((12,), "<f4", maxshape=(None,))
    source = h5py.VirtualSource(pipe, "x", (12,), "<f4", maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    put_attributes(file.create_virtual_dataset("digital/fc.bias", layout), **attributes)


def never_stored(file):
    shape = (1 << 24, 600)
    replace(file, "digital/table", shape=shape, dtype="<i4", chunks=(1, 600), **STORAGE)


def bomb(file):
    chunk = zlib.compress(bytes(100_000))
    file["layers/fc/codes"].id.write_direct_chunk((0, 0, 0, 0, 0), chunk)


def huge_chunk(file):
    file["layers/fc/codes"].id.write_direct_chunk((0, 0, 0, 0, 0), os.urandom(60_000))


def missing_chunk(file):
    shape, data = (6, 2, 1, 8, 8), file["layers/fc/codes"][:3]
    replace(file, "layers/fc/codes", shape=shape, dtype="u1", chunks=(1, *shape[1:]), **STORAGE)
    file["layers/fc/codes"][:3] = data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (soft_link, "layers/fc/codes: is a link to somewhere else"),
        (external_link, "layers/fc: is a link to somewhere else"),
        (external_storage, "digital/fc.bias: must be stored in chunks"),
        (virtual_data, "digital/fc.bias: is made of data in other files"),
        (
            lambda file: replace(file, "digital/fc.bias", data=np.zeros(4, "<f4"), maxshape=(None,)),
            "digital/fc.bias: can grow to [None]",
        ),
        (
            lambda file: replace(file, "layers/fc/adc_bits", data=np.ones(5, "u1"), **STORAGE),
            "layers/fc/codes: shape is [6, 2, 1, 8, 8], must be [5, 2, 1, 8, 8]",
        ),
        (never_stored, "digital/table: claims 40265318400 bytes"),
        (bomb, "layers/fc/codes: a chunk does not inflate to its size"),
        (huge_chunk, "layers/fc/codes: damaged"),
        (missing_chunk, "layers/fc/codes: damaged"),
        (lambda file: file["layers/fc"].pop("mask"), "layers/fc/mask: missing"),
        (lambda file: file.pop("card"), "card: missing"),
        (lambda file: replace(file, "card", data="{}"), "card: must be one string of fixed length"),
        (
            lambda file: replace(file, "digital/fc.bias", data=["a"], dtype=h5py.string_dtype()),
            "digital/fc.bias: must hold float32",
        ),
        (
            lambda file: replace(file, "digital/fc.bias", data=[file.ref], dtype=h5py.ref_dtype),
            "digital/fc.bias: must hold float32",
        ),
        (
            lambda file: replace(file, "layers/fc/adc_bits", data=np.ones(6, ">i2")),
            "layers/fc/adc_bits: must hold uint8",
        ),
        (
            lambda file: replace(
                file, "layers/fc/adc_bits", data=np.ones(6, "u1"), compression="lzf", chunks=(6,)
            ),
            "layers/fc/adc_bits: must be stored in chunks, shuffled and deflated",
        ),
        (
            lambda file: replace(file, "digital/fc.bias", dtype="<f4", data=h5py.Empty("<f4")),
            "digital/fc.bias",
        ),
        (lambda file: file.attrs.create("network", "a:b"), "attribute network: must be one string of fixed"),
        (lambda file: file.attrs.create("rows", np.int8(8)), "attribute rows: must be one 64-bit integer"),
        (lambda file: file.attrs.create("network", np.bytes_(b"n" * 60000)), "network must be printable"),
    ],
)
def test_nothing_is_followed_run_or_allocated_on_the_word_of_a_file(path, change, message):
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(MapFileError) as failure:
        read_map(path)
    assert message in str(failure.value)
    assert str(failure.value).isprintable()
    assert validate_map(path)[0] == str(failure.value)


def test_every_changed_data_set_is_named(path):
    with h5py.File(path, "r+") as file:
        file["layers/fc/codes"][0, 0, 0, 0, 0] += 1
        file["layers/features.conv/adc_bits"][0] += 1
        file["digital/fc.bias"][3] = 9.0
    problems = validate_map(path)
    assert len(problems) == 3
    for problem, name in zip(
        problems, ["layers/fc/codes", "layers/features.conv/adc_bits", "digital/fc.bias"], strict=True
    ):
        assert problem == f"{path}: {name}: checksum differs: the data were changed"


def test_a_changed_attribute_is_noticed(path):
    with h5py.File(path, "r+") as file:
        put_attributes(file["layers/fc"], weight_per_siemens=123.0)
    with pytest.raises(MapFileError, match="attribute sha256: differs"):
        read_map(path)


def test_random_damage_is_read_as_before_or_refused(path, original):
    small = dataclasses.replace(original, digital={"fc.bias": original.digital["fc.bias"]})
    write_map(small, path)
    whole = path.read_bytes()
    rng = random.Random(1)
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        else:
            for _ in range(rng.choice([1, 1, 3, 30])):
                data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        problems = validate_map(path)
        if problems:
            with pytest.raises(MapFileError) as failure:
                read_map(path)
            assert str(failure.value).isprintable()
            refused += 1
        else:
            assert_equal(read_map(path), small)
    assert refused > 100
