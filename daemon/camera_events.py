"""When the camera goes, stays away and comes, as events."""

from collections.abc import Iterable
from dataclasses import replace

from daemon.events import Event, EventKind, EventState, Scalar, Severity, evidence, since_of
from daemon.sampling import CameraAway, CameraFound, CameraLost, CameraTrouble
from drivers.clock import NS_PER_S


class CameraEvents:
    """Remembers the loss that is open; belongs to one thread."""

    def __init__(self) -> None:
        self._lost: Event | None = None
        """What opened it."""

    def restore(self, open_events: Iterable[Event]) -> None:
        """Go on from a loss that was open when the service stopped."""
        for event in open_events:
            if event.kind is EventKind.CAMERA_LOST:
                self._lost = event

    def lost(self, item: CameraLost) -> Event | None:
        """The camera is lost; None when it has been since before a restart: it is one loss, told once."""
        if self._lost is not None:
            return None
        age_s = item.trouble.frame_age_s
        self._lost = Event(
            kind=EventKind.CAMERA_LOST,
            state=EventState.OPENED,
            severity=Severity.ALERT,
            at_utc_ns=item.at_utc_ns,
            data={
                **_numbers(item.trouble, item.at_utc_ns - round((age_s or 0.0) * NS_PER_S)),
                "reason": item.reason,
                "why": item.trouble.why,
            },
        )
        return self._lost

    def away(self, item: CameraAway) -> Event | None:
        """It is still lost; None when nobody was told that it is."""
        lost = self._lost
        if lost is None:
            return None
        return Event(
            kind=EventKind.CAMERA_LOST,
            state=EventState.UPDATED,
            severity=lost.severity,
            at_utc_ns=item.at_utc_ns,
            data={**_numbers(item.trouble, since_of(lost)), "reason": "worse", "away_s": round(item.away_s, 3)},
            opened_event_id=lost.event_id,
        )

    def renewed(self, update: Event) -> Event:
        """An update of the loss with the age that the last good frame has by now."""
        lost = self._lost
        if lost is None or update.opened_event_id != lost.event_id or update.data.get("value") is None:
            return update
        age_s = round(max(0, update.at_utc_ns - since_of(lost)) / NS_PER_S, 3)
        return replace(update, data={**update.data, "value": age_s})

    def found(self, item: CameraFound) -> Event:
        """It is back, or there for the first time."""
        lost, self._lost = self._lost, None
        return Event(
            kind=EventKind.CAMERA_FOUND,
            state=EventState.OCCURRED if lost is None else EventState.CLOSED,
            severity=Severity.NOTICE,
            at_utc_ns=item.at_utc_ns,
            data={
                **({} if lost is None else _numbers(item.trouble, since_of(lost))),
                "product": item.info.product,
                "serial": item.info.serial,
                "location": item.info.location,
                "variant": item.variant,
                "away_s": round(item.away_s, 3),
            },
            opened_event_id=None if lost is None else lost.event_id,
        )


def _numbers(trouble: CameraTrouble, since_utc_ns: int) -> dict[str, Scalar]:
    return evidence(
        EventKind.CAMERA_LOST,
        measure="frame_age_s",
        comparison="above",
        value=None if trouble.frame_age_s is None else round(trouble.frame_age_s, 3),
        threshold=trouble.patience_s,
        since_utc_ns=since_utc_ns,
        step=trouble.step,
        tries=trouble.tries,
        failures=trouble.failures,
        good_frames=trouble.good_frames,
        refused=trouble.refused,
    )
