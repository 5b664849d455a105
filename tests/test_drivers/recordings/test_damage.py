"""Recordings that are damaged: what is left of them can be read, and nothing of it is wrong."""

import random
import shutil
from pathlib import Path

import av
import pytest

from drivers.errors import RecordingError
from drivers.frame import ThermalFrame
from drivers.matroska import slices_are_intact
from drivers.recording import (
    Recording,
    RecordingHeader,
)
from tests.test_drivers.recordings.blocks import flip, payloads, picture_ends, record, transfers


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
