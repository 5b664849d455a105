"""What `[[rule]]` says of events that no rule of minutes tells: those of single frames and of the device."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from daemon.events import JUDGED_ON_FRAMES, OF_THE_DEVICE, EventKind, Severity
from daemon.rule_settings import RuleSettings

_OF_ALL = ("severity", "quiet")
_OF_OPEN = (*_OF_ALL, "escalate_after_minutes")

KEYS: Mapping[EventKind, tuple[str, ...]] = {
    **dict.fromkeys(JUDGED_ON_FRAMES, (*_OF_OPEN, "cool_down_minutes")),
    **dict.fromkeys((EventKind.CAMERA_LOST, EventKind.DISK_LOW, EventKind.VISION_DEGRADED), _OF_OPEN),
    **dict.fromkeys(
        (EventKind.CLOCK_STEPPED, EventKind.CONFIG_DAMAGED, EventKind.RECORDINGS_FREED, EventKind.SET_ASIDE), _OF_ALL
    ),
}
"""Keys of `[[rule]]` that apply to events of each kind, besides those that are of `[alerts]`."""

OF_THE_DISK = (EventKind.DISK_LOW, EventKind.RECORDINGS_FREED, EventKind.SET_ASIDE, EventKind.CONFIG_DAMAGED)
"""Kinds that the caretaker's thread tells; the others the worker's does."""

ENDS = {EventKind.CAMERA_FOUND: EventKind.CAMERA_LOST, EventKind.DISK_OK: EventKind.DISK_LOW}
"""Kinds that only close what another has opened."""

NAMES = tuple(each.value for each in (*JUDGED_ON_FRAMES, *OF_THE_DEVICE))
"""Of rules that are no rules of minutes."""

_WHY_NOT = {
    "escalate_after_minutes": "it is over when it is told",
    "cool_down_minutes": "the service tells it each time",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule:
    """How soon somebody should look at events of one kind."""

    severity: Severity | None = None
    """None: that which the event has by itself."""
    escalate_after_minutes: int = 0
    cool_down_minutes: int = 0
    quiet: bool = True


def event_rules(settings: Iterable[RuleSettings]) -> dict[EventKind, EventRule]:
    """What holds for each kind, also for those of which the config says nothing.

    Parameters
    ----------
    settings : iterable of RuleSettings
        Of the config. What single frames are judged by besides is none of this.

    Raises
    ------
    ValueError
        If a rule comes twice, has a key that does not apply to it, or is one that only closes another.
    """
    found = {kind: EventRule() for kind in KEYS}
    seen: set[str] = set()
    for rule in settings:
        if rule.name not in NAMES:
            continue
        kind = EventKind(rule.name)
        if kind in ENDS:
            raise ValueError(f"rule {rule.name}: it only ends {ENDS[kind]}, whose severity is told; name that")
        if rule.name in seen:
            raise ValueError(f"rule {rule.name}: the name comes twice")
        seen.add(rule.name)
        if kind not in JUDGED_ON_FRAMES:
            _check_keys(rule, KEYS[kind])
        found[kind] = EventRule(
            severity=None if rule.severity is None else Severity(rule.severity),
            escalate_after_minutes=rule.escalate_after_minutes or 0,
            cool_down_minutes=rule.cool_down_minutes or 0,
            quiet=rule.quiet is not False,
        )
    return found


def _check_keys(rule: RuleSettings, allowed: Iterable[str]) -> None:
    wrong = sorted(rule.model_fields_set - {"name", *allowed})
    if wrong:
        whys = "; ".join(f"{name}: {_WHY_NOT[name]}" for name in wrong if name in _WHY_NOT)
        raise ValueError(
            f"rule {rule.name} is what the service says of itself and takes {', '.join(sorted(allowed))} only, "
            f"got {', '.join(wrong)}" + (f" ({whys})" if whys else "")
        )
