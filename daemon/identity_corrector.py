"""Carrying out what a person says about who is who: in the stored frames, and in all that rests on them."""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from daemon.events import Event, EventKind, EventState, Severity
from daemon.identity_correction import Correction, CorrectionKind
from daemon.identity_replay import (
    DEPENDS_MINUTES,
    Change,
    Corrected,
    Replay,
    Restored,
    RunMinutes,
    Stretch,
    collector_of_life,
    earlier_minutes,
    lead_utc_ns,
    settings_of,
)
from daemon.messaging.payloads import event_message
from daemon.minute_values import MINUTE_NS, MinuteCollector
from daemon.settings import Settings
from daemon.spool import Spool
from daemon.store.corrections import CorrectionRows, Moment, StoredCorrection, StoredRun, check_unchanged
from daemon.store.identity_spans import Span
from daemon.store.repository import Store
from drivers.clock import NS_PER_S, Clock
from drivers.errors import VivariumError

_FOR_EVER = 2**62

_UNDONE_MINUTES = 60
"""What the service held back while frames were put back is no older than that."""

_HIDDEN_MINUTES = 10
"""A track that was not seen for so long at the end of what is stored is taken to be over."""

Progress = Callable[[int], None]
"""Told the time, UTC ns, of the frame that has been reached."""


class CorrectionError(VivariumError):
    """What was said cannot be right; nothing was changed."""


class TooMuchError(CorrectionError):
    """More would have to be gone through than there is time for; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Most:
    """What may be gone through while others wait."""

    frames: int
    samples: int
    """Frames that are measured from: one a second at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was changed."""

    number: int
    """Of the correction."""
    stretches: int
    """Stretches of frames in which a track was the same before."""
    from_utc_ns: int
    until_utc_ns: int
    """Just after the last frame that was changed."""
    minute_values: int
    """That were computed anew, or put back."""
    events: int
    """That rest on what was changed."""
    goes_on: bool
    """Whether the tracks go on, so that a service that runs must be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """What a service goes on with."""

    collector: MinuteCollector
    """In the midst of the last minute that has frames, or just after it where that was told already."""
    in_force: tuple[StoredCorrection, ...]
    """What it was told, and says of each frame that is to come, in the order in which it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    stretch: Stretch
    known: list[StoredCorrection]
    """All corrections when it was made."""
    first_id: int
    """Frame that the collector begins with."""
    last_id: int
    """Frame that is the last at present."""
    goes_on: bool
    """Whether more frames of the same tracks may come."""
    scans_all: bool
    """Whether the last frame is the last of the life."""
    collector: MinuteCollector


class IdentityCorrector:
    """Changes stored identities. May be used beside a running service, from any thread.

    Parameters
    ----------
    store : Store
        The database.
    settings : Settings
        Of the box: its time zone; and what stands in for settings of the past that cannot be read.
    clock : Clock
        Says what the future is.
    """

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._message = partial(event_message, names=settings.animal_names)

    def correct(
        self,
        correction: Correction,
        *,
        from_utc_ns: int,
        until_utc_ns: int | None,
        by: str,
        reason: str,
        on_progress: Progress = lambda _utc_ns: None,
    ) -> Made:
        """Have stored frames, and the minutes that follow from them, be what a person says, in one transaction.

        Parameters
        ----------
        correction : Correction
            What is said.
        from_utc_ns, until_utc_ns
            Of which frames; without an end as long as the tracks of that start of the service go on.
        by, reason : str
            Who says it, and why.

        Raises
        ------
        CorrectionError
            If there is no such time, animal or track, or two tracks would be the same animal.
        StoreError
            If the database cannot be read or written.
        """
        self._check_times(from_utc_ns, until_utc_ns)
        with self._store.correction_rows() as rows:
            plan = self._plan(rows, correction, from_utc_ns, until_utc_ns)
        with ExitStack() as on:
            spans, minutes = on.enter_context(Spool[Span]()), on.enter_context(Spool[RunMinutes]())
            replay = _replay(plan, Corrected(correction), spans, minutes)
            replay.through(self._store.correction_rows, plan.last_id, on_progress)
            events: list[Event] = []
            run_id = plan.stretch.life[-1].run_id
            with self._store.correcting(run_id=run_id, events=events, tell=self._message) as rows:
                check_unchanged(rows, plan.known)
                _go_on(rows, replay, plan)
                _finish(rows, replay, plan)
                if not len(spans) or replay.changed_until_utc_ns is None:
                    raise CorrectionError(self._nothing(correction, from_utc_ns, until_utc_ns))
                new = StoredCorrection(
                    number=0,
                    correction=correction,
                    run_id=plan.stretch.run_at(plan.stretch.from_utc_ns),
                    from_utc_ns=from_utc_ns,
                    until_utc_ns=until_utc_ns,
                    by=by,
                    reason=reason,
                    made_utc_ns=self._clock.utc_ns(),
                    stored_until_utc_ns=until_utc_ns or replay.changed_until_utc_ns,
                    minutes_from_utc_ns=plan.stretch.minutes_from_utc_ns,
                    minutes_until_utc_ns=replay.minutes_until_utc_ns,
                    told_utc_ns=None,
                    undone_utc_ns=None,
                    undone_by=None,
                )
                number = rows.insert(new)
                new = replace(new, number=number)
                names = {each for each in (correction.animal, correction.other) if each is not None}
                for part in spans.parts():
                    rows.change(number, part)
                    names |= {span.before.animal for span in part if span.before.animal is not None}
                self._check_alone(rows, correction, plan)
                written = _write_minutes(rows, new, minutes, plan)
                concerned = rows.concern_events(number, names, plan.stretch.from_utc_ns, _concerned_until(plan))
                events.append(self._event(new, events=concerned, undone=False))
        return Made(
            number=number,
            stretches=len(spans),
            from_utc_ns=plan.stretch.from_utc_ns,
            until_utc_ns=replay.changed_until_utc_ns,
            minute_values=written,
            events=concerned,
            goes_on=plan.goes_on and plan.stretch.until_utc_ns is None,
        )

    def undo(self, number: int, *, by: str, on_progress: Progress = lambda _utc_ns: None) -> Made:
        """Put back what a correction changed, in one transaction.

        Raises
        ------
        CorrectionError
            If there is no such correction, it is undone already, or a newer one rests on it.
        StoreError
            If the database cannot be read or written.
        """
        with self._store.correction_rows() as rows:
            known = rows.corrections()
            made = _found(known, number)
            life = tuple(rows.life(made.run_id))
            self._check_newest(made, known, life)
            self._check_told_of_undoing(rows, life)
            plan = self._plan_of_rest(rows, made, known, life)
        with ExitStack() as on:
            spans, minutes = on.enter_context(Spool[Span]()), on.enter_context(Spool[RunMinutes]())
            replay = _replay(plan, Restored(number), spans, minutes)
            replay.through(self._store.correction_rows, plan.last_id, on_progress)
            events: list[Event] = []
            with self._store.correcting(run_id=life[-1].run_id, events=events, tell=self._message) as rows:
                check_unchanged(rows, known)
                _go_on(rows, replay, plan)
                _finish(rows, replay, plan)
                rows.restore(number)
                animals = animals_of(made.correction, settings_of(life[0], self._settings))
                rows.clear_minutes(
                    since_utc_ns=made.minutes_from_utc_ns,
                    until_utc_ns=max(made.minutes_until_utc_ns, replay.minutes_until_utc_ns),
                    animals=animals,
                    run_ids=plan.stretch.run_ids,
                )
                written = _insert_minutes(rows, minutes) + rows.restore_minutes(number)
                now_ns = self._clock.utc_ns()
                rows.set(number, undone_utc_ns=now_ns, undone_by=by, stored_until_utc_ns=_all_until(rows))
                events.append(self._event(replace(made, by=by), events=0, undone=True))
        return Made(
            number=number,
            stretches=0,
            from_utc_ns=made.from_utc_ns,
            until_utc_ns=made.stored_until_utc_ns,
            minute_values=written,
            events=0,
            goes_on=plan.goes_on and made.until_utc_ns is None,
        )

    def catch_up(
        self,
        number: int,
        *,
        told_utc_ns: int | None = None,
        collector: MinuteCollector | None = None,
        lead_minutes: int = DEPENDS_MINUTES,
        most: Most | None = None,
        on_progress: Progress = lambda _utc_ns: None,
    ) -> CaughtUp:
        """Correct, or put back, what was stored since a correction was made, or undone: it was stored as it was before.

        Parameters
        ----------
        number : int
            Of the correction.
        told_utc_ns : int, optional
            Note that the service goes on with it from now; only the service itself knows.
        collector : MinuteCollector, optional
            An empty one, that goes through what was stored and is then as if it had collected all of it.
        lead_minutes : int
            So many minutes are gone through at least; all of a block, as it counts from its start.
        most : Most, optional
            No more than that.
        on_progress : callable, optional
            Told of each window of frames.

        Returns
        -------
        CaughtUp
            Read in the same transaction.

        Raises
        ------
        CorrectionError
            If there is no such correction.
        TooMuchError
            If it is more than `most`.
        StoreError
            If the database cannot be read or written.
        """
        with self._store.correction_rows() as rows:
            run_id = rows.last_run_id() or 0
        with ExitStack() as on:
            spans, minutes = on.enter_context(Spool[Span]()), on.enter_context(Spool[RunMinutes]())
            rows = on.enter_context(self._store.correcting(run_id=run_id))
            made = _found(rows.corrections(), number)
            life = tuple(rows.life(made.run_id))
            goes_on = made.undone_utc_ns is None and made.until_utc_ns is None and made.told_utc_ns is None
            first = rows.first_between(made.from_utc_ns, None)
            assert first is not None  # it was about frames, and no frame is ever taken away
            following = rows.first_after(first.frame_id, life[-1].run_id)
            end_id = rows.last_frame_id() if following is None else following.frame_id - 1
            is_new = _is_new(made)
            last_utc_ns = rows.captured_utc_ns(end_id)
            stretch = self._rest(made, life, goes_on=goes_on, is_new=is_new, last_utc_ns=last_utc_ns)
            lead = max(lead_utc_ns(rows, stretch.minutes_from_utc_ns, minutes=lead_minutes), life[0].started_utc_ns)
            first_id = rows.first_from(lead, end_id, stretch.run_ids)
            if most is not None:
                self._check_not_too_much(rows, first_id, end_id, most)
            stretch = replace(stretch, maintenance=tuple(rows.maintenance(lead)))
            collector = collector or collector_of_life(stretch, self._settings)
            collector.remember(earlier_minutes(rows, lead))
            if made.undone_utc_ns is not None:
                rows.restore(
                    number, from_frame_id=rows.first_from(stretch.minutes_from_utc_ns, end_id, stretch.run_ids)
                )
            replay = Replay(
                stretch,
                Corrected(made.correction, number),
                collector,
                spans=spans,
                minutes=minutes,
                first_id=first_id,
            )
            replay.through(lambda: nullcontext(rows), end_id, on_progress)
            replay.finish(with_last_minute=self._is_over(replay) and _is_told(rows, replay))
            if goes_on and made.correction.track is not None and made.correction.animal is not None:
                since_id = rows.first_from(stretch.from_utc_ns, end_id, stretch.run_ids)
                self._check_not_another(rows, made.correction.animal, made.correction.track, since_id, end_id)
            for part in spans.parts():
                rows.change(number, part)
            if made.undone_utc_ns is not None:
                made = replace(made, stored_until_utc_ns=_all_until(rows))
            elif is_new:
                made = replace(
                    made,
                    stored_until_utc_ns=replay.changed_until_utc_ns or made.stored_until_utc_ns,
                    minutes_until_utc_ns=max(made.minutes_until_utc_ns, replay.minutes_until_utc_ns),
                )
                rows.keep_minutes(
                    number,
                    since_utc_ns=stretch.minutes_from_utc_ns,
                    until_utc_ns=made.minutes_until_utc_ns,
                    animals=stretch.animals,
                )
            if is_new:
                rows.clear_minutes(
                    since_utc_ns=stretch.minutes_from_utc_ns,
                    until_utc_ns=replay.minutes_until_utc_ns,
                    animals=stretch.animals,
                    run_ids=stretch.run_ids,
                )
                _insert_minutes(rows, minutes)
            rows.set(
                number,
                stored_until_utc_ns=made.stored_until_utc_ns,
                minutes_until_utc_ns=made.minutes_until_utc_ns,
                **({} if told_utc_ns is None else {"told_utc_ns": told_utc_ns}),
            )
            in_force = tuple(each for each in rows.corrections() if _is_in_force(each, stretch.run_ids))
        return CaughtUp(collector=collector, in_force=in_force)

    def frames_between(self, from_utc_ns: int, until_utc_ns: int | None) -> int:
        """How many frames a correction of this time would change at most."""
        with self._store.correction_rows() as rows:
            first = rows.first_between(from_utc_ns, until_utc_ns)
            if first is None:
                return 0
            following = rows.first_after(first.frame_id, rows.life(first.run_id)[-1].run_id)
            last_id = rows.last_frame_id() if following is None else following.frame_id - 1
            if until_utc_ns is not None:
                last_id = rows.last_before(until_utc_ns, first.frame_id, last_id) or first.frame_id
            return last_id - first.frame_id + 1

    def note_told(self, number: int, utc_ns: int) -> None:
        """Note that the running service knows of a correction that its own frames do not rest on."""
        with self._store.correction_rows() as rows:
            run_id = rows.last_run_id() or 0
        with self._store.correcting(run_id=run_id) as rows:
            _found(rows.corrections(), number)
            rows.set(number, told_utc_ns=utc_ns)

    def _rest(
        self, made: StoredCorrection, life: tuple[StoredRun, ...], *, goes_on: bool, is_new: bool, last_utc_ns: int
    ) -> Stretch:
        """Of which frames and minutes a correction, or its undoing, does not know yet."""
        limit, undone_utc_ns = _limit_utc_ns(made), made.undone_utc_ns
        if not is_new:
            since = last_utc_ns // MINUTE_NS * MINUTE_NS
        elif undone_utc_ns is not None:
            known_utc_ns = max(undone_utc_ns, made.stored_until_utc_ns)  # put back up to there
            since = (known_utc_ns // MINUTE_NS - _UNDONE_MINUTES) * MINUTE_NS
        else:
            since = made.minutes_until_utc_ns
        return Stretch(
            life=life,
            from_utc_ns=made.stored_until_utc_ns if goes_on else _FOR_EVER,
            until_utc_ns=None,
            minutes_from_utc_ns=since,
            minutes_until_utc_ns=limit,
            animals=animals_of(made.correction, settings_of(life[0], self._settings)),
        )

    def _is_over(self, replay: Replay) -> bool:
        """Whether no more frames are to come of the last minute."""
        return replay.minute is not None and (replay.minute + 1) * MINUTE_NS <= self._clock.utc_ns()

    # What is gone through

    def _check_times(self, from_utc_ns: int, until_utc_ns: int | None) -> None:
        now_ns = self._clock.utc_ns()
        for option, utc_ns in (("--from", from_utc_ns), ("--until", until_utc_ns)):
            if utc_ns is not None and utc_ns > now_ns:
                raise CorrectionError(
                    f"{option}: {self._text(utc_ns)} lies in the future, it is {self._text(now_ns)}; give a time that "
                    "is over; without --until a correction holds as long as the tracks go on"
                )
        if until_utc_ns is not None and until_utc_ns <= from_utc_ns:
            raise CorrectionError(
                f"--until must lie after --from, got {self._text(until_utc_ns)} and {self._text(from_utc_ns)}"
            )

    def _plan(self, rows: CorrectionRows, correction: Correction, from_utc_ns: int, until_utc_ns: int | None) -> _Plan:
        first = rows.first_between(from_utc_ns, until_utc_ns)
        if first is None:
            raise CorrectionError(self._no_frames(rows, from_utc_ns, until_utc_ns))
        life = tuple(rows.life(first.run_id))
        following = rows.first_after(first.frame_id, life[-1].run_id)
        if following is not None and until_utc_ns is not None and following.captured_utc_ns < until_utc_ns:
            at = self._text(following.captured_utc_ns)
            raise CorrectionError(
                f"--until: the service began anew before that, and gives numbers anew at each start: its first frame "
                f"is of {at}. Give at most that time, and correct what follows by itself"
            )
        settings = settings_of(life[0], self._settings)
        self._check_animals(correction, settings)
        self._check_told(rows, life)
        self._check_told_of_undoing(rows, life)
        end_id = rows.last_frame_id() if following is None else following.frame_id - 1
        last_id = end_id if until_utc_ns is None else rows.last_before(until_utc_ns, first.frame_id, end_id)
        stretch = Stretch(
            life=life,
            from_utc_ns=from_utc_ns,
            until_utc_ns=until_utc_ns,
            minutes_from_utc_ns=0,
            minutes_until_utc_ns=None,
            animals=animals_of(correction, settings),
        )
        if correction.track is not None:
            stretch = self._of_track(
                rows, correction, stretch, first, last_id or first.frame_id, end_id, goes_on=following is None
            )
        return self._with_minutes(rows, stretch, first, end_id, goes_on=following is None, known=rows.corrections())

    def _of_track(
        self,
        rows: CorrectionRows,
        correction: Correction,
        stretch: Stretch,
        first: Moment,
        last_id: int,
        end_id: int,
        *,
        goes_on: bool,
    ) -> Stretch:
        """The same, no longer than the track is seen."""
        track = correction.track or 0
        found = rows.frames_of(track, first.frame_id, last_id)
        if found is None:
            raise CorrectionError(self._no_track(rows, track, stretch, first.frame_id, last_id))
        if (animal := correction.animal) is not None:
            self._check_not_another(rows, animal, track, *found)
        until_utc_ns = rows.captured_utc_ns(found[1]) + 1
        hidden_ns = rows.captured_utc_ns(end_id) - rows.captured_utc_ns(found[1])
        goes_on = goes_on and stretch.until_utc_ns is None and hidden_ns < _HIDDEN_MINUTES * MINUTE_NS
        return replace(
            stretch,
            from_utc_ns=max(stretch.from_utc_ns, rows.captured_utc_ns(found[0])),
            until_utc_ns=None if goes_on else until_utc_ns,
        )

    def _with_minutes(
        self,
        rows: CorrectionRows,
        stretch: Stretch,
        first: Moment,
        end_id: int,
        *,
        goes_on: bool,
        known: list[StoredCorrection],
    ) -> _Plan:
        """With the minutes that rest on it, and what a collector must have seen before them."""
        minutes_from = stretch.from_utc_ns // MINUTE_NS * MINUTE_NS
        minutes_until = None
        if stretch.until_utc_ns is not None:
            minutes_until = (stretch.until_utc_ns // MINUTE_NS + 1 + DEPENDS_MINUTES) * MINUTE_NS
        last_id = end_id
        if minutes_until is not None:
            last_id = rows.last_before(minutes_until, first.frame_id, end_id) or first.frame_id
        lead = max(lead_utc_ns(rows, minutes_from, minutes=DEPENDS_MINUTES), stretch.life[0].started_utc_ns)
        stretch = replace(
            stretch,
            minutes_from_utc_ns=minutes_from,
            minutes_until_utc_ns=minutes_until,
            maintenance=tuple(rows.maintenance(lead)),
        )
        collector = collector_of_life(stretch, self._settings)
        collector.remember(earlier_minutes(rows, lead))
        return _Plan(
            stretch=stretch,
            known=known,
            first_id=rows.first_from(lead, first.frame_id, stretch.run_ids),
            last_id=last_id,
            goes_on=goes_on,
            scans_all=last_id == end_id,
            collector=collector,
        )

    def _plan_of_rest(
        self,
        rows: CorrectionRows,
        made: StoredCorrection,
        known: list[StoredCorrection],
        life: tuple[StoredRun, ...],
    ) -> _Plan:
        """The minutes that the service has told since a correction was made; the others are kept as they were."""
        first = rows.first_between(made.from_utc_ns, None)
        assert first is not None  # it was about frames, and no frame is ever taken away
        following = rows.first_after(first.frame_id, life[-1].run_id)
        end_id = rows.last_frame_id() if following is None else following.frame_id - 1
        rest_from = made.minutes_until_utc_ns
        stretch = Stretch(
            life=life,
            from_utc_ns=made.from_utc_ns,
            until_utc_ns=made.until_utc_ns,
            minutes_from_utc_ns=0,
            minutes_until_utc_ns=None,
            animals=animals_of(made.correction, settings_of(life[0], self._settings)),
        )
        if made.told_utc_ns is None:  # nobody has gone on with it
            stretch = replace(stretch, until_utc_ns=made.stored_until_utc_ns)
        plan = self._with_minutes(rows, stretch, first, end_id, goes_on=following is None, known=known)
        lead = max(lead_utc_ns(rows, rest_from, minutes=DEPENDS_MINUTES), life[0].started_utc_ns)
        stretch = replace(plan.stretch, minutes_from_utc_ns=rest_from, maintenance=tuple(rows.maintenance(lead)))
        collector = collector_of_life(stretch, self._settings)
        collector.remember(earlier_minutes(rows, lead))
        return replace(
            plan,
            stretch=stretch,
            first_id=rows.first_from(lead, end_id, plan.stretch.run_ids),
            collector=collector,
        )

    # What cannot be

    def _check_animals(self, correction: Correction, settings: Settings) -> None:
        for animal in (correction.animal, correction.other):
            if animal is not None and animal > settings.animal_count:
                raise CorrectionError(
                    f"animal {animal}: {settings.animal_count} lived in the box then; expected 1 to "
                    f"{settings.animal_count}, or the name of one of the [[animal]] tables"
                )

    def _check_not_too_much(self, rows: CorrectionRows, first_id: int, end_id: int, most: Most) -> None:
        frames, since_utc_ns = end_id - first_id + 1, rows.captured_utc_ns(first_id)
        samples = min(frames, (rows.captured_utc_ns(end_id) - since_utc_ns) // NS_PER_S + 1)
        if frames > most.frames or samples > most.samples:
            raise TooMuchError(
                f"{frames} frames have been stored since {self._text(since_utc_ns)}, when the present block began or "
                f"the correction was made: that is more than the service can go through between two frames. Tell it "
                "again when the present block is over"
            )

    def _check_told(self, rows: CorrectionRows, life: tuple[StoredRun, ...]) -> None:
        """None goes on top of one that frames were stored without."""
        for each in rows.corrections():
            if each.undone_utc_ns is None and each.told_utc_ns is None and _goes_on_without(rows, each, life):
                raise CorrectionError(
                    f"correction {each.number} has not been told to the service, which has stored frames since "
                    f"without it: `vivarium identity tell {each.number}` or `vivarium identity undo {each.number}` "
                    "first"
                )

    def _check_told_of_undoing(self, rows: CorrectionRows, life: tuple[StoredRun, ...]) -> None:
        """Nothing goes on top of one that is undone, while frames are still stored with it."""
        for each in rows.corrections():
            if each.undoing_not_told and _goes_on_without(rows, each, life):
                raise CorrectionError(
                    f"correction {each.number} is undone, but the service has not been told, and has stored frames "
                    f"since with it: `vivarium identity tell {each.number}` first"
                )

    def _check_not_another(self, rows: CorrectionRows, animal: int, track: int, first_id: int, last_id: int) -> None:
        other = rows.also_named(animal, track, first_id, last_id)
        if other is not None:
            subject, first_ns, last_ns = other
            raise CorrectionError(
                f"track {subject} is said to be animal {animal} at the same time, between {self._text(first_ns)} and "
                f"{self._text(last_ns)}, and nothing is two animals at once: swap the two animals, assign track "
                f"{subject} first (to `unknown` if nobody knows), or keep out of that time with --from and --until"
            )

    def _check_alone(self, rows: CorrectionRows, correction: Correction, plan: _Plan) -> None:
        """The same once more for what came while all was computed."""
        if correction.track is not None and correction.animal is not None:
            found = rows.frames_of(correction.track, plan.last_id, rows.last_frame_id())
            if found is not None and plan.stretch.until_utc_ns is None:
                self._check_not_another(rows, correction.animal, correction.track, *found)

    def _check_newest(self, made: StoredCorrection, known: list[StoredCorrection], life: tuple[StoredRun, ...]) -> None:
        if made.undone_utc_ns is not None:
            raise CorrectionError(
                f"correction {made.number} was undone on {self._text(made.undone_utc_ns)} by {made.undone_by}"
            )
        runs = {each.run_id for each in life}
        for each in reversed(known):
            if each.number <= made.number:
                break
            if each.undone_utc_ns is None and each.run_id in runs and _overlap(each, made):
                raise CorrectionError(
                    f"correction {each.number} was made on top of {made.number}: undo {each.number} first"
                )

    def _no_frames(self, rows: CorrectionRows, from_utc_ns: int, until_utc_ns: int | None) -> str:
        bounds = rows.bounds()
        if bounds is None:
            return "no frame is stored in this database: there is nothing to correct"
        there = f"stored frames reach from {self._text(bounds[0])} to {self._text(bounds[1])}; give a time among them"
        until = "" if until_utc_ns is None else f" before {self._text(until_utc_ns)}"
        return f"no frame is stored from {self._text(from_utc_ns)} on{until}; {there}"

    def _no_track(self, rows: CorrectionRows, track: int, stretch: Stretch, first_id: int, last_id: int) -> str:
        listed = [
            f"{subject} ({'not known' if animal is None else f'animal {animal}'})"
            for subject, animal in rows.subjects(first_id, min(last_id, first_id + 500))[:12]
        ]
        return (
            f"track {track} is not seen from {self._text(stretch.from_utc_ns)} on; tracks seen then: "
            f"{', '.join(listed) or 'none'}"
        )

    def _nothing(self, correction: Correction, from_utc_ns: int, until_utc_ns: int | None) -> str:
        until = "the end of the tracks" if until_utc_ns is None else self._text(until_utc_ns)
        if correction.kind is CorrectionKind.SWAP:
            return (
                f"neither animal {correction.animal} nor {correction.other} is named from "
                f"{self._text(from_utc_ns)} to {until}: there is nothing to swap"
            )
        return (
            f"track {correction.track} is only seen as a group from {self._text(from_utc_ns)} to {until}: assign the "
            "tracks that come out of it"
        )

    def _text(self, utc_ns: int) -> str:
        return datetime.fromtimestamp(utc_ns / NS_PER_S, self._settings.zone).isoformat(sep=" ", timespec="seconds")

    def _event(self, made: StoredCorrection, *, events: int, undone: bool) -> Event:
        return Event(
            kind=EventKind.IDENTITY_CORRECTED,
            state=EventState.OCCURRED,
            severity=Severity.NOTICE,
            at_utc_ns=self._clock.utc_ns(),
            data={
                "correction": made.number,
                "what": made.correction.words,
                "from_utc_ns": made.from_utc_ns,
                "until_utc_ns": made.until_utc_ns,
                "by": made.by,
                "reason": made.reason,
                "events": events,
                "undone": undone,
            },
        )


def animals_of(correction: Correction, settings: Settings) -> tuple[int | None, ...]:
    """Animals, None for the cage, whose minutes rest on what a correction changes.

    A swap leaves those of others as they were: where one goes, how many are seen, and how near they are is the same.
    """
    if correction.kind is CorrectionKind.SWAP:
        return (correction.animal, correction.other)
    return (None, *range(1, settings.animal_count + 1))


def _found(known: list[StoredCorrection], number: int) -> StoredCorrection:
    made = next((each for each in known if each.number == number), None)
    if made is None:
        numbers = ", ".join(str(each.number) for each in known) or "none"
        raise CorrectionError(f"there is no correction {number}; those made: {numbers}")
    return made


def _goes_on_without(rows: CorrectionRows, made: StoredCorrection, life: tuple[StoredRun, ...]) -> bool:
    """Whether frames of this life were stored since a correction, or its undoing, was carried out in the database."""
    runs = {each.run_id for each in life}
    if made.until_utc_ns is not None or made.run_id not in runs:
        return False
    newer = rows.first_between(made.stored_until_utc_ns, None)
    return newer is not None and newer.run_id in runs


def _all_until(rows: CorrectionRows) -> int:
    """Just after all frames, in whatever order they came: the clock may have been set back."""
    bounds = rows.bounds()
    return 0 if bounds is None else bounds[1] + 1


def _is_in_force(made: StoredCorrection, run_ids: tuple[int, ...]) -> bool:
    """Whether the service that these runs are of goes on with a correction."""
    open_end = made.undone_utc_ns is None and made.until_utc_ns is None
    return open_end and made.told_utc_ns is not None and made.run_id in run_ids


def _limit_utc_ns(made: StoredCorrection) -> int | None:
    """Just after the last minute that rests on a correction; None while more frames are concerned."""
    return None if made.until_utc_ns is None else (made.until_utc_ns // MINUTE_NS + 1 + DEPENDS_MINUTES) * MINUTE_NS


def _is_new(made: StoredCorrection) -> bool:
    """Whether minutes may be stored that do not know of a correction, or of its undoing."""
    limit = _limit_utc_ns(made)
    if limit is not None and (made.undone_utc_ns or made.made_utc_ns) >= limit:
        return False
    return made.told_utc_ns is None or made.undone_utc_ns is not None


def _overlap(one: StoredCorrection, other: StoredCorrection) -> bool:
    """Whether two of one life rest on the same minutes."""
    ends = [
        _FOR_EVER if each.until_utc_ns is None else max(each.until_utc_ns, each.minutes_until_utc_ns)
        for each in (one, other)
    ]
    return max(one.minutes_from_utc_ns, other.minutes_from_utc_ns) < min(ends)


def _replay(plan: _Plan, change: Change, spans: Spool[Span], minutes: Spool[RunMinutes]) -> Replay:
    return Replay(plan.stretch, change, plan.collector, spans=spans, minutes=minutes, first_id=plan.first_id)


def _go_on(rows: CorrectionRows, replay: Replay, plan: _Plan) -> None:
    """With the frames that were stored meanwhile."""
    if plan.goes_on and plan.scans_all:
        replay.through(lambda: nullcontext(rows), rows.last_frame_id())


def _finish(rows: CorrectionRows, replay: Replay, plan: _Plan) -> None:
    """The last minute is told where it was told before: of a service that runs it is not over."""
    replay.finish(with_last_minute=not plan.scans_all or _is_told(rows, replay))


def _is_told(rows: CorrectionRows, replay: Replay) -> bool:
    """Whether the last minute is stored."""
    if replay.minute is None:
        return False
    last = replay.minute * MINUTE_NS
    return bool(rows.minute_values(last, last + MINUTE_NS, ["frames_coverage"]))


def _concerned_until(plan: _Plan) -> int:
    until = plan.stretch.minutes_until_utc_ns
    return _FOR_EVER if until is None else until


def _write_minutes(rows: CorrectionRows, made: StoredCorrection, minutes: Spool[RunMinutes], plan: _Plan) -> int:
    stretch = plan.stretch
    since, until = stretch.minutes_from_utc_ns, made.minutes_until_utc_ns
    rows.keep_minutes(made.number, since_utc_ns=since, until_utc_ns=until, animals=stretch.animals)
    rows.clear_minutes(since_utc_ns=since, until_utc_ns=until, animals=stretch.animals, run_ids=stretch.run_ids)
    return _insert_minutes(rows, minutes)


def _insert_minutes(rows: CorrectionRows, minutes: Spool[RunMinutes]) -> int:
    written = 0
    for part in minutes.parts():
        for each in part:
            rows.insert_minutes(each.values, run_id=each.run_id)
            written += len(each.values)
    return written
