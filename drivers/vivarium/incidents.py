"""What happens to an animal at a given time: a script of illness, as data."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class IncidentKind(StrEnum):
    """What can happen."""

    FEVER = "fever"
    """The core is warmer; the tail is cold while it rises and warm while it falls."""
    HYPOTHERMIA = "hypothermia"
    """The core is colder; the tail is cold all the time."""
    IMMOBILITY = "immobility"
    """It goes to its sleeping place and stays there."""
    TAIL_INJURY = "tail_injury"
    """A place of the tail without blood is cold, and what lies beyond it a little."""
    ABSENCE = "absence"
    """It has been taken out of the box."""


_USUAL_CELSIUS = {IncidentKind.FEVER: 1.5, IncidentKind.HYPOTHERMIA: -2.5, IncidentKind.TAIL_INJURY: -4.0}
_RAMP_S = {IncidentKind.FEVER: 2700.0, IncidentKind.HYPOTHERMIA: 3600.0, IncidentKind.TAIL_INJURY: 1800.0}
_STEEP = 6.0
"""Vessels close and open at once: as much of the way up or down takes place with them fully closed or open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One thing that happens to one animal.

    Raises
    ------
    ValueError
        If the duration is not positive, the temperature points the wrong way, or the kind has none.
    """

    kind: IncidentKind
    animal: int
    """Its number, from 1."""
    start_utc_s: float
    """Seconds since the Unix epoch."""
    duration_s: float
    """Until it begins to end; a fever then takes three quarters of an hour to fall, as it took to rise."""
    celsius: float | None = None
    """How far core (fever, hypothermia) or tail (injury) are from where they would be; None is +1.5, -2.5 and -4."""

    def __post_init__(self) -> None:
        if not self.duration_s > 0:
            raise ValueError(f"{self.kind}: duration_s must be positive, got {self.duration_s}")
        usual = _USUAL_CELSIUS.get(self.kind)
        if self.celsius is not None and (usual is None or not self.celsius * usual > 0):
            wanted = "no celsius" if usual is None else f"celsius of the sign of {usual}"
            raise ValueError(f"{self.kind}: expected {wanted}, got {self.celsius}")

    @property
    def end_utc_s(self) -> float:
        """When it begins to end."""
        return self.start_utc_s + self.duration_s

    def during(self, utc_s: float) -> bool:
        """Whether a moment lies in it."""
        return self.start_utc_s <= utc_s < self.end_utc_s

    def change_celsius(self, utc_s: float) -> float:
        """By how much the temperature that it changes is changed at a moment."""
        full = _USUAL_CELSIUS.get(self.kind, 0.0) if self.celsius is None else self.celsius
        return full * (
            _smooth(self._risen(utc_s)) - _smooth(self._fallen(utc_s)) * _smooth(self._risen(self.end_utc_s))
        )

    def _risen(self, utc_s: float) -> float:
        """Share of the way up, or down, at its beginning."""
        return (utc_s - self.start_utc_s) / _RAMP_S.get(self.kind, 1.0)

    def _fallen(self, utc_s: float) -> float:
        """Share of the way back."""
        return (utc_s - self.end_utc_s) / _RAMP_S.get(self.kind, 1.0)

    def vessels(self, utc_s: float) -> float:
        """What it does to the tail's vessels: -1 closes them, 1 opens them."""
        if self.kind is IncidentKind.FEVER:
            if utc_s >= self.end_utc_s:
                return _turning(self._fallen(utc_s))
            return -_turning(self._risen(utc_s))
        if self.kind is IncidentKind.HYPOTHERMIA:
            return -min(1.0, _STEEP * abs(self.change_celsius(utc_s) / (self.celsius or _USUAL_CELSIUS[self.kind])))
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What all incidents together do to an animal at a moment."""

    core_celsius: float = 0.0
    """Added to its core temperature."""
    vessels: float = 0.0
    """-1 closes the vessels of the tail, 1 opens them."""
    tail_celsius: float = 0.0
    """Added to the injured place of its tail."""
    absent: bool = False


_NONE = Effects()


def effects(incidents: Collection[Incident], utc_s: float) -> Effects:
    """What the incidents of one animal do to it at a moment."""
    if not incidents:
        return _NONE
    core = vessels = tail = 0.0
    absent = False
    for incident in incidents:
        if incident.kind is IncidentKind.TAIL_INJURY:
            tail += incident.change_celsius(utc_s)
        elif incident.kind in (IncidentKind.FEVER, IncidentKind.HYPOTHERMIA):
            core += incident.change_celsius(utc_s)
            vessels += incident.vessels(utc_s)
        elif incident.kind is IncidentKind.ABSENCE:
            absent = absent or incident.during(utc_s)
    return Effects(core_celsius=core, vessels=max(-1.0, min(1.0, vessels)), tail_celsius=tail, absent=absent)


def _smooth(share: float) -> float:
    share = max(0.0, min(1.0, share))
    return share * share * (3 - 2 * share)


def _turning(share: float) -> float:
    """1 for most of a way from 0 to 1, 0 outside."""
    return min(1.0, _STEEP * share * (1 - share)) if 0 < share < 1 and math.isfinite(share) else 0.0
