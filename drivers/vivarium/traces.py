"""What the animals of a moving scene leave on the floor, and what becomes of it: warm patches, urine, droppings."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from drivers.vivarium.clutter import dropping, patch_rise_celsius, puddle, urine_rise_celsius, warm_patch
from drivers.vivarium.dice import Axis, generator
from drivers.vivarium.itinerary import Plan, Rest, doing, rests
from drivers.vivarium.posture import Stance
from drivers.vivarium.rhythm import CYCLE_S
from drivers.vivarium.shapes import Field, Window, full, within

_LAIN_S = 8.0
_LEAST_RISE_CELSIUS = 0.02
_REMEMBERED_CYCLES = 6
"""Older urine has dried, older droppings have been trodden into the bedding."""
_URINATES_SHARE = 0.5
_DROPS_SHARE = 0.4
_PUDDLE, _DROPPING = 0.03, 0.045
"""Shares of the animal's length."""
_FRESH_CELSIUS = 9.0
"""A dropping above the floor as it falls."""
_DROPPING_CHILL_CELSIUS = 1.8
_DROPPING_COOLS_IN_S = 90.0
_TRODDEN_IN_S = 600.0
_REACH = 4.0
_KEPT = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Mark:
    """Something left at a moment."""

    left_s: float
    is_urine: bool
    window: Window
    share: NDArray[np.float32]
    """How much of it is at each pixel of the window."""

    def rise_celsius(self, utc_s: float) -> float:
        """Its temperature against the floor."""
        age_s = utc_s - self.left_s
        if self.is_urine:
            return urine_rise_celsius(age_s)
        warm = math.exp(-age_s / _DROPPING_COOLS_IN_S)
        left = min(1.0, max(0.0, (_REMEMBERED_CYCLES * CYCLE_S - age_s) / _TRODDEN_IN_S))
        return left * (_FRESH_CELSIUS * warm - _DROPPING_CHILL_CELSIUS * (1 - warm))


class Traces:
    """The traces of one animal.

    Parameters
    ----------
    seed, number : int
        Of the scene and the animal.
    length_px : float
        Of the animal.
    plan : callable
        The animal's plan for a cycle.
    """

    def __init__(self, seed: int, number: int, *, length_px: float, plan: Callable[[int], Plan]) -> None:
        self._seed, self._number, self._length_px, self._plan = seed, number, length_px, plan
        self._marks = lru_cache(maxsize=_KEPT)(self._marks_of)
        self._rests_in = lru_cache(maxsize=_KEPT)(lambda cycle: tuple(rests(plan(cycle))))

    def onto(self, field: Field, utc_s: float) -> None:
        """Warm the floor where the animal lies or has lain, and wet it where it has been."""
        for rest in self._rests(utc_s):
            rise = patch_rise_celsius(min(rest.end_s, utc_s) - rest.start_s, utc_s - rest.end_s)
            if rise > _LEAST_RISE_CELSIUS:
                half = (0.2, 0.17) if rest.stance is Stance.CURLED else (0.3, 0.12)
                half_px = half[0] * self._length_px, half[1] * self._length_px
                warm_patch(field, (rest.x_px, rest.y_px), half_px, rest.heading_rad, rise)
        now = math.floor(utc_s / CYCLE_S)
        for cycle in range(now - _REMEMBERED_CYCLES, now + 1):
            for mark in self._marks(cycle):
                if mark.left_s <= utc_s:
                    field[mark.window] += np.float32(mark.rise_celsius(utc_s)) * mark.share

    def _rests(self, utc_s: float) -> Iterator[Rest]:
        """Rests that have begun and whose warmth may still be there; one that crosses a border is one."""
        now = math.floor(utc_s / CYCLE_S)
        joined: list[Rest] = []
        for cycle in (now - 2, now - 1, now):
            for rest in self._rests_in(cycle):
                if joined and math.isinf(rest.start_s):
                    began = joined.pop()
                    joined.append(_joined(began, rest))
                else:
                    joined.append(rest)
        for rest in joined:
            if rest.start_s < utc_s and rest.end_s - rest.start_s > _LAIN_S:
                yield rest

    def _marks_of(self, cycle: int) -> tuple[_Mark, ...]:
        plan = self._plan(cycle)
        if not plan.trips:
            return ()
        rng = generator(self._seed, Axis.CLUTTER, self._number, cycle)
        marks = []
        for share, is_urine in ((_URINATES_SHARE, True), (_DROPS_SHARE, False)):
            trip = plan.trips[int(rng.integers(len(plan.trips)))]
            left_s = rng.uniform(float(trip.start_s[0]), float(trip.end_s[-1]))
            if rng.random() < share:
                marks.append(self._mark(rng, plan, left_s, is_urine))
        return tuple(marks)

    def _mark(self, rng: np.random.Generator, plan: Plan, left_s: float, is_urine: bool) -> _Mark:
        did = doing(plan, left_s)
        assert did.trip is not None
        x, y = did.trip.way.at(np.array((did.way_px - 0.4 * self._length_px,)))[0].tolist()
        size_px = (_PUDDLE if is_urine else _DROPPING) * self._length_px
        wet = full(0.0)
        if is_urine:
            puddle(wet, rng, (x, y), size_px)
        else:
            dropping(wet, rng, (x, y), size_px, 1.0)
        reach = math.ceil(_REACH * size_px) + 3
        window = within(round(y) - reach, round(y) + reach, round(x) - reach, round(x) + reach)
        return _Mark(left_s=left_s, is_urine=is_urine, window=window, share=wet[window].copy())


def _joined(first: Rest, second: Rest) -> Rest:
    """A rest at a border, of what the cycles before and after it know of it."""
    return Rest(
        start_s=first.start_s, end_s=second.end_s, x_px=second.x_px, y_px=second.y_px,
        heading_rad=first.heading_rad, stance=first.stance,
    )  # fmt: skip
