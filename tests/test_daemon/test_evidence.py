"""Evidence: files that are there as the event says, within their budget, and an event without them on a full disk."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from daemon.events import Event, EventKind, EventState, Severity
from daemon.evidence import FOLDER, MOST_FRAMES, EvidenceFiles, EvidenceFolder, FrameAlbum
from daemon.evidence_plot import HEIGHT_PX, WIDTH_PX, plot
from daemon.plot_data import PlotData

MINUTE_NS = 60_000_000_000


def event(number: int = 1) -> Event:
    return Event(
        kind=EventKind.FEVER,
        state=EventState.OPENED,
        severity=Severity.ALERT,
        at_utc_ns=1_795_000_000_000_000_000 + number,
        event_id=f"{number:032x}",
        data={"rule": "fever"},
    )


def test_an_event_names_the_files_that_lie_below_the_data_directory(tmp_path: Path) -> None:
    told = EvidenceFolder(tmp_path, 10_000).attach(event(), plot=b"plot", frames=[(5, b"one"), (6, b"two")])
    assert told.data["plot"] == f"evidence/2026-11-18/{event().event_id}/plot.png"
    assert (tmp_path / str(told.data["frame_2"])).read_bytes() == b"two"
    assert (told.data["frame_1_utc_ns"], told.data["rule"]) == (5, "fever")
    files = EvidenceFiles(tmp_path)
    assert files(event().event_id, "plot") == b"plot"
    assert files(event().event_id, "frame_3") is files("f" * 32, "plot") is None


def test_the_oldest_gives_way_to_the_budget(tmp_path: Path) -> None:
    folder = EvidenceFolder(tmp_path, 250)
    for number in range(1, 6):
        folder.attach(event(number), plot=b"x" * 100, frames=[])
        left = sum(path.stat().st_size for path in tmp_path.rglob("*.png"))
        assert left <= 250
    assert [EvidenceFiles(tmp_path)(event(number).event_id, "plot") is not None for number in range(1, 6)] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_what_an_earlier_start_left_is_looked_at_once_and_gives_way_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = EvidenceFolder(tmp_path, 250)
    for number in (1, 2):
        before.attach(event(number), plot=b"x" * 100, frames=[])
    look, looks = Path.glob, 0

    def counted(path: Path, pattern: str) -> Iterator[Path]:
        nonlocal looks
        looks += 1
        return iter(look(path, pattern))

    monkeypatch.setattr(Path, "glob", counted)
    folder = EvidenceFolder(tmp_path, 250)
    folder.attach(event(3), plot=b"x" * 100, frames=[])
    shutil.rmtree(tmp_path / FOLDER / "2026-11-18" / event(2).event_id)  # by hand
    for number in (4, 5):
        told = folder.attach(event(number), plot=b"x" * 100, frames=[])
        assert "plot" in told.data
    assert looks == 1
    assert {path.parent.name for path in tmp_path.rglob("*.png")} == {event(number).event_id for number in (4, 5)}


def test_the_disk_is_waited_for_when_all_files_of_an_event_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    monkeypatch.setattr(os, "fsync", lambda _file: written.append([path.name for path in tmp_path.rglob("*.png")]))
    EvidenceFolder(tmp_path, 10_000).attach(event(), plot=b"plot", frames=[(5, b"one"), (6, b"two")])
    assert [sorted(each) for each in written] == [["frame_1.png", "frame_2.png", "plot.png"]] * 4  # and the folder


def test_an_event_is_told_without_pictures_where_they_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("a file stands in the way")
    told = EvidenceFolder(tmp_path, 10_000).attach(event(), plot=b"plot", frames=[])
    assert "plot" not in told.data
    assert told.data["evidence_error"]
    assert EvidenceFolder(tmp_path, 0).attach(event(), plot=b"plot", frames=[]) == event()
    too_much = EvidenceFolder(tmp_path, 3).attach(event(), plot=b"plot", frames=[])
    assert "plot" not in too_much.data


def test_frames_are_of_begin_middle_and_end(tmp_path: Path) -> None:
    album = FrameAlbum()
    for minute in range(90):
        for second in (0, 30):
            at = minute * MINUTE_NS + second * 1_000_000_000
            if album.wants(at):
                album.add(at, b"%d" % minute)
    chosen = album.choose(50 * MINUTE_NS, 80 * MINUTE_NS)
    assert [png for _, png in chosen] == [b"50", b"70", b"80"]
    assert len(chosen) == MOST_FRAMES
    assert [png for _, png in album.choose(0, 40 * MINUTE_NS)] == [b"30", b"40"]  # of an hour ago is the oldest
    assert album.choose(85 * MINUTE_NS, 20 * MINUTE_NS) == []


def test_of_an_hour_few_pictures_are_kept_most_of_them_new() -> None:
    album = FrameAlbum()
    for minute in range(90):
        album.add(minute * MINUTE_NS, b"%d" % minute)
    kept = {int(png) for minute in range(90) for _, png in album.choose(minute * MINUTE_NS, minute * MINUTE_NS)}
    assert kept == {30, 40, 50, 60, 70, *range(80, 90)}


def test_a_plot_shows_measure_band_threshold_and_coverage() -> None:
    minutes = np.arange(360)
    wave = 36 + np.sin(minutes / 60)
    values = wave.copy()
    values[100:160] = np.nan
    picture = plot(
        PlotData(
            title="fever, animal 1",
            measure="skin_max_30min_celsius",
            steps=minutes,
            step_s=60,
            values=values,
            coverage=np.where(np.isfinite(values), 0.8, 0.0),
            low=wave - 0.5,
            high=wave + 0.5,
            thresholds=wave + 1,
            at_work=(minutes >= 20) & (minutes < 60),
            since=300,
            local_s=(minutes + 1000) * 60,
        )
    )
    assert picture.shape == (HEIGHT_PX, WIDTH_PX, 3)

    def has(colour: tuple[int, int, int], columns: slice) -> bool:
        return bool((picture[:, columns] == colour).all(axis=2).any())

    blue, red, green = (150, 80, 20), (40, 40, 200), (90, 160, 90)
    hole = slice(230, 300)  # minutes 110 to 150
    assert has(blue, slice(60, 200)) and has(red, slice(60, 200)) and has(green, slice(60, 200))
    assert not has(blue, hole) and not has(green, hole) and has(red, hole)
    assert cv2.imencode(".png", picture)[0]


def test_a_plot_of_nothing_is_a_plot() -> None:
    empty = np.full(60, np.nan)
    data = PlotData(
        title="a",
        measure="b",
        steps=np.arange(60),
        step_s=60,
        values=empty,
        coverage=np.zeros(60),
        low=empty,
        high=empty,
        thresholds=empty,
        at_work=np.zeros(60, np.bool_),
        since=None,
        local_s=np.arange(60) * 60,
    )
    assert plot(data).shape == (HEIGHT_PX, WIDTH_PX, 3)
