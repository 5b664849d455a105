"""What a frame shows of one animal, as far as it helps to know it again."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart, Segmentation

Point = tuple[float, float]

_LABELS = 4
"""Background and the three parts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sighting:
    """One instance of a frame."""

    instance: int
    pixels: NDArray[np.intp]
    """Places of its pixels in the flattened picture."""
    x_px: float
    """Centre of head and body, column; of the tail where nothing else is seen."""
    y_px: float
    trunk_px: int
    """Pixels of head and body."""
    centres: dict[BodyPart, Point]
    """Of each part that is seen, (x, y)."""
    celsius: dict[BodyPart, float]
    """Mean of each part that has a temperature."""

    @property
    def axis(self) -> Point | None:
        """Direction (x, y) of length 1 from body to head, else from tail to body, as labelled; None without either."""
        for front, back in ((BodyPart.HEAD, BodyPart.BODY), (BodyPart.BODY, BodyPart.TAIL)):
            if front in self.centres and back in self.centres:
                (x, y), (from_x, from_y) = self.centres[front], self.centres[back]
                length = math.hypot(x - from_x, y - from_y)
                if length > 0:
                    return (x - from_x) / length, (y - from_y) / length
        return None


def sightings(segmentation: Segmentation, celsius: NDArray[np.float32]) -> list[Sighting]:
    """All instances of a frame, by number.

    Parameters
    ----------
    segmentation : Segmentation
        What is where.
    celsius : (height, width) float32
        °C, NaN allowed.
    """
    flat = segmentation.instances.ravel()
    where = np.flatnonzero(flat)
    if not where.size:
        return []
    owners = flat[where].astype(np.intp)
    labels = owners * _LABELS + np.minimum(segmentation.parts.ravel()[where], _LABELS - 1)
    rows, columns = np.divmod(where, segmentation.instances.shape[1])
    degrees = celsius.ravel()[where].astype(np.float64)
    known = np.isfinite(degrees)
    length = (int(owners.max()) + 1) * _LABELS
    counts = np.bincount(labels, minlength=length)
    x = np.bincount(labels, columns, length)
    y = np.bincount(labels, rows, length)
    warm = np.bincount(labels[known], minlength=length)
    heat = np.bincount(labels[known], degrees[known], length)
    order = np.argsort(owners, kind="stable")
    ends = np.cumsum(np.bincount(owners))
    found = []
    for instance in np.unique(owners):
        first = int(instance) * _LABELS
        own = slice(first, first + _LABELS)
        trunk = np.array([0, 1, 1, 0]) * counts[own]
        used = trunk if trunk.any() else counts[own]
        share = np.where(counts[own] > 0, used / np.maximum(counts[own], 1), 0) / used.sum()
        parts = [part for part in BodyPart if counts[first + part]]
        found.append(
            Sighting(
                instance=int(instance),
                pixels=where[order[ends[instance - 1] : ends[instance]]],
                x_px=float((share * x[own]).sum()),
                y_px=float((share * y[own]).sum()),
                trunk_px=int(trunk.sum()),
                centres={
                    part: (x[first + part] / counts[first + part], y[first + part] / counts[first + part])
                    for part in parts
                },
                celsius={part: heat[first + part] / warm[first + part] for part in parts if warm[first + part]},
            )
        )
    return found
