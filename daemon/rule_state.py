"""One rule of one animal, or of the cage: closed, suspected since, or open. It tells each change once."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from daemon.events import Event, EventState, Scalar, Severity
from daemon.minute_series import MINUTE_NS
from daemon.rule import Rule
from daemon.urgency import QUIET_SEVERITY, Urgency, loudest

LEAST_GAP_MINUTES = 5
"""A duration goes on over so many minutes that cannot be told, or a quarter of it where that is longer."""

UNSURE_MINUTES = 30
"""An open event says after so long that nobody can tell any more how it stands."""

UPDATE_MINUTES = 60
"""An event that gets worse says so no more often than this."""

NOT_WATCHED = "not_watched"
JOINED = "joined"
"""Reason of an update: another rule finds the same animal wrong, and adds its evidence."""
LEFT = "left"
"""Reason of an update: what this rule found is over, and what another found goes on."""


class Verdict(Enum):
    """What one minute says."""

    BEYOND = "beyond"
    """Wrong."""
    BETWEEN = "between"
    """Neither wrong nor, by the hysteresis, right again."""
    BACK = "back"
    """Right."""
    CANNOT_TELL = "cannot_tell"
    """Too little was seen, or too little is known of the past."""
    MAINTENANCE = "maintenance"
    """People work at the cage: whatever is seen is theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One minute of one rule."""

    minute: int
    """Counted from the Unix epoch; its end is the time of what it leads to."""
    verdict: Verdict
    value: float | None = None
    threshold: float | None = None
    excess: float = 0.0
    """How far beyond the threshold, in the unit of the measure; negative on the right side."""
    data: Mapping[str, Scalar] = field(default_factory=dict)
    """More of the evidence."""

    @property
    def end_utc_ns(self) -> int:
        """When it is over."""
        return (self.minute + 1) * MINUTE_NS


class _Stretch:
    """Minutes that all say the same, with short holes of minutes that cannot be told."""

    def __init__(self, minutes: float, required_share: float) -> None:
        self._minutes = max(1, math.ceil(minutes))
        self._required_share = required_share
        self._gap = max(LEAST_GAP_MINUTES, self._minutes // 4)
        self.since: int | None = None
        self._last = 0
        self._told = 0

    def forget(self) -> None:
        """Begin anew."""
        self.since = None

    def add(self, minute: int) -> bool:
        """One more minute that says so; whether it has lasted long enough."""
        if self.since is None or minute - self._last > self._gap or minute < self._last:
            self.since, self._told = minute, 0
        self._last = minute
        self._told += 1
        held = minute - self.since + 1
        return held >= self._minutes and self._told >= self._required_share * held

    @property
    def told(self) -> int:
        """Minutes that said so."""
        return self._told


class RuleState:
    """Goes from minute to minute; what it returns are the events to store and tell, in their order.

    It opens only what is closed and closes only what is open. A minute that cannot be told, or is maintenance, closes
    nothing.

    Parameters
    ----------
    rule : Rule
        What is judged.
    animal : int or None
        Of which animal; None for the cage.
    """

    def __init__(self, rule: Rule, animal: int | None) -> None:
        self.rule = rule
        self.animal = animal
        self.verdict = Verdict.CANNOT_TELL
        """Of the newest minute."""
        self.open_event_id: str | None = None
        self.kind = rule.kind
        """Of the open event: that of the rule which opened it."""
        self._urgency = Urgency(rule.severity, escalate_after_minutes=rule.escalate_after_minutes, quiet=rule.quiet)
        share = min(rule.conditions[0].required_coverage, 1.0)
        self._beyond = _Stretch(rule.for_minutes, share)
        self._back = _Stretch(rule.clear_minutes, share)
        self._since = 0
        self._worst = -math.inf
        self._told_worst = -math.inf
        self._updated_minute = 0
        self._unsure_since: int | None = None
        self._unsure_told = False
        self._cool_until = -1

    @property
    def severity(self) -> Severity:
        """Of the open event, as it was last told."""
        return self._urgency.severity

    @property
    def own_severity(self) -> Severity:
        """Of the open event, without quiet hours."""
        return self._urgency.own_severity

    @property
    def acknowledged(self) -> bool:
        """Whether somebody has seen the open event."""
        return self._urgency.acknowledged

    @property
    def since_minute(self) -> int | None:
        """The first minute of what is open, or suspected."""
        return self._since if self.open_event_id is not None else self._beyond.since

    def restore(self, event: Event) -> None:
        """Take up an event of this rule from before a restart; to be called in the order in which they were stored."""
        minute = event.at_utc_ns // MINUTE_NS - 1  # events are told when their minute is over
        self._urgency.restore(event)
        match event.state:
            case EventState.OPENED:
                since = event.data.get("since_utc_ns")
                self._begin(
                    event.event_id,
                    minute,
                    since // MINUTE_NS if isinstance(since, int) else minute,
                    float(event.data.get("excess") or 0.0),
                )
                self.kind = event.kind
            case EventState.UPDATED:
                reason = event.data.get("reason")
                if reason in ("cannot_tell", "can_tell"):
                    self._unsure_told = reason == "cannot_tell"
                self._updated_minute = minute
            case EventState.CLOSED:
                self._end(minute)
                if event.data.get("reason") == LEFT and QUIET_SEVERITY not in event.data:
                    self._urgency.forget(event.opened_event_id, told=Severity.EMERGENCY)

    def acknowledge(self) -> None:
        """Somebody has seen the open event: it is not made more severe any more."""
        self._urgency.acknowledged = True

    def join(self, opened: Event, host: "RuleState") -> Event:
        """Add what has just been opened to the event that another rule has open; the update that tells of it."""
        assert host.open_event_id is not None  # who has none open is not joined
        self.open_event_id, self.kind = host.open_event_id, host.kind
        self._urgency.acknowledged = host.acknowledged
        data = {**opened.data, "reason": JOINED}
        if self._urgency.joins(host.severity):
            data.pop(QUIET_SEVERITY, None)
        return replace(
            opened,
            kind=host.kind,
            state=EventState.UPDATED,
            data=data,
            opened_event_id=host.open_event_id,
        )

    def leave(self, closed: Event, others: Iterable["RuleState"]) -> Event:
        """What was just closed goes on for other rules; the update that tells of it."""
        data = {"reason": LEFT, **closed.data}
        told = loudest(each.own_severity for each in others)
        if self._urgency.forget(closed.opened_event_id, told=told):  # who closes it at last tells of it
            data.pop(QUIET_SEVERITY, None)
        return replace(closed, state=EventState.UPDATED, data=data)

    def cool(self, minute: int) -> None:
        """Something that this rule would have joined was closed: it opens nothing about that for a while."""
        self._cool_until = max(self._cool_until, minute + self.rule.cool_down_minutes)

    def forget_suspicion(self) -> None:
        """The clock was set back, or so: durations begin anew."""
        self._beyond.forget()
        self._back.forget()
        self._unsure_since = None

    def look(self, look: Look, *, quiet: bool = False, rehearsal: bool = False) -> list[Event]:
        """Take one minute.

        Parameters
        ----------
        look : Look
            What it says.
        quiet : bool
            Whether quiet hours are on.
        rehearsal : bool
            A minute from before the start: durations begin in it, but nothing opens or closes.
        """
        self.verdict = look.verdict
        if look.verdict is not Verdict.CANNOT_TELL:
            self._unsure_since = None
        elif self._unsure_since is None:
            self._unsure_since = look.minute
        if look.minute + self.rule.cool_down_minutes < self._cool_until:  # the clock was set back
            self._cool_until = -1
        events = [] if rehearsal else self._tell_after_quiet(look, quiet=quiet)
        if self.open_event_id is not None and not rehearsal:
            self._urgency.hold(look.end_utc_ns, quiet=quiet)
        match look.verdict:
            case Verdict.MAINTENANCE:
                self.forget_suspicion()
            case Verdict.CANNOT_TELL:
                events += [] if rehearsal else self._unsure(look)
            case Verdict.BEYOND:
                self._back.forget()
                held = self._beyond.add(look.minute)
                events += [] if rehearsal else self._is_beyond(look, held=held, quiet=quiet)
            case Verdict.BETWEEN | Verdict.BACK:
                self._beyond.forget()
                held = look.verdict is Verdict.BACK and self._back.add(look.minute)
                if look.verdict is Verdict.BETWEEN:
                    self._back.forget()
                events += [] if rehearsal else self._is_not_beyond(look, held=held)
        if not rehearsal and self.open_event_id is not None:
            events += self._louder(look, quiet=quiet)
        return events

    def close(self, look: Look, reason: str) -> list[Event]:
        """End what is open because nobody watches it any more."""
        return [] if self.open_event_id is None else [self._closed(look, {"reason": reason})]

    def _is_beyond(self, look: Look, *, held: bool, quiet: bool) -> list[Event]:
        events = self._sure(look)
        if self.open_event_id is None:
            if held and look.minute >= self._cool_until:
                events.append(self._opened(look, quiet=quiet))
            return events
        self._worst = max(self._worst, look.excess)
        worse = self._worst - self._told_worst > max(self.rule.conditions[0].hysteresis, 1e-9)
        if worse and look.minute - self._updated_minute >= UPDATE_MINUTES:
            self._told_worst = self._worst
            events.append(self._updated(look, "worse"))
        return events

    def _is_not_beyond(self, look: Look, *, held: bool) -> list[Event]:
        events = self._sure(look)
        if held and self.open_event_id is not None:
            events.append(self._closed(look, {}))
        return events

    def _opened(self, look: Look, *, quiet: bool) -> Event:
        since = look.minute if self._beyond.since is None else self._beyond.since
        hushed = self._urgency.opened(
            self.rule.severity, at_utc_ns=look.end_utc_ns, since_utc_ns=since * MINUTE_NS, quiet=quiet
        )
        data = self._data(look) | {
            "since_utc_ns": since * MINUTE_NS,
            "held_minutes": look.minute - since + 1,
            "told_minutes": self._beyond.told,
            "excess": _short(look.excess),
            **hushed,
        }
        event = Event(
            kind=self.rule.kind,
            state=EventState.OPENED,
            severity=self.severity,
            at_utc_ns=look.end_utc_ns,
            animal=self.animal,
            data=data,
        )
        self._begin(event.event_id, look.minute, since, look.excess)
        return event

    def _begin(self, event_id: str, minute: int, since: int, excess: float) -> None:
        self.open_event_id, self._since = event_id, since
        self._unsure_told = False
        self.kind = self.rule.kind
        self._unsure_since = None
        self._worst = self._told_worst = excess
        self._updated_minute = minute

    def _closed(self, look: Look, more: Mapping[str, Scalar]) -> Event:
        lasted = look.minute - self._since + 1
        data = self._data(look) | {"lasted_minutes": lasted, "worst_excess": _short(self._worst)} | dict(more)
        data |= self._urgency.closed(self.open_event_id, look.end_utc_ns)
        event = self._event(EventState.CLOSED, look, data)
        self._end(look.minute)
        return event

    def _end(self, minute: int) -> None:
        self.open_event_id = None
        self._cool_until = minute + self.rule.cool_down_minutes
        self._beyond.forget()
        self._back.forget()

    def _tell_after_quiet(self, look: Look, *, quiet: bool) -> list[Event]:
        missed = self._urgency.after_quiet(quiet=quiet)
        if missed is None:
            return []
        severity, data = missed
        return [
            Event(
                kind=self.kind,
                state=EventState.OCCURRED,
                severity=severity,
                at_utc_ns=look.end_utc_ns,
                animal=self.animal,
                data={"rule": self.rule.name, **data},
            )
        ]

    def _louder(self, look: Look, *, quiet: bool) -> list[Event]:
        """Quiet hours that are over, and nobody who acknowledges."""
        reason = self._urgency.louder(look.end_utc_ns, quiet=quiet)
        return [] if reason is None else [self._updated(look, reason)]

    def _unsure(self, look: Look) -> list[Event]:
        since = look.minute if self._unsure_since is None else self._unsure_since
        long = look.minute - since + 1 >= UNSURE_MINUTES
        if self.open_event_id is None or self._unsure_told or not long:
            return []
        self._unsure_told = True
        return [self._updated(look, "cannot_tell")]

    def _sure(self, look: Look) -> list[Event]:
        if self.open_event_id is None or not self._unsure_told:
            return []
        self._unsure_told = False
        return [self._updated(look, "can_tell")]

    def _updated(self, look: Look, reason: str) -> Event:
        self._updated_minute = look.minute
        data = self._data(look) | {"reason": reason, "worst_excess": _short(self._worst)}
        return self._event(EventState.UPDATED, look, data)

    def _event(self, state: EventState, look: Look, data: Mapping[str, Scalar]) -> Event:
        return Event(
            kind=self.kind,
            state=state,
            severity=self.severity,
            at_utc_ns=look.end_utc_ns,
            animal=self.animal,
            data=data,
            opened_event_id=self.open_event_id,
        )

    def _data(self, look: Look) -> dict[str, Scalar]:
        first = self.rule.conditions[0]
        return {
            "rule": self.rule.name,
            "measure": first.measure,
            "comparison": first.comparison,
            "over_minutes": first.over_minutes,
            "value": _short(look.value),
            "threshold": _short(look.threshold),
            "verdict": look.verdict.value,
            **look.data,
        }


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)
