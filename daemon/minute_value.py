"""One number about one animal, or the cage, in one minute: what measures give and what rules and tables read."""

from dataclasses import dataclass
from enum import Enum


class Scope(Enum):
    """What a measure is about."""

    ANIMAL = "animal"
    CAGE = "cage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a number means."""

    name: str
    """snake_case, its unit at the end where it has one, `tail_minus_ambient_celsius`: column, topic and config key."""
    scope: Scope
    unit: str
    """UCUM-like: `Cel`, `mm/s`, `1` for a share."""
    formula: str
    source: str
    """Where the formula comes from; "own" where it is ours."""
    valid_when: str
    """What must hold for a minute to have a value, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteValue:
    """A measure over one minute of UTC."""

    measure: str
    """Name of a `Measure`."""
    minute_utc_ns: int
    """Begin of the minute, a whole number of minutes since the Unix epoch."""
    animal: int | None
    """Number of the animal, from 1; None for a measure of the cage."""
    value: float | None
    """None where the rule of validity does not hold: too little was seen to say anything."""
    uncertainty: float | None
    """Standard uncertainty in the same unit; None where none is known."""
    coverage: float
    """Share, 0 to 1, of the samples due in this minute that the value rests on."""
    samples: int
    """Frames that it rests on."""
