"""Receiver operating characteristic and precision-recall of each label, gathered picture by picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.verdict import CLASS_NAMES

_BINS = 1000
"""Scores are told apart to a thousandth: curves to the eye, areas to four digits, memory that does not grow."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelCurves:
    """One label against all others, from the strictest threshold to none; all values 0 to 1."""

    recall: NDArray[np.float64]
    """True positive rate."""
    fall_out: NDArray[np.float64]
    """False positive rate."""
    precision: NDArray[np.float64]
    roc_area: float
    """Area under recall over fall-out, by trapezia."""
    average_precision: float
    """Sum of precision times the step in recall."""


class ThresholdCurves:
    """Histograms of the scores of each label, over pixels that have it and over those that have not.

    Notes
    -----
    The models give the probability p of the label chosen and of no other. The score of that label is p, and each of the
    others has an equal share of the rest, (1 - p) / 3. So the curves are exact for thresholds from one half on, and an
    approximation below. Labels without probabilities score 1 or 0: two straight lines.
    """

    def __init__(self) -> None:
        count = len(CLASS_NAMES)
        self._with_label = np.zeros((count, _BINS + 1), np.int64)
        self._without = np.zeros((count, _BINS + 1), np.int64)

    def add(self, true: NDArray[np.uint8], found: NDArray[np.uint8], confidence: NDArray[np.float32] | None) -> None:
        """Count the pixels of a picture; all arrays have one shape."""
        sure = np.ones(found.shape) if confidence is None else np.clip(confidence.astype(np.float64), 0, 1)
        others = len(CLASS_NAMES) - 1
        chosen_bin = np.rint(sure * _BINS).astype(np.intp)
        other_bin = np.rint((1 - sure) / others * _BINS).astype(np.intp)
        for label in range(len(CLASS_NAMES)):
            bins = np.where(found == label, chosen_bin, other_bin)
            here = true == label
            self._with_label[label] += np.bincount(bins[here], minlength=_BINS + 1)
            self._without[label] += np.bincount(bins[~here], minlength=_BINS + 1)

    def of(self, label: int) -> LabelCurves | None:
        """The curves of a label; None where no pixel has it, or all have."""
        with_label, without = self._with_label[label], self._without[label]
        if not with_label.any() or not without.any():
            return None
        used = (with_label + without)[::-1] > 0
        true_positives = np.cumsum(with_label[::-1])[used]
        false_positives = np.cumsum(without[::-1])[used]
        recall = np.concatenate(([0.0], true_positives / with_label.sum()))
        fall_out = np.concatenate(([0.0], false_positives / without.sum()))
        precision = true_positives / (true_positives + false_positives)
        precision = np.concatenate((precision[:1], precision))
        return LabelCurves(
            recall=recall,
            fall_out=fall_out,
            precision=precision,
            roc_area=float(np.trapezoid(recall, fall_out)),
            average_precision=float((np.diff(recall) * precision[1:]).sum()),
        )
