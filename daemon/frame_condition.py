"""One condition that is judged on each frame, of one animal: closed, suspected since, or open. Each change is told."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from daemon.events import Event, EventKind, EventState, Scalar, Severity, since_of
from daemon.open_events import OpenEvent
from daemon.rule_state import UNSURE_MINUTES
from drivers.clock import NS_PER_S

UPDATE_S = 60.0
"""An event that gets worse says so no more often than this."""

LEAST_RISE_CELSIUS = 0.1
"""What is worse by less is told only with something else, also where the hysteresis is smaller."""

UNSURE_S = 60.0 * UNSURE_MINUTES
"""An open event says after so long that nobody can tell any more how it stands, as those of minutes do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at one condition."""

    at_utc_ns: int
    at_monotonic_ns: int
    beyond: bool
    """On the wrong side of the threshold."""
    back: bool
    """Safely on the right side, hysteresis included."""
    celsius: float | None = None
    """None where the time that it has lasted is what counts."""
    threshold_celsius: float | None = None
    excess: float = 0.0
    """How far beyond the threshold, °C; negative on the right side."""
    rise: float = 0.0
    """It is worse when the excess has risen by more than this since it was last told, °C."""


class FrameCondition:
    """Goes from frame to frame; what it returns are the events to store and tell.

    What gets worse is told once a minute at most: of a temperature when it is farther beyond the threshold by more than
    the hysteresis, of what has no temperature when it has lasted twice as long as was last told.

    Parameters
    ----------
    kind : EventKind
        Of its events; also the name of its rule.
    animal : int
        Of which animal.
    measure : str
        Name of what is compared, for the evidence.
    comparison : {'above', 'below'}
        Which side of the threshold is wrong.
    gap_s : float
        Longest time between two looks over which patience goes on.
    """

    severity = Severity.ALERT

    def __init__(self, kind: EventKind, animal: int, *, measure: str, comparison: str, gap_s: float) -> None:
        self.kind, self.animal = kind, animal
        self._measure, self._comparison = measure, comparison
        self._gap_ns = round(gap_s * NS_PER_S)
        self._opened: str | None = None
        """Id of the event that is open."""
        self._since_utc_ns = 0
        self._since_ns: int | None = None
        """Since when it is suspected or open; None when neither, and of what is open until the first look."""
        self._last_ns: int | None = None
        self._newest: tuple[Reading, float] | None = None
        """Of what is open: what a frame said last, and how long it must be so."""
        self._told_ns: int | None = None
        self._worst = self._told_worst = 0.0
        self._told_held_s = 0.0
        self._frames = self._told_frames = 0
        """Since it is wrong, or since a restart: all, and those that told something."""
        self._frame_ns: int | None = None
        self._unsure_since_ns: int | None = None
        self._unsure_told = False

    def restore(self, found: OpenEvent) -> None:
        """Go on from a condition that was open when the service stopped."""
        self._opened = found.opened.event_id
        self._since_utc_ns = since_of(found.opened)
        self._since_ns = self._told_ns = None
        self._worst = self._told_worst = _number(found.newest, "worst_excess")
        self._told_held_s = _number(found.newest, "held_s")
        self._unsure_told = found.newest.data.get("verdict") == "cannot_tell"

    def pass_over(self, at_utc_ns: int, at_monotonic_ns: int) -> Event | None:
        """Take a frame that says nothing of this."""
        self._resume(at_utc_ns, at_monotonic_ns)
        if self._since_ns is None:
            return None
        self._frames += 1
        before, self._frame_ns = self._frame_ns, at_monotonic_ns
        if self._unsure_since_ns is None or before is None or at_monotonic_ns - before > self._gap_ns:
            self._unsure_since_ns = at_monotonic_ns
        long = at_monotonic_ns - self._unsure_since_ns >= UNSURE_S * NS_PER_S
        if self._opened is None or self._unsure_told or not long:
            return None
        self._unsure_told = True
        nothing = Reading(at_utc_ns=at_utc_ns, at_monotonic_ns=at_monotonic_ns, beyond=False, back=False)
        unknown = {"value": None, "celsius": None, "held_s": round(self._told_held_s, 3), "verdict": "cannot_tell"}
        return self._updated(nothing, "cannot_tell", unknown)

    def update(self, reading: Reading, duration_s: float, *, may_open: bool = True) -> Event | None:
        """Take a frame that says something; it must be wrong for `duration_s` to open, and `may_open`."""
        self._resume(reading.at_utc_ns, reading.at_monotonic_ns)
        last, self._last_ns = self._last_ns, reading.at_monotonic_ns
        self._frame_ns, self._unsure_since_ns = reading.at_monotonic_ns, None
        if self._opened is not None:
            return self._go_on(reading, duration_s)
        if last is not None and reading.at_monotonic_ns - last > self._gap_ns:
            self._since_ns = None
        if not reading.beyond:
            self._since_ns = None
            return None
        if self._since_ns is None:
            self._since_utc_ns, self._since_ns = reading.at_utc_ns, reading.at_monotonic_ns
            self._frames = self._told_frames = 0
            self._worst = 0.0
        self._count(reading, duration_s)
        return self._open(reading, duration_s) if may_open and self._held_s(reading) >= duration_s else None

    def renewed(self, update: Event) -> Event:
        """An update of what is open with its newest numbers; as it is where they cannot be told."""
        if self._opened is None or update.opened_event_id != self._opened or self._newest is None or self._unsure_told:
            return update
        reading, duration_s = self._newest
        self._tell(reading)
        verdict = "beyond" if reading.beyond else "between"
        numbers = {**self._data(reading, duration_s), "verdict": verdict}
        return replace(
            update, data={**self._event(update.state, reading, numbers).data, "reason": update.data["reason"]}
        )

    def _resume(self, at_utc_ns: int, at_monotonic_ns: int) -> None:
        """At the first look after a restart: how long it has lasted is known by the wall clock alone."""
        if self._opened is not None and self._since_ns is None:
            self._since_ns = at_monotonic_ns - max(0, at_utc_ns - self._since_utc_ns)
            self._told_ns = at_monotonic_ns

    def _count(self, reading: Reading, duration_s: float) -> None:
        self._frames += 1
        self._told_frames += 1
        self._worst = max(self._worst, self._excess(reading, duration_s))

    def _excess(self, reading: Reading, duration_s: float) -> float:
        """Where there is no temperature it is the time that is too long."""
        return self._held_s(reading) - duration_s if reading.celsius is None else reading.excess

    def _is_worse(self, reading: Reading) -> bool:
        if reading.celsius is None:
            return self._held_s(reading) >= 2 * self._told_held_s
        return self._worst - self._told_worst > max(reading.rise, LEAST_RISE_CELSIUS)

    def _held_s(self, reading: Reading) -> float:
        assert self._since_ns is not None  # asked only of what is suspected or open
        return (reading.at_monotonic_ns - self._since_ns) / NS_PER_S

    def _open(self, reading: Reading, duration_s: float) -> Event:
        event = self._event(EventState.OPENED, reading, {**self._data(reading, duration_s), "verdict": "beyond"})
        self._opened, self._unsure_told = event.event_id, False
        self._newest = reading, duration_s
        self._tell(reading)
        return event

    def _tell(self, reading: Reading) -> None:
        self._told_ns, self._told_worst, self._told_held_s = (
            reading.at_monotonic_ns,
            self._worst,
            self._held_s(reading),
        )

    def _go_on(self, reading: Reading, duration_s: float) -> Event | None:
        if reading.back:
            return self._close(reading, duration_s)
        self._count(reading, duration_s)
        self._newest = reading, duration_s
        assert self._told_ns is not None  # since it was opened, or the first look after a restart
        soon = reading.at_monotonic_ns - self._told_ns < UPDATE_S * NS_PER_S
        if self._unsure_told:
            self._unsure_told, reason = False, "can_tell"
        elif reading.beyond and not soon and self._is_worse(reading):
            reason = "worse"
            self._tell(reading)
        else:
            return None
        verdict = "beyond" if reading.beyond else "between"
        return self._updated(reading, reason, {**self._data(reading, duration_s), "verdict": verdict})

    def _close(self, reading: Reading, duration_s: float) -> Event:
        self._frames += 1
        self._told_frames += 1
        data = {**self._data(reading, duration_s), "verdict": "back", "lasted_s": round(self._held_s(reading), 3)}
        event = self._event(EventState.CLOSED, reading, data)
        self._opened = self._since_ns = self._newest = None
        return event

    def _data(self, reading: Reading, duration_s: float) -> dict[str, Scalar]:
        held_s = round(self._held_s(reading), 3)
        timed = reading.celsius is None
        return {
            "value": held_s if timed else reading.celsius,
            "threshold": duration_s if timed else reading.threshold_celsius,
            "celsius": reading.celsius,
            "threshold_celsius": reading.threshold_celsius,
            "duration_s": duration_s,
            "held_s": held_s,
            "excess": round(self._excess(reading, duration_s), 3),
        }

    def _updated(self, reading: Reading, reason: str, data: Mapping[str, Scalar]) -> Event:
        return self._event(EventState.UPDATED, reading, {**data, "reason": reason})

    def _event(self, state: EventState, reading: Reading, data: Mapping[str, Scalar]) -> Event:
        return Event(
            kind=self.kind,
            state=state,
            severity=self.severity,
            at_utc_ns=reading.at_utc_ns,
            animal=self.animal,
            data={
                "rule": self.kind.value,
                "measure": self._measure,
                "comparison": self._comparison,
                "since_utc_ns": self._since_utc_ns,
                "coverage": round(self._told_frames / self._frames, 3) if self._frames else None,
                "worst_excess": round(self._worst, 3),
                **data,
            },
            opened_event_id=self._opened,
        )


def _number(event: Event, name: str) -> float:
    value = event.data.get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0
