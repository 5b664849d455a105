"""Animals that are followed: who is who as long as it can be told, and not a frame longer."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.motion import Motion
from daemon.sighting import Sighting
from daemon.track import Followed, KnownThen, Tracker, _costs, _Seen, _seen, _surroundings, _Track
from daemon.vision.parts import BodyPart, Segmentation
from daemon.vision.regions import Regions

NS = 1_000_000_000
SHAPE = (192, 256)

Square = tuple[int, int, int, float]
"""Centre x and y, half the side, degrees C."""


def animal(x: int, y: int, *, half: int = 8, celsius: float = 33.0) -> Square:
    return (x, y, half, celsius)


def picture(*animals: Square) -> tuple[Segmentation, NDArray[np.float32]]:
    """Bodies as squares; the first is instance 1."""
    parts, celsius = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 24, np.float32)
    instances = np.zeros_like(parts)
    for instance, (x, y, half, degrees) in enumerate(animals, start=1):
        own = slice(y - half, y + half + 1), slice(x - half, x + half + 1)
        parts[own], instances[own], celsius[own] = BodyPart.BODY, instance, degrees
    return Segmentation(parts=parts, instances=instances), celsius


def follow(tracker: Tracker, at_s: float, *animals: Square) -> dict[int, Followed]:
    segmentation, celsius = picture(*animals)
    return tracker.follow(segmentation, celsius, round(at_s * NS)).instances


def names(found: dict[int, Followed]) -> dict[int, int | None]:
    return {instance: each.animal for instance, each in found.items()}


def test_numbers_begin_with_one_in_the_order_of_the_instances() -> None:
    found = follow(Tracker(3), 0, animal(20, 20), animal(200, 20), animal(100, 100))
    assert names(found) == {1: 1, 2: 2, 3: 3}
    assert [each.probability for each in found.values()] == [1, 1, 1]


@pytest.mark.parametrize("period_s", [0.04, 1.0], ids=["25 fps", "1 fps"])
def test_a_number_stays_with_its_animal_when_the_instances_change_places(period_s: float) -> None:
    tracker = Tracker(2)
    follow(tracker, 0, animal(20, 20), animal(200, 20))
    assert names(follow(tracker, period_s, animal(198, 22), animal(22, 22))) == {1: 2, 2: 1}


def test_a_hidden_animal_keeps_its_number() -> None:
    tracker = Tracker(2)
    follow(tracker, 0, animal(20, 20), animal(200, 20))
    for second in range(1, 50):
        assert names(follow(tracker, second, animal(200, 20))) == {1: 2}
    assert names(follow(tracker, 50, animal(200, 20), animal(40, 40))) == {1: 2, 2: 1}


def test_one_that_walks_over_another_is_in_a_group_with_it_though_both_are_hardly_larger_together() -> None:
    tracker = Tracker(2)
    for second in range(60):
        follow(tracker, second, animal(97, 100), animal(9 + second % 2, 100))
    for step in range(5):
        follow(tracker, 60 + step, animal(97, 100), animal(9 + 20 * step, 100))
    (together,) = follow(tracker, 65, animal(104, 100, half=9)).values()
    assert together.size == 2
    for second in range(66, 72):
        found = follow(tracker, second, animal(113, 100), animal(95, 100))
    assert names(found) == {1: 2, 2: 1}


def test_one_that_hides_near_another_that_stretches_is_not_in_a_group_with_it() -> None:
    tracker = Tracker(2)
    for second in range(60):
        follow(tracker, second, animal(97, 100), animal(77, 100))
    for second in range(60, 66):
        (stretched,) = follow(tracker, second, animal(97, 100, half=9)).values()
        assert stretched.size == 1


def test_who_lay_still_while_both_were_cut_wrongly_is_known_after_it_also_where_the_camera_drifts() -> None:
    tracker = Tracker(2)
    for second in range(60):
        follow(tracker, second, animal(60, 60), animal(120 + second % 2, 60))
    for second, x in enumerate((115, 105, 95, 88, 82, 79, 77, 77, 77, 77), start=60):
        follow(tracker, second, animal(60, 60), animal(x, 60))
    segmentation, celsius = picture(animal(60, 60), animal(77, 60))
    across = segmentation.instances.copy()
    across[52:60, 52:86], across[60:69, 52:86] = 1, 2  # the upper and the lower half of both
    tracker.follow(replace(segmentation, instances=across), celsius, round(69.04 * NS))
    told = [
        names(tracker.follow(segmentation, celsius + 2, round((69 + 0.04 * step) * NS)).instances)
        for step in range(2, 20)
    ]
    assert told[0] == {1: None, 2: None}
    assert told[-1] == {1: 1, 2: 2}


def test_a_single_animal_is_always_number_one_however_far_it_went() -> None:
    tracker = Tracker(1)
    follow(tracker, 0, animal(20, 20))
    assert names(follow(tracker, 0.04, animal(230, 170))) == {1: 1}


def test_more_instances_than_animals_leave_one_without_a_number() -> None:
    tracker = Tracker(2)
    follow(tracker, 0, animal(20, 20), animal(200, 20))
    found = follow(tracker, 0.04, animal(100, 170), animal(20, 22), animal(200, 22))
    assert names(found) == {2: 1, 3: 2}


def test_nothing_seen_is_nobody() -> None:
    tracker = Tracker(2)
    assert follow(tracker, 0) == {}
    follow(tracker, 1, animal(20, 20))
    assert follow(tracker, 2) == {}
    assert names(follow(tracker, 3, animal(20, 20))) == {1: 1}


def test_two_that_come_back_where_both_may_have_gone_are_not_named() -> None:
    tracker = Tracker(2)
    follow(tracker, 0, animal(100, 100), animal(120, 100))
    for second in range(1, 31):
        assert follow(tracker, second) == {}
    found = follow(tracker, 31, animal(40, 40), animal(200, 160))
    assert names(found) == {1: None, 2: None}
    assert [each.candidates for each in found.values()] == [(1, 2), (1, 2)]


def met(tracker: Tracker, celsius: tuple[float, float]) -> dict[int, Followed]:
    """Two known for a minute meet, lie as one for a minute, and part."""
    first, second = celsius
    for step in range(60):
        follow(tracker, step, animal(60, 100, celsius=first), animal(180, 100, celsius=second))
    follow(tracker, 60, animal(100, 100, celsius=first), animal(130, 100, celsius=second))
    for step in range(61, 120):
        found = follow(tracker, step, animal(115, 100, half=12))
        assert [(each.animal, each.size, each.candidates) for each in found.values()] == [(None, 2, (1, 2))]
    for step in range(120, 180):
        found = follow(tracker, step, animal(85, 100, celsius=second), animal(145, 100, celsius=first))
    return found


def test_one_that_runs_past_another_is_not_taken_for_it() -> None:
    tracker = Tracker(2)
    for second in range(60):
        follow(tracker, second, animal(40, 100), animal(100, 100))
    # The second stays; that the first is in its place and the second ran instead takes less of a leap of each.
    found = follow(tracker, 60, animal(100, 100), animal(165, 100))
    assert found[1].animal != 1
    assert found[2].animal != 2
    assert 2 in (found[1].animal, *found[1].candidates)


def test_one_that_comes_from_nowhere_while_another_goes_may_be_one_never_seen() -> None:
    tracker = Tracker(2)
    for second in range(60):
        follow(tracker, second, animal(20, 20))
    assert names(follow(tracker, 60, animal(230, 170))) == {1: 2}


@pytest.mark.parametrize(("x", "y"), [(60, 79), (60, 80), (62, 82)])
def test_which_of_two_went_up_in_a_third_is_open_where_the_one_that_is_left_may_be_either(x: int, y: int) -> None:
    tracker = Tracker(3)
    for second in range(120):
        follow(tracker, second, animal(60, 100), animal(100, 100), animal(60, 60))
    found = follow(tracker, 120, animal(92, 85, half=12), animal(x, y))
    assert [each.size for each in found.values()] == [2, 1]
    assert found[2].animal is None
    assert {1, 3} <= set(found[2].candidates)


@pytest.mark.parametrize(("apart_px", "speed_px_s"), [(40, 0), (150, 0), (150, 10), (150, 20)])
def test_animals_that_look_alike_and_do_not_meet_keep_their_numbers(apart_px: int, speed_px_s: float) -> None:
    tracker = Tracker(2)
    for second in range(600):
        turn = speed_px_s * second / 15
        x, y = round(15 * math.cos(turn)), round(15 * math.sin(turn))
        found = follow(tracker, second, animal(50 + x, 90 + y), animal(50 + apart_px + x, 90 - y))
        assert names(found) == {1: 1, 2: 2}, second


def test_animals_that_hardly_touch_are_learnt_as_if_they_were_alone() -> None:
    tracker = Tracker(2)
    for second in range(200):
        follow(tracker, second, animal(60, 60, celsius=32), animal(78, 75, celsius=34))
    for second in range(200, 300):
        follow(tracker, second, animal(70, 65, half=13))
    for second in range(300, 420):
        found = follow(tracker, second, animal(160, 20, celsius=34), animal(160, 170, celsius=32))
    assert names(found) == {1: 2, 2: 1}


def test_tracks_that_may_have_changed_places_are_counted_as_doubted_and_others_are_not() -> None:
    tracker = Tracker(3)
    for second in range(60):
        found = follow(tracker, second, animal(60, 100), animal(100, 100), animal(200, 40))
        assert [each.doubts for each in found.values()] == [0, 0, 0], second
    found = follow(tracker, 60, animal(76, 108), animal(84, 92), animal(200, 40))
    assert [each.doubts for each in found.values()] == [1, 1, 0]
    for second in range(61, 90):
        found = follow(tracker, second, animal(60, 100), animal(100, 100), animal(200, 40))
    doubts = {each.track: each.doubts for each in found.values()}
    assert doubts.keys() == {1, 2, 3}, "tracks go on, whoever they are"
    assert doubts[3] == 0
    assert min(doubts[1], doubts[2]) >= 1


def test_a_track_that_comes_out_of_a_group_is_new_and_has_no_doubts_though_nobody_knows_who_it_is() -> None:
    found = met(Tracker(2), (33.0, 33.0))
    assert {each.animal for each in found.values()} == {None}
    assert {each.doubts for each in found.values()} == {0}, "nor has what is left of the group"


def test_small_chances_of_having_changed_places_add_up() -> None:
    tracker, doubts = Tracker(2), []
    for second in range(60):
        follow(tracker, second, animal(60, 100), animal(84, 100))
    for time in range(40):
        follow(tracker, 60 + 2 * time)
        found = follow(tracker, 61 + 2 * time, animal(60, 100))
        doubts.append(found[1].doubts)
    assert doubts[0] == 0
    assert doubts[-1] > 0


@pytest.mark.parametrize(("down", "touched"), [(0, 3 * 17 / 17), (8, 3 * 12 / 17), (15, 3 * 5 / 17), (30, 0)])
def test_how_much_of_an_animal_is_near_another_is_by_the_root_of_its_pixels(down: int, touched: float) -> None:
    segmentation, celsius = picture(animal(60, 60), animal(77, 60 + down))
    one, other = _seen(segmentation, Regions.of(segmentation), celsius, _surroundings(segmentation, celsius))
    assert one.touched == pytest.approx(other.touched) == pytest.approx(touched)
    assert (one.alone, one.close) == (touched <= 1, touched > 0)


def test_what_lies_at_the_other_edge_of_the_picture_is_not_near() -> None:
    corner = animal(8, 100), animal(8, 119), animal(247, 100)
    segmentation, celsius = picture(*corner)
    touched = [
        each.touched
        for each in _seen(segmentation, Regions.of(segmentation), celsius, _surroundings(segmentation, celsius))
    ]
    assert touched == pytest.approx([1, 1, 0])


@pytest.mark.parametrize(("seconds", "known"), [(2, True), (40, False)])
def test_two_that_part_where_they_were_before_they_met_are_those_that_met(seconds: int, *, known: bool) -> None:
    tracker = Tracker(2)
    for second in range(60):
        follow(tracker, second, animal(60, 60, half=10), animal(100, 60, half=10))
    follow(tracker, 60, animal(60, 60, half=10), animal(82, 60, half=10))
    for second in range(61, 61 + seconds):
        both = follow(tracker, second, animal(71, 60, half=15))
        assert [each.size for each in both.values()] == [2]
    found = follow(tracker, 61 + seconds, animal(60, 60, half=10), animal(82, 60, half=10))
    assert names(found) == ({1: 1, 2: 2} if known else {1: None, 2: None}), "after long it is likely, not known"
    assert found[1].probability == found[2].probability == pytest.approx(0.9932 if known else 0.9818, abs=0.001)


def test_two_that_part_elsewhere_than_they_met_are_not_named() -> None:
    tracker = Tracker(2)
    for second in range(60):
        follow(tracker, second, animal(60, 60, half=10), animal(100, 60, half=10))
    follow(tracker, 60, animal(60, 60, half=10), animal(82, 60, half=10))
    follow(tracker, 61, animal(71, 60, half=15))
    found = follow(tracker, 62, animal(71, 49, half=10), animal(71, 71, half=10))
    assert names(found) == {1: None, 2: None}
    assert found[1].candidates == found[2].candidates == (1, 2)
    assert found[1].probability == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("larger", "known"), [(13, True), (10, False)], ids=["larger", "of one size"])
def test_two_that_part_elsewhere_are_told_by_their_size(larger: int, *, known: bool) -> None:
    tracker = Tracker(2)
    for second in range(60):
        follow(tracker, second, animal(60, 60, half=9), animal(100, 60, half=larger))
    follow(tracker, 60, animal(60, 60, half=9), animal(83, 60, half=larger))
    follow(tracker, 61, animal(71, 60, half=15))
    found = follow(tracker, 62, animal(71, 47, half=larger), animal(71, 70, half=9))
    assert names(found) == ({1: 1, 2: 2} if known else {1: None, 2: None}), "the larger one has the first number"


@pytest.mark.parametrize(("moved_px", "known"), [(0, True), (14, False)], ids=["in their places", "beside them"])
def test_masks_that_hardly_cover_those_from_before_say_little(moved_px: int, *, known: bool) -> None:
    tracker = Tracker(2)
    for second in range(60):
        follow(tracker, second, animal(60, 60, half=10), animal(100, 60, half=10))
    follow(tracker, 60, animal(60, 60, half=10), animal(82, 60, half=10))
    follow(tracker, 61, animal(71, 60 + moved_px // 2, half=15))
    found = follow(tracker, 62, animal(60, 60 + moved_px, half=10), animal(82, 60 + moved_px, half=10))
    assert names(found) == ({1: 1, 2: 2} if known else {1: None, 2: None})


def _blinks(count: int, apart_px: int, *, frames: int) -> dict[int, Followed]:
    """Two that lie beside each other, seen at 25 fps, every second as one instance for so many frames."""
    tracker = Tracker(2)
    left, right = animal(60, 60, half=10), animal(60 + apart_px, 60, half=10)
    for step in range(1500):
        away_px = apart_px + max(0, 60 - apart_px - max(0, step - 1400))
        follow(tracker, step / 25, left, animal(60 + away_px, 60, half=10))
    found: dict[int, Followed] = {}
    for step in range(1500, 1500 + 25 * count):
        if step % 25 < frames:
            together = follow(tracker, step / 25, animal(60 + apart_px // 2, 60, half=15))
            assert [each.size for each in together.values()] == [2]
        else:
            found = follow(tracker, step / 25, left, right)
    return found


def test_names_outlast_a_hundred_frames_in_which_two_at_rest_are_taken_for_one() -> None:
    found = _blinks(100, 24, frames=1)
    assert names(found) == {1: 1, 2: 2}
    assert all(each.probability is not None and each.probability > 0.9999 for each in found.values())


def test_each_second_as_one_adds_to_the_doubt_whether_they_have_changed_places() -> None:
    once, often = _blinks(1, 24, frames=24), _blinks(15, 24, frames=24)
    assert names(once) == {1: 1, 2: 2}
    assert names(often) == {1: None, 2: None}
    after_one, after_many = (1 - (found[1].probability or math.nan) for found in (once, often))
    assert after_many == pytest.approx(15 * after_one, rel=0.05)


def test_the_first_look_of_animals_that_part_is_not_that_of_one_that_goes_about() -> None:
    tracker = Tracker(2)
    for second in range(300):
        follow(tracker, second, animal(60, 60), animal(120, 60, half=10))
    follow(tracker, 300, animal(75, 60), animal(100, 60, half=10))
    for second in range(301, 380):
        follow(tracker, second, animal(90, 60, half=13))
    found = follow(tracker, 380, animal(98, 60), animal(70, 60, half=10))
    assert found[1].probability == pytest.approx(0.52, abs=0.02), "one second says little"


@pytest.mark.parametrize("period_s", [0.04, 1.0], ids=["25 fps", "1 fps"])
def test_one_that_slowly_goes_up_in_another_makes_a_group_with_it(period_s: float) -> None:
    tracker, steps = Tracker(2), round(3 / period_s)
    for step in range(60):
        follow(tracker, step * period_s, animal(60, 60, half=10), animal(100, 60, half=10))
    for step in range(1, steps + 1):
        share = step / steps
        one = animal(60 + round(18 * share), 60, half=10 + round(4 * share))
        follow(tracker, (59 + step) * period_s, one, animal(100, 60, half=10 - round(5 * share)))
    found = follow(tracker, (60 + steps) * period_s, animal(82, 60, half=14))
    assert [each.size for each in found.values()] == [2]


def test_all_animals_of_the_last_run_are_learnt_alike() -> None:
    usual, then = Tracker(3), Tracker(3)
    known = []
    for second in range(60):
        step = 3 * (second % 2)
        places = [animal(40 + 80 * each + step, 40, celsius=32 + each) for each in range(3)]
        follow(usual, second, *places)
        segmentation, celsius = picture(*places)
        known += [
            KnownThen(
                animal=each.sighting.instance, at_s=second, sighting=each.sighting, features=each.features, apart=True
            )
            for each in _seen(segmentation, Regions.of(segmentation), celsius, _surroundings(segmentation, celsius))
        ]
    then.restore(known)
    for tracker in (usual, then):
        for second in range(60, 130):
            follow(tracker, second, animal(120, 100, half=16))
        for second in range(130, 230):
            step = 3 * (second % 2)
            warmth = (34, 32, 33)
            found = follow(
                tracker, second, *(animal(40 + 80 * each + step, 160, celsius=warmth[each]) for each in range(3))
            )
        assert names(found) == {1: 3, 2: 1, 3: 2}


def test_out_of_a_huddle_a_warmer_animal_is_known_again() -> None:
    assert names(met(Tracker(2), (33.0, 35.5))) == {1: 2, 2: 1}


def test_out_of_a_huddle_animals_that_look_alike_are_not_named() -> None:
    found = met(Tracker(2), (33.0, 33.0))
    assert names(found) == {1: None, 2: None}
    assert all(each.candidates == (1, 2) and (each.probability or 1) < 0.97 for each in found.values())


def rat(x: int, y: int, *, turned: bool, labels_turned: bool) -> tuple[Segmentation, NDArray[np.float32]]:
    """Head right, tail left, unless it is turned; the labels may be the other way round."""
    parts, celsius = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 24, np.float32)
    for reach, part, degrees in ((12, BodyPart.HEAD, 34.0), (-12, BodyPart.TAIL, 29.0), (0, BodyPart.BODY, 32.0)):
        centre = x - reach if turned else x + reach
        own = slice(y - 4, y + 5), slice(centre - 6, centre + 7)
        labelled = {BodyPart.HEAD: BodyPart.TAIL, BodyPart.TAIL: BodyPart.HEAD}.get(part, part)
        parts[own], celsius[own] = labelled if labels_turned else part, degrees
    return Segmentation(parts=parts, instances=(parts > 0).astype(np.uint8)), celsius


def test_a_flip_of_head_and_tail_is_put_right() -> None:
    tracker = Tracker(1)
    for step in range(50):
        segmentation, celsius = rat(60 + step, 100, turned=False, labels_turned=False)
        tracker.follow(segmentation, celsius, round(step * 0.04 * NS))
    segmentation, celsius = rat(110, 100, turned=False, labels_turned=True)
    right = tracker.follow(segmentation, celsius, 2 * NS).segmentation.parts
    assert right[100, 126] == BodyPart.HEAD
    assert right[100, 94] == BodyPart.TAIL


def test_an_animal_that_turned_between_two_frames_at_1_fps_keeps_its_labels() -> None:
    tracker = Tracker(1)
    for step in range(5):
        segmentation, celsius = rat(100, 100, turned=bool(step % 2), labels_turned=False)
        found = tracker.follow(segmentation, celsius, step * NS)
        np.testing.assert_array_equal(found.segmentation.parts, segmentation.parts)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.\.6, got 0"):
        Tracker(0)
    with pytest.raises(ValueError, match=r"1\.\.6, got 7"):
        Tracker(7)


@pytest.mark.parametrize("celsius", [33.0, 35.0], ids=["alike", "warmer"])
def test_two_that_cross_within_a_second_side_by_side_are_named_only_if_they_differ(celsius: float) -> None:
    tracker = Tracker(2)
    for step in range(60):
        follow(tracker, step, animal(90, 100), animal(130, 100, celsius=celsius))
    found = follow(tracker, 60, animal(112, 104), animal(108, 96, celsius=celsius))
    assert names(found) == {1: None, 2: None}, "by one frame alone"
    for step in range(61, 120):
        found = follow(tracker, step, animal(140, 104), animal(70, 96, celsius=celsius))
    assert names(found) == ({1: 1, 2: 2} if celsius > 33 else {1: None, 2: None})


def test_when_all_but_one_are_known_again_the_last_one_is_known_too() -> None:
    tracker = Tracker(3)
    for step in range(60):
        follow(tracker, step, animal(40, 100, celsius=32), animal(120, 100, celsius=33), animal(210, 100, celsius=34))
    for step in range(60, 90):
        follow(tracker, step, animal(120, 100, half=18))
    for step in range(90, 180):
        found = follow(
            tracker, step, animal(40, 100, celsius=34), animal(120, 100, half=11), animal(210, 100, celsius=32)
        )
    assert {instance: name for instance, name in names(found).items() if instance != 2} == {1: 3, 3: 1}
    assert found[2].animal in (2, None)
    assert 2 in (found[2].animal, *found[2].candidates)


def test_one_that_changes_from_a_group_to_another_animal_is_not_taken_for_it() -> None:
    tracker = Tracker(3)
    for step in range(60):
        follow(tracker, step, animal(50, 100), animal(80, 100), animal(140, 100))
    follow(tracker, 60, animal(65, 100, half=11), animal(140, 100))
    follow(tracker, 61, animal(65, 100, half=11), animal(140, 100))
    found = follow(tracker, 62, animal(62, 100), animal(135, 100, half=11))
    assert {instance: each.size for instance, each in found.items()} == {1: 1, 2: 2}
    assert names(found) == {1: None, 2: None}
    assert found[2].candidates == (1, 2, 3)
    parted = follow(tracker, 63, animal(62, 100), animal(144, 100), animal(124, 100))
    assert names(parted) == {1: None, 2: None, 3: None}
    assert parted[2].probability == pytest.approx(0.5, abs=0.1), "nothing is known of where the one that came was"


def test_an_animal_by_itself_is_known_however_the_others_mix() -> None:
    tracker = Tracker(6)
    places = [(30, 30), (30, 160), (220, 30), (220, 160), (110, 95), (140, 95)]
    for step in range(10):
        follow(tracker, step, *(animal(x, y) for x, y in places))
    found = follow(tracker, 10, *(animal(x, y) for x, y in places[:4]), animal(126, 99), animal(124, 91))
    assert [found[instance].animal for instance in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert found[5].candidates == found[6].candidates == (5, 6)


ANYWHERE = -16.0


def plain_cost(track: _Track, seen: _Seen, overlap: float, weight: float) -> float:
    """What speaks against a pair, by the formula: its place or any, 4 at most by each feature; 8 for full overlap."""
    x, y = seen.sighting.x_px, seen.sighting.y_px
    density = math.exp(track.motion.log_density(x, y)) + math.exp(ANYWHERE)
    cost = -math.log(density) - weight * 8 * overlap
    if track.size == 1:
        spread = np.array([0.06, 0.12, 0.15, 0.15, 0.02]) * (2 if track.close or seen.close else 1)
        cost += float(np.nansum(np.minimum(((seen.features - track.features) / spread) ** 2 / 2, 4)))
    return cost


@pytest.mark.parametrize("seed", range(20))
def test_all_pairs_together_cost_what_each_costs_alone(seed: int) -> None:
    dice = np.random.default_rng(seed)

    def features() -> NDArray[np.float64]:
        usual = np.array([6.5, 8.0, 0.5, -3.0, 0.2]) + np.array([1, 1, 1, 1, 0.1]) * dice.normal(0, 0.2, 5)
        return np.where(dice.random(5) < 0.1, np.nan, usual)

    tracks = []
    for number in range(1, int(dice.integers(1, 5)) + 1):
        motion = Motion(*dice.uniform(0, 60, 2).tolist())
        motion.predict(float(dice.choice([0.04, 1.0, 30.0])))
        bodies = [number] if number < 4 else [number, 0]
        tracks.append(
            _Track(
                number,
                bodies,
                motion,
                np.arange(1),
                500.0,
                features(),
                close=bool(dice.integers(2)),
                seen_s=0.0,
                steady_since_s=0.0,
            )
        )
    found = [
        _Seen(
            sighting=Sighting(
                instance=instance, pixels=np.arange(1), x_px=x, y_px=y, trunk_px=500, head_px=0, centres={}, celsius={}
            ),
            features=features(),
            touched=float(dice.integers(2)),
        )
        for instance, (x, y) in enumerate(dice.uniform(0, 60, (int(dice.integers(1, 6)), 2)).tolist(), start=1)
    ]
    overlaps = np.where(
        dice.random((len(tracks), len(found))) < 0.5, 0, dice.random((len(tracks), len(found)))
    ).tolist()
    costs = [[plain_cost(track, seen, overlaps[row][column], 0.7) for column, seen in enumerate(found)]
             for row, track in enumerate(tracks)]  # fmt: skip
    np.testing.assert_allclose(
        _costs(tracks, found, overlaps, 0.7, np.full((len(tracks), len(found)), ANYWHERE)), costs, rtol=1e-12
    )
