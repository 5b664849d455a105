"""Recordings: exact to the bit, honest about what is missing, readable after any accident."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from drivers.clock import NS_PER_S
from drivers.cluster import cluster_of
from drivers.decoder import FrameDecoder
from drivers.errors import RecordingError
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.matroska import slices_are_intact
from drivers.recording import (
    SYNC_INTERVAL_S,
    Recording,
    RecordingHeader,
    RecordingSummary,
    RecordingWriter,
    close_leftovers,
)
from drivers.sidecar import MissingRange, PlanAccount, Sidecar
from drivers.t2s_protocol import (
    IMAGE_HEIGHT,
    TRANSFER_BYTES,
    build_transfer,
    parse_metadata,
    picture_statistics,
)
from drivers.thermometry import Calibration

START_UTC_NS = 1_700_000_000 * NS_PER_S
SIMPLE_BLOCK_HEADER_BYTES = 4
NOISE_COUNTS = 1.25  # 25 mK
FIXED_PATTERN_COUNTS = 1.5


@pytest.fixture(scope="module")
def frames(golden: Path) -> list[ThermalFrame]:
    """Twelve frames, one a second, of one scene with a sensor's noise; from the seventh on a new calibration."""
    transfer = np.load(golden / "g2_eps095_d1.npz")["frame"]
    metadata = parse_metadata(transfer)
    noise = np.random.default_rng(7)
    scene = transfer[:IMAGE_HEIGHT] + noise.normal(0, FIXED_PATTERN_COUNTS, transfer[:IMAGE_HEIGHT].shape)
    decoder = FrameDecoder()
    made = []
    for second in range(12):
        image = np.rint(scene + noise.normal(0, NOISE_COUNTS, scene.shape)).astype(np.uint16)
        noisy = build_transfer(image, replace(metadata, statistics=picture_statistics(image)))
        raw = RawFrame(
            sequence=100 + second,
            captured_utc_ns=START_UTC_NS + second * NS_PER_S + 40_000_123,
            captured_monotonic_ns=5_000_000_001 + second * NS_PER_S,
            payload=noisy.tobytes(),
        )
        frame = decoder.decode(raw)
        calibration = frame.calibration
        if second >= 6:
            calibration = replace(calibration, shutter_celsius=calibration.shutter_celsius + 0.1)
        made.append(replace(frame, calibration=calibration, flags=frame.flags | FrameFlag(second % 8)))
    return made


@pytest.fixture
def header() -> RecordingHeader:
    """Of a block of twelve seconds, one frame each."""
    return RecordingHeader(
        box="box1",
        block_key="2023-11-14/night/1",
        start_utc_ns=START_UTC_NS,
        period_ns=NS_PER_S,
        accounted_from_utc_ns=START_UTC_NS,
        end_utc_ns=planned(12),
        product="T2S+",
        serial="KA0000",
        firmware="1.00.201203",
        variant="v1",
        software_version="0.1.0",
        provenance={"host": "rato", "boot_id": "7c9e"},
    )


def planned(second: int) -> int:
    return START_UTC_NS + second * NS_PER_S


def append_all(writer: RecordingWriter, frames: Sequence[ThermalFrame]) -> None:
    for frame in frames:
        writer.append(frame, planned_utc_ns=planned(frame.sequence - 100))


def record(
    path: Path,
    header: RecordingHeader,
    frames: Sequence[ThermalFrame],
    *,
    sync_interval_s: float | None = SYNC_INTERVAL_S,
) -> RecordingSummary:
    with RecordingWriter(path, header, sync_interval_s=sync_interval_s) as writer:
        append_all(writer, frames)
        return writer.close()


def crash(
    directory: Path,
    header: RecordingHeader,
    frames: Sequence[ThermalFrame],
    *,
    sync_interval_s: float | None = SYNC_INTERVAL_S,
) -> Path:
    """What a killed writer leaves in a directory: the files as the kernel has them before they are closed."""
    directory.mkdir()
    alive = directory.with_name("alive") / "block.mkv"
    with RecordingWriter(alive, header, sync_interval_s=sync_interval_s) as writer:
        append_all(writer, frames)
        for suffix in (".part.mkv", ".part.jsonl"):
            shutil.copy(directory.with_name("alive") / f"block{suffix}", directory)
    return directory / "block.mkv"


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def transfers(recording: Recording) -> list[bytes]:
    return [frame.raw.payload for frame in recording]


def payloads(frames: Sequence[ThermalFrame]) -> list[bytes]:
    return [frame.transfer.tobytes() for frame in frames]


def picture_ends(path: Path) -> list[int]:
    """Where each picture ends in the file."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return [(packet.pos or 0) + SIMPLE_BLOCK_HEADER_BYTES + packet.size for packet in packets]


def from_first_cluster(path: Path) -> bytes:
    """All of a file but its head, in which FFmpeg gives it a random number."""
    content = path.read_bytes()
    return content[content.index(b"\x1f\x43\xb6\x75") :]


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


# Damage


def flip(path: Path, position: int, mask: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ mask]))


@pytest.mark.parametrize("with_sidecar", [pytest.param(True, id="sidecar"), pytest.param(False, id="alone")])
def test_a_file_cut_anywhere_opens_up_to_its_last_complete_cluster(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame], with_sidecar: bool
) -> None:
    whole = tmp_path / "block.mkv"
    record(whole, header, frames[:5])
    ends, data = picture_ends(whole), whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    if with_sidecar:
        shutil.copy(tmp_path / "block.json", tmp_path / "cut.json")
    exactly_at_ends = [end + shift for end in ends for shift in (-1, 0, 1)]
    for position in [*range(0, len(data), len(data) // 45), *exactly_at_ends]:
        cut.write_bytes(data[:position])
        complete = sum(end <= position for end in ends)
        try:
            recording = Recording(cut)
        except RecordingError:
            assert complete == 0, f"cut at {position}"
            continue
        with recording:
            assert transfers(recording) == payloads(frames[:complete]), f"cut at {position}"
            if complete:
                assert recording[complete // 2].raw.payload == frames[complete // 2].transfer.tobytes()


def test_any_flipped_bit_of_a_picture_is_reported_for_that_frame_only(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    path = tmp_path / "block.mkv"
    record(path, header, frames[:4])
    ends = picture_ends(path)
    chance = random.Random(5)
    first_byte = ends[1] + 30  # behind the head of the next cluster
    positions = [chance.randrange(first_byte, ends[2]) for _ in range(30)]
    for position in [*positions, ends[2] - 1, ends[2] - 8]:
        flip(path, position, mask := 1 << chance.randrange(8))
        with Recording(path) as recording:
            with pytest.raises(RecordingError, match="damaged"):
                recording[2]
            assert [recording[place].raw.payload for place in (0, 1, 3)] == payloads([*frames[:2], frames[3]])
        flip(path, position, mask)


def test_checksums_of_slices_are_those_of_ffmpeg(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    record(tmp_path / "block.mkv", header, frames[:1])
    with av.open(str(tmp_path / "block.mkv")) as container:
        picture = next(bytes(packet) for packet in container.demux(video=0))
    assert slices_are_intact(picture)
    assert not slices_are_intact(picture[:-1])
    assert not slices_are_intact(picture[1:])
    assert not slices_are_intact(b"")
    assert not slices_are_intact(b"short")


def test_a_damaged_head_of_a_cluster_makes_no_frame_wrong(
    tmp_path: Path, header: RecordingHeader, frames: list[ThermalFrame]
) -> None:
    path = tmp_path / "block.mkv"
    record(path, header, frames[:4])
    ends = picture_ends(path)
    for position in range(ends[1], ends[1] + 26):
        flip(path, position, 0x10)
        with Recording(path) as recording:
            for place in range(4):
                try:
                    assert recording[place].raw.payload == frames[place].transfer.tobytes(), f"flipped at {position}"
                except RecordingError:
                    assert place >= 2, f"flipped at {position}"
        flip(path, position, 0x10)


# Crashes


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


# Disks


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """No file may grow beyond this, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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
def test_frames_go_to_the_disk_once_a_second_of_their_own_time(
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
