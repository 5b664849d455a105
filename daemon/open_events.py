"""What is open, with what has become of it since."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from daemon.events import Event, EventState, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEvent:
    """A condition that was opened and not closed."""

    opened: Event
    severity: Severity
    """As it was last told."""
    acknowledged_by: str | None = None
    acknowledged_utc_ns: int | None = None
    newest: Event
    """What was last told of it: its numbers, and where its evidence is."""


def open_now(history: Iterable[Event]) -> list[OpenEvent]:
    """What is open after these events, oldest first; what closes something unknown is passed over."""
    found: dict[str, OpenEvent] = {}
    for event in history:
        before = found.get(event.opened_event_id or "")
        if event.state is EventState.OPENED:
            found[event.event_id] = OpenEvent(opened=event, severity=event.severity, newest=event)
        elif before is None:
            continue
        elif event.state is EventState.CLOSED:
            del found[before.opened.event_id]
        elif event.state is EventState.ACKNOWLEDGED:
            by = event.data.get("by")
            found[before.opened.event_id] = replace(
                before, acknowledged_by=str(by), acknowledged_utc_ns=event.at_utc_ns
            )
        elif event.state is EventState.UPDATED:
            found[before.opened.event_id] = replace(before, severity=event.severity, newest=event)
    return list(found.values())


def opened_now(history: Iterable[Event]) -> list[Event]:
    """The events that opened what is open after these, each with the severity that was last told of it."""
    return [replace(each.opened, severity=each.severity) for each in open_now(history)]
