"""How soon somebody should look: quiet hours hush what is no emergency, and what nobody acknowledges gets louder."""

from collections.abc import Iterable
from dataclasses import dataclass

from daemon.events import Event, EventState, Scalar, Severity, since_of
from drivers.clock import NS_PER_S

ESCALATED = "escalated"
"""Reason of an update: nobody has acknowledged it for too long."""

QUIET_OVER = "quiet_hours_over"
"""Reason of what is told when quiet hours are over, at its severity."""

QUIET_SEVERITY = "quiet_severity"
"""In the data of what quiet hours have hushed: its severity without them; of what is over, that it is told at later."""

_HIGHER = {Severity.NOTICE: Severity.ALERT, Severity.ALERT: Severity.EMERGENCY, Severity.EMERGENCY: Severity.EMERGENCY}
_RANKS = list(Severity)


def softer(one: Severity, other: Severity) -> Severity:
    """The less severe of two."""
    return min(one, other, key=_RANKS.index)


def loudest(severities: Iterable[Severity]) -> Severity:
    """The most severe of some."""
    return max(severities, key=_RANKS.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Missed:
    """What was over before anybody was called."""

    severity: Severity
    event_id: str | None
    since_utc_ns: int
    until_utc_ns: int


class Urgency:
    """Of what opens and closes again and again, one at a time; rules of minutes and all other events have the same.

    Parameters
    ----------
    severity : Severity
        As long as nothing has been told.
    escalate_after_minutes : int
        Open for so long and not acknowledged, it is one step more severe; 0 never.
    quiet : bool
        Whether quiet hours hold for it.
    """

    def __init__(self, severity: Severity, *, escalate_after_minutes: int, quiet: bool) -> None:
        self.severity = severity
        """As it was last told."""
        self.acknowledged = False
        """Whether somebody has seen what is open: it is not made more severe any more."""
        self._after_ns = escalate_after_minutes * 60 * NS_PER_S
        self._quiet = quiet
        self._opened_utc_ns = self._since_utc_ns = 0
        self._looked_utc_ns = 0
        """When it was last asked for how long it is open."""
        self._hushed: Severity | None = None
        self._escalated = False
        self._waits = False
        """Whether it would have become an alert, had it not been quiet."""
        self._missed: list[_Missed] = []

    def opened(self, severity: Severity, *, at_utc_ns: int, since_utc_ns: int, quiet: bool) -> dict[str, Scalar]:
        """It opens, with a severity of its own; what its event is to say about that. Then `severity` holds."""
        hushed = self._hush(severity, quiet=quiet)
        self._begin(Severity.NOTICE if hushed else severity, severity if hushed else None, at_utc_ns, since_utc_ns)
        return {QUIET_SEVERITY: severity.value} if hushed else {}

    def joins(self, told: Severity) -> bool:
        """What has just opened adds to what was told at this severity; whether nothing of it is to be told later."""
        if self._hushed is None or loudest((told, self._hushed)) is not told:
            return False
        self.severity, self._hushed = self._hushed, None
        return True

    @property
    def own_severity(self) -> Severity:
        """Of what is open, without quiet hours."""
        return self._hushed or self.severity

    @property
    def due_utc_ns(self) -> int:
        """When what is open is to be more severe."""
        return self._opened_utc_ns + self._after_ns

    def hold(self, at_utc_ns: int, *, quiet: bool) -> None:
        """Note that it is an alert by now, were it not quiet; to be called before it may close."""
        due = self._is_due(at_utc_ns - self._opened_utc_ns)
        self._waits = self._waits or (due and quiet and self._quiet and self.own_severity is Severity.NOTICE)

    def closed(self, event_id: str | None, until_utc_ns: int) -> dict[str, Scalar]:
        """What was open is over; that it was hushed is remembered, and is what its event is to say."""
        missed = self._hushed
        if missed is None and self._waits and not self.acknowledged:
            missed = Severity.ALERT
        self._hushed, self._waits = None, False
        if missed is None:
            return {}
        self._missed.append(
            _Missed(severity=missed, event_id=event_id, since_utc_ns=self._since_utc_ns, until_utc_ns=until_utc_ns)
        )
        return {QUIET_SEVERITY: missed.value}

    def occurred(self, event: Event, *, quiet: bool) -> dict[str, Scalar]:
        """Something is over in the moment in which it is told; see `opened`."""
        hushed = self._hush(event.severity, quiet=quiet)
        self.severity = Severity.NOTICE if hushed else event.severity
        if not hushed:
            return {}
        self._miss(event, event.severity)
        return {QUIET_SEVERITY: event.severity.value}

    def forget(self, event_id: str | None, *, told: Severity) -> bool:
        """Somebody else tells what became of this event, at this severity; False where that is not severe enough."""
        about = [each for each in self._missed if each.event_id == event_id]
        if loudest((told, *(each.severity for each in about))) is not told:
            return False
        self._missed = [each for each in self._missed if each.event_id != event_id]
        return True

    def louder(self, at_utc_ns: int, *, quiet: bool) -> str | None:
        """Why what is open is to be told anew, with another `severity`; None when it is not."""
        held_back = quiet and self._quiet
        own = self.own_severity
        if at_utc_ns < self._looked_utc_ns:  # the clock was set back: it has been open for as long as before
            self._opened_utc_ns -= self._looked_utc_ns - at_utc_ns
        self._looked_utc_ns = at_utc_ns
        self.hold(at_utc_ns, quiet=quiet)
        if self._is_due(at_utc_ns - self._opened_utc_ns):
            higher = _HIGHER[own]
            if higher is Severity.EMERGENCY or not held_back:
                self._escalated, self._waits, self._hushed, self.severity = True, False, None, higher
                return ESCALATED if higher is not own else None
        if self._hushed is not None and not held_back:
            self.severity, self._hushed = self._hushed, None
            return QUIET_OVER
        return None

    def after_quiet(self, *, quiet: bool) -> tuple[Severity, dict[str, Scalar]] | None:
        """What opened and closed while it was quiet is told when the hours are over, once: late, and not lost."""
        if not self._missed or (quiet and self._quiet):
            return None
        missed, self._missed = self._missed, []
        data: dict[str, Scalar] = {
            "reason": QUIET_OVER,
            "opened_event": missed[0].event_id,
            "since_utc_ns": missed[0].since_utc_ns,
            "until_utc_ns": missed[-1].until_utc_ns,
        }
        if len(missed) > 1:
            data["times"] = len(missed)
        return loudest(each.severity for each in missed), data

    def restore(self, event: Event) -> None:
        """Take up an event from before a restart; to be called in the order in which they were stored."""
        value = event.data.get(QUIET_SEVERITY)
        hushed = Severity(value) if isinstance(value, str) else None
        reason = event.data.get("reason")
        match event.state:
            case EventState.OPENED:
                self._begin(event.severity, hushed, event.at_utc_ns, since_of(event))
            case EventState.UPDATED:
                self.severity = event.severity
                self._escalated = self._escalated or reason == ESCALATED
                if reason in (ESCALATED, QUIET_OVER):
                    self._hushed = None
            case EventState.ACKNOWLEDGED:
                self.acknowledged = True
            case EventState.CLOSED:
                self._hushed = hushed or self._hushed
                self.closed(event.opened_event_id, event.at_utc_ns)
            case EventState.OCCURRED:
                if reason == QUIET_OVER:
                    self._missed = []
                elif hushed is not None:
                    self._miss(event, hushed)

    def _hush(self, severity: Severity, *, quiet: bool) -> bool:
        """A notice can be told at any time, and an emergency must be."""
        return quiet and self._quiet and severity is Severity.ALERT

    def _begin(self, severity: Severity, hushed: Severity | None, at_utc_ns: int, since_utc_ns: int) -> None:
        self.severity, self._hushed = severity, hushed
        self._opened_utc_ns = self._looked_utc_ns = at_utc_ns
        self._since_utc_ns = since_utc_ns
        self.acknowledged = self._escalated = self._waits = False

    def _is_due(self, open_ns: int) -> bool:
        """Whether it is to be more severe."""
        return 0 < self._after_ns <= open_ns and not self._escalated and not self.acknowledged

    def _miss(self, event: Event, severity: Severity) -> None:
        self._missed.append(
            _Missed(
                severity=severity,
                event_id=event.event_id,
                since_utc_ns=event.at_utc_ns,
                until_utc_ns=event.at_utc_ns,
            )
        )
