"""What of the database is gone through when a person says who is who, takes it back, or tells it to the service."""

from dataclasses import dataclass, replace

from daemon.identity_checks import IdentityChecks, Most
from daemon.identity_correction import Correction, CorrectionKind
from daemon.identity_replay import (
    DEPENDS_MINUTES,
    Stretch,
    collector_of_life,
    earlier_minutes,
    lead_utc_ns,
    settings_of,
)
from daemon.minute_values import MINUTE_NS, MinuteCollector
from daemon.settings import Settings
from daemon.store.corrections import CorrectionRows, Moment, StoredCorrection, StoredRun

_FOR_EVER = 2**62

_UNDONE_MINUTES = 60
"""What the service held back while frames were put back is no older than that."""

_HIDDEN_MINUTES = 10
"""A track that was not seen for so long at the end of what is stored is taken to be over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Frames to go through, and what takes measures from them."""

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
    """Knows the minutes before the first frame."""

    @property
    def concerned_until_utc_ns(self) -> int:
        """Just after the last moment that may rest on what is changed."""
        until_utc_ns = self.stretch.minutes_until_utc_ns
        return _FOR_EVER if until_utc_ns is None else until_utc_ns


class Planner:
    """Makes plans; each method in the transaction whose rows it is given, which it only reads.

    Parameters
    ----------
    settings : Settings
        Of the box: what stands in for settings of the past that cannot be read.
    checks : IdentityChecks
        Refuse what cannot be.
    """

    def __init__(self, settings: Settings, checks: IdentityChecks) -> None:
        self._settings = settings
        self._checks = checks

    def of_correction(
        self, rows: CorrectionRows, correction: Correction, from_utc_ns: int, until_utc_ns: int | None
    ) -> Plan:
        """Frames that a correction is about, and all minutes that rest on them.

        Raises
        ------
        CorrectionError
            If there is no such time, animal or track, two tracks would be the same animal, or the service has not
            been told of what was said before.
        """
        first = rows.first_between(from_utc_ns, until_utc_ns)
        if first is None:
            raise self._checks.no_frames(rows, from_utc_ns, until_utc_ns)
        life = tuple(rows.life(first.run_id))
        following = rows.first_after(first.frame_id, life[-1].run_id)
        self._checks.check_one_life(following, until_utc_ns)
        settings = settings_of(life[0], self._settings)
        self._checks.check_animals(correction, settings)
        self._checks.check_told(rows, life)
        self._checks.check_told_of_undoing(rows, life)
        end_id = rows.last_frame_id() if following is None else following.frame_id - 1
        last_id = end_id if until_utc_ns is None else rows.last_before(until_utc_ns, first.frame_id, end_id)
        stretch = Stretch(
            life=life,
            from_utc_ns=from_utc_ns,
            until_utc_ns=until_utc_ns,
            minutes_from_utc_ns=0,
            minutes_until_utc_ns=None,
            animals=_animals_of(correction, settings),
        )
        if correction.track is not None:
            stretch = self._of_track(
                rows, correction, stretch, first, last_id or first.frame_id, end_id, goes_on=following is None
            )
        return self._with_minutes(rows, stretch, first, end_id, goes_on=following is None, known=rows.corrections())

    def meant(
        self, rows: CorrectionRows, correction: Correction, from_utc_ns: int, until_utc_ns: int | None
    ) -> Correction:
        """The correction as it is carried out: a track that is named without an end is so until it is doubted."""
        if correction.track is None or correction.animal is None or until_utc_ns is not None:
            return correction
        first = rows.first_between(from_utc_ns, None)
        found = None if first is None else rows.first_alone(correction.track, first.frame_id)
        return correction if found is None else replace(correction, doubts=found.doubts, said=found.said.animal)

    def of_undoing(self, rows: CorrectionRows, made: StoredCorrection, known: list[StoredCorrection]) -> Plan:
        """The minutes that the service has told since a correction was made; the others are kept as they were.

        Raises
        ------
        CorrectionError
            If it is undone already, a newer one rests on it, or the service has not been told of another undoing.
        """
        life = tuple(rows.life(made.run_id))
        self._checks.check_newest(made, known, life)
        self._checks.check_told_of_undoing(rows, life)
        first, end_id, goes_on = _frames_since(rows, made, life)
        rest_from = made.minutes_until_utc_ns
        stretch = Stretch(
            life=life,
            from_utc_ns=made.from_utc_ns,
            until_utc_ns=made.until_utc_ns,
            minutes_from_utc_ns=0,
            minutes_until_utc_ns=None,
            animals=_animals_of(made.correction, settings_of(life[0], self._settings)),
        )
        if made.told_utc_ns is None:  # nobody has gone on with it
            stretch = replace(stretch, until_utc_ns=made.stored_until_utc_ns)
        plan = self._with_minutes(rows, stretch, first, end_id, goes_on=goes_on, known=known)
        lead = max(lead_utc_ns(rows, rest_from, minutes=DEPENDS_MINUTES), life[0].started_utc_ns)
        stretch = replace(plan.stretch, minutes_from_utc_ns=rest_from, maintenance=tuple(rows.maintenance(lead)))
        first_id = rows.first_from(lead, end_id, plan.stretch.run_ids)
        collector = _begun(collector_of_life(stretch, self._settings), rows, lead, first_id)
        return replace(plan, stretch=stretch, first_id=first_id, collector=collector)

    def of_rest(
        self,
        rows: CorrectionRows,
        made: StoredCorrection,
        known: list[StoredCorrection],
        *,
        collector: MinuteCollector | None,
        lead_minutes: int,
        most: Most | None,
    ) -> Plan:
        """Frames and minutes that were stored since a correction was made, or undone, and do not know of it.

        Parameters
        ----------
        rows : CorrectionRows
            The database.
        made : StoredCorrection
            The correction.
        known : list of StoredCorrection
            All corrections.
        collector : MinuteCollector or None
            An empty one to go on with; None for one of the settings of the past.
        lead_minutes : int
            So many minutes before are gone through at least.
        most : Most or None
            No more than that.

        Raises
        ------
        CorrectionError
            If another track has been said to be the same animal since.
        TooMuchError
            If it is more than `most`.
        """
        life = tuple(rows.life(made.run_id))
        _, end_id, goes_on = _frames_since(rows, made, life)
        stretch = self._rest(made, life, last_utc_ns=rows.captured_utc_ns(end_id))
        lead = max(lead_utc_ns(rows, stretch.minutes_from_utc_ns, minutes=lead_minutes), life[0].started_utc_ns)
        first_id = rows.first_from(lead, end_id, stretch.run_ids)
        if most is not None:
            self._checks.check_not_too_much(rows, first_id, end_id, most)
        if _is_untold(made):
            since_id = rows.first_from(stretch.from_utc_ns, end_id, stretch.run_ids)
            self._checks.check_not_another(rows, made.correction, since_id, end_id)
        stretch = replace(stretch, maintenance=tuple(rows.maintenance(lead)))
        collector = _begun(collector or collector_of_life(stretch, self._settings), rows, lead, first_id)
        return Plan(
            stretch=stretch,
            known=known,
            first_id=first_id,
            last_id=end_id,
            goes_on=goes_on,
            scans_all=True,
            collector=collector,
        )

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
            raise self._checks.no_track(rows, track, stretch, first.frame_id, last_id)
        self._checks.check_not_another(rows, correction, *found)
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
    ) -> Plan:
        """With the minutes that rest on it, and what a collector must have seen before them."""
        minutes_from = stretch.from_utc_ns // MINUTE_NS * MINUTE_NS
        minutes_until = _limit_utc_ns(stretch.until_utc_ns)
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
        first_id = rows.first_from(lead, first.frame_id, stretch.run_ids)
        collector = _begun(collector_of_life(stretch, self._settings), rows, lead, first_id)
        return Plan(
            stretch=stretch,
            known=known,
            first_id=first_id,
            last_id=last_id,
            goes_on=goes_on,
            scans_all=last_id == end_id,
            collector=collector,
        )

    def _rest(self, made: StoredCorrection, life: tuple[StoredRun, ...], *, last_utc_ns: int) -> Stretch:
        """Of which frames and minutes a correction, or its undoing, does not know yet."""
        if not minutes_lack(made):
            since = last_utc_ns // MINUTE_NS * MINUTE_NS
        elif made.undone_utc_ns is not None:
            known_utc_ns = max(made.undone_utc_ns, made.stored_until_utc_ns)  # put back up to there
            since = (known_utc_ns // MINUTE_NS - _UNDONE_MINUTES) * MINUTE_NS
        else:
            since = made.minutes_until_utc_ns
        return Stretch(
            life=life,
            from_utc_ns=made.stored_until_utc_ns if _is_untold(made) else _FOR_EVER,
            until_utc_ns=None,
            minutes_from_utc_ns=since,
            minutes_until_utc_ns=_limit_utc_ns(made.until_utc_ns),
            animals=_animals_of(made.correction, settings_of(life[0], self._settings)),
        )


def _begun(collector: MinuteCollector, rows: CorrectionRows, lead_utc_ns: int, first_id: int) -> MinuteCollector:
    """The collector, ready for frames from one on.

    Of a block that another start of the service began it tells no latency: each start is corrected by itself, so that
    its numbers are not those from before.
    """
    collector.remember(earlier_minutes(rows, lead_utc_ns))
    if (block_key := rows.resumed_block(first_id)) is not None:
        collector.resume(block_key, None)
    return collector


def minutes_lack(made: StoredCorrection) -> bool:
    """Whether minutes may be stored that do not know of a correction, or of its undoing."""
    limit = _limit_utc_ns(made.until_utc_ns)
    if limit is not None and (made.undone_utc_ns or made.made_utc_ns) >= limit:
        return False
    return made.told_utc_ns is None or made.undone_utc_ns is not None


def _is_untold(made: StoredCorrection) -> bool:
    """Whether a correction goes on being true of frames that are stored without it."""
    return made.undone_utc_ns is None and made.until_utc_ns is None and made.told_utc_ns is None


def _frames_since(
    rows: CorrectionRows, made: StoredCorrection, life: tuple[StoredRun, ...]
) -> tuple[Moment, int, bool]:
    """First frame that a correction is about, the last one of its life, and whether more of them may come."""
    first = rows.first_between(made.from_utc_ns, None)
    assert first is not None  # it was about frames, and no frame is ever taken away
    following = rows.first_after(first.frame_id, life[-1].run_id)
    return first, rows.last_frame_id() if following is None else following.frame_id - 1, following is None


def _limit_utc_ns(until_utc_ns: int | None) -> int | None:
    """Just after the last minute that rests on frames before a time; None while more frames are concerned."""
    return None if until_utc_ns is None else (until_utc_ns // MINUTE_NS + 1 + DEPENDS_MINUTES) * MINUTE_NS


def _animals_of(correction: Correction, settings: Settings) -> tuple[int | None, ...]:
    """Animals, None for the cage, whose minutes rest on what a correction changes.

    A swap leaves those of others as they were: where one goes, how many are seen, and how near they are is the same.
    """
    if correction.kind is CorrectionKind.SWAP:
        return (correction.animal, correction.other)
    return (None, *range(1, settings.animal_count + 1))
