"""Recordings with corrected masks."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daemon.vision.parts import BodyPart
from drivers.clock import NS_PER_S
from drivers.decoder import FrameDecoder
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.recording import RecordingHeader, RecordingWriter
from training.recording_source import RecordingSource
from training.samples import DataError, Moment

START_UTC_NS = 1_700_000_000 * NS_PER_S


@pytest.fixture
def frames(golden: Path) -> list[ThermalFrame]:
    """Five frames, one a second; the fourth shows the shutter."""
    with np.load(golden / "g2_eps095_d1.npz") as archive:
        transfer = archive["frame"]
    frame = FrameDecoder(still=True).decode(
        RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=transfer.tobytes())
    )
    return [
        replace(
            frame,
            sequence=second,
            captured_utc_ns=START_UTC_NS + second * NS_PER_S,
            captured_monotonic_ns=second * NS_PER_S,
            flags=FrameFlag.SHUTTER if second == 3 else FrameFlag.NONE,
        )
        for second in range(5)
    ]


@pytest.fixture
def recording(tmp_path: Path, frames: list[ThermalFrame]) -> Path:
    """A closed recording of them."""
    header = RecordingHeader(
        box="box1",
        block_key="2023-11-14/night/1",
        start_utc_ns=START_UTC_NS,
        period_ns=NS_PER_S,
        accounted_from_utc_ns=START_UTC_NS,
        end_utc_ns=START_UTC_NS + 5 * NS_PER_S,
        product="T2S+",
        serial="KA0000",
        firmware="1.00.201203",
        variant="v1",
        software_version="0.1.0",
        provenance={},
    )
    path = tmp_path / "night.mkv"
    with RecordingWriter(path, header) as writer:
        for frame in frames:
            writer.append(frame, planned_utc_ns=frame.captured_utc_ns)
    return path


def write_mask(recording: Path, index: int, *, instances: bool = False) -> None:
    mask = np.zeros((192, 256), np.uint8)
    mask[80:100, 100:150] = BodyPart.BODY
    mask[80:100, 80:100] = BodyPart.HEAD
    folder = recording.with_name("night-masks")
    folder.mkdir(exist_ok=True)
    Image.fromarray(mask).save(folder / f"{index:06d}.png")
    if instances:
        Image.fromarray((mask > 0).astype(np.uint8)).save(folder / f"{index:06d}-instances.png")


def test_frames_with_masks_are_read_with_their_degrees_and_times(recording: Path, frames: list[ThermalFrame]) -> None:
    write_mask(recording, 4)
    write_mask(recording, 1, instances=True)
    source = RecordingSource([recording])
    assert len(source) == 2
    assert [source.moment(index) for index in (0, 1)] == [
        Moment(session="night", position_s=1_700_000_001),
        Moment(session="night", position_s=1_700_000_004),
    ]
    first, last = source[0], source[1]
    assert (first.name, last.name) == ("night.mkv#1", "night.mkv#4")
    assert np.array_equal(first.celsius, frames[1].celsius, equal_nan=True)
    assert np.count_nonzero(first.parts == BodyPart.HEAD) == 400
    assert first.instances is not None
    assert np.count_nonzero(first.instances == 1) == 1400
    assert last.instances is None


def test_a_source_can_go_to_another_process(recording: Path) -> None:
    write_mask(recording, 2)
    source = RecordingSource([recording])
    there = pickle.loads(pickle.dumps(source))
    assert np.array_equal(there[0].celsius, source[0].celsius, equal_nan=True)


def test_a_mask_of_a_frame_that_is_no_measurement_is_refused(recording: Path) -> None:
    write_mask(recording, 3)
    with pytest.raises(DataError, match=r"night\.mkv#3: expected a measurement .* got one marked shutter; remove it"):
        RecordingSource([recording])[0]


def test_a_mask_beyond_the_last_frame_is_refused(recording: Path) -> None:
    write_mask(recording, 5)
    with pytest.raises(DataError, match=r"000005\.png: expected the number of a frame, but night\.mkv has only 5"):
        RecordingSource([recording])


def test_a_recording_without_masks_says_where_they_are_expected(recording: Path) -> None:
    with pytest.raises(DataError, match=r"expected masks such as night-masks/000123\.png for frame 123, got none"):
        RecordingSource([recording])


def test_a_mask_with_a_number_that_is_no_part_is_refused(recording: Path) -> None:
    write_mask(recording, 1)
    Image.fromarray(np.full((192, 256), 4, np.uint8)).save(recording.with_name("night-masks") / "000001.png")
    with pytest.raises(DataError, match=r"000001\.png: expected the labels 0, 1, 2, 3, got also 4"):
        RecordingSource([recording])[0]


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.mkv").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.mkv: cannot be read as a recording"):
        RecordingSource([tmp_path / "x.mkv"])


def test_one_folder_of_masks_cannot_serve_two_recordings(recording: Path) -> None:
    with pytest.raises(DataError, match="a folder of masks belongs to one recording, got 2"):
        RecordingSource([recording, recording], masks=recording.parent)
