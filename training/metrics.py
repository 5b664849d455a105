"""Measures over many pictures, whatever made the labels: parts, animals, and degrees that a wrong mask costs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)

from daemon.vision.parts import BodyPart
from drivers.vivarium.truth import Contact
from training.instance_measures import AP_THRESHOLDS, average_precision, panoptic_quality
from training.samples import Sample
from training.verdict import CLASS_NAMES, AnimalsVerdict, Figure, Found, FrameVerdict, judge

ALL = "all"
"""The group of all pictures; the others are the values of `Contact`."""

GROUPS = (*(contact.value for contact in Contact), ALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMeasures:
    """How well one label is found, 0 to 1; None where it is in neither truth nor finding."""

    iou: Figure
    f1: Figure
    precision: Figure
    recall: Figure
    boundary_f1: Figure
    """Mean over the pictures where the part is in truth or finding; None for the background."""
    true_px: int
    found_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureMeasures:
    """What masks cost in the mean temperature of a part, °C."""

    parts: int
    """Parts of true animals that are seen."""
    found_share: Figure
    """So many of them were found; the figures below are theirs."""
    bias_celsius: Figure
    mean_absolute_celsius: Figure
    p95_absolute_celsius: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMeasures:
    """All measures over a group of pictures."""

    frames: int
    animals: int | None
    """True animals; None where labels do not tell them apart, as with all measures of animals."""
    classes: Mapping[str, ClassMeasures]
    accuracy: Figure
    """Share of pixels with the right label."""
    balanced_accuracy: Figure
    """Mean recall of the labels, background among them."""
    mean_iou_parts: Figure
    """Mean IoU of head, body and tail: without background."""
    mean_iou_all: Figure
    """The same with background."""
    animal_iou: Figure
    """IoU of animal, whichever part, against background."""
    tail_centerline_dice: Figure
    pq: Figure
    sq: Figure
    rq: Figure
    part_pq: Mapping[str, Figure]
    """PQ where each part of each animal is a segment by itself: a tail given to the wrong animal is a false one."""
    ap50: Figure
    ap50_95: Figure
    count_right_share: Figure
    """Share of pictures in which as many animals were found as are seen."""
    mean_count_error: Figure
    """Found less true animals, mean over pictures."""
    mean_instance_iou: Figure
    """Over true animals; one that was not found counts 0."""
    instances_from_078_share: Figure
    """Share of true animals found with an IoU of at least 0.78."""
    ends_right_share: Figure
    """Of animals whose head and tail are seen and found: head and tail at the right ends."""
    temperature: Mapping[str, TemperatureMeasures]


INSTANCE_GOOD_FROM_IOU = 0.78
"""From here on an animal counts as well outlined."""


@dataclass(slots=True, eq=False)
class _Group:
    """Gathers the pictures of one group."""

    pixels: MetricCollection = field(default_factory=lambda: _pixel_metrics())
    verdicts: list[FrameVerdict] = field(default_factory=list)

    def add(self, verdict: FrameVerdict, found: torch.Tensor, true: torch.Tensor) -> None:
        self.pixels.update(found, true)
        self.verdicts.append(verdict)

    def measures(self) -> GroupMeasures:
        pixels = {name: value.double().numpy() for name, value in self.pixels.compute().items()}
        confusion = np.rint(pixels["confusion"]).astype(np.int64)
        present = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
        ious = [float(iou) if there else None for iou, there in zip(pixels["iou"], present, strict=True)]
        told_apart = [verdict.animals for verdict in self.verdicts if verdict.animals is not None]
        detections = [verdict.detections for verdict in told_apart]
        quality = panoptic_quality([one.overlap for one in detections])
        precisions = [average_precision(detections, iou) for iou in AP_THRESHOLDS]
        errors = [verdict.count_error for verdict in told_apart]
        instance_ious = [iou for verdict in told_apart for iou in verdict.instance_iou]
        return GroupMeasures(
            frames=len(self.verdicts),
            animals=sum(one.overlap.shape[0] for one in detections) if detections else None,
            classes={
                name: ClassMeasures(
                    iou=ious[label],
                    **{
                        key: float(pixels[key][label]) if present[label] else None
                        for key in ("f1", "precision", "recall")
                    },
                    boundary_f1=mean_of(verdict.boundary_f1[BodyPart(label)] for verdict in self.verdicts if label > 0),
                    true_px=int(confusion[label].sum()),
                    found_px=int(confusion[:, label].sum()),
                )
                for label, name in enumerate(CLASS_NAMES)
            },
            accuracy=float(pixels["accuracy"]) if present.any() else None,
            balanced_accuracy=mean_of(
                float(recall) for recall, true in zip(pixels["recall"], confusion.sum(axis=1), strict=True) if true
            ),
            mean_iou_parts=mean_of(ious[1:]),
            mean_iou_all=mean_of(ious),
            animal_iou=_animal_iou(confusion),
            tail_centerline_dice=mean_of(verdict.tail_centerline_dice for verdict in self.verdicts),
            pq=quality.pq if quality else None,
            sq=quality.sq if quality else None,
            rq=quality.rq if quality else None,
            part_pq={part.name.lower(): _part_pq(told_apart, part) for part in BodyPart},
            ap50=precisions[0],
            ap50_95=mean_of(precisions),
            count_right_share=mean_of(float(error == 0) for error in errors),
            mean_count_error=mean_of(errors),
            mean_instance_iou=mean_of(instance_ious),
            instances_from_078_share=mean_of(float(iou >= INSTANCE_GOOD_FROM_IOU) for iou in instance_ious),
            ends_right_share=mean_of(float(right) for verdict in told_apart for right in verdict.ends_right),
            temperature={part.name.lower(): _temperature(told_apart, part) for part in BodyPart},
        )


def _pixel_metrics() -> MetricCollection:
    count = len(CLASS_NAMES)
    return MetricCollection(
        {
            "iou": MulticlassJaccardIndex(count, average=None, validate_args=False),
            "f1": MulticlassF1Score(count, average=None, validate_args=False),
            "precision": MulticlassPrecision(count, average=None, validate_args=False),
            "recall": MulticlassRecall(count, average=None, validate_args=False),
            "accuracy": MulticlassAccuracy(count, average="micro", validate_args=False),
            "confusion": MulticlassConfusionMatrix(count, validate_args=False),
        }
    )


def mean_of(values: Iterable[Figure]) -> Figure:
    """Mean of those that are there; None where there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _animal_iou(confusion: NDArray[np.int64]) -> Figure:
    union = int(confusion.sum() - confusion[0, 0])
    return float(confusion[1:, 1:].sum() / union) if union else None


def _part_pq(verdicts: list[AnimalsVerdict], part: BodyPart) -> Figure:
    quality = panoptic_quality([verdict.part_overlaps[part] for verdict in verdicts])
    return quality.pq if quality else None


def _temperature(verdicts: list[AnimalsVerdict], part: BodyPart) -> TemperatureMeasures:
    those = [one.error_celsius for verdict in verdicts for one in verdict.temperatures if one.part is part]
    errors = np.array([error for error in those if error is not None])
    some = errors.size > 0
    return TemperatureMeasures(
        parts=len(those),
        found_share=errors.size / len(those) if those else None,
        bias_celsius=float(errors.mean()) if some else None,
        mean_absolute_celsius=float(np.abs(errors).mean()) if some else None,
        p95_absolute_celsius=float(np.percentile(np.abs(errors), 95)) if some else None,
    )


class Scoreboard:
    """Gathers judged pictures into measures over all, and over those with animals apart, touching and huddled."""

    def __init__(self) -> None:
        self._groups = {name: _Group() for name in GROUPS}

    def add(self, truth: Sample, found: Found) -> FrameVerdict:
        """Judge a picture and count it; the same errors as `judge`."""
        verdict = judge(truth, found)
        true_labels, found_labels = (
            torch.from_numpy(parts.astype(np.int64))[None] for parts in (truth.parts, found.parts)
        )
        for name in (ALL, truth.contact.value) if truth.contact is not None else (ALL,):
            self._groups[name].add(verdict, found_labels, true_labels)
        return verdict

    def confusion(self) -> NDArray[np.int64]:
        """(4, 4) pixels of all pictures, true label by row, found label by column."""
        count = len(CLASS_NAMES)
        return sum((verdict.confusion for verdict in self._groups[ALL].verdicts), np.zeros((count, count), np.int64))

    def measures(self) -> dict[str, GroupMeasures]:
        """Measures of each group that has a picture, the group of all last."""
        return {name: group.measures() for name, group in self._groups.items() if group.verdicts}
