"""Ways, rests, zones, maps and rhythms, by hand and by properties."""

import math
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.behaviour import (
    Point,
    Step,
    Visits,
    Way,
    WithinBlock,
    inside,
    nearest_px,
    position_maps,
    reach_px,
    rest_disturbance,
    rhythm,
    touching,
    zeitgeber_hour,
)

SECOND = 1_000_000_000


def walk(places: Sequence[Point], *, every_s: float = 1.0) -> list[Step]:
    way = Way()
    found = [way.add(round(index * every_s * SECOND), place) for index, place in enumerate(places)]
    return [step for step in found if step is not None]


def test_a_straight_walk_by_hand() -> None:
    steps = walk([(10, 10), (13, 14), (16, 18), (16, 18)])
    assert [(step.seconds, step.moved_px, step.way_px, step.immobile) for step in steps] == [
        (1, 5, 5, False),
        (1, 5, 5, False),
        (1, 0, 0, True),
    ]
    assert steps[0].speed_px_per_s == 5


def test_trembling_is_no_way_but_creeping_is() -> None:
    trembling = walk([(10 + 0.7 * (index % 2), 10) for index in range(60)])
    assert sum(step.way_px for step in trembling) == 0
    assert all(step.immobile for step in trembling)
    creeping = walk([(10 + 0.5 * index, 10) for index in range(61)])
    assert sum(step.way_px for step in creeping) == pytest.approx(30)


def test_a_gap_is_no_step_and_ends_a_rest_without_an_ending() -> None:
    way = Way()
    for second in range(60):
        way.add(second * SECOND, (5, 5))
    assert way.add(70 * SECOND, (90, 5)) is None
    step = way.add(71 * SECOND, (120, 5))
    assert step is not None
    assert (step.way_px, step.rest_ended) == (30, False)


def test_one_missing_second_is_bridged_and_a_sample_too_soon_is_left_out() -> None:
    way = Way()
    way.add(0, (0, 0))
    step = way.add(2 * SECOND, (6, 8))
    assert step is not None
    assert (step.seconds, step.moved_px, step.speed_px_per_s) == (2, 10, 5)
    assert way.add(2 * SECOND + SECOND // 4, (50, 50)) is None
    step = way.add(3 * SECOND, (6, 8))
    assert step is not None
    assert step.moved_px == 0


def test_time_that_goes_back_begins_anew() -> None:
    way = Way()
    way.add(100 * SECOND, (0, 0))
    assert way.add(50 * SECOND, (9, 9)) is None


def test_rest_begins_after_forty_seconds_and_ends_with_movement() -> None:
    steps = walk([(5, 5)] * 61 + [(25, 5)])
    assert sum(step.resting_s for step in steps) == pytest.approx(20)
    assert max(step.bout_s for step in steps) == 60
    assert [step.rest_ended for step in steps] == [False] * 60 + [True]
    short = walk([(5, 5)] * 40 + [(25, 5)])
    assert not any(step.rest_ended for step in short)


@given(st.lists(st.tuples(st.floats(0, 255), st.floats(0, 191)), min_size=2, max_size=40))
def test_way_is_never_shorter_than_the_line_but_for_the_last_pixel_and_never_longer_than_the_samples(
    places: list[Point],
) -> None:
    steps = walk(places)
    way = sum(step.way_px for step in steps)
    assert way <= sum(step.moved_px for step in steps) + 1e-6
    assert way >= math.dist(places[0], places[-1]) - 1.5 - 1e-6


@given(st.lists(st.tuples(st.floats(0, 255), st.floats(0, 191)), min_size=2, max_size=30), st.floats(-50, 50))
def test_where_in_the_picture_an_animal_walks_does_not_matter(places: list[Point], shift: float) -> None:
    moved = [(x + shift, y) for x, y in places]
    assert [step.moved_px for step in walk(moved)] == pytest.approx([step.moved_px for step in walk(places)], abs=1e-9)


def test_reach_is_the_diagonal_of_all_places() -> None:
    assert reach_px([(1, 1), (4, 3), (2, 5)]) == 5
    assert reach_px([(7, 7)]) == 0


SQUARE = [(10.0, 10.0), (20.0, 10.0), (20.0, 20.0), (10.0, 20.0)]
NOTCHED = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (5.0, 5.0), (0.0, 10.0)]


@pytest.mark.parametrize(
    ("polygon", "place", "expected"),
    [
        (SQUARE, (15, 15), True),
        (SQUARE, (25, 15), False),
        (SQUARE, (15, 9), False),
        (NOTCHED, (5, 4), True),
        (NOTCHED, (5, 8), False),
        (NOTCHED, (1, 8), True),
    ],
)
def test_inside_of_polygons(polygon: list[Point], place: Point, expected: bool) -> None:
    assert inside(polygon, place) is expected
    assert inside(polygon[::-1], place) is expected


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_mixture_of_the_corners_of_a_triangle_is_inside(first: float, second: float) -> None:
    corners = [(10.0, 20.0), (200.0, 40.0), (90.0, 180.0)]
    weights = (0.01 + first, 0.01 + second, 0.01 + abs(1 - first - second))
    total = sum(weights)
    place = tuple(sum(w * corner[axis] for w, corner in zip(weights, corners, strict=True)) / total for axis in (0, 1))
    assert inside(corners, (place[0], place[1]))


def test_entries_need_a_sample_outside_shortly_before() -> None:
    visits = Visits()
    within = [True, True, False, True, True, False]
    found = [visits.add(second * SECOND, each) for second, each in enumerate(within)]
    assert [entry for entry, _ in found] == [False, False, False, True, False, False]
    assert [stayed_s for _, stayed_s in found] == [0, 1, 1, 0, 1, 1]
    assert visits.add(20 * SECOND, True) == (False, 0)
    assert visits.add(40 * SECOND, True) == (False, 0), "where it was meanwhile nobody knows"


def test_latency_is_told_once_in_a_block() -> None:
    visits = Visits()
    told = [
        visits.latency_s(second * SECOND, within, within_block("day/night-1", 100, samples))
        for second, within, samples in ((100, False, 1), (107, True, 2), (108, True, 3))
    ]
    assert told == [None, 7, None]
    assert visits.latency_s(300 * SECOND, True, within_block("day/night-2", 300, 1)) == 0
    assert visits.latency_s(301 * SECOND, True, None) is None


@pytest.mark.parametrize(("samples", "latency_s"), [(4, 30), (5, None)])
def test_latency_of_one_that_was_hardly_seen_before_is_not_known(samples: int, latency_s: float | None) -> None:
    visits = Visits()
    assert visits.latency_s(110 * SECOND, False, within_block("day/night-1", 100, 2)) is None
    assert visits.latency_s(130 * SECOND, True, within_block("day/night-1", 100, samples)) == latency_s
    assert visits.latency_s(131 * SECOND, True, within_block("day/night-1", 100, samples)) is None


def within_block(key: str, since_s: int, samples: int) -> WithinBlock:
    return WithinBlock(key=key, since_ns=since_s * SECOND, samples=samples)


def test_nearest_neighbours_by_hand() -> None:
    assert nearest_px({1: (0, 0), 2: (3, 4), 3: (100, 0)}) == {
        1: (2, 5.0),
        2: (1, 5.0),
        3: (2, pytest.approx(math.hypot(97, 4))),
    }
    assert nearest_px({1: (0, 0)}) == {}


def test_touching_is_nearer_than_half_the_mean_length() -> None:
    assert touching(29.9, 70, 50)
    assert not touching(30.1, 70, 50)


def test_maps_by_hand() -> None:
    """Two seconds at (1, 1), of which one leads 10 px away; one there; then a gap and one step of no length."""
    at_ns = np.array([0, 1, 2, 3, 60, 61], np.int64) * SECOND
    places = np.array([(1, 1), (1, 1), (11, 1), (11, 1), (50, 50), (50, 50)], np.float64)
    maps = position_maps(at_ns, places, size=(192, 256), cell_px=4)
    assert maps.seconds.shape == (48, 64)
    assert (maps.seconds[0, 0], maps.seconds[0, 2], maps.seconds[12, 12]) == (2, 1, 1)
    assert maps.seconds.sum() == 4
    assert (maps.px_per_s[0, 0], maps.px_per_s[0, 2]) == (5, 0)
    assert math.isnan(maps.px_per_s[5, 5])


def test_maps_at_25_frames_a_second_count_no_second_twice() -> None:
    at_ns = np.arange(0, 10 * SECOND + 1, SECOND // 25).astype(np.int64)
    places = np.full((len(at_ns), 2), 20.0)
    assert position_maps(at_ns, places, size=(192, 256), cell_px=8).seconds.sum() == pytest.approx(10, abs=0.6)


def test_maps_of_nothing_are_empty() -> None:
    maps = position_maps(np.empty(0, np.int64), np.empty((0, 2)), size=(192, 256), cell_px=8)
    assert maps.seconds.sum() == 0


def test_zeitgeber_hour_follows_the_local_clock() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    six_utc = 1_750_000_000 // 86400 * 86400 + 6 * 3600  # 8:00 in June
    assert zeitgeber_hour(six_utc * SECOND, "07:00", berlin) == 1
    assert zeitgeber_hour((six_utc - 2 * 3600 + 900) * SECOND, "07:00", berlin) == 23.25


def test_rhythm_is_a_mean_of_hourly_means() -> None:
    values = [(hour + 0.5, 1.0 if hour < 12 else 4.0) for hour in range(24)] + [(0.1, 3.0)] * 3
    found = rhythm(values, light_hours=12)
    assert found.hourly[0] == 2.5
    assert found.minutes[0] == 4
    assert found.day_mean == pytest.approx((2.5 + 11) / 12)
    assert found.night_mean == 4
    assert found.day_night_ratio == pytest.approx(13.5 / 48)
    assert found.hours == 24


def test_a_phase_with_too_few_hours_has_no_mean() -> None:
    found = rhythm([(hour, 1.0) for hour in range(5)] + [(hour, 2.0) for hour in range(12, 18)], light_hours=12)
    assert (found.day_mean, found.night_mean, found.day_night_ratio) == (None, 2, None)


def test_disturbance_of_rest_is_per_hour_of_rest() -> None:
    assert rest_disturbance(6, 1.5) == 4
    assert rest_disturbance(0, 0) is None
