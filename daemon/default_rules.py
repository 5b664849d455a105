"""The rules that are shipped, and what else the service tells of without any rule."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from daemon.event_rules import NAMES
from daemon.events import EventKind, Severity
from daemon.measures_list import in_units_of_box, measures_of
from daemon.minute_value import Scope
from daemon.rule import Condition, Rule, check_measures, rules_in_force
from daemon.rule_settings import BaselineSettings, RuleSettings

_WARMTH = BaselineSettings(days=7, least_days=3, z=3, least_spread=0.2, least_change=0.8)
_COLD = BaselineSettings(days=7, least_days=3, z=3, least_spread=0.3, least_change=1.5)
_LESS_MOVEMENT = BaselineSettings(days=7, least_days=3, z=4, least_share=0.7, within_minutes=120)
_NO_MOVEMENT = BaselineSettings(days=7, least_days=3, z=3, least_share=0.85, within_minutes=120)
"""In shares, so that the same holds in millimetres and in pixels; by day, when little is usual, the spreads decide."""
_TAIL_DROP = BaselineSettings(days=7, least_days=3, z=2, least_spread=0.5, least_change=1, within_minutes=120)
_TAIL_ITSELF = BaselineSettings(days=7, least_days=3, z=3, least_spread=0.15, least_change=0.5, within_minutes=120)
"""Not against the body: a fever warms the body for hours, but closes the tail's vessels only while it rises."""

DEFAULT_RULES: tuple[Rule, ...] = (
    Rule(
        name="fever",
        kind=EventKind.FEVER,
        meaning="the 30-minute skin maximum is well above the animal's own past at this time of day",
        subject=Scope.ANIMAL,
        conditions=(
            Condition(
                measure="skin_max_30min_celsius",
                comparison="above",
                baseline=_WARMTH,
                hysteresis=0.3,
                required_coverage=0.3,
            ),
        ),
        for_minutes=30,
        clear_minutes=30,
        escalate_after_minutes=240,
        cool_down_minutes=120,
        joins=("tail_cold_body_hot",),
    ),
    Rule(
        name="hypothermia",
        kind=EventKind.HYPOTHERMIA,
        meaning="the 30-minute skin maximum is well below the animal's own past at this time of day",
        subject=Scope.ANIMAL,
        conditions=(
            Condition(
                measure="skin_max_30min_celsius",
                comparison="below",
                baseline=_COLD,
                hysteresis=0.3,
                required_coverage=0.3,
            ),
        ),
        for_minutes=30,
        clear_minutes=30,
        escalate_after_minutes=120,
        cool_down_minutes=120,
    ),
    Rule(
        name="inactivity",
        kind=EventKind.INACTIVITY,
        meaning="the animal lies still for longer than sleep lasts",
        subject=Scope.ANIMAL,
        conditions=(
            Condition(
                measure="reach_mm",
                comparison="below",
                baseline=_NO_MOVEMENT,
                over_minutes=120,
                required_coverage=0.4,
            ),
        ),
        for_minutes=90,
        clear_minutes=10,
        cool_down_minutes=120,
    ),
    Rule(
        name="activity_drop",
        kind=EventKind.ACTIVITY_DROP,
        meaning="the animal moves much less than at this time of its own days and nights",
        subject=Scope.ANIMAL,
        conditions=(
            Condition(
                measure="reach_mm",
                comparison="below",
                baseline=_LESS_MOVEMENT,
                over_minutes=240,
                required_coverage=0.4,
            ),
        ),
        for_minutes=60,
        clear_minutes=30,
        severity=Severity.NOTICE,
        escalate_after_minutes=480,
        cool_down_minutes=240,
        joins=("inactivity",),
    ),
    Rule(
        name="tail_cold_body_hot",
        kind=EventKind.FEVER,
        meaning="the tail gives off less heat than usual while the skin is warmer than usual: fever rises",
        subject=Scope.ANIMAL,
        conditions=(
            Condition(
                measure="tail_minus_ambient_celsius",
                comparison="below",
                baseline=_TAIL_DROP,
                hysteresis=0.3,
                over_minutes=30,
                required_coverage=0.3,
            ),
            Condition(
                measure="skin_max_30min_celsius",
                comparison="above",
                baseline=BaselineSettings(days=7, least_days=3, z=2, least_spread=0.2, least_change=0.5),
                hysteresis=0.2,
                required_coverage=0.3,
            ),
        ),
        for_minutes=20,
        clear_minutes=30,
        cool_down_minutes=120,
        joins=("fever",),
    ),
    Rule(
        name="tail_cold",
        kind=EventKind.TAIL_COLD,
        meaning="the tail stays colder than in the animal's own past: injury, or poor circulation",
        subject=Scope.ANIMAL,
        conditions=(
            Condition(
                measure="tail_minus_ambient_celsius",
                comparison="below",
                baseline=_TAIL_ITSELF,
                hysteresis=0.2,
                over_minutes=120,
                required_coverage=0.2,
            ),
        ),
        for_minutes=180,  # longer than the rise of a fever stays in the mean
        clear_minutes=30,
        cool_down_minutes=240,
        joins=("fever", "hypothermia", "tail_cold_body_hot"),  # which close the vessels of a healthy tail
    ),
    Rule(
        name="cage_too_hot",
        kind=EventKind.CAGE_TOO_HOT,
        meaning="the surroundings are too warm for rats",
        subject=Scope.CAGE,
        conditions=(
            Condition(measure="ambient_celsius", comparison="above", value=29, hysteresis=0.5, over_minutes=10),
        ),
        for_minutes=15,
        clear_minutes=10,
        escalate_after_minutes=60,
    ),
    Rule(
        name="cage_too_cold",
        kind=EventKind.CAGE_TOO_COLD,
        meaning="the surroundings are too cold for rats",
        subject=Scope.CAGE,
        conditions=(
            Condition(measure="ambient_celsius", comparison="below", value=16, hysteresis=0.5, over_minutes=10),
        ),
        for_minutes=30,
        clear_minutes=10,
    ),
    Rule(
        name="coverage_low",
        kind=EventKind.COVERAGE_LOW,
        meaning="so few of the frames that are due are measured that the other rules may not be able to tell",
        subject=Scope.CAGE,
        conditions=(
            Condition(
                measure="frames_coverage",
                comparison="below",
                value=0.5,
                hysteresis=0.1,
                over_minutes=60,
                required_coverage=0,
            ),
        ),
        for_minutes=30,
        clear_minutes=10,
        severity=Severity.NOTICE,
    ),
)


def in_force(
    settings: Iterable[RuleSettings], *, defaults: bool, zones: Iterable[str] = (), mm_per_px: float | None = None
) -> tuple[Rule, ...]:
    """The rules over minute values that a config has in force; the shipped ones where `defaults` says so.

    Parameters
    ----------
    settings : iterable of RuleSettings
        Of the config.
    defaults : bool
        Whether the shipped rules are meant, too.
    zones : iterable of str
        Names of the box's zones, which have measures of their own.
    mm_per_px : float, optional
        Without a scale what moves is measured in pixels; rules that compare with shares of the past hold all the same.

    Raises
    ------
    ConfigError
        If one is not complete, a name comes twice, or the box has no such measure of the animal or the cage.
    """
    found = rules_in_force(settings, DEFAULT_RULES if defaults else (), elsewhere=NAMES)
    rules = tuple(
        replace(rule, conditions=tuple(_of_box(each, mm_per_px) for each in rule.conditions)) for rule in found
    )
    check_measures(rules, measures_of(zones, mm_per_px))
    return rules


def _of_box(condition: Condition, mm_per_px: float | None) -> Condition:
    """A threshold that has a unit holds for this unit alone."""
    usual = condition.baseline
    if condition.value is not None or condition.hysteresis or usual is None or usual.least_spread or usual.least_change:
        return condition
    return replace(condition, measure=in_units_of_box(condition.measure, mm_per_px))


@dataclass(frozen=True, slots=True)
class OtherRule:
    """What opens events without a rule of minute values."""

    kind: EventKind
    when: str
    config: str
    """The key that sets it; empty where there is none."""
    severity: str = Severity.ALERT
    """Where the config says none."""


FRAME_RULES = (
    OtherRule(EventKind.ANIMAL_TOO_HOT, "head or body above the threshold in each frame", "alerts.too_hot"),
    OtherRule(EventKind.ANIMAL_TOO_COLD, "head and body below the threshold in each frame", "alerts.too_cold"),
    OtherRule(EventKind.ANIMAL_NOT_SEEN, "no good frame shows the animal", "alerts.not_seen_after_s"),
)
"""Judged on each frame, in seconds where rules take minutes. Their names may stand in `[[rule]]` as well."""

SERVICE_EVENTS = (
    OtherRule(EventKind.CAMERA_LOST, "no good frame comes; camera_found ends it", "camera.frame_timeout_s"),
    OtherRule(EventKind.CLOCK_STEPPED, "the wall clock was set", "", Severity.NOTICE),
    OtherRule(
        EventKind.DISK_LOW, "too little disk, and nothing more may give way; disk_ok ends it", "disk.min_free_gb"
    ),
    OtherRule(
        EventKind.VISION_DEGRADED,
        "the networks do not measure every frame",
        "",
        "notice, alert where they measure none",
    ),
    OtherRule(EventKind.RECORDINGS_FREED, "recordings gave way", "disk", Severity.NOTICE),
    OtherRule(EventKind.CONFIG_DAMAGED, "the service runs with the last good config", ""),
    OtherRule(EventKind.SET_ASIDE, "a damaged file was set aside", ""),
)
"""What the service says of itself. `[[rule]]` of these names says how soon somebody should look."""
