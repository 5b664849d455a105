"""Which animal is which from frame to frame, by position alone."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from daemon.vision.parts import BodyPart, Segmentation

GATE_PX = 64.0
"""How far an animal may have gone between two measured frames and still be believed by position alone: a rat's body
length in a picture of a housing box, a quarter of the picture's width."""

Point = tuple[float, float]


class NearestNumbering:
    """Keeps each animal's number from frame to frame.

    This identity is provisional: it knows positions only. After two animals have met, or one was out of sight, the
    numbers may have changed places; nothing here can tell.

    Parameters
    ----------
    animals : int
        How many live in the box. Numbers run from 1 to this and never beyond.
    gate_px : float
        An instance farther than this from where an animal was last seen is taken for another animal as long as
        there is one that was never seen.
    """

    def __init__(self, animals: int, gate_px: float = GATE_PX) -> None:
        if animals < 1 or not gate_px > 0:
            raise ValueError(f"animals must be at least 1 and gate_px above 0, got {animals} and {gate_px}")
        self._animals = animals
        self._gate_px = gate_px
        self._last_seen: dict[int, Point] = {}

    def number(self, segmentation: Segmentation) -> dict[int, int]:
        """The number of each instance in the next frame.

        Returns
        -------
        dict of int to int
            Instance -> animal. Within the gate the assignment has the least sum of distances. What is left over gets
            numbers never used, the lowest first, and after that those of animals out of sight, again by the least
            sum of distances: their numbers stay reserved for them, however long they hide. When there are more
            instances than animals, those left at the end have no number.
        """
        found = _centroids(segmentation)
        taken = self._assigned(found, self._last_seen, gate_px=self._gate_px)
        left = {instance: point for instance, point in found.items() if instance not in taken}
        unused = (number for number in range(1, self._animals + 1) if number not in self._last_seen)
        taken |= dict(zip(left, unused, strict=False))
        left = {instance: point for instance, point in left.items() if instance not in taken}
        hidden = {number: point for number, point in self._last_seen.items() if number not in taken.values()}
        taken |= self._assigned(left, hidden, gate_px=math.inf)
        self._last_seen |= {number: found[instance] for instance, number in taken.items()}
        return dict(sorted(taken.items()))

    @staticmethod
    def _assigned(found: dict[int, Point], known: dict[int, Point], *, gate_px: float) -> dict[int, int]:
        if not found or not known:
            return {}
        distances = np.array([[math.dist(point, other) for other in known.values()] for point in found.values()])
        # Pairs beyond the gate cost more than all the others together, so none is taken in place of one within it.
        beyond = distances > gate_px
        costs = np.where(beyond, distances.sum() + 1, distances)
        rows, columns = linear_sum_assignment(costs)
        instances, numbers = list(found), list(known)
        return {
            instances[row]: numbers[column]
            for row, column in zip(rows, columns, strict=True)
            if not beyond[row, column]
        }


def _centroids(segmentation: Segmentation) -> dict[int, Point]:
    """Centre (x, y) of each instance by number; without its tail, which swings while the animal stays."""
    trunk = np.where(segmentation.parts == BodyPart.TAIL, 0, segmentation.instances)
    return _centres(segmentation.instances) | _centres(trunk)


def _centres(labels: NDArray[np.uint8]) -> dict[int, Point]:
    rows, columns = np.nonzero(labels)
    instances = labels[rows, columns]
    counts = np.bincount(instances)
    sums = np.bincount(instances, columns), np.bincount(instances, rows)
    return {int(one): (sums[0][one] / counts[one], sums[1][one] / counts[one]) for one in np.flatnonzero(counts)}
