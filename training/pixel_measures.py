"""How well pixels are labelled: torchmetrics over pictures, and what `metrics_multiclass.json` says of it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)

from training.verdict import CLASS_NAMES, Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMeasures:
    """How well one label is found, 0 to 1; None where it is in neither truth nor finding."""

    iou: Figure
    f1: Figure
    precision: Figure
    recall: Figure
    """Also called the accuracy of the label."""
    true_px: int
    found_px: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelMeasures:
    """How well all labels are found, 0 to 1; None where there is nothing to measure."""

    classes: Mapping[str, ClassMeasures]
    """By name of the label."""
    accuracy: Figure
    """Share of pixels with the right label."""
    balanced_accuracy: Figure
    """Mean recall of the labels that are there, background among them."""
    mean_iou_parts: Figure
    """Mean IoU of head, body and tail: without background."""
    mean_iou_all: Figure
    """The same with background."""
    animal_iou: Figure
    """IoU of animal, whichever part, against background."""
    confusion: NDArray[np.int64]
    """(4, 4) pixels, true label by row, found label by column."""


def pixel_metrics() -> MetricCollection:
    """What gathers labels, to be fed with (found, true) integer tensors of one shape; see `pixel_measures`."""
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


def pixel_measures(computed: Mapping[str, Tensor]) -> PixelMeasures:
    """The measures from what `pixel_metrics().compute()` gives."""
    values = {name: value.double().cpu().numpy() for name, value in computed.items()}
    confusion = np.rint(values["confusion"]).astype(np.int64)
    true_px, found_px = confusion.sum(axis=1), confusion.sum(axis=0)
    classes = {
        name: ClassMeasures(
            **{
                measure: float(values[measure][label]) if true_px[label] + found_px[label] else None
                for measure in ("iou", "f1", "precision", "recall")
            },
            true_px=int(true_px[label]),
            found_px=int(found_px[label]),
        )
        for label, name in enumerate(CLASS_NAMES)
    }
    union = int(confusion.sum() - confusion[0, 0])
    return PixelMeasures(
        classes=classes,
        accuracy=float(values["accuracy"]) if true_px.any() else None,
        balanced_accuracy=mean_of(one.recall for one in classes.values() if one.true_px),
        mean_iou_parts=mean_of(classes[name].iou for name in CLASS_NAMES[1:]),
        mean_iou_all=mean_of(one.iou for one in classes.values()),
        animal_iou=float(confusion[1:, 1:].sum() / union) if union else None,
        confusion=confusion,
    )


def multiclass_record(measures: PixelMeasures) -> dict[str, object]:
    """The content of `metrics_multiclass.json`: each label by itself, their means, and the confusion they come from."""
    return {
        "classes": {name: asdict(one) for name, one in measures.classes.items()},
        "mean_iou": measures.mean_iou_all,
        "mean_iou_without_background": measures.mean_iou_parts,
        "animal_iou": measures.animal_iou,
        "accuracy": measures.accuracy,
        "balanced_accuracy": measures.balanced_accuracy,
        "confusion": {"labels": list(CLASS_NAMES), "pixels_true_by_row": measures.confusion.tolist()},
    }


def mean_of(values: Iterable[Figure]) -> Figure:
    """Mean of those that are there; None where there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
