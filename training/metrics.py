"""Measures over many pictures, whatever made the labels: parts, animals, and degrees that a wrong mask costs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torchmetrics import MetricCollection

from daemon.vision.parts import BodyPart
from drivers.vivarium.truth import Contact
from training.instance_measures import AP_THRESHOLDS, average_precision, panoptic_quality
from training.pixel_measures import PixelMeasures, mean_of, multiclass_record, pixel_measures, pixel_metrics
from training.samples import Sample
from training.verdict import AnimalsVerdict, Figure, Found, FrameVerdict, judge

ALL = "all"
"""The group of all pictures; the others are the values of `Contact`."""

GROUPS = (*(contact.value for contact in Contact), ALL)

GOOD_FROM_IOU = 0.78
"""From here on an animal counts as well outlined."""


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
class AnimalMeasures:
    """How well animals are found, 0 to 1; None where there is nothing to measure."""

    animals: int
    """True ones."""
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
    good_share: Figure
    """Share of true animals found with an IoU of at least `GOOD_FROM_IOU`."""
    ends_right_share: Figure
    """Of animals whose head and tail are seen and found: head and tail at the right ends."""
    temperature: Mapping[str, TemperatureMeasures]
    """By name of the part."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupMeasures:
    """All measures over a group of pictures."""

    frames: int
    pixels: PixelMeasures
    boundary_f1: Mapping[str, Figure]
    """By name of the part, mean over the pictures where it is in truth or finding."""
    tail_centerline_dice: Figure
    """The same for clDice."""
    animals: AnimalMeasures | None
    """None where labels do not tell animals apart."""

    def record(self) -> dict[str, object]:
        """As it is written into files."""
        return {
            "frames": self.frames,
            **multiclass_record(self.pixels),
            "boundary_f1": dict(self.boundary_f1),
            "tail_centerline_dice": self.tail_centerline_dice,
            "animals": None if self.animals is None else asdict(self.animals),
        }


@dataclass(slots=True, eq=False)
class _Group:
    """Gathers the pictures of one group."""

    pixels: MetricCollection = field(default_factory=pixel_metrics)
    verdicts: list[FrameVerdict] = field(default_factory=list)

    def measures(self) -> GroupMeasures:
        told_apart = [verdict.animals for verdict in self.verdicts if verdict.animals is not None]
        return GroupMeasures(
            frames=len(self.verdicts),
            pixels=pixel_measures(self.pixels.compute()),
            boundary_f1={
                part.name.lower(): mean_of(verdict.boundary_f1[part] for verdict in self.verdicts) for part in BodyPart
            },
            tail_centerline_dice=mean_of(verdict.tail_centerline_dice for verdict in self.verdicts),
            animals=_animal_measures(told_apart) if told_apart else None,
        )


def _animal_measures(verdicts: Sequence[AnimalsVerdict]) -> AnimalMeasures:
    detections = [verdict.detections for verdict in verdicts]
    quality = panoptic_quality([one.overlap for one in detections])
    precisions = [average_precision(detections, iou) for iou in AP_THRESHOLDS]
    ious = [iou for verdict in verdicts for iou in verdict.instance_iou]
    return AnimalMeasures(
        animals=len(ious),
        pq=quality.pq if quality else None,
        sq=quality.sq if quality else None,
        rq=quality.rq if quality else None,
        part_pq={part.name.lower(): _part_pq(verdicts, part) for part in BodyPart},
        ap50=precisions[0],
        ap50_95=mean_of(precisions),
        count_right_share=mean_of(float(verdict.count_error == 0) for verdict in verdicts),
        mean_count_error=mean_of(verdict.count_error for verdict in verdicts),
        mean_instance_iou=mean_of(ious),
        good_share=mean_of(float(iou >= GOOD_FROM_IOU) for iou in ious),
        ends_right_share=mean_of(float(right) for verdict in verdicts for right in verdict.ends_right),
        temperature={part.name.lower(): _temperature(verdicts, part) for part in BodyPart},
    )


def _part_pq(verdicts: Sequence[AnimalsVerdict], part: BodyPart) -> Figure:
    quality = panoptic_quality([verdict.part_overlaps[part] for verdict in verdicts])
    return quality.pq if quality else None


def _temperature(verdicts: Sequence[AnimalsVerdict], part: BodyPart) -> TemperatureMeasures:
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
            self._groups[name].pixels.update(found_labels, true_labels)
            self._groups[name].verdicts.append(verdict)
        return verdict

    def measures(self) -> dict[str, GroupMeasures]:
        """Measures of each group that has a picture, the group of all last."""
        return {name: group.measures() for name, group in self._groups.items() if group.verdicts}
