"""The user's own images: IDX files, binary CIFAR files and image folders, and what is wrong with them."""

import gzip
import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hwloop.datasets import DatasetError, fingerprint, load_dataset
from hwloop.line import RunError, RunFolder, load_inputs
from hwloop.recipe import Recipe

RNG = np.random.default_rng(0)
IMAGES = {
    "train": RNG.integers(0, 256, (20, 6, 5), dtype=np.uint8),
    "t10k": RNG.integers(0, 256, (8, 6, 5), dtype=np.uint8),
}
LABELS = {"train": np.arange(20, dtype=np.uint8) % 3, "t10k": np.arange(8, dtype=np.uint8) % 3}


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, *, packed=False, joint="-"):
    folder.mkdir(exist_ok=True)
    for part in ("train", "t10k"):
        for kind, array in (("images", IMAGES[part]), ("labels", LABELS[part])):
            name = f"{part}-{kind}{joint}idx{array.ndim}-ubyte"
            data = idx_bytes(array)
            (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return folder


def write_cifar(folder, fine=False, images=4):
    """Six files of CIFAR-10, or two of CIFAR-100; returns records of the first file."""
    folder.mkdir(exist_ok=True)
    names = ["train", "test"] if fine else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    written = []
    for name in names:
        records = RNG.integers(0, 256, (images, 3073 + fine), dtype=np.uint8)
        records[:, : 1 + fine] %= 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())
        written.append(records)
    return written


def write_images(folder, *, suffix=".png", test="val", size=(7, 5), mode="RGB", each=3):
    for part in ("train", test):
        for label, class_ in enumerate(("cat", "dog", "owl")):
            place = folder / part / class_
            place.mkdir(parents=True)
            for number in range(each):
                image = Image.new(mode, size, 60 * label + number if mode == "L" else (60 * label, number, 9))
                image.save(place / f"{number}{suffix}")
    return folder


@pytest.mark.parametrize(("packed", "joint"), [(False, "-"), (True, "-"), (False, "."), (True, ".")])
def test_idx_files_give_their_images_and_labels(tmp_path, packed, joint):
    data = load_dataset(write_idx(tmp_path / "own", packed=packed, joint=joint), validation=0, seed=1)
    np.testing.assert_allclose(data.train_x[:, 0].numpy(), IMAGES["train"] / 255, rtol=1e-6)
    np.testing.assert_allclose(data.test_x[:, 0].numpy(), IMAGES["t10k"] / 255, rtol=1e-6)
    assert data.test_y.tolist() == LABELS["t10k"].tolist()
    assert data.train_y.dtype == torch.int64


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("train-images-idx3-ubyte", None, "lacks train-images-idx3-ubyte"),
        ("t10k-labels-idx1-ubyte", b"\0\0\x08", "not an IDX file of unsigned bytes in 1 dimensions"),
        ("t10k-labels-idx1-ubyte", idx_bytes(IMAGES["train"]), "not an IDX file of unsigned bytes in 1"),
        ("train-images-idx3-ubyte", idx_bytes(IMAGES["train"])[:-1], "cut off; its header promises 600"),
        ("train-images-idx3-ubyte", idx_bytes(IMAGES["train"]) + b"x", "too long"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\xff" * 12, "larger than 2 GiB"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\0" * 12, "holds nothing"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + struct.pack(">3I", 1024, 1024, 1024), "cut off"),
        ("train-labels-idx1-ubyte", idx_bytes(LABELS["t10k"]), "8 labels, but train-images-idx3-ubyte"),
    ],
)
def test_an_idx_file_that_is_not_what_its_header_says_is_named(tmp_path, name, data, words):
    folder = write_idx(tmp_path / "own")
    if data is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data)
    with pytest.raises(DatasetError, match=words) as error:
        load_dataset(folder, validation=2, seed=1)
    assert str(folder) in str(error.value)


def test_a_packed_idx_file_that_is_damaged_or_never_ends_is_named(tmp_path):
    folder = write_idx(tmp_path / "own", packed=True)
    path = folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for data, words in (
        (whole[:-20], "not a complete .gz file"),
        (b"text", "cannot be read"),
        (whole[:40] + bytes([whole[40] ^ 255]) + whole[41:], r"train-images-idx3-ubyte\.gz"),
        (gzip.compress(idx_bytes(IMAGES["train"]) + bytes(1 << 20)), "too long"),
    ):
        path.write_bytes(data)
        with pytest.raises(DatasetError, match=words):
            load_dataset(folder, validation=2, seed=1)


def test_binary_cifar_files_give_their_images_and_labels(tmp_path):
    written = write_cifar(tmp_path / "ten")
    data = load_dataset(tmp_path / "ten", validation=0, seed=1)
    records = np.concatenate(written[:5])
    assert data.train_x.shape == (20, 3, 32, 32)
    np.testing.assert_allclose(data.train_x.flatten(1).numpy(), records[:, 1:] / 255, rtol=1e-6)
    assert data.train_y.tolist() == records[:, 0].tolist()
    assert data.test_y.tolist() == written[5][:, 0].tolist()


def test_cifar_100_has_its_fine_labels(tmp_path):
    train, test = write_cifar(tmp_path / "hundred", fine=True)
    data = load_dataset(tmp_path / "hundred", validation=0, seed=1)
    assert data.train_y.tolist() == train[:, 1].tolist()
    np.testing.assert_allclose(data.test_x[2, 1, 3].numpy(), test[2, 2 + 1024 + 96 :][:32] / 255, rtol=1e-6)


def test_cifar_files_that_are_missing_cut_or_of_other_labels_are_named(tmp_path):
    folder = tmp_path / "ten"
    write_cifar(folder)
    last = folder / "data_batch_5.bin"
    whole = last.read_bytes()
    for data, words in (
        (whole[:-1], r"data_batch_5.bin: 12291 bytes are no whole number of records of 3073"),
        (b"", "0 bytes"),
        (b"\x0a" + whole[1:], "holds label 10, but there are 10 classes"),
        (None, "lacks data_batch_5.bin"),
    ):
        last.unlink() if data is None else last.write_bytes(data)
        with pytest.raises(DatasetError, match=words):
            load_dataset(folder, validation=2, seed=1)


@pytest.mark.parametrize("names", [("data_batch_1", "test_batch", "batches.meta"), ("train", "test", "meta")])
def test_pickles_are_never_opened_and_the_way_out_is_named(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(DatasetError, match=r"pickles can run any code.*cifar-10-binary"):
        load_dataset(tmp_path, validation=0, seed=1)


@pytest.mark.parametrize(
    ("suffix", "test"), [(".png", "val"), (".png", "test"), (".JPEG", "val"), (".jpg", "test")]
)
def test_image_folders_give_classes_in_the_order_of_their_names(tmp_path, suffix, test):
    data = load_dataset(write_images(tmp_path, suffix=suffix, test=test), validation=0, seed=1)
    assert data.train_x.shape == (9, 3, 5, 7)
    for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
        assert (255 * x[:, 0].mean((1, 2)) / 60).round().long().tolist() == y.tolist()
        assert y.bincount().tolist() == [3, 3, 3]


def test_the_first_images_of_files_in_order_of_their_classes_are_of_all_classes(tmp_path):
    write_images(tmp_path, each=20)
    few = load_dataset(tmp_path, validation=0, seed=1, test_images=15)
    other = load_dataset(tmp_path, validation=0, seed=2)
    assert few.test_y.unique().tolist() == [0, 1, 2]
    assert torch.equal(few.test_x, other.test_x[:15])
    assert few.train_y[:15].unique().tolist() == [0, 1, 2]
    labels = np.arange(60) // 20
    x = np.repeat(labels.astype(np.uint8), 16).reshape(60, 4, 4)
    for name, y in (("sorted", labels), ("mixed", labels[::-1])):
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = load_dataset(tmp_path / "sorted.npz", validation=0, seed=1)
    assert data.train_y[:15].unique().tolist() == [0, 1, 2]
    assert torch.equal((255 * data.train_x[:, 0, 0, 0]).round().long(), data.train_y)
    # Any other order is the file's, as it is.
    assert load_dataset(tmp_path / "mixed.npz", validation=0, seed=1).test_y.tolist() == labels[::-1].tolist()


def test_grey_images_have_one_channel_and_none_in_colour_among_them(tmp_path):
    folder = write_images(tmp_path, mode="L")
    assert load_dataset(folder, validation=0, seed=1).train_x.shape == (9, 1, 5, 7)
    Image.new("RGB", (7, 5)).save(folder / "val" / "owl" / "2.png")
    with pytest.raises(DatasetError, match=r"2\.png: in colour, but .*0\.png is grey"):
        load_dataset(folder, validation=0, seed=1)


def test_images_of_several_sizes_need_a_size_and_keep_their_middle(tmp_path):
    folder = write_images(tmp_path, size=(8, 8))
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 200
    Image.fromarray(wide).save(folder / "train" / "owl" / "1.png")
    with pytest.raises(
        DatasetError, match=r"1\.png: 16x8 pixels, but .*0\.png is 8x8; give data\.image_size"
    ):
        load_dataset(folder, validation=0, seed=1)
    same = load_dataset(folder, validation=0, seed=1, image_size=8)
    middle = torch.full((3, 8, 8), 200 / 255)
    assert sum(torch.allclose(x, middle) for x in same.train_x) == 1
    half = load_dataset(folder, validation=0, seed=1, image_size=4)
    assert half.train_x.shape == (9, 3, 4, 4)
    plain = next(n for n, x in enumerate(same.train_x) if not torch.allclose(x, middle))
    torch.testing.assert_close(half.train_x[plain], same.train_x[plain, :, :4, :4])


def test_a_folder_in_another_layout_is_named_with_its_fault(tmp_path):
    def fault(change):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        write_images(folder)
        change(folder)
        with pytest.raises(DatasetError) as error:
            load_dataset(folder, validation=0, seed=1)
        assert str(folder) in str(error.value)
        return str(error.value)

    assert "needs a folder test or val" in fault(lambda f: (f / "val").rename(f / "held"))
    assert "has both test and val" in fault(lambda f: (f / "test").mkdir())
    assert "no such class" in fault(lambda f: (f / "val" / "yak").mkdir())
    assert "lies in no folder of a class" in fault(lambda f: (f / "train" / "x.png").write_bytes(b""))
    assert "convert it, or move it away" in fault(lambda f: (f / "train" / "cat" / "x.webp").write_bytes(b""))
    assert "cannot be read" in fault(lambda f: (f / "train" / "cat" / "0.png").write_bytes(b"GIF89a"))
    assert "damaged" in fault(lambda f: cut(f / "train" / "owl" / "0.png"))
    assert "save it with 8 bits" in fault(
        lambda f: Image.fromarray(np.zeros((5, 7), np.uint16)).save(f / "train" / "owl" / "0.png")
    )
    (tmp_path / "other").mkdir()
    with pytest.raises(DatasetError, match="in no known layout; give mnist"):
        load_dataset(tmp_path / "other", validation=0, seed=1)
    (tmp_path / "x.pkl").write_bytes(b"")
    with pytest.raises(DatasetError, match="in no known layout"):
        load_dataset(tmp_path / "x.pkl", validation=0, seed=1)


def cut(path):
    path.write_bytes(path.read_bytes()[:45])


def test_hidden_files_are_overlooked(tmp_path):
    folder = write_images(tmp_path)
    (folder / "train" / ".DS_Store").write_bytes(b"x")
    assert len(load_dataset(folder, validation=0, seed=1).train_x) == 9


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 400), value=st.integers(0, 255), suffix=st.sampled_from([".png", ".jpg"]))
def test_a_damaged_byte_gives_an_image_or_a_named_error(tmp_path_factory, place, value, suffix):
    folder = write_images(tmp_path_factory.mktemp("images"), suffix=suffix, each=1)
    path = folder / "train" / "dog" / f"0{suffix}"
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data)
    try:
        named = len(load_dataset(folder, validation=0, seed=1).train_x) == 3
    except DatasetError as error:
        named = str(path) in str(error)
    assert named


def test_images_that_are_too_many_for_memory_are_refused_before_they_are_opened(tmp_path, monkeypatch):
    folder = write_images(tmp_path)
    monkeypatch.setattr("hwloop.datasets.part.MAX_BYTES", 7 * 5 * 3 * 11)
    with pytest.raises(DatasetError, match=r"use fewer \(data\.train_images"):
        load_dataset(folder, validation=2, seed=1)
    few = load_dataset(folder, validation=2, seed=1, train_images=4, test_images=5)
    assert [len(part) for part in (few.train_x, few.validation_x, few.test_x)] == [4, 2, 5]


def test_fewer_training_images_leave_the_others_as_they_are(tmp_path):
    folder = write_idx(tmp_path / "own")
    whole = load_dataset(folder, validation=7, seed=3)
    few = load_dataset(folder, validation=7, seed=3, train_images=5, test_images=4)
    assert torch.equal(few.validation_x, whole.validation_x)
    assert torch.equal(few.test_x, whole.test_x[:4])
    assert len(few.train_x) == 5
    assert all(any(torch.equal(x, other) for other in whole.train_x) for x in few.train_x)
    with pytest.raises(DatasetError, match="train_images = 14, but there are 20 training images, of which 7"):
        load_dataset(folder, validation=7, seed=3, train_images=14)


def test_a_size_is_for_image_folders(tmp_path):
    for name in ("mnist", write_idx(tmp_path / "own")):
        with pytest.raises(DatasetError, match=r"data\.image_size has no meaning"):
            load_dataset(name, validation=0, seed=1, image_size=8)


def test_a_run_notices_that_its_images_changed(tmp_path):
    folder = write_idx(tmp_path / "own")
    before = fingerprint(str(folder))
    recipe = Recipe.model_validate({"data": {"name": str(folder), "validation": 2}})
    RunFolder.create(tmp_path / "run", recipe)
    assert fingerprint(str(folder)) == before
    assert str(folder) in json.loads((tmp_path / "run" / "run.json").read_text())["files"]
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS["t10k"][::-1].copy()))
    with pytest.raises(RunError, match="another content of"):
        RunFolder.create(tmp_path / "run", recipe)
    assert fingerprint("mnist") == {}
    images = write_images(tmp_path / "images")
    before = fingerprint(str(images))
    (images / "val" / "owl" / "0.png").rename(images / "val" / "cat" / "9.png")
    assert fingerprint(str(images)) != before


def test_a_recipe_says_how_many_images_and_how_large(tmp_path):
    folder = write_images(tmp_path, mode="L", each=10)
    recipe = Recipe.model_validate(
        {
            "network": {"factory": "tests.line.small:small_network"},
            "data": {"name": str(folder), "validation": 4, "train_images": 12, "image_size": 8},
            "evaluate": {"images": 6},
        }
    )
    data = load_inputs(recipe).dataset
    assert (len(data.train_x), len(data.validation_x), tuple(data.test_x.shape)) == (12, 4, (6, 1, 8, 8))
