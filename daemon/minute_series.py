"""Values by the minute, as many as are needed, and what is usual in them."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from daemon.rule_settings import BaselineSettings
from daemon.settings import ScheduleSettings
from drivers.clock import NS_PER_S

MINUTE_NS = 60 * NS_PER_S
DAY_MINUTES = 1440

MAD_TO_SPREAD = 1.4826
"""From median absolute deviation to standard deviation, of a normal distribution.

Source: Rousseeuw and Croux 1993, JASA 88, 1273.
"""

USABLE_SHARE = 0.25
"""Of the minutes of a day that are looked back on, so many must have a value for the day to count."""


class MinuteSeries:
    """The newest minutes of one quantity, in a ring.

    Minutes are numbered from the Unix epoch. What was never put in, or is too old, has no value.
    """

    def __init__(self, minutes: int) -> None:
        self._stamps = np.full(minutes, -1, np.int64)
        self._values = np.full(minutes, np.nan)
        self._coverage = np.zeros(minutes)

    def __len__(self) -> int:
        return len(self._stamps)

    def put(self, minute: int, value: float | None, coverage: float) -> None:
        """Note a minute; None where it has no value."""
        place = minute % len(self._stamps)
        self._stamps[place] = minute
        self._values[place] = np.nan if value is None else value
        self._coverage[place] = coverage if value is not None else 0.0

    def fill(self, first: int, values: NDArray[np.float64], coverage: NDArray[np.float64]) -> None:
        """Note consecutive minutes from `first` on; NaN where there is no value. Only the newest find room."""
        minutes = np.arange(first, first + len(values))[-len(self._stamps) :]
        places = minutes % len(self._stamps)
        self._stamps[places] = minutes
        self._values[places] = values[-len(minutes) :]
        self._coverage[places] = np.where(np.isfinite(values), coverage, 0.0)[-len(minutes) :]

    def get(self, minute: int) -> tuple[float | None, float]:
        """Value and coverage of one minute; None and 0 where there is none."""
        place = minute % len(self._stamps)
        value = float(self._values[place])
        if self._stamps[place] != minute or math.isnan(value):
            return None, 0.0
        return value, float(self._coverage[place])

    def at(self, minutes: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values and coverage of these minutes, both (n,); NaN and 0 where there is none."""
        places = minutes % len(self._stamps)
        there = self._stamps[places] == minutes
        return np.where(there, self._values[places], np.nan), np.where(there, self._coverage[places], 0.0)

    def mean(self, last_minute: int, minutes: int, *, weighted: bool = True) -> tuple[float | None, float]:
        """Mean of the minutes up to this one, weighted with their coverage, and the mean coverage of all of them.

        Not weighted, a minute without any sample counts as much as another if it has a value: the share of frames that
        were measured is known, and 0, where none was.
        """
        if minutes == 1:
            return self.get(last_minute)
        values, coverage = self.at(np.arange(last_minute - minutes + 1, last_minute + 1))
        if not weighted:
            there = np.isfinite(values)
            return (float(values[there].mean()) if there.any() else None), float(coverage.sum()) / minutes
        total = float(coverage.sum())
        if total <= 0:
            return None, 0.0
        return float(np.nansum(values * coverage)) / total, total / minutes


def running_means(
    values: NDArray[np.float64], coverage: NDArray[np.float64], minutes: int, *, weighted: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`MinuteSeries.mean` of every minute of a stretch at once, both (n,); before the stretch there is nothing."""
    there = np.isfinite(values)
    covered = np.where(there, coverage, 0.0)
    weights = covered if weighted else there.astype(np.float64)
    sums, totals, coverages = (
        _running_sum(each, minutes) for each in (np.where(there, values, 0.0) * weights, weights, covered)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(totals > 1e-9, sums / totals, np.nan)
    return means, coverages / minutes


def _running_sum(values: NDArray[np.float64], minutes: int) -> NDArray[np.float64]:
    sums = np.cumsum(values)
    sums[minutes:] -= sums[:-minutes].copy()
    return sums


@dataclass(frozen=True, slots=True)
class Band:
    """What is usual."""

    median: float
    spread: float
    """Robust standard deviation, not below the rule's `least_spread`."""
    days: int
    """Days that it rests on."""

    def threshold(self, settings: BaselineSettings, sign: float) -> float:
        """Where it stops being usual: above for sign 1, below for sign -1."""
        away = max(settings.z * self.spread, settings.least_change, settings.least_share * abs(self.median))
        return self.median + sign * away

    def z(self, value: float) -> float | None:
        """So many spreads away; None where nothing ever varied."""
        return (value - self.median) / self.spread if self.spread > 0 else None


class LocalTime:
    """Local time of day and stratum of minutes, quickly."""

    def __init__(self, zone: ZoneInfo, schedule: ScheduleSettings) -> None:
        self._zone = zone
        self.strata = strata_of_day(schedule)
        """Number of the stratum of each local minute of the day, (1440,)."""
        self._offsets: dict[int, int] = {}

    def __call__(self, minute: int) -> int:
        """The same minute counted by the local clock, from a local epoch: `// 1440` is the day, `% 1440` its time."""
        quarter = minute // 15
        if quarter not in self._offsets:
            if len(self._offsets) > 10_000:
                self._offsets.clear()
            offset = datetime.fromtimestamp(quarter * 15 * 60, UTC).astimezone(self._zone).utcoffset()
            self._offsets[quarter] = 0 if offset is None else round(offset.total_seconds() / 60)
        return minute + self._offsets[quarter]


def strata_of_day(schedule: ScheduleSettings) -> NDArray[np.int64]:
    """Number of the stratum of each local minute of the day, (1440,): that of the block that began last."""
    strata = np.zeros(DAY_MINUTES, np.int64)
    shift = _minute_of(schedule.lights_on) if schedule.times == "zeitgeber" else 0
    starts = sorted(
        ((_minute_of(text) + shift) % DAY_MINUTES, number)
        for number, times in enumerate(schedule.strata.values())
        for text in times
    )
    if starts:
        strata[:] = starts[-1][1]  # before the first of the day it is still the last of the day before
    for start, number in starts:
        strata[start:] = number
    return strata


def _minute_of(text: str) -> int:
    hours, minutes = text.split(":")[:2]
    return int(hours) * 60 + int(minutes)


def band_of(
    series: MinuteSeries,
    minute: int,
    settings: BaselineSettings,
    *,
    local: LocalTime,
    required_coverage: float = 0.0,
    left_out_days: Collection[int] = (),
    left_out: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None,
) -> Band | None:
    """What was usual at this time of day on the days before.

    Parameters
    ----------
    series : MinuteSeries
        The past.
    minute : int
        Now, counted from the Unix epoch.
    settings : BaselineSettings
        How far to look.
    local : LocalTime
        Says what is the same time of day, and the same stratum.
    required_coverage : float
        Minutes with less are left out.
    left_out_days : collection of int
        Local days, as `LocalTime` counts them, that are no example.
    left_out : callable, optional
        Which of some minutes are no example.

    Returns
    -------
    Band or None
        None where fewer than `least_days` days are usable.
    """
    now_local = local(minute)
    around = np.arange(-settings.within_minutes, min(settings.within_minutes, 719) + 1)
    same = local.strata[(now_local + around) % DAY_MINUTES] == local.strata[now_local % DAY_MINUTES]
    around = around[same]
    found, days = [], 0
    for day in range(1, settings.days + 1):
        then_local = now_local - day * DAY_MINUTES
        guess = minute - day * DAY_MINUTES
        then = guess - (local(guess) - then_local)  # the clock may have been put back or forth in between
        usable = around
        if left_out_days:
            day_of = (then_local + around) // DAY_MINUTES
            usable = around[~np.isin(day_of, list(left_out_days))]
        minutes = then + usable
        minutes = minutes[minutes < minute]
        values, coverage = series.at(minutes)
        good = np.isfinite(values) & (coverage >= required_coverage)
        if left_out is not None:
            good &= ~left_out(minutes)
        if np.count_nonzero(good) >= USABLE_SHARE * len(around):
            found.append(values[good])
            days += 1
    if days < settings.least_days:
        return None
    values = np.concatenate(found)
    median = float(np.median(values))
    spread = MAD_TO_SPREAD * float(np.median(np.abs(values - median)))
    return Band(median=median, spread=max(spread, settings.least_spread), days=days)
