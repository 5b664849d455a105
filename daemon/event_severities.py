"""Events of single frames and of the device, with the severity that holds when they are told. Belongs to one thread."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from daemon.event_rules import EventRule
from daemon.events import JUDGED_ON_FRAMES, Event, EventKind, EventState, Scalar, Severity
from daemon.evidence import without_pictures
from daemon.quiet_hours import QuietHours
from daemon.urgency import QUIET_OVER, QUIET_SEVERITY, Urgency, softer
from drivers.clock import NS_PER_S


class _Subject:
    """Events of one kind, of one animal or of the device; one at a time is open."""

    def __init__(self, kind: EventKind, animal: int | None, rule: EventRule) -> None:
        self.kind, self.animal, self.rule = kind, animal, rule
        self.urgency = Urgency(
            rule.severity or Severity.NOTICE, escalate_after_minutes=rule.escalate_after_minutes, quiet=rule.quiet
        )
        self.opened: Event | None = None
        self.data: Mapping[str, Scalar] = {}
        """What was last told of it."""
        self.why: Scalar = None
        """What it came from, in words."""
        self.closed_utc_ns: int | None = None

    def restore(self, event: Event) -> None:
        """Take up an event from before a restart."""
        self.urgency.restore(event)
        self._follow(event)

    def told(self, event: Event, *, quiet: bool) -> Event:
        """The event with its severity."""
        if event.data.get("reason") == QUIET_OVER and event.state is EventState.OCCURRED:
            return event  # by `late`: with the severity of what is told late, whatever the config says by now
        own = self.rule.severity or event.severity
        more: Mapping[str, Scalar] = {}
        match event.state:
            case EventState.OPENED:
                since = event.data.get("since_utc_ns")
                more = self.urgency.opened(
                    own,
                    at_utc_ns=event.at_utc_ns,
                    since_utc_ns=since if isinstance(since, int) else event.at_utc_ns,
                    quiet=quiet,
                )
                severity = self.urgency.severity
            case EventState.OCCURRED:
                more = self.urgency.occurred(replace(event, severity=own), quiet=quiet)
                severity = self.urgency.severity
            case EventState.CLOSED:
                severity = self.urgency.severity
                if self.kind not in JUDGED_ON_FRAMES:  # that it is well again has a severity of its own
                    severity = softer(severity, event.severity)
                more = self.urgency.closed(event.opened_event_id, event.at_utc_ns)
            case _:
                severity = self.urgency.severity
        self._follow(event)
        return replace(event, severity=severity, data={**event.data, **more})

    def _follow(self, event: Event) -> None:
        match event.state:
            case EventState.OPENED:
                self.opened, self.data = event, _numbers(event)
                self.why = event.data.get("why", event.data.get("reason"))
            case EventState.UPDATED:
                self.data = _numbers(event)
                newest = event.data.get("reason") if self.kind is EventKind.VISION_DEGRADED else self.why
                self.why = event.data.get("why", newest)
            case EventState.CLOSED:
                self.opened, self.closed_utc_ns = None, event.at_utc_ns

    def cools(self, utc_ns: int) -> bool:
        """Whether it has closed so lately that it is not to open; not after the clock was set back."""
        if self.closed_utc_ns is None or utc_ns < self.closed_utc_ns:
            self.closed_utc_ns = None
            return False
        return utc_ns - self.closed_utc_ns < self.rule.cool_down_minutes * 60 * NS_PER_S

    def late(self, utc_ns: int, *, quiet: bool) -> Iterator[Event]:
        """What the passing of time leads to."""
        missed = self.urgency.after_quiet(quiet=quiet)
        if missed is not None:
            severity, data = missed
            yield Event(
                kind=self.kind,
                state=EventState.OCCURRED,
                severity=severity,
                at_utc_ns=utc_ns,
                animal=self.animal,
                data={"rule": self.kind.value, **data},
            )
        opened = self.opened
        reason = None if opened is None else self.urgency.louder(utc_ns, quiet=quiet)
        if opened is not None and reason is not None:
            yield Event(
                kind=self.kind,
                state=EventState.UPDATED,
                severity=self.urgency.severity,
                at_utc_ns=utc_ns,
                animal=self.animal,
                data={**({} if self.why is None else {"why": self.why}), **self.data, "reason": reason},
                opened_event_id=opened.event_id,
            )


def _numbers(event: Event) -> dict[str, Scalar]:
    data = without_pictures(event.data)
    data.pop(QUIET_SEVERITY, None)
    return data


class EventSeverities:
    """All methods but `acknowledge` belong to one thread.

    Parameters
    ----------
    kinds : iterable of EventKind
        Of the events that this thread tells.
    rules : mapping
        What the config says of each of them.
    animals : int
        How many live in the box.
    quiet_hours : QuietHours
        When nobody is to be called by what can wait.
    """

    def __init__(
        self,
        kinds: Iterable[EventKind],
        rules: Mapping[EventKind, EventRule],
        *,
        animals: int,
        quiet_hours: QuietHours,
    ) -> None:
        self._quiet = quiet_hours
        self._subjects = {
            (kind, animal): _Subject(kind, animal, rules[kind])
            for kind in kinds
            for animal in (range(1, animals + 1) if kind in JUDGED_ON_FRAMES else (None,))
        }
        self._seen: deque[str] = deque()

    def restore(self, events: Iterable[Event]) -> None:
        """Take up events from before a restart, in their order; those of other kinds are passed over."""
        for event in events:
            if (subject := self._subject_of(event)) is not None:
                subject.restore(event)

    def acknowledge(self, event_id: str) -> None:
        """Somebody has seen an event. From any thread."""
        self._seen.append(event_id)

    def told(self, event: Event) -> Event:
        """An event as it is to be told; one of another kind as it is."""
        self._hear()
        subject = self._subject_of(event)
        if subject is None:
            return event
        quiet = self._quiet.at(event.at_utc_ns)
        if event.state is EventState.CLOSED:  # it may be the first that is heard of it since before a restart
            due = self._quiet.at(subject.urgency.due_utc_ns)
            subject.urgency.hold(event.at_utc_ns, quiet=quiet or due)
        return subject.told(event, quiet=quiet)

    def tick(self, utc_ns: int) -> list[Event]:
        """What nobody has acknowledged for too long, and what waited for the end of quiet hours."""
        self._hear()
        quiet = self._quiet.at(utc_ns)
        return [event for subject in self._subjects.values() for event in subject.late(utc_ns, quiet=quiet)]

    def cools(self, kind: EventKind, animal: int, utc_ns: int) -> bool:
        """Whether such an event has closed so lately that none is to open."""
        subject = self._subjects.get((kind, animal))
        return subject is not None and subject.cools(utc_ns)

    def _hear(self) -> None:
        while self._seen:
            event_id = self._seen.popleft()
            for subject in self._subjects.values():
                if subject.opened is not None and subject.opened.event_id == event_id:
                    subject.urgency.acknowledged = True

    def _subject_of(self, event: Event) -> _Subject | None:
        if event.state in (EventState.OPENED, EventState.OCCURRED):
            return self._subjects.get((event.kind, event.animal))
        about = event.opened_event_id
        return next(
            (each for each in self._subjects.values() if each.opened is not None and each.opened.event_id == about),
            None,
        )
