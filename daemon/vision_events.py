"""When the networks give way, and when they are back, as events."""

from collections.abc import Callable, Iterable, Mapping

from daemon.events import Event, EventKind, EventState, Scalar, Severity, evidence, since_of
from daemon.vision.resilient import Mode, VisionState

_SEVERITIES = {Mode.NETWORKS: Severity.NOTICE, Mode.THINNED: Severity.NOTICE, Mode.CLASSICAL: Severity.ALERT}


class VisionEvents:
    """Compares how animals are found with what was told last.

    What is measured between the opening and the closing event was not measured by the networks on every frame.

    Parameters
    ----------
    state : callable
        How they are found at present.
    numbers : callable
        More that the evidence is to say.
    """

    def __init__(
        self, state: Callable[[], VisionState], numbers: Callable[[], Mapping[str, Scalar]] = lambda: {}
    ) -> None:
        self._state = state
        self._numbers = numbers
        self._open: str | None = None
        """Event that opened the condition."""
        self._open_mode: Scalar = None
        """How they were found then."""
        self._since_utc_ns = 0
        self._told: VisionState | None = None

    def restore(self, open_events: Iterable[Event]) -> None:
        """Go on from a condition that was open when the service stopped."""
        for event in open_events:
            if event.kind is EventKind.VISION_DEGRADED:
                self._open, self._since_utc_ns = event.event_id, since_of(event)
                self._open_mode = event.data.get("mode")

    def update(self, at_utc_ns: int) -> list[Event]:
        """What has changed since the last call; `at_utc_ns` is the time of the first frame that it concerns."""
        state = self._state()
        if state == self._told:
            return []
        before, self._told = self._told, state
        if self._open is not None and state.degraded and state.mode.value == self._open_mode:
            if before is None:  # still so after a restart: told already
                return []
            return [self._event(EventState.UPDATED, state, at_utc_ns)]  # by more or by less, it is one condition
        events = []
        if self._open is not None:
            events.append(self._event(EventState.CLOSED, state, at_utc_ns))
            self._open = None
        if state.degraded:
            self._since_utc_ns = at_utc_ns
            opened = self._event(EventState.OPENED, state, at_utc_ns)
            self._open, self._open_mode = opened.event_id, state.mode.value
            events.append(opened)
        return events

    def _event(self, what: EventState, state: VisionState, at_utc_ns: int) -> Event:
        return Event(
            kind=EventKind.VISION_DEGRADED,
            state=what,
            severity=_SEVERITIES[state.mode],
            at_utc_ns=at_utc_ns,
            data={
                **evidence(
                    EventKind.VISION_DEGRADED,
                    measure="networks_share",
                    comparison="below",
                    value=_networks_share(state),
                    threshold=1.0,
                    since_utc_ns=self._since_utc_ns,
                    mode=state.mode.value,
                    one_frame_of=state.every,
                    reason=state.reason,
                ),
                **self._numbers(),
            },
            opened_event_id=None if what is EventState.OPENED else self._open,
        )


def _networks_share(state: VisionState) -> float:
    """Of the frames, those that all networks of the config measure."""
    if state.mode is Mode.THINNED:
        return round(1 / state.every, 3)
    return 0.0 if state.degraded or state.mode is Mode.CLASSICAL else 1.0
