"""Corrections of who is who: rows, minutes and events are what they would be had it been right from the start."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daemon.identity_correction import Correction, CorrectionKind
from daemon.identity_corrector import IdentityCorrector, Made
from daemon.minute_value import MinuteValue
from daemon.minute_values import collector_of
from daemon.observation import AnimalObservation, FrameObservation, GroupObservation
from daemon.settings import parse_settings
from daemon.store.repository import Store, open_store
from drivers.camera import CameraInfo
from drivers.clock import SimulatedClock
from tests.observations import SECOND_NS, START_UTC_NS, frame, rat

CONFIG = """
[box]
time_zone = "UTC"
[measure]
animals = 3
outside_rate_hz = {rate}
[schedule.strata]
night = ["20:00"]
[[zone]]
name = "nest"
kind = "nest"
polygon = [[10, 10], [120, 10], [120, 100], [10, 100]]
"""
CAMERA = CameraInfo(kind="simulated", product="T2S+", serial="S", firmware="", location="", frame_rate_hz=25.0)
SWAP = Correction(kind=CorrectionKind.SWAP, animal=1, other=2)


def assign(track: int, animal: int | None) -> Correction:
    return Correction(kind=CorrectionKind.ASSIGN, track=track, animal=animal)


def followed(each: AnimalObservation, track: int, **known: object) -> AnimalObservation:
    return replace(each, track=track, **{"probability": 0.99, **known})  # type: ignore[arg-type]


def film(minutes: float, *, every_s: float, seed: int = 1) -> Iterator[FrameObservation]:
    """Three rats: named, for some minutes two that are not, now and then a group; some frames lack one of them."""
    luck = np.random.default_rng(seed)
    places = luck.uniform(40, 150, (3, 2))
    for number in range(round(minutes * 60 / every_s)):
        second = number * every_s
        if luck.random() < 0.7:
            places = np.clip(places + luck.normal(0, 3, (3, 2)), 20, 170)
        warmth = luck.normal((36.0, 37.5, 35.0), 0.2)
        shown = [
            rat(one + 1, at=tuple(places[one]), eye=warmth[one] + 1, body=warmth[one] - 4, tail=warmth[one] - 9)
            for one in range(3)
        ]
        animals = [followed(each, one + 1) for one, each in enumerate(shown)]
        if 3 <= second / 60 % 10 < 5:
            share = luck.uniform(0.5, 0.9)
            animals[0] = followed(shown[0], 4, animal=None, probability=share, candidates=(1, 3))
            animals[2] = followed(shown[2], 5, animal=None, probability=share, candidates=(1, 3))
        groups: tuple[GroupObservation, ...] = ()
        if 7 <= second / 60 % 10 < 8:
            animals[1:] = [
                followed(shown[1], 6, animal=None, probability=None, candidates=(2, 3), group=6, posture=None)
            ]
            groups = (
                GroupObservation(number=6, members=(2, 3), size=2, area_px=490, mean_celsius=31.0, max_celsius=38.0),
            )
        elif luck.random() < 0.1:
            del animals[1]
        animals.sort(key=lambda each: (each.animal is None, each.animal or each.key))
        yield replace(frame(second, *animals), groups=groups)


class Box:
    """A database with what a service would have stored of some frames."""

    def __init__(self, store: Store, path: Path, frames: Sequence[FrameObservation], *, rate: float) -> None:
        self.store, self.path, self.frames = store, path, frames
        self.settings = parse_settings(CONFIG.format(rate=rate), origin="test")
        self.clock = SimulatedClock(frames[-1].captured_utc_ns + 3600 * SECOND_NS)
        self.run_id = self.begin(frames[0].captured_utc_ns)
        self.camera_id = store.register_camera(CAMERA, "v1")
        store.add(frames, run_id=self.run_id, camera_id=self.camera_id, minute_values=self.minutes_of(frames))
        self.corrector = IdentityCorrector(store, self.settings, self.clock)

    def begin(self, utc_ns: int) -> int:
        return self.store.start_run(
            version="1",
            config_hash="h",
            config_json=self.settings.to_json(),
            segmenter="s",
            host="box",
            boot_id="b",
            started_utc_ns=utc_ns,
        )

    def minutes_of(self, frames: Sequence[FrameObservation]) -> list[MinuteValue]:
        """As the service collects them."""
        collector = collector_of(lambda: self.settings)
        return [value for each in frames for value in collector.add(each)] + collector.finish()

    def correct(self, correction: Correction, since_s: float, until_s: float | None = None) -> Made:
        return self.corrector.correct(
            correction,
            from_utc_ns=at(since_s),
            until_utc_ns=None if until_s is None else at(until_s),
            by="Ana",
            reason="the ear mark",
        )

    def right(self, correction: Correction, since_s: float, until_s: float = 1e9) -> list[FrameObservation]:
        """The frames as they would be had it been right from the start."""
        return [
            correction.corrected(each) if at(since_s) <= each.captured_utc_ns < at(until_s) else each
            for each in self.frames
        ]

    def minutes(self) -> set[MinuteValue]:
        return set(self.store.minute_values(since_utc_ns=0, until_utc_ns=2**62))

    def stored(self) -> list[FrameObservation]:
        with self.store.correction_rows() as rows:
            return list(rows.observations(range(1, rows.last_frame_id() + 1)).values())

    def dump(self) -> dict[str, list[tuple[object, ...]]]:
        """All rows of what may be corrected."""
        tables = ("part_observation", "identity_observation", "shape_observation", "minute_value", "frame")
        with closing(sqlite3.connect(self.path)) as connection:
            return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3").fetchall() for name in tables}


def at(second: float) -> int:
    return START_UTC_NS + round(second * SECOND_NS)


@contextmanager
def box_of(folder: Path, frames: Iterator[FrameObservation], *, rate: float) -> Iterator[Box]:
    path = folder / "vivarium.db"
    with open_store(f"sqlite:///{path}", outbox_limit=100) as store:
        yield Box(store, path, list(frames), rate=rate)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """Twelve minutes at one frame a second."""
    with box_of(tmp_path, film(12, every_s=1), rate=1) as box:
        yield box


def bare(frames: Sequence[FrameObservation]) -> list[FrameObservation]:
    """Without who changed it, and without what it was."""
    return [
        replace(each, animals=tuple(replace(animal, correction=None, before=()) for animal in each.animals))
        for each in frames
    ]


@pytest.mark.parametrize(
    ("correction", "since_s", "until_s"),
    [
        pytest.param(SWAP, 130.5, None, id="swap to the end"),
        pytest.param(SWAP, 130, 500.2, id="swap for a while"),
        pytest.param(Correction(kind=CorrectionKind.SWAP, animal=3, other=2), 0, None, id="swap of everything"),
        pytest.param(assign(4, 1), 100, 260, id="a track that was not known"),
        pytest.param(assign(3, None), 10, None, id="a track that nobody knows any more"),
        pytest.param(assign(2, 2), 100, 400, id="a person agrees"),
    ],
)
def test_rows_and_minutes_are_as_if_it_had_been_right_from_the_start(
    box: Box, correction: Correction, since_s: float, until_s: float | None
) -> None:
    before = box.dump()
    made = box.correct(correction, since_s, until_s)
    right = box.right(correction, since_s, 1e9 if until_s is None else until_s)
    assert bare(box.stored()) == bare(right)
    assert box.minutes() == set(box.minutes_of(right))
    assert box.corrector.undo(made.number, by="Ana").number == made.number
    assert box.dump() == before


def test_to_swap_twice_is_to_swap_not_at_all(box: Box) -> None:
    before, minutes = box.stored(), box.minutes()
    box.correct(SWAP, 100)
    box.correct(SWAP, 100)
    named = [[(each.key, each.animal, each.candidates) for each in observation.animals] for observation in box.stored()]
    assert named == [
        [(each.key, each.animal, each.candidates) for each in observation.animals] for observation in before
    ]
    assert box.minutes() == minutes


def test_a_corrected_name_is_a_persons_word_and_has_no_posterior(box: Box) -> None:
    made = box.correct(SWAP, 60, 120)
    for each in box.stored():
        within = at(60) <= each.captured_utc_ns < at(120)
        for animal in each.animals:
            if animal.animal in (1, 2) and within:
                assert (animal.probability, animal.correction) == (None, made.number)
            else:
                assert (animal.probability, animal.correction) == (0.99, None)
