"""Panoptic quality and average precision: worked out by hand, and against other implementations."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import PanopticQuality

from training.instance_measures import (
    AP_THRESHOLDS,
    Detections,
    assigned,
    average_precision,
    overlaps,
    panoptic_quality,
)

Labels = NDArray[np.uint8]


def strip(*numbers: int) -> Labels:
    """A picture one pixel high."""
    return np.array([numbers], np.uint8)


def random_pair(seed: int) -> tuple[Labels, Labels, NDArray[np.float64]]:
    """Animals as rectangles, and the same moved, some missing, some invented, with scores."""
    rng = np.random.default_rng(seed)
    true, found = np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8)
    for number in range(1, int(rng.integers(1, 6))):
        y, x, height, width = rng.integers((0, 0, 8, 8), (45, 60, 25, 30))
        true[y : y + height, x : x + width] = number
        if rng.random() < 0.8:
            dy, dx = rng.integers(-3, 4, 2)
            y, x = max(y + dy, 0), max(x + dx, 0)
            found[y : y + height, x : x + width] = number + 10
    if rng.random() < 0.4:
        found[50:58, 60:78] = 99
    return true, found, rng.random(len(np.unique(found[found > 0])))


def test_overlaps_are_intersection_over_union() -> None:
    found = overlaps(strip(1, 1, 1, 1, 0, 7, 7), strip(2, 2, 0, 3, 3, 0, 0))
    assert found.tolist() == [[2 / 4, 1 / 5], [0, 0]]


def test_without_animals_there_are_no_overlaps() -> None:
    assert overlaps(strip(0, 0), strip(0, 4)).shape == (0, 1)
    assert overlaps(strip(3, 0), strip(0, 0)).shape == (1, 0)


def test_animals_are_matched_so_that_all_together_overlap_most() -> None:
    # The first true one alone would take column 0; together 0.5 + 0.4 is more than 0.6 + 0.
    assert assigned(np.array(((0.6, 0.5), (0.4, 0.0)))) == [(0, 1), (1, 0)]


def test_animals_without_any_overlap_are_not_matched() -> None:
    assert assigned(np.array(((0.0, 0.0), (0.0, 0.3)))) == [(1, 1)]


def test_panoptic_quality_of_a_case_worked_out_by_hand() -> None:
    # One matched with 0.8, one true one missed, two invented: PQ = 0.8 / (1 + 0.5 + 1) = 0.32.
    quality = panoptic_quality([np.array(((0.8, 0.1, 0.0), (0.1, 0.5, 0.0)))])
    assert quality is not None
    assert (quality.pq, quality.sq, quality.rq) == pytest.approx((0.32, 0.8, 0.4))


def test_half_an_overlap_is_no_match() -> None:
    quality = panoptic_quality([np.array(((0.5,),))])
    assert quality is not None
    assert (quality.pq, quality.sq, quality.rq) == (0, 0, 0)


def test_nothing_where_nothing_is_has_no_quality() -> None:
    assert panoptic_quality([np.zeros((0, 0))]) is None


def test_something_where_nothing_is_has_no_worth() -> None:
    quality = panoptic_quality([np.zeros((0, 1))])
    assert quality is not None
    assert quality.pq == 0


def test_panoptic_quality_is_that_of_torchmetrics() -> None:
    pairs = [random_pair(seed)[:2] for seed in range(12)]
    theirs = PanopticQuality(things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
    for true, found in pairs:
        as_pairs = [
            torch.from_numpy(np.stack((labels > 0, labels), axis=-1).astype(np.int64))[None] for labels in (found, true)
        ]
        theirs.update(*as_pairs)
    ours = panoptic_quality([overlaps(true, found) for true, found in pairs])
    assert ours is not None
    assert 0.2 < ours.pq < 0.9, "the case is neither trivial nor empty"
    assert (ours.pq, ours.sq, ours.rq) == pytest.approx(theirs.compute()[0].tolist())


def test_average_precision_of_a_case_worked_out_by_hand() -> None:
    # Surest first: hit, miss, hit; two true ones. Precision 1 up to recall 0.5 (51 of 101 recalls), then 2/3.
    frame = Detections(overlap=np.array(((0.9, 0.0, 0.0), (0.0, 0.0, 0.7))), scores=np.array((0.9, 0.8, 0.7)))
    assert average_precision([frame], 0.5) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert average_precision([frame], 0.75) == pytest.approx(51 / 101)


def test_a_true_animal_is_found_only_once() -> None:
    twice = Detections(overlap=np.array(((0.6, 0.7),)), scores=np.array((0.9, 0.8)))
    assert average_precision([twice], 0.5) == 1, "the second is invented, but recall is 1 already"
    assert average_precision([twice], 0.65) == pytest.approx(0.5), "the surer one misses"


def test_average_precision_without_true_animals_is_none_and_without_found_ones_zero() -> None:
    assert average_precision([Detections(overlap=np.zeros((0, 2)), scores=np.ones(2))], 0.5) is None
    assert average_precision([Detections(overlap=np.zeros((2, 0)), scores=np.ones(0))], 0.5) == 0


def coco_precisions(pairs: list[tuple[Labels, Labels, NDArray[np.float64]]]) -> dict[float, float]:
    """Average precision at each threshold as COCO's own program has it."""
    images: list[dict[str, Any]] = []
    truths: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, (true, found, scores) in enumerate(pairs, start=1):
        images.append({"id": number, "height": true.shape[0], "width": true.shape[1]})
        for label in np.unique(true[true > 0]):
            encoded = coco_mask.encode(np.asfortranarray((true == label).astype(np.uint8)))
            area = float(coco_mask.area(encoded))
            truths.append(
                {"id": len(truths) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "area": area}
                | {"segmentation": encoded, "bbox": list(coco_mask.toBbox(encoded))}
            )
        for label, score in zip(np.unique(found[found > 0]), scores, strict=True):
            encoded = coco_mask.encode(np.asfortranarray((found == label).astype(np.uint8)))
            results.append({"image_id": number, "category_id": 1, "segmentation": encoded, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": truths, "categories": [{"id": 1}]}
        coco.createIndex()
        evaluation: Any = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, -1]
    return dict(zip(AP_THRESHOLDS, precision.mean(axis=1).tolist(), strict=True))


def test_average_precision_is_that_of_cocos_own_program() -> None:
    pairs = [random_pair(seed) for seed in range(40)]
    frames = [Detections(overlap=overlaps(true, found), scores=scores) for true, found, scores in pairs]
    ours = {iou: average_precision(frames, iou) for iou in AP_THRESHOLDS}
    theirs = coco_precisions(pairs)
    assert 0.2 < theirs[0.5] < 0.95, "the case is neither trivial nor empty"
    assert ours == pytest.approx(theirs, abs=1e-9)
