"""Every planned moment is captured or missing because ..., exactly once, whatever happens in between."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

import pytest

from daemon.observation import FrameObservation
from daemon.schedule import PlannedBlock
from daemon.store.repository import BlockState, Coverage, Store, open_store
from daemon.worker import block_finished
from drivers.clock import NS_PER_S
from drivers.errors import StoreRejectedError
from tests.databases import rows_of

Add = Callable[..., list[int]]
Ids = tuple[int, int]
MakeBlock = Callable[..., PlannedBlock]
MakeObservation = Callable[..., FrameObservation]


@pytest.fixture
def block(planned_block: MakeBlock) -> PlannedBlock:
    """Ten seconds, ten frames."""
    return planned_block()


@pytest.fixture
def opened(store: Store, ids: Ids, block: PlannedBlock) -> PlannedBlock:
    """The block, open in the store."""
    store.open_block(block, run_id=ids[0], at_utc_ns=block.start_utc_ns)
    return block


def samples_of(url: str) -> list[tuple[object, ...]]:
    """Planned moment, frame and reason of all rows."""
    return rows_of(url, "SELECT planned_utc_ns, frame_id, missing_reason FROM planned_sample ORDER BY planned_utc_ns")


def test_a_block_is_opened_once_however_often_it_is_asked_for(store: Store, ids: Ids, block: PlannedBlock) -> None:
    opened = {store.open_block(block, run_id=ids[0], at_utc_ns=block.start_utc_ns + k) for k in range(3)}
    assert len(opened) == 1
    [stored] = store.open_blocks()
    assert (stored.key, stored.stratum, stored.day) == ("2026-11-18/night-1", "night", date(2026, 11, 18))
    assert stored.planned_utc_ns == block.planned_utc_ns
    assert stored.opened_utc_ns == block.start_utc_ns
    assert store.coverage(block.key) == Coverage(expected=10, captured=0, missing_by_reason={})


def test_moments_without_a_row_get_the_reason_given_at_the_end(
    store: Store, add: Add, opened: PlannedBlock, observation: MakeObservation, url: str
) -> None:
    add(*(observation(second, block_key=opened.key) for second in (2, 3, 5)))
    store.record_missing(opened.key, opened.planned_utc_ns[6:8], "camera_lost")
    assert store.unaccounted(opened.key) == [opened.planned_utc_ns[k] for k in (0, 1, 4, 8, 9)]
    assert store.coverage(opened.key).unaccounted == 5
    coverage = store.finish_block(opened.key, at_utc_ns=opened.end_utc_ns + 1, reason_for_unaccounted="service_down")
    assert coverage == Coverage(expected=10, captured=3, missing_by_reason={"camera_lost": 2, "service_down": 5})
    assert (coverage.missing, coverage.unaccounted) == (7, 0)
    assert store.unaccounted(opened.key) == []
    rows = samples_of(url)
    assert [planned for planned, _, _ in rows] == list(opened.planned_utc_ns)
    assert Counter(reason for _, _, reason in rows) == {None: 3, "camera_lost": 2, "service_down": 5}


def test_what_is_accounted_for_stays(
    store: Store, add: Add, opened: PlannedBlock, observation: MakeObservation, url: str
) -> None:
    [frame_id] = add(observation(0, block_key=opened.key))
    first, second, third = opened.planned_utc_ns[:3]
    assert store.record_missing(opened.key, [second], "shutter") == 1
    assert store.record_missing(opened.key, [first, second, third, third], "camera_lost") == 1
    assert store.record_missing(opened.key, [], "camera_lost") == 0
    assert samples_of(url) == [
        (first, frame_id, None),
        (second, None, "shutter"),
        (third, None, "camera_lost"),
    ]


def test_the_second_frame_of_a_moment_is_stored_without_it(
    store: Store, add: Add, opened: PlannedBlock, observation: MakeObservation, url: str
) -> None:
    first, *others = add(observation(0, block_key=opened.key), observation(0, block_key=opened.key))
    others += add(observation(0, block_key=opened.key))
    assert len({first, *others}) == 3
    assert samples_of(url) == [(opened.start_utc_ns, first, None)]
    assert store.counts().frames == 3


def test_a_frame_that_comes_late_takes_the_place_of_its_missing_moment(
    store: Store, add: Add, opened: PlannedBlock, observation: MakeObservation, url: str
) -> None:
    store.finish_block(opened.key, at_utc_ns=opened.end_utc_ns, reason_for_unaccounted="service_down")
    add(*(observation(second, block_key=opened.key) for second in range(4)))
    expected = Coverage(expected=10, captured=4, missing_by_reason={"service_down": 6})
    assert store.coverage(opened.key) == expected
    assert rows_of(url, "SELECT state, captured, missing FROM block") == [("finished", 4, 6)]
    again = store.finish_block(opened.key, at_utc_ns=opened.end_utc_ns + 9, reason_for_unaccounted="other")
    assert again == expected


def test_a_block_goes_on_after_a_restart(
    url: str, block: PlannedBlock, observation: MakeObservation, begin_run: Callable[[Store], Ids]
) -> None:
    with open_store(url, outbox_limit=100) as store:
        run_id, camera_id = begin_run(store)
        block_id = store.open_block(block, run_id=run_id, at_utc_ns=block.start_utc_ns)
        store.add([observation(0, block_key=block.key)], run_id=run_id, camera_id=camera_id)
    with open_store(url, outbox_limit=100) as store:
        run_id, camera_id = begin_run(store)
        assert [left.key for left in store.open_blocks()] == [block.key]
        assert store.open_block(block, run_id=run_id, at_utc_ns=block.start_utc_ns + 5 * NS_PER_S) == block_id
        store.add([observation(5, block_key=block.key)], run_id=run_id, camera_id=camera_id)
        coverage = store.finish_block(block.key, at_utc_ns=block.end_utc_ns, reason_for_unaccounted="service_down")
        assert coverage == Coverage(expected=10, captured=2, missing_by_reason={"service_down": 8})
        assert store.open_blocks() == []


def test_a_block_ended_before_its_time_can_be_joined_again(
    store: Store, ids: Ids, add: Add, opened: PlannedBlock, observation: MakeObservation
) -> None:
    add(observation(0, block_key=opened.key))
    middle = opened.planned_utc_ns[5]
    store.finish_block(opened.key, at_utc_ns=middle, reason_for_unaccounted="service_stopped")
    store.open_block(opened, run_id=ids[0], at_utc_ns=middle)
    assert [stored.key for stored in store.open_blocks()] == [opened.key]
    add(observation(6, block_key=opened.key))
    coverage = store.finish_block(opened.key, at_utc_ns=opened.end_utc_ns, reason_for_unaccounted="service_down")
    assert coverage == Coverage(expected=10, captured=2, missing_by_reason={"service_stopped": 8})


def test_a_block_that_is_over_is_not_opened_again(store: Store, ids: Ids, opened: PlannedBlock) -> None:
    store.finish_block(opened.key, at_utc_ns=opened.end_utc_ns, reason_for_unaccounted="service_down")
    store.open_block(opened, run_id=ids[0], at_utc_ns=opened.end_utc_ns)
    assert store.open_blocks() == []


def test_a_missed_block_has_all_its_moments(store: Store, ids: Ids, block: PlannedBlock) -> None:
    coverage = store.miss_block(block, run_id=ids[0], at_utc_ns=block.end_utc_ns, reason="service_down")
    assert coverage == Coverage(expected=10, captured=0, missing_by_reason={"service_down": 10})
    assert store.finished_block_keys(0) == {block.key}
    assert store.miss_block(block, run_id=ids[0], at_utc_ns=block.end_utc_ns, reason="other") == coverage


def test_a_block_that_had_begun_is_not_missed_as_a_whole(
    store: Store, ids: Ids, add: Add, opened: PlannedBlock, observation: MakeObservation, url: str
) -> None:
    add(observation(0, block_key=opened.key))
    coverage = store.miss_block(opened, run_id=ids[0], at_utc_ns=opened.end_utc_ns, reason="service_down")
    assert coverage.captured == 1
    assert rows_of(url, "SELECT state FROM block") == [("finished",)]


def test_a_changed_plan_gets_the_key_and_the_former_data_stay(
    store: Store,
    ids: Ids,
    add: Add,
    opened: PlannedBlock,
    observation: MakeObservation,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add(observation(0, block_key=opened.key))
    faster = replace(opened, period_ns=NS_PER_S // 2)
    store.open_block(faster, run_id=ids[0], at_utc_ns=opened.start_utc_ns + NS_PER_S)
    former = Coverage(expected=10, captured=1, missing_by_reason={"plan_changed": 9})
    assert store.coverage(f"{opened.key}~1") == former
    assert store.coverage(opened.key) == Coverage(expected=20, captured=0, missing_by_reason={})
    assert "the plan of block 2026-11-18/night-1 was changed" in caplog.text
    later = replace(opened, start_utc_ns=opened.start_utc_ns + 60 * NS_PER_S)
    store.miss_block(later, run_id=ids[0], at_utc_ns=later.end_utc_ns, reason="service_down")
    assert store.finished_block_keys(0) == {opened.key, f"{opened.key}~1", f"{opened.key}~2"}


@dataclass(frozen=True)
class UnevenBlock:
    """A plan that is none."""

    key: str
    day: date
    stratum: str
    start_utc_ns: int
    end_utc_ns: int
    period_ns: int
    planned_utc_ns: tuple[int, ...]


@pytest.mark.parametrize("planned", [(), (0, 1, 3), (0, 1, 2, 3, 4)], ids=["none", "uneven", "past the end"])
def test_a_plan_without_even_moments_is_refused(store: Store, ids: Ids, planned: tuple[int, ...]) -> None:
    block = UnevenBlock("k", date(2026, 11, 18), "night", 0, 4, 1, planned)
    with pytest.raises(StoreRejectedError, match=r"block k: expected planned moments 0 \+ k \* 1 before 4"):
        store.open_block(block, run_id=ids[0], at_utc_ns=0)
    assert store.open_blocks() == []


def test_a_moment_that_was_not_planned_is_refused(
    store: Store, add: Add, opened: PlannedBlock, observation: MakeObservation
) -> None:
    between = replace(observation(0, block_key=opened.key), planned_utc_ns=opened.start_utc_ns + 1)
    with pytest.raises(StoreRejectedError, match="is not planned; expected 1795000000000000000"):
        add(observation(1, block_key=opened.key), between)
    with pytest.raises(StoreRejectedError, match="is not planned"):
        store.record_missing(opened.key, [opened.end_utc_ns], "shutter")
    assert store.counts().frames == 0
    assert len(store.unaccounted(opened.key)) == 10


def test_an_unknown_block_is_refused(store: Store, add: Add, observation: MakeObservation) -> None:
    with pytest.raises(StoreRejectedError, match="block nowhere is not in the database: open it first"):
        add(observation(0, block_key="nowhere"))
    with pytest.raises(StoreRejectedError, match="block nowhere"):
        store.coverage("nowhere")


def test_a_frame_with_half_a_plan_is_refused(store: Store, add: Add, observation: MakeObservation) -> None:
    with pytest.raises(StoreRejectedError, match="expected block_key and planned_utc_ns both or none"):
        add(replace(observation(0), planned_utc_ns=5))


def test_frames_that_were_left_out_are_captured_and_counted_as_unmeasured(
    store: Store, ids: Ids, add: Add, planned_block: MakeBlock, observation: MakeObservation
) -> None:
    block = planned_block()
    store.open_block(block, run_id=ids[0], at_utc_ns=block.start_utc_ns)
    reasons = [None, "model_slow", "model_slow", "shutter"]
    add(*(replace(observation(n, block_key=block.key), not_measured=why) for n, why in enumerate(reasons)))
    coverage = store.coverage(block.key)
    assert (coverage.captured, dict(coverage.unmeasured_by_reason)) == (4, {"model_slow": 2, "shutter": 1})
    told = block_finished(block.key, coverage, block.end_utc_ns).data
    assert (told["captured"], told["unmeasured_model_slow"], told["unmeasured_shutter"]) == (4, 2, 1)


def test_coverage_of_the_last_hours_is_over_all_blocks(
    store: Store, ids: Ids, add: Add, planned_block: MakeBlock, observation: MakeObservation
) -> None:
    first, second = planned_block(number=1), planned_block(number=2, start_second=100)
    for each in (first, second):
        store.open_block(each, run_id=ids[0], at_utc_ns=each.start_utc_ns)
    add(observation(8, block_key=first.key), observation(9, block_key=first.key))
    store.finish_block(first.key, at_utc_ns=first.end_utc_ns, reason_for_unaccounted="service_down")
    add(observation(100, block_key=second.key))
    store.record_missing(second.key, [second.planned_utc_ns[1]], "shutter")
    since = first.planned_utc_ns[7]
    assert store.coverage_since(since) == Coverage(
        expected=5, captured=3, missing_by_reason={"service_down": 1, "shutter": 1}
    )
    assert store.coverage_since(second.end_utc_ns) == Coverage(expected=0, captured=0, missing_by_reason={})


def test_it_is_known_until_when_blocks_are_accounted_for(
    store: Store, begin_run: Callable[[Store], Ids], planned_block: MakeBlock
) -> None:
    assert store.accounted_until() is None
    run_id, _ = begin_run(store)
    first, second = planned_block(number=1), planned_block(number=2, start_second=100)
    assert store.accounted_until() == first.start_utc_ns  # when the run began
    store.miss_block(first, run_id=run_id, at_utc_ns=first.end_utc_ns, reason="service_down")
    store.open_block(second, run_id=run_id, at_utc_ns=second.start_utc_ns)
    assert store.accounted_until() == first.end_utc_ns
    assert store.finished_block_keys(first.end_utc_ns) == {first.key}
    assert store.finished_block_keys(first.end_utc_ns + 1) == frozenset()
    state = BlockState.MISSED
    store.finish_block(second.key, at_utc_ns=second.end_utc_ns, reason_for_unaccounted="x", state=state)
    assert store.accounted_until() == second.end_utc_ns


def test_a_shortened_block_plans_less_and_is_accounted_for(
    store: Store, add: Add, opened: PlannedBlock, observation: MakeObservation
) -> None:
    add(*(observation(second, block_key=opened.key) for second in (0, 1, 3)))
    shorter = replace(opened, duration_ns=4 * NS_PER_S)
    for _ in range(2):
        store.shorten_block(shorter)
    coverage = store.finish_block(opened.key, at_utc_ns=shorter.end_utc_ns, reason_for_unaccounted="no_frame")
    assert coverage == Coverage(expected=4, captured=3, missing_by_reason={"no_frame": 1})
    store.shorten_block(replace(opened, duration_ns=2 * NS_PER_S))
    assert store.coverage(opened.key) == coverage, "what is over stays"


def test_a_block_with_later_moments_is_not_shortened(
    store: Store, add: Add, opened: PlannedBlock, observation: MakeObservation
) -> None:
    add(observation(7, block_key=opened.key))
    store.shorten_block(replace(opened, duration_ns=4 * NS_PER_S))
    assert store.coverage(opened.key).expected == 10


def test_another_plan_shortens_nothing(store: Store, opened: PlannedBlock) -> None:
    with pytest.raises(StoreRejectedError, match="got another plan"):
        store.shorten_block(replace(opened, period_ns=2 * NS_PER_S))
