"""One frame explained: degrees to the golden vectors, overrides, frame numbers, and errors that say what to do."""

import json
import shutil
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.cli import main
from daemon.inspect import inspect_frame
from daemon.settings import ReadingSettings, Settings
from daemon.simulate import DaySimulation
from drivers.decoder import FrameDecoder
from drivers.errors import MaterialError, UnscaledColoursError
from drivers.frame import RawFrame
from drivers.material import open_material
from drivers.nuc import HostCorrection, average_offset
from drivers.recording import RecordingHeader, RecordingWriter
from drivers.replay import decode_material
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH, build_transfer, parse_metadata, picture_statistics
from drivers.thermometry import EnvironmentOverrides
from drivers.virtual.reel import Reel

GOLDEN_NAMES = ("g1_eps100_d1", "g2_eps095_d1", "g3_eps098_d0", "g4_corr_hum70", "g5_cold_d3", "g6_high_range")
TOLERANCE_CELSIUS = 5e-4


def vivarium(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the command; its exit code."""
    monkeypatch.setattr(sys, "argv", ["vivarium", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def load(golden: Path, name: str) -> tuple[dict[str, Any], NDArray[np.uint16]]:
    """What is expected, and the transfer."""
    return json.loads((golden / f"{name}.json").read_text()), np.load(golden / f"{name}.npz")["frame"]


def with_counts(transfer: NDArray[np.uint16], counts: list[int]) -> NDArray[np.uint16]:
    """The same camera, looking at these counts from the upper left on."""
    flat = np.full(IMAGE_HEIGHT * IMAGE_WIDTH, counts[len(counts) // 2], np.uint16)
    flat[: len(counts)] = counts
    image = flat.reshape(IMAGE_HEIGHT, IMAGE_WIDTH)
    return build_transfer(image, replace(parse_metadata(transfer), statistics=picture_statistics(image)))


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_the_degrees_written_are_the_golden_ones_at_every_count(
    name: str, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector, transfer = load(golden, name)
    expected = vector["expected"]
    np.save(tmp_path / "raw.npy", with_counts(transfer, expected["counts"]))
    assert vivarium(monkeypatch, "inspect", tmp_path / "raw.npy", "--celsius", tmp_path / "out.npy") == 0
    celsius = np.load(tmp_path / "out.npy")
    assert (celsius.dtype, celsius.shape) == (np.float32, (192, 256))
    truth = np.array([np.nan if value is None else value for value in expected["celsius"]])
    np.testing.assert_allclose(
        celsius.ravel()[: truth.size], truth, rtol=0, atol=TOLERANCE_CELSIUS, equal_nan=True, strict=False
    )


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_the_degrees_of_the_golden_transfer_itself_are_written(
    name: str, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector, transfer = load(golden, name)
    assert vivarium(monkeypatch, "inspect", golden / f"{name}.npz", "--celsius", tmp_path / "out") == 0
    celsius = np.load(tmp_path / "out")  # the name as it was given, nothing appended
    for pixel in vector["expected"]["pixels"]:
        assert celsius[pixel["y"], pixel["x"]] == pytest.approx(pixel["c"], abs=TOLERANCE_CELSIUS)
    raw = RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=transfer.astype("<u2").tobytes())
    np.testing.assert_array_equal(celsius, FrameDecoder().decode(raw).celsius)


def test_a_distance_that_the_register_cannot_hold_is_taken_from_the_host(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector, transfer = load(golden, "g3_eps098_d0")
    expected = vector["host_distance_override"]
    np.save(tmp_path / "raw.npy", with_counts(transfer, expected["counts"]))
    code = vivarium(
        monkeypatch, "inspect", tmp_path / "raw.npy", "--distance-m", "0.3", "--celsius", tmp_path / "out.npy"
    )
    assert code == 0
    truth = np.array([np.nan if value is None else value for value in expected["celsius"]])
    celsius = np.load(tmp_path / "out.npy").ravel()[: truth.size]
    np.testing.assert_allclose(celsius, truth, rtol=0, atol=TOLERANCE_CELSIUS, equal_nan=True)


def test_the_emissivity_of_the_host_goes_before_the_cameras(golden: Path) -> None:
    camera = inspect_frame(golden / "g2_eps095_d1.npz")
    host = inspect_frame(golden / "g2_eps095_d1.npz", overrides=EnvironmentOverrides(emissivity=1.0))
    assert camera.frame.calibration.environment.emissivity == pytest.approx(0.95)
    assert host.frame.calibration.environment.emissivity == 1.0
    hot = camera.frame.celsius > 35  # far above what it mirrors (25 °C): a lower emissivity means a hotter surface
    assert (camera.frame.celsius[hot] > host.frame.celsius[hot]).all()
    assert "emissivity 1.000" in dict(host.rows())["degrees from"]
    assert "emissivity 0.950" in dict(host.rows())["user area"]


def test_everything_about_a_golden_frame_is_printed(
    golden: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vector, _ = load(golden, "g3_eps098_d0")
    assert vivarium(monkeypatch, "inspect", golden / "g3_eps098_d0.npz") == 0
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    found = {name: value.strip() for name, value in rows.items()}
    assert found["source"] == "g3_eps098_d0.npz#0 of 1, 256 x 192"
    assert found["flags"] == "none"
    assert found["camera"].startswith("T2S+ v1, serial KA0000, firmware ")
    assert found["detector"].startswith("36.40 °C (register 7999)")
    assert "distance 0 m" in found["user area"]
    summary = vector["expected"]["summary_c"]
    assert f"min {summary['min']:.2f} °C" in found["temperatures"]
    assert f"max {summary['max']:.2f} °C" in found["temperatures"]
    assert f"centre {summary['center']:.2f}" in found["temperatures"]
    first_valid = vector["derived"]["first_valid_count"]
    assert found["degrees from"].endswith(f"first valid count {first_valid}")


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


def test_any_frame_of_a_recording_can_be_asked_for_by_its_number(recording: Path) -> None:
    decoder = FrameDecoder()
    frames = [decode_material(decoder, item) for item in open_material(recording)]
    for index in (0, 3, 5):
        report = inspect_frame(recording, index=index)
        assert report.frames == 6
        np.testing.assert_array_equal(report.frame.celsius, frames[index].celsius)
        rows = dict(report.rows())
        assert rows["source"] == f"{recording.name}#{index} of 6, 256 x 192"
        assert rows["captured"].startswith(f"2026-05-31T22:30:0{index}.")


def test_a_recording_takes_the_overrides_of_today(recording: Path) -> None:
    report = inspect_frame(recording, index=1, overrides=EnvironmentOverrides(emissivity=0.9))
    assert report.frame.calibration.environment.emissivity == 0.9
    assert report.frame.celsius.max() > inspect_frame(recording, index=1).frame.celsius.max()


@pytest.mark.parametrize("index", [-1, 6, 99])
def test_a_frame_number_beyond_the_end_says_which_there_are(index: int, recording: Path) -> None:
    with pytest.raises(MaterialError, match=f"expected a frame number from 0 to 5, got {index}"):
        inspect_frame(recording, index=index)


def test_a_refused_frame_says_why_and_the_others_can_be_inspected(golden: Path, tmp_path: Path) -> None:
    _, transfer = load(golden, "g1_eps100_d1")
    np.save(tmp_path / "stack.npy", np.stack([np.zeros_like(transfer), transfer]))
    with pytest.raises(MaterialError, match=r"stack\.npy#0 is no good frame: "):
        inspect_frame(tmp_path / "stack.npy", index=0)
    assert inspect_frame(tmp_path / "stack.npy", index=1).frame.celsius.max() > 40


def test_uncorrected_v2_degrees_come_with_a_caution(golden: Path, tmp_path: Path) -> None:
    with np.load(golden / "v2_nuc.npz") as vectors:
        np.save(tmp_path / "v2.npy", vectors["scene_frame"])
    rows = dict(inspect_frame(tmp_path / "v2.npy").rows())
    assert rows["flags"] == "uncertain"
    assert rows["caution"].startswith("these are not the true temperatures")


@pytest.fixture(scope="module")
def recorded_v2(reel: Reel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed recording of a v2: one frame before its shutter was seen, one corrected, one without a gain map."""
    offset = average_offset([blade[:IMAGE_HEIGHT] for blade in reel.raw_blade])
    header = RecordingHeader(
        box="b", block_key=None, start_utc_ns=0, period_ns=1, accounted_from_utc_ns=0, end_utc_ns=3, variant="v2"
    )
    path = tmp_path_factory.mktemp("v2") / "v2.mkv"
    decoder = FrameDecoder()
    gained, bare = HostCorrection(offset=offset, gain=reel.gain), HostCorrection(offset=offset, gain=None)
    with RecordingWriter(path, header) as writer:
        for number, decoder.correction in enumerate((None, gained, bare)):
            payload = reel.raw[number].tobytes()
            raw = RawFrame(sequence=number, captured_utc_ns=number, captured_monotonic_ns=number, payload=payload)
            writer.append(decoder.decode(raw), planned_utc_ns=None)
    return path


def test_a_recorded_v2_frame_is_corrected_as_it_was(recorded_v2: Path, reel: Reel) -> None:
    report = inspect_frame(recorded_v2, index=1)
    correction = HostCorrection(
        offset=average_offset([blade[:IMAGE_HEIGHT] for blade in reel.raw_blade]), gain=reel.gain
    )
    decoder = FrameDecoder()
    decoder.correction = correction
    np.testing.assert_array_equal(report.frame.celsius, decoder.decode(report.item.raw).celsius)
    rows = dict(report.rows())
    assert rows["flags"] == "none"
    assert "caution" not in rows
    assert rows["host correction"].startswith(f"offset {correction.offset.min()}..{correction.offset.max()}, mean ")
    assert rows["host correction"].endswith("gain map with 5 dead pixels")


@pytest.mark.parametrize(
    ("index", "why"),
    [
        pytest.param(0, "this v2 camera had shown no picture of its closed shutter yet", id="before its shutter"),
        pytest.param(2, "there was no gain map of this v2 camera", id="no gain map"),
    ],
)
def test_the_caution_says_what_a_recorded_v2_lacked(recorded_v2: Path, index: int, why: str) -> None:
    rows = dict(inspect_frame(recorded_v2, index=index).rows())
    assert rows["caution"] == f"these are not the true temperatures: {why}"


def test_the_caution_says_when_a_recording_does_not_hold_the_correction(recorded_v2: Path, tmp_path: Path) -> None:
    record = json.loads(recorded_v2.with_suffix(".json").read_bytes())
    del record["corrections"], record["correction_words"], record["frames"]["correction"]
    (tmp_path / "v2.json").write_text(json.dumps(record))
    shutil.copy(recorded_v2, tmp_path)
    rows = dict(inspect_frame(tmp_path / "v2.mkv", index=1).rows())
    assert "the recording does not hold the host correction of this v2 camera" in rows["caution"]


def test_degrees_of_others_come_without_the_figures_of_a_camera(tmp_path: Path) -> None:
    given = np.linspace(20, 30, 192 * 256, dtype=np.float32).reshape(192, 256)
    given[0, :3] = np.nan
    np.save(tmp_path / "degrees.npy", given)
    report = inspect_frame(tmp_path / "degrees.npy", overrides=EnvironmentOverrides(emissivity=0.5))
    np.testing.assert_allclose(report.frame.celsius, given, atol=0.02)
    rows = dict(report.rows())
    assert rows["flags"] == "estimated"
    assert rows["camera"].startswith("not known")
    assert {"detector", "shutter", "constants", "degrees from", "counts"}.isdisjoint(rows)
    assert rows["without temperature"] == "3 of 49152 pixels"


def test_false_colours_need_a_scale_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = np.tile(np.arange(256, dtype=np.uint8), (192, 1))
    cv2.imwrite(str(tmp_path / "ramp.png"), cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO))
    with pytest.raises(UnscaledColoursError):
        inspect_frame(tmp_path / "ramp.png")
    report = inspect_frame(tmp_path / "ramp.png", range_celsius=(20, 40))
    assert report.frame.celsius[96, 128] == pytest.approx(30, abs=0.2)
    readings = (ReadingSettings(x=0, y=90, celsius=20), ReadingSettings(x=255, y=90, celsius=40))
    assert inspect_frame(tmp_path / "ramp.png", readings=readings).frame.celsius[96, 64] == pytest.approx(25, abs=0.5)
    assert vivarium(monkeypatch, "inspect", tmp_path / "ramp.png", "--range", "20", "40") == 0
    assert vivarium(monkeypatch, "inspect", tmp_path / "ramp.png", "--reading", "1,2") == 2
    assert "--reading: expected X,Y,CELSIUS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["nothing.npy"], "error: nothing.npy: there is no such file or folder\n", id="no such file"),
        pytest.param(["text.txt"], "error: text.txt: expected a file ending in ", id="no material"),
        pytest.param(["raw.npy", "--celsius", "raw.npy"], "error: --celsius: raw.npy is the file that is", id="itself"),
        pytest.param(
            ["raw.npy", "--celsius", "no/folder/out.npy"],
            "error: --celsius: no/folder/out.npy cannot be written: No such file or directory\n",
            id="no folder",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    golden: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _, transfer = load(golden, "g1_eps100_d1")
    np.save("raw.npy", transfer)
    Path("text.txt").write_text("")
    assert vivarium(monkeypatch, "inspect", *arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert printed.count("\n") == 1
    np.testing.assert_array_equal(np.load("raw.npy"), transfer)
