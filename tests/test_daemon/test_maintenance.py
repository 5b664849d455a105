"""Work at the cage counts for no measure, table or map, and is seen on the picture."""

from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from typer.testing import CliRunner

from daemon.live import LiveView
from daemon.maintenance import Maintenance, Reason, begun, in_minute, in_words, minutes_at_work
from daemon.measures_cli import measures_app
from daemon.messaging.payloads import event_message
from daemon.minute_value import MinuteValue
from daemon.minute_values import REMEMBERED_MINUTES, MinuteCollector
from daemon.observation import FrameObservation
from daemon.overlay import draw
from daemon.pipeline import Measured
from daemon.settings import load_settings
from daemon.store.repository import open_store
from daemon.vision.parts import Segmentation
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.simulated import SimulatedCamera
from tests.databases import ON_BOTH
from tests.observations import MINUTE_NS, SECOND_NS, START_UTC_NS, frame, rat

CAMERA = CameraInfo(kind="simulated", product="T2S+", serial="S1", firmware="1", location="seed 1", frame_rate_hz=25.0)
BANNER_BGR = (60, 190, 255)


def work(first_s: float, last_s: float, *, by: str = "Ana", reason: Reason = Reason.CAGE_CHANGE) -> Maintenance:
    """From one second after the start to another."""
    return begun(
        reason,
        at_utc_ns=START_UTC_NS + round(first_s * SECOND_NS),
        end_utc_ns=START_UTC_NS + round(last_s * SECOND_NS),
        by=by,
    )[0]


def collected(frames: list[FrameObservation], *stretches: Maintenance) -> list[MinuteValue]:
    minutes = MinuteCollector(animals=1, mm_per_px=None, due=lambda _minute: 60.0, maintenance=lambda: stretches)
    return [value for each in frames for value in minutes.add(each)] + minutes.finish()


def of_minute(values: list[MinuteValue], minute: int) -> dict[str, MinuteValue]:
    return {each.measure: each for each in values if each.minute_utc_ns == START_UTC_NS + minute * MINUTE_NS}


def test_a_minute_with_a_moment_of_work_has_no_value_of_anything() -> None:
    values = collected([frame(second, rat()) for second in range(180)], work(119, 119.5))
    before, at_work, after = (of_minute(values, minute) for minute in range(3))
    assert set(at_work) == {"frames_coverage", "animals_seen", "seen_share"}
    assert [(each.value, each.coverage, each.samples) for each in at_work.values()] == [(None, 0, 0)] * 3
    assert (before["frames_coverage"].value, after["frames_coverage"].value) == (1, 1)
    assert before["skin_max_celsius"].value == after["skin_max_celsius"].value == 36


def test_what_ended_at_once_or_lies_beside_a_minute_is_none_of_it() -> None:
    values = collected([frame(second, rat()) for second in range(120)], work(30, 30), work(120, 180))
    assert of_minute(values, 0)["frames_coverage"].value == 1
    assert of_minute(values, 1)["frames_coverage"].value == 1


def test_the_mean_of_thirty_minutes_does_not_count_a_hand_in_the_cage() -> None:
    """32 minutes at 36 °C with five in between at 40 °C: a hand."""
    frames = [frame(second, rat(eye=40.0 if 600 <= second < 900 else 36.0)) for second in range(32 * 60)]
    tainted = of_minute(collected(frames), 31)["skin_max_30min_celsius"].value
    assert tainted == pytest.approx((25 * 36 + 5 * 40) / 30)
    assert of_minute(collected(frames, work(600, 900)), 31)["skin_max_30min_celsius"].value == pytest.approx(36)


def test_an_animal_that_was_moved_has_walked_nowhere() -> None:
    frames = [frame(second, rat(at=(50.0 if second < 90 else 200.0, 80))) for second in range(180)]
    values = collected(frames, work(85, 95))
    ways = [of_minute(values, minute).get("distance_px") for minute in range(3)]
    assert [None if way is None else way.value for way in ways] == [0, None, 0]


@pytest.fixture
def folder(database_url: str, tmp_path: Path) -> Iterator[Path]:
    """A box whose values and frames were stored before anybody said that there was maintenance in minute 1."""
    frames = [frame(second, rat(at=(100 + 2.0 * (second % 20), 100))) for second in range(180)]
    with open_store(database_url, outbox_limit=100) as store:
        run_id = store.start_run(
            version="1",
            config_hash="a",
            config_json="{}",
            segmenter="s",
            host="h",
            boot_id="b",
            started_utc_ns=START_UTC_NS,
        )
        camera_id = store.register_camera(CAMERA, "v1")
        store.add(frames, run_id=run_id, camera_id=camera_id, minute_values=collected(frames))
        stretch, event = begun(
            Reason.DOSING, at_utc_ns=START_UTC_NS + 70 * SECOND_NS, end_utc_ns=START_UTC_NS + 80 * SECOND_NS, by="Ana"
        )
        store.keep_maintenance(stretch, run_id=run_id, event=event, tell=event_message)
    (tmp_path / "config.toml").write_text(
        f'[box]\ndata_dir = "{tmp_path}"\ntime_zone = "Etc/UTC"\n[database]\nurl = "{database_url}"\n'
    )
    yield tmp_path


def read(folder: Path, measures: list[str] | None = None) -> list[MinuteValue]:
    with open_store(load_settings(folder / "config.toml").database_url, outbox_limit=100) as store:
        return list(
            store.minute_values(since_utc_ns=START_UTC_NS, until_utc_ns=START_UTC_NS + 3 * MINUTE_NS, measures=measures)
        )


@ON_BOTH
def test_what_is_stored_of_a_minute_of_work_is_not_read(folder: Path) -> None:
    values = read(folder)
    assert all(each.value is None and each.coverage == 0 for each in of_minute(values, 1).values())
    skin = [each.value for each in read(folder, measures=["skin_max_celsius"])]
    assert skin == [36, None, 36]


def test_a_collector_that_goes_on_remembers_nothing_of_it(folder: Path) -> None:
    minutes = MinuteCollector(animals=1, mm_per_px=None, due=lambda _minute: 60.0)
    minutes.remember(read(folder))
    found = [value for second in range(180, 180 + 18 * 60) for value in minutes.add(frame(second, rat()))]
    assert REMEMBERED_MINUTES > 20
    last = of_minute(found + minutes.finish(), 20)["skin_max_30min_celsius"]
    assert last.value == pytest.approx(36)  # 20 of 30 minutes; with minute 1 they would be 21
    assert of_minute(found, 19)["skin_max_30min_celsius"].value is None


def printed(folder: Path, *arguments: str) -> tuple[str, str]:
    """What a command prints, and the table that it writes."""
    output = folder / "out.csv"
    options = ["--from", "2026-11-18", "--to", "2026-11-19", "-o", str(output), "-c", str(folder / "config.toml")]
    if arguments and not arguments[0].startswith("-"):
        arguments, options = arguments[1:], [arguments[0], *options]
    result = CliRunner().invoke(measures_app, [*options, *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output, output.read_text()


@ON_BOTH
def test_tables_say_where_it_was_and_count_nothing_of_it(folder: Path) -> None:
    said, table = printed(folder, "--measure", "body_mean_celsius")
    assert "maintenance of 1 min counts for nothing" in said
    header, *rows = [row.split(",") for row in table.splitlines()]
    assert [row[header.index("maintenance")] for row in rows] == ["", "dosing", ""]
    said, table = printed(folder, "map", "--animal", "1", "--cell", "64")
    assert "maintenance of 1 min counts for nothing" in said
    seconds = sum(float(row.split(",")[2]) for row in table.splitlines()[1:])
    assert seconds == pytest.approx(69 + 99)  # to second 69, and from second 80 on
    said, _ = printed(folder, "rhythm", "--measure", "body_mean_celsius")
    assert "maintenance of 1 min counts for nothing" in said


def test_minutes_are_counted_as_wholes() -> None:
    assert in_minute([work(70, 80)], START_UTC_NS) is None
    assert minutes_at_work([work(70, 80), work(75, 125)], START_UTC_NS, START_UTC_NS + 10 * MINUTE_NS) == 2


def test_the_words_tell_since_when_by_whom_and_why() -> None:
    assert in_words([], ZoneInfo("Etc/UTC")) is None
    stretches = [work(0, 60), work(30, 90, by="Rui", reason=Reason.WEIGHING)]
    assert in_words(stretches, ZoneInfo("Etc/UTC")) == "maintenance since 11:07, by Ana, Rui: cage change, weighing"


def test_the_picture_says_it_until_it_is_over() -> None:
    empty = np.zeros((192, 256), np.uint8)
    said: list[str | None] = ["maintenance since 10:02, by João: cage change"]
    live = LiveView(lambda: said[-1])
    with SimulatedCamera.create(clock=SimulatedClock(1_790_046_000 * NS_PER_S)) as camera:
        shown = camera.read(1)
    measured = Measured(observation=frame(0), segmentation=Segmentation(parts=empty, instances=empty))
    live.show(shown, measured)
    with_words = live.picture()
    assert with_words == live.picture() == live.picture_of(shown, measured)
    said.append(None)
    assert live.picture() != with_words
    for scale in (1, 3):
        picture = draw(shown.celsius, measured.segmentation, measured.observation, scale=scale, banner="x" * 500)
        bar = (picture == BANNER_BGR).all(axis=2)
        assert bar[-1].all()
        assert not bar[: 180 * scale].any()
        assert (picture[-10 * scale :, -5 * scale :] == BANNER_BGR).all(), "long words are cut off before the edge"
