"""Behaviour by positions a second apart: way, immobility, zones, huddling, maps, the rhythm of the day. Pure.

Each definition takes samples about one second apart, whatever the camera's rate: more frames a second would not show a
longer way of the animal, but more of the noise of its centre.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from statistics import fmean
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from drivers.clock import NS_PER_S

Point = tuple[float, float]
"""(x, y) in pixels."""

Polygon = Sequence[Point]

LONGEST_STEP_S = 2.5
"""Two samples farther apart in time are no step: of frames a second apart one may be missing."""

LEAST_SEEN_SHARE = 0.5
"""So many of a block's samples until an animal is first in a zone must show it: else it may have been there before."""

SHORTEST_STEP_S = 0.5
"""A sample sooner than this after the last one is left out: its speed would be the noise of its position."""

MOVED_PX = 1.5
"""Nearer places are the same: what a resting animal's centre wanders by breathing and by its outline's noise."""

IMMOBILE_PX_PER_S = 1.5

REST_AFTER_S = 40.0
"""An animal that has not moved for so long rests: Brown et al. 2017, Wellcome Open Res 1:2, against the EEG of mice."""

TOUCHING_LENGTHS = 0.5
"""Two trunks whose centres are nearer than this share of their mean length lie against each other."""

HOURS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What became of an animal from one sample to the next."""

    seconds: float
    moved_px: float
    """Straight from sample to sample."""
    way_px: float
    """What counts as way: 0 until the centre is `MOVED_PX` from where the last counted step ended."""
    immobile: bool
    resting_s: float
    """How much of the step lies more than `REST_AFTER_S` after the last movement."""
    bout_s: float
    """How long it has been immobile at the end of the step."""
    rest_ended: bool
    """A rest ended by this movement."""

    @property
    def speed_px_per_s(self) -> float:
        """From sample to sample."""
        return self.moved_px / self.seconds


class Way:
    """Follows one animal from sample to sample."""

    def __init__(self) -> None:
        self._last: tuple[int, Point] | None = None
        self._counted: Point = (0.0, 0.0)
        self._still_since_ns: int | None = None

    def add(self, at_ns: int, place: Point) -> Step | None:
        """The step to the next sample.

        Parameters
        ----------
        at_ns : int
            Time of the sample.
        place : (x, y)
            Of the trunk's centre, pixels.

        Returns
        -------
        Step or None
            None for the first sample, one after a gap (which forgets what was before), and one that comes too soon.
        """
        if self._last is None or not 0 <= at_ns - self._last[0] <= LONGEST_STEP_S * NS_PER_S:
            self._last, self._counted, self._still_since_ns = (at_ns, place), place, None
            return None
        before_ns, before = self._last
        if at_ns - before_ns < SHORTEST_STEP_S * NS_PER_S:
            return None
        self._last = (at_ns, place)
        seconds, moved_px = (at_ns - before_ns) / NS_PER_S, math.dist(before, place)
        way_px = math.dist(self._counted, place)
        if way_px >= MOVED_PX:
            self._counted = place
        else:
            way_px = 0.0
        since_ns = self._still_since_ns
        if moved_px / seconds < IMMOBILE_PX_PER_S:
            since_ns = self._still_since_ns = before_ns if since_ns is None else since_ns
            bout_s = (at_ns - since_ns) / NS_PER_S
            resting_s = min(max(bout_s - REST_AFTER_S, 0.0), seconds)
            return Step(
                seconds=seconds,
                moved_px=moved_px,
                way_px=way_px,
                immobile=True,
                resting_s=resting_s,
                bout_s=bout_s,
                rest_ended=False,
            )
        self._still_since_ns = None
        rested = since_ns is not None and (before_ns - since_ns) / NS_PER_S >= REST_AFTER_S
        return Step(
            seconds=seconds,
            moved_px=moved_px,
            way_px=way_px,
            immobile=False,
            resting_s=0.0,
            bout_s=0.0,
            rest_ended=rested,
        )


def reach_px(places: Sequence[Point]) -> float:
    """Diagonal of the box around some places, at least one."""
    xs, ys = [x for x, _ in places], [y for _, y in places]
    return math.hypot(max(xs) - min(xs), max(ys) - min(ys))


def inside(polygon: Polygon, place: Point) -> bool:
    """Whether a place lies in a polygon, by the even-odd rule; on an edge it may count as either."""
    x, y = place
    within = False
    x1, y1 = polygon[-1]
    for x2, y2 in polygon:
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            within = not within
        x1, y1 = x2, y2
    return within


@dataclass(slots=True, kw_only=True)
class WithinBlock:
    """How far a block has come."""

    key: str
    since_ns: int
    """When its first sample was captured, monotonic."""
    samples: int = 0
    """How many there were, the present one included."""


class Visits:
    """One animal's visits to one zone, sample by sample."""

    def __init__(self) -> None:
        self._last: tuple[int, bool] | None = None
        self._block: str | None = None
        self._seen = 0
        self._came = False

    def add(self, at_ns: int, within: bool) -> tuple[bool, float]:
        """Take in a sample.

        Returns
        -------
        bool, float
            Whether it is an entry: in the zone, and the one before it, shortly before, was outside; and the time since
            that one if it was in the zone, seconds, otherwise 0.
        """
        last, self._last = self._last, (at_ns, within)
        if last is None or not 0 <= at_ns - last[0] <= LONGEST_STEP_S * NS_PER_S:
            return False, 0.0
        return within and not last[1], (at_ns - last[0]) / NS_PER_S if last[1] else 0.0

    def latency_s(self, at_ns: int, within: bool, within_block: "WithinBlock | None") -> float | None:
        """Time since the first sample of a block, at the first one that lies in the zone; otherwise None.

        None as well where less than half of the block's samples until then have shown the animal: it may have been
        there before.
        """
        block = None if within_block is None else within_block.key
        if block != self._block:
            self._block, self._seen, self._came = block, 0, False
        self._seen += 1
        if within_block is None or not within or self._came:
            return None
        self._came = True
        if self._seen < LEAST_SEEN_SHARE * within_block.samples:
            return None
        return (at_ns - within_block.since_ns) / NS_PER_S


def nearest_px(places: Mapping[int, Point]) -> dict[int, tuple[int, float]]:
    """For each animal the nearest other one and its distance; nothing for one that is alone."""
    return {
        animal: min(
            ((other, math.dist(place, there)) for other, there in places.items() if other != animal),
            key=lambda pair: pair[1],
        )
        for animal, place in places.items()
        if len(places) > 1
    }


def touching(distance_px: float, length_px: float, other_length_px: float) -> bool:
    """Whether two animals at this distance of their trunks' centres lie against each other."""
    return distance_px < TOUCHING_LENGTHS * (length_px + other_length_px) / 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Maps:
    """Where an animal was, and how much it moved there."""

    seconds: NDArray[np.float64]
    """Time of steps that began in each cell, shape (rows, columns)."""
    px_per_s: NDArray[np.float64]
    """Mean speed of them, straight from sample to sample; NaN where there is none."""


def position_maps(
    at_ns: NDArray[np.int64], places: NDArray[np.float64], *, size: tuple[int, int], cell_px: float
) -> Maps:
    """Position heat map and displacement map.

    Parameters
    ----------
    at_ns : (samples,) int64
        Times, in order.
    places : (samples, 2) float64
        (x, y) of the trunk's centre, pixels.
    size : (height, width)
        Of the picture, pixels.
    cell_px : float
        Edge of a cell.

    Returns
    -------
    Maps
        Of cells from the left upper corner. Samples are thinned out to steps of at least half a second; what is longer
        than 2.5 s is a gap and counts nowhere.
    """
    shape = math.ceil(size[0] / cell_px), math.ceil(size[1] / cell_px)
    seconds, moved = np.zeros(shape), np.zeros(shape)
    keep = _thinned(at_ns)
    if len(keep) > 1:
        at_ns, places = at_ns[keep], places[keep]
        lengths_s = np.diff(at_ns) / NS_PER_S
        steps = lengths_s <= LONGEST_STEP_S
        cells = np.floor((places[:-1][steps] + 0.5) / cell_px).astype(np.intp)  # a pixel's centre is a whole number
        rows, columns = np.clip(cells[:, 1], 0, shape[0] - 1), np.clip(cells[:, 0], 0, shape[1] - 1)
        np.add.at(seconds, (rows, columns), lengths_s[steps])
        np.add.at(moved, (rows, columns), np.hypot(*np.diff(places, axis=0)[steps].T))
    speeds = np.divide(moved, seconds, out=np.full(shape, np.nan), where=seconds > 0)
    return Maps(seconds=seconds, px_per_s=speeds)


def _thinned(at_ns: NDArray[np.int64]) -> list[int]:
    """Which samples are kept: each is at least half a second after the one kept before."""
    keep: list[int] = []
    last_ns = None
    for index, moment_ns in enumerate(at_ns.tolist()):
        if last_ns is None or moment_ns - last_ns >= SHORTEST_STEP_S * NS_PER_S:
            keep.append(index)
            last_ns = moment_ns
    return keep


def zeitgeber_hour(utc_ns: int, lights_on: str, zone: ZoneInfo) -> float:
    """Hours since lights on by the local clock, 0 to below 24.

    As in `daemon.schedule`, the timer of the lights follows the local clock.
    """
    local = datetime.fromtimestamp(utc_ns / NS_PER_S, UTC).astimezone(zone)
    on = time.fromisoformat(lights_on)
    hours = local.hour - on.hour + (local.minute - on.minute) / 60 + (local.second - on.second) / 3600
    return hours % HOURS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How a measure goes with the hour of the day."""

    hourly: tuple[float | None, ...]
    """Mean of the minutes in each zeitgeber hour, 24; None where there are none."""
    minutes: tuple[int, ...]
    """How many minutes each rests on."""
    day_mean: float | None
    """Mean of the hours of light that have a value; None with fewer than half of them."""
    night_mean: float | None

    @property
    def day_night_ratio(self) -> float | None:
        """Day mean by night mean; a rat's activity has one well below 1."""
        if self.day_mean is None or not self.night_mean:
            return None
        return self.day_mean / self.night_mean

    @property
    def hours(self) -> int:
        """How many hours have a value."""
        return sum(value is not None for value in self.hourly)


def rhythm(values: Iterable[tuple[float, float]], *, light_hours: float, least_share: float = 0.5) -> Rhythm:
    """Profile over the day.

    Parameters
    ----------
    values : iterable of (float, float)
        Zeitgeber hour of a minute, and its value.
    light_hours : float
        Length of the day; an hour belongs to it when its middle does.
    least_share : float
        Of the hours of a phase that must have a value for the phase to have one.

    Notes
    -----
    Means of hourly means: a stratified day has more minutes in some hours than in others. Day-to-night ratio and light
    phase activity as measures of disruption: Brown et al. 2019, Biology 8:18.
    """
    by_hour: list[list[float]] = [[] for _ in range(HOURS)]
    for hour, value in values:
        by_hour[int(hour) % HOURS].append(value)
    hourly = tuple(fmean(each) if each else None for each in by_hour)

    def phase(hours: Sequence[int]) -> float | None:
        known = [value for hour in hours if (value := hourly[hour]) is not None]
        return fmean(known) if known and len(known) >= least_share * len(hours) else None

    day = [hour for hour in range(HOURS) if hour + 0.5 < light_hours]
    night = [hour for hour in range(HOURS) if hour + 0.5 >= light_hours]
    return Rhythm(hourly=hourly, minutes=tuple(map(len, by_hour)), day_mean=phase(day), night_mean=phase(night))


def rest_disturbance(endings: float, resting_hours: float) -> float | None:
    """How often a rest is broken off, per hour of rest; None where nobody rested for a minute."""
    return endings / resting_hours if resting_hours >= 1 / 60 else None
