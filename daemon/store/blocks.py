"""Blocks and their planned moments: each is captured by a frame, or missing because ..."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from operator import ne
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Select, func, insert, select, update

from daemon.store.schema import BlockState, block, frame, planned_sample, run
from drivers.errors import StoreRejectedError

logger = logging.getLogger(__name__)

PLAN_CHANGED = "plan_changed"

_ROWS_A_STATEMENT = 10_000
"""Bounds the memory that a long block without frames takes."""


class BlockPlan(Protocol):
    """What the store needs to know of a block; `daemon.schedule.PlannedBlock` is one."""

    @property
    def key(self) -> str:
        """Its name, unique within a plan."""
        ...

    @property
    def day(self) -> date:
        """Local date it belongs to."""
        ...

    @property
    def stratum(self) -> str:
        """Part of the day."""
        ...

    @property
    def start_utc_ns(self) -> int:
        """The first planned moment."""
        ...

    @property
    def end_utc_ns(self) -> int:
        """End; no moment is planned at or after it."""
        ...

    @property
    def period_ns(self) -> int:
        """Distance of planned moments."""
        ...

    @property
    def planned_utc_ns(self) -> Sequence[int]:
        """The planned moments: start + k * period."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of what was planned is there."""

    expected: int
    """Planned moments."""
    captured: int
    missing_by_reason: Mapping[str, int]
    unmeasured_by_reason: Mapping[str, int] = field(default_factory=dict)
    """Captured moments whose frame was not measured; counted for single blocks only."""

    @property
    def missing(self) -> int:
        """Planned moments that are known to be missing."""
        return sum(self.missing_by_reason.values())

    @property
    def unaccounted(self) -> int:
        """Planned moments that nothing is known of; 0 once the block is over."""
        return self.expected - self.captured - self.missing


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """A block as the database knows it; itself a `BlockPlan`."""

    block_id: int
    run_id: int
    key: str
    stratum: str
    day: date
    start_utc_ns: int
    end_utc_ns: int
    period_ns: int
    expected: int
    state: BlockState
    opened_utc_ns: int

    @property
    def planned_utc_ns(self) -> range:
        """The planned moments."""
        return range(self.start_utc_ns, self.start_utc_ns + self.expected * self.period_ns, self.period_ns)

    def check_planned(self, planned_utc_ns: int) -> None:
        """Raise `StoreRejectedError` unless the moment is one of the plan."""
        if planned_utc_ns not in self.planned_utc_ns:
            raise StoreRejectedError(
                f"block {self.key}: {planned_utc_ns} is not planned; expected {self.start_utc_ns} + k * "
                f"{self.period_ns} with k from 0 to {self.expected - 1}"
            )


_BLOCK = select(
    block.c.id,
    block.c.run_id,
    block.c.key,
    block.c.stratum,
    block.c.day,
    block.c.start_utc_ns,
    block.c.end_utc_ns,
    block.c.period_ns,
    block.c.expected,
    block.c.state,
    block.c.opened_utc_ns,
)


def find_block(connection: Connection, key: str) -> StoredBlock | None:
    """The block with this key."""
    found = _blocks(connection, _BLOCK.where(block.c.key == key))
    return found[0] if found else None


def known_block(connection: Connection, key: str) -> StoredBlock:
    """The block with this key; `StoreRejectedError` if there is none."""
    found = find_block(connection, key)
    if found is None:
        raise StoreRejectedError(f"block {key} is not in the database: open it first")
    return found


def open_blocks(connection: Connection) -> list[StoredBlock]:
    """See `Store.open_blocks`."""
    return _blocks(connection, _BLOCK.where(block.c.state == BlockState.OPEN).order_by(block.c.start_utc_ns))


def blocks_within(connection: Connection, since_utc_ns: int, until_utc_ns: int) -> list[StoredBlock]:
    """See `Store.blocks_within`."""
    touching = (block.c.end_utc_ns > since_utc_ns, block.c.start_utc_ns < until_utc_ns)
    return _blocks(connection, _BLOCK.where(*touching).order_by(block.c.start_utc_ns))


def _blocks(connection: Connection, statement: Select[*tuple[Any, ...]]) -> list[StoredBlock]:
    return [
        StoredBlock(
            block_id=row.id,
            run_id=row.run_id,
            key=row.key,
            stratum=row.stratum,
            day=date.fromisoformat(row.day),
            start_utc_ns=row.start_utc_ns,
            end_utc_ns=row.end_utc_ns,
            period_ns=row.period_ns,
            expected=row.expected,
            state=BlockState(row.state),
            opened_utc_ns=row.opened_utc_ns,
        )
        for row in connection.execute(statement)
    ]


def open_block(connection: Connection, plan: BlockPlan, *, run_id: int, at_utc_ns: int) -> int:
    """See `Store.open_block`."""
    stored = _stored_plan(connection, plan, at_utc_ns=at_utc_ns)
    if stored is None:
        return _insert_block(connection, plan, run_id=run_id, at_utc_ns=at_utc_ns)
    if stored.state is not BlockState.OPEN and at_utc_ns < stored.end_utc_ns:
        _reopen(connection, stored)
    return stored.block_id


def _stored_plan(connection: Connection, plan: BlockPlan, *, at_utc_ns: int) -> StoredBlock | None:
    """The stored block of this very plan.

    Keys name a place in the day's plan, so after a change of the configuration another block may have the key. It is
    ended, keeps all it has, and gives the key away: it becomes KEY~1.
    """
    stored = find_block(connection, plan.key)
    if stored is None or (stored.planned_utc_ns, stored.end_utc_ns) == (_grid(plan), plan.end_utc_ns):
        return stored
    finish_block(connection, stored, at_utc_ns=at_utc_ns, reason=PLAN_CHANGED, state=BlockState.FINISHED)
    number = 1
    while find_block(connection, f"{plan.key}~{number}") is not None:
        number += 1
    new_key = f"{plan.key}~{number}"
    connection.execute(update(block).where(block.c.id == stored.block_id).values(key=new_key))
    logger.warning("the plan of block %s was changed: what is stored of the former plan is now %s", plan.key, new_key)
    return None


def _grid(plan: BlockPlan) -> range:
    """The planned moments, checked to be start + k * period before the end."""
    planned = plan.planned_utc_ns
    grid = range(plan.start_utc_ns, plan.start_utc_ns + len(planned) * plan.period_ns, plan.period_ns)
    if not planned or grid[-1] >= plan.end_utc_ns or (planned != grid and any(map(ne, planned, grid))):
        raise StoreRejectedError(
            f"block {plan.key}: expected planned moments {plan.start_utc_ns} + k * {plan.period_ns} before "
            f"{plan.end_utc_ns}, got {len(planned)} others"
        )
    return grid


def _insert_block(connection: Connection, plan: BlockPlan, *, run_id: int, at_utc_ns: int) -> int:
    statement = insert(block).values(
        run_id=run_id,
        key=plan.key,
        stratum=plan.stratum,
        day=plan.day.isoformat(),
        start_utc_ns=plan.start_utc_ns,
        end_utc_ns=plan.end_utc_ns,
        period_ns=plan.period_ns,
        expected=len(_grid(plan)),
        state=BlockState.OPEN,
        opened_utc_ns=at_utc_ns,
    )
    return connection.execute(statement.returning(block.c.id)).scalar_one()


def _reopen(connection: Connection, stored: StoredBlock) -> None:
    connection.execute(
        update(block)
        .where(block.c.id == stored.block_id)
        .values(state=BlockState.OPEN, captured=None, missing=None, finished_utc_ns=None)
    )


def accounted(connection: Connection, block_id: int, first_utc_ns: int, last_utc_ns: int) -> dict[int, int | None]:
    """Planned moments between two (both included) that have a row: the frame that stands for each, None if missing."""
    statement = select(planned_sample.c.planned_utc_ns, planned_sample.c.frame_id).where(
        planned_sample.c.block_id == block_id, planned_sample.c.planned_utc_ns.between(first_utc_ns, last_utc_ns)
    )
    return {planned: frame_id for planned, frame_id in connection.execute(statement)}


def unaccounted(connection: Connection, stored: StoredBlock) -> list[int]:
    """Planned moments of a block that have no row."""
    statement = (
        select(planned_sample.c.planned_utc_ns)
        .where(planned_sample.c.block_id == stored.block_id)
        .order_by(planned_sample.c.planned_utc_ns)
    )
    known = iter(connection.execute(statement).scalars())
    next_known = next(known, None)
    unknown = []
    for moment in stored.planned_utc_ns:
        if moment == next_known:
            next_known = next(known, None)
        else:
            unknown.append(moment)
    return unknown


def record_missing(connection: Connection, stored: StoredBlock, planned_utc_ns: Sequence[int], reason: str) -> int:
    """See `Store.record_missing`."""
    if not planned_utc_ns:
        return 0
    for moment in planned_utc_ns:
        stored.check_planned(moment)
    known = accounted(connection, stored.block_id, min(planned_utc_ns), max(planned_utc_ns))
    return _insert_missing(
        connection, stored, [moment for moment in dict.fromkeys(planned_utc_ns) if moment not in known], reason
    )


def _insert_missing(connection: Connection, stored: StoredBlock, moments: Sequence[int], reason: str) -> int:
    for first in range(0, len(moments), _ROWS_A_STATEMENT):
        rows = [
            {"block_id": stored.block_id, "planned_utc_ns": moment, "missing_reason": reason}
            for moment in moments[first : first + _ROWS_A_STATEMENT]
        ]
        connection.execute(insert(planned_sample), rows)
    return len(moments)


def finish_block(
    connection: Connection, stored: StoredBlock, *, at_utc_ns: int, reason: str, state: BlockState
) -> Coverage:
    """See `Store.finish_block`."""
    if stored.state is BlockState.OPEN:
        _insert_missing(connection, stored, unaccounted(connection, stored), reason)
        _settle(connection, stored, state=state, at_utc_ns=at_utc_ns)
    return coverage(connection, stored)


def shorten_block(connection: Connection, stored: StoredBlock, plan: BlockPlan) -> None:
    """See `Store.shorten_block`."""
    if (stored.start_utc_ns, stored.period_ns) != (plan.start_utc_ns, plan.period_ns):
        raise StoreRejectedError(f"block {plan.key}: expected the stored plan with another end, got another plan")
    if accounted(connection, stored.block_id, plan.end_utc_ns, stored.end_utc_ns):
        return  # from before the clock was set back: it happened
    values = {"end_utc_ns": plan.end_utc_ns, "expected": len(_grid(plan))}
    connection.execute(update(block).where(block.c.id == stored.block_id).values(values))


def miss_block(connection: Connection, plan: BlockPlan, *, run_id: int, at_utc_ns: int, reason: str) -> Coverage:
    """See `Store.miss_block`."""
    if _stored_plan(connection, plan, at_utc_ns=at_utc_ns) is None:
        _insert_block(connection, plan, run_id=run_id, at_utc_ns=at_utc_ns)
    stored = known_block(connection, plan.key)
    return finish_block(connection, stored, at_utc_ns=at_utc_ns, reason=reason, state=BlockState.MISSED)


def settle_again(connection: Connection, stored: StoredBlock) -> None:
    """Count anew after late frames have replaced missing moments of a block that is over."""
    if stored.state is not BlockState.OPEN:
        _settle(connection, stored, state=stored.state, at_utc_ns=None)


def _settle(connection: Connection, stored: StoredBlock, *, state: BlockState, at_utc_ns: int | None) -> None:
    known = coverage(connection, stored)
    if state is BlockState.MISSED and known.captured:
        state = BlockState.FINISHED
    values = {"state": state, "captured": known.captured, "missing": known.missing}
    if at_utc_ns is not None:
        values["finished_utc_ns"] = at_utc_ns
    connection.execute(update(block).where(block.c.id == stored.block_id).values(values))


def coverage(connection: Connection, stored: StoredBlock) -> Coverage:
    """See `Store.coverage`."""
    counts = _counts(connection, planned_sample.c.block_id == stored.block_id)
    return Coverage(
        expected=stored.expected,
        captured=counts.pop(None, 0),
        missing_by_reason=_named(counts),
        unmeasured_by_reason=_unmeasured(connection, stored),
    )


def coverage_since(connection: Connection, since_utc_ns: int) -> Coverage:
    """See `Store.coverage_since`."""
    recent = select(block.c.id).where(block.c.end_utc_ns > since_utc_ns)
    counts = _counts(connection, planned_sample.c.block_id.in_(recent), planned_sample.c.planned_utc_ns >= since_utc_ns)
    expected = sum(counts.values())
    return Coverage(expected=expected, captured=counts.pop(None, 0), missing_by_reason=_named(counts))


def _counts(connection: Connection, *conditions: ColumnElement[bool]) -> dict[str | None, int]:
    """Number of planned moments by the reason why they are missing; None stands for captured."""
    statement = (
        select(planned_sample.c.missing_reason, func.count())
        .where(*conditions)
        .group_by(planned_sample.c.missing_reason)
    )
    return {reason: count for reason, count in connection.execute(statement)}


def _unmeasured(connection: Connection, stored: StoredBlock) -> dict[str, int]:
    statement = (
        select(frame.c.not_measured, func.count())
        .join(planned_sample, planned_sample.c.frame_id == frame.c.id)
        .where(planned_sample.c.block_id == stored.block_id, frame.c.not_measured.is_not(None))
        .group_by(frame.c.not_measured)
    )
    return _named({reason: count for reason, count in connection.execute(statement)})


def _named(counts: Mapping[str | None, int]) -> dict[str, int]:
    return {reason: count for reason, count in sorted((str(reason), count) for reason, count in counts.items())}


def finished_block_keys(connection: Connection, since_utc_ns: int) -> frozenset[str]:
    """See `Store.finished_block_keys`."""
    statement = select(block.c.key).where(block.c.state != BlockState.OPEN, block.c.end_utc_ns >= since_utc_ns)
    return frozenset(connection.execute(statement).scalars())


def accounted_until(connection: Connection) -> int | None:
    """See `Store.accounted_until`."""
    end = connection.execute(select(func.max(block.c.end_utc_ns)).where(block.c.state != BlockState.OPEN)).scalar()
    if end is not None:
        return end
    return connection.execute(select(func.min(run.c.started_utc_ns))).scalar()
