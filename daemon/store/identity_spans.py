"""Stretches of frames in which a correction changed one track from the same to the same."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from daemon.observation import Identity
from daemon.store.schema import identity_before


@dataclass(slots=True, kw_only=True)
class Span:
    """One such stretch: in no frame between the two the track was said to be anything else."""

    subject: int
    first_frame_id: int
    last_frame_id: int
    followed: bool
    """Whether there is a row in `identity_observation` without the correction."""
    before: Identity
    after: Identity


class SpanMaker:
    """Makes spans of what is changed frame after frame."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int | None], Span] = {}
        self._closed: list[Span] = []

    def add(self, frame_id: int, subject: int, *, followed: bool, before: Identity, after: Identity) -> None:
        """A track is changed in this frame."""
        key = subject, after.correction
        span = self._open.get(key)
        if span is not None and (span.followed, span.before, span.after) == (followed, before, after):
            span.last_frame_id = frame_id
            return
        if span is not None:
            self._closed.append(span)
        self._open[key] = Span(
            subject=subject,
            first_frame_id=frame_id,
            last_frame_id=frame_id,
            followed=followed,
            before=before,
            after=after,
        )

    def leave(self, subject: int, correction: int | None) -> None:
        """A track is not changed in this frame."""
        if (subject, correction) in self._open:
            self._closed.append(self._open.pop((subject, correction)))

    def closed(self) -> list[Span]:
        """What is finished since this was last asked for."""
        closed, self._closed = self._closed, []
        return closed

    def finish(self) -> list[Span]:
        """The same when nothing more is to come."""
        self._closed += self._open.values()
        self._open.clear()
        return self.closed()


def said_row(said: Identity) -> dict[str, object]:
    """An identity as the columns of `identity_before`."""
    return {
        "animal": said.animal,
        "probability": said.probability,
        "candidates": text_of(said.candidates),
        "before_correction_id": said.correction,
    }


def keep_span(connection: Connection, correction_id: int, span: Span) -> None:
    """Note what a correction in force has changed in new frames; what is the same as before goes on."""
    same = (identity_before.c.correction_id == correction_id, identity_before.c.subject == span.subject)
    newest = connection.execute(
        select(identity_before).where(*same).order_by(identity_before.c.first_frame_id.desc()).limit(1)
    ).first()
    row = {"followed": int(span.followed), **said_row(span.before)}
    if newest is not None and all(getattr(newest, name) == value for name, value in row.items()):
        longer = update(identity_before).where(*same, identity_before.c.first_frame_id == newest.first_frame_id)
        connection.execute(longer.values(last_frame_id=span.last_frame_id))
    else:
        insert_spans(connection, correction_id, [span])


def insert_spans(connection: Connection, correction_id: int, spans: Iterable[Span]) -> None:
    """Store what a correction has changed."""
    rows = [
        {
            "correction_id": correction_id,
            "subject": span.subject,
            "first_frame_id": span.first_frame_id,
            "last_frame_id": span.last_frame_id,
            "followed": int(span.followed),
            **said_row(span.before),
        }
        for span in spans
    ]
    if rows:
        connection.execute(insert(identity_before), rows)


def numbers_of(text: str) -> tuple[int, ...]:
    """Animals as they stand in `candidates`."""
    return tuple(int(number) for number in text.split(",") if number)


def text_of(numbers: Iterable[int]) -> str:
    """What stands in `candidates` for these animals."""
    return ",".join(map(str, numbers))
