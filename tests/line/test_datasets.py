"""Datasets: MNIST as it ships, `.npz` files in its layout, and files that are not."""

import numpy as np
import pytest
import torch

from hwloop.datasets import DatasetError, load_dataset


def write(path, **changes):
    """A valid file of 20 + 8 images, but for ``changes``; None leaves an array out."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (20, 6, 5), dtype=np.uint8),
        "y_train": np.arange(20) % 3,
        "x_test": rng.integers(0, 256, (8, 6, 5), dtype=np.uint8),
        "y_test": np.arange(8) % 3,
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_mnist_ships_complete():
    mnist = load_dataset("mnist", validation=5000, seed=1)
    assert mnist.train_x.shape == (55000, 1, 28, 28)
    assert mnist.validation_x.shape == (5000, 1, 28, 28)
    assert mnist.test_x.shape == (10000, 1, 28, 28)
    assert mnist.train_x.dtype == torch.float32
    assert mnist.train_y.dtype == torch.int64
    assert (mnist.train_x.min(), mnist.train_x.max()) == (0, 1)
    counts = torch.bincount(torch.cat([mnist.train_y, mnist.validation_y])).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(mnist.test_y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.classes == 10


def test_the_split_is_a_partition_that_the_seed_fixes(tmp_path):
    images = np.arange(20, dtype=np.uint8).repeat(30).reshape(20, 6, 5)
    path = write(tmp_path / "own.npz", x_train=images)

    def held_back(seed):
        data = load_dataset(path, validation=7, seed=seed)
        train = set((data.train_x[:, 0, 0, 0] * 255).round().int().tolist())
        validation = set((data.validation_x[:, 0, 0, 0] * 255).round().int().tolist())
        assert len(validation) == 7
        assert train | validation == set(range(20))
        assert train & validation == set()
        return validation

    assert held_back(1) == held_back(1)
    assert held_back(1) != held_back(2)


def test_labels_stay_with_their_images(tmp_path):
    images = np.arange(20, dtype=np.uint8).repeat(30).reshape(20, 6, 5)
    data = load_dataset(write(tmp_path / "own.npz", x_train=images), validation=7, seed=3)
    for x, y in ((data.train_x, data.train_y), (data.validation_x, data.validation_y)):
        assert torch.equal((x[:, 0, 0, 0] * 255).round().long() % 3, y)


def test_colour_images_become_channels_first(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
    path = write(tmp_path / "colour.npz", x_train=colour, x_test=colour[:8])
    data = load_dataset(path, validation=0, seed=1)
    assert data.train_x.shape == (20, 3, 6, 5)
    np.testing.assert_allclose(data.train_x[4, 2].numpy(), colour[4, :, :, 2] / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_test": None}, "lacks y_test"),
        ({"x_train": np.zeros((20, 6, 5))}, "x_train is float64"),
        ({"x_train": np.zeros((20, 30), np.uint8)}, "x_train is uint8"),
        ({"y_train": np.zeros(19, int)}, "y_train is int64"),
        ({"y_train": np.zeros(20)}, "y_train is float64"),
        ({"y_train": np.full(20, -1)}, "y_train must lie"),
        ({"x_test": np.zeros((8, 7, 5), np.uint8)}, "different sizes"),
        ({"y_train": np.array([{}] * 20, dtype=object)}, "cannot be read"),
    ],
)
def test_a_file_in_another_layout_is_named_with_its_fault(tmp_path, changes, words):
    path = write(tmp_path / "bad.npz", **changes)
    with pytest.raises(DatasetError, match=words) as error:
        load_dataset(path, validation=2, seed=1)
    assert "bad.npz" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_missing_cut_or_no_archive_are_named(tmp_path):
    whole = write(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("not an archive")
    for name in ("missing.npz", "cut.npz", "text.npz"):
        with pytest.raises(DatasetError, match=name):
            load_dataset(tmp_path / name, validation=2, seed=1)


def test_a_file_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("hwloop.datasets.part.MAX_BYTES", 1000)
    path = write(tmp_path / "large.npz")
    with pytest.raises(DatasetError, match="larger than"):
        load_dataset(path, validation=2, seed=1)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(DatasetError, match="mnist"):
        load_dataset("fashion", validation=0, seed=1)


def test_more_validation_than_training_images_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="validation = 20"):
        load_dataset(write(tmp_path / "own.npz"), validation=20, seed=1)
