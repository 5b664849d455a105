"""How well animals are told apart: panoptic quality and average precision, from the overlaps of masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Labels = NDArray[np.uint8]
Overlaps = NDArray[np.float64]

MATCHED_FROM_IOU = 0.5
"""Above it a mask can overlap only one other so much: the match needs no search (Kirillov et al. 2019, section 4.1)."""

AP_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.50 to 0.95, those of the COCO challenge."""

_RECALLS = np.linspace(0, 1, 101)
"""At these COCO reads precision off."""


def overlaps(true: Labels, found: Labels) -> Overlaps:
    """Intersection over union of each true animal with each found one.

    Parameters
    ----------
    true, found : (height, width) uint8
        0 background, otherwise numbers of animals.

    Returns
    -------
    (n_true, n_found) float64
        In ascending order of the numbers; 0 rows or columns where there is no animal.
    """
    true_numbers, found_numbers = np.unique(true[true > 0]), np.unique(found[found > 0])
    joint = np.bincount(true.ravel().astype(np.intp) * 256 + found.ravel(), minlength=256 * 256).reshape(256, 256)
    common = joint[np.ix_(true_numbers, found_numbers)]
    true_px, found_px = joint.sum(axis=1)[true_numbers], joint.sum(axis=0)[found_numbers]
    return np.asarray(common / (true_px[:, np.newaxis] + found_px - common), np.float64)


def assigned(overlap: Overlaps) -> list[tuple[int, int]]:
    """Row and column of each pair when animals are matched one to one so that the sum of overlaps is greatest.

    Pairs without any overlap are left out.
    """
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if overlap[row, column] > 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PanopticQuality:
    """PQ and its two factors, 0 to 1."""

    pq: float
    sq: float
    """Segmentation quality: mean overlap of the matched."""
    rq: float
    """Recognition quality: the F1 of finding."""


def panoptic_quality(frames: Sequence[Overlaps]) -> PanopticQuality | None:
    """Panoptic quality of one class over pictures; None where there is nothing true and nothing was found.

    Parameters
    ----------
    frames : sequence of (n_true, n_found) float64
        `overlaps` of each picture.

    Notes
    -----
    PQ = sum of IoU over matches / (matches + half the unmatched true + half the unmatched found), SQ = mean IoU of
    matches, RQ = PQ / SQ; matched is what overlaps by more than half. Source: Kirillov et al., *Panoptic Segmentation*,
    CVPR 2019, equation 1. `torchmetrics.detection.PanopticQuality` gives the same numbers at 0.6 s a picture on the
    CPU; this takes them from overlaps that are there anyway.
    """
    matched = [overlap[overlap > MATCHED_FROM_IOU] for overlap in frames]
    count = sum(map(len, matched))
    alone = sum(sum(overlap.shape) for overlap in frames) - 2 * count
    if not count and not alone:
        return None
    total = float(sum(map(np.sum, matched)))
    return PanopticQuality(
        pq=total / (count + alone / 2), sq=total / count if count else 0.0, rq=count / (count + alone / 2)
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """What was found in one picture, for average precision."""

    overlap: Overlaps
    """(n_true, n_found)."""
    scores: NDArray[np.float64]
    """(n_found,), how sure each is."""


def average_precision(frames: Sequence[Detections], iou: float) -> float | None:
    """Average precision of masks at one overlap, 0 to 1; None where there is no true animal.

    Notes
    -----
    As COCO defines it (cocodataset.org, "Detection evaluation", and `COCOeval` of its API): in each picture the found,
    surest first, take the free true animal that they overlap most, if by at least `iou`; over all pictures, surest
    first, precision is made never to rise with recall and is averaged over the recalls 0, 0.01 ... 1. Areas of all
    sizes count. `torchmetrics` has it too, but not without torchvision.
    """
    true_count = sum(frame.overlap.shape[0] for frame in frames)
    if not true_count:
        return None
    scores: list[float] = []
    hits: list[bool] = []
    for frame in frames:
        order = np.argsort(-frame.scores, kind="stable")
        scores += frame.scores[order].tolist()
        hits += _hits(frame.overlap[:, order], iou)
    if not hits:
        return 0.0
    ranked = np.array(hits)[np.argsort(-np.array(scores), kind="stable")]
    true_positives = np.cumsum(ranked)
    recall = true_positives / true_count
    precision = true_positives / np.arange(1, len(ranked) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())


def _hits(overlap: Overlaps, iou: float) -> list[bool]:
    """Whether each found one, surest first, gets a true one."""
    free = np.ones(overlap.shape[0], bool)
    hits = []
    for column in overlap.T:
        reachable = np.where(free, column, 0.0)
        best = int(reachable.argmax()) if reachable.size else 0
        hit = bool(reachable.size) and reachable[best] >= iou
        if hit:
            free[best] = False
        hits.append(hit)
    return hits
