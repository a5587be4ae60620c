"""The epoch loop: it learns, it is reproducible, and a training that was cut off loses nothing."""

import dataclasses

import pytest
import torch
from torch import nn

from hwloop.networks import digest
from hwloop.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from hwloop.training.fit import TrainingError, accuracy, constant, cosine, fit, one_cycle, shifted
from tests.line.small import digits, seeded_network

DIGITS = digits()
CHOICES = {"epochs": 4, "batch": 50, "learning_rate": 5e-3, "seed": 1, "station": "train", "shift": 1}


class CutOffError(Exception):
    pass


def interrupt_at(fraction):
    def listen(done, _):
        if done >= fraction:
            raise CutOffError

    return listen


def test_training_learns_and_records_every_epoch():
    net = seeded_network()
    before = accuracy(net, DIGITS.test_x, DIGITS.test_y)
    records = fit(
        net,
        DIGITS,
        **CHOICES | {"epochs": 8, "shift": 0, "batch": 25, "learning_rate": 1e-2},
        schedule=one_cycle,
    )
    assert before < 0.3
    assert accuracy(net, DIGITS.test_x, DIGITS.test_y) > 0.85
    assert [record.epoch for record in records] == list(range(1, 9))
    assert records[-1].loss < records[0].loss
    assert records[-1].validation_accuracy == accuracy(net, DIGITS.validation_x, DIGITS.validation_y)
    assert not net.training


def test_the_same_seed_gives_the_same_weights_and_another_gives_others():
    def weights(**changes):
        net = seeded_network()
        fit(net, DIGITS, **CHOICES | {"epochs": 1} | changes)
        return digest(net.state_dict())

    assert weights() == weights()
    assert len({weights(), weights(seed=2), weights(station="other"), weights(shift=0)}) == 4


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.55, 0.9])
def test_a_resumed_training_ends_bit_for_bit_where_an_unbroken_one_ends(tmp_path, fraction):
    def net_with_state():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(144, 10)
        )

    unbroken, broken = net_with_state(), net_with_state()
    expected = fit(unbroken, DIGITS, **CHOICES)
    checkpoint = tmp_path / "new folder" / "train.safetensors"
    with pytest.raises(CutOffError):
        fit(broken, DIGITS, **CHOICES, checkpoint=checkpoint, progress=interrupt_at(fraction))
    resumed = net_with_state()
    assert fit(resumed, DIGITS, **CHOICES, checkpoint=checkpoint) == expected
    assert digest(resumed.state_dict()) == digest(unbroken.state_dict())


def test_a_finished_training_is_restored_without_a_step(tmp_path):
    checkpoint = tmp_path / "train.safetensors"
    net, again = seeded_network(), seeded_network()
    records = fit(net, DIGITS, **CHOICES, checkpoint=checkpoint)
    assert fit(again, DIGITS, **CHOICES, checkpoint=checkpoint, progress=interrupt_at(0)) == records
    assert digest(again.state_dict()) == digest(net.state_dict())


def test_training_leaves_torch_randomness_and_memory_formats_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    net = seeded_network()
    fit(net, DIGITS, **CHOICES | {"epochs": 1})
    assert torch.equal(torch.rand(2), expected)
    assert all(p.is_contiguous() for p in net.parameters())


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"epochs": 5}, {"learning_rate": 1e-3}, {"station": "other"}, {"batch": 10}]
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, change):
    checkpoint = tmp_path / "train.safetensors"
    fit(seeded_network(), DIGITS, **CHOICES | {"epochs": 1}, checkpoint=checkpoint)
    with pytest.raises(CheckpointError, match=r"train\.safetensors: made with"):
        fit(seeded_network(), DIGITS, **CHOICES | {"epochs": 1} | change, checkpoint=checkpoint)


def test_a_checkpoint_that_started_from_other_weights_is_refused(tmp_path):
    checkpoint = tmp_path / "train.safetensors"
    fit(seeded_network(1), DIGITS, **CHOICES | {"epochs": 1}, checkpoint=checkpoint)
    with pytest.raises(CheckpointError, match="made with start"):
        fit(seeded_network(2), DIGITS, **CHOICES | {"epochs": 1}, checkpoint=checkpoint)


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "train.safetensors"
    fit(seeded_network(), DIGITS, **CHOICES | {"epochs": 1}, checkpoint=path)
    whole = path.read_bytes()
    for content in (whole[:100], b"", b"\xff" * 1000):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged.*delete it"):
            fit(seeded_network(), DIGITS, **CHOICES | {"epochs": 1}, checkpoint=path)
    tensors, state = {"network.other": torch.zeros(1)}, {"records": [{"epoch": 1}]}
    save_checkpoint(path, {}, tensors, state)
    assert load_checkpoint(path, {}) == (tensors, state)
    assert load_checkpoint(tmp_path / "none", {}) is None


def test_regulariser_and_hook_act_on_every_step():
    net, steps = seeded_network(), []
    fit(
        net,
        DIGITS,
        **CHOICES | {"epochs": 3},
        schedule=constant,
        regulariser=lambda: 10 * net.fc1.weight.square().sum(),
        after_step=lambda: steps.append(net.fc2.weight.data.clamp_(-0.1, 0.1).max()),
    )
    assert len(steps) == 1 + 3 * 20  # once before the first step
    assert net.fc1.weight.abs().max() < 0.02
    assert net.fc2.weight.abs().max() <= 0.1


def test_a_loss_that_is_not_finite_names_the_station():
    with pytest.raises(TrainingError, match="train: the loss is not finite in epoch 1"):
        fit(seeded_network(), DIGITS, **CHOICES, regulariser=lambda: torch.tensor(torch.inf))


def test_no_validation_images_give_no_validation_accuracy():
    none = dataclasses.replace(
        DIGITS, validation_x=DIGITS.validation_x[:0], validation_y=DIGITS.validation_y[:0]
    )
    (record,) = fit(seeded_network(), none, **CHOICES | {"epochs": 1})
    assert record.validation_accuracy is None
    with pytest.raises(ValueError, match="no images"):
        accuracy(seeded_network(), none.validation_x, none.validation_y)


def test_accuracy_does_not_depend_on_the_batch():
    net = seeded_network()
    values = {accuracy(net, DIGITS.test_x, DIGITS.test_y, batch) for batch in (1, 7, 497, 1000)}
    assert len(values) == 1


def test_shifted_images_are_crops_of_the_padded_image():
    x = torch.rand(40, 2, 5, 4)
    moved = shifted(x, 2, torch.Generator().manual_seed(0))
    padded = nn.functional.pad(x, (2, 2, 2, 2))
    places = set()
    for image, whole in zip(moved, padded, strict=True):
        found = [
            (i, j) for i in range(5) for j in range(5) if torch.equal(whole[:, i : i + 5, j : j + 4], image)
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 10
    assert shifted(x, 0, torch.Generator()) is x


def test_schedules_start_and_end_where_they_say():
    assert one_cycle(0) == pytest.approx(0.1)
    assert one_cycle(0.25) == pytest.approx(1)
    assert one_cycle(1) == pytest.approx(0, abs=1e-12)
    assert (cosine(0), constant(0.7)) == (1, 1)
    assert cosine(0.5) == pytest.approx(0.5)
