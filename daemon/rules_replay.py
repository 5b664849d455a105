"""What rules would have said of the past, and how right they would have been where the truth is known."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from daemon.events import Event, EventState, Severity
from daemon.maintenance import Maintenance
from daemon.minute_rules import MinuteRules
from daemon.minute_series import DAY_MINUTES, MINUTE_NS
from daemon.rule_state import JOINED
from daemon.store.repository import Store
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError

DAY_NS = DAY_MINUTES * MINUTE_NS

RULES_OF = {
    "fever": ("fever", "tail_cold_body_hot"),
    "hypothermia": ("hypothermia",),
    "immobility": ("inactivity", "activity_drop"),
    "tail_injury": ("tail_cold",),
}
"""Rules that catch an illness, by its kind in the truth."""

AFTERMATH_NS = 120 * MINUTE_NS
"""What opens so soon after the end of an illness is still about it: means and durations look back."""

HUNDRED_DAYS = 100.0


class TrueIllness(BaseModel):
    """One illness that really was there: what a simulation knows, or a person who looked."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: str
    """Free text; of those in `RULES_OF` the rules are known."""
    animal: Annotated[int, Field(ge=1)]
    start: AwareDatetime
    """ISO 8601 with zone."""
    end: AwareDatetime
    rules: tuple[str, ...] = ()
    """Any of these catches it; needed for a kind that is not known."""

    @model_validator(mode="after")
    def _in_order(self) -> "TrueIllness":
        if self.end <= self.start:
            raise ValueError("the end is not after the start")
        if not (self.rules or self.kind in RULES_OF):
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(RULES_OF)}, so it needs rules")
        return self

    @property
    def caught_by(self) -> tuple[str, ...]:
        """Names of the rules that catch it."""
        return self.rules or RULES_OF[self.kind]

    def covers(self, utc_ns: int) -> bool:
        """Whether what opens at a moment may be about it."""
        return _ns(self.start) <= utc_ns <= _ns(self.end) + AFTERMATH_NS


def read_truth(path: Path) -> tuple[TrueIllness, ...]:
    """The illnesses in a JSON file: a list of objects with kind, animal, start and end.

    Raises
    ------
    ConfigError
        If it cannot be read, or something in it is wrong.
    """
    try:
        return TypeAdapter(tuple[TrueIllness, ...]).validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc'])) or 'file'}: {each['msg']}" for each in error.errors()]
        raise ConfigError(f"{path}:\n  " + "\n  ".join(problems)) from error


def replay(rules: MinuteRules, store: Store, start_utc_ns: int, end_utc_ns: int) -> Iterator[Event]:
    """What the rules would have said from one moment until before another; what lies before is only looked back on.

    Raises
    ------
    StoreError
        If the database cannot be read.
    """
    before_utc_ns = start_utc_ns - rules.history_minutes * MINUTE_NS
    rules.set_maintenance(store.maintenance_between(before_utc_ns, end_utc_ns))
    rules.load(store.minute_values(since_utc_ns=before_utc_ns, until_utc_ns=start_utc_ns, measures=rules.measures))
    for day_utc_ns in range(start_utc_ns, end_utc_ns, DAY_NS):
        until_utc_ns = min(day_utc_ns + DAY_NS, end_utc_ns)
        yield from rules.update(
            list(store.minute_values(since_utc_ns=day_utc_ns, until_utc_ns=until_utc_ns, measures=rules.measures))
        )
    yield from rules.advance(end_utc_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How right it was."""

    caught: tuple[tuple[TrueIllness, Event], ...]
    """Each with the first event that caught it, or joined one that was open."""
    missed: tuple[TrueIllness, ...]
    false: tuple[Event, ...]
    """Alerts and emergencies about an animal that was well."""
    notices: tuple[Event, ...]
    """Notices about an animal that was well: they call nobody."""
    animal_days: float
    """Days of animals that were judged, without their illnesses."""

    @property
    def false_per_hundred(self) -> float | None:
        """False alerts per 100 animal-days; None where nobody was well for any time."""
        return HUNDRED_DAYS * len(self.false) / self.animal_days if self.animal_days > 0 else None


def score(
    events: Sequence[Event], truth: Iterable[TrueIllness], *, animals: int, start_utc_ns: int, end_utc_ns: int
) -> Score:
    """Compare what was said with what was true. What is about the cage counts neither way.

    An event that escalated counts as what it became.
    """
    illnesses = [each for each in truth if _ns(each.start) < end_utc_ns and _ns(each.end) > start_utc_ns]
    loudest: dict[str, Severity] = {}
    for event in events:
        name = event.event_id if event.state is EventState.OPENED else event.opened_event_id or ""
        order = list(Severity)
        loudest[name] = max(event.severity, loudest.get(name, Severity.NOTICE), key=order.index)
    opened = [event for event in events if event.state is EventState.OPENED and event.animal is not None]
    found = [event for event in events if event.state is EventState.OPENED or event.data.get("reason") == JOINED]
    caught, missed = [], []
    for illness in illnesses:
        of_it = [
            event
            for event in found
            if event.animal == illness.animal
            and event.data.get("rule") in illness.caught_by
            and illness.covers(event.at_utc_ns)
        ]
        if of_it:
            caught.append((illness, of_it[0]))
        else:
            missed.append(illness)
    wrong = [
        event
        for event in opened
        if not any(each.animal == event.animal and each.covers(event.at_utc_ns) for each in illnesses)
    ]
    ill_ns = sum(min(_ns(each.end), end_utc_ns) - max(_ns(each.start), start_utc_ns) for each in illnesses)
    return Score(
        caught=tuple(caught),
        missed=tuple(missed),
        false=tuple(event for event in wrong if loudest[event.event_id] is not Severity.NOTICE),
        notices=tuple(event for event in wrong if loudest[event.event_id] is Severity.NOTICE),
        animal_days=(animals * (end_utc_ns - start_utc_ns) - ill_ns) / DAY_NS,
    )


def maintenance_minutes(stretches: Iterable[Maintenance]) -> float:
    """Minutes that no rule judged."""
    return sum((each.end_utc_ns - each.start_utc_ns) / MINUTE_NS for each in stretches)


def as_json(events: Iterable[Event]) -> Iterator[str]:
    """One line each, for programs."""
    for event in events:
        yield json.dumps(
            {
                "kind": event.kind.value,
                "state": event.state.value,
                "severity": event.severity.value,
                "at_utc_ns": event.at_utc_ns,
                "animal": event.animal,
                "data": dict(event.data),
            },
            sort_keys=True,
        )


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * NS_PER_S)
