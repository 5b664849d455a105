"""`[alerts]` of the config, and what `[[rule]]` says of the same."""

from collections.abc import Iterable

from pydantic import Field, ValidationError

from daemon.event_rules import KEYS
from daemon.events import EventKind
from daemon.rule_settings import RuleSettings
from daemon.section import Section


class LimitSettings(Section):
    """A threshold with the patience it needs."""

    celsius: float = Field(ge=-20, le=120)
    """The threshold."""
    hysteresis_celsius: float = Field(0.3, ge=0, le=10)
    """How far back the value must come before the alert closes."""
    duration_s: float = Field(60.0, ge=0, le=86_400)
    """How long the value must stay beyond the threshold."""


class TooHotSettings(LimitSettings):
    """When an animal is too hot: by the 95th percentile of head or body, whichever is warmer."""

    celsius: float = Field(39.0, ge=-20, le=120)
    """Above this."""


class TooColdSettings(LimitSettings):
    """When an animal is too cold: by the 95th percentile of head or body, whichever is warmer."""

    celsius: float = Field(26.0, ge=-20, le=120)
    """Below this."""


class AlertSettings(Section):
    """When somebody is told."""

    too_hot: TooHotSettings = TooHotSettings()
    too_cold: TooColdSettings = TooColdSettings()
    not_seen_after_s: float = Field(300.0, ge=1, le=86_400)
    """An animal that no good frame has shown for so long."""


_FRAME_RULES = {
    "animal_too_hot": "too_hot",
    "animal_too_cold": "too_cold",
    "animal_not_seen": "not_seen_after_s",
}
"""Rules that are judged on each frame, and their keys in `[alerts]`."""

_KEYS_OF_ALERTS = {"value", "hysteresis", "for_minutes"}
"""What `[alerts]` says as well."""


def with_frame_rules(alerts: AlertSettings, rules: Iterable[RuleSettings]) -> AlertSettings:
    """The settings of what is judged on each frame, with what `[[rule]]` says of it.

    Raises
    ------
    ValueError
        If both say something of the same, a rule has keys or values that do not apply to each frame, or every animal
        would be too hot or too cold.
    """
    names = {key: name for name, key in _FRAME_RULES.items()}
    changed: dict[str, object] = {}
    for rule in rules:
        key = _FRAME_RULES.get(rule.name)
        if key is None:
            continue
        given = rule.model_fields_set - {"name"}
        of_alerts = {"for_minutes"} if key == "not_seen_after_s" else _KEYS_OF_ALERTS
        allowed = {*of_alerts, *KEYS[EventKind(rule.name)]}
        if wrong := sorted(given - allowed):
            raise ValueError(
                f"rule {rule.name} is judged on each frame and takes {', '.join(sorted(allowed))} only, "
                f"got {', '.join(wrong)}"
            )
        if not given & of_alerts:
            continue
        if key in alerts.model_fields_set or key in changed:
            raise ValueError(f"rule {rule.name} and alerts.{key} say the same: leave alerts.{key} out")
        minutes = rule.for_minutes
        if key == "not_seen_after_s":
            changed[key] = alerts.not_seen_after_s if minutes is None else minutes * 60
            continue
        new = {"celsius": rule.value, "hysteresis_celsius": rule.hysteresis}
        new["duration_s"] = None if minutes is None else minutes * 60
        changed[key] = getattr(alerts, key).model_dump() | {
            name: value for name, value in new.items() if value is not None
        }
    try:
        return _some_are_well(AlertSettings.model_validate(alerts.model_dump() | changed) if changed else alerts)
    except ValidationError as error:
        problems = [
            f"rule {names[str(each['loc'][0])]}: alerts.{'.'.join(map(str, each['loc']))} would be {each['input']:g}: "
            f"{each['msg']}"
            for each in error.errors()
        ]
        raise ValueError("; ".join(problems)) from None


def _some_are_well(alerts: AlertSettings) -> AlertSettings:
    hot, cold = alerts.too_hot.celsius, alerts.too_cold.celsius
    if hot <= cold:
        raise ValueError(
            f"expected alerts.too_hot.celsius above alerts.too_cold.celsius, got {hot:g} and {cold:g}: "
            "every animal would be too hot or too cold; raise the one or lower the other"
        )
    return alerts
