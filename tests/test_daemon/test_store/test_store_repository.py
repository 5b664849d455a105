"""What goes into the store comes out of it, all of it or nothing."""

import math
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from daemon.events import Event, EventKind, EventState, Severity
from daemon.messaging.outbox import OutboxMessage, OutboxStore, Priority
from daemon.observation import AnimalObservation, FrameObservation, GroupObservation
from daemon.schedule import PlannedBlock
from daemon.store.repository import Counts, RecordingState, Store, attach_store, open_store
from daemon.vision.parts import BodyPart
from drivers.camera import CameraInfo
from drivers.errors import StoreError, StoreRejectedError
from drivers.frame import FrameFlag
from drivers.recording import RecordingSummary
from drivers.sidecar import RecordingHeader
from tests.databases import rows_of

Add = Callable[..., list[int]]
Ids = tuple[int, int]
MakeObservation = Callable[..., FrameObservation]

CAMERA = CameraInfo(kind="replay", product="P", serial="S", firmware="F", location="a.mkv", frame_rate_hz=25.0)


def event(kind: EventKind, state: EventState, at_utc_ns: int, opened_event_id: str | None = None) -> Event:
    """An event of the first animal."""
    return Event(
        kind=kind,
        state=state,
        severity=Severity.ALERT,
        at_utc_ns=at_utc_ns,
        animal=1,
        data={"p95_celsius": 39.4, "reason": "ü", "count": 3, "sure": True, "none": None},
        opened_event_id=opened_event_id,
    )


def message(name: str, priority: Priority = Priority.NOTICE) -> OutboxMessage:
    """A message with its name as payload."""
    return OutboxMessage(topic=f"event/{name}", payload=name.encode(), created_utc_ns=5, priority=priority)


def topics(store: Store) -> list[str]:
    """What waits in the outbox, oldest first."""
    return [queued.topic.removeprefix("event/") for queued in store.queued_messages(after_id=0, limit=1000)]


def test_a_frame_names_who_found_the_animals(
    store: Store, ids: Ids, add: Add, observation: MakeObservation, planned_block: Callable[..., PlannedBlock]
) -> None:
    block = planned_block()
    store.open_block(block, run_id=ids[0], at_utc_ns=block.start_utc_ns)
    names = ["unet-1+panoptic-1", "classical-1", None]
    add(*(replace(observation(n, block_key=block.key), segmenter=name) for n, name in enumerate(names)))
    assert [each.segmenter for each in store.block_observations(block.key)] == names


def test_a_run_is_told_its_networks_only_before_anything_was_measured(
    store: Store, ids: Ids, add: Add, observation: MakeObservation, url: str
) -> None:
    store.name_segmenter(ids[0], segmenter="unet-1", models={"unet": "ab"})
    named = [("unet-1", '{"unet":"ab"}')]
    assert rows_of(url, "SELECT segmenter, models_json FROM run") == named
    add(observation(0))
    with pytest.raises(StoreRejectedError, match="has frames: they were not measured by unet-2"):
        store.name_segmenter(ids[0], segmenter="unet-2", models={})
    with pytest.raises(StoreRejectedError, match="there is no such run"):
        store.name_segmenter(77, segmenter="unet-2", models={})
    assert rows_of(url, "SELECT segmenter, models_json FROM run") == named


def test_a_run_ends_with_the_beginning_of_the_next_or_not_at_all(store: Store, ids: Ids, url: str) -> None:
    values = {"version": "1", "config_hash": "", "config_json": "{}", "host": "", "boot_id": "", "started_utc_ns": 9}
    with pytest.raises(StoreRejectedError):
        store.start_run(**{**values, "after": ids[0], "segmenter": None})  # type: ignore[arg-type]
    assert rows_of(url, "SELECT id, end_reason FROM run") == [(ids[0], None)]
    new = store.start_run(**{**values, "after": ids[0], "segmenter": "unet-1"})  # type: ignore[arg-type]
    assert rows_of(url, "SELECT id, ended_utc_ns, end_reason FROM run") == [
        (ids[0], 9, "reloaded"),
        (new, None, None),
    ]


def test_observations_are_read_as_they_were_written(
    store: Store, ids: Ids, add: Add, observation: MakeObservation, planned_block: Callable[..., PlannedBlock]
) -> None:
    block = planned_block()
    store.open_block(block, run_id=ids[0], at_utc_ns=block.start_utc_ns)
    plain = observation(0, block_key=block.key)
    head = plain.animals[0].parts[0]
    tail = replace(
        head,
        part=BodyPart.TAIL,
        valid_px=0,
        x_mm=12.5,
        y_mm=0.1 + 0.2,
        area_mm2=1 / 3,
        mean_celsius=None,
        median_celsius=None,
        p95_celsius=None,
        min_celsius=None,
        max_celsius=None,
    )
    two = replace(
        observation(1, block_key=block.key),
        animals=(AnimalObservation(animal=1, parts=(head, tail)), AnimalObservation(animal=2, parts=(tail,))),
        flags=FrameFlag.OVER_RANGE | FrameFlag.DRIFTED,
    )
    nothing = replace(
        observation(2, block_key=block.key), animals=(), not_measured="uncertain", background_celsius=None
    )
    recalibrated = replace(
        observation(3, block_key=block.key), calibration=replace(plain.calibration, shutter_celsius=27.25)
    )
    followed = replace(
        observation(4, block_key=block.key),
        animals=(
            AnimalObservation(animal=2, track=8, probability=0.99, parts=(head,)),
            AnimalObservation(animal=None, track=6, probability=0.5, candidates=(1, 3), parts=(head, tail)),
            AnimalObservation(animal=None, track=9, group=9, candidates=(1, 3, 4), parts=(head,)),
        ),
        groups=(
            GroupObservation(number=9, members=(1, 3, 4), size=2, area_px=50, mean_celsius=31.5, max_celsius=36.0),
        ),
    )
    written = [plain, two, nothing, recalibrated, followed]
    add(*written)
    assert store.block_observations(block.key) == written


def test_frame_ids_come_in_the_order_of_the_observations(add: Add, observation: MakeObservation, url: str) -> None:
    frame_ids = add(*(observation(second) for second in range(50)))
    assert rows_of(url, "SELECT id, sequence FROM frame ORDER BY id") == list(zip(frame_ids, range(50), strict=True))


def test_every_row_reaches_its_run_camera_and_calibration(add: Add, observation: MakeObservation, url: str) -> None:
    add(observation())
    query = (
        "SELECT run.version, run.config_hash, run.segmenter, camera.serial, calibration.shutter_celsius"
        " FROM part_observation JOIN frame ON frame.id = frame_id JOIN run ON run.id = run_id"
        " JOIN camera ON camera.id = frame.camera_id JOIN calibration ON calibration.id = calibration_id"
    )
    assert rows_of(url, query) == [("0.1.0", "abc", "classical 1", "S1", 27.125)]


def test_equal_calibrations_are_one_row_for_each_camera_also_after_a_restart(
    observation: MakeObservation, begin_run: Callable[[Store], Ids], url: str
) -> None:
    other = replace(observation().calibration, fpa_celsius=32.0)
    for _ in range(2):
        with open_store(url, outbox_limit=100) as store:
            run_id, camera_id = begin_run(store)
            second_camera_id = store.register_camera(CAMERA, "v2")
            frames = [observation(0), observation(1, calibration=other), observation(2)]
            store.add(frames, run_id=run_id, camera_id=camera_id)
            store.add(frames, run_id=run_id, camera_id=second_camera_id)
    assert rows_of(url, "SELECT camera_id, fpa_celsius FROM calibration ORDER BY id") == [
        (1, 31.5),
        (1, 32.0),
        (2, 31.5),
        (2, 32.0),
    ]


def test_many_calibrations_do_not_fill_the_memory_and_stay_one_row_each(
    add: Add, observation: MakeObservation, url: str
) -> None:
    frames = [
        observation(second, calibration=replace(observation().calibration, fpa_celsius=30 + second / 64))
        for second in range(600)
    ]
    for first in range(0, 600, 100):
        add(*frames[first : first + 100])
    add(*frames)
    assert rows_of(url, "SELECT count(*) FROM calibration") == [(600,)]


def test_a_camera_is_known_again_until_anything_about_it_changes(store: Store) -> None:
    first = store.register_camera(CAMERA, "v1")
    assert store.register_camera(CAMERA, "v1") == first
    assert store.register_camera(replace(CAMERA, firmware="F2"), "v1") != first
    assert store.register_camera(CAMERA, "v2") != first
    with pytest.raises(StoreRejectedError, match="'v3' is not a valid Variant"):
        store.register_camera(CAMERA, "v3")


def test_frames_without_a_camera_are_refused(store: Store, ids: Ids, observation: MakeObservation) -> None:
    with pytest.raises(StoreRejectedError, match="1 frames without knowing their camera"):
        store.add([observation()], run_id=ids[0], camera_id=None)


def test_a_refused_row_takes_the_whole_batch_with_it(
    store: Store, ids: Ids, observation: MakeObservation, url: str
) -> None:
    good = observation(0)
    [animal] = good.animals
    bad = replace(good, animals=(replace(animal, parts=(replace(animal.parts[0], valid_px=0),)),))
    occurred = event(EventKind.CAMERA_FOUND, EventState.OCCURRED, 5)
    with pytest.raises(StoreRejectedError, match=r"(?i)cannot store 2 frames and 1 events: .*check .*figures"):
        store.add([good, bad], run_id=ids[0], camera_id=ids[1], events=[occurred], messages=[message("a")])
    assert store.counts() == Counts(
        frames=0, part_observations=0, minute_values=0, events=0, outbox=0, outbox_dropped=0
    )
    assert rows_of(url, "SELECT count(*) FROM calibration") == [(0,)]
    store.add([good], run_id=ids[0], camera_id=ids[1], events=[occurred], messages=[message("a")])
    assert store.counts() == Counts(
        frames=1, part_observations=1, minute_values=0, events=1, outbox=1, outbox_dropped=0
    )


def test_an_unknown_run_is_refused(store: Store, ids: Ids, observation: MakeObservation) -> None:
    with pytest.raises(StoreRejectedError, match=r"(?i)foreign key"):
        store.add([observation()], run_id=ids[0] + 1, camera_id=ids[1])
    with pytest.raises(StoreRejectedError, match="there is no such run"):
        store.end_run(ids[0] + 1, ended_utc_ns=9, reason="stopped")


def test_the_end_of_a_run_is_stored(store: Store, ids: Ids, url: str) -> None:
    store.end_run(ids[0], ended_utc_ns=1_795_000_000_000_000_009, reason="stopped")
    assert rows_of(url, "SELECT ended_utc_ns, end_reason FROM run") == [(1_795_000_000_000_000_009, "stopped")]


def test_each_animal_is_shown_where_it_was_seen_last(store: Store, add: Add, observation: MakeObservation) -> None:
    assert store.latest_observations() == []
    [first] = observation().animals
    head = first.parts[0]
    body = replace(head, part=BodyPart.BODY)
    both = replace(observation(0), animals=(first, AnimalObservation(animal=2, parts=(head, body))))
    add(both, observation(1), replace(observation(2), animals=()))
    latest = store.latest_observations()
    assert [(seen.animal.animal, seen.captured_utc_ns) for seen in latest] == [
        (1, observation(1).captured_utc_ns),
        (2, observation(0).captured_utc_ns),
    ]
    assert latest[1].animal.parts == (head, body)
    assert latest[0].flags is FrameFlag.SETTLING


def test_conditions_that_were_opened_and_not_closed_are_found_after_a_restart(
    url: str, begin_run: Callable[[Store], Ids]
) -> None:
    hot = event(EventKind.ANIMAL_TOO_HOT, EventState.OPENED, 1)
    lost = event(EventKind.CAMERA_LOST, EventState.OPENED, 2)
    found = event(EventKind.CAMERA_FOUND, EventState.CLOSED, 3, opened_event_id=lost.event_id)
    started = event(EventKind.BLOCK_STARTED, EventState.OCCURRED, 4)
    with open_store(url, outbox_limit=100) as store:
        run_id, _ = begin_run(store)
        store.add([], run_id=run_id, camera_id=None, events=[hot, lost])
        store.add([], run_id=run_id, camera_id=None, events=[found, started])
    with open_store(url, outbox_limit=100) as store:
        assert store.open_events() == [hot]
        assert store.recent_events(3) == [started, found, lost]


def test_the_end_of_a_condition_is_stored_even_if_its_beginning_is_not(store: Store, ids: Ids) -> None:
    closed = event(EventKind.CAMERA_FOUND, EventState.CLOSED, 3, opened_event_id="in a damaged database")
    store.add([], run_id=ids[0], camera_id=None, events=[closed])
    assert store.recent_events(1) == [closed]


def test_an_event_is_stored_once(store: Store, ids: Ids) -> None:
    once = event(EventKind.CAMERA_LOST, EventState.OPENED, 2)
    store.add([], run_id=ids[0], camera_id=None, events=[once])
    with pytest.raises(StoreRejectedError, match=r"(?i)unique.*event_id"):
        store.add([], run_id=ids[0], camera_id=None, events=[once], messages=[message("again")])
    assert topics(store) == []


def test_the_store_is_the_outbox_that_a_publisher_wants(store: Store) -> None:
    outbox: OutboxStore = store
    assert (outbox.outbox_depth(), outbox.outbox_dropped()) == (0, 0)


def test_messages_are_queued_in_their_order_until_acknowledged(store: Store, ids: Ids) -> None:
    store.add([], run_id=ids[0], camera_id=None, messages=[message(name) for name in "abcde"])
    first = store.queued_messages(after_id=0, limit=2)
    assert [(each.topic, each.payload) for each in first] == [("event/a", b"a"), ("event/b", b"b")]
    assert [each.payload for each in store.queued_messages(after_id=first[-1].message_id, limit=9)] == [
        b"c",
        b"d",
        b"e",
    ]
    store.acknowledge_messages([first[1].message_id, 99_999])
    store.acknowledge_messages([])
    assert topics(store) == ["a", "c", "d", "e"]
    assert store.outbox_depth() == 4


def test_numbers_of_messages_never_come_again(url: str, begin_run: Callable[[Store], Ids]) -> None:
    last = 0
    for _ in range(3):
        with open_store(url, outbox_limit=100) as store:
            run_id, _ = begin_run(store)
            store.add([], run_id=run_id, camera_id=None, messages=[message("a"), message("b")])
            waiting = store.queued_messages(after_id=last, limit=9)
            assert len(waiting) == 2
            last = waiting[-1].message_id
            store.acknowledge_messages([each.message_id for each in waiting])


def test_many_messages_can_be_acknowledged_at_once(url: str, begin_run: Callable[[Store], Ids]) -> None:
    with open_store(url, outbox_limit=100_000) as store:
        run_id, _ = begin_run(store)
        store.add([], run_id=run_id, camera_id=None, messages=[message("a")] * 2500)
        store.acknowledge_messages([each.message_id for each in store.queued_messages(after_id=0, limit=9999)])
        assert store.outbox_depth() == 0


def test_a_full_outbox_drops_the_oldest_of_the_lowest_priority_and_counts_them(
    url: str, begin_run: Callable[[Store], Ids]
) -> None:
    with open_store(url, outbox_limit=4) as store:
        run_id, _ = begin_run(store)

        def put(*messages: OutboxMessage) -> None:
            store.add([], run_id=run_id, camera_id=None, messages=messages)

        put(message("alarm1", Priority.ALARM), message("notice1"), message("routine1", Priority.ROUTINE))
        put(message("notice2"), message("routine2", Priority.ROUTINE))
        assert topics(store) == ["alarm1", "notice1", "notice2", "routine2"]
        put(message("alarm2", Priority.ALARM), message("notice3"))
        assert topics(store) == ["alarm1", "notice2", "alarm2", "notice3"]
        assert store.outbox_dropped() == 3
    with open_store(url, outbox_limit=4) as store:
        assert store.outbox_dropped() == 3
        assert store.counts().outbox_dropped == 3


def test_alarms_are_kept_beyond_the_limit(url: str, begin_run: Callable[[Store], Ids]) -> None:
    with open_store(url, outbox_limit=2) as store:
        run_id, _ = begin_run(store)
        alarms = [message(f"alarm{number}", Priority.ALARM) for number in range(5)]
        store.add([], run_id=run_id, camera_id=None, messages=[*alarms, message("notice")])
        assert topics(store) == [f"alarm{number}" for number in range(5)]
        assert store.outbox_dropped() == 1


def test_gaps_are_closed_by_whoever_sees_frames_again(store: Store, begin_run: Callable[[Store], Ids]) -> None:
    first_run, _ = begin_run(store)
    lost = store.open_gap(run_id=first_run, start_utc_ns=10, reason="camera_lost")
    down = store.open_gap(run_id=first_run, start_utc_ns=20, reason="service_down", end_utc_ns=30)
    assert [gap.gap_id for gap in store.gaps(open_only=True)] == [lost]
    second_run, _ = begin_run(store)
    assert store.close_gaps(run_id=second_run, end_utc_ns=40) == 1
    assert [(gap.gap_id, gap.end_utc_ns, gap.reason) for gap in store.gaps()] == [
        (lost, 40, "camera_lost"),
        (down, 30, "service_down"),
    ]
    again = store.open_gap(run_id=second_run, start_utc_ns=50, reason="camera_lost")
    store.close_gap(again, run_id=second_run, end_utc_ns=60)
    with pytest.raises(StoreRejectedError, match="there is no such open gap"):
        store.close_gap(again, run_id=second_run, end_utc_ns=70)


def test_the_last_sign_of_life_is_the_latest_of_all(
    store: Store, begin_run: Callable[[Store], Ids], observation: MakeObservation
) -> None:
    assert store.last_sign_of_life_utc_ns() is None
    run_id, camera_id = begin_run(store)
    started = store.last_sign_of_life_utc_ns()
    store.add([observation(30)], run_id=run_id, camera_id=camera_id)
    captured = store.last_sign_of_life_utc_ns()
    assert captured == observation(30).captured_utc_ns
    store.add([], run_id=run_id, camera_id=None, events=[event(EventKind.CAMERA_LOST, EventState.OPENED, captured + 1)])
    assert store.last_sign_of_life_utc_ns() == captured + 1
    store.end_run(run_id, ended_utc_ns=captured + 2, reason="stopped")
    assert store.last_sign_of_life_utc_ns() == captured + 2
    assert started == 1_795_000_000_000_000_000


@dataclass(frozen=True)
class File:
    """A recording that was closed, or not."""

    path: Path
    sha256: str | None
    frames: int = 10
    size_bytes: int = 1000


def test_a_recording_is_stored_once_however_it_ends(
    store: Store, ids: Ids, planned_block: Callable[..., PlannedBlock]
) -> None:
    block = planned_block()
    store.open_block(block, run_id=ids[0], at_utc_ns=block.start_utc_ns)
    growing, closed = Path("recordings/night-1.part.mkv"), Path("recordings/night-1.mkv")
    first = store.add_recording(block.key, File(growing, None))
    [stored] = store.recordings(block.key)
    assert (stored.path, stored.state, stored.sha256) == (growing, RecordingState.UNFINISHED, None)
    again = store.add_recording(block.key, File(closed, "a" * 64, frames=9), state=RecordingState.RECOVERED)
    assert again == first
    other = store.add_recording(block.key, File(closed.with_name("night-1_2.mkv"), "b" * 64))
    states = {stored.recording_id: (stored.state, stored.frames) for stored in store.recordings(block.key)}
    assert states == {first: (RecordingState.RECOVERED, 9), other: (RecordingState.COMPLETE, 10)}
    store.update_recording(closed, state="damaged")
    assert store.recordings(block.key)[0].state is RecordingState.DAMAGED
    with pytest.raises(StoreRejectedError, match="add it first"):
        store.update_recording(Path("nowhere.mkv"), state="damaged")


def test_the_summary_of_a_recording_is_what_the_store_takes(
    store: Store, ids: Ids, planned_block: Callable[..., PlannedBlock]
) -> None:
    block = planned_block()
    store.open_block(block, run_id=ids[0], at_utc_ns=block.start_utc_ns)
    header = RecordingHeader(
        box="box1",
        block_key=block.key,
        start_utc_ns=block.start_utc_ns,
        period_ns=block.period_ns,
        accounted_from_utc_ns=block.start_utc_ns,
        end_utc_ns=block.end_utc_ns,
    )
    summary = RecordingSummary(
        path=Path("a.mkv"),
        header=header,
        frames=10,
        expected=10,
        captured=10,
        missing={},
        size_bytes=5,
        sha256="c" * 64,
        duration_s=9.0,
    )
    store.add_recording(block.key, summary)
    assert [stored.sha256 for stored in store.recordings(block.key)] == ["c" * 64]


def test_a_sound_database_has_nothing_to_report(store: Store, add: Add, observation: MakeObservation) -> None:
    add(*(observation(second) for second in range(20)))
    assert store.integrity() == []


def test_dangling_references_are_reported(
    store: Store, add: Add, observation: MakeObservation, database_path: Path
) -> None:
    add(observation())
    with closing(sqlite3.connect(database_path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM frame")
    [problem] = store.integrity()
    assert "part_observation" in problem
    assert "refers to a row of frame that is not there" in problem


def test_one_thread_writes_while_others_publish_and_look(
    url: str, observation: MakeObservation, begin_run: Callable[[Store], Ids]
) -> None:
    batches, each = 60, 5
    acknowledged: list[bytes] = []
    failures: list[BaseException] = []
    written = threading.Event()

    with open_store(url, outbox_limit=100_000) as store:
        run_id, camera_id = begin_run(store)

        def publish() -> None:
            """As the publisher does: a cursor forwards, acknowledgements behind it."""
            after_id = 0
            while True:
                last_round = written.is_set()
                waiting = store.queued_messages(after_id=after_id, limit=7)
                if waiting:
                    after_id = waiting[-1].message_id
                    acknowledged.extend(queued.payload for queued in waiting)
                    store.acknowledge_messages([queued.message_id for queued in waiting])
                elif last_round:
                    return

        def look() -> None:
            while not written.is_set():
                counts = store.counts()
                assert counts.part_observations == counts.frames
                # Rows may have come between the two looks, but none goes.
                assert len(store.latest_observations()) >= (counts.frames > 0)
                assert store.integrity() == []

        def guarded(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=guarded, args=(work,)) for work in (publish, look, look)]
        for thread in threads:
            thread.start()
        try:
            for number in range(batches):
                store.add(
                    [observation(number * each + k) for k in range(each)],
                    run_id=run_id,
                    camera_id=camera_id,
                    messages=[message(f"{number}.{k}") for k in range(each)],
                )
        finally:
            written.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert acknowledged == [f"{number}.{k}".encode() for number in range(batches) for k in range(each)]
        assert store.outbox_depth() == 0
        assert store.counts().frames == batches * each


def test_the_write_ahead_log_is_bounded(
    store: Store, ids: Ids, observation: MakeObservation, database_path: Path
) -> None:
    payload = b"x" * 100_000
    wal = database_path.with_name(f"{database_path.name}-wal")
    largest = 0
    for number in range(300):
        large = OutboxMessage(topic="t", payload=payload, created_utc_ns=number)
        store.add([observation(number)], run_id=ids[0], camera_id=ids[1], messages=[large])
        store.acknowledge_messages([queued.message_id for queued in store.queued_messages(after_id=0, limit=9)])
        largest = max(largest, wal.stat().st_size)
    assert largest < 16 * 1024**2


def test_two_programs_write_beside_each_other_and_numbers_are_in_the_order_of_the_commits(
    url: str, begin_run: Callable[[Store], Ids], observation: MakeObservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.store.engine.BUSY_TIMEOUT_S", 60.0)  # of a slow disk: SQLite lets nobody go first
    each, seen = 25, list[int]()
    failures: list[StoreError] = []
    done = threading.Event()

    def write(name: str) -> None:
        with attach_store(url, outbox_limit=1000) as program:
            try:
                for number in range(each):
                    occurred = event(EventKind.CAMERA_FOUND, EventState.OCCURRED, number)
                    program.add(
                        [observation(number)],
                        run_id=run_id,
                        camera_id=camera_id,
                        events=[occurred],
                        messages=[message(name)],
                    )
            except StoreError as error:
                failures.append(error)

    def read() -> None:
        """As the publisher does: nothing may come later with a lower number."""
        while not done.is_set():
            seen.extend(queued.message_id for queued in store.queued_messages(after_id=max(seen, default=0), limit=9))

    with open_store(url, outbox_limit=1000) as store:
        run_id, camera_id = begin_run(store)
        writers = [threading.Thread(target=write, args=(name,)) for name in ("service", "command")]
        reader = threading.Thread(target=read)
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        reader.join()
        assert failures == []
        assert [numbered.seq for numbered in store.events_after(0, limit=1000)] == list(range(1, 2 * each + 1))
        seen += [queued.message_id for queued in store.queued_messages(after_id=max(seen, default=0), limit=1000)]
        assert len(seen) == store.outbox_depth() == 2 * each


def test_what_is_not_a_number_is_not_known(add: Add, observation: MakeObservation, url: str) -> None:
    add(replace(observation(0), background_celsius=math.nan))
    assert rows_of(url, "SELECT background_celsius FROM frame") == [(None,)]


def test_a_topic_may_have_any_letters(store: Store, ids: Ids) -> None:
    store.add([], run_id=ids[0], camera_id=None, messages=[message("\\x\\ü")])
    assert topics(store) == ["\\x\\ü"]
    assert store.set_aside_unreadable_messages(at_utc_ns=1) == 1, "its payload is no JSON"
    assert topics(store) == []
