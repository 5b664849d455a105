"""Ways that an animal can walk: arcs it can follow and straight lines, joined without corners."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.vivarium.shapes import Points

_BEYOND_PX = 600.0
"""More than any animal is long."""
_SIDES = np.array(((1.0,), (-1.0,)))
"""A column: right, left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A rectangle that the middle of an animal does not leave."""

    left_px: float
    top_px: float
    right_px: float
    bottom_px: float

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points (last axis x, y) lie in it."""
        x, y = points[..., 0], points[..., 1]
        return np.asarray((x >= self.left_px) & (x <= self.right_px) & (y >= self.top_px) & (y <= self.bottom_px))

    def draw(self, rng: np.random.Generator, count: int) -> Points:
        """Points anywhere in it, shape (count, 2)."""
        return rng.uniform((self.left_px, self.top_px), (self.right_px, self.bottom_px), size=(count, 2))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Legs:
    """For each of several targets the way there: an arc, then a straight line."""

    start: NDArray[np.float64]
    heading_rad: float
    radius_px: float
    side: NDArray[np.float64]
    """1 turns right, -1 left."""
    turn_rad: NDArray[np.float64]
    """How far the arc turns."""
    straight_px: NDArray[np.float64]
    length_px: NDArray[np.float64]
    """Infinite where the target is too near to be reached like this."""

    def along(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points at shares of each way, shape (targets, shares, 2); without meaning where the length is infinite."""
        length = np.where(np.isfinite(self.length_px), self.length_px, 0.0)
        return self._after(length[:, None] * shares, self.side[:, None], self.turn_rad[:, None])

    def points(self, index: int) -> Points:
        """The way to one target, a point for each pixel of way, without the start."""
        length_px = float(self.length_px[index])
        count = max(round(length_px), 1)
        way = np.arange(1, count + 1, dtype=np.float64) * (length_px / count)
        way[-1] = length_px
        return self._after(way, self.side[index], self.turn_rad[index])

    def _after(
        self, way_px: NDArray[np.float64], side: NDArray[np.float64], turn_rad: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        turned = np.minimum(way_px / self.radius_px, turn_rad)
        angles = self.heading_rad + side * turned
        beyond = np.maximum(way_px - self.radius_px * turned, 0.0)
        sine, cosine = math.sin(self.heading_rad), math.cos(self.heading_rad)
        sines, cosines = np.sin(angles), np.cos(angles)
        points = np.empty((*angles.shape, 2))
        points[..., 0] = self.start[0] + side * self.radius_px * (sines - sine) + beyond * cosines
        points[..., 1] = self.start[1] - side * self.radius_px * (cosines - cosine) + beyond * sines
        return points

    def end_heading_rad(self, index: int) -> float:
        """Direction on arrival."""
        return float(self.heading_rad + self.side[index] * self.turn_rad[index])


def legs(start: NDArray[np.float64], heading_rad: float, targets: Points, radius_px: float) -> Legs:
    """The shorter of the two ways (first to the right, first to the left) to each target.

    Parameters
    ----------
    start : (2,) float64
        x and y.
    heading_rad : float
        Direction at the start.
    targets : (n, 2) float64
        Where to.
    radius_px : float
        Of the arcs.
    """
    # Both sides at once, as rows: many short arrays take longer than few that are twice as long.
    aside = _SIDES * radius_px * np.array((-math.sin(heading_rad), math.cos(heading_rad)))
    x, y = (targets[:, axis] - (start[axis] + aside[:, axis : axis + 1]) for axis in (0, 1))
    distance = np.hypot(x, y)
    reachable = distance > radius_px
    share = np.where(reachable, radius_px / np.maximum(distance, 1e-9), 1.0)
    leaving = np.arctan2(y, x) + _SIDES * np.arcsin(share)
    turn = np.mod(_SIDES * (leaving - heading_rad), 2 * math.pi)
    straight = np.sqrt(np.maximum(distance**2 - radius_px**2, 0))
    length = np.where(reachable, radius_px * turn + straight, np.inf)
    left = length[1] < length[0]
    return Legs(
        start=start, heading_rad=heading_rad, radius_px=radius_px, side=np.where(left, -1.0, 1.0),
        turn_rad=np.where(left, turn[1], turn[0]), straight_px=np.where(left, straight[1], straight[0]),
        length_px=np.where(left, length[1], length[0]),
    )  # fmt: skip


class Way:
    """A line of points about a pixel apart that goes on straight at both ends.

    Parameters
    ----------
    points : (n, 2) float64
        At least one.
    start_heading_rad, end_heading_rad : float
        Direction at the ends.
    """

    def __init__(self, points: Points, start_heading_rad: float, end_heading_rad: float) -> None:
        steps = np.diff(points, axis=0)
        self._points = points
        self._way = np.concatenate(((0.0,), np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))))
        self.length_px = float(self._way[-1])
        between = np.arctan2(steps[:, 1], steps[:, 0])
        turned = np.unwrap(np.concatenate(((start_heading_rad,), between, (end_heading_rad,))))
        turned_at = np.concatenate(((0.0,), (self._way[1:] + self._way[:-1]) / 2, (self.length_px,)))
        # Beyond both ends by as much as an animal is long, for its mean over a piece of way.
        self._turned_at = np.concatenate(((-_BEYOND_PX,), turned_at, (self.length_px + _BEYOND_PX,)))
        turned = np.concatenate((turned[:1], turned, turned[-1:]))
        steps_px = np.diff(self._turned_at)
        self._turned_sum = np.concatenate(((0.0,), np.cumsum((turned[1:] + turned[:-1]) / 2 * steps_px)))
        self._ends = tuple(
            np.array((math.cos(angle), math.sin(angle))) for angle in (start_heading_rad, end_heading_rad)
        )  # fmt: skip

    def at(self, way_px: NDArray[np.float64]) -> Points:
        """Points after so many pixels of way."""
        before, beyond = np.minimum(way_px, 0.0), np.maximum(way_px - self.length_px, 0.0)
        points = np.stack([np.interp(way_px, self._way, self._points[:, axis]) for axis in (0, 1)], axis=-1)
        return np.asarray(points + before[:, None] * self._ends[0] + beyond[:, None] * self._ends[1])

    def heading_rad(self, way_px: NDArray[np.float64], over_px: float) -> NDArray[np.float64]:
        """Mean direction over a piece of way around each point; it never jumps, also through whole turns."""
        ahead = np.interp(way_px + over_px / 2, self._turned_at, self._turned_sum)
        behind = np.interp(way_px - over_px / 2, self._turned_at, self._turned_sum)
        return np.asarray((ahead - behind) / over_px)
