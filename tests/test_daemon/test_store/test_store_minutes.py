"""Values of minutes in the database, and what a frame says beside its parts."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import create_engine

from daemon.minute_value import MinuteValue
from daemon.observation import FrameObservation
from daemon.store.minutes import clear_minute_values
from daemon.store.repository import Store
from daemon.vision.parts import BodyPart
from drivers.errors import StoreRejectedError
from tests.databases import change
from tests.observations import MINUTE_NS, SECOND_NS, START_UTC_NS, part, rat

Ids = tuple[int, int]


def value(
    minute: int = 0,
    animal: int | None = 1,
    measure: str = "curl",
    *,
    number: float | None = 0.5,
    samples: int = 60,
    uncertainty: float | None = None,
) -> MinuteValue:
    return MinuteValue(
        measure=measure,
        minute_utc_ns=START_UTC_NS + minute * MINUTE_NS,
        animal=animal,
        value=number,
        uncertainty=uncertainty,
        coverage=samples / 60,
        samples=samples,
    )


def put(store: Store, run_id: int, *values: MinuteValue) -> None:
    store.add([], run_id=run_id, camera_id=None, minute_values=values)


def all_of(store: Store, **chosen: object) -> list[MinuteValue]:
    end_utc_ns = START_UTC_NS + 1000 * MINUTE_NS
    return list(store.minute_values(since_utc_ns=START_UTC_NS, until_utc_ns=end_utc_ns, **chosen))  # type: ignore[arg-type]


def test_values_come_back_as_they_were_in_order_of_time_animal_and_measure(store: Store, ids: Ids) -> None:
    stored = [
        value(0, None, "ambient_celsius", number=22.5),
        value(0, 1, "body_mean_celsius", number=32.25, uncertainty=0.2),
        value(0, 1, "curl", number=None, samples=3),
        value(0, 2),
        value(1, 1),
    ]
    put(store, ids[0], *stored[::-1])
    assert all_of(store) == stored


def test_values_are_read_by_animal_measure_and_time(store: Store, ids: Ids) -> None:
    stored = [value(minute, animal, name) for minute in range(3) for animal in (None, 1, 2) for name in ("a", "b")]
    put(store, ids[0], *stored)
    assert all_of(store, animals=[2], measures=["b"]) == [value(minute, 2, "b") for minute in range(3)]
    assert all_of(store, animals=[None]) == [each for each in stored if each.animal is None]
    found = store.minute_values(since_utc_ns=START_UTC_NS + MINUTE_NS, until_utc_ns=START_UTC_NS + 2 * MINUTE_NS)
    assert {each.minute_utc_ns for each in found} == {START_UTC_NS + MINUTE_NS}


def test_of_two_halves_of_a_minute_the_one_with_more_samples_stays(store: Store, ids: Ids) -> None:
    put(store, ids[0], value(number=0.2, samples=35))
    put(store, ids[0], value(number=0.9, samples=20))
    assert all_of(store) == [value(number=0.2, samples=35)]
    put(store, ids[0], value(number=0.7, samples=40))
    assert all_of(store) == [value(number=0.7, samples=40)]


def test_clearing_takes_what_these_runs_stored_and_does_not_touch_others(
    store: Store, ids: Ids, begin_run: Callable[[Store], Ids]
) -> None:
    put(store, ids[0], *(value(minute, animal) for minute in range(3) for animal in (1, 2)))
    put(store, begin_run(store)[0], value(1, 1, "rest_share"))
    with store.correcting(run_id=ids[0]) as rows:
        rows.clear_minutes(
            since_utc_ns=START_UTC_NS + MINUTE_NS,
            until_utc_ns=START_UTC_NS + 3 * MINUTE_NS,
            animals=[1],
            run_ids=[ids[0]],
        )
    assert all_of(store) == [value(0, 1), value(0, 2), value(1, 1, "rest_share"), value(1, 2), value(2, 2)]


def test_rows_are_counted_as_they_come_and_go(store: Store, ids: Ids, url: str) -> None:
    assert store.counts().minute_values == 0
    assert store.minute_values_a_minute(0) is None
    put(store, ids[0], *(value(minute, animal) for minute in range(3) for animal in (1, 2)))
    put(store, ids[0], value(2, None))
    assert store.counts().minute_values == 7
    assert store.minute_values_a_minute(0) == pytest.approx(7 / 3)
    assert store.minute_values_a_minute(START_UTC_NS + 2 * MINUTE_NS) == 3
    end_utc_ns = START_UTC_NS + 2 * MINUTE_NS
    engine = create_engine(url)
    with engine.begin() as writing:
        clear_minute_values(writing, since_utc_ns=0, until_utc_ns=end_utc_ns, animals=[1], run_ids=[ids[0]])
    engine.dispose()
    assert store.counts().minute_values == 5
    change(url, "DELETE FROM counter WHERE name = 'minute_values'")  # as in a database from before it
    put(store, ids[0], value(3, 1))
    assert store.counts().minute_values == 6


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(replace(value(), minute_utc_ns=START_UTC_NS + 1), id="no whole minute"),
        pytest.param(replace(value(), coverage=1.5), id="coverage above 1"),
        pytest.param(replace(value(), samples=-1), id="samples below 0"),
    ],
)
def test_values_that_cannot_be_are_refused_with_all_that_came_with_them(
    store: Store, ids: Ids, wrong: MinuteValue
) -> None:
    with pytest.raises(StoreRejectedError):
        put(store, ids[0], value(5), wrong)
    assert all_of(store) == []


def test_shape_nest_and_reference_of_a_frame_come_back(
    store: Store,
    ids: Ids,
    observation: Callable[..., FrameObservation],
    planned_block: Callable[..., object],
    add: Callable[..., list[int]],
) -> None:
    block = planned_block()
    store.open_block(block, run_id=ids[0], at_utc_ns=START_UTC_NS)  # type: ignore[arg-type]
    key = block.key  # type: ignore[attr-defined]
    headless = replace(rat(2, at=(30, 30)), posture=None)
    first = replace(
        observation(0, block_key=key, animals=(rat(1), headless)),
        nest_celsius=25.5,
        reference_offset_celsius=-0.75,
        reference_uncertainty_celsius=0.25,
    )
    bare = observation(1, block_key=key, animals=())
    add(first, bare)
    assert store.block_observations(key) == [first, bare]


def test_places_of_the_trunk_are_centres_by_area(
    store: Store, observation: Callable[..., FrameObservation], add: Callable[..., list[int]]
) -> None:
    head_only = replace(rat(1), parts=(part(BodyPart.HEAD, 5, 5, 30),))
    frames = [
        observation(0, animals=(rat(1, at=(40, 50)), rat(2))),
        observation(1, animals=(head_only,)),
        observation(2, animals=(rat(1, at=(60.5, 70)),)),
    ]
    add(*frames)
    first_ns = frames[0].captured_utc_ns
    at_ns, places = store.trunk_places(1, since_utc_ns=first_ns, until_utc_ns=first_ns + 10 * SECOND_NS)
    assert at_ns.tolist() == [first_ns, first_ns + 2 * SECOND_NS]
    np.testing.assert_allclose(places, [(40, 50), (60.5, 70)])
    none_ns, nowhere = store.trunk_places(3, since_utc_ns=first_ns, until_utc_ns=first_ns + SECOND_NS)
    assert (none_ns.shape, nowhere.shape) == ((0,), (0, 2))
