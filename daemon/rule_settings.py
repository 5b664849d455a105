"""`[[rule]]`, `[rules]` and `[[maintenance]]` of the config."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from daemon.section import Section
from daemon.setting_kinds import LONGEST_VALUE, written_as

RuleName = Annotated[
    str, written_as(r"[a-z][a-z0-9_]{0,39}", "up to 40 small letters, digits and _, beginning with a letter")
]
MeasureName = Annotated[
    str, written_as(r"[a-z][a-z0-9_]{0,63}", "up to 64 small letters, digits and _, beginning with a letter")
]
TimeOfDay = Annotated[str, written_as(r"([01][0-9]|2[0-3]):[0-5][0-9]", "a time of day like 07:30")]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
MaintenanceReason = Literal["cage_change", "dosing", "weighing", "other"]

WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""In the order of `date.weekday`."""

LONGEST_MAINTENANCE_MINUTES = 480
"""Nobody who forgets to end one silences the rules for longer."""


class BaselineSettings(Section):
    """An animal's own past: the same stratum and time of day on the days before.

    The threshold is the median of that past, moved by the largest of z robust spreads (1.4826 times the median absolute
    deviation), `least_change`, and `least_share` of the median.
    """

    days: int = Field(7, ge=1, le=28)
    """How many days back."""
    least_days: int = Field(3, ge=1, le=28)
    """With fewer usable days than this the rule cannot tell."""
    z: float = Field(3.0, ge=0, le=100)
    """So many robust spreads away from the median."""
    least_spread: float = Field(0.0, ge=0)
    """The spread counts as at least this, in the unit of the measure: a calm past makes nobody jumpy."""
    least_change: float = Field(0.0, ge=0)
    """At least so far away from the median, in the unit of the measure."""
    least_share: float = Field(0.0, ge=0, le=100)
    """At least this share of the median away from it; 0.5 below means half of what is usual."""
    within_minutes: int = Field(90, ge=1, le=720)
    """No further than this from the present time of day; 720 takes the whole stratum."""

    @model_validator(mode="after")
    def _enough_days(self) -> "BaselineSettings":
        if self.least_days > self.days:
            raise ValueError(f"least_days {self.least_days} is more than the {self.days} days that are looked back on")
        return self


class ConditionSettings(Section):
    """What else must hold at the same time."""

    measure: MeasureName
    """Name of a measure."""
    comparison: Literal["above", "below"]
    """On which side of the threshold it is wrong."""
    value: float | None = None
    """The threshold, in the unit of the measure; or give a baseline."""
    baseline: BaselineSettings | None = None
    """The threshold comes from the animal's own past."""
    hysteresis: float = Field(0.0, ge=0)
    """How far back it must come, in the unit of the measure, before it counts as right again."""
    over_minutes: int = Field(1, ge=1, le=720)
    """The mean of so many minutes is judged, weighted with their coverage."""
    required_coverage: float = Field(0.5, ge=0, le=1)
    """Share of the samples due in these minutes that must be there; with less it cannot be told."""

    @model_validator(mode="after")
    def _one_threshold(self) -> "ConditionSettings":
        if (self.value is None) == (self.baseline is None):
            raise ValueError("expected either value or baseline")
        return self


class RuleSettings(Section):
    """A rule: of one that is shipped only the name and what is to be different, of another all that it needs."""

    name: RuleName
    """`vivarium rules list` prints those that are shipped; any other name makes a new rule."""
    enabled: bool | None = None
    """false: it is not watched."""
    subject: Literal["animal", "cage"] | None = None
    """Whether it is judged for each animal, or for the cage."""
    measure: MeasureName | None = None
    """Name of a measure."""
    comparison: Literal["above", "below"] | None = None
    """On which side of the threshold it is wrong."""
    value: float | None = None
    """The threshold, in the unit of the measure; or give a baseline."""
    baseline: BaselineSettings | None = None
    """The threshold comes from the animal's own past."""
    hysteresis: float | None = Field(None, ge=0)
    """How far back it must come, in the unit of the measure, before it counts as right again."""
    over_minutes: int | None = Field(None, ge=1, le=720)
    """The mean of so many minutes is judged, weighted with their coverage."""
    required_coverage: float | None = Field(None, ge=0, le=1)
    """Share of the samples due in these minutes, and of the minutes of a duration, that must be there; with less the
    rule says that it cannot tell."""
    also: tuple[ConditionSettings, ...] | None = None
    """What else must hold at the same time."""
    for_minutes: float | None = Field(None, ge=0, le=2880)
    """How long it must be wrong before an event opens."""
    clear_minutes: float | None = Field(None, ge=0, le=2880)
    """How long it must be right before the event closes."""
    severity: Literal["notice", "alert", "emergency"] | None = None
    """How soon somebody should look."""
    escalate_after_minutes: int | None = Field(None, ge=0, le=10_080)
    """Open for so long and not acknowledged, it is one step more severe; 0 never."""
    cool_down_minutes: int | None = Field(None, ge=0, le=10_080)
    """After it has closed it does not open again for so long."""
    quiet: bool | None = None
    """Whether quiet hours hold for it; for an emergency they never do."""
    joins: tuple[RuleName, ...] | None = None
    """Names of rules that may tell of the same illness: while an event of one of them is open about the same animal,
    this rule adds its evidence to it and opens none of its own."""


def _two_times(value: object) -> object:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(f'expected two times of day like ["22:00", "06:00"], got {repr(value)[:LONGEST_VALUE]}')
    return value


class RulesSettings(Section):
    """What holds for all rules."""

    defaults: bool = True
    """Whether the shipped rules are in force."""
    quiet_hours: Annotated[tuple[TimeOfDay, TimeOfDay], BeforeValidator(_two_times)] | None = None
    """From and to, local time: in between what is no emergency opens as a notice, and is told when they are over."""
    evidence_mb: int = Field(200, ge=0, le=1_000_000)
    """Plots and frames of events take no more than this; the oldest give way. 0 keeps none."""

    @model_validator(mode="after")
    def _some_hours(self) -> "RulesSettings":
        if self.quiet_hours is not None and self.quiet_hours[0] == self.quiet_hours[1]:
            raise ValueError("quiet_hours: from and to are the same")
        return self


class MaintenanceSettings(Section):
    """Work at the cage at fixed times: its minutes count for no rule and no baseline."""

    reason: MaintenanceReason
    """What is done."""
    at: TimeOfDay
    """When it begins, local time."""
    minutes: int = Field(ge=1, le=LONGEST_MAINTENANCE_MINUTES)
    """How long it takes, settling down included."""
    days: tuple[Weekday, ...] = WEEKDAYS
    """On which days of the week."""
