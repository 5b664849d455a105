"""The recorder: one recording a block, and segments that account for each planned moment once."""

import dataclasses
import errno
import logging
import os
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.handoff import HandOff
from daemon.recorder import BLOCKS_REMEMBERED, NOT_RECORDED, RETRY_S, BlockRecorder, enter_unknown
from daemon.sampling import BlockEnded, BlockPassed, BlockStarted, Item, MissingSamples, Sample, may_be_lost, overrun
from daemon.schedule import PlannedBlock
from daemon.store.repository import RecordingState, Store, open_store
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.decoder import FrameDecoder
from drivers.errors import StoreError
from drivers.frame import RawFrame, ThermalFrame
from drivers.material import open_material
from drivers.nuc import HostCorrection, average_offset
from drivers.recording import Recording
from drivers.replay import decode_material
from drivers.sidecar import Sidecar
from drivers.t2s_protocol import IMAGE_HEIGHT
from drivers.virtual.reel import Reel

START_UTC_NS = 1_795_000_000 * NS_PER_S
BLOCK = PlannedBlock(
    day=date(2026, 11, 18),
    stratum="morning",
    number=1,
    start_utc_ns=START_UTC_NS,
    duration_ns=20 * NS_PER_S,
    period_ns=NS_PER_S,
)
FIRST, SECOND = "box1_2026-11-18_morning-1", "box1_2026-11-18_morning-1_2"


@pytest.fixture
def sample(golden: Path) -> Callable[[int], Sample]:
    """Makes a sample of the block, of so many seconds after its start."""
    payload = np.load(golden / "g2_eps095_d1.npz")["frame"].tobytes()
    frame = FrameDecoder().decode(RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=payload))

    def make(second: int) -> Sample:
        at_ns = second * NS_PER_S + NS_PER_S // 50
        own: ThermalFrame = dataclasses.replace(
            frame, sequence=second, captured_utc_ns=START_UTC_NS + at_ns, captured_monotonic_ns=at_ns
        )
        return Sample(frame=own, block_key=BLOCK.key, planned_utc_ns=START_UTC_NS + second * NS_PER_S)

    return make


class Bench:
    """A recorder on a simulated clock, with a real store and a real disk."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.clock = SimulatedClock(START_UTC_NS)
        self.store = store
        self.folder = directory / "2026-11-18"
        self._directory = directory
        self.run_id = store.start_run(
            version="1",
            config_hash="h",
            config_json="{}",
            segmenter="classical",
            host="box",
            boot_id="b",
            started_utc_ns=START_UTC_NS,
        )
        self.recorder = self.make()

    def make(self) -> BlockRecorder:
        """A recorder; the next one is the one after a restart."""
        return BlockRecorder(
            self._directory,
            box="box1",
            store=self.store,
            clock=self.clock,
            software_version="1",
            provenance={"host": "box"},
        )

    def open_block(self, at_s: int = 0) -> None:
        """Open the block in the database, as the worker does, and in the recorder."""
        at_utc_ns = START_UTC_NS + at_s * NS_PER_S
        self.store.open_block(BLOCK, run_id=self.run_id, at_utc_ns=at_utc_ns)
        self.recorder.handle(BlockStarted(block=BLOCK, at_utc_ns=at_utc_ns))

    def handle(self, *items: Item) -> None:
        """One item a second."""
        for item in items:
            self.recorder.handle(item)
            self.clock.advance(1)

    def end_block(self) -> None:
        """The block is over."""
        self.recorder.handle(BlockEnded(block=BLOCK, at_utc_ns=BLOCK.end_utc_ns))

    def sidecars(self) -> dict[str, Sidecar]:
        """All of them, by the name of the recording."""
        return {path.stem: Sidecar.read(path) for path in sorted(self.folder.glob("*.json"))}

    def accounts(self) -> list[tuple[int, str]]:
        """Every planned second of the sidecars with what became of it, in order; twice if it is told twice."""
        told: list[tuple[int, str]] = []
        for sidecar in self.sidecars().values():
            captured = {facts.planned_utc_ns for facts in sidecar.frames if facts.planned_utc_ns is not None}
            told += ((second(moment), "captured") for moment in captured)
            for each in sidecar.missing:
                moments = range(each.first_utc_ns, each.last_utc_ns + 1, NS_PER_S)
                told += ((second(moment), each.reason) for moment in moments)
        return sorted(told)


def second(planned_utc_ns: int) -> int:
    return (planned_utc_ns - START_UTC_NS) // NS_PER_S


def missing(*seconds: int, reason: str = "shutter") -> MissingSamples:
    planned = tuple(START_UTC_NS + each * NS_PER_S for each in seconds)
    return MissingSamples(block_key=BLOCK.key, planned_utc_ns=planned, reason=reason)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_store(f"sqlite:///{tmp_path}/vivarium.db", outbox_limit=100) as store:
        yield Bench(store, tmp_path / "recordings")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Let the disk refuse what is written to it, or take it again."""
    write = os.write
    state = {"full": False}

    def refuse(descriptor: int, data: Any) -> int:
        if state["full"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr("drivers.sidecar.os.write", refuse)

    def switch(full: bool) -> None:
        state["full"] = full

    return switch


def test_a_block_is_one_recording_with_a_sidecar_and_a_row(bench: Bench, sample: Callable[[int], Sample]) -> None:
    bench.open_block()
    bench.handle(*(sample(each) for each in range(10)), missing(10, 11), *(sample(each) for each in range(12, 20)))
    bench.end_block()
    assert sorted(path.name for path in bench.folder.iterdir()) == [f"{FIRST}.json", f"{FIRST}.mkv"]
    sidecar = bench.sidecars()[FIRST]
    assert (sidecar.expected, sidecar.captured, sidecar.missing_by_reason) == (20, 18, {"shutter": 2})
    assert (sidecar.header.box, sidecar.header.block_key) == ("box1", BLOCK.key)
    assert sidecar.header.provenance == {"host": "box"}
    (row,) = bench.store.recordings(BLOCK.key)
    assert (row.path, row.frames, row.sha256) == (bench.folder / f"{FIRST}.mkv", 18, sidecar.sha256)
    assert row.state is RecordingState.COMPLETE
    with Recording(row.path) as recording:
        recording.verify()
        assert recording[17].raw.payload == sample(19).frame.transfer.tobytes()


def test_samples_outside_blocks_are_not_recorded(bench: Bench, sample: Callable[[int], Sample]) -> None:
    bench.handle(dataclasses.replace(sample(0), block_key=None, planned_utc_ns=None))
    bench.open_block()
    bench.handle(sample(0), dataclasses.replace(sample(0), block_key=None, planned_utc_ns=None))
    bench.end_block()
    bench.handle(dataclasses.replace(sample(1), block_key=None, planned_utc_ns=None))
    assert len(bench.sidecars()[FIRST].frames) == 1


def test_a_block_without_a_frame_leaves_a_recording_that_says_why(bench: Bench) -> None:
    bench.open_block(at_s=2)
    bench.handle(missing(0, 1, reason="service_down"), missing(*range(2, 9), reason="camera_lost"))
    bench.handle(missing(*range(9, 20), reason="no_frame"))
    bench.end_block()
    assert sorted(path.name for path in bench.folder.iterdir()) == [f"{FIRST}.json", f"{FIRST}.mkv"]
    sidecar = bench.sidecars()[FIRST]
    assert (sidecar.expected, sidecar.captured, sidecar.frames) == (20, 0, ())
    assert sidecar.missing_by_reason == {"service_down": 2, "camera_lost": 7, "no_frame": 11}
    assert (sidecar.header.product, sidecar.header.serial) == ("", "")
    (row,) = bench.store.recordings(BLOCK.key)
    assert (row.frames, row.state) == (0, RecordingState.COMPLETE)
    with Recording(row.path) as recording:
        recording.verify()


def test_a_stop_in_a_block_without_a_frame_leaves_the_block_to_the_next_start(bench: Bench) -> None:
    items: HandOff[Item] = HandOff(64, may_be_lost, overrun)
    bench.open_block()
    bench.handle(missing(*range(5), reason="camera_lost"))
    items.close()
    bench.recorder.run(items)
    assert not bench.folder.exists()


def test_a_block_that_passed_leaves_a_recording_with_the_reason(bench: Bench) -> None:
    bench.recorder.handle(BlockPassed(block=BLOCK, at_utc_ns=BLOCK.end_utc_ns, reason="clock_step"))
    assert bench.sidecars()[FIRST].missing_by_reason == {"clock_step": 20}
    assert bench.sidecars()[FIRST].header.block_key == BLOCK.key
    bench.store.miss_block(BLOCK, run_id=bench.run_id, at_utc_ns=BLOCK.end_utc_ns, reason="clock_step")
    bench.clock.advance(RETRY_S)
    bench.recorder.handle(dataclasses.replace(missing(0), block_key="another"))
    assert [row.frames for row in bench.store.recordings(BLOCK.key)] == [0]


def test_a_block_that_ended_while_the_service_was_away_is_accounted_for_to_its_end(
    bench: Bench, sample: Callable[[int], Sample]
) -> None:
    bench.open_block()
    bench.handle(*(sample(each) for each in range(5)))
    bench.recorder.close()
    bench.recorder = bench.make()
    (stored,) = bench.store.open_blocks()
    bench.recorder.pass_block(stored, "service_down")
    bench.recorder.pass_block(stored, "service_down")
    assert bench.accounts() == [
        *((each, "captured") for each in range(5)),
        *((each, "service_down") for each in range(5, 20)),
    ]


def test_a_block_that_passed_with_a_segment_still_to_be_closed_is_left_to_that(bench: Bench) -> None:
    bench.folder.mkdir(parents=True)
    (bench.folder / f"{FIRST}.part.jsonl").write_text("half a line")
    bench.recorder.pass_block(BLOCK, "service_down")
    assert bench.sidecars() == {}


def test_what_was_missing_before_the_first_frame_is_in_the_sidecar(
    bench: Bench, sample: Callable[[int], Sample]
) -> None:
    bench.open_block()
    bench.handle(missing(0, 1, 2, reason="camera_lost"), *(sample(each) for each in range(3, 20)))
    bench.end_block()
    assert bench.sidecars()[FIRST].missing_by_reason == {"camera_lost": 3}


def test_a_stop_within_a_block_and_a_restart_account_for_each_second_once(
    bench: Bench, sample: Callable[[int], Sample]
) -> None:
    bench.open_block()
    bench.handle(*(sample(each) for each in range(5)))
    bench.recorder.close()
    bench.recorder = bench.make()
    bench.open_block(at_s=8)
    bench.handle(missing(*range(8), reason="service_down"), *(sample(each) for each in range(8, 20)))
    bench.end_block()
    assert list(bench.sidecars()) == [FIRST, SECOND]
    assert bench.accounts() == [
        *((each, "captured") for each in range(5)),
        *((each, "service_down") for each in (5, 6, 7)),
        *((each, "captured") for each in range(8, 20)),
    ]
    assert [row.frames for row in bench.store.recordings(BLOCK.key)] == [5, 12]


def test_a_restart_within_one_second_does_not_count_that_second_twice(
    bench: Bench, sample: Callable[[int], Sample]
) -> None:
    bench.open_block()
    bench.handle(*(sample(each) for each in range(5)))
    bench.recorder.close()
    bench.recorder = bench.make()
    bench.open_block(at_s=4)
    bench.handle(*(sample(each) for each in range(4, 20)))
    bench.end_block()
    assert bench.accounts() == [(each, "captured") for each in range(20)]
    assert len(bench.sidecars()[SECOND].frames) == 16  # the frame that stands for no moment is kept


def test_a_late_first_start_says_that_the_service_was_down(bench: Bench, sample: Callable[[int], Sample]) -> None:
    bench.open_block(at_s=12)
    bench.handle(missing(*range(12), reason="service_down"), *(sample(each) for each in range(12, 20)))
    bench.end_block()
    assert bench.sidecars()[FIRST].missing_by_reason == {"service_down": 12}
    assert len(bench.accounts()) == 20


def test_a_full_disk_ends_a_segment_and_the_next_one_begins_when_there_is_room(
    bench: Bench,
    sample: Callable[[int], Sample],
    full_disk: Callable[[bool], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench.open_block()
    with caplog.at_level(logging.WARNING, logger="daemon.recorder"):
        bench.handle(*(sample(each) for each in range(4)))
        full_disk(True)
        bench.handle(*(sample(each) for each in range(4, 8)))
        assert bench.recorder.failed is not None
        full_disk(False)
        bench.handle(*(sample(each) for each in range(8, 20)))
        assert bench.recorder.failed is None
    bench.end_block()
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "recording stopped, measuring goes on" in errors[0]
    accounts = bench.accounts()
    assert [each for each, _ in accounts] == list(range(20))
    assert {each for each, what in accounts if what == "captured"} == {*range(4), *range(4 + int(RETRY_S), 20)}
    assert {what for each, what in accounts if each == 4} == {"write_failed"}
    assert {what for each, what in accounts if 4 < each < 4 + RETRY_S} == {NOT_RECORDED}
    assert {row.state for row in bench.store.recordings(BLOCK.key)} == {RecordingState.COMPLETE}
    assert [path.name for path in bench.folder.glob("*.part.*")] == []


def test_a_disk_that_stays_full_is_tried_now_and_then_and_told_of_once(
    bench: Bench,
    sample: Callable[[int], Sample],
    full_disk: Callable[[bool], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    full_disk(True)
    bench.open_block()
    with caplog.at_level(logging.DEBUG, logger="daemon.recorder"):
        bench.handle(*(sample(each) for each in range(20)))
    bench.end_block()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]  # stopped; told of at the end
    assert bench.recorder.failed is not None
    assert list(bench.folder.iterdir()) == []


def test_a_disk_that_is_full_to_the_end_of_a_block_is_told_of_when_it_takes_that_again(
    bench: Bench, sample: Callable[[int], Sample], full_disk: Callable[[bool], None]
) -> None:
    bench.open_block()
    bench.handle(*(sample(each) for each in range(12)))
    full_disk(True)
    bench.handle(*(sample(each) for each in range(12, 15)), missing(15, 16), *(sample(each) for each in range(17, 20)))
    bench.end_block()
    bench.clock.advance(RETRY_S)
    bench.recorder.handle(missing(0))  # nothing of a block that is over; still no room
    assert bench.recorder.failed is not None
    full_disk(False)
    bench.clock.advance(RETRY_S)
    bench.recorder.handle(missing(0))
    assert bench.recorder.failed is None
    assert bench.accounts() == [
        *((each, "captured") for each in range(12)),
        (12, "write_failed"),
        *((each, NOT_RECORDED) for each in (13, 14)),
        *((each, "shutter") for each in (15, 16)),
        *((each, NOT_RECORDED) for each in (17, 18, 19)),
    ]
    assert [row.state for row in bench.store.recordings(BLOCK.key)] == [RecordingState.COMPLETE] * 2
    assert [path.name for path in bench.folder.glob("*.part.*")] == []


def test_a_disk_that_takes_part_of_the_reasons_keeps_none_of_them_and_gets_all_later(
    bench: Bench, sample: Callable[[int], Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = os.write, 0

    def refuse_the_fourth(descriptor: int, data: Any) -> int:
        nonlocal written
        written += 1
        if written == 4:  # after the header and the reasons of two moments
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    bench.open_block()
    bench.handle(missing(*range(4), reason="camera_lost"))
    monkeypatch.setattr("drivers.sidecar.os.write", refuse_the_fourth)
    bench.handle(sample(4))
    assert list(bench.folder.iterdir()) == []
    bench.handle(*(sample(each) for each in range(5, 20)))
    bench.end_block()
    assert bench.sidecars()[FIRST].missing_by_reason == {"camera_lost": 4, NOT_RECORDED: int(RETRY_S)}
    assert len(bench.accounts()) == 20


def test_only_so_many_blocks_wait_for_the_disk_and_what_is_lost_is_named(
    bench: Bench, full_disk: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    items: HandOff[Item] = HandOff(64, may_be_lost, overrun)
    full_disk(True)
    blocks = [dataclasses.replace(BLOCK, number=each) for each in range(1, BLOCKS_REMEMBERED + 3)]
    with caplog.at_level(logging.ERROR, logger="daemon.recorder"):
        for block in blocks:
            bench.recorder.handle(BlockPassed(block=block, at_utc_ns=block.end_utc_ns, reason="clock_step"))
        assert [record.args for record in caplog.records] == [(block.key, 20) for block in blocks[:2]]
        items.close()
        bench.recorder.run(items)
    assert [record.args for record in caplog.records] == [(block.key, 20) for block in blocks]


def test_a_recording_that_was_closed_but_not_entered_is_entered_at_the_next_start(
    bench: Bench, sample: Callable[[int], Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.open_block()
    bench.handle(*(sample(each) for each in range(5)))
    bench.recorder.close()
    with monkeypatch.context() as killed:
        killed.setattr(bench.store, "add_recording", lambda *_args: None)
        bench.handle(*(sample(each) for each in range(5, 20)))
        bench.end_block()
    (summary,) = enter_unknown(bench.folder.parent, bench.store, since_day=BLOCK.day)
    assert (summary.path, summary.frames) == (bench.folder / f"{SECOND}.mkv", 15)
    rows = bench.store.recordings(BLOCK.key)
    assert [(row.frames, row.state) for row in rows] == [(5, RecordingState.COMPLETE), (15, RecordingState.COMPLETE)]
    assert enter_unknown(bench.folder.parent, bench.store, since_day=BLOCK.day) == []


def test_recordings_of_earlier_days_or_without_their_file_are_not_entered(
    bench: Bench, sample: Callable[[int], Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.open_block()
    bench.handle(*(sample(each) for each in range(20)))
    with monkeypatch.context() as killed:
        killed.setattr(bench.store, "add_recording", lambda *_args: None)
        bench.end_block()
    assert enter_unknown(bench.folder.parent, bench.store, since_day=BLOCK.day + timedelta(days=1)) == []
    (bench.folder / f"{FIRST}.mkv").unlink()
    assert enter_unknown(bench.folder.parent, bench.store, since_day=BLOCK.day) == []
    assert enter_unknown(bench.folder / "nowhere", bench.store, since_day=BLOCK.day) == []


def test_what_the_database_has_no_place_for_does_not_stop_the_others(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    other = dataclasses.replace(BLOCK, number=2)
    bench.recorder.pass_block(BLOCK, "clock_step")  # of a database that was set aside
    bench.recorder.pass_block(other, "clock_step")
    (bench.folder / f"{FIRST}_9.mkv").touch()
    (bench.folder / f"{FIRST}_9.json").write_text("{}")
    bench.store.miss_block(other, run_id=bench.run_id, at_utc_ns=other.end_utc_ns, reason="clock_step")
    entered = enter_unknown(bench.folder.parent, bench.store, since_day=BLOCK.day)
    assert [summary.header.block_key for summary in entered] == [other.key]
    refused = [record.message for record in caplog.records if "is not entered" in record.message]
    assert [f"{FIRST}.mkv" in refused[0], f"{FIRST}_9.mkv" in refused[1], len(refused)] == [True, True, 2]


def test_a_database_that_cannot_be_asked_leaves_recordings_for_the_next_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_args: object) -> None:
        raise StoreError("disk full")

    bench.recorder.pass_block(BLOCK, "clock_step")
    monkeypatch.setattr(bench.store, "open_blocks", refuse)
    assert enter_unknown(bench.folder.parent, bench.store, since_day=BLOCK.day) == []
    assert "wait for the next start: disk full" in caplog.text


def test_a_recording_waits_for_a_database_that_cannot_be_written(
    bench: Bench, sample: Callable[[int], Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> int:
        raise StoreError("disk full")

    items: HandOff[Item] = HandOff(64, may_be_lost, overrun)
    bench.open_block()
    bench.handle(*(sample(each) for each in range(20)))
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "add_recording", refuse)
        bench.end_block()
    assert bench.store.recordings(BLOCK.key) == []
    items.close()
    bench.recorder.run(items)
    assert [row.frames for row in bench.store.recordings(BLOCK.key)] == [20]


def test_a_recording_that_never_gets_into_the_database_is_named_at_the_end(
    bench: Bench, sample: Callable[[int], Sample], caplog: pytest.LogCaptureFixture
) -> None:
    bench.recorder.handle(BlockStarted(block=BLOCK, at_utc_ns=START_UTC_NS))  # nobody has opened it in the database
    bench.handle(sample(0))
    items: HandOff[Item] = HandOff(64, may_be_lost, overrun)
    items.close()
    with caplog.at_level(logging.ERROR):
        bench.recorder.run(items)
    assert f"{FIRST}.mkv is complete but not in the database" in caplog.text


def test_frames_that_the_disk_was_too_slow_for_are_missing_as_overrun(
    bench: Bench, sample: Callable[[int], Sample]
) -> None:
    bench.store.open_block(BLOCK, run_id=bench.run_id, at_utc_ns=START_UTC_NS)
    items: HandOff[Item] = HandOff(4, may_be_lost, overrun)
    items.put(BlockStarted(block=BLOCK, at_utc_ns=START_UTC_NS))
    for each in range(20):
        items.put(sample(each))
    items.put(BlockEnded(block=BLOCK, at_utc_ns=BLOCK.end_utc_ns))
    items.close()
    bench.recorder.run(items)
    assert bench.accounts() == [
        *((each, "overrun") for each in range(16)),
        *((each, "captured") for each in range(16, 20)),
    ]


def test_a_name_that_any_leftover_uses_is_not_taken(bench: Bench, sample: Callable[[int], Sample]) -> None:
    bench.folder.mkdir(parents=True)
    (bench.folder / f"{FIRST}.part.jsonl").write_text("nothing of use")
    bench.open_block()
    bench.handle(*(sample(each) for each in range(20)))
    bench.end_block()
    assert list(bench.sidecars()) == [SECOND]
    assert len(bench.accounts()) == 20


def test_a_block_whose_plan_was_changed_is_accounted_for_from_its_start(
    bench: Bench, sample: Callable[[int], Sample]
) -> None:
    bench.open_block()
    bench.handle(*(sample(each) for each in range(5)))
    bench.recorder.close()
    changed = dataclasses.replace(BLOCK, start_utc_ns=START_UTC_NS + 2 * NS_PER_S)
    bench.store.open_block(changed, run_id=bench.run_id, at_utc_ns=START_UTC_NS + 2 * NS_PER_S)
    bench.recorder.handle(BlockStarted(block=changed, at_utc_ns=START_UTC_NS + 2 * NS_PER_S))
    bench.handle(*(sample(each) for each in range(2, 22)))
    bench.recorder.handle(BlockEnded(block=changed, at_utc_ns=changed.end_utc_ns))
    assert bench.sidecars()[SECOND].captured == 20


def test_a_segment_of_many_frames_is_closed_and_the_block_goes_on_in_the_next(
    bench: Bench, sample: Callable[[int], Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.recorder.SEGMENT_FRAMES", 8)
    bench.open_block()
    bench.handle(*(sample(at_s) for at_s in range(10)))
    bench.recorder.close()
    bench.recorder = bench.make()  # a restart within the block
    bench.open_block(at_s=10)
    bench.handle(*(sample(at_s) for at_s in range(10, 20)))
    bench.end_block()
    sidecars = [bench.sidecars()[name] for name in (FIRST, SECOND, f"{FIRST}_3", f"{FIRST}_4")]
    assert [len(sidecar.frames) for sidecar in sidecars] == [8, 2, 8, 2]
    assert bench.accounts() == [(at_s, "captured") for at_s in range(20)]
    assert len(bench.store.recordings(BLOCK.key)) == 4


@pytest.fixture
def v2_sample(reel: Reel) -> Callable[[int], Sample]:
    """Makes a sample of a v2 that has a shutter event every fourth second."""
    decoder = FrameDecoder()

    def make(second: int) -> Sample:
        if second % 4 == 0:
            blade = reel.raw_blade[second // 4, :IMAGE_HEIGHT]
            decoder.correction = HostCorrection(offset=average_offset([blade]), gain=reel.gain)
        at_ns, payload = second * NS_PER_S + NS_PER_S // 50, reel.raw[second].tobytes()
        raw = RawFrame(
            sequence=second, captured_utc_ns=START_UTC_NS + at_ns, captured_monotonic_ns=at_ns, payload=payload
        )
        return Sample(frame=decoder.decode(raw), block_key=BLOCK.key, planned_utc_ns=START_UTC_NS + second * NS_PER_S)

    return make


@pytest.mark.parametrize(
    ("limits", "segments"),
    [
        pytest.param({"SEGMENT_FRAMES": 6}, [6, 6, 6, 2], id="many frames"),
        pytest.param({"SEGMENT_CORRECTIONS": 2}, [5, 4, 4, 4, 3], id="many shutter events"),
    ],
)
def test_each_segment_of_a_v2_holds_the_correction_in_force_at_its_start(
    bench: Bench,
    v2_sample: Callable[[int], Sample],
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, int],
    segments: list[int],
) -> None:
    for name, limit in limits.items():
        monkeypatch.setattr(f"daemon.recorder.{name}", limit)
    samples = [v2_sample(at_s) for at_s in range(20)]
    bench.open_block()
    bench.handle(*samples)
    bench.end_block()
    paths = [row.path for row in bench.store.recordings(BLOCK.key)]
    assert [len(open_material(path)) for path in paths] == segments
    decoder = FrameDecoder()
    found = [decode_material(decoder, item) for path in paths for item in open_material(path)]
    for one, sample in zip(found, samples, strict=True):
        assert one.celsius.tobytes() == sample.frame.celsius.tobytes()
        assert one.flags == sample.frame.flags
