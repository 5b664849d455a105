"""Whole minutes collected from frames: by hand, with gaps, at 1 and 25 frames a second, with what is not resolved."""

import math
from dataclasses import replace
from datetime import date
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from daemon.measures_list import measures_of
from daemon.minute_value import MinuteValue
from daemon.minute_values import MOST_EMPTY_MINUTES, MinuteCollector, samples_due, trunk_centre
from daemon.observation import AnimalObservation, FrameObservation, GroupObservation
from daemon.settings import ScheduleSettings, ZoneSettings
from daemon.vision.parts import BY_SHAPE, BodyPart
from drivers.frame import FrameFlag
from tests.observations import MINUTE_NS, SECOND_NS, START_UTC_NS, frame, part, rat

NEST = ZoneSettings(name="nest", kind="nest", polygon=((0, 0), (50, 0), (50, 50), (0, 50)))
WATER = ZoneSettings(name="water", kind="water", polygon=((200, 0), (250, 0), (250, 50), (200, 50)))


def collector(
    *, animals: int = 1, mm_per_px: float | None = None, due: float = 60.0, zones: tuple[ZoneSettings, ...] = ()
) -> MinuteCollector:
    return MinuteCollector(animals=animals, zones=zones, mm_per_px=mm_per_px, due=lambda _minute: due)


def collected(minutes: MinuteCollector, frames: list[FrameObservation]) -> list[MinuteValue]:
    return [value for each in frames for value in minutes.add(each)] + minutes.finish()


def named(values: list[MinuteValue], animal: int | None = 1, minute: int = 0) -> dict[str, MinuteValue]:
    chosen = [
        value for value in values if value.animal == animal and value.minute_utc_ns == START_UTC_NS + minute * MINUTE_NS
    ]
    assert len({value.measure for value in chosen}) == len(chosen)
    return {value.measure: value for value in chosen}


def headed(head_px: int) -> AnimalObservation:
    """A rat of 390 px of body and tail, and a head of so many."""
    parts = [replace(each, area_px=head_px) if each.part is BodyPart.HEAD else each for each in rat().parts]
    return replace(rat(), parts=tuple(each for each in parts if each.area_px))


def test_the_hottest_pixel_is_of_the_skin_only_where_the_own_head_is_seen() -> None:
    """390 px: a head of 5 % has 21 px, one of 30 % has 167."""
    for head_px, shown in ((0, False), (20, False), (21, True), (167, True), (168, False)):
        assert (frame(0).skin_max_celsius(headed(head_px)) == 36.0) is shown, head_px
        by_shape = replace(frame(0), segmenter=BY_SHAPE).skin_max_celsius(headed(head_px))
        assert by_shape == (36.0 if head_px else 32.0)
    covered, doubled, whole = headed(0), headed(300), rat()
    found = named(collected(collector(), [frame(k, (covered, doubled, whole)[k % 3]) for k in range(60)]))
    assert found["skin_max_celsius"].value is None
    assert found["skin_max_celsius"].samples == found["head_max_celsius"].samples == 20
    assert (found["head_mean_celsius"].value, found["head_mean_celsius"].samples) == (34, 20)
    assert found["body_mean_celsius"].value == 32
    found = named(collected(collector(), [frame(k, covered if k % 3 else doubled) for k in range(60)]))
    assert not {"skin_max_celsius", "head_max_celsius", "head_mean_celsius"} & found.keys()


def test_a_resting_rat_by_hand() -> None:
    found = named(collected(collector(), [frame(second, rat()) for second in range(60)]))
    values = {name: each.value for name, each in found.items()}
    assert values == pytest.approx(
        {
            "seen_share": 1,
            "skin_max_celsius": 36,
            "head_max_celsius": 36,
            "head_mean_celsius": 34,
            "body_mean_celsius": 32,
            "tail_mean_celsius": 27,
            "tail_minus_ambient_celsius": 5,
            "body_minus_tail_celsius": 5,
            "heat_loss_index": 0.5,
            "skin_max_30min_celsius": None,
            "fever_signature_celsius": None,
            "vasodilation_onset": None,
            "vasoconstriction_onset": None,
            "cooling_celsius": None,
            "distance_px": 0,
            "activity_px_per_s": 0,
            "speed_max_px_per_s": 0,
            "immobile_share": 1,
            "rest_share": 19 / 59,
            "immobile_bout_s": 59,
            "rest_endings": 0,
            "reach_px": 0,
            "length_px": 60,
            "curl": 0.1,
            "huddling_share": 0,
        }
    )
    assert {each.samples for name, each in found.items() if name != "seen_share"} == {59, 60}
    assert found["tail_mean_celsius"].coverage == 1


def test_what_is_told_is_in_the_list() -> None:
    frames = [frame(s, rat(1), rat(2, at=(30, 30)), nest=25.0, block_key="b", offset=(0.4, 0.3)) for s in range(60)]
    for scale in (None, 1.5):
        values = collected(collector(animals=2, mm_per_px=scale, zones=(NEST, WATER)), frames)
        listed = measures_of(["nest", "water"], scale)
        told = {value.measure for value in values}
        assert told <= set(listed)
        assert set(listed) - told == {"zone_water_latency_s"}  # nobody came to drink
        assert all((value.animal is None) == (listed[value.measure].scope.value == "cage") for value in values)


def test_a_walk_by_hand_in_millimetres() -> None:
    frames = [frame(second, rat(at=(50 + 2.0 * second, 80))) for second in range(60)]
    found = named(collected(collector(mm_per_px=1.5), frames))
    assert found["distance_mm"].value == pytest.approx(59 * 3)
    assert found["activity_mm_per_s"].value == pytest.approx(3)
    assert found["speed_max_mm_per_s"].value == pytest.approx(3)
    assert found["immobile_share"].value == 0
    assert found["reach_mm"].value == pytest.approx(59 * 3)
    assert "distance_px" not in found


def test_uncertainty_of_a_tail_is_made_of_its_parts() -> None:
    """90 px, 22.5 independent, 60 frames; 0.5 °C of drift; 27 against 22 °C at 0.98; three pixels wide."""
    found = named(collected(collector(), [frame(second, rat(), fpa_celsius=34.5) for second in range(60)]))
    noise = math.sqrt((0.025**2 / 22.5 + 0.010**2) / 60)
    drift = 0.6 / math.sqrt(3)
    emissivity = 0.015 * (300.15**4 - 295.15**4) / (4 * 0.98 * 300.15**3)
    size = math.erfc(3 / (2 * math.sqrt(2) * math.sqrt(0.64 + 1 / 12))) * 5 / 2 * math.sqrt(4 / 3)
    within = math.sqrt(noise**2 + emissivity**2 + size**2)
    assert found["tail_mean_celsius"].uncertainty == pytest.approx(math.hypot(within, drift), rel=1e-6)
    assert found["tail_minus_ambient_celsius"].uncertainty == pytest.approx(within, rel=1e-6)


def test_a_reference_takes_the_place_of_drift() -> None:
    def doubt(offset: tuple[float, float] | None) -> float:
        frames = [frame(second, rat(), fpa_celsius=36.0, offset=offset) for second in range(60)]
        value = named(collected(collector(), frames))["body_mean_celsius"]
        assert value.uncertainty is not None
        return value.uncertainty

    assert doubt((0.5, 0.1)) < 0.3 < 1.2 < doubt(None)


def test_lost_frames_lower_the_coverage_and_too_few_say_nothing() -> None:
    half = named(collected(collector(), [frame(second, rat()) for second in range(31)]))
    assert half["skin_max_celsius"].coverage == pytest.approx(31 / 60)
    assert half["skin_max_celsius"].value == 36
    few = named(collected(collector(), [frame(second, rat()) for second in range(20)]))
    assert few["skin_max_celsius"].value is None
    assert few["distance_px"].value is None
    assert few["body_mean_celsius"].value == 32
    assert few["seen_share"].value is None


def test_frames_that_were_not_measured_are_no_samples() -> None:
    frames = [frame(second, *([rat()] if second < 30 else []), not_measured=None if second < 30 else "shutter")
              for second in range(60)]  # fmt: skip
    cage = named(collected(collector(), frames), None)
    assert (cage["frames_coverage"].value, cage["frames_coverage"].samples) == (0.5, 30)


def test_a_frame_that_settles_shows_where_but_not_how_warm() -> None:
    frames = [frame(second, rat(), flags=FrameFlag.SETTLING) for second in range(60)]
    values = collected(collector(), frames)
    assert named(values)["immobile_share"].value == 1
    assert not [value for value in values if value.measure.endswith("celsius")]


def test_a_hidden_tail_leaves_the_body_measured() -> None:
    frames = [frame(second, rat(tail=27.0 if second < 6 else None)) for second in range(60)]
    found = named(collected(collector(), frames))
    assert found["body_mean_celsius"].value == 32
    assert found["tail_mean_celsius"].value is None
    assert found["tail_mean_celsius"].samples == 6


def test_an_animal_out_of_sight_has_no_values_but_its_absence() -> None:
    found = named(collected(collector(animals=2), [frame(second, rat(1)) for second in range(60)]), 2)
    assert {name: value.value for name, value in found.items()} == {"seen_share": 0}


def test_in_a_huddle_only_the_huddling_is_told() -> None:
    apart = [frame(second, rat(1), rat(2, at=(200, 50))) for second in range(30)]
    group = GroupObservation(number=3, members=(1, 2), size=2, area_px=1500, mean_celsius=32.0, max_celsius=35.0)
    together = replace(rat(1), animal=None, track=3, group=3, candidates=(1, 2))
    huddled = [replace(frame(second, together), groups=(group,)) for second in range(30, 60)]
    found = named(collected(collector(animals=2), [*apart, *huddled]))
    assert found["huddling_share"].value == 0.5
    assert found["seen_share"].value == 0.5
    assert found["skin_max_celsius"].samples == 30


def test_an_unresolved_animal_counts_for_nobody() -> None:
    unknown = replace(rat(1), animal=None, track=3, candidates=(1,))
    values = collected(collector(), [frame(second, unknown) for second in range(60)])
    assert {value.measure for value in values if value.animal is not None} == {"seen_share"}
    assert named(values, None)["animals_seen"].value == 0


def test_animals_that_lie_together_huddle_and_others_have_a_distance() -> None:
    near = [frame(second, rat(1), rat(2, at=(100, 125))) for second in range(60)]
    found = named(collected(collector(animals=2), near))
    assert (found["huddling_share"].value, found["nearest_px"].value) == (1, 25)
    far = [frame(second, rat(1), rat(2, at=(100, 140))) for second in range(60)]
    assert named(collected(collector(animals=2), far))["huddling_share"].value == 0


def test_zones_by_trunk_and_by_nose() -> None:
    """Outside for 20 s, in the nest for 20 s, then at the water by the nose alone."""
    places = [(100, 100)] * 20 + [(30, 30)] * 20 + [(185, 60)] * 20
    noses = [None] * 40 + [(210.0, 40.0)] * 20
    frames = [
        frame(second, rat(at=place, nose=nose), block_key="night-1")
        for second, (place, nose) in enumerate(zip(places, noses, strict=True))
    ]
    found = named(collected(collector(zones=(NEST, WATER)), frames))
    values = {name: each.value for name, each in found.items() if name.startswith("zone_")}
    assert values == pytest.approx(
        {
            "zone_nest_share": 1 / 3,
            "zone_nest_entries": 1,
            "zone_nest_dwell_s": 20,
            "zone_nest_latency_s": 20,
            "zone_water_share": 1 / 3,
            "zone_water_entries": 1,
            "zone_water_dwell_s": 19,
            "zone_water_latency_s": 40,
        }
    )


def test_an_animal_that_is_first_known_when_it_lies_in_the_nest_has_no_latency() -> None:
    nobody = replace(rat(), animal=None, track=3, candidates=(1, 2))
    frames = [frame(second, rat(at=(30, 30)) if second >= 40 else nobody, block_key="night-1") for second in range(60)]
    found = named(collected(collector(zones=(NEST,)), frames))
    assert "zone_nest_latency_s" not in found
    assert found["zone_nest_share"].samples == 20


def visiting(animal: int, second: int, *stays: tuple[int, int]) -> AnimalObservation:
    """In the nest between these seconds, otherwise far from it."""
    return rat(animal, at=(30, 30) if any(begin <= second < end for begin, end in stays) else (100, 40.0 * animal))


def visited(second: int, *, block_key: str = "night-1", booted_s: int = 0) -> FrameObservation:
    """Rat 1 is in the nest from second 20 on and again, rat 2 from 70 on, rat 3 never."""
    animals = visiting(1, second, (20, 30), (50, 55)), visiting(2, second, (70, 80)), visiting(3, second)
    shown = frame(second, *animals, block_key=block_key)
    return replace(shown, captured_monotonic_ns=shown.captured_monotonic_ns - booted_s * SECOND_NS)


def latencies(values: list[MinuteValue]) -> list[tuple[int | None, float | None]]:
    return [(each.animal, each.value) for each in values if each.measure == "zone_nest_latency_s"]


def test_after_a_restart_within_a_block_each_latency_is_still_that_from_its_start_and_told_once() -> None:
    before = [visited(second) for second in range(45)]
    assert latencies(collected(collector(animals=3, zones=(NEST,)), before)) == [(1, 20)]
    after = collector(animals=3, zones=(NEST,))
    after.resume("night-1", iter(before))
    went_on = [visited(second, booted_s=1000) for second in range(48, 120)]
    assert latencies(collected(after, went_on)) == [(2, 70)]
    next_block = [visited(second, block_key="night-2", booted_s=1000) for second in range(48, 120)]
    assert latencies(collected(after, next_block)) == [(1, 2), (2, 22)]


def test_where_nobody_knows_who_was_where_before_a_restart_the_block_has_no_more_latencies() -> None:
    after = collector(animals=3, zones=(NEST,))
    after.resume("night-1", None)
    assert latencies(collected(after, [visited(second) for second in range(48, 120)])) == []
    next_block = [visited(second, block_key="night-2") for second in range(48, 120)]
    assert latencies(collected(after, next_block)) == [(1, 2), (2, 22)]


def test_who_was_hardly_seen_in_a_block_before_a_restart_has_no_latency_after_it() -> None:
    for seen_until_s, expected in ((45, [(2, 70)]), (10, [])):
        after = collector(animals=3, zones=(NEST,))
        nobody = [frame(second, block_key="night-1") for second in range(seen_until_s, 60)]
        after.resume("night-1", [*(visited(second) for second in range(seen_until_s)), *nobody])
        assert latencies(collected(after, [visited(second) for second in range(60, 120)])) == expected


def test_at_one_frame_in_five_seconds_there_is_reach_but_no_way() -> None:
    frames = [frame(5 * index + 0.3, rat(at=(100 + 3.0 * index, 100))) for index in range(12)]
    found = named(collected(collector(due=12), frames))
    assert found["reach_px"].value == pytest.approx(33)
    assert found["skin_max_celsius"].value == 36
    assert found["seen_share"].coverage == 1
    assert "distance_px" not in found


def rats(second: int, noise: float) -> AnimalObservation:
    return rat(at=(60 + 40 * math.sin(second / 9) + noise, 90 + 30 * math.cos(second / 7)), eye=35 + noise)


@given(st.lists(st.floats(-1, 1), min_size=120, max_size=120), st.integers(2, 25))
@hypothesis_settings(max_examples=15, deadline=None)
def test_more_frames_a_second_give_the_same_values(noise: list[float], rate_hz: int) -> None:
    """The frames of 1 a second are among those of 25; what lies between them changes nothing."""
    slow = [frame(second, rats(second, noise[second])) for second in range(120)]
    fast = [
        slow[second] if sub == 0 else frame(second + sub / rate_hz, rat(at=(5.0 * sub, 150), eye=40.0))
        for second in range(120)
        for sub in range(rate_hz)
    ]
    assert collected(collector(), fast) == collected(collector(), slow)


@given(st.sets(st.integers(0, 119), max_size=119))
@hypothesis_settings(max_examples=30, deadline=None)
def test_lost_frames_never_make_a_way_longer_than_what_was_walked(lost: set[int]) -> None:
    whole = [frame(second, rats(second, 0.0)) for second in range(120)]
    left = [each for second, each in enumerate(whole) if second not in lost]
    gappy = collected(collector(), left)
    assert all(0 <= value.coverage <= 1 for value in gappy)

    def way(values: list[MinuteValue]) -> float:  # of both minutes: a step over their border counts in the later one
        return sum(value.value or 0 for value in values if value.measure == "distance_px")

    places = [trunk_centre(each.animals[0].parts) for each in whole]
    walked = sum(math.dist(a, b) for a, b in pairwise(places) if a is not None and b is not None)
    assert way(gappy) <= walked + 1e-9


def test_half_an_hour_gives_the_proxy_and_a_restart_goes_on_from_what_was_stored() -> None:
    frames = [frame(second, rat(eye=35 + (second // 60) * 0.1)) for second in range(0, 31 * 60)]
    values = collected(collector(), frames)
    proxy = named(values, minute=29)["skin_max_30min_celsius"]
    assert proxy.value == pytest.approx(35 + 1.45)
    assert named(values, minute=18)["skin_max_30min_celsius"].value is None

    first, second = collector(), collector()
    stored = [value for each in frames[: 20 * 60] for value in first.add(each)] + first.finish()
    second.remember(stored)
    again = [value for each in frames[20 * 60 :] for value in second.add(each)] + second.finish()
    assert named(again, minute=29)["skin_max_30min_celsius"] == proxy


def test_vasodilation_is_told_in_its_minute() -> None:
    frames = [frame(second, rat(tail=25.0 if second < 20 * 60 else 30.0)) for second in range(0, 30 * 60)]
    values = collected(collector(), frames)
    onsets = {name: sum(v.value or 0 for v in values if v.measure == name)
              for name in ("vasodilation_onset", "vasoconstriction_onset")}  # fmt: skip
    assert onsets == {"vasodilation_onset": 1, "vasoconstriction_onset": 0}
    assert named(values, minute=21)["vasodilation_onset"].value == 1


def test_the_cage_by_hand() -> None:
    frames = [frame(second, rat(), ambient=22 + (second % 2), nest=26.0, offset=(0.7, 0.2)) for second in range(60)]
    found = {name: value.value for name, value in named(collected(collector(), frames), None).items()}
    assert found == pytest.approx(
        {
            "frames_coverage": 1,
            "animals_seen": 1,
            "ambient_celsius": 22.5,
            "nest_celsius": 26,
            "nest_minus_ambient_celsius": 3.5,
            "reference_offset_celsius": 0.7,
        }
    )


def test_minutes_without_frames_are_told_as_such() -> None:
    minutes = collector()
    for second in range(60):
        assert minutes.add(frame(second, rat())) == []
    over = minutes.add(frame(200, rat()))
    coverages = [value.value for value in over if value.measure == "frames_coverage"]
    assert coverages == [1, 0, 0]
    empty = named(over, 1, 1)
    assert (empty["seen_share"].value, empty["seen_share"].samples) == (None, 0)


def test_a_very_long_gap_is_not_told_minute_by_minute() -> None:
    minutes = collector()
    minutes.add(frame(0, rat()))
    over = minutes.add(frame(60 * 60 * 24 * 30, rat()))
    assert sum(value.measure == "frames_coverage" for value in over) == MOST_EMPTY_MINUTES + 1


def test_the_clock_closes_a_minute_when_no_frame_comes() -> None:
    minutes = collector()
    assert minutes.close_until(START_UTC_NS) == []
    minutes.add(frame(5, rat()))
    assert minutes.close_until(START_UTC_NS + 59 * SECOND_NS) == []
    assert named(minutes.close_until(START_UTC_NS + 61 * SECOND_NS), None)["frames_coverage"].samples == 1
    assert minutes.close_until(START_UTC_NS - MINUTE_NS) == []


def test_a_clock_that_is_set_back_begins_the_earlier_minute_again() -> None:
    minutes = collector()
    for second in range(60, 90):
        minutes.add(frame(second, rat()))
    over = minutes.add(frame(30, rat()))
    assert named(over, None, 1)["frames_coverage"].samples == 30
    assert named(minutes.finish(), None, 0)["frames_coverage"].samples == 1


def test_of_a_minute_in_which_nothing_was_due_nothing_is_told() -> None:
    assert collected(collector(due=0), [frame(second, rat()) for second in range(60)]) == []


def test_samples_due_by_the_plan() -> None:
    """Blocks of half an hour at 25 frames a second from 0:30, UTC; outside one frame in five seconds, or none."""
    plan = ScheduleSettings(rate_hz=25, strata={"night": ("00:30",)})
    midnight = (date(2026, 11, 26) - date(1970, 1, 1)).days * 86400 * SECOND_NS

    def due(minute: float, outside: float = 0.2) -> float:
        return samples_due(midnight + round(minute * MINUTE_NS), plan, ZoneInfo("UTC"), outside)

    assert due(40) == 60
    assert due(10) == 12
    assert due(29.5) == 36
    assert due(10, outside=0) == 0
    slow = plan.model_copy(update={"rate_hz": 0.5})
    assert samples_due(midnight + 40 * MINUTE_NS, slow, ZoneInfo("UTC"), 25) == 30
    assert samples_due(midnight + 10 * MINUTE_NS, slow, ZoneInfo("UTC"), 25) == 60


def test_centre_of_the_trunk_is_by_area_and_needs_a_body() -> None:
    assert trunk_centre(rat(at=(100, 100)).parts) == (100, 100)
    assert trunk_centre([part(BodyPart.HEAD, 1, 1, 30), part(BodyPart.TAIL, 9, 9, 30)]) is None
