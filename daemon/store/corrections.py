"""Corrections of who is who in the database: what they are about, what they change, and what it was before."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from daemon.identity_correction import Correction, CorrectionKind
from daemon.maintenance import Maintenance
from daemon.minute_value import MinuteValue
from daemon.observation import FrameObservation, Identity
from daemon.store import maintenance, minutes
from daemon.store.events import events_of_animals
from daemon.store.identity_spans import Span, insert_spans, numbers_of, text_of
from daemon.store.observations import observations_by_id
from daemon.store.schema import (
    block,
    corrected_event,
    frame,
    identity_before,
    identity_correction,
    identity_observation,
    minute_before,
    minute_value,
    part_observation,
    planned_sample,
    run,
)
from drivers.clock import NS_PER_S
from drivers.errors import StoreRejectedError

RELOADED = "reloaded"
"""End of a run after which the same tracker goes on in the next."""

_FOR_EVER = 2**62
_MINUTE_NS = 60 * NS_PER_S

_MINUTE_COLUMNS = ("minute_utc_ns", "animal", "measure", "run_id", "value", "uncertainty", "coverage", "samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCorrection:
    """A correction as the database knows it."""

    number: int
    correction: Correction
    run_id: int
    """Of the first frame that it is about."""
    from_utc_ns: int
    until_utc_ns: int | None
    """None: as long as the tracks of that start of the service go on."""
    by: str
    reason: str
    made_utc_ns: int
    stored_until_utc_ns: int
    """Frames before this are corrected in the database, or put back once it is undone; those after it by the service,
    once it was told."""
    minutes_from_utc_ns: int
    """Minutes from this one on..."""
    minutes_until_utc_ns: int
    """...up to before this one were computed anew."""
    told_utc_ns: int | None
    """When the running service took it over; None where it was not told, or none ran."""
    undone_utc_ns: int | None
    undone_by: str | None

    @property
    def undoing_not_told(self) -> bool:
        """Whether a service that was told of it may go on with it although it is undone."""
        told_utc_ns, undone_utc_ns = self.told_utc_ns, self.undone_utc_ns
        if self.until_utc_ns is not None or told_utc_ns is None or undone_utc_ns is None:
            return False
        return told_utc_ns < undone_utc_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """What of a run is needed to go through its frames anew."""

    run_id: int
    config_json: str
    started_utc_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A stored frame, in brief."""

    frame_id: int
    run_id: int
    captured_utc_ns: int
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIdentity:
    """Who a track is in one stored frame."""

    frame_id: int
    subject: int
    said: Identity
    group: bool
    followed: bool
    doubts: int = 0
    """How often the track may have changed places with another since it began."""


class CorrectionRows:
    """What corrections need of the database, in one transaction that others have opened."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # What there is

    def corrections(self) -> list[StoredCorrection]:
        """All of them, undone ones too, in the order in which they were made."""
        rows = self._connection.execute(select(identity_correction).order_by(identity_correction.c.id)).all()
        return [
            StoredCorrection(
                number=row.id,
                correction=Correction(
                    kind=CorrectionKind(row.kind),
                    animal=row.animal,
                    other=row.other,
                    track=row.track,
                    doubts=row.doubts,
                    said=row.said,
                ),
                run_id=row.run_id,
                from_utc_ns=row.from_utc_ns,
                until_utc_ns=row.until_utc_ns,
                by=row.by_whom,
                reason=row.reason,
                made_utc_ns=row.made_utc_ns,
                stored_until_utc_ns=row.stored_until_utc_ns,
                minutes_from_utc_ns=row.minutes_from_utc_ns,
                minutes_until_utc_ns=row.minutes_until_utc_ns,
                told_utc_ns=row.told_utc_ns,
                undone_utc_ns=row.undone_utc_ns,
                undone_by=row.undone_by,
            )
            for row in rows
        ]

    def bounds(self) -> tuple[int, int] | None:
        """When the first and the last stored frame were captured, UTC ns; None where there is none."""
        first, last = self._connection.execute(
            select(func.min(frame.c.captured_utc_ns), func.max(frame.c.captured_utc_ns))
        ).one()
        return None if first is None else (first, last)

    def last_frame_id(self) -> int:
        """Of all frames; 0 before the first."""
        return self._connection.execute(select(func.max(frame.c.id))).scalar() or 0

    def first_between(self, from_utc_ns: int, until_utc_ns: int | None) -> Moment | None:
        """The first frame that was captured in this time."""
        statement = _MOMENT.where(frame.c.captured_utc_ns >= from_utc_ns)
        if until_utc_ns is not None:
            statement = statement.where(frame.c.captured_utc_ns < until_utc_ns)
        row = self._connection.execute(statement.order_by(frame.c.captured_utc_ns, frame.c.id).limit(1)).first()
        return None if row is None else _moment(row)

    def life(self, run_id: int) -> list[StoredRun]:
        """The runs over which the tracker of this run goes on, in their order: a mere reload does not end it."""
        return next(life for life in self._lives() if any(each.run_id == run_id for each in life))

    def _lives(self) -> list[list[StoredRun]]:
        lives: list[list[StoredRun]] = []
        goes_on = False
        rows = self._connection.execute(
            select(run.c.id, run.c.config_json, run.c.started_utc_ns, run.c.end_reason).order_by(run.c.id)
        )
        for row in rows:
            if not goes_on:
                lives.append([])
            lives[-1].append(StoredRun(run_id=row.id, config_json=row.config_json, started_utc_ns=row.started_utc_ns))
            goes_on = row.end_reason == RELOADED
        return lives

    def last_run_id(self) -> int | None:
        """Of the newest run."""
        return self._connection.execute(select(func.max(run.c.id))).scalar()

    def first_after(self, frame_id: int, run_id: int) -> Moment | None:
        """The first frame after one that belongs to a later run than this."""
        statement = _MOMENT.where(frame.c.id > frame_id, frame.c.run_id > run_id).order_by(frame.c.id).limit(1)
        row = self._connection.execute(statement).first()
        return None if row is None else _moment(row)

    def last_before(self, until_utc_ns: int, first_id: int, last_id: int) -> int | None:
        """The last of these frames that was captured before a time; None where there is none."""
        within = (frame.c.id.between(first_id, last_id), frame.c.captured_utc_ns < until_utc_ns)
        return self._connection.execute(select(func.max(frame.c.id)).where(*within)).scalar()

    def captured_utc_ns(self, frame_id: int) -> int:
        """When a frame was captured."""
        return self._connection.execute(select(frame.c.captured_utc_ns).where(frame.c.id == frame_id)).scalar_one()

    def first_from(self, utc_ns: int, first_id: int, run_ids: Collection[int]) -> int:
        """The first frame of these runs, none before one, that was captured at a time or later; else that one."""
        within = (frame.c.captured_utc_ns >= utc_ns, frame.c.id <= first_id, frame.c.run_id.in_(run_ids))
        return self._connection.execute(select(func.min(frame.c.id)).where(*within)).scalar() or first_id

    def moments(self, first_id: int, last_id: int, run_ids: Collection[int]) -> list[Moment]:
        """The frames with these ids, both included, that belong to these runs, in the order of their ids."""
        statement = _MOMENT.where(frame.c.id.between(first_id, last_id), frame.c.run_id.in_(run_ids))
        return [_moment(row) for row in self._connection.execute(statement.order_by(frame.c.id))]

    def observations(self, frame_ids: Sequence[int]) -> dict[int, FrameObservation]:
        """Stored frames, by their ids."""
        return observations_by_id(self._connection, frame_ids)

    def identities(self, first_id: int, last_id: int) -> Iterator[StoredIdentity]:
        """Who the tracks are in the frames with these ids, both included, in the order of the ids."""
        statement = _IDENTITY.where(identity_observation.c.frame_id.between(first_id, last_id))
        followed = [_identity(row) for row in self._connection.execute(statement)]
        part = part_observation.c
        rest = (
            select(part.frame_id, part.subject, func.max(part.animal).label("animal"))
            .where(part.frame_id.between(first_id, last_id), ~exists().where(_same_subject()))
            .group_by(part.frame_id, part.subject)
        )
        not_followed = [
            StoredIdentity(
                frame_id=row.frame_id,
                subject=row.subject,
                said=Identity(animal=row.animal, probability=None),
                group=False,
                followed=False,
            )
            for row in self._connection.execute(rest)
        ]
        return iter(sorted([*followed, *not_followed], key=lambda each: (each.frame_id, each.subject)))

    def frames_of(self, subject: int, first_id: int, last_id: int) -> tuple[int, int] | None:
        """Ids of the first and the last frame, between two, that show a track; None where none does."""
        part = part_observation.c
        first, last = self._connection.execute(
            select(func.min(part.frame_id), func.max(part.frame_id)).where(
                part.frame_id.between(first_id, last_id), part.subject == subject
            )
        ).one()
        return None if first is None else (first, last)

    def subjects(self, first_id: int, last_id: int) -> list[tuple[int, int | None]]:
        """The tracks in these frames, each with one of the animals that it is said to be."""
        part = part_observation.c
        statement = (
            select(part.subject, func.max(part.animal))
            .where(part.frame_id.between(first_id, last_id))
            .group_by(part.subject)
            .order_by(part.subject)
        )
        return [(subject, animal) for subject, animal in self._connection.execute(statement)]

    def first_alone(self, subject: int, first_id: int) -> StoredIdentity | None:
        """The first frame from one on in which a track is one animal; None where there is none, or nothing followed."""
        of = identity_observation.c
        statement = (
            _IDENTITY.where(of.frame_id >= first_id, of.track == subject, of.group_size.is_(None))
            .order_by(of.frame_id)
            .limit(1)
        )
        row = self._connection.execute(statement).first()
        return None if row is None else _identity(row)

    def doubted_utc_ns(self, made: StoredCorrection) -> int | None:
        """From when on the track that a correction names may be another animal; None where nothing says so."""
        track, doubts = made.correction.track, made.correction.doubts
        first = self.first_between(made.from_utc_ns, None)
        if track is None or doubts is None or first is None:
            return None
        following = self.first_after(first.frame_id, self.life(made.run_id)[-1].run_id)
        last_id = self.last_frame_id() if following is None else following.frame_id - 1
        of = identity_observation.c
        more = (of.frame_id.between(first.frame_id, last_id), of.track == track, of.doubts > doubts)
        found = select(of.frame_id).where(*more).order_by(of.frame_id).limit(1)
        frame_id = self._connection.execute(found).scalar()
        return None if frame_id is None else self.captured_utc_ns(frame_id)

    def also_named(self, animal: int, subject: int, first_id: int, last_id: int) -> tuple[int, int, int] | None:
        """Another track that is said to be an animal in frames that show this one: its number, first and last time."""
        here, there = part_observation.alias(), part_observation.alias()
        group = exists().where(
            identity_observation.c.frame_id == there.c.frame_id,
            identity_observation.c.track == subject,
            identity_observation.c.group_size.is_not(None),
        )
        statement = (
            select(here.c.subject, func.min(frame.c.captured_utc_ns), func.max(frame.c.captured_utc_ns))
            .join(there, and_(there.c.frame_id == here.c.frame_id, there.c.subject == subject))
            .join(frame, frame.c.id == here.c.frame_id)
            .where(here.c.frame_id.between(first_id, last_id), here.c.animal == animal, here.c.subject != subject)
            .where(~group)
            .group_by(here.c.subject)
            .order_by(func.min(frame.c.captured_utc_ns))
            .limit(1)
        )
        row = self._connection.execute(statement).first()
        return None if row is None else (row[0], row[1], row[2])

    def block_start(self, utc_ns: int) -> int | None:
        """When the block began that a time lies in; None outside blocks."""
        within = (block.c.start_utc_ns <= utc_ns, block.c.end_utc_ns > utc_ns)
        return self._connection.execute(select(func.min(block.c.start_utc_ns)).where(*within)).scalar()

    def resumed_block(self, first_id: int) -> str | None:
        """Key of the first block that frames from one on are of, if earlier ones are of it, too; else None."""
        of = planned_sample.c
        next_one = select(of.block_id, block.c.key).join(block, block.c.id == of.block_id)
        found = self._connection.execute(next_one.where(of.frame_id >= first_id).order_by(of.frame_id).limit(1)).first()
        if found is None:
            return None
        earlier = select(of.frame_id).where(of.block_id == found.block_id, of.frame_id < first_id).limit(1)
        return None if self._connection.execute(earlier).first() is None else found.key

    def samples_of_block(self, key: str) -> list[int]:
        """The first measured frame of each second of a block, in their order."""
        measured = (
            select(func.min(frame.c.id))
            .join(planned_sample, planned_sample.c.frame_id == frame.c.id)
            .join(block, block.c.id == planned_sample.c.block_id)
            .where(block.c.key == key, frame.c.not_measured.is_(None))
            .group_by(frame.c.captured_utc_ns // NS_PER_S)
        )
        return sorted(self._connection.execute(measured).scalars())

    def runs_of(self, first_id: int, last_id: int) -> set[int]:
        """The runs that the frames with these ids, both included, are of."""
        within = frame.c.id.between(first_id, last_id)
        return set(self._connection.execute(select(frame.c.run_id).where(within).distinct()).scalars())

    def maintenance(self, since_utc_ns: int) -> list[Maintenance]:
        """All that goes on at a time or later."""
        return maintenance.between(self._connection, since_utc_ns, _FOR_EVER)

    def minute_values(
        self, since_utc_ns: int, until_utc_ns: int, measures: Collection[str] | None = None
    ) -> list[MinuteValue]:
        """The values of the minutes that begin from one time to before another."""
        return list(
            minutes.minute_values(
                self._connection, since_utc_ns=since_utc_ns, until_utc_ns=until_utc_ns, animals=None, measures=measures
            )
        )

    def spans_before(self, number: int, first_id: int, last_id: int) -> list[tuple[int, int, int, Identity]]:
        """What a correction changed in these frames: track, first and last frame, and who it was before."""
        of = identity_before.c
        rows = self._connection.execute(
            select(identity_before).where(
                of.correction_id == number, of.last_frame_id >= first_id, of.first_frame_id <= last_id
            )
        )
        return [(row.subject, row.first_frame_id, row.last_frame_id, _said(row)) for row in rows]

    def corrected_minutes(self, since_utc_ns: int, until_utc_ns: int) -> dict[tuple[int, int], set[int]]:
        """Which corrections in effect have changed frames of which minutes, also such as were stored after them.

        Returns
        -------
        dict
            Numbers of the corrections, by the begin of the minute, UTC ns, and the animal: one that the correction is
            about, or that a track it changed was said to be.
        """
        since, until = since_utc_ns // _MINUTE_NS, -(-until_utc_ns // _MINUTE_NS)
        ids = select(func.min(frame.c.id), func.max(frame.c.id)).where(
            frame.c.captured_utc_ns >= since * _MINUTE_NS, frame.c.captured_utc_ns < until * _MINUTE_NS
        )
        first_id, last_id = self._connection.execute(ids).one()
        if first_id is None:
            return {}
        found: dict[tuple[int, int], set[int]] = defaultdict(set)
        for row in self._connection.execute(_CHANGED_MINUTES, {"first": first_id, "last": last_id}):
            first, last = sorted((row.first_minute, row.last_minute))  # the clock may have been set back
            for minute in range(max(first, since), min(last + 1, until)):
                for animal in {row.before, row.animal, row.other} - {None}:
                    found[minute * _MINUTE_NS, animal].add(row.correction_id)
        return dict(found)

    # What is changed

    def insert(self, new: StoredCorrection) -> int:
        """Store a correction; its number."""
        statement = insert(identity_correction).values(
            kind=new.correction.kind.value,
            animal=new.correction.animal,
            other=new.correction.other,
            track=new.correction.track,
            doubts=new.correction.doubts,
            said=new.correction.said,
            run_id=new.run_id,
            from_utc_ns=new.from_utc_ns,
            until_utc_ns=new.until_utc_ns,
            by_whom=new.by,
            reason=new.reason,
            made_utc_ns=new.made_utc_ns,
            stored_until_utc_ns=new.stored_until_utc_ns,
            minutes_from_utc_ns=new.minutes_from_utc_ns,
            minutes_until_utc_ns=new.minutes_until_utc_ns,
        )
        return self._connection.execute(statement.returning(identity_correction.c.id)).scalar_one()

    def set(self, number: int, **values: object) -> None:
        """Change columns of a correction."""
        self._connection.execute(update(identity_correction).where(identity_correction.c.id == number).values(**values))

    def change(self, number: int, spans: Sequence[Span]) -> None:
        """Have tracks be what a correction says, and keep what they were."""
        insert_spans(self._connection, number, spans)
        rows = [
            {
                "of_subject": span.subject,
                "first": span.first_frame_id,
                "last": span.last_frame_id,
                "to_animal": span.after.animal,
                "to_probability": span.after.probability,
                "to_candidates": text_of(span.after.candidates),
                "to_correction": number,
            }
            for span in spans
        ]
        if rows:
            self._make_rows([row for row, span in zip(rows, spans, strict=True) if not span.followed])
            self._connection.execute(_CHANGE_IDENTITY, rows)
            self._connection.execute(_CHANGE_PARTS, rows)

    def _make_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        part = part_observation.c
        for row in rows:
            new = (
                select(part.frame_id, part.subject, literal(""))
                .where(part.frame_id.between(row["first"], row["last"]), part.subject == row["of_subject"])
                .distinct()
            )
            self._connection.execute(insert(identity_observation).from_select(["frame_id", "track", "candidates"], new))

    def restore(self, number: int, *, from_frame_id: int = 0) -> None:
        """Have tracks be what they were before a correction, from a frame on."""
        of = identity_before.c
        spans = self._connection.execute(
            select(identity_before)
            .where(of.correction_id == number, of.last_frame_id >= from_frame_id)
            .order_by(of.subject, of.first_frame_id)
        ).yield_per(1000)
        for some in spans.partitions():
            rows = [
                {
                    "of_subject": row.subject,
                    "first": max(row.first_frame_id, from_frame_id),
                    "last": row.last_frame_id,
                    "to_animal": row.animal,
                    "to_probability": row.probability,
                    "to_candidates": row.candidates,
                    "to_correction": row.before_correction_id,
                    "of_correction": number,
                }
                for row in some
            ]
            self._connection.execute(_RESTORE_PARTS, rows)
            followed = [row for row, of_span in zip(rows, some, strict=True) if of_span.followed]
            if followed:
                self._connection.execute(_RESTORE_IDENTITY, followed)
            if len(followed) < len(rows):
                not_followed = [row for row, of_span in zip(rows, some, strict=True) if not of_span.followed]
                self._connection.execute(_DROP_IDENTITY, not_followed)

    def keep_minutes(self, number: int, *, since_utc_ns: int, until_utc_ns: int, animals: Sequence[int | None]) -> None:
        """Keep values of minutes that are about to be replaced."""
        kept = select(literal(number), *(minute_value.columns[name] for name in _MINUTE_COLUMNS)).where(
            *minutes.within(since_utc_ns, until_utc_ns, animals)
        )
        self._connection.execute(insert(minute_before).from_select(["correction_id", *_MINUTE_COLUMNS], kept))

    def clear_minutes(
        self, *, since_utc_ns: int, until_utc_ns: int, animals: Sequence[int | None], run_ids: Collection[int]
    ) -> None:
        """Take away the values of these runs that are about to be replaced."""
        minutes.clear_minute_values(
            self._connection, since_utc_ns=since_utc_ns, until_utc_ns=until_utc_ns, animals=animals, run_ids=run_ids
        )

    def insert_minutes(self, values: Sequence[MinuteValue], *, run_id: int) -> None:
        """Store values; of a minute that is there already the one with more samples stays."""
        minutes.insert_minute_values(self._connection, values, run_id=run_id)

    def restore_minutes(self, number: int) -> int:
        """Put back the values of minutes as they were before a correction, where they were cleared; how many."""
        there = exists().where(
            *(
                minute_value.columns[name] == minute_before.columns[name]
                for name in ("minute_utc_ns", "animal", "measure")
            )
        )
        kept = select(*(minute_before.columns[name] for name in _MINUTE_COLUMNS)).where(
            minute_before.c.correction_id == number, ~there
        )
        put_back = insert(minute_value).from_select(list(_MINUTE_COLUMNS), kept)
        counted = put_back.execution_options(preserve_rowcount=True)  # of an INSERT it is otherwise -1 on PostgreSQL
        restored = self._connection.execute(counted).rowcount
        minutes.count_rows(self._connection, restored)
        return restored

    def concern_events(self, number: int, animals: Collection[int], first_utc_ns: int, last_utc_ns: int) -> int:
        """Note which events rest on what a correction changed: of these animals, about any of this time; how many.

        What follows on such an event, as its acknowledgement or its end, is concerned as well.
        """
        found: set[int] = set()
        opened: set[str] = set()
        for seq, each in events_of_animals(self._connection, animals, since_utc_ns=first_utc_ns):
            since = each.data.get("since_utc_ns")
            begin = min(since, each.at_utc_ns) if isinstance(since, int) else each.at_utc_ns
            if begin < last_utc_ns or each.opened_event_id in opened:
                found.add(seq)
                opened.add(each.event_id)
        if found:
            rows = [{"event_id": seq, "correction_id": number} for seq in sorted(found)]
            self._connection.execute(insert(corrected_event), rows)
        return len(found)


def check_unchanged(rows: CorrectionRows, known: Sequence[StoredCorrection]) -> None:
    """Raise `StoreRejectedError` where corrections were made or undone since these were read."""
    if [(each.number, each.undone_utc_ns) for each in rows.corrections()] != [
        (each.number, each.undone_utc_ns) for each in known
    ]:
        raise StoreRejectedError("another correction was made meanwhile: nothing was changed, give the command again")


_IDENTITY = select(
    identity_observation.c.frame_id,
    identity_observation.c.track,
    identity_observation.c.animal,
    identity_observation.c.probability,
    identity_observation.c.candidates,
    identity_observation.c.group_size,
    identity_observation.c.correction_id,
    identity_observation.c.doubts,
)


def _identity(row: Any) -> StoredIdentity:  # a row of `_IDENTITY`
    return StoredIdentity(
        frame_id=row.frame_id,
        subject=row.track,
        said=Identity(
            animal=row.animal,
            probability=row.probability,
            candidates=numbers_of(row.candidates),
            correction=row.correction_id,
        ),
        group=row.group_size is not None,
        followed=True,
        doubts=row.doubts or 0,
    )


_MOMENT = select(frame.c.id, frame.c.run_id, frame.c.captured_utc_ns, frame.c.not_measured)


def _moment(row: Any) -> Moment:  # a row of whatever was selected
    return Moment(
        frame_id=row.id,
        run_id=row.run_id,
        captured_utc_ns=row.captured_utc_ns,
        measured=row.not_measured is None,
    )


def _said(row: Any) -> Identity:
    return Identity(
        animal=row.animal,
        probability=row.probability,
        candidates=numbers_of(row.candidates),
        correction=row.before_correction_id,
    )


def _same_subject() -> ColumnElement[bool]:
    return and_(
        identity_observation.c.frame_id == part_observation.c.frame_id,
        identity_observation.c.track == part_observation.c.subject,
    )


_FIRST, _LAST = frame.alias(), frame.alias()
_CHANGED_MINUTES = (
    select(
        identity_before.c.correction_id,
        identity_before.c.animal.label("before"),
        identity_correction.c.animal,
        identity_correction.c.other,
        (_FIRST.c.captured_utc_ns // _MINUTE_NS).label("first_minute"),
        (_LAST.c.captured_utc_ns // _MINUTE_NS).label("last_minute"),
    )
    .join(identity_correction, identity_correction.c.id == identity_before.c.correction_id)
    .join(_FIRST, _FIRST.c.id == identity_before.c.first_frame_id)
    .join(_LAST, _LAST.c.id == identity_before.c.last_frame_id)
    .where(
        identity_correction.c.undone_utc_ns.is_(None),
        identity_before.c.last_frame_id >= bindparam("first"),
        identity_before.c.first_frame_id <= bindparam("last"),
    )
    .distinct()
)

_IN_SPAN = (
    identity_observation.c.frame_id.between(bindparam("first"), bindparam("last")),
    identity_observation.c.track == bindparam("of_subject"),
)
_PARTS_IN_SPAN = (
    part_observation.c.frame_id.between(bindparam("first"), bindparam("last")),
    part_observation.c.subject == bindparam("of_subject"),
)
_TO: dict[str, Any] = {
    "animal": bindparam("to_animal"),
    "probability": bindparam("to_probability"),
    "candidates": bindparam("to_candidates"),
    "correction_id": bindparam("to_correction"),
}

_CHANGE_IDENTITY = update(identity_observation).where(*_IN_SPAN).values(_TO)
_CHANGE_PARTS = update(part_observation).where(*_PARTS_IN_SPAN).values(animal=bindparam("to_animal"))

_CHANGED = identity_observation.c.correction_id == bindparam("of_correction")
_RESTORE_IDENTITY = update(identity_observation).where(*_IN_SPAN, _CHANGED).values(_TO)
_DROP_IDENTITY = delete(identity_observation).where(*_IN_SPAN, _CHANGED)
_RESTORE_PARTS = (
    update(part_observation)
    .where(*_PARTS_IN_SPAN, exists().where(_same_subject(), _CHANGED))
    .values(animal=bindparam("to_animal"))
)
