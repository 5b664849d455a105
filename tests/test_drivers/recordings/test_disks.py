"""Recordings on disks that are full, fail or are slow."""

import os
from pathlib import Path

import pytest

from drivers.errors import RecordingError
from drivers.frame import ThermalFrame
from drivers.recording import (
    Recording,
    RecordingHeader,
    RecordingWriter,
    close_leftovers,
)
from drivers.t2s_protocol import TRANSFER_BYTES
from tests.test_drivers.recordings.blocks import (
    append_all,
    crash,
    file_size_limit,
    names_in,
    payloads,
    planned,
    transfers,
)


def test_a_full_disk_is_reported_once_and_costs_only_what_did_not_fit(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    writer = RecordingWriter(tmp_path / "block.mkv", header)
    with file_size_limit(5 * TRANSFER_BYTES // 4):
        with pytest.raises(RecordingError, match="File too large") as caught:
            append_all(writer, frames)
        assert isinstance(caught.value.__cause__, OSError)
        with pytest.raises(RecordingError, match="nothing more"):
            writer.append(frames[-1], planned_utc_ns=None)
    with file_size_limit(TRANSFER_BYTES // 4):  # and it fills up further
        summary = writer.close(accounted_until_utc_ns=planned(9), reason="disk_full")
        assert writer.close() == summary
    assert (summary.path, summary.sha256) == (tmp_path / "block.part.mkv", None)
    with Recording(summary.path) as recording:
        fitted = len(recording)
        assert fitted > 2
        assert transfers(recording) == payloads(frames[:fitted])
    (closed,) = close_leftovers(tmp_path, accounted_until_utc_ns=planned(12))
    assert (closed.captured, closed.expected) == (fitted, 9)
    assert closed.captured + sum(closed.missing.values()) == 9
    with Recording(closed.path) as recording:
        recording.verify()
        assert transfers(recording) == payloads(frames[:fitted])


def test_a_recording_whose_disk_was_full_is_closed_when_there_is_room_again(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    writer = RecordingWriter(tmp_path / "block.mkv", header)
    with file_size_limit(5 * TRANSFER_BYTES // 4), pytest.raises(RecordingError):
        append_all(writer, frames)
    summary = writer.close(reason="disk_full")
    assert summary.path == tmp_path / "block.mkv"
    assert summary.captured + sum(summary.missing.values()) == 12
    assert set(summary.missing) == {"disk_full"}, "what the disk refused was still in hand"
    assert names_in(tmp_path) == ["block.json", "block.mkv"]
    with Recording(summary.path) as recording:
        recording.verify()
        assert transfers(recording) == payloads(frames[: summary.frames])


def test_a_disk_that_fails_while_closing_is_reported_by_the_first_close(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RecordingWriter(tmp_path / "block.mkv", header)
    append_all(writer, frames[:3])

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(RecordingError, match="Input/output error"):
            writer.close()
    assert writer.close().sha256 is None
    (closed,) = close_leftovers(tmp_path, accounted_until_utc_ns=planned(12))
    assert (closed.captured, closed.missing) == (3, {"service_stopped": 9})


def test_leftovers_wait_when_the_disk_is_full(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], caplog: pytest.LogCaptureFixture
) -> None:
    crash(tmp_path / "crashed", header, frames[:6])
    with file_size_limit(TRANSFER_BYTES // 2):
        assert close_leftovers(tmp_path / "crashed", accounted_until_utc_ns=planned(12)) == []
    assert "left for the next start" in caplog.text
    assert names_in(tmp_path / "crashed") == ["block.part.jsonl", "block.part.mkv"]
    (summary,) = close_leftovers(tmp_path / "crashed", accounted_until_utc_ns=planned(12))
    assert summary.captured == 6


@pytest.mark.parametrize(
    ("interval_s", "syncs"), [pytest.param(0.9, 12, id="each second"), pytest.param(None, 0, id="left to the system")]
)
def test_frames_go_to_the_disk_in_steps_of_their_own_time(
    tmp_path: Path,
    header: RecordingHeader,
    frames: list[ThermalFrame],
    monkeypatch: pytest.MonkeyPatch,
    interval_s: float | None,
    syncs: int,
) -> None:
    with RecordingWriter(tmp_path / "block.mkv", header, sync_interval_s=interval_s) as writer:
        synced: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", synced.append)
            append_all(writer, frames)
    assert len(synced) == 2 * syncs, "file and journal"
    assert len(set(synced)) == (2 if syncs else 0)


def test_a_closed_recording_takes_nothing_more(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    writer = RecordingWriter(tmp_path / "block.mkv", header)
    writer.close()
    with pytest.raises(RecordingError, match="closed"):
        writer.append(frames[0], planned_utc_ns=None)
    with pytest.raises(RecordingError, match="closed"):
        writer.missing(planned(0), "late")
