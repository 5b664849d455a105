"""Carrying out what a person says about who is who: in the stored frames, and in all that rests on them."""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from daemon.events import Event, EventKind, EventState, Severity
from daemon.identity_checks import CorrectionError, IdentityChecks, Most
from daemon.identity_correction import Correction
from daemon.identity_plan import Plan, Planner, minutes_lack
from daemon.identity_replay import DEPENDS_MINUTES, Change, Corrected, Replay, Restored, RunMinutes
from daemon.messaging.payloads import event_message
from daemon.minute_values import MINUTE_NS, MinuteCollector
from daemon.settings import Settings
from daemon.spool import Spool
from daemon.store.corrections import CorrectionRows, StoredCorrection, check_unchanged
from daemon.store.identity_spans import Span
from daemon.store.repository import Store
from drivers.clock import Clock

Progress = Callable[[int], None]
"""Told the time, UTC ns, of the frame that has been reached."""


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
    doubted_utc_ns: int | None = None
    """From when on a track that was assigned without an end may be another animal; None where nothing says so yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """What a service goes on with."""

    collector: MinuteCollector
    """In the midst of the last minute that has frames, or just after it where that was told already."""
    in_force: tuple[StoredCorrection, ...]
    """What it was told, and says of each frame that is to come, in the order in which it was made."""


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
        self._clock = clock
        self._checks = IdentityChecks(settings)
        self._planner = Planner(settings, self._checks)
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
            If there is no such time, animal or track, two tracks would be the same animal, or the service has not
            been told of what was said before.
        StoreError
            If the database cannot be read or written.
        """
        self._checks.check_times(from_utc_ns, until_utc_ns, now_utc_ns=self._clock.utc_ns())
        with self._store.correction_rows() as rows:
            correction = self._planner.meant(rows, correction, from_utc_ns, until_utc_ns)
            plan = self._planner.of_correction(rows, correction, from_utc_ns, until_utc_ns)
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
                    raise self._checks.no_change(correction, from_utc_ns, until_utc_ns)
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
                self._checks.check_still_alone(rows, correction, plan.stretch, plan.last_id)
                written = _write_minutes(rows, new, minutes, plan)
                doubted_utc_ns = rows.doubted_utc_ns(new)
                concerned = rows.concern_events(number, names, plan.stretch.from_utc_ns, plan.concerned_until_utc_ns)
                events.append(self._event(new, events=concerned, undone=False))
        return Made(
            number=number,
            stretches=len(spans),
            from_utc_ns=plan.stretch.from_utc_ns,
            until_utc_ns=replay.changed_until_utc_ns,
            minute_values=written,
            events=concerned,
            goes_on=plan.goes_on and plan.stretch.until_utc_ns is None,
            doubted_utc_ns=doubted_utc_ns,
        )

    def undo(self, number: int, *, by: str, on_progress: Progress = lambda _utc_ns: None) -> Made:
        """Put back what a correction changed, in one transaction.

        Raises
        ------
        CorrectionError
            If there is no such correction, it is undone already, a newer one rests on it, or the service has not been
            told of another undoing.
        StoreError
            If the database cannot be read or written.
        """
        with self._store.correction_rows() as rows:
            known = rows.corrections()
            made = _found(known, number)
            plan = self._planner.of_undoing(rows, made, known)
        with ExitStack() as on:
            spans, minutes = on.enter_context(Spool[Span]()), on.enter_context(Spool[RunMinutes]())
            replay = _replay(plan, Restored(number), spans, minutes)
            replay.through(self._store.correction_rows, plan.last_id, on_progress)
            events: list[Event] = []
            with self._store.correcting(run_id=plan.stretch.life[-1].run_id, events=events, tell=self._message) as rows:
                check_unchanged(rows, plan.known)
                _go_on(rows, replay, plan)
                _finish(rows, replay, plan)
                rows.restore(number)
                rows.clear_minutes(
                    since_utc_ns=made.minutes_from_utc_ns,
                    until_utc_ns=max(made.minutes_until_utc_ns, replay.minutes_until_utc_ns),
                    animals=plan.stretch.animals,
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
            If there is no such correction, or another track has been said to be the same animal since.
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
            known = rows.corrections()
            made = _found(known, number)
            plan = self._planner.of_rest(rows, made, known, collector=collector, lead_minutes=lead_minutes, most=most)
            stretch, lack = plan.stretch, minutes_lack(made)
            if made.undone_utc_ns is not None:
                since_id = rows.first_from(stretch.minutes_from_utc_ns, plan.last_id, stretch.run_ids)
                rows.restore(number, from_frame_id=since_id)
            replay = _replay(plan, Corrected(made.correction, number), spans, minutes)
            replay.through(lambda: nullcontext(rows), plan.last_id, on_progress)
            replay.finish(with_last_minute=self._is_over(replay) and _is_told(rows, replay))
            for part in spans.parts():
                rows.change(number, part)
            if made.undone_utc_ns is not None:
                made = replace(made, stored_until_utc_ns=_all_until(rows))
            elif lack:
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
            if lack:
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
        return CaughtUp(collector=plan.collector, in_force=in_force)

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

    def _is_over(self, replay: Replay) -> bool:
        """Whether no more frames are to come of the last minute."""
        return replay.minute is not None and (replay.minute + 1) * MINUTE_NS <= self._clock.utc_ns()

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


def _found(known: list[StoredCorrection], number: int) -> StoredCorrection:
    made = next((each for each in known if each.number == number), None)
    if made is None:
        numbers = ", ".join(str(each.number) for each in known) or "none"
        raise CorrectionError(f"there is no correction {number}; those made: {numbers}")
    return made


def _all_until(rows: CorrectionRows) -> int:
    """Just after all frames, in whatever order they came: the clock may have been set back."""
    bounds = rows.bounds()
    return 0 if bounds is None else bounds[1] + 1


def _is_in_force(made: StoredCorrection, run_ids: tuple[int, ...]) -> bool:
    """Whether the service that these runs are of goes on with a correction."""
    open_end = made.undone_utc_ns is None and made.until_utc_ns is None
    return open_end and made.told_utc_ns is not None and made.run_id in run_ids


def _replay(plan: Plan, change: Change, spans: Spool[Span], minutes: Spool[RunMinutes]) -> Replay:
    return Replay(plan.stretch, change, plan.collector, spans=spans, minutes=minutes, first_id=plan.first_id)


def _go_on(rows: CorrectionRows, replay: Replay, plan: Plan) -> None:
    """With the frames that were stored meanwhile."""
    if plan.goes_on and plan.scans_all:
        replay.through(lambda: nullcontext(rows), rows.last_frame_id())


def _finish(rows: CorrectionRows, replay: Replay, plan: Plan) -> None:
    """The last minute is told where it was told before: of a service that runs it is not over."""
    replay.finish(with_last_minute=not plan.scans_all or _is_told(rows, replay))


def _is_told(rows: CorrectionRows, replay: Replay) -> bool:
    """Whether the last minute is stored."""
    if replay.minute is None:
        return False
    last = replay.minute * MINUTE_NS
    return bool(rows.minute_values(last, last + MINUTE_NS, ["frames_coverage"]))


def _write_minutes(rows: CorrectionRows, made: StoredCorrection, minutes: Spool[RunMinutes], plan: Plan) -> int:
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
