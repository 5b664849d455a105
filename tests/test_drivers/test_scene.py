"""The simulated scene: a plausible rat, and a truth that agrees with the picture."""

import numpy as np
import pytest

from daemon.vision.parts import BodyPart
from drivers.rat import DAY_S, Rat
from drivers.scene import AnimalState, Scene, ScenePart, through_lens, uniform_scene

NIGHT_UTC_S = 1_790_046_000.0
"""03:00 UTC: the rats are most active."""

MOMENTS = [NIGHT_UTC_S + offset for offset in (0.0, 17.3, 61.0, 305.5, 9_000.0, 40_000.0)]
WALL_PX = 8


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(1)


def test_the_labels_are_those_of_every_mask_in_the_project() -> None:
    assert {part.name: part.value for part in ScenePart} == {part.name: part.value for part in BodyPart}


def test_a_moment_looks_the_same_whatever_was_asked_before(scene: Scene) -> None:
    first = scene.at(MOMENTS[0])
    scene.at(MOMENTS[4])
    again = scene.at(MOMENTS[0])
    other_scene = Scene(1).at(MOMENTS[0])
    for other in (again, other_scene):
        np.testing.assert_array_equal(first.surface_celsius, other.surface_celsius)
        np.testing.assert_array_equal(first.radiometric_celsius, other.radiometric_celsius)
        np.testing.assert_array_equal(first.parts, other.parts)
        assert first.truths == other.truths


def test_another_seed_is_another_rat(scene: Scene) -> None:
    assert not np.array_equal(scene.at(MOMENTS[0]).parts, Scene(2).at(MOMENTS[0]).parts)


def test_the_picture_cannot_be_painted_over(scene: Scene) -> None:
    with pytest.raises(ValueError, match="read-only"):
        scene.at(MOMENTS[0]).surface_celsius[0, 0] = 37.0


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_rat_has_the_temperatures_and_the_size_of_a_rat(seed: int) -> None:
    scene = Scene(seed)
    for utc_s in MOMENTS:
        frame = scene.at(utc_s)
        head, body, tail = (frame.truth(part) for part in ScenePart)
        assert head is not None
        assert body is not None
        assert tail is not None
        assert 31 < head.surface_celsius < 33.3
        assert 29 < body.surface_celsius < 32
        assert 24 < tail.surface_celsius < 30
        assert 300 < head.area_px < 700
        assert 1400 < body.area_px < 3000
        assert 150 < tail.area_px < 500
        assert 35 < frame.surface_celsius.max() < 38.5
        floor = frame.surface_celsius[frame.parts == 0]
        assert 21.5 < np.median(floor) < 24.5


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_rat_stays_off_the_walls(seed: int) -> None:
    scene = Scene(seed)
    for utc_s in np.arange(NIGHT_UTC_S, NIGHT_UTC_S + 900, 13.0):
        parts = scene.at(float(utc_s)).parts
        assert np.count_nonzero(parts[WALL_PX:-WALL_PX, WALL_PX:-WALL_PX]) == np.count_nonzero(parts)


def test_the_coat_is_cooler_at_its_rim_and_the_tail_towards_its_tip(scene: Scene) -> None:
    rat = Rat(1, 1)
    along = np.array([0.6, 0.6, 1.05, 1.5, 2.0], np.float32)
    middle, rim, base, half, tip = rat.surface_celsius(MOMENTS[0], along, np.array([15, 0, 0, 0, 0], np.float32))
    assert rim == pytest.approx(middle - 2.0, abs=0.05)
    assert base > half > tip


def test_the_tail_tapers() -> None:
    widths = 2 * Rat(1, 1).pose(MOMENTS[0]).tail.half_width_px
    assert widths[0] == pytest.approx(5.0)
    assert widths[-1] == pytest.approx(2.2)
    assert np.all(np.diff(widths) < 0)


def test_the_rat_is_90_to_130_px_long() -> None:
    rat = Rat(1, 1)
    for utc_s in MOMENTS:
        spine = rat.pose(utc_s).body.spine
        assert 90 < np.linalg.norm(np.diff(spine, axis=0), axis=1).sum() < 130


def test_the_rat_moves_smoothly_and_no_faster_than_a_rat() -> None:
    rat = Rat(1, 1)
    moments = np.arange(NIGHT_UTC_S, NIGHT_UTC_S + 120, 0.04)
    noses = np.array([rat.pose(float(utc_s)).body.spine[0] for utc_s in moments])
    speeds_px_s = np.linalg.norm(np.diff(noses, axis=0), axis=1) / 0.04
    assert 20 < speeds_px_s.max() < 140  # 0.25 m/s at 0.55 px/mm


def test_the_way_never_jumps_at_midnight_nor_between_bouts() -> None:
    rat = Rat(1, 1)
    midnight = NIGHT_UTC_S // DAY_S * DAY_S
    for moment in (midnight, midnight + 12.0, midnight + DAY_S - 12.0):
        before, after = rat.travelled(moment - 1e-4)[0], rat.travelled(moment + 1e-4)[0]
        assert 0 <= after - before < 0.02


def test_the_head_leads_where_the_rat_goes(scene: Scene) -> None:
    rat, led = Rat(1, 1), 0
    for utc_s in np.arange(NIGHT_UTC_S, NIGHT_UTC_S + 300, 3.0):
        if rat.travelled(float(utc_s))[1] < 10:
            continue
        here, next_body = scene.at(float(utc_s)), scene.at(float(utc_s) + 0.5).truth(ScenePart.BODY)
        head, body = here.truth(ScenePart.HEAD), here.truth(ScenePart.BODY)
        assert head is not None
        assert body is not None
        assert next_body is not None
        step = next_body.x_px - body.x_px, next_body.y_px - body.y_px
        assert step[0] * (head.x_px - body.x_px) + step[1] * (head.y_px - body.y_px) > 0
        led += 1
    assert led > 10


def test_rats_are_more_active_by_night_and_rest_in_between() -> None:
    rat = Rat(1, 1)
    night = rat.travelled(NIGHT_UTC_S + 7200)[0] - rat.travelled(NIGHT_UTC_S - 7200)[0]
    noon = NIGHT_UTC_S + DAY_S / 2
    day = rat.travelled(noon + 7200)[0] - rat.travelled(noon - 7200)[0]
    assert night > 2 * day > 0
    resting = [rat.travelled(float(utc_s))[1] == 0 for utc_s in np.arange(NIGHT_UTC_S, NIGHT_UTC_S + 3600, 5.0)]
    assert 0.2 < np.mean(resting) < 0.8


def test_the_truth_is_that_of_the_picture(scene: Scene) -> None:
    frame = scene.at(MOMENTS[1])
    assert [truth.part for truth in frame.truths] == list(ScenePart)
    for truth in frame.truths:
        rows, columns = np.nonzero(frame.parts == truth.part)
        assert truth.area_px == rows.size
        assert (truth.x_px, truth.y_px) == pytest.approx((columns.mean(), rows.mean()))
        assert truth.surface_celsius == pytest.approx(frame.surface_celsius[rows, columns].mean(), abs=1e-3)
        assert truth.radiometric_celsius == pytest.approx(frame.radiometric_celsius[rows, columns].mean(), abs=1e-3)
    np.testing.assert_array_equal(frame.instances, frame.parts > 0)


def test_several_animals_carry_their_own_numbers() -> None:
    frame = Scene(1, 3).at(MOMENTS[0])
    assert {truth.animal for truth in frame.truths} == set(np.unique(frame.instances)) - {0} == {1, 2, 3}
    assert np.array_equal(frame.instances > 0, frame.parts > 0)


def test_an_empty_box_has_no_truths() -> None:
    frame = Scene(1, 0).at(MOMENTS[0])
    assert frame.truths == ()
    assert not frame.parts.any()
    assert frame.surface_celsius.max() < 25


def test_a_hidden_animal_leaves_the_box_as_it_is_without_one() -> None:
    hidden = Scene(1, state=lambda animal, utc_s: AnimalState(hidden=True)).at(MOMENTS[0])
    np.testing.assert_array_equal(hidden.surface_celsius, Scene(1, 0).at(MOMENTS[0]).surface_celsius)
    assert hidden.truth(ScenePart.HEAD) is None


def test_a_fever_lifts_the_animal_and_nothing_else(scene: Scene) -> None:
    usual = scene.at(MOMENTS[0])
    fever = Scene(1, state=lambda animal, utc_s: AnimalState(fever_celsius=2.0)).at(MOMENTS[0])
    rise = fever.surface_celsius - usual.surface_celsius
    assert rise[usual.parts > 0] == pytest.approx(2.0, abs=1e-4)
    assert not rise[usual.parts == 0].any()


def test_the_lens_spreads_a_point_and_keeps_its_sum() -> None:
    point = np.zeros((192, 256), np.float32)
    point[96, 128] = 1.0
    seen = through_lens(point, 0.6)
    assert seen.sum() == pytest.approx(1.0, abs=1e-5)
    assert 0.3 < seen[96, 128] < 0.6  # 1 / (2 pi sigma^2) = 0.44 for a point-like pixel
    assert np.array_equal(through_lens(point, 0.0), point)


def test_a_uniform_scene_is_one_temperature() -> None:
    frame = uniform_scene(MOMENTS[0], 31.0)
    assert np.all(frame.radiometric_celsius == np.float32(31.0))
    assert frame.truths == ()


def test_impossible_scenes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.4 animals, got 5"):
        Scene(1, 5)
    with pytest.raises(ValueError, match=r"blur_sigma_px must be in 0\.\.5, got -1"):
        Scene(1, blur_sigma_px=-1)
