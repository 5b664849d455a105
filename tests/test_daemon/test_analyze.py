"""Offline analysis: what is in the files is what the pipeline measured, at the material's own size, or not there."""

import csv
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.analysis_minutes import Plan
from daemon.analyze import AnalysisError, AnalysisResult, AnalysisSettings, AnalysisTarget, analysis_targets, analyze
from daemon.cli import main
from daemon.observation import FrameObservation, PartObservation
from daemon.overlay import draw, draw_refused
from daemon.part_uncertainty import part_uncertainty
from daemon.pipeline import Measured, Pipeline
from daemon.settings import ReadingSettings, Settings
from daemon.simulate import DaySimulation
from daemon.store.repository import open_store
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.parts import BodyPart
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.decoder import FrameDecoder
from drivers.errors import MaterialError
from drivers.frame import RawFrame, ThermalFrame
from drivers.material import open_material
from drivers.nuc import HostCorrection, average_offset
from drivers.recording import Recording, RecordingHeader, RecordingWriter
from drivers.replay import decode_material
from drivers.simulated import SimulatedCamera
from drivers.t2s_protocol import IMAGE_HEIGHT
from drivers.virtual.reel import Reel

START_UTC_NS = 1_790_046_000 * NS_PER_S
FRAMES = 5
PICTURE_SIZE = (640, 480)
RANGE_CELSIUS = (18.0, 36.0)
FIGURE = 5e-5
"""Figures in the tables have four decimals."""
RESULTS = {"parts.csv", "frames.csv", "parts.npz"}
TEMPERATURES = ("mean_celsius", "median_celsius", "p95_celsius", "min_celsius", "max_celsius")

Transfers = NDArray[np.uint16]


@pytest.fixture(scope="module")
def raws() -> list[RawFrame]:
    """Transfers of a simulated rat, one a second."""
    clock = SimulatedClock(START_UTC_NS)
    with SimulatedCamera.create(clock=clock, seed=3) as camera:
        found = []
        for _ in range(FRAMES):
            found.append(camera.read_raw(1))
            clock.advance(1)
    return found


@pytest.fixture(scope="module")
def transfers(raws: list[RawFrame]) -> Transfers:
    """The same as an array, (5, 196, 256)."""
    return np.stack([np.frombuffer(raw.payload, "<u2").reshape(196, 256) for raw in raws])


@pytest.fixture(scope="module")
def frames(raws: list[RawFrame]) -> list[ThermalFrame]:
    """The same in degrees."""
    decoder = FrameDecoder()
    return [decoder.decode(raw) for raw in raws]


@pytest.fixture(scope="module")
def measured(frames: list[ThermalFrame]) -> list[Measured]:
    """What the service would make of them."""
    pipeline = new_pipeline()
    return [pipeline.process(frame) for frame in frames]


@pytest.fixture(scope="module")
def pictures(frames: list[ThermalFrame]) -> list[NDArray[np.uint8]]:
    """The same in false colours (BGR) of a known range, 640 x 480."""
    low, high = RANGE_CELSIUS
    painted = []
    for frame in frames:
        fine = cv2.resize(frame.celsius, PICTURE_SIZE, interpolation=cv2.INTER_LINEAR)
        levels = np.clip((fine - low) / (high - low) * 255, 0, 255).astype(np.uint8)
        painted.append(np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), np.uint8))
    return painted


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of six simulated seconds."""
    settings = Settings.model_validate(
        {
            "box": {"time_zone": "Europe/Berlin"},
            "schedule": {"block_minutes": 0.1, "strata": {"night": ["00:30"]}},
            "measure": {"outside_rate_hz": 0},
        }
    )
    simulation = DaySimulation(
        settings, first_day=date(2026, 6, 1), days=1, output=tmp_path_factory.mktemp("days"), version="test"
    )
    (path,) = simulation.run(lambda _utc_ns: None).recordings.rglob("*.mkv")
    return path


def new_pipeline(animals: int = 1) -> Pipeline:
    """As `AnalysisSettings` has it."""
    return Pipeline(ClassicalSegmenter(animals=animals, min_area_px=150), animals=animals, mm_per_px=None)


def analyzed(path: Path, output: Path, **settings: Any) -> AnalysisResult:
    """Analyze one material."""
    (target,) = analysis_targets([path], output)
    assert target == AnalysisTarget(path=path, output=output)
    return analyze(target, AnalysisSettings(**settings))


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def masks(output: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Parts and instances."""
    with np.load(output / "parts.npz", allow_pickle=False) as archive:
        assert list(archive) == ["parts", "instances"]
        return archive["parts"], archive["instances"]


def video_pictures(path: Path) -> list[NDArray[np.uint8]]:
    """All pictures of a video, RGB."""
    with av.open(path) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def assert_rows_are(rows: Sequence[dict[str, str]], observations: Sequence[FrameObservation]) -> None:
    """The table of parts says what was measured: every figure."""
    expected: list[tuple[int, int | None, PartObservation]] = [
        (index, animal.animal, part)
        for index, observation in enumerate(observations)
        for animal in observation.animals
        for part in animal.parts
    ]
    assert len(rows) == len(expected) > 0
    for row, (index, animal, part) in zip(rows, expected, strict=True):
        assert (row["frame"], row["animal"], row["part"]) == (str(index), str(animal), part.part.name.lower())
        for name in ("x_px", "y_px", "area_px", "valid_px", *TEMPERATURES):
            assert float(row[name]) == pytest.approx(getattr(part, name), abs=FIGURE)
        uncertainty = part_uncertainty(part, observations[index])
        assert uncertainty is not None
        assert float(row["uncertainty_celsius"]) == pytest.approx(uncertainty.total, abs=FIGURE)
        assert row["x_mm"] == row["y_mm"] == row["area_mm2"] == ""


def test_a_stack_of_transfers_gives_what_the_pipeline_measures(
    transfers: Transfers, measured: list[Measured], tmp_path: Path
) -> None:
    np.save(tmp_path / "stack.npy", transfers)
    result = analyzed(tmp_path / "stack.npy", tmp_path / "out")
    assert (result.frames, result.measured, result.notes) == (FRAMES, FRAMES, ())
    rows = table(tmp_path / "out" / "parts.csv")
    assert_rows_are(rows, [each.observation for each in measured])
    assert result.rows == len(rows)
    parts, instances = masks(tmp_path / "out")
    assert parts.dtype == instances.dtype == np.uint8
    np.testing.assert_array_equal(parts, [each.segmentation.parts for each in measured])
    np.testing.assert_array_equal(instances, [each.segmentation.instances for each in measured])
    assert set(np.unique(parts)) == {0, BodyPart.HEAD, BodyPart.BODY, BodyPart.TAIL}


def test_each_frame_has_a_row_that_says_what_it_is(
    transfers: Transfers, measured: list[Measured], tmp_path: Path
) -> None:
    np.savez(tmp_path / "stack.npz", frames=transfers)
    analyzed(tmp_path / "stack.npz", tmp_path / "out")
    rows = table(tmp_path / "out" / "frames.csv")
    assert [(row["frame"], row["source"]) for row in rows] == [(str(k), f"stack.npz#{k}") for k in range(FRAMES)]
    assert [row["time_s"] for row in rows] == ["0.000", "0.040", "0.080", "0.120", "0.160"]
    for row, each in zip(rows, measured, strict=True):
        assert row["captured_utc"] == row["captured_utc_ns"] == "", "nobody knows when it was"
        assert (row["animals"], row["not_measured"]) == ("1", "")
        for name in ("background_celsius", "fpa_celsius", "shutter_celsius"):
            assert float(row[name]) == pytest.approx(getattr(each.observation, name), abs=FIGURE)


def test_the_overlay_of_several_frames_is_a_video_that_plays(
    transfers: Transfers, frames: list[ThermalFrame], measured: list[Measured], tmp_path: Path
) -> None:
    np.save(tmp_path / "stack.npy", transfers)
    analyzed(tmp_path / "stack.npy", tmp_path / "out")
    pictures = video_pictures(tmp_path / "out" / "overlay.mp4")
    assert [picture.shape for picture in pictures] == [(768, 1024, 3)] * FRAMES
    for picture, frame, each in zip(pictures, frames, measured, strict=True):
        drawn = draw(frame.celsius, each.segmentation, each.observation, scale=4)[..., ::-1]
        assert np.abs(picture.astype(int) - drawn.astype(int)).mean() < 4  # lossy, but this frame
    assert not (tmp_path / "out" / "overlay.png").exists()


def test_a_single_transfer_gives_maps_without_a_frame_axis_and_a_picture(
    transfers: Transfers, frames: list[ThermalFrame], tmp_path: Path
) -> None:
    np.save(tmp_path / "one.npy", transfers[0])
    result = analyzed(tmp_path / "one.npy", tmp_path / "out")
    alone = new_pipeline().process(frames[0])
    parts, instances = masks(tmp_path / "out")
    np.testing.assert_array_equal(parts, alone.segmentation.parts)
    np.testing.assert_array_equal(instances, alone.segmentation.instances)
    overlay = cv2.imread(str(tmp_path / "out" / "overlay.png"))
    np.testing.assert_array_equal(overlay, draw(frames[0].celsius, alone.segmentation, alone.observation, scale=4))
    assert result.frames == 1
    assert not (tmp_path / "out" / "overlay.mp4").exists()


def test_a_recording_keeps_its_times_and_flags(recording: Path, tmp_path: Path) -> None:
    result = analyzed(recording, tmp_path / "out")
    assert (result.frames, result.measured) == (6, 6)
    decoder, pipeline = FrameDecoder(), new_pipeline()
    observations = [pipeline.process(decode_material(decoder, item)).observation for item in open_material(recording)]
    assert_rows_are(table(tmp_path / "out" / "parts.csv"), observations)
    rows = table(tmp_path / "out" / "frames.csv")
    assert [int(row["captured_utc_ns"]) for row in rows] == [each.captured_utc_ns for each in observations]
    assert rows[0]["captured_utc"].startswith("2026-05-31T22:30:00.")
    assert {row["captured_utc_ns"] for row in table(tmp_path / "out" / "parts.csv")} == {
        row["captured_utc_ns"] for row in rows
    }
    assert len(video_pictures(tmp_path / "out" / "overlay.mp4")) == 6


def test_a_recording_of_a_v2_is_measured_in_the_degrees_of_then(reel: Reel, tmp_path: Path) -> None:
    decoder = FrameDecoder()
    offset = average_offset([blade[:IMAGE_HEIGHT] for blade in reel.raw_blade])
    decoder.correction = HostCorrection(offset=offset, gain=reel.gain)
    header = RecordingHeader(
        box="b", block_key=None, start_utc_ns=0, period_ns=1, accounted_from_utc_ns=0, end_utc_ns=3, variant="v2"
    )
    live = [
        decoder.decode(
            RawFrame(
                sequence=number,
                captured_utc_ns=number * NS_PER_S,
                captured_monotonic_ns=number * NS_PER_S,
                payload=reel.raw[number].tobytes(),
            )
        )
        for number in range(3)
    ]
    with RecordingWriter(tmp_path / "v2.mkv", header) as writer:
        for frame in live:
            writer.append(frame, planned_utc_ns=None)
    result = analyzed(tmp_path / "v2.mkv", tmp_path / "out", animals=2)
    pipeline = new_pipeline(animals=2)
    assert_rows_are(table(tmp_path / "out" / "parts.csv"), [pipeline.process(frame).observation for frame in live])
    assert (result.measured, result.notes) == (3, ())


def test_false_colours_with_a_range_become_degrees_at_the_pictures_own_size(
    pictures: list[NDArray[np.uint8]], frames: list[ThermalFrame], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "rat.png"), pictures[0])
    result = analyzed(tmp_path / "rat.png", tmp_path / "out", range_celsius=RANGE_CELSIUS)
    parts, instances = masks(tmp_path / "out")
    assert parts.shape == instances.shape == PICTURE_SIZE[::-1]
    assert result.notes == ()
    alone = {part.part: part for part in new_pipeline().process(frames[0]).observation.animals[0].parts}
    rows = {row["part"]: row for row in table(tmp_path / "out" / "parts.csv")}
    assert set(rows) == {"head", "body", "tail"}
    for part in BodyPart:
        row, truth = rows[part.name.lower()], alone[part]
        assert float(row["mean_celsius"]) == pytest.approx(truth.mean_celsius, abs=0.3)
        assert row["uncertainty_celsius"] == "", "of guessed colours nobody can say"
        # 640 pixels of the picture stand for 256 of the camera; the same point by its centre.
        assert float(row["source_x_px"]) == pytest.approx((float(row["x_px"]) + 0.5) * 2.5 - 0.5, abs=1e-3)
        assert float(row["source_y_px"]) == pytest.approx((float(row["y_px"]) + 0.5) * 2.5 - 0.5, abs=1e-3)
        rows_of_part, columns_of_part = np.nonzero(parts == part)
        assert columns_of_part.mean() == pytest.approx(float(row["source_x_px"]), abs=1)
        assert rows_of_part.mean() == pytest.approx(float(row["source_y_px"]), abs=1)
    (frame,) = table(tmp_path / "out" / "frames.csv")
    assert frame["flags"] == "estimated"
    assert frame["fpa_celsius"] == frame["shutter_celsius"] == "", "no camera has said them"


def test_readings_do_as_well_as_a_range(
    pictures: list[NDArray[np.uint8]], frames: list[ThermalFrame], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "rat.png"), pictures[0])
    fine = cv2.resize(frames[0].celsius, PICTURE_SIZE, interpolation=cv2.INTER_LINEAR)
    points = [np.unravel_index(place, fine.shape) for place in (fine.argmax(), fine.argmin())]
    readings = tuple(ReadingSettings(x=int(x), y=int(y), celsius=float(fine[y, x])) for y, x in points)
    analyzed(tmp_path / "rat.png", tmp_path / "out", readings=readings)
    truth = {part.part.name.lower(): part for part in new_pipeline().process(frames[0]).observation.animals[0].parts}
    for row in table(tmp_path / "out" / "parts.csv"):
        assert float(row["mean_celsius"]) == pytest.approx(truth[row["part"]].mean_celsius, abs=0.5)


def test_false_colours_without_a_scale_give_shapes_and_no_temperature(
    pictures: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "rat.png"), pictures[0])
    result = analyzed(tmp_path / "rat.png", tmp_path / "out")
    (note,) = result.notes
    assert note.startswith("no temperatures: the colours have no scale; give --range LOW HIGH or two --reading")
    rows = table(tmp_path / "out" / "parts.csv")
    assert {row["part"] for row in rows} == {"head", "body", "tail"}
    assert all(int(row["area_px"]) > 50 for row in rows)
    assert {row[name] for row in rows for name in TEMPERATURES} == {""}
    assert table(tmp_path / "out" / "frames.csv")[0]["background_celsius"] == ""
    assert masks(tmp_path / "out")[0].any()


def test_a_folder_of_pictures_is_one_series(pictures: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(pictures[:3]):
        cv2.imwrite(str(tmp_path / "in" / f"p{number + 9}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    result = analyzed(tmp_path / "in", tmp_path / "out", range_celsius=RANGE_CELSIUS)
    assert (result.frames, result.measured) == (3, 3)
    assert [row["source"] for row in table(tmp_path / "out" / "frames.csv")] == ["p9.jpg", "p10.jpg", "p11.jpg"]
    parts, instances = masks(tmp_path / "out")
    assert parts.shape == instances.shape == (3, 480, 640)
    assert parts.any(axis=(1, 2)).all()


def test_a_false_colour_video_is_measured_picture_by_picture(
    pictures: list[NDArray[np.uint8]], frames: list[ThermalFrame], tmp_path: Path
) -> None:
    with av.open(tmp_path / "rat.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"crf": "8"})
        stream.width, stream.height = PICTURE_SIZE
        stream.pix_fmt = "yuv444p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    result = analyzed(tmp_path / "rat.mp4", tmp_path / "out", range_celsius=RANGE_CELSIUS)
    assert (result.frames, result.measured) == (FRAMES, FRAMES)
    parts, _ = masks(tmp_path / "out")
    assert parts.shape == (FRAMES, 480, 640)
    assert [row["time_s"] for row in table(tmp_path / "out" / "frames.csv")] == [f"{k / 5:.3f}" for k in range(FRAMES)]
    pipeline = new_pipeline()
    for index, frame in enumerate(frames):
        body = next(p for p in pipeline.process(frame).observation.animals[0].parts if p.part is BodyPart.BODY)
        (row,) = [
            row for row in table(tmp_path / "out" / "parts.csv") if (row["frame"], row["part"]) == (str(index), "body")
        ]
        assert float(row["mean_celsius"]) == pytest.approx(body.mean_celsius, abs=0.5)


def test_a_table_of_degrees_with_decimal_commas_is_read_as_it_is(
    frames: list[ThermalFrame], measured: list[Measured], tmp_path: Path
) -> None:
    lines = [";".join(f"{value:.3f}".replace(".", ",") for value in row) for row in frames[0].celsius]
    (tmp_path / "degrees.csv").write_text("\n".join(lines))
    analyzed(tmp_path / "degrees.csv", tmp_path / "out")
    truth = {part.part.name.lower(): part for part in measured[0].observation.animals[0].parts}
    rows = table(tmp_path / "out" / "parts.csv")
    assert {row["part"] for row in rows} == set(truth)
    for row in rows:
        assert float(row["mean_celsius"]) == pytest.approx(truth[row["part"]].mean_celsius, abs=0.02)
    assert masks(tmp_path / "out")[0].shape == (192, 256)


def test_a_stack_of_degrees_of_any_size_gets_maps_of_that_size(frames: list[ThermalFrame], tmp_path: Path) -> None:
    stack = np.stack([cv2.resize(frame.celsius, (320, 200)) for frame in frames[:2]])
    np.save(tmp_path / "degrees.npy", stack)
    analyzed(tmp_path / "degrees.npy", tmp_path / "out")
    parts, _ = masks(tmp_path / "out")
    assert parts.shape == (2, 200, 320)
    assert parts.any(axis=(1, 2)).all()


def test_refused_frames_keep_their_place_in_tables_maps_and_video(transfers: Transfers, tmp_path: Path) -> None:
    damaged = transfers.copy()
    damaged[1] = 0
    np.save(tmp_path / "stack.npy", damaged)
    result = analyzed(tmp_path / "stack.npy", tmp_path / "out")
    assert (result.frames, result.measured) == (FRAMES, FRAMES - 1)
    (note,) = result.notes
    assert note.startswith("1 transfer refused: ")
    reason = note.rpartition(" ")[2]
    rows = table(tmp_path / "out" / "frames.csv")
    assert [row["not_measured"] for row in rows] == ["", f"rejected_{reason}", "", "", ""]
    assert "1" not in {row["frame"] for row in table(tmp_path / "out" / "parts.csv")}
    parts, instances = masks(tmp_path / "out")
    assert parts.any(axis=(1, 2)).tolist() == instances.any(axis=(1, 2)).tolist() == [True, False, True, True, True]
    pictures = video_pictures(tmp_path / "out" / "overlay.mp4")
    assert len(pictures) == FRAMES
    refused = draw_refused(reason, scale=4)
    assert np.abs(pictures[1].astype(int) - refused.astype(int)).mean() < 2


def test_shutter_frames_in_a_stack_are_named_and_not_measured(transfers: Transfers, tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", transfers[[0, 1, 1, 2]])
    result = analyzed(tmp_path / "stack.npy", tmp_path / "out")
    assert (result.measured, result.notes) == (3, ("1 frame not measured: shutter",))
    assert [row["not_measured"] for row in table(tmp_path / "out" / "frames.csv")] == ["", "", "shutter", ""]


def test_uncorrected_v2_counts_are_no_measurement_and_no_animal(golden: Path, tmp_path: Path) -> None:
    with np.load(golden / "v2_nuc.npz") as vectors:
        np.save(tmp_path / "v2.npy", vectors["scene_frame"])
    result = analyzed(tmp_path / "v2.npy", tmp_path / "out")
    assert (result.measured, result.rows, result.notes) == (0, 0, ("1 frame not measured: uncertain",))
    assert table(tmp_path / "out" / "parts.csv") == []
    assert not masks(tmp_path / "out")[0].any()


def test_two_animals_are_two_instances(tmp_path: Path) -> None:
    with SimulatedCamera.create(clock=SimulatedClock(START_UTC_NS), seed=8, animals=2) as camera:
        payload = camera.read_raw(1).payload
    np.save(tmp_path / "two.npy", np.frombuffer(payload, "<u2").reshape(196, 256))
    analyzed(tmp_path / "two.npy", tmp_path / "out", animals=2)
    parts, instances = masks(tmp_path / "out")
    assert set(np.unique(instances)) == {0, 1, 2}
    np.testing.assert_array_equal(parts > 0, instances > 0)
    assert {row["animal"] for row in table(tmp_path / "out" / "parts.csv")} == {"1", "2"}


def test_a_scale_adds_millimetres(transfers: Transfers, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", transfers[0])
    analyzed(tmp_path / "one.npy", tmp_path / "out", mm_per_px=2.0)
    for row in table(tmp_path / "out" / "parts.csv"):
        assert float(row["area_mm2"]) == pytest.approx(4 * int(row["area_px"]))


def test_memory_does_not_grow_with_the_number_of_frames(frames: list[ThermalFrame], tmp_path: Path) -> None:
    """Kept in memory, 24 more frames would take 14 MB of maps and 28 MB of degrees."""
    fine = cv2.resize(frames[0].celsius, PICTURE_SIZE)

    def peak_bytes(count: int) -> int:
        path = tmp_path / f"{count}.npy"
        np.lib.format.open_memmap(path, "w+", np.float32, (count, *fine.shape))[:] = fine
        target = AnalysisTarget(path=path, output=tmp_path / str(count))
        tracemalloc.start()
        analyze(target, AnalysisSettings())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(2)  # whatever is made once
    assert peak_bytes(28) - peak_bytes(4) < 2_000_000


def interrupting(after: int, error: BaseException) -> Callable[[int, int], None]:
    """Progress at which something happens."""

    def progress(done: int, total: int) -> None:
        assert total == FRAMES
        if done == after:
            raise error

    return progress


def test_what_is_interrupted_leaves_nothing_that_looks_like_a_result(transfers: Transfers, tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", transfers)
    target = AnalysisTarget(path=tmp_path / "stack.npy", output=tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        analyze(target, AnalysisSettings(), on_progress=interrupting(3, KeyboardInterrupt()))
    assert list((tmp_path / "out").iterdir()) == []
    analyze(target, AnalysisSettings())
    assert {file.name for file in (tmp_path / "out").iterdir()} > RESULTS


def test_material_that_cannot_be_read_to_its_end_leaves_no_result(
    pictures: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(pictures[:2]):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), picture)
    (tmp_path / "in" / "2.png").write_bytes(b"no picture")
    with pytest.raises(MaterialError, match=r"2\.png: expected a PNG, JPEG"):
        analyzed(tmp_path / "in", tmp_path / "out", range_celsius=RANGE_CELSIUS)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_maps_appear_last(transfers: Transfers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where parts.npz is, everything is: also after a power cut between two names."""
    np.save(tmp_path / "stack.npy", transfers)
    given: list[str] = []
    rename = Path.rename

    def note(path: Path, target: Path) -> Path:
        given.append(target.name)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", note)
    analyzed(tmp_path / "stack.npy", tmp_path / "out")
    assert given == ["parts.csv", "animals.csv", "frames.csv", "overlay.mp4", "parts.npz"]
    assert {file.name for file in (tmp_path / "out").iterdir()} == set(given)


@pytest.mark.parametrize("name", ["parts.csv", "frames.csv", "parts.npz", "overlay.png", "overlay.mp4"])
def test_nothing_is_overwritten(name: str, transfers: Transfers, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", transfers[0])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("precious")
    with pytest.raises(AnalysisError, match=f"{name} is already there: choose another directory"):
        analyzed(tmp_path / "one.npy", tmp_path / "out")
    assert [file.read_text() for file in (tmp_path / "out").iterdir()] == ["precious"]


def test_an_output_that_is_a_file_is_an_error_with_its_name(transfers: Transfers, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", transfers[0])
    (tmp_path / "out").write_text("a file")
    with pytest.raises(AnalysisError, match=r"out: the results cannot be written"):
        analyzed(tmp_path / "one.npy", tmp_path / "out")


def test_several_materials_get_a_folder_each_also_with_the_same_name(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a/rat.npy", "b/rat.npy", "b/rat_2.npy", "cat.csv")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
    targets = analysis_targets(files, tmp_path / "out")
    assert [target.path for target in targets] == files
    assert [target.output.relative_to(tmp_path / "out").name for target in targets] == [
        "rat", "rat_2", "rat_2_2", "cat",
    ]  # fmt: skip


def test_a_tree_is_taken_folder_by_folder_without_hidden_files_and_earlier_results(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for name in ("day1/a.mkv", "day2/x/b.mkv", "day2/.hidden.mkv", "notes/readme.txt", "out/old/overlay.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    targets = analysis_targets([root], root / "out")
    assert [target.path for target in targets] == [root / "day1", root / "day2" / "x"]
    assert [target.output for target in targets] == [root / "out" / "day1", root / "out" / "x"]


def test_a_path_that_is_not_there_is_said_before_anything_is_done(transfers: Transfers, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", transfers[0])
    with pytest.raises(MaterialError, match=r"nothing: there is no such file or folder"):
        analysis_targets([tmp_path / "one.npy", tmp_path / "nothing"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_material_of_no_use_makes_no_output(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("no picture")
    with pytest.raises(MaterialError, match=r"text\.txt: expected a file ending in"):
        analyzed(tmp_path / "text.txt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_goes_on_after_a_bad_file_and_ends_with_2(
    transfers: Transfers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("one[1].npy", transfers[0])
    np.save("two.npy", transfers[1])
    Path("bad.npy").write_bytes(b"no array")
    files = ["one[1].npy", "bad.npy", "two.npy"]
    monkeypatch.setattr(sys, "argv", ["vivarium", "analyze", *files, "--output", "out", "--classical"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == (
        "one[1].npy: 1 frame, 1 measured, 3 rows -> out/one[1]\ntwo.npy: 1 frame, 1 measured, 3 rows -> out/two\n"
    )
    assert printed.err.startswith("error: bad.npy: cannot be read as an array")
    assert sorted(file.name for file in Path("out").iterdir()) == ["one[1]", "two"]


def minute_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "minutes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_recording_gives_the_values_of_minutes_that_the_service_stored(tmp_path: Path) -> None:
    """A block of a minute and a half: one whole minute, and half of the next."""
    nest = {"name": "nest", "kind": "nest", "polygon": [[0, 0], [255, 0], [255, 100], [0, 100]]}
    sections = {
        "box": {"data_dir": tmp_path, "time_zone": "UTC"},
        "schedule": {"rate_hz": 0.5, "block_minutes": 1.5, "strata": {"night": ["00:30"]}},
        "measure": {"outside_rate_hz": 0, "mm_per_px": 1.5},
        "vision": {"unet": "off", "panoptic": "off"},
        "zone": [nest],
    }
    settings = Settings.model_validate(sections)
    days = DaySimulation(settings, first_day=date(2026, 6, 1), days=1, output=tmp_path / "days", version="test")
    simulated = days.run(lambda _utc_ns: None)
    with open_store(f"sqlite:///{simulated.database}", outbox_limit=10) as store:
        stored = list(store.minute_values(since_utc_ns=days.start_utc_ns, until_utc_ns=days.stop_utc_ns))
    (path,) = simulated.recordings.rglob("*.mkv")
    offline = AnalysisSettings(mm_per_px=1.5, zones=settings.zones)
    result = analyze(AnalysisTarget(path=path, output=tmp_path / "out"), offline)
    assert len(stored) == result.minute_rows
    rows = minute_rows(tmp_path / "out")
    written = {(int(row["minute_utc_ns"]), int(row["animal"] or 0), row["measure"]): row for row in rows}
    assert {"zone_nest_share", "distance_mm", "skin_max_celsius", "nest_celsius"} <= {key[2] for key in written}
    assert len({key[0] for key in written}) == 2
    for value in stored:
        row = written.pop((value.minute_utc_ns, value.animal or 0, value.measure))
        for name in ("value", "uncertainty", "coverage"):
            told = getattr(value, name)
            assert row[name] == ("" if told is None else f"{told:.6g}"), (value, name)
        assert int(row["samples"]) == value.samples
    assert not written


def test_frames_that_are_missing_lower_the_coverage_of_their_minute(recording: Path, tmp_path: Path) -> None:
    """Six seconds were planned and recorded; of a plan of twelve they are the half."""
    whole = Plan(open_material(recording))
    with Recording(recording) as opened:
        minute = opened.header.start_utc_ns
    assert whole.due(minute) == 6
    assert whole.due(minute + 60 * NS_PER_S) == 0
    analyze(AnalysisTarget(path=recording, output=tmp_path), AnalysisSettings(animals=1))
    rows = {row["measure"]: row for row in minute_rows(tmp_path)}
    assert (rows["frames_coverage"]["value"], rows["seen_share"]["coverage"]) == ("1", "1")
    assert rows["frames_coverage"]["minute_utc"] == "2026-05-31T22:30:00.000000Z"


def test_material_without_times_has_no_values_of_minutes_and_says_so(
    transfers: Transfers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "raw.npy", transfers)
    command = ["vivarium", "analyze", str(tmp_path / "raw.npy"), "-o", str(tmp_path / "out"), "--classical"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert "no values of minutes since it has no times" in capsys.readouterr().out
    assert not (tmp_path / "out" / "minutes.csv").exists()
