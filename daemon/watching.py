"""Rules, maintenance and evidence together, as the worker's thread has them."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from daemon.event_rules import KEYS, OF_THE_DISK
from daemon.event_severities import EventSeverities
from daemon.events import IDENTITY_CORRECTION, JUDGED_ON_FRAMES, OF_THE_DEVICE, Event, EventKind, EventState
from daemon.evidence import EvidenceFolder, FrameAlbum
from daemon.evidence_plot import plot
from daemon.frame_series import FrameSeries
from daemon.maintenance import LOOK_BACK_NS, SCHEDULE, Maintenance, begun, ended, in_words, planned_at
from daemon.minute_rules import MOST_LIVE_MINUTES, MOST_MISSING_MINUTES, RAW_MINUTES, MinuteRules, RuleStanding
from daemon.minute_series import MINUTE_NS
from daemon.minute_value import MinuteValue
from daemon.observation import FrameObservation
from daemon.overlay import draw, to_png
from daemon.pipeline import Measured
from daemon.plot_data import PlotData
from daemon.quiet_hours import QuietHours
from daemon.rule import Rule
from daemon.rule_state import JOINED
from daemon.rules import NOT_A_TEMPERATURE
from daemon.settings import Settings
from daemon.store.repository import Store
from daemon.urgency import ESCALATED, QUIET_OVER
from drivers.clock import NS_PER_S
from drivers.errors import StoreError
from drivers.frame import ThermalFrame

logger = logging.getLogger(__name__)

_PICTURED_UPDATES = ("worse", ESCALATED, JOINED, QUIET_OVER)
_WITH_THE_NEWEST = (*JUDGED_ON_FRAMES, EventKind.CAMERA_LOST)
"""Kinds whose last picture is the very last frame that came, not that of the minute."""
_WITHOUT_PICTURES = (EventKind.MAINTENANCE,)
_LEAST_PLOT_MINUTES = 360
_BEFORE_MINUTES = 240
"""A plot begins so long before it was wrong."""

LOOKED_BACK_S = 1800
"""So much of what frames showed is read at a start."""

_EVENTS_LOOKED_BACK_NS = 14 * 86_400 * NS_PER_S
"""Events since then say what cools down, and what quiet hours hold back, also where the box was off for a holiday."""


def minute_rules_of(
    settings: Settings, rules: Sequence[Rule], *, most_at_once: int = MOST_MISSING_MINUTES
) -> MinuteRules:
    """What judges these rules."""
    return MinuteRules(
        rules,
        animals=settings.animal_count,
        schedule=settings.schedule,
        zone=settings.zone,
        settings=settings.rules,
        most_at_once=most_at_once,
    )


def _severities_of(settings: Settings, kinds: Iterable[EventKind]) -> EventSeverities:
    return EventSeverities(
        kinds,
        settings.event_rules,
        animals=settings.animal_count,
        quiet_hours=QuietHours(settings.rules.quiet_hours, settings.zone),
    )


def _standing(events: Sequence[Event]) -> list[Event]:
    """Without what is over and rested on data that was corrected: it says nothing about which days are usual."""
    closed = {event.opened_event_id for event in events if event.state is EventState.CLOSED}
    wrong = {event.event_id for event in events if event.event_id in closed and IDENTITY_CORRECTION in event.data}
    return [event for event in events if event.event_id not in wrong and event.opened_event_id not in wrong]


class Watching:
    """All methods but the properties belong to the worker's thread.

    Parameters
    ----------
    settings : Settings
        Rules, maintenance, where evidence goes.
    """

    def __init__(self, settings: Settings) -> None:
        self.rules = minute_rules_of(settings, settings.minute_rules(), most_at_once=MOST_LIVE_MINUTES)
        self._settings = settings
        self._plan = settings.maintenance
        self._zone = settings.zone
        self._album = FrameAlbum()
        self._series = FrameSeries(settings.zone, interval_s=settings.measure.outside_interval_s)
        self._newest: tuple[ThermalFrame, Measured] | None = None
        self._newest_picture: bytes | None = None
        """None until it is needed: drawn once, however many events are told at this frame."""
        self.severities = _severities_of(settings, [kind for kind in KEYS if kind not in OF_THE_DISK])
        """Of events that no rule of minutes tells."""
        self.severities_of_disk = _severities_of(settings, OF_THE_DISK)
        """Of those that the caretaker's thread tells."""
        self.folder = EvidenceFolder(settings.box.data_dir, settings.rules.evidence_mb * 1_000_000)
        """Where evidence goes; may be used from any thread."""
        self._stretches: list[Maintenance] = []
        self._on: tuple[Maintenance, ...] = ()

    @property
    def maintenance(self) -> tuple[Maintenance, ...]:
        """What goes on; may be read from any thread."""
        return self._on

    @property
    def stretches(self) -> Sequence[Maintenance]:
        """All maintenance that a baseline may reach back to, also what is over."""
        return self._stretches

    @property
    def standing(self) -> tuple[RuleStanding, ...]:
        """How each rule stands; may be read from any thread."""
        return self.rules.standing

    def restore(self, store: Store, now_utc_ns: int) -> list[Event]:
        """Go on from what is stored: maintenance, events, the past of the measures; events to be told at the start.

        Raises
        ------
        StoreError
            If the database cannot be read.
        """
        events = store.event_histories(now_utc_ns - _EVENTS_LOOKED_BACK_NS)
        self.severities.restore(events)
        self.severities_of_disk.restore(events)
        return self._restore_rules(store, now_utc_ns)

    def _restore_rules(self, store: Store, now_utc_ns: int) -> list[Event]:
        since_utc_ns = now_utc_ns - self.rules.history_minutes * MINUTE_NS
        # The clock may have been set back: also what began after now is still to end.
        self._stretches = store.maintenance_between(since_utc_ns, now_utc_ns + LOOK_BACK_NS)
        self.rules.set_maintenance(self._stretches)
        events = store.event_histories(now_utc_ns - max(_EVENTS_LOOKED_BACK_NS, now_utc_ns - since_utc_ns))
        self.rules.restore(_standing(events))
        closed = {event.opened_event_id for event in events if event.state is EventState.CLOSED}
        self._on = tuple(each for each in self._stretches if each.event_id not in closed)
        past = store.minute_values(since_utc_ns=since_utc_ns, until_utc_ns=now_utc_ns, measures=self.rules.measures)
        self.rules.load(past)
        return self.rules.orphans(now_utc_ns)

    def restore_frames(self, store: Store, now_utc_ns: int) -> None:
        """Take up what the frames of the last half hour said; at the start, while nobody waits.

        Raises
        ------
        StoreError
            If the database cannot be read.
        """
        self._series.restore(
            store.frame_steps(
                since_utc_ns=now_utc_ns - LOOKED_BACK_S * NS_PER_S,
                until_utc_ns=now_utc_ns,
                step_ns=self._series.step_s * NS_PER_S,
                without_flags=NOT_A_TEMPERATURE,
            )
        )

    def begin_anew(self, store: Store, now_utc_ns: int) -> list[Event]:
        """Forget the past and take it up as it is stored now: a person has corrected it; events to be told.

        Raises
        ------
        StoreError
            If the database cannot be read: then nothing has changed.
        """
        before = self.rules
        self.rules = minute_rules_of(self._settings, before.rules, most_at_once=MOST_LIVE_MINUTES)
        try:
            return self._restore_rules(store, now_utc_ns)
        except StoreError:
            self.rules = before
            raise

    def is_maintenance(self, utc_ns: int) -> bool:
        """Whether people work at the cage at this moment."""
        return any(each.is_on(utc_ns) for each in self._on)

    def see(self, frame: ThermalFrame, measured: Measured) -> None:
        """Keep a picture a minute, and what the frame says, for the evidence."""
        self.note(measured.observation)
        self._newest, self._newest_picture = (frame, measured), None
        if self._album.wants(frame.captured_utc_ns):
            self._album.add(frame.captured_utc_ns, self._picture())

    def note(self, observation: FrameObservation) -> None:
        """Keep what a frame says, for the evidence; `see` does it, too."""
        self._series.add(observation)

    def _picture(self) -> bytes:
        """Of the newest frame, which is there."""
        if self._newest_picture is None:
            assert self._newest is not None
            frame, measured = self._newest
            banner = in_words(self._on, self._zone)
            drawn = draw(frame.celsius, measured.segmentation, measured.observation, scale=2, banner=banner)
            self._newest_picture = to_png(drawn)
        return self._newest_picture

    def minutes_over(self, values: Sequence[MinuteValue]) -> list[Event]:
        """Judge minutes that are over."""
        return [self.with_evidence(event) for event in self.rules.update_live(values)]

    def acknowledge(self, event_id: str) -> None:
        """Somebody has seen an event: it is not made more severe any more."""
        self.rules.acknowledge(event_id)
        self.severities.acknowledge(event_id)
        self.severities_of_disk.acknowledge(event_id)

    def as_told(self, event: Event) -> Event:
        """An event that no rule of minutes tells, with its severity and its pictures."""
        return self.with_evidence(self.severities.told(event))

    def tick(self, utc_ns: int) -> list[Event]:
        """What the passing of time leads to; to be called again and again."""
        return [self.with_evidence(event) for event in self.rules.advance(utc_ns)]

    def with_evidence(self, event: Event) -> Event:
        """The same with its pictures on the disk and their paths in its data."""
        updated = event.state is EventState.UPDATED and event.data.get("reason") in _PICTURED_UPDATES
        opened = event.state is EventState.OPENED
        if not (opened or updated or event.state is EventState.CLOSED) or event.kind in _WITHOUT_PICTURES:
            return event
        since = event.data.get("since_utc_ns")
        since_utc_ns = since if isinstance(since, int) else event.at_utc_ns - 10 * MINUTE_NS
        frames = self._frames(event, since_utc_ns) if opened or updated else []
        shown = self._shown(event, since_utc_ns)
        if shown is not None and event.kind in OF_THE_DEVICE:
            event = replace(event, data={**event.data, "coverage": round(float(shown.coverage.mean()), 3)})
        return self.folder.attach(event, plot=None if shown is None else to_png(plot(shown)), frames=frames)

    def _frames(self, event: Event, since_utc_ns: int) -> list[tuple[int, bytes]]:
        frames = self._album.choose(since_utc_ns, event.at_utc_ns)
        if event.kind not in _WITH_THE_NEWEST or self._newest is None:
            return frames
        newest_utc_ns = self._newest[0].captured_utc_ns
        before = [each for each in frames if each[0] < newest_utc_ns]
        return [*before[-2:], (newest_utc_ns, self._picture())]

    def _shown(self, event: Event, since_utc_ns: int) -> PlotData | None:
        """What the plot of an event shows."""
        name, limit = event.data.get("rule"), event.data.get("threshold_celsius")
        data = self._series.plot_data(
            event.kind,
            event.animal,
            since_utc_ns=since_utc_ns,
            until_utc_ns=event.at_utc_ns,
            threshold=limit if isinstance(limit, (int, float)) else None,
            maintenance=self._stretches,
        )
        if data is None and isinstance(name, str):
            lasted = event.data.get("lasted_minutes", event.data.get("held_minutes", 0))
            wanted = _BEFORE_MINUTES + (int(lasted) if isinstance(lasted, (int, float)) else 0)
            data = self.rules.plot_data(name, event.animal, min(max(wanted, _LEAST_PLOT_MINUTES), RAW_MINUTES))
        return data

    def begin(self, stretch: Maintenance) -> None:
        """Maintenance goes on from now."""
        self._stretches.append(stretch)
        self._on = (*self._on, stretch)
        self.rules.set_maintenance(self._stretches)

    def end(self, stretch: Maintenance) -> None:
        """It is over; `stretch` has the time of its end."""
        self._on = tuple(each for each in self._on if each.event_id != stretch.event_id)
        self._stretches = [stretch if each.event_id == stretch.event_id else each for each in self._stretches]
        self.rules.set_maintenance(self._stretches)

    def due(self, utc_ns: int) -> Iterable[tuple[Maintenance, Event]]:
        """What begins and ends by the time: each is in force when it is given, and is then to be stored and told."""
        for stretch in self._on:
            if utc_ns >= stretch.end_utc_ns:
                changed, event = ended(stretch, at_utc_ns=utc_ns)
                self.end(changed)
                yield changed, event
        for reason, start_utc_ns, end_utc_ns in planned_at(utc_ns, self._plan, self._zone):
            known = any(
                each.by == SCHEDULE and each.reason is reason and start_utc_ns <= each.start_utc_ns < end_utc_ns
                for each in self._stretches
            )
            if not known:
                planned, event = begun(reason, at_utc_ns=utc_ns, end_utc_ns=end_utc_ns, by=SCHEDULE)
                self.begin(planned)
                yield planned, event
        self._forget(utc_ns)

    def _forget(self, utc_ns: int) -> None:
        """Stretches that no baseline reaches back to."""
        oldest_utc_ns = utc_ns - self.rules.history_minutes * MINUTE_NS
        if self._stretches and self._stretches[0].end_utc_ns < oldest_utc_ns:
            self._stretches = [each for each in self._stretches if each.end_utc_ns >= oldest_utc_ns]
