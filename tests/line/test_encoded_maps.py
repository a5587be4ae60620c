"""Maps of sliced and offset weights: through files, tables, pictures, retraining and the line."""

from __future__ import annotations

import csv
import dataclasses
import json

import h5py
import numpy as np
import pytest
import torch

from device_models import load_card
from device_models.crossbar import Wires
from hwloop.hardware import FastHardware, IdealHardware, network_from_map
from hwloop.line import Run, RunFolder, load_inputs, walk
from hwloop.mapping import (
    ConductanceMap,
    MapFileError,
    assemble,
    build_map,
    compare_maps,
    decode,
    export_csv,
    export_npz,
    fragment_of_rows,
    largest_code,
    read_map,
    validate_map,
    write_map,
)
from hwloop.networks import crossbar_layers, to_matrix
from hwloop.progress import Silence
from hwloop.pruning import full_masks
from hwloop.quantization import quantize
from hwloop.recipe import Readout, RecipeError, Retrain, load_recipe
from hwloop.report.tiles import pictures
from hwloop.training.retrain import retrain

from .maps import card_with
from .small import digits, seeded_network
from .test_mapfile import seal
from .tiny import write_recipe

CARD = load_card("rram-neurram").with_levels(3)
ENCODINGS = [("differential", 2), ("offset", 1), ("offset", 2), ("polarised", 1), ("polarised", 2)]
FRAGMENT = 4


def small_map(encoding: str, slices: int) -> ConductanceMap:
    """A small network, half of it pruned, in cells of three levels."""
    net, generator = seeded_network(), torch.Generator().manual_seed(0)
    masks = {name: torch.rand(m.shape, generator=generator) < 0.5 for name, m in full_masks(net).items()}
    layers = quantize(net, masks, largest_code(encoding, CARD.levels, slices))
    codes = {name: (layer.codes, layer.scale) for name, layer in layers.items()}
    fragment = FRAGMENT if encoding == "polarised" else 1
    if encoding == "polarised":
        codes = {name: (with_one_sign(matrix, generator), scale) for name, (matrix, scale) in codes.items()}
    inputs = dict.fromkeys(codes, (1.0, False))
    return build_map(
        "tests.line.small:small_network",
        net,
        codes,
        CARD,
        (16, 16),
        inputs,
        encoding=encoding,
        slices=slices,
        fragment=fragment,
    )


def with_one_sign(codes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same magnitudes, with one sign for each fragment of a column."""
    fragments = fragment_of_rows(codes, (16, 16), fragment=FRAGMENT)
    signs = 1 - 2 * torch.randint(0, 2, codes.shape, generator=generator, dtype=torch.int8)
    return codes.abs() * signs[fragments]


@pytest.fixture(scope="module", params=ENCODINGS, ids=lambda param: f"{param[0]}-{param[1]}")
def encoded(request) -> ConductanceMap:
    return small_map(*request.param)


@pytest.fixture
def offset_file(tmp_path):
    path = tmp_path / "maps.h5"
    write_map(small_map("offset", 2), path)
    return path


def test_a_file_gives_the_map_back_programmed_or_not(encoded, tmp_path):
    path = tmp_path / "maps.h5"
    for conductance_map in (encoded, IdealHardware().program(encoded)):
        write_map(conductance_map, path)
        assert validate_map(path) == []
        assert compare_maps(read_map(path), conductance_map) == []


def test_the_file_alone_tells_the_weights(encoded, tmp_path):
    """As the description of a layer says, in numpy."""
    write_map(encoded, tmp_path / "maps.h5")
    with h5py.File(tmp_path / "maps.h5") as file:
        g_step = file.attrs["g_step_siemens"]
        levels = json.loads(file["card"][()])["level_count"]["value"]
        for name, group in file["layers"].items():
            g, base = group["target"][()].astype(np.float64), levels + 1
            places = base ** np.arange(g.shape[2])[:, None, None]
            if g.shape[1] == 2:
                siemens = (places * (g[:, 0] - g[:, 1])).sum(axis=1)
            elif "negative" in group:
                signs = 1.0 - 2 * np.repeat(group["negative"][()], FRAGMENT, axis=1)
                siemens = (places * g[:, 0]).sum(axis=1) * signs
            else:
                flipped = group["flipped"][()][:, :, None, :] == 1
                held = np.where(flipped, levels * g_step - g[:, 0], g[:, 0])
                largest = min(127, (base ** g.shape[2] - 1) // 2)
                siemens = (places * held).sum(axis=1) - largest * g_step
            layer = encoded.layers[name]
            used = (layer.row_index >= 0)[:, :, None] & (layer.col_index >= 0)[:, None, :]
            expected = decode(layer, CARD.levels).double() * g_step
            np.testing.assert_allclose(np.where(used, siemens, 0), expected, rtol=1e-5, atol=1e-5 * g_step)
            assert np.array_equal(group["mask"][()] == 1, layer.mask)


def test_tables_hold_every_cell_and_what_is_flipped(encoded, tmp_path):
    export_csv(encoded, tmp_path / "csv")
    export_npz(encoded, tmp_path / "npz")
    facts = json.loads((tmp_path / "csv" / "map.json").read_text("utf-8"))
    for name, layer in encoded.layers.items():
        codes = torch.zeros_like(layer.codes)
        with (tmp_path / "csv" / f"{name}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                place = tuple(int(row[at]) for at in ("tile", "polarity", "slice", "word_line", "bit_line"))
                codes[place] = int(row["level_code"])
        assert torch.equal(codes, layer.codes)
        with np.load(tmp_path / "npz" / f"{name}.npz", allow_pickle=False) as data:
            assert np.array_equal(data["codes"], layer.codes)
            assert np.array_equal(data["mask"] == 1, layer.mask)
            for field, flags in (("flipped", layer.flipped), ("negative", layer.negative)):
                assert (field in data) == (field in facts["layers"][name]) == (flags is not None)
                if flags is not None:
                    assert np.array_equal(data[field] == 1, flags)
                    assert facts["layers"][name][field] == flags.nonzero().tolist()


@pytest.mark.parametrize(
    "readout", [{}, {"bits_per_cycle": 3}, {"rows_at_once": 5}], ids=["bit-serial", "3 bits", "5 rows"]
)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("read_noise", [0.0, 1e-7], ids=["at once", "cycle by cycle"])
def test_simulated_arrays_without_errors_give_the_product(encoded, readout, signed, read_noise):
    # Noise that no converter sees forbids reading all cycles at once.
    cells = card_with(read_noise=read_noise).with_levels(CARD.levels)
    layers = {name: dataclasses.replace(layer, input_signed=signed) for name, layer in encoded.layers.items()}
    conductance_map = dataclasses.replace(encoded, card=cells, layers=layers)
    if encoded.layers["fc1"].encoding == "polarised":
        readout = readout | {"rows_at_once": 2 if "rows_at_once" in readout else FRAGMENT}
    fast = FastHardware(Wires(0.0, 0.0), Readout(**readout), seed=0)
    ideal = IdealHardware()
    for hardware in (fast, ideal):
        hardware.program(conductance_map)
    for name, layer in layers.items():
        assert fast.collapses(name) == (read_noise == 0)
        lowest = -255 if signed else 0
        x = torch.randint(lowest, 256, (7, layer.matrix_shape[0])) / 255
        torch.testing.assert_close(fast.read(name, x), ideal.read(name, x), rtol=1e-5, atol=1e-5)


def test_pictures_show_kept_weights(encoded):
    for layer in encoded.layers.values():
        shown = pictures(layer, CARD.levels, range(layer.tiles))
        assert [picture.cells for picture in shown] == layer.mask.sum(dim=(1, 2)).tolist()


def set_cell(name, index, value):
    def change(file):
        file[f"layers/fc1/{name}"][index] = value

    return change


def without_negative(file):
    del file["layers/fc1/negative"]


def three_fragments(file):
    attributes, data = dict(file["layers/fc1/negative"].attrs), file["layers/fc1/negative"][:, :3]
    del file["layers/fc1/negative"]
    stored = {"chunks": data.shape, "shuffle": True, "compression": "gzip"}
    file.create_dataset("layers/fc1/negative", data=data, **stored).attrs.update(attributes)


def gap_in_the_word_lines(file):
    file["layers/fc1/row_index"][0, 3] = -1


def as_version_three(file):
    file.attrs["version"] = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_cell("negative", (0, 1, 3), 2), "negative: tile 0: fragment 1, bit line 3 is 2, must be 0 or 1"),
        (set_cell("col_index", (0, 0), -1), "layers/fc1: negative: tile 0: fragment"),
        (without_negative, "layers/fc1/flipped: missing"),
        (three_fragments, "negative: 3 fragments in 16 word lines"),
        (gap_in_the_word_lines, "row_index: tile 0: fragment 0 has word lines that are not used"),
        (as_version_three, "format version 3; this program reads 1 and 2"),
    ],
)
def test_polarised_files_that_make_no_sense_are_refused(tmp_path, change, message):
    path = tmp_path / "maps.h5"
    write_map(small_map("polarised", 2), path)
    with h5py.File(path, "r+") as file:
        assert file.attrs["version"] == 2
        file["layers/fc1/negative"][0, :, 0] = 1
        change(file)
        if "missing" not in message:
            seal(file)
    with pytest.raises(MapFileError) as failure:
        read_map(path)
    assert message in str(failure.value)
    assert validate_map(path)[0] == str(failure.value)


def test_only_maps_with_polarised_layers_are_of_the_second_version(offset_file):
    with h5py.File(offset_file) as file:
        assert file.attrs["version"] == 1


def without_flipped(file):
    del file["layers/fc1/flipped"]


def wrong_shape(file):
    attributes = dict(file["layers/fc1/flipped"].attrs)
    data = file["layers/fc1/flipped"][:, :1]
    del file["layers/fc1/flipped"]
    file.create_dataset("layers/fc1/flipped", data=data).attrs.update(attributes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_cell("flipped", (0, 1, 3), 2), "flipped: tile 0: slice 1, bit line 3 is 2, must be 0 or 1"),
        (without_flipped, "layers/fc1/flipped: missing"),
        (wrong_shape, "layers/fc1/flipped: shape is [6, 1, 16], must be [6, 2, 16]"),
        (set_cell("codes", (0, 0, 0, 0, 0), 4), "codes: tile 0: level code 4, but the card has 3 levels"),
        (set_cell("col_index", (0, 0), -1), "layers/fc1: flipped: tile 0: slice"),
        (set_cell("row_index", (0, 0), -1), "codes: tile 0: cell on an unused line at word line 0"),
    ],
)
def test_offset_files_that_make_no_sense_are_refused(offset_file, change, message):
    with h5py.File(offset_file, "r+") as file:
        file["layers/fc1/flipped"][0, :, 0] = 1
        change(file)
        if "missing" not in message:
            seal(file)
    with pytest.raises(MapFileError) as failure:
        read_map(offset_file)
    assert message in str(failure.value)
    assert validate_map(offset_file)[0] == str(failure.value)


def test_a_flip_that_the_cells_do_not_have_is_noticed(offset_file):
    with h5py.File(offset_file, "r+") as file:
        file["layers/fc1/flipped"][2, 1, 0] ^= 1
        seal(file)
    with pytest.raises(MapFileError, match=r"layers/fc1: (mask|codes): tile 2"):
        read_map(offset_file)


def test_codes_that_no_weight_has_are_not_written(tmp_path):
    both = small_map("differential", 8)
    layer = both.layers["fc2"]
    codes = layer.codes.clone()
    tile, _, _, line, bit = codes.nonzero()[0].tolist()
    polarity = int(codes[tile, 1, :, line, bit].any())
    codes[tile, polarity, :, line, bit] = 3
    wrong = dataclasses.replace(both, layers={"fc2": dataclasses.replace(layer, codes=codes)})
    with pytest.raises(MapFileError, match=r"fc2: codes: tile \d+: weight code -?65535 at .*at most 127"):
        write_map(wrong, tmp_path / "maps.h5")
    offset = small_map("offset", 2)
    layer = offset.layers["fc2"]
    wrong = dataclasses.replace(offset, layers={"fc2": dataclasses.replace(layer, kept=~layer.kept)})
    with pytest.raises(
        MapFileError, match="fc2: kept: tile 0: is not 1 exactly where a weight code is not 0"
    ):
        write_map(wrong, tmp_path / "maps.h5")


def test_retraining_keeps_pruned_weights_pruned_and_codes_in_range(encoded):
    data, net = digits(), seeded_network()
    choice = Retrain(epochs=1, learning_rate=5e-2, batch=250)
    after, _ = retrain(net, encoded, lambda _: IdealHardware(), data, choice, seed=0)
    for name, layer in after.layers.items():
        before = encoded.layers[name]
        assert torch.equal(layer.mask, before.mask)
        assert torch.equal(decode(layer, CARD.levels) != 0, before.mask)
        assert layer.codes.shape == before.codes.shape
        if layer.negative is not None:
            assert torch.equal(layer.negative, before.negative)
        largest = largest_code(layer.encoding, CARD.levels, layer.slices)
        assert int(decode(layer, CARD.levels).abs().max()) <= largest
    assert not torch.equal(after.layers["fc1"].codes, encoded.layers["fc1"].codes)
    quantized = network_from_map(net, after)
    for name, module in crossbar_layers(quantized).items():
        layer = after.layers[name]
        matrix = assemble(decode(layer, CARD.levels), layer.row_index, layer.col_index, layer.matrix_shape)
        scale = layer.weight_per_siemens * CARD.g_step
        torch.testing.assert_close(to_matrix(module), (matrix * scale).float(), rtol=1e-6, atol=0)


def test_a_recipe_chooses_levels_slices_and_encoding(tmp_path):
    hardware = 'rows = 16\ncols = 16\nencoding = "offset"\nslices = 2\ncell_levels = 3'
    recipe = load_recipe(write_recipe(tmp_path, hardware=hardware, train="epochs = 1"))
    folder = RunFolder.create(tmp_path / "run", recipe)
    walk(Run(folder, load_inputs(recipe), Silence()), until="map")
    conductance_map = read_map(tmp_path / "run" / "maps.h5")
    assert conductance_map.card.levels == 3
    for layer in conductance_map.layers.values():
        assert (layer.encoding, layer.slices) == ("offset", 2)
        assert 3 < int(decode(layer, 3).abs().max()) <= 7
    found = folder.result("map")
    assert found["max_logit_difference"] < 1e-3
    assert found["accuracy"] == folder.result("quantize")["accuracy"]


@pytest.mark.parametrize("rows_at_once", ["", "rows_at_once = 5"])
def test_a_recipe_reads_as_many_word_lines_at_once_as_have_one_sign(tmp_path, rows_at_once):
    path = write_recipe(tmp_path, hardware=f'rows = 16\nencoding = "polarised"\n{rows_at_once}')
    with pytest.raises(
        RecipeError, match=r"rows_at_once must be given and divide rows \(16\); it is (None|5)"
    ):
        load_recipe(path)
    path.write_text(path.read_text().replace(f'"polarised"\n{rows_at_once}', '"polarised"\nrows_at_once = 4'))
    assert load_recipe(path).hardware.fragment == 4


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("cell_levels = 20", "hardware.cell_levels: card rram-neurram has 15 levels"),
        ('cell_levels = 1\nencoding = "offset"', "hardware.slices: offset encoding in 1 slices of 1 levels"),
    ],
)
def test_cells_that_the_recipe_cannot_have_are_named(tmp_path, choice, message):
    recipe = load_recipe(write_recipe(tmp_path, hardware=choice))
    with pytest.raises(RecipeError, match=message):
        load_inputs(recipe)
