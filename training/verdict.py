"""One picture judged: what was found in it against what is true."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart
from training.instance_measures import Detections, Overlaps, assigned, overlaps, panoptic_quality
from training.samples import Sample
from training.shape_measures import boundary_f1, centerline_dice

CLASS_NAMES = ("background", *(part.name.lower() for part in BodyPart))
"""By label."""

Figure = float | None
"""A measure; None where there was nothing to measure."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What was found in a picture. All arrays have the shape (192, 256)."""

    parts: NDArray[np.uint8]
    """0 background, otherwise a `BodyPart`."""
    instances: NDArray[np.uint8] | None
    """0 background, otherwise the number of an animal; None where animals were not told apart."""
    confidence: NDArray[np.float32] | None = None
    """Probability of the label chosen; None where none is known, which counts as certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTemperature:
    """What the mask of one part of one animal does to its temperature."""

    part: BodyPart
    error_celsius: Figure
    """Mean of the true surface over the found part, less that over the true part; None where the part of this animal
    was not found."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnimalsVerdict:
    """The animals of one picture judged."""

    detections: Detections
    part_overlaps: Mapping[BodyPart, Overlaps]
    """As `detections.overlap` for each part by itself: a part at the wrong animal matches nothing."""
    instance_iou: tuple[float, ...]
    """Of each true animal with the one found that it is matched to, 0 without any."""
    ends_right: tuple[bool, ...]
    """Of each matched animal whose head and tail are seen in both: whether they lie at the right ends."""
    temperatures: tuple[PartTemperature, ...]

    @property
    def count_error(self) -> int:
        """Found less true animals."""
        true, found = self.detections.overlap.shape
        return int(found - true)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameVerdict:
    """One picture judged."""

    confusion: NDArray[np.int64]
    """(4, 4) pixels, true label by row, found label by column."""
    part_iou: Mapping[BodyPart, Figure]
    """Of this picture alone; None where a part is in neither."""
    boundary_f1: Mapping[BodyPart, Figure]
    tail_centerline_dice: Figure
    animals: AnimalsVerdict | None
    """None where truth or finding does not tell animals apart."""

    @property
    def score(self) -> float:
        """The picture is as good as the worse of its parts (mean IoU) and its animals (PQ); 1 where rightly empty."""
        ious = [iou for iou in self.part_iou.values() if iou is not None]
        quality = None if self.animals is None else panoptic_quality([self.animals.detections.overlap])
        return min(float(np.mean(ious)) if ious else 1.0, 1.0 if quality is None else quality.pq)


def judge(truth: Sample, found: Found) -> FrameVerdict:
    """Compare what was found in a picture with what is true.

    Raises
    ------
    ValueError
        If the arrays differ in shape.
    """
    if found.parts.shape != truth.parts.shape:
        raise ValueError(f"{truth.name}: expected parts of shape {truth.parts.shape}, got {found.parts.shape}")
    confusion = _confusion(truth.parts, found.parts)
    animals = _judge_animals(truth, found, truth.instances, found.instances)
    return FrameVerdict(
        confusion=confusion,
        part_iou={part: _iou(confusion, part) for part in BodyPart},
        boundary_f1={part: boundary_f1(truth.parts == part, found.parts == part) for part in BodyPart},
        tail_centerline_dice=centerline_dice(truth.parts == BodyPart.TAIL, found.parts == BodyPart.TAIL),
        animals=animals,
    )


def _judge_animals(
    truth: Sample, found: Found, true_instances: NDArray[np.uint8] | None, found_instances: NDArray[np.uint8] | None
) -> AnimalsVerdict | None:
    if true_instances is None or found_instances is None:
        return None
    overlap = overlaps(true_instances, found_instances)
    pairs = assigned(overlap)
    ious = np.zeros(overlap.shape[0])
    for row, column in pairs:
        ious[row] = overlap[row, column]
    matched = _matched(true_instances, found_instances, pairs)
    ends = (_ends_right(truth.parts, found.parts, true, other) for true, other in matched)
    return AnimalsVerdict(
        detections=Detections(overlap=overlap, scores=_scores(found_instances, found.confidence)),
        part_overlaps={
            part: overlaps(true_instances * (truth.parts == part), found_instances * (found.parts == part))
            for part in BodyPart
        },
        instance_iou=tuple(ious.tolist()),
        ends_right=tuple(right for right in ends if right is not None),
        temperatures=tuple(_temperatures(truth, found.parts, matched)),
    )


def _confusion(true: NDArray[np.uint8], found: NDArray[np.uint8]) -> NDArray[np.int64]:
    count = len(CLASS_NAMES)
    joint = np.bincount(true.ravel().astype(np.intp) * count + found.ravel(), minlength=count * count)
    return joint.reshape(count, count).astype(np.int64)


def _iou(confusion: NDArray[np.int64], label: int) -> Figure:
    union = int(confusion[label].sum() + confusion[:, label].sum() - confusion[label, label])
    return float(confusion[label, label] / union) if union else None


def _scores(instances: NDArray[np.uint8], confidence: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Mean confidence over the pixels of each animal found."""
    numbers = np.unique(instances[instances > 0])
    if confidence is None:
        return np.ones(len(numbers))
    return np.array([float(confidence[instances == number].mean()) for number in numbers])


_Match = tuple[Mask, Mask | None]
"""Mask of a true animal and of the one found; None where there is none."""


def _matched(true: NDArray[np.uint8], found: NDArray[np.uint8], pairs: list[tuple[int, int]]) -> list[_Match]:
    partner = dict(pairs)
    found_numbers = np.unique(found[found > 0])
    return [
        (true == number, found == found_numbers[partner[row]] if row in partner else None)
        for row, number in enumerate(np.unique(true[true > 0]))
    ]


def _ends_right(
    true_parts: NDArray[np.uint8],
    found_parts: NDArray[np.uint8],
    true: Mask,
    found: Mask | None,
) -> bool | None:
    """Whether the found head lies nearer to the true head than to the true tail, and the found tail nearer to the tail.

    None where one of the four is missing.
    """
    if found is None:
        return None
    masks = (
        true & (true_parts == BodyPart.HEAD),
        true & (true_parts == BodyPart.TAIL),
        found & (found_parts == BodyPart.HEAD),
        found & (found_parts == BodyPart.TAIL),
    )
    if not all(mask.any() for mask in masks):
        return None
    head, tail, found_head, found_tail = (np.argwhere(mask).mean(axis=0) for mask in masks)
    return _is_nearer(found_head, head, tail) and _is_nearer(found_tail, tail, head)


def _is_nearer(point: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool(np.linalg.norm(point - one) < np.linalg.norm(point - other))


def _temperatures(truth: Sample, found_parts: NDArray[np.uint8], matched: list[_Match]) -> Iterable[PartTemperature]:
    """The parts of all true animals that are seen and have a temperature."""
    if not truth.degrees_known:
        return
    celsius = truth.celsius if truth.surface_celsius is None else truth.surface_celsius
    for true, found in matched:
        for part in BodyPart:
            expected = _mean(celsius[true & (truth.parts == part)])
            if expected is None:
                continue
            measured = None if found is None else _mean(celsius[found & (found_parts == part)])
            yield PartTemperature(part=part, error_celsius=None if measured is None else measured - expected)


def _mean(values: NDArray[np.float32]) -> Figure:
    known = values[np.isfinite(values)]
    return float(known.mean(dtype=np.float64)) if known.size else None
