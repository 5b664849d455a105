"""Going through stored frames once more: what a correction changes in them, and the minutes that follow from it."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from daemon.identity_correction import Correction, with_identities
from daemon.maintenance import Maintenance, any_between
from daemon.minute_value import MinuteValue
from daemon.minute_values import MINUTE_NS, REMEMBERED_MINUTES, MinuteCollector, samples_due
from daemon.observation import FrameObservation, Identity
from daemon.settings import Settings
from daemon.spool import Spool
from daemon.store.corrections import CorrectionRows, Moment, StoredRun
from daemon.store.identity_spans import Span, SpanMaker
from drivers.clock import NS_PER_S

WINDOW_FRAMES = 2000
"""Frames that are looked at in one read of the database: 10 MB of six animals."""

DEPENDS_MINUTES = 120
"""So long after a sample its minute is still looked back on: the fever signature reaches back over 90 minutes, and an
onset of the tail over ten beyond those of the onset before."""

_BOUT = "immobile_bout_s"

Rows = Callable[[], AbstractContextManager[CorrectionRows]]


class Change(Protocol):
    """What a correction, or taking one back, makes of stored frames."""

    def spans(self, rows: CorrectionRows, within: Sequence[int]) -> list[Span]:
        """What changes in these frames, in the order of their ids."""
        ...

    def finish(self) -> list[Span]:
        """The same when no frame is to come."""
        ...

    def observed(self, rows: CorrectionRows, found: dict[int, FrameObservation]) -> dict[int, FrameObservation]:
        """Frames, by their ids, with the identities that they are to have."""
        ...


class Corrected:
    """The frames of a time after a correction."""

    def __init__(self, correction: Correction, number: int | None = None) -> None:
        self._correction = correction
        self._number = number
        self._spans = SpanMaker()

    def spans(self, rows: CorrectionRows, within: Sequence[int]) -> list[Span]:
        """See `Change`."""
        if not within:
            return []
        wanted = set(within)
        for each in rows.identities(within[0], within[-1]):
            after = self._correction.after(
                each.subject, each.said, group=each.group, doubts=each.doubts, number=self._number
            )
            if after is None or each.frame_id not in wanted:
                self._spans.leave(each.subject, self._number)
            else:
                self._spans.add(each.frame_id, each.subject, followed=each.followed, before=each.said, after=after)
        return self._spans.closed()

    def finish(self) -> list[Span]:
        """See `Change`."""
        return self._spans.finish()

    def observed(self, rows: CorrectionRows, found: dict[int, FrameObservation]) -> dict[int, FrameObservation]:
        """See `Change`."""
        return {frame_id: self._correction.corrected(each, self._number) for frame_id, each in found.items()}


class Restored:
    """The frames of a time as they were before a correction, which keeps what it changed."""

    def __init__(self, number: int) -> None:
        self._number = number

    def spans(self, rows: CorrectionRows, within: Sequence[int]) -> list[Span]:
        """None: they are stored already."""
        return []

    def finish(self) -> list[Span]:
        """None."""
        return []

    def observed(self, rows: CorrectionRows, found: dict[int, FrameObservation]) -> dict[int, FrameObservation]:
        """See `Change`."""
        if not found:
            return found
        spans: dict[int, list[tuple[int, int, Identity]]] = defaultdict(list)
        for subject, first, last, said in rows.spans_before(self._number, min(found), max(found)):
            spans[subject].append((first, last, said))
        return {frame_id: self._restored(frame_id, each, spans) for frame_id, each in found.items()}

    def _restored(
        self, frame_id: int, observation: FrameObservation, spans: dict[int, list[tuple[int, int, Identity]]]
    ) -> FrameObservation:
        return with_identities(
            observation,
            {
                each.key: said
                for each in observation.animals
                if each.correction == self._number
                for first, last, said in spans[each.key]
                if first <= frame_id <= last
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What is gone through."""

    life: tuple[StoredRun, ...]
    """The runs over which the tracker goes on."""
    from_utc_ns: int
    """Frames from here on are changed..."""
    until_utc_ns: int | None
    """...up to before this."""
    minutes_from_utc_ns: int
    """Minutes from this one on are told..."""
    minutes_until_utc_ns: int | None
    """...up to before this one."""
    animals: tuple[int | None, ...]
    """Of these; None stands for the cage."""
    maintenance: tuple[Maintenance, ...] = ()
    """When people worked at the cage."""

    @property
    def run_ids(self) -> tuple[int, ...]:
        """Of the life."""
        return tuple(each.run_id for each in self.life)

    def run_at(self, utc_ns: int) -> int:
        """The run that was in force."""
        place = bisect_right([each.started_utc_ns for each in self.life], utc_ns) - 1
        return self.life[max(place, 0)].run_id

    def holds(self, utc_ns: int) -> bool:
        """Whether a frame of this time is changed."""
        return self.from_utc_ns <= utc_ns and (self.until_utc_ns is None or utc_ns < self.until_utc_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMinutes:
    """Values of minutes, and the run in which they were told."""

    run_id: int
    values: list[MinuteValue]


class Replay:
    """Goes through the frames of a stretch, in the order in which they were stored.

    Parameters
    ----------
    stretch : Stretch
        What is wanted of them.
    change : Change
        What becomes of them.
    collector : MinuteCollector
        Takes them as the service took them; from a `lead` on.
    spans : Spool
        Gets what changes.
    minutes : Spool
        Gets the values of the minutes that are over.
    first_id : int
        Frame to begin with.
    """

    def __init__(
        self,
        stretch: Stretch,
        change: Change,
        collector: MinuteCollector,
        *,
        spans: Spool[Span],
        minutes: Spool[RunMinutes],
        first_id: int,
    ) -> None:
        self.collector = collector
        self.changed_until_utc_ns: int | None = None
        """Just after the last frame that was changed; None before the first."""
        self.minute: int | None = None
        """The one that is not over."""
        self.minutes_until_utc_ns = stretch.minutes_from_utc_ns
        """Minutes before this were told; known once it is finished."""
        self._stretch = stretch
        self._change = change
        self._spans = spans
        self._minutes = minutes
        self._next_id = first_id
        self._second: int | None = None
        self._run_id = stretch.life[0].run_id

    def through(self, rows: Rows, last_id: int, on_progress: Callable[[int], None] = lambda _utc_ns: None) -> None:
        """Go on up to a frame; `rows` is opened for each window anew."""
        while self._next_id <= last_id:
            until_id = min(self._next_id + WINDOW_FRAMES - 1, last_id)
            with rows() as opened:
                moments = opened.moments(self._next_id, until_id, self._stretch.run_ids)
                self._window(opened, moments)
            self._next_id = until_id + 1
            if moments:
                on_progress(moments[-1].captured_utc_ns)

    def finish(self, *, with_last_minute: bool) -> None:
        """No more frames are to come."""
        self._spans.put(self._change.finish())
        if self.minute is None:
            return
        until_utc_ns = (self.minute + with_last_minute) * MINUTE_NS
        limit_utc_ns = self._stretch.minutes_until_utc_ns
        self.minutes_until_utc_ns = max(
            self.minutes_until_utc_ns, until_utc_ns if limit_utc_ns is None else min(until_utc_ns, limit_utc_ns)
        )
        if with_last_minute:
            self._tell(self.collector.close_until((self.minute + 1) * MINUTE_NS))

    def _window(self, rows: CorrectionRows, moments: Sequence[Moment]) -> None:
        changed = [each for each in moments if self._stretch.holds(each.captured_utc_ns)]
        if changed:
            self.changed_until_utc_ns = 1 + max(
                self.changed_until_utc_ns or 0, *(each.captured_utc_ns for each in changed)
            )
            self._spans.put(self._change.spans(rows, [each.frame_id for each in changed]))
        wanted = [each for each in moments if self._is_wanted(each)]
        found = rows.observations([each.frame_id for each in wanted])
        held = {each.frame_id for each in wanted if self._stretch.holds(each.captured_utc_ns)}
        found |= self._change.observed(rows, {key: each for key, each in found.items() if key in held})
        for each in wanted:
            self._collect(each, found[each.frame_id])

    def _is_wanted(self, moment: Moment) -> bool:
        """Whether the collector would take anything from it: a sample, or that a minute is over."""
        utc_ns = moment.captured_utc_ns
        minute, second = utc_ns // MINUTE_NS, utc_ns // NS_PER_S
        sample = moment.measured and second != self._second
        if sample and any_between(self._stretch.maintenance, utc_ns, utc_ns + 1) is not None:
            sample = False
        wanted = sample or minute != self.minute
        self.minute = minute
        if sample:
            self._second = second
        return wanted

    def _collect(self, moment: Moment, observation: FrameObservation) -> None:
        self._run_id = moment.run_id
        self._tell(self.collector.catch_up(moment.captured_utc_ns))
        self._tell(self.collector.add(observation))

    def _tell(self, values: Iterable[MinuteValue]) -> None:
        stretch = self._stretch
        kept = [
            each
            for each in values
            if stretch.minutes_from_utc_ns <= each.minute_utc_ns
            and (stretch.minutes_until_utc_ns is None or each.minute_utc_ns < stretch.minutes_until_utc_ns)
            and each.animal in stretch.animals
        ]
        if kept:
            self._minutes.put([RunMinutes(run_id=self._run_id, values=kept)])


def lead_utc_ns(rows: CorrectionRows, minutes_from_utc_ns: int, *, minutes: int) -> int:
    """Where to begin so that a collector is, at a minute, as one that never stopped.

    Parameters
    ----------
    rows : CorrectionRows
        The database.
    minutes_from_utc_ns : int
        The first minute that is wanted.
    minutes : int
        To begin so long before; earlier where a block or an immobility began before that.
    """
    lead = minutes_from_utc_ns - minutes * MINUTE_NS
    bouts = [
        each.value for each in rows.minute_values(lead - MINUTE_NS, lead + MINUTE_NS, [_BOUT]) if each.value is not None
    ]
    if bouts:
        lead -= (int(max(bouts)) // 60 + 1) * MINUTE_NS
    start = rows.block_start(lead)
    return lead if start is None else min(lead, start // MINUTE_NS * MINUTE_NS)


def earlier_minutes(rows: CorrectionRows, lead_from_utc_ns: int) -> list[MinuteValue]:
    """What a collector that begins there is told of the minutes before."""
    return rows.minute_values(lead_from_utc_ns - REMEMBERED_MINUTES * MINUTE_NS, lead_from_utc_ns)


def collector_of_life(stretch: Stretch, settings: Settings) -> MinuteCollector:
    """What collected in these runs, by the settings that were in force then.

    Parameters
    ----------
    stretch : Stretch
        What is to be gone through.
    settings : Settings
        Stand in for those of a run that this version of the program cannot read.
    """
    known = [settings_of(each, settings) for each in stretch.life]
    starts = [each.started_utc_ns for each in stretch.life]

    def due(minute_utc_ns: int) -> float:
        now = known[max(bisect_right(starts, minute_utc_ns) - 1, 0)]
        return samples_due(minute_utc_ns, now.schedule, now.zone, now.measure.outside_rate_hz)

    first = known[0]
    return MinuteCollector(
        animals=first.animal_count,
        zones=first.zones,
        mm_per_px=first.measure.mm_per_px,
        due=due,
        maintenance=lambda: stretch.maintenance,
    )


def settings_of(run: StoredRun, settings: Settings) -> Settings:
    """Those that were in force in a run, or these where they cannot be read."""
    try:
        return Settings.model_validate_json(run.config_json, by_alias=True, by_name=True)
    except ValueError:
        return settings
