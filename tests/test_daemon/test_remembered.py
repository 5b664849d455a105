"""Who is who after a restart: what the database says is gone on from, unless it is old or was not sure."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from daemon.observation import AnimalObservation
from daemon.pipeline import Pipeline
from daemon.remembered import AWAY_S, MOST_FRAMES, known_before, remembered
from daemon.store.repository import open_store
from daemon.store.sightings import AnimalThen, PartThen, SeenThen
from daemon.track import KnownThen, Tracker
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.parts import BodyPart, Segmentation
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S, SimulatedClock
from tests.observations import START_UTC_NS, frame, rat

LEFT, RIGHT = (60.0, 100.0), (200.0, 100.0)
NOW_MONOTONIC_NS = 5 * NS_PER_S
"""The machine was started anew as well."""
CAMERA = CameraInfo(
    kind="simulated", product="T2S+", serial="S1", firmware="1.0", location="seed 1", frame_rate_hz=25.0
)


def seen(second: float, *animals: AnimalObservation) -> SeenThen:
    at_ns = START_UTC_NS + round(second * NS_PER_S)
    return SeenThen(captured_utc_ns=at_ns, background_celsius=22.0, animals=tuple(map(then, animals)))


def then(animal: AnimalObservation) -> AnimalThen:
    parts = (
        PartThen(part=one.part, x_px=one.x_px, y_px=one.y_px, area_px=one.area_px, mean_celsius=one.mean_celsius)
        for one in animal.parts
    )
    return AnimalThen(key=animal.key, animal=animal.animal, parts=tuple(parts))


def known(frames: Sequence[SeenThen], *, away_s: float = 5.0, animals: int = 2) -> list[KnownThen]:
    return known_before(
        frames,
        animals=animals,
        now_utc_ns=frames[-1].captured_utc_ns + round(away_s * NS_PER_S),
        now_monotonic_ns=NOW_MONOTONIC_NS,
    )


def minute(celsius: tuple[float, float] = (32.0, 31.0)) -> list[SeenThen]:
    """Number 2 lies left, number 1 right."""
    return [seen(second, rat(2, at=LEFT, body=celsius[1]), rat(1, at=RIGHT, body=celsius[0])) for second in range(60)]


def names(tracker: Tracker, *places: tuple[float, float, float]) -> dict[int, int | None]:
    """Of bodies at these places, with this temperature, seen just after the start."""
    instances, celsius = np.zeros((192, 256), np.uint8), np.full((192, 256), 22, np.float32)
    for instance, (x, y, degrees) in enumerate(places, start=1):
        own = slice(int(y) - 10, int(y) + 10), slice(int(x) - 10, int(x) + 10)
        instances[own], celsius[own] = instance, degrees
    parts = np.where(instances > 0, np.uint8(BodyPart.BODY), np.uint8(0))
    found = tracker.follow(Segmentation(parts=parts, instances=instances), celsius, NOW_MONOTONIC_NS)
    return {instance: each.animal for instance, each in found.instances.items()}


def test_after_a_restart_those_that_stayed_have_their_numbers() -> None:
    tracker = Tracker(2)
    tracker.restore(known(minute()))
    assert names(tracker, (*LEFT, 31.0), (*RIGHT, 32.0)) == {1: 2, 2: 1}


def test_those_that_went_and_look_alike_are_not_named() -> None:
    tracker = Tracker(2)
    tracker.restore(known(minute((32.0, 32.0)), away_s=30.0))
    assert names(tracker, (130, 30, 32.0), (130, 170, 32.0)) == {1: None, 2: None}


def test_what_is_too_old_is_not_gone_on_from() -> None:
    assert known(minute(), away_s=AWAY_S - 1)
    assert not known(minute(), away_s=AWAY_S + 1)


def test_nothing_is_gone_on_from_while_one_was_not_known() -> None:
    unsure = replace(rat(1, at=RIGHT), animal=None, track=7)
    assert not known([*minute(), seen(60, rat(2, at=LEFT), unsure)])


def test_one_that_was_out_of_sight_for_long_leaves_the_others_unknown_too() -> None:
    later = [seen(second, rat(2, at=LEFT)) for second in range(60, 180, 5)]
    assert not known([*minute(), *later])
    assert known([*minute(), *later[:5]])


def test_of_other_animals_than_live_here_nothing_is_known() -> None:
    assert not known(minute(), animals=3)
    assert not known(minute(), animals=1)


def test_the_looks_of_animals_that_lay_together_are_not_learnt() -> None:
    together = known([seen(0, rat(1, at=LEFT), rat(2, at=(70.0, 100.0)))])
    assert [each.apart for each in together] == [False, False]
    assert all(each.apart for each in known(minute()))


def test_the_store_gives_the_newest_frames_back_and_a_pipeline_goes_on_from_them(tmp_path: Path) -> None:
    clock = SimulatedClock(START_UTC_NS + 705 * NS_PER_S)
    with open_store(f"sqlite:///{tmp_path / 'vivarium.db'}", outbox_limit=10) as store:
        run_id = store.start_run(
            version="1", config_hash="a", config_json="{}", segmenter="s", models={}, host="h", boot_id="b",
            started_utc_ns=START_UTC_NS,
        )  # fmt: skip
        camera_id = store.register_camera(CAMERA, "v1")
        blind = frame(702, not_measured="shutter")
        frames = [frame(second, rat(1, at=RIGHT), rat(2, at=LEFT)) for second in range(701)]
        store.add([*frames, blind], run_id=run_id, camera_id=camera_id)
        found = store.seen_since(START_UTC_NS + 41 * NS_PER_S, at_most=MOST_FRAMES)
        assert (len(found), found[-1].captured_utc_ns) == (220, START_UTC_NS + 700 * NS_PER_S)
        assert [each.animal for each in found[-1].animals] == [1, 2]
        past = remembered(store, animals=2, clock=clock)
    ended_s = clock.monotonic_ns() / NS_PER_S - 5
    assert [(each.animal, each.at_s) for each in past[-2:]] == [(1, ended_s), (2, ended_s)]
    pipeline = Pipeline(ClassicalSegmenter(2, 150), animals=2, mm_per_px=None)
    pipeline.restore(past)


def test_an_empty_database_remembers_nothing(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'vivarium.db'}", outbox_limit=10) as store:
        assert remembered(store, animals=1, clock=SimulatedClock(START_UTC_NS)) == []
