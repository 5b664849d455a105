"""Measures over many pictures."""

import json

import numpy as np
import pytest
import torch

from daemon.vision.parts import BodyPart
from drivers.vivarium.truth import Contact
from training.metrics import ALL, Scoreboard
from training.pixel_measures import multiclass_record, pixel_measures, pixel_metrics
from training.samples import Sample
from training.scenes import SceneSource
from training.verdict import Found

SCENES = SceneSource(300, 12)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [SCENES[index] for index in range(len(SCENES))]


def as_found(sample: Sample) -> Found:
    """The truth."""
    assert sample.instances is not None
    return Found(parts=sample.parts.copy(), instances=sample.instances.copy())


def shifted(sample: Sample, columns: int) -> Found:
    """The truth, moved to the right."""
    assert sample.instances is not None
    return Found(parts=np.roll(sample.parts, columns, 1), instances=np.roll(sample.instances, columns, 1))


def test_the_truth_is_perfect_in_every_group(samples: list[Sample]) -> None:
    board = Scoreboard()
    for sample in samples:
        board.add(sample, as_found(sample))
    measures = board.measures()
    assert set(measures) == {sample.contact.value for sample in samples if sample.contact} | {ALL}
    assert sum(group.frames for name, group in measures.items() if name != ALL) == measures[ALL].frames == 12
    for group in measures.values():
        assert group.pixels.mean_iou_parts == group.pixels.mean_iou_all == group.pixels.accuracy == 1
        assert set(group.boundary_f1.values()) == {1}
        assert group.tail_centerline_dice == pytest.approx(1)
        animals = group.animals
        assert animals is not None
        assert animals.pq == animals.ap50 == animals.ap50_95 == animals.count_right_share == animals.good_share == 1
        assert {one.mean_absolute_celsius for one in animals.temperature.values()} == {0}
        assert {one.found_share for one in animals.temperature.values()} == {1}


def test_the_farther_labels_lie_from_the_truth_the_worse_is_every_measure(samples: list[Sample]) -> None:
    def figures(columns: int) -> list[float]:
        board = Scoreboard()
        for sample in samples:
            board.add(sample, shifted(sample, columns))
        group = board.measures()[ALL]
        assert group.animals is not None
        head = group.animals.temperature["head"].mean_absolute_celsius
        return [
            value
            for value in (
                group.pixels.mean_iou_parts,
                group.pixels.accuracy,
                group.boundary_f1["body"],
                group.tail_centerline_dice,
                group.animals.pq,
                group.animals.ap50_95,
                group.animals.mean_instance_iou,
                None if head is None else -head,
            )
            if value is not None
        ]

    right, near, far = (figures(columns) for columns in (0, 3, 9))
    assert len(right) == 8
    assert all(one > other for one, other in zip(right, near, strict=True))
    assert all(one > other for one, other in zip(near, far, strict=True))


def test_mean_iou_is_over_the_pixels_of_all_pictures_not_over_pictures() -> None:
    metrics = pixel_metrics()
    # Two pictures: head right on 10 of 10 pixels, and on 0 of 90: IoU 10 / 100, where a mean over pictures has 0.5.
    metrics.update(torch.full((1, 1, 10), 1), torch.full((1, 1, 10), 1))
    metrics.update(torch.zeros((1, 1, 90), dtype=torch.int64), torch.full((1, 1, 90), 1))
    measures = pixel_measures(metrics.compute())
    assert measures.classes["head"].iou == pytest.approx(0.1)
    assert measures.classes["head"].f1 == pytest.approx(2 * 10 / (2 * 10 + 90))
    assert (measures.classes["head"].precision, measures.classes["head"].recall) == pytest.approx((1, 0.1))
    assert measures.classes["body"].iou is None, "neither there nor found"
    assert measures.mean_iou_parts == pytest.approx(0.1)
    assert measures.mean_iou_all == pytest.approx(0.05), "all that was called background is wrong"
    assert measures.animal_iou == pytest.approx(0.1)
    assert measures.accuracy == pytest.approx(0.1)
    assert measures.confusion[1].tolist() == [90, 10, 0, 0]


def test_measures_agree_with_the_confusion_they_come_with(samples: list[Sample]) -> None:
    board = Scoreboard()
    for sample in samples:
        board.add(sample, shifted(sample, 4))
    pixels = board.measures()[ALL].pixels
    for label, measures in enumerate(pixels.classes.values()):
        both = pixels.confusion[label, label]
        true_px, found_px = pixels.confusion[label].sum(), pixels.confusion[:, label].sum()
        assert measures.iou == pytest.approx(both / (true_px + found_px - both))
        assert measures.f1 == pytest.approx(2 * both / (true_px + found_px))
    assert pixels.accuracy == pytest.approx(np.trace(pixels.confusion) / pixels.confusion.sum())


def test_a_picture_whose_company_is_unknown_counts_in_the_whole_alone(samples: list[Sample]) -> None:
    plain = Sample(name="plain", celsius=samples[0].celsius, parts=samples[0].parts, instances=samples[0].instances)
    board = Scoreboard()
    board.add(plain, as_found(plain))
    assert set(board.measures()) == {ALL}


def test_labels_without_animals_leave_the_measures_of_animals_out(samples: list[Sample]) -> None:
    board = Scoreboard()
    board.add(samples[0], Found(parts=samples[0].parts, instances=None))
    group = board.measures()[ALL]
    assert group.animals is None
    assert group.record()["animals"] is None


def test_the_record_is_json_without_nan(samples: list[Sample]) -> None:
    board = Scoreboard()
    board.add(samples[0], shifted(samples[0], 200))
    empty = np.zeros_like(samples[0].parts)
    board.add(
        Sample(name="empty", celsius=samples[0].celsius, parts=empty, instances=empty.copy(), contact=Contact.APART),
        Found(parts=empty, instances=empty),
    )
    for group in board.measures().values():
        text = json.dumps(group.record(), allow_nan=False)
        assert set(json.loads(text)["boundary_f1"]) == {part.name.lower() for part in BodyPart}
    multiclass = json.loads(json.dumps(multiclass_record(board.measures()[ALL].pixels), allow_nan=False))
    assert set(multiclass["classes"]) == {"background", "head", "body", "tail"}
    assert np.array(multiclass["confusion"]["pixels_true_by_row"]).sum() == 2 * 192 * 256
