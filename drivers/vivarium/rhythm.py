"""Light and dark, when an animal is active, and how warm that makes it: pure functions of time.

Rats and mice are active by night, in bouts of tens of minutes, and those of one box often at the same time. Core
temperature follows the time of day and, some minutes later, the activity.
"""

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from drivers.vivarium.dice import Axis, generator
from drivers.vivarium.incidents import Incident, IncidentKind

MAX_RESIDENTS = 6
"""More animals have no room in the picture."""

DAY_S = 86_400
CYCLE_S = 600.0
"""Whether an animal is active is decided anew after so long."""

LIGHTS_ON_UTC_S = 9 * 3600.0
"""Six in the morning in eastern Brazil."""

_DARK_FROM_S = DAY_S / 2
_DUSK_S = 1800.0
"""Activity follows the light within so long."""
_ACTIVE_SHARE = 0.22, 0.72
"""Share of the cycles in which an animal is active, by light and in the dark."""
_TOGETHER_SHARE = 0.5
"""So often an animal does as the others do."""
_LEVEL = 0.45, 1.0
_CORE_CELSIUS = 37.3
_CIRCADIAN_CELSIUS = 0.45
_ACTIVE_CELSIUS = 0.7
"""Core temperature of an animal that has long been as active as can be, above one that sleeps at that time of day."""
_WARMS_IN_CYCLES = 2.5
_REMEMBERED_CYCLES = 7
_KEPT = 4096


def zeitgeber_s(utc_s: float, lights_on_utc_s: float = LIGHTS_ON_UTC_S) -> float:
    """Time since the lights went on, 0 to 86,400 s; they are on for the first twelve hours."""
    return (utc_s - lights_on_utc_s) % DAY_S


def darkness(utc_s: float, lights_on_utc_s: float = LIGHTS_ON_UTC_S) -> float:
    """0 by day, 1 by night, with half an hour of dusk and dawn around the switching of the lights."""
    since = zeitgeber_s(utc_s, lights_on_utc_s)
    from_switch = min(abs(since - _DARK_FROM_S), since, DAY_S - since)
    half = 0.5 * min(from_switch / (_DUSK_S / 2), 1.0)
    return 0.5 + half if since >= _DARK_FROM_S else 0.5 - half


def circadian(utc_s: float, lights_on_utc_s: float = LIGHTS_ON_UTC_S) -> float:
    """The clock inside: 1 in the middle of the dark, -1 in the middle of the light."""
    return math.cos(2 * math.pi * (zeitgeber_s(utc_s, lights_on_utc_s) / DAY_S - 0.75))


class Rhythm:
    """When one animal is active, and its core temperature.

    Parameters
    ----------
    seed, number : int
        Of the scene and the animal.
    lights_on_utc_s : float
        Seconds after midnight UTC at which the lights go on; they stay on for twelve hours.
    incidents : iterable of Incident
        Those of this animal; only immobility matters here.
    """

    def __init__(
        self, seed: int, number: int, *, lights_on_utc_s: float = LIGHTS_ON_UTC_S, incidents: Iterable[Incident] = ()
    ) -> None:
        self._seed, self._number, self._lights_on_utc_s = seed, number, lights_on_utc_s
        self._still = [incident for incident in incidents if incident.kind is IncidentKind.IMMOBILITY]
        own = generator(seed, Axis.INDIVIDUALS, number, 1)
        self._core_celsius = _CORE_CELSIUS + own.uniform(-0.2, 0.2)
        self._circadian_celsius = _CIRCADIAN_CELSIUS * own.uniform(0.85, 1.15)
        self.level = lru_cache(maxsize=_KEPT)(self._drawn)
        self._warmed = lru_cache(maxsize=_KEPT)(self._remembered)

    def _drawn(self, cycle: int) -> float:
        """How active it is in a cycle: 0 asleep, else up to 1."""
        start_s = cycle * CYCLE_S
        if self.still_from(cycle) == start_s:
            return 0.0
        own = generator(self._seed, Axis.WAY, self._number, cycle)
        luck = own.random()
        if own.random() < _TOGETHER_SHARE:
            luck = generator(self._seed, Axis.WAY, 0, cycle).random()
        low, high = _ACTIVE_SHARE
        share = low + (high - low) * darkness(start_s + CYCLE_S / 2, self._lights_on_utc_s)
        return own.uniform(*_LEVEL) if luck < share else 0.0

    def still_from(self, cycle: int) -> float | None:
        """From when on in a cycle it must not move; None where it may."""
        start_s = cycle * CYCLE_S
        moments = [
            max(incident.start_utc_s, start_s)
            for incident in self._still
            if incident.start_utc_s < start_s + CYCLE_S and incident.end_utc_s > start_s
        ]
        return min(moments, default=None)

    def held(self, border: int) -> int:
        """The border of two cycles at which it lay down where it lies at a later one: itself, unless it cannot move."""
        for incident in self._still:
            first = math.ceil(incident.start_utc_s / CYCLE_S)
            if first < border <= math.ceil(incident.end_utc_s / CYCLE_S):
                return first
        return border

    def core_celsius(self, utc_s: float) -> float:
        """Core temperature of the healthy animal."""
        cycle, share = divmod(utc_s / CYCLE_S, 1.0)
        warmed = (1 - share) * self._warmed(int(cycle)) + share * self._warmed(int(cycle) + 1)
        return (
            self._core_celsius
            + self._circadian_celsius * circadian(utc_s, self._lights_on_utc_s)
            + _ACTIVE_CELSIUS * (warmed - 0.35)
        )

    def _remembered(self, cycle: int) -> float:
        """Mean activity before the start of a cycle, older cycles counting less, 0..1."""
        ages = np.arange(1, _REMEMBERED_CYCLES + 1)
        weights = np.exp(-ages / _WARMS_IN_CYCLES)
        return float(weights @ [self.level(cycle - int(age)) for age in ages] / weights.sum())
