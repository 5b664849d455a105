"""Recordings whose writer was killed: closed at the next start, with all planned instants."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from drivers.frame import ThermalFrame
from drivers.recording import (
    Recording,
    RecordingHeader,
    RecordingWriter,
    close_leftovers,
)
from tests.test_drivers.recordings.blocks import append_all, crash, names_in, payloads, picture_ends, planned, transfers

WRITER_THAT_NEVER_ENDS = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from drivers.decoder import FrameDecoder
from drivers.frame import RawFrame
from drivers.recording import RecordingHeader, RecordingWriter
path, golden = map(Path, sys.argv[1:])
transfer = np.load(golden / "g2_eps095_d1.npz")["frame"]
first = FrameDecoder().decode(
    RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=transfer.tobytes())
)
noise = np.random.default_rng(1)
period_ns = 40_000_000
header = RecordingHeader(
    box="b", block_key=None, start_utc_ns=0, period_ns=period_ns, accounted_from_utc_ns=0, end_utc_ns=200 * period_ns
)
writer = RecordingWriter(path, header)
for number in range(200):
    numbered = transfer + noise.integers(0, 4, transfer.shape, dtype=np.uint16)
    numbered[195, 255] = number
    moment = number * period_ns
    frame = replace(first, sequence=number, captured_utc_ns=moment, captured_monotonic_ns=moment, transfer=numbered)
    writer.append(frame, planned_utc_ns=moment)
    print(number, flush=True)
"""


@pytest.mark.parametrize("killed_after", [0, 1, 7, 60])
def test_a_killed_writer_loses_at_most_two_frames_and_accounts_for_all(
    tmp_path: Path, golden: Path, killed_after: int
) -> None:
    command = [sys.executable, "-c", WRITER_THAT_NEVER_ENDS, str(tmp_path / "block.mkv"), str(golden)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == killed_after:
                process.send_signal(signal.SIGKILL)
                break
        unread = process.stdout.read().split()
    written = int(unread[-1]) + 1 if unread else killed_after + 1
    (summary,) = close_leftovers(tmp_path, accounted_until_utc_ns=10**12)
    assert written - 2 <= summary.frames <= written + 1
    assert summary.expected == 200
    assert summary.captured == summary.frames
    assert summary.captured + sum(summary.missing.values()) == 200
    assert summary.missing.get("lost_in_crash", 0) <= 2
    with Recording(tmp_path / "block.mkv") as recording:
        recording.verify()
        for frame in recording:
            assert np.frombuffer(frame.raw.payload, "<u2")[-1] == frame.raw.sequence == frame.index


@pytest.mark.parametrize(
    ("interval_s", "kept"), [pytest.param(0.9, 8, id="each second"), pytest.param(None, 7, id="left to the system")]
)
def test_a_leftover_is_closed_with_index_sidecar_and_all_planned_instants(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], interval_s: float | None, kept: int
) -> None:
    path = crash(tmp_path / "crashed", header, frames[:8], sync_interval_s=interval_s)
    (summary,) = close_leftovers(tmp_path / "crashed", accounted_until_utc_ns=planned(10))
    assert summary.path == path
    assert (summary.frames, summary.captured, summary.expected) == (kept, kept, 10)
    assert summary.missing == ({"lost_in_crash": 1} if kept < 8 else {}) | {"service_down": 2}
    assert names_in(tmp_path / "crashed") == ["block.json", "block.mkv"]
    with av.open(str(path)) as container:
        assert container.duration == kept * 1_000_000 + 40_000, "the end of the last frame, in microseconds"
    with Recording(path) as recording:
        recording.verify()
        assert recording.header == header
        assert transfers(recording) == payloads(frames[:kept])
        assert [frame.calibration for frame in recording] == [frame.calibration for frame in frames[:kept]]


def test_closing_leftovers_a_second_time_changes_nothing(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    crash(tmp_path / "crashed", header, frames[:3])
    close_leftovers(tmp_path, accounted_until_utc_ns=planned(12))
    before = {name: (tmp_path / "crashed" / name).read_bytes() for name in names_in(tmp_path / "crashed")}
    assert close_leftovers(tmp_path, accounted_until_utc_ns=planned(12)) == []
    assert {name: (tmp_path / "crashed" / name).read_bytes() for name in names_in(tmp_path / "crashed")} == before


def test_a_torn_line_of_the_journal_costs_its_frame_only(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    crash(tmp_path / "crashed", header, frames[:6])
    journal = tmp_path / "crashed" / "block.part.jsonl"
    lines = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join(lines[:-3]) + b"\n" + lines[-3][:50])  # the last line but one torn, the last gone
    (summary,) = close_leftovers(tmp_path, accounted_until_utc_ns=planned(6))
    assert (summary.frames, summary.captured) == (4, 4)
    assert summary.missing == {"service_down": 2}
    with Recording(summary.path) as recording:
        recording.verify()
        assert transfers(recording) == payloads(frames[:4])


def test_a_journal_ahead_of_its_file_tells_what_was_lost(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    crash(tmp_path / "crashed", header, frames[:6])
    part = tmp_path / "crashed" / "block.part.mkv"
    part.write_bytes(part.read_bytes()[: picture_ends(part)[2] - 5])
    (summary,) = close_leftovers(tmp_path, accounted_until_utc_ns=planned(7))
    assert (summary.captured, summary.missing) == (2, {"lost_in_crash": 4, "service_down": 1})


def test_a_picture_of_zeros_after_a_power_cut_does_not_count(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    crash(tmp_path / "crashed", header, frames[:6])
    part = tmp_path / "crashed" / "block.part.mkv"
    end = picture_ends(part)[-1]
    with part.open("r+b") as file:
        file.seek(end - 4096)
        file.write(bytes(4096))
    (summary,) = close_leftovers(tmp_path, accounted_until_utc_ns=planned(6))
    assert (summary.captured, summary.missing) == (5, {"lost_in_crash": 1})


def test_a_leftover_without_a_frame_is_set_aside_and_accounted_for(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], caplog: pytest.LogCaptureFixture
) -> None:
    crash(tmp_path / "crashed", header, frames[:2])
    part = tmp_path / "crashed" / "block.part.mkv"
    part.write_bytes(head := part.read_bytes()[:300])
    (summary,) = close_leftovers(tmp_path, accounted_until_utc_ns=planned(4))
    assert (summary.frames, summary.missing) == (0, {"lost_in_crash": 2, "service_down": 2})
    assert names_in(tmp_path / "crashed") == ["block.damaged", "block.json", "block.mkv"]
    assert (tmp_path / "crashed" / "block.damaged").read_bytes() == head
    assert "set aside as block.damaged" in caplog.text
    with Recording(summary.path) as recording:
        recording.verify()


def test_rubbish_is_set_aside_and_never_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.part.mkv").write_bytes(b"\0" * 5000)
    (tmp_path / "b.part.mkv").write_bytes(b"")
    (tmp_path / "b.part.jsonl").write_bytes(b'{"kind":"head')
    (tmp_path / "b.damaged").write_bytes(b"from an earlier time")
    assert close_leftovers(tmp_path, accounted_until_utc_ns=0) == []
    assert names_in(tmp_path) == ["a.damaged", "b.damaged", "b.damaged.2", "b.damaged.jsonl"]
    assert caplog.text.count("set aside") == 3
    assert close_leftovers(tmp_path / "nowhere", accounted_until_utc_ns=0) == []


def test_a_leftover_without_journal_keeps_its_pictures(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    crash(tmp_path / "crashed", header, frames[:5])
    (tmp_path / "crashed" / "block.part.jsonl").write_bytes(bytes(700))
    (summary,) = close_leftovers(tmp_path, accounted_until_utc_ns=planned(12))
    assert (summary.frames, summary.captured, summary.missing) == (5, 0, {"lost_in_crash": 12})
    assert names_in(tmp_path / "crashed") == ["block.damaged.jsonl", "block.json", "block.mkv"]
    with Recording(summary.path) as recording:
        recording.verify()
        assert transfers(recording) == payloads(frames[:5])


def test_a_recording_that_is_being_written_is_no_leftover(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    with RecordingWriter(tmp_path / "block.mkv", header) as writer:
        append_all(writer, frames[:3])
        assert close_leftovers(tmp_path, accounted_until_utc_ns=planned(12)) == []
        append_all(writer, frames[3:])
        assert writer.close().captured == 12


def test_a_name_that_is_taken_is_a_warning_not_a_loss(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], caplog: pytest.LogCaptureFixture
) -> None:
    path = crash(tmp_path / "crashed", header, frames[:3])
    path.write_bytes(b"put there by hand")
    assert close_leftovers(tmp_path, accounted_until_utc_ns=planned(12)) == []
    assert "is another recording" in caplog.text
    assert names_in(tmp_path / "crashed") == ["block.damaged", "block.damaged.jsonl", "block.mkv"]
    assert path.read_bytes() == b"put there by hand"


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_at_step(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[Callable[[], int]]:
    """End everything at the n-th call that changes the disk; gives the number of calls so far."""
    done = count()
    calls = [0]

    def ending(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            calls[0] = next(done) + 1
            if calls[0] >= step:
                raise Killed
            return call(*args, **kwargs)

        return wrapper

    with monkeypatch.context() as patch:
        for owner, name in ((os, "fsync"), (os, "write"), (Path, "replace"), (Path, "unlink")):
            patch.setattr(owner, name, ending(getattr(owner, name)))
        yield lambda: calls[0]


def kill_at_every_step(
    monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Path], Callable[[], object]], root: Path
) -> Iterator[Path]:
    """Do what `prepare` returns, ended at its 1st, 2nd, 3rd ... call; gives the directory each leaves."""
    for step in count(1):
        directory = root / f"step{step}" / "crashed"
        directory.parent.mkdir()
        act = prepare(directory)
        with killed_at_step(monkeypatch, step):
            try:
                act()
            except Killed:
                killed = True
            else:
                killed = False
        yield directory
        if not killed:
            assert step > 5, "the steps were not seen"
            return


def test_a_kill_between_any_two_steps_of_closing_is_finished_at_the_next_start(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(directory: Path) -> Callable[[], object]:
        writer = RecordingWriter(directory / "block.mkv", header, sync_interval_s=None)
        append_all(writer, frames[:3])
        return lambda: writer.close(accounted_until_utc_ns=planned(5), reason="stopped")

    for directory in kill_at_every_step(monkeypatch, prepare, tmp_path):
        close_leftovers(directory, accounted_until_utc_ns=planned(5))
        assert names_in(directory) == ["block.json", "block.mkv"], directory
        with Recording(directory / "block.mkv") as recording:
            recording.verify()
            assert transfers(recording) == payloads(frames[:3])
            assert recording.sidecar is not None
            assert recording.sidecar.captured == 3
            assert sum(recording.sidecar.missing_by_reason.values()) == 2


def test_a_kill_between_any_two_steps_of_closing_leftovers_is_finished_at_the_next_start(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(directory: Path) -> Callable[[], object]:
        crash(directory, header, frames[:4])
        return lambda: close_leftovers(directory, accounted_until_utc_ns=planned(6))

    for directory in kill_at_every_step(monkeypatch, prepare, tmp_path):
        close_leftovers(directory, accounted_until_utc_ns=planned(6))
        assert names_in(directory) == ["block.json", "block.mkv"], directory
        with Recording(directory / "block.mkv") as recording:
            recording.verify()
            assert transfers(recording) == payloads(frames[:4])
            assert recording.sidecar is not None
            assert recording.sidecar.missing_by_reason == {"service_down": 2}
