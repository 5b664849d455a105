"""Recordings of a v2 hold what corrects its counts: the degrees of then, to the bit, after any accident."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from drivers.clock import NS_PER_S, SimulatedClock
from drivers.closing import close_leftovers, damaged_sidecars
from drivers.corrections import Corrections, packed, sum_of, unpacked
from drivers.decoder import FrameDecoder
from drivers.device_timeline import frame_at
from drivers.errors import FrameRejectedError, RecordingError
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.material import open_material
from drivers.nuc import HostCorrection, average_offset
from drivers.recording import Recording, RecordingHeader, RecordingWriter
from drivers.replay import ReplayCamera, decode_material
from drivers.sidecar import Sidecar
from drivers.t2s_protocol import IMAGE_HEIGHT, Variant, parse_metadata
from drivers.virtual.camera import VirtualT2S
from drivers.virtual.reel import Reel

if TYPE_CHECKING:
    from tests.test_drivers.conftest import Bench

START_UTC_NS = 1_795_000_000 * NS_PER_S
"""That of the bench, too."""
FRAMES = 12
HEADER = RecordingHeader(
    box="b",
    block_key=None,
    start_utc_ns=START_UTC_NS,
    period_ns=NS_PER_S,
    accounted_from_utc_ns=START_UTC_NS,
    end_utc_ns=START_UTC_NS + 600 * NS_PER_S,
    variant="v2",
)


def correction_of(reel: Reel, first: int, *, gain: bool = True) -> HostCorrection:
    """As after a shutter event that showed eight of the reel's sixteen pictures of the blade."""
    blades = [transfer[:IMAGE_HEIGHT] for transfer in reel.raw_blade[first : first + 8]]
    return HostCorrection(offset=average_offset(blades), gain=reel.gain.copy() if gain else None)


def raw_of(reel: Reel, number: int) -> RawFrame:
    """One of a v2, one a second."""
    return RawFrame(
        sequence=number,
        captured_utc_ns=START_UTC_NS + number * NS_PER_S,
        captured_monotonic_ns=number * NS_PER_S,
        payload=reel.raw[number % len(reel.raw)].tobytes(),
    )


@pytest.fixture(scope="module")
def frames(reel: Reel) -> list[ThermalFrame]:
    """Two before the first shutter event, four and four after two events, two without the gain map."""
    first, second, bare = correction_of(reel, 0), correction_of(reel, 8), correction_of(reel, 8, gain=False)
    decoder = FrameDecoder()
    made = []
    for number, correction in enumerate([None] * 2 + [first] * 4 + [second] * 4 + [bare] * 2):
        decoder.correction = correction
        made.append(decoder.decode(raw_of(reel, number)))
    return made


def record(path: Path, frames: Sequence[ThermalFrame]) -> Path:
    with RecordingWriter(path, HEADER, sync_interval_s=None) as writer:
        for frame in frames:
            writer.append(frame, planned_utc_ns=None)
    return path


def crash(folder: Path, frames: Sequence[ThermalFrame]) -> Path:
    """What a killed writer leaves in a folder."""
    folder.mkdir()
    with RecordingWriter(folder.with_name("alive") / "block.mkv", HEADER) as writer:
        for frame in frames:
            writer.append(frame, planned_utc_ns=None)
        for suffix in (".part.mkv", ".part.jsonl"):
            shutil.copy(folder.with_name("alive") / f"block{suffix}", folder)
    return folder / "block.part.mkv"


def played(path: Path) -> list[ThermalFrame]:
    decoder = FrameDecoder()
    return [decode_material(decoder, item) for item in open_material(path)]


def assert_same_degrees(found: Sequence[ThermalFrame], expected: Sequence[ThermalFrame]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.celsius.tobytes() == other.celsius.tobytes()
        assert (one.flags, one.calibration) == (other.flags, other.calibration)


def test_what_a_live_v2_has_measured_over_two_shutter_events_is_replayed_to_the_bit(
    bench: Bench, make_descriptors: Callable[..., bytes], reel: Reel, tmp_path: Path
) -> None:
    bench.gain_maps.save(parse_metadata(reel.raw[0]).serial, reel.gain)
    virtual = VirtualT2S(reel, variant=Variant.V2, clock=bench.clock)
    bench.sysfs.plug(
        vendor=0x04B4,
        product_id=0x0100,
        product="T2S+",
        serial="",
        blob=make_descriptors(vendor=0x04B4, product=0x0100, bulk=True),
    )
    bench.kernel.on_word = virtual.command
    bench.stream(lambda _number, arrival_ns: virtual.picture(frame_at(arrival_ns)).data)
    live = []
    with bench.camera() as camera:
        for number in range(25 * 14):
            if number == 25 * 8:
                camera.calibrate()
            try:
                live.append(camera.read(1))
            except FrameRejectedError:
                continue
    good = [frame for frame in live if frame.flags == FrameFlag.NONE]
    offsets = {id(frame.correction): frame.correction for frame in live}
    assert len(good) > 100
    assert len(offsets) >= 3, "none, that of the start, and that of the command"
    sampled = live[::5]
    path = record(tmp_path / "block.mkv", sampled)
    assert_same_degrees(played(path), sampled)
    with ReplayCamera(path, clock=SimulatedClock(START_UTC_NS), loop=False) as replay:
        assert_same_degrees([replay.read(2) for _ in sampled], sampled)


def test_frames_after_a_switch_of_the_range_are_believed_again_as_they_were(golden: Path, tmp_path: Path) -> None:
    normal, high = (np.load(golden / f"{name}.npz")["frame"] for name in ("g1_eps100_d1", "g6_high_range"))
    decoder, live = FrameDecoder(), []
    for number, transfer in enumerate([normal] * 3 + [high] * 6):
        moment_ns = number * NS_PER_S
        raw = RawFrame(
            sequence=number,
            captured_utc_ns=START_UTC_NS + moment_ns,
            captured_monotonic_ns=moment_ns,
            payload=transfer.tobytes(),
        )
        with suppress(FrameRejectedError):
            live.append(decoder.decode(raw))
    assert [frame.sequence for frame in live] == [0, 1, 2, 5, 6, 7, 8], "two wait for a third that agrees"
    assert_same_degrees(played(record(tmp_path / "block.mkv", live)), live)


def test_a_closed_recording_gives_the_degrees_flags_and_calibrations_of_then(
    frames: list[ThermalFrame], tmp_path: Path
) -> None:
    path = record(tmp_path / "block.mkv", frames)
    assert_same_degrees(played(path), frames)
    uncertain = [FrameFlag.UNCERTAIN in frame.flags for frame in frames]
    assert uncertain == [True] * 2 + [False] * 8 + [True] * 2
    with Recording(path) as recording:
        recording.verify()
        assert recording[3].correction is recording[4].correction
        assert recording[0].correction is None


def test_a_growing_recording_gives_them_too(frames: list[ThermalFrame], tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "block.mkv", HEADER) as writer:
        for frame in frames:
            writer.append(frame, planned_utc_ns=None)
        assert_same_degrees(played(tmp_path / "block.part.mkv"), frames)


def test_offset_and_gain_are_kept_once(frames: list[ThermalFrame], tmp_path: Path) -> None:
    sidecar = Sidecar.read(record(tmp_path / "block.mkv", [*frames, *frames[2:]]).with_suffix(".json"))
    assert sorted(sidecar.corrections.stored) == [0, 1, 2]
    assert len(sidecar.corrections.words) == 3, "two offsets and one gain"
    assert [facts.correction for facts in sidecar.frames] == [None] * 2 + 2 * ([0] * 4 + [1] * 4 + [2] * 2)


def test_a_replay_that_is_recorded_again_holds_them_again(frames: list[ThermalFrame], tmp_path: Path) -> None:
    again = played(record(tmp_path / "block.mkv", frames))
    assert_same_degrees(played(record(tmp_path / "again.mkv", again)), frames)


def test_a_v1_has_none(golden: Path, reel: Reel, tmp_path: Path) -> None:
    decoder = FrameDecoder()
    decoder.correction = correction_of(reel, 0)
    transfer = np.load(golden / "g2_eps095_d1.npz")["frame"]
    frame = decoder.decode(replace(raw_of(reel, 0), payload=transfer.tobytes()))
    assert frame.correction is None
    record(tmp_path / "block.mkv", [frame])
    assert Sidecar.read(tmp_path / "block.json").corrections == Corrections()


def test_the_writer_keeps_no_correction_but_the_newest(frames: list[ThermalFrame], tmp_path: Path) -> None:
    events, known = 24, frames[2].correction
    assert known is not None
    with RecordingWriter(tmp_path / "block.mkv", HEADER, sync_interval_s=None) as writer:

        def shutter_event(number: int) -> None:
            moved = HostCorrection(offset=known.offset + np.uint16(number), gain=known.gain)
            writer.append(replace(frames[2], correction=moved), planned_utc_ns=None)

        shutter_event(0)
        tracemalloc.start()
        try:
            before_bytes, _ = tracemalloc.get_traced_memory()
            for number in range(1, events):
                shutter_event(number)
            grown_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
        finally:
            tracemalloc.stop()
        assert writer.corrections == events
    of_one_bytes = known.offset.nbytes * 4  # with what it has made of its words
    print(f"{events} shutter events: {grown_bytes / 1000:.0f} kB more in memory")  # noqa: T201 - the figure
    assert grown_bytes < 2 * of_one_bytes


# Crashes


def test_what_a_crash_has_left_is_closed_with_them(frames: list[ThermalFrame], tmp_path: Path) -> None:
    crash(tmp_path / "crashed", frames)
    (summary,) = close_leftovers(tmp_path / "crashed", accounted_until_utc_ns=START_UTC_NS)
    assert_same_degrees(played(summary.path), frames)
    with Recording(summary.path) as recording:
        recording.verify()


WRITER_THAT_NEVER_ENDS = """
import sys
from pathlib import Path
from drivers.decoder import FrameDecoder
from drivers.recording import RecordingWriter
from drivers.virtual.reel import Reel
from tests.test_drivers.test_corrections import HEADER, correction_of, raw_of
path, reel = Path(sys.argv[1]), Reel.load(Path(sys.argv[2]))
decoder, writer = FrameDecoder(), RecordingWriter(path, HEADER)
for number in range(200):
    if number % 5 == 0:
        decoder.correction = correction_of(reel, number // 5 % 8)
    writer.append(decoder.decode(raw_of(reel, number)), planned_utc_ns=None)
    print(number, flush=True)
"""


@pytest.mark.parametrize("killed_after", [2, 6, 23])
def test_a_killed_writer_leaves_the_degrees_of_all_its_frames(reel: Reel, tmp_path: Path, killed_after: int) -> None:
    reel.save(tmp_path / "reel.npz")
    folder = tmp_path / "recordings"
    command = [sys.executable, "-c", WRITER_THAT_NEVER_ENDS, str(folder / "block.mkv"), str(tmp_path / "reel.npz")]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == killed_after:
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
    (summary,) = close_leftovers(folder, accounted_until_utc_ns=START_UTC_NS)
    assert summary.frames >= killed_after - 1
    decoder, expected = FrameDecoder(), []
    for number in range(summary.frames):
        if number % 5 == 0:
            decoder.correction = correction_of(reel, number // 5 % 8)
        expected.append(decoder.decode(raw_of(reel, number)))
    assert_same_degrees(played(summary.path), expected)


def test_a_correction_that_a_power_cut_has_torn_costs_the_degrees_of_its_frames(
    frames: list[ThermalFrame], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crash(tmp_path / "crashed", frames)
    journal = tmp_path / "crashed" / "block.part.jsonl"
    lines = journal.read_bytes().split(b"\n")
    torn = [number for number, line in enumerate(lines) if line.startswith(b'{"kind":"correction_words"')][2]
    lines[torn] = bytes(len(lines[torn]))  # pages that never came to the disk: the second offset, which two share
    journal.write_bytes(b"\n".join(lines))
    (summary,) = close_leftovers(tmp_path / "crashed", accounted_until_utc_ns=START_UTC_NS)
    assert "3 unreadable lines left out" in caplog.text
    found = played(summary.path)
    assert_same_degrees(found[:6], frames[:6])
    assert [FrameFlag.UNCERTAIN in frame.flags for frame in found[6:]] == [True] * 6
    assert [frame.transfer.tobytes() for frame in found] == [frame.transfer.tobytes() for frame in frames]
    with Recording(summary.path) as recording:
        recording.verify()


# Files of before, and damaged ones


def test_a_recording_of_before_is_read_and_uncertain(frames: list[ThermalFrame], tmp_path: Path) -> None:
    path = record(tmp_path / "block.mkv", frames)
    change(path.with_suffix(".json"), _as_before)
    found = played(path)
    assert all(frame.flags & FrameFlag.UNCERTAIN for frame in found)
    assert [frame.calibration for frame in found] == [frame.calibration for frame in frames]
    with Recording(path) as recording:
        recording.verify()


def test_a_leftover_of_before_is_closed_as_it_was(frames: list[ThermalFrame], tmp_path: Path) -> None:
    crash(tmp_path / "crashed", frames)
    journal = tmp_path / "crashed" / "block.part.jsonl"
    records = [json.loads(line) for line in journal.read_bytes().splitlines()]
    kept = [record for record in records if not record["kind"].startswith("correction")]
    for each in kept:
        each.pop("correction", None)
    journal.write_text("".join(f"{json.dumps(each)}\n" for each in kept))
    (summary,) = close_leftovers(tmp_path / "crashed", accounted_until_utc_ns=START_UTC_NS)
    assert summary.frames == FRAMES
    assert all(frame.flags & FrameFlag.UNCERTAIN for frame in played(summary.path))


def _as_before(record: dict[str, Any]) -> None:
    del record["corrections"], record["correction_words"], record["frames"]["correction"]


def change(sidecar: Path, damage: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads(sidecar.read_bytes())
    damage(record)
    sidecar.write_text(json.dumps(record))


def second_offset(record: dict[str, Any], text: object) -> None:
    """Other text in place of the words that two of the three corrections share."""
    record["correction_words"][record["corrections"][1]["offset"]] = text


def _text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


DAMAGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "too short": lambda record: second_offset(record, _text(bytes(1000))),
    "too long": lambda record: second_offset(record, _text(bytes(1_000_000))),
    "other words": lambda record: second_offset(record, _text(bytes(2 * 192 * 256))),
    "no base64": lambda record: second_offset(record, "%&"),
    "not ASCII": lambda record: second_offset(record, "ä" * 40),
    "no zlib": lambda record: second_offset(record, base64.b64encode(b"no zlib at all").decode()),
    "cut short": lambda record: second_offset(record, _text(np.random.default_rng(1).bytes(98_304))[:40_000]),
    "no text": lambda record: second_offset(record, 7),
    "absent": lambda record: record["correction_words"].pop(record["corrections"][1]["offset"]),
    "no record": lambda record: record["corrections"].__setitem__(slice(1, 3), [None, 5]),
    "a list of words": lambda record: record["corrections"][1].update(offset=[]) or record["corrections"].pop(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_correction_is_reported_and_costs_the_degrees_only(
    frames: list[ThermalFrame], tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = record(tmp_path / "2026-09-22" / "block.mkv", frames)
    change(path.with_suffix(".json"), DAMAGES[damage])
    found = played(path)
    assert "block.mkv: host correction 1 is " in caplog.text
    assert_same_degrees(found[:6], frames[:6])
    assert all(frame.flags & FrameFlag.UNCERTAIN for frame in found[6:])
    assert [frame.transfer.tobytes() for frame in found] == [frame.transfer.tobytes() for frame in frames]
    with Recording(path) as recording, pytest.raises(RecordingError, match=r"block\.mkv: host correction 1 is "):
        recording.verify()
    assert damaged_sidecars(tmp_path, since_day=date(2026, 9, 22)) == [], "nothing else of it is worth losing"


@pytest.mark.parametrize("nonsense", [None, 3, "text", {"index": 0}], ids=str)
def test_a_sidecar_with_nonsense_for_corrections_is_still_one(
    frames: list[ThermalFrame], tmp_path: Path, nonsense: object
) -> None:
    path = record(tmp_path / "block.mkv", frames)
    change(path.with_suffix(".json"), lambda record: record.update(corrections=nonsense, correction_words=nonsense))
    assert all(frame.flags & FrameFlag.UNCERTAIN for frame in played(path))


def test_words_come_back_and_any_other_text_is_refused() -> None:
    words = np.random.default_rng(2).integers(0, 1 << 16, (192, 256), dtype=np.uint16)
    text, words_sum = packed(words), sum_of(words)
    np.testing.assert_array_equal(unpacked(text, words_sum), words)
    dice = np.random.default_rng(3)
    for place in dice.integers(0, len(text), 40):
        with pytest.raises(ValueError, match=r"expected|Error|decod|padding|base64"):
            unpacked(text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :], words_sum)


def test_a_gain_of_dead_pixels_only_is_no_gain() -> None:
    dead = np.zeros((192, 256), np.uint16)
    held = Corrections.from_records(
        [{"index": 0, "offset": sum_of(dead), "gain": sum_of(dead)}], {sum_of(dead): packed(dead)}
    )
    with pytest.raises(RecordingError, match="host correction 0 is damaged: a gain map has few dead pixels"):
        held.get(0)


def test_a_disk_without_room_for_a_correction_keeps_the_frames_before(
    frames: list[ThermalFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = RecordingWriter(tmp_path / "block.mkv", HEADER)
    for frame in islice(frames, 6):
        writer.append(frame, planned_utc_ns=None)

    def half(descriptor: int, data: bytes) -> int:
        if len(data) > 1000:
            written(descriptor, data[:1000])
            raise OSError(28, "No space left on device")
        return written(descriptor, data)

    written = os.write
    with monkeypatch.context() as patched:
        patched.setattr("drivers.sidecar.os.write", half)
        with pytest.raises(RecordingError, match="No space left"):
            writer.append(frames[6], planned_utc_ns=None)
    summary = writer.close()
    assert_same_degrees(played(summary.path), frames[:6])
