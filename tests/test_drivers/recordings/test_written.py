"""Recordings: exact to the bit, and honest about what is missing."""

import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from drivers.clock import NS_PER_S
from drivers.cluster import cluster_of
from drivers.decoder import FrameDecoder
from drivers.errors import RecordingError
from drivers.frame import RawFrame, ThermalFrame
from drivers.recording import (
    Recording,
    RecordingHeader,
    RecordingWriter,
)
from drivers.sidecar import MissingRange, PlanAccount, Sidecar
from drivers.t2s_protocol import TRANSFER_BYTES
from drivers.thermometry import Calibration
from tests.test_drivers.recordings.blocks import (
    START_UTC_NS,
    append_all,
    file_size_limit,
    flip,
    from_first_cluster,
    names_in,
    payloads,
    picture_ends,
    planned,
    record,
    transfers,
)

# What is written is read back


def test_a_transfer_comes_back_to_the_last_bit_with_all_that_is_known_of_it(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    record(tmp_path / "block.mkv", header, frames)
    with Recording(tmp_path / "block.mkv") as recording:
        assert len(recording) == len(frames)
        for index, (recorded, frame) in enumerate(zip(recording, frames, strict=True)):
            assert recorded.raw == RawFrame(
                sequence=frame.sequence,
                captured_utc_ns=frame.captured_utc_ns,
                captured_monotonic_ns=frame.captured_monotonic_ns,
                payload=frame.transfer.tobytes(),
            )
            assert (recorded.index, recorded.flags, recorded.planned_utc_ns) == (index, frame.flags, planned(index))
            assert recorded.calibration == frame.calibration
            assert recorded.pts_ms == 1000 * index + 40


def test_decoding_a_recorded_frame_with_its_calibration_gives_the_same_degrees(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    record(tmp_path / "block.mkv", header, frames[:2])
    with Recording(tmp_path / "block.mkv") as recording:
        again = FrameDecoder().decode(recording[1].raw, calibration=recording[1].calibration)
    np.testing.assert_array_equal(again.celsius, frames[1].celsius)


def test_random_access_gives_what_reading_in_order_gives(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    record(tmp_path / "block.mkv", header, frames)
    with Recording(tmp_path / "block.mkv") as recording:
        in_order = list(recording)
        places = random.Random(3).choices(range(-len(frames), len(frames)), k=40)
        for place in places:
            assert recording[place] == in_order[place]
        with pytest.raises(IndexError):
            recording[len(frames)]


def test_a_growing_recording_can_be_read(tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]) -> None:
    with RecordingWriter(tmp_path / "block.mkv", header) as writer:
        append_all(writer, frames)
        with Recording(tmp_path / "block.part.mkv") as recording:
            assert transfers(recording) == payloads(frames), "the newest, too"
            assert recording[3].calibration == frames[3].calibration
            assert recording[3].raw.sequence == frames[3].sequence


def test_flat_pictures_reach_the_disk_as_soon_as_noisy_ones(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    flat = [replace(frame, transfer=np.full_like(frame.transfer, 6000 + frame.sequence)) for frame in frames]
    with RecordingWriter(tmp_path / "block.mkv", header) as writer:
        append_all(writer, flat)
        with Recording(tmp_path / "block.part.mkv") as recording:
            assert transfers(recording) == payloads(flat)


@pytest.mark.parametrize("flat", [False, True])
def test_frames_brought_to_the_disk_ahead_of_ffmpeg_leave_the_file_that_ffmpeg_writes(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], flat: bool
) -> None:
    """Down to the last byte, of small clusters and large ones, and with several frames between two syncs."""
    taken = [replace(frame, transfer=np.zeros_like(frame.transfer)) for frame in frames] if flat else frames
    with RecordingWriter(tmp_path / "grown.mkv", header, sync_interval_s=0.0) as writer:
        grown = []
        for frame in taken:
            append_all(writer, [frame])
            grown.append(from_first_cluster(tmp_path / "grown.part.mkv"))
    whole = from_first_cluster(tmp_path / "grown.mkv")
    assert [whole.startswith(part) for part in grown] == [True] * len(taken), "also while FFmpeg holds the newest back"
    left = record(tmp_path / "left.mkv", header, taken, sync_interval_s=None)
    for interval_s in (0.0, 0.9, 2.5, 60.0):
        ahead = record(tmp_path / f"{interval_s}.mkv", header, taken, sync_interval_s=interval_s)
        assert from_first_cluster(ahead.path) == from_first_cluster(left.path), f"every {interval_s} s"


def test_what_was_put_ahead_is_overwritten_whatever_was_there(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should FFmpeg write a cluster otherwise one day, shorter or longer, the file is still the one it writes."""
    left = record(tmp_path / "left.mkv", header, frames, sync_interval_s=None)
    for more in (-700, 1, 40_000):

        def other(picture: bytes, pts_ms: int, more: int = more) -> bytes:
            return cluster_of(picture[:more] if more < 0 else picture + bytes(more), pts_ms)

        with monkeypatch.context() as patch:
            patch.setattr("drivers.matroska.cluster_of", other)
            with RecordingWriter(tmp_path / f"{more}.mkv", header) as writer:
                append_all(writer, frames)
                ends = picture_ends(tmp_path / f"{more}.part.mkv")
        assert len(ends) == len(frames)
        with Recording(tmp_path / f"{more}.mkv") as recording:
            recording.verify()
            assert transfers(recording) == payloads(frames)
        if more < 40_000:
            assert from_first_cluster(writer.path) == from_first_cluster(left.path)


def test_ffmpeg_on_the_command_line_reads_the_same_words(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("the ffmpeg command is not installed")
    record(tmp_path / "block.mkv", header, frames[:3] + frames[6:])
    command = [ffmpeg, "-v", "error", "-i", str(tmp_path / "block.mkv"), "-vsync", "passthrough"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "gray16le", "-"], check=True, capture_output=True)
    assert raw.stderr == b""
    words = [raw.stdout[place : place + TRANSFER_BYTES] for place in range(0, len(raw.stdout), TRANSFER_BYTES)]
    assert words == payloads(frames[:3] + frames[6:])


def test_noisy_frames_take_at_most_two_fifths_of_their_raw_size(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    summary = record(tmp_path / "block.mkv", header, frames)
    ratio = summary.size_bytes / (len(frames) * TRANSFER_BYTES)
    print(f"recorded size: {ratio:.1%} of raw")  # noqa: T201 - the figure of the benchmark, shown with -s
    assert ratio <= 0.4


def test_presentation_time_is_steady_when_the_wall_clock_steps_back(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    stepped = replace(frames[1], captured_utc_ns=frames[1].captured_utc_ns - 3600 * NS_PER_S)
    record(tmp_path / "block.mkv", header, [frames[0], stepped, frames[2]])
    with Recording(tmp_path / "block.mkv") as recording:
        assert [facts.pts_ms for facts in recording.frames] == [40, 1040, 2040]
        assert recording[1].raw.captured_utc_ns == stepped.captured_utc_ns


def test_frames_before_the_start_or_at_one_moment_still_get_rising_presentation_times(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    early = replace(frames[0], captured_utc_ns=START_UTC_NS - NS_PER_S)
    with RecordingWriter(tmp_path / "block.mkv", header) as writer:
        for _ in range(3):
            writer.append(early, planned_utc_ns=None)
    with Recording(tmp_path / "block.mkv") as recording:
        assert [facts.pts_ms for facts in recording.frames] == [0, 1, 2]


def test_a_segment_counts_its_times_from_the_start_of_the_block(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    second_half = replace(header, accounted_from_utc_ns=planned(6))
    summary = record(tmp_path / "block.mkv", second_half, frames[6:])
    assert (summary.expected, summary.captured, summary.missing) == (6, 6, {})
    with Recording(tmp_path / "block.mkv") as recording:
        assert recording[0].pts_ms == 6040
        assert recording[-1].raw.payload == frames[-1].transfer.tobytes()


def test_a_recording_without_frames_is_a_recording(tmp_path: Path, header: RecordingHeader) -> None:
    with RecordingWriter(tmp_path / "block.mkv", header) as writer:
        summary = writer.close(reason="camera_lost")
    assert (summary.frames, summary.captured, summary.missing) == (0, 0, {"camera_lost": 12})
    with Recording(tmp_path / "block.mkv") as recording:
        assert len(recording) == 0
        recording.verify()


def test_25_frames_a_second_are_all_accounted_for(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    period_ns = NS_PER_S // 25
    fast = replace(header, period_ns=period_ns, end_utc_ns=START_UTC_NS + NS_PER_S)
    with RecordingWriter(tmp_path / "block.mkv", fast) as writer:
        for number in range(20):
            moved = replace(
                frames[number % 12],
                captured_utc_ns=START_UTC_NS + number * period_ns,
                captured_monotonic_ns=number * period_ns,
            )
            writer.append(moved, planned_utc_ns=START_UTC_NS + number * period_ns)
        summary = writer.close(reason="late")
    assert (summary.expected, summary.captured, summary.missing) == (25, 20, {"late": 5})
    with Recording(tmp_path / "block.mkv") as recording:
        assert [facts.pts_ms for facts in recording.frames] == list(range(0, 800, 40))


# The plan is accounted for


def test_every_planned_instant_is_captured_or_missing_with_its_reason(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    with RecordingWriter(tmp_path / "block.mkv", header) as writer:
        append_all(writer, frames[:4])
        writer.append(frames[4], planned_utc_ns=None)
        for second in (4, 5, 7):
            writer.missing(planned(second), "camera_lost")
        writer.missing(planned(6), "shutter")
        writer.missing(planned(8), "late")
        writer.append(frames[8], planned_utc_ns=planned(8))
        summary = writer.close(accounted_until_utc_ns=planned(11))
    assert (summary.frames, summary.expected, summary.captured) == (6, 11, 5)
    assert summary.missing == {"camera_lost": 3, "shutter": 1, "service_stopped": 2}
    sidecar = Sidecar.read(tmp_path / "block.json")
    assert sidecar.accounted_until_utc_ns == planned(11)
    assert sidecar.missing == (
        MissingRange(reason="camera_lost", first_utc_ns=planned(4), last_utc_ns=planned(5), count=2),
        MissingRange(reason="shutter", first_utc_ns=planned(6), last_utc_ns=planned(6), count=1),
        MissingRange(reason="camera_lost", first_utc_ns=planned(7), last_utc_ns=planned(7), count=1),
        MissingRange(reason="service_stopped", first_utc_ns=planned(9), last_utc_ns=planned(10), count=2),
    )


@pytest.mark.parametrize(
    "wrong_utc_ns",
    [
        pytest.param(planned(3) + 1, id="between two instants"),
        pytest.param(planned(1), id="of an earlier segment"),
        pytest.param(planned(12), id="at the end"),
        pytest.param(planned(-1), id="before the start"),
    ],
)
def test_an_instant_that_was_not_planned_is_refused(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], wrong_utc_ns: int
) -> None:
    segment = replace(header, accounted_from_utc_ns=planned(2))
    with RecordingWriter(tmp_path / "block.mkv", segment) as writer:
        with pytest.raises(ValueError, match="no planned instant"):
            writer.append(frames[0], planned_utc_ns=wrong_utc_ns)
        with pytest.raises(ValueError, match="no planned instant"):
            writer.missing(wrong_utc_ns, "camera_lost")
        assert writer.close().expected == 10


def test_the_first_reason_stays_and_settling_stops_at_the_given_moment(header: RecordingHeader) -> None:
    account = PlanAccount(header)
    account.miss(planned(0), "camera_lost")
    account.miss(planned(0), "shutter")
    account.settle(until_utc_ns=planned(2) + 1, reason="service_down")
    assert [(entry.reason, entry.count) for entry in account.missing_ranges()] == [
        ("camera_lost", 1),
        ("service_down", 2),
    ]
    account.settle(until_utc_ns=planned(-5), reason="never")
    assert account.expected == 3


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"period_ns": 0}, id="no period"),
        pytest.param({"end_utc_ns": START_UTC_NS - 1}, id="end before start"),
        pytest.param({"accounted_from_utc_ns": START_UTC_NS - 1}, id="accounts for what is before the start"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(header: RecordingHeader, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|must be"):
        replace(header, **change)


# Sidecar


def test_the_sidecar_holds_header_calibrations_and_facts_exactly(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    summary = record(tmp_path / "block.mkv", header, frames)
    sidecar = Sidecar.read(tmp_path / "block.json")
    assert sidecar.header == header
    assert sidecar.calibrations == (frames[0].calibration, frames[6].calibration)
    assert (sidecar.size_bytes, sidecar.sha256) == ((tmp_path / "block.mkv").stat().st_size, summary.sha256)
    assert names_in(tmp_path) == ["block.json", "block.mkv"]
    assert summary.duration_s == 11.0
    assert json.loads((tmp_path / "block.json").read_text())["version"] == 1


def test_verify_finds_a_changed_file(tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]) -> None:
    path = tmp_path / "block.mkv"
    record(path, header, frames)
    with Recording(path) as recording:
        recording.verify()
    flip(path, path.stat().st_size // 2)
    with Recording(path) as recording, pytest.raises(RecordingError, match="SHA-256"):
        recording.verify()


def test_verify_needs_a_sidecar(tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]) -> None:
    record(tmp_path / "block.mkv", header, frames[:2])
    (tmp_path / "block.json").unlink()
    with Recording(tmp_path / "block.mkv") as recording, pytest.raises(RecordingError, match="no sidecar"):
        recording.verify()


@pytest.mark.parametrize("sidecar_text", [pytest.param(None, id="absent"), pytest.param("{", id="damaged")])
def test_a_file_alone_still_says_what_and_when(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], sidecar_text: str | None
) -> None:
    record(tmp_path / "block.mkv", header, frames[:3])
    (tmp_path / "block.json").unlink()
    if sidecar_text is not None:
        (tmp_path / "block.json").write_text(sidecar_text)
    with Recording(tmp_path / "block.mkv") as recording:
        assert recording.sidecar is None
        assert recording.header == header
        assert transfers(recording) == payloads(frames[:3])
        assert recording[2].calibration is None
        assert recording[2].raw.captured_utc_ns == planned(2) + 40_000_000, "UTC to the millisecond"


def test_a_sidecar_of_a_later_format_is_refused(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    record(tmp_path / "block.mkv", header, frames[:1])
    text = (tmp_path / "block.json").read_text().replace('"version":1', '"version":2', 1)
    (tmp_path / "block.json").write_text(text)
    with pytest.raises(RecordingError, match="version 2"):
        Sidecar.read(tmp_path / "block.json")


def test_numbers_that_json_does_not_know_are_refused(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    odd: Calibration = replace(frames[0].calibration, shutter_celsius=float("nan"))
    with RecordingWriter(tmp_path / "block.mkv", header) as writer:
        with pytest.raises(RecordingError, match="finite"):
            writer.append(replace(frames[0], calibration=odd), planned_utc_ns=None)
        assert writer.close().frames == 0


# Files that are there already, or are no recordings


@pytest.mark.parametrize("suffix", [".mkv", ".json", ".part.mkv", ".part.jsonl"])
def test_nothing_is_ever_overwritten(tmp_path: Path, header: RecordingHeader, suffix: str) -> None:
    (tmp_path / f"block{suffix}").write_text("precious")
    with pytest.raises(RecordingError, match="already there"):
        RecordingWriter(tmp_path / "block.mkv", header)
    assert names_in(tmp_path) == [f"block{suffix}"]


def test_a_recording_that_cannot_begin_leaves_nothing(tmp_path: Path, header: RecordingHeader) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(RecordingError, match="cannot begin"):
        RecordingWriter(tmp_path / "file" / "block.mkv", header)
    with file_size_limit(300), pytest.raises(RecordingError, match="cannot begin"):
        RecordingWriter(tmp_path / "full" / "block.mkv", header)
    assert names_in(tmp_path / "full") == []


@pytest.mark.parametrize("name", ["block.avi", "block.part.mkv"])
def test_a_recording_has_a_name_of_its_kind(tmp_path: Path, header: RecordingHeader, name: str) -> None:
    with pytest.raises(RecordingError, match=r"NAME\.mkv"):
        RecordingWriter(tmp_path / name, header)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mkv").write_text("no picture at all")
    with pytest.raises(RecordingError, match="cannot open"):
        Recording(tmp_path / "text.mkv")
    with pytest.raises(RecordingError, match="No such file"):
        Recording(tmp_path / "nowhere.mkv")
    with av.open(str(tmp_path / "other.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64), np.uint8), format="gray")))
        container.mux(stream.encode(None))
    with pytest.raises(RecordingError, match="256 x 196"):
        Recording(tmp_path / "other.mkv")
