"""Leftovers and sidecars that are damaged: always closed or set aside, never an error that stops the service."""

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from drivers.clock import NS_PER_S, SimulatedClock
from drivers.closing import RecordingFiles, close_leftovers, damaged_sidecars, mend_sidecar
from drivers.decoder import FrameDecoder
from drivers.errors import RecordingError
from drivers.frame import RawFrame, ThermalFrame
from drivers.nuc import HostCorrection, average_offset
from drivers.recording import Recording, RecordingHeader, RecordingWriter
from drivers.sidecar import MOST_INSTANTS, Sidecar
from drivers.simulated import SimulatedCamera
from drivers.t2s_protocol import IMAGE_HEIGHT
from drivers.virtual.reel import Reel

START_UTC_NS = 1_790_046_000 * NS_PER_S
FRAMES = 10
KEPT = FRAMES - 1
"""A kill costs the frame that is on its way."""
NAME = "b_2026-09-22_n-1"
DAMAGES = 80


def header(**changes: Any) -> RecordingHeader:
    values: dict[str, Any] = {
        "start_utc_ns": START_UTC_NS,
        "period_ns": NS_PER_S,
        "accounted_from_utc_ns": START_UTC_NS,
        "end_utc_ns": START_UTC_NS + 60 * NS_PER_S,
    }
    return RecordingHeader(box="b", block_key="2026-09-22/n-1", **(values | changes))


def left_by_a_kill(folder: Path, frames: Iterable[ThermalFrame]) -> tuple[bytes, bytes]:
    """Matroska file and journal as a killed service leaves them."""
    writer = RecordingWriter(folder / f"{NAME}.mkv", header())
    for number, frame in enumerate(frames):
        writer.append(frame, planned_utc_ns=START_UTC_NS + number * NS_PER_S)
    files = RecordingFiles(folder, NAME)
    left = files.part.read_bytes(), files.journal.read_bytes()
    writer.close()
    return left


@pytest.fixture(scope="module")
def leftover(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Of a v1."""
    with SimulatedCamera.create(clock=SimulatedClock(START_UTC_NS), seed=3) as camera:
        return left_by_a_kill(tmp_path_factory.mktemp("leftover"), (camera.read(1) for _ in range(FRAMES)))


@pytest.fixture(scope="module")
def leftover_of_a_v2(tmp_path_factory: pytest.TempPathFactory, reel: Reel) -> tuple[bytes, bytes]:
    """With three shutter events."""

    def frames() -> Iterator[ThermalFrame]:
        decoder = FrameDecoder()
        for number in range(FRAMES):
            if number % 3 == 0:
                blade = reel.raw_blade[number, :IMAGE_HEIGHT]
                decoder.correction = HostCorrection(offset=average_offset([blade]), gain=reel.gain)
            at_ns, payload = number * NS_PER_S, reel.raw[number].tobytes()
            raw = RawFrame(
                sequence=number, captured_utc_ns=START_UTC_NS + at_ns, captured_monotonic_ns=at_ns, payload=payload
            )
            yield decoder.decode(raw)

    return left_by_a_kill(tmp_path_factory.mktemp("leftover_of_a_v2"), frames())


def overwritten(data: bytes, dice: random.Random, times: int, reach: int | None = None) -> bytes:
    damaged = bytearray(data)
    for _ in range(times):
        at, size = dice.randrange(min(reach or len(data), len(data)) - 64), dice.choice((1, 4, 64))
        damaged[at : at + size] = dice.randbytes(size)
    return bytes(damaged)


def cut(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data))]


KINDS: dict[str, Callable[[bytes, bytes, random.Random], tuple[bytes, bytes | None]]] = {
    "head": lambda part, journal, dice: (overwritten(part, dice, 3, 2000), journal),
    "all over": lambda part, journal, dice: (overwritten(part, dice, 200), overwritten(journal, dice, 20)),
    "cut": lambda part, journal, dice: (cut(part, dice), cut(journal, dice)),
    "zero": lambda part, journal, _dice: (bytes(len(part)), journal),
    "no journal": lambda part, _journal, dice: (overwritten(part, dice, 5, 3000), None),
}


@pytest.mark.parametrize("of", ["leftover", "leftover_of_a_v2"])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_damaged_a_leftover_is_closed_or_set_aside(
    kind: str, of: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    leftover: tuple[bytes, bytes] = request.getfixturevalue(of)
    closed = set_aside = 0
    for seed in range(DAMAGES // len(KINDS)):
        folder = tmp_path / str(seed) / "2026-09-22"
        folder.mkdir(parents=True)
        part, journal = KINDS[kind](*leftover, random.Random(seed))
        files = RecordingFiles(folder, NAME)
        files.part.write_bytes(part)
        if journal is not None:
            files.journal.write_bytes(journal)
        summaries = close_leftovers(folder.parent, accounted_until_utc_ns=START_UTC_NS + 60 * NS_PER_S)
        assert not any(".part" in path.name for path in folder.iterdir()), f"seed {seed}: left for ever"
        aside = [path for path in folder.iterdir() if ".damaged" in path.name]
        assert summaries or aside, f"seed {seed}: neither closed nor set aside"
        for summary in summaries:
            with Recording(summary.path) as recording:
                recording.verify()
        closed, set_aside = closed + len(summaries), set_aside + bool(aside)
    print(f"{kind}: {DAMAGES // len(KINDS)} damaged leftovers, {closed} closed, {set_aside} set aside")  # noqa: T201


def test_a_leftover_whose_name_is_taken_is_set_aside_and_not_tried_for_ever(
    leftover: tuple[bytes, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = RecordingFiles(tmp_path, NAME)
    files.final.write_bytes(b"another recording")
    files.part.write_bytes(leftover[0])
    files.journal.write_bytes(leftover[1])
    assert close_leftovers(tmp_path, accounted_until_utc_ns=START_UTC_NS) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{NAME}.damaged",
        f"{NAME}.damaged.jsonl",
        f"{NAME}.mkv",
    ]
    assert files.final.read_bytes() == b"another recording"
    assert "is there and is another recording; set aside as" in caplog.text


def test_a_disk_that_refuses_leaves_the_leftover_for_the_next_start(
    leftover: tuple[bytes, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = RecordingFiles(tmp_path, NAME)
    files.part.write_bytes(leftover[0])
    files.journal.write_bytes(leftover[1])

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Sidecar, "write", full)
        assert close_leftovers(tmp_path, accounted_until_utc_ns=START_UTC_NS) == []
    assert files.part.exists()
    assert "left for the next start" in caplog.text
    (summary,) = close_leftovers(tmp_path, accounted_until_utc_ns=START_UTC_NS + 60 * NS_PER_S)
    assert summary.captured == KEPT


@pytest.fixture
def closed(leftover: tuple[bytes, bytes], tmp_path: Path) -> RecordingFiles:
    """A closed recording in its folder."""
    files = RecordingFiles(tmp_path / "2026-09-22", NAME)
    files.directory.mkdir()
    files.part.write_bytes(leftover[0])
    files.journal.write_bytes(leftover[1])
    close_leftovers(tmp_path, accounted_until_utc_ns=START_UTC_NS + 60 * NS_PER_S)
    return files


def test_a_damaged_sidecar_is_made_anew_from_the_pictures(closed: RecordingFiles, tmp_path: Path) -> None:
    since = date(2026, 9, 22)
    assert damaged_sidecars(tmp_path, since_day=since) == []
    closed.sidecar.write_bytes(bytes(100))
    assert damaged_sidecars(tmp_path, since_day=date(2026, 9, 23)) == []
    assert damaged_sidecars(tmp_path, since_day=since) == [closed]
    summary = mend_sidecar(closed)
    assert summary is not None
    assert (summary.frames, summary.expected, summary.captured) == (KEPT, 0, 0)
    assert (closed.directory / f"{NAME}.damaged.json").read_bytes() == bytes(100)
    with Recording(closed.final) as recording:
        recording.verify()
        assert len(recording) == KEPT
    assert damaged_sidecars(tmp_path, since_day=since) == []


def test_a_recording_that_is_damaged_with_its_sidecar_is_set_aside(closed: RecordingFiles, tmp_path: Path) -> None:
    closed.sidecar.write_bytes(b"{")
    closed.final.write_bytes(bytes(closed.final.stat().st_size))
    assert mend_sidecar(closed) is None
    assert sorted(path.name for path in closed.directory.iterdir()) == [f"{NAME}.damaged", f"{NAME}.damaged.json"]


def test_the_sidecar_of_a_freed_recording_is_set_aside_alone(closed: RecordingFiles) -> None:
    closed.sidecar.write_bytes(b"{")
    closed.final.unlink()
    assert mend_sidecar(closed) is None
    assert [path.name for path in closed.directory.iterdir()] == [f"{NAME}.damaged.json"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"period_ns": 1}, id="more instants than memory"),
        pytest.param({"end_utc_ns": START_UTC_NS + (MOST_INSTANTS + 1) * NS_PER_S}, id="one instant too many"),
        pytest.param({"start_utc_ns": "yesterday"}, id="text"),
        pytest.param({"start_utc_ns": 1.5}, id="fraction"),
    ],
)
def test_a_header_that_damage_has_made_is_none(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"whole number|planned instants"):
        header(**changes)


def test_a_header_in_the_pictures_that_is_none_is_an_error_of_the_recording() -> None:
    with pytest.raises(RecordingError, match="expected the header"):
        RecordingHeader.from_json(header().to_json().replace(f'"period_ns":{NS_PER_S}', '"period_ns":1'))
