"""The moving scene: plausible animals, and a truth that agrees with the picture."""

import gc
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from daemon.vision.parts import BodyPart
from drivers.scene import Scene
from drivers.vivarium.anatomy import Species
from drivers.vivarium.figure import ScenePart
from drivers.vivarium.incidents import Incident, IncidentKind
from drivers.vivarium.lens import through_lens
from drivers.vivarium.moment import AnimalMoment, Moment
from drivers.vivarium.posture import Stance
from drivers.vivarium.rhythm import CYCLE_S, LIGHTS_ON_UTC_S, Rhythm, circadian, darkness, zeitgeber_s
from drivers.vivarium.truth import Contact, uniform_scene

DAY_S = 86_400
NIGHT_UTC_S = 1_790_046_000.0
"""03:00 UTC: the middle of the dark."""
BORDER_UTC_S = NIGHT_UTC_S // CYCLE_S * CYCLE_S
MOMENTS = [NIGHT_UTC_S + offset for offset in (0.0, 17.3, 61.0, 305.5, 9_000.0, 40_000.0, 700.0, 1_300.0)]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(1)


@pytest.fixture(scope="module")
def three() -> Scene:
    return Scene(1, 3)


@pytest.fixture(scope="module")
def two_hours(three: Scene) -> list[Moment]:
    """A moment each second of two hours of a night."""
    return [three.moment(NIGHT_UTC_S + second) for second in range(7200)]


def only(moment: Moment) -> AnimalMoment:
    (animal,) = moment.animals
    return animal


def incident(kind: IncidentKind, *, start_utc_s: float = NIGHT_UTC_S, hours: float = 4.0) -> Incident:
    return Incident(kind=kind, animal=1, start_utc_s=start_utc_s, duration_s=3600 * hours)


# The picture and its truth


def test_the_labels_are_those_of_every_mask_in_the_project() -> None:
    assert {part.name: part.value for part in ScenePart} == {part.name: part.value for part in BodyPart}


def test_a_moment_looks_the_same_whatever_was_asked_before(three: Scene) -> None:
    first = three.at(MOMENTS[0])
    three.at(MOMENTS[4])
    for other in (three.at(MOMENTS[0]), Scene(1, 3).at(MOMENTS[0])):
        np.testing.assert_array_equal(first.surface_celsius, other.surface_celsius)
        np.testing.assert_array_equal(first.radiometric_celsius, other.radiometric_celsius)
        np.testing.assert_array_equal(first.instances, other.instances)
        assert (first.truths, first.animals) == (other.truths, other.animals)
    assert three.moment(MOMENTS[3]) == Scene(1, 3).moment(MOMENTS[3])


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
        assert 30.5 < head.surface_celsius < 34
        assert 28.5 < body.surface_celsius < 32.5
        assert 24 < tail.surface_celsius < 31
        assert 200 < head.area_px < 900
        assert 1000 < body.area_px < 3600
        assert 35 < frame.surface_celsius.max() < 38.5
        assert 36 < frame.animals[0].core_celsius < 39
        assert 21.5 < np.median(frame.surface_celsius[frame.parts == 0]) < 24.5


def test_mice_are_smaller_than_rats() -> None:
    rat, mouse = (only(Scene(1, species=species).moment(NIGHT_UTC_S)) for species in (Species.RAT, Species.MOUSE))
    assert mouse.species is Species.MOUSE
    areas = [
        int(np.count_nonzero(Scene(1, species=species).at(NIGHT_UTC_S).parts))
        for species in (Species.RAT, Species.MOUSE)
    ]
    assert areas[1] < 0.8 * areas[0]
    assert rat.species is Species.RAT


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


def test_an_empty_box_has_no_truths() -> None:
    frame = Scene(1, 0).at(MOMENTS[0])
    assert frame.truths == ()
    assert frame.animals == ()
    assert Scene(1, 0).moment(MOMENTS[0]).animals == ()
    assert not frame.parts.any()
    assert frame.surface_celsius.max() < 25


@pytest.mark.parametrize("animals", [1, 3, 6])
def test_the_moment_without_a_picture_is_that_of_the_picture(animals: int) -> None:
    scene, compared = Scene(2, animals), 0
    for utc_s in np.linspace(NIGHT_UTC_S, NIGHT_UTC_S + DAY_S, 9):
        frame, moment = scene.at(float(utc_s)), scene.moment(float(utc_s))
        for seen, told in zip(frame.animals, moment.animals, strict=True):
            assert (seen.animal, seen.stance, seen.core_celsius) == (told.animal, told.stance, told.core_celsius)
            for name in ("snout", "neck", "tail_base", "tail_tip"):
                assert getattr(seen, name) == getattr(told, name)
            if moment.animals[seen.animal - 1].touching:
                continue  # their coats warm each other
            for part, celsius in told.surface_celsius.items():
                within = 0.9 if part is ScenePart.TAIL else 0.7  # an animal may lie on some of its own tail
                assert celsius == pytest.approx(seen.surface_celsius[part], abs=within), (utc_s, seen.stance, part)
                compared += 1
        assert (frame.contact() is Contact.APART) or any(animal.touching for animal in moment.animals)
    assert compared >= 12


# How they move


def test_they_move_smoothly_and_no_faster_than_rats_also_across_the_borders_of_plans(three: Scene) -> None:
    fastest = {"middle": 0.0, "snout": 0.0, "tail_tip": 0.0}
    starts = [BORDER_UTC_S + CYCLE_S * cycle + offset for cycle in range(5) for offset in (-8.0, 20.0, 300.0)]
    for start_s in starts:
        film = [three.moment(start_s + index * 0.04) for index in range(400)]
        for before, after in pairwise(film):
            for one, other in zip(before.animals, after.animals, strict=True):
                for name in fastest:
                    fastest[name] = max(fastest[name], math.dist(getattr(one, name), getattr(other, name)) / 0.04)
    assert 40 < fastest["middle"] < 125  # 0.31 m/s for a rat of 200 mm and 80 px
    assert fastest["snout"] < 250
    assert fastest["tail_tip"] < 1000


def test_the_whole_picture_never_jumps_at_the_border_of_plans(three: Scene) -> None:
    for cycle in range(8):
        border = BORDER_UTC_S + CYCLE_S * cycle
        before, after = three.at(border - 1e-3), three.at(border + 1e-3)
        assert np.count_nonzero(before.instances != after.instances) < 20
        floor = (before.parts == 0) & (after.parts == 0)
        assert np.abs(before.surface_celsius - after.surface_celsius)[floor].max() < 0.1


def test_the_head_leads_where_an_animal_goes(three: Scene, two_hours: list[Moment]) -> None:
    led = []
    for before in two_hours[::10]:
        after = three.moment(before.utc_s + 0.1)
        for one, other in zip(before.animals, after.animals, strict=True):
            if min(one.speed_px_s, other.speed_px_s) > 10:
                step = np.subtract(other.middle, one.middle)
                led.append(float(step @ (math.cos(one.heading_rad), math.sin(one.heading_rad))) > 0)
    assert len(led) > 100
    assert np.mean(led) > 0.99


def test_they_walk_rest_groom_rear_sleep_and_stretch(two_hours: list[Moment]) -> None:
    stances = [animal.stance for moment in two_hours for animal in moment.animals]
    assert set(stances) == set(Stance)
    assert 0.08 < stances.count(Stance.WALKING) / len(stances) < 0.6


def test_the_middles_of_animals_stay_off_the_walls_and_they_use_the_box(two_hours: list[Moment]) -> None:
    middles = np.array([animal.middle for moment in two_hours for animal in moment.animals])
    assert middles.min() > 8
    assert np.all(middles.max(axis=0) < (248, 184))
    assert np.all(np.ptp(middles, axis=0) > (150, 90))


def test_huddles_form_and_separate_and_ways_cross(two_hours: list[Moment]) -> None:
    huddled = [any(animal.huddle for animal in moment.animals) for moment in two_hours]
    assert 0.05 < np.mean(huddled) < 0.95
    assert sum(one != other for one, other in pairwise(huddled)) >= 4
    met = [
        moment for moment in two_hours
        if any(animal.touching and animal.stance is Stance.WALKING for animal in moment.animals)
    ]  # fmt: skip
    assert len(met) > 20


def test_animals_on_their_feet_are_seldom_in_the_same_place(two_hours: list[Moment]) -> None:
    """They go around one another; sleepers of a nest do lie on each other."""
    near = 0
    for moment in two_hours:
        walking = [animal for animal in moment.animals if animal.speed_px_s > 5]
        near += any(
            math.dist(one.middle, other.middle) < 25
            for one in walking for other in moment.animals if other is not one and other.stance is not Stance.CURLED
        )  # fmt: skip
    assert near < 0.02 * len(two_hours)


def test_contacts_hold_for_both(two_hours: list[Moment]) -> None:
    for moment in two_hours[::60]:
        for animal in moment.animals:
            for other in animal.touching:
                mate = moment.of(other)
                assert mate is not None
                assert animal.animal in mate.touching
            assert not animal.huddle or animal.animal in animal.huddle


def test_identities_and_layers_stay_for_days(three: Scene) -> None:
    layers = set()
    for utc_s in np.arange(NIGHT_UTC_S, NIGHT_UTC_S + 3 * DAY_S, 20_011.0):
        frame = three.at(float(utc_s))
        assert [animal.animal for animal in frame.animals] == [1, 2, 3]
        layers.add(tuple(animal.layer for animal in frame.animals))
    assert len(layers) == 1


def test_what_is_kept_of_long_times_does_not_grow() -> None:
    scene = Scene(3, 1)

    def things_after(day: int) -> int:
        for cycle in range(72):
            scene.moment(NIGHT_UTC_S + day * DAY_S + cycle * CYCLE_S)
        gc.collect()
        return len(gc.get_objects())

    things_after(0)
    first, second, third = (things_after(day) for day in (1, 2, 3))
    assert max(second, third) < first + 200  # a plan alone is hundreds of things


# Day and night


def test_lights_are_on_for_twelve_hours_from_when_they_go_on() -> None:
    assert zeitgeber_s(LIGHTS_ON_UTC_S + DAY_S + 60) == 60
    assert (darkness(LIGHTS_ON_UTC_S + 3600), darkness(LIGHTS_ON_UTC_S + 13 * 3600)) == (0, 1)
    assert darkness(LIGHTS_ON_UTC_S) == darkness(LIGHTS_ON_UTC_S + 12 * 3600) == pytest.approx(0.5)
    assert circadian(LIGHTS_ON_UTC_S + 18 * 3600) == pytest.approx(1)
    assert circadian(0.0, lights_on_utc_s=12 * 3600) == pytest.approx(circadian(12 * 3600, lights_on_utc_s=0.0))


@pytest.mark.parametrize("lights_on_utc_s", [LIGHTS_ON_UTC_S, 21 * 3600.0])
def test_they_walk_more_and_are_warmer_in_the_dark(lights_on_utc_s: float) -> None:
    scene = Scene(5, 2, lights_on_utc_s=lights_on_utc_s)
    moments = [scene.moment(NIGHT_UTC_S + minute * 183) for minute in range(2 * 24 * 20)]
    dark = [moment.zeitgeber_s >= DAY_S / 2 for moment in moments]
    walking = np.array([sum(animal.speed_px_s for animal in moment.animals) for moment in moments])
    core = np.array([np.mean([animal.core_celsius for animal in moment.animals]) for moment in moments])
    in_dark = np.array(dark)
    assert walking[in_dark].sum() > 2 * walking[~in_dark].sum() > 0
    assert 0.4 < core[in_dark].mean() - core[~in_dark].mean() < 1.5


def test_the_core_is_warmer_after_activity_than_before() -> None:
    rhythm = Rhythm(1, 1)
    levels, rises = [], []
    for cycle in range(2_983_000, 2_983_600):
        levels.append(rhythm.level(cycle))
        rises.append(rhythm.core_celsius((cycle + 1) * CYCLE_S) - rhythm.core_celsius(cycle * CYCLE_S))
    assert np.corrcoef(levels, rises)[0, 1] > 0.5


def test_the_30_minute_mean_of_skin_maxima_follows_the_core() -> None:
    scene = Scene(4)
    skin, core = [], []
    for half_hour in range(48 * 2):
        moments = [only(scene.moment(NIGHT_UTC_S + 1800 * half_hour + 60 * minute)) for minute in range(30)]
        skin.append(np.mean([one.skin_celsius for one in moments]))
        core.append(np.mean([one.core_celsius for one in moments]))
    assert np.corrcoef(skin, core)[0, 1] > 0.9


# Traces


def test_a_place_that_is_left_is_warm_and_cools_down(scene: Scene) -> None:
    empty = Scene(1, 0)
    before = None
    for second in range(0, 7200, 5):
        animal = only(scene.moment(NIGHT_UTC_S + second))
        if before is not None and before.stance is Stance.CURLED and animal.stance is Stance.WALKING:
            break
        before = animal
    assert before is not None
    x, y = map(round, before.middle)
    place = slice(y - 3, y + 4), slice(x - 3, x + 4)
    rises = []
    for later_s in range(0, 200, 4):
        utc_s = NIGHT_UTC_S + second + later_s
        frame = scene.at(utc_s)
        if not frame.parts[place].any():
            rises.append((later_s, float((frame.surface_celsius - empty.at(utc_s).surface_celsius)[place].mean())))
    assert rises[0][1] > 1.0
    assert rises[-1][1] < 0.6 * rises[0][1]


def test_urine_is_warm_then_cold(three: Scene) -> None:
    """The floor without animals is compared with that of the empty box, over three hours of a night."""
    empty = Scene(1, 0)
    warm = cold = 0
    for minute in range(0, 180, 2):
        utc_s = NIGHT_UTC_S + 60 * minute
        frame = three.at(utc_s)
        change = frame.surface_celsius - empty.at(utc_s).surface_celsius
        floor = frame.parts == 0
        cold += int(np.count_nonzero(change[floor] < -0.8) > 2)
        warm += int(np.count_nonzero(change[floor] > 3.5) > 2)
    assert cold > 30
    assert warm > 0


# What happens to them


def at_hours(script: list[Incident], hours: list[float]) -> list[tuple[AnimalMoment, AnimalMoment]]:
    """An animal with a script and without it, at hours from the middle of the night."""
    ill, healthy = Scene(1, script=script), Scene(1)
    return [
        (only(ill.moment(NIGHT_UTC_S + 3600 * hour)), only(healthy.moment(NIGHT_UTC_S + 3600 * hour))) for hour in hours
    ]


def test_a_fever_rises_with_a_cold_tail_and_falls_with_a_warm_one() -> None:
    before, rising, high, falling, after = at_hours([incident(IncidentKind.FEVER)], [-0.1, 0.4, 2.0, 4.4, 5.0])
    assert before[0] == before[1]
    for (ill, healthy), core, tail in ((rising, 0.4, -1), (high, 1.5, 0), (falling, 0.5, 1)):
        assert ill.core_celsius - healthy.core_celsius == pytest.approx(core, abs=0.45)
        assert ill.skin_celsius > healthy.skin_celsius
        warmer = ill.surface_celsius[ScenePart.TAIL] - healthy.surface_celsius[ScenePart.TAIL]
        assert np.sign(warmer) * (abs(warmer) > 0.3) == tail
        assert ill.middle == healthy.middle
    assert after[0] == after[1]


def test_a_fever_lifts_the_animal_and_leaves_the_floor(scene: Scene) -> None:
    usual = scene.at(NIGHT_UTC_S + 7200)
    fever = Scene(1, script=[incident(IncidentKind.FEVER)]).at(NIGHT_UTC_S + 7200)
    rise = fever.surface_celsius - usual.surface_celsius
    body = usual.parts == ScenePart.BODY
    assert rise[body].mean() == pytest.approx(0.7 * 1.5, abs=0.15)
    assert np.abs(rise[usual.parts == 0]).max() < 0.3  # its mirror image is a little warmer, too


def test_hypothermia_cools_core_and_tail() -> None:
    ((ill, healthy),) = at_hours([incident(IncidentKind.HYPOTHERMIA)], [3.0])
    assert ill.core_celsius == pytest.approx(healthy.core_celsius - 2.5)
    assert ill.surface_celsius[ScenePart.TAIL] < healthy.surface_celsius[ScenePart.TAIL] - 0.5
    assert ill.tail_dilation < 0


def test_an_immobile_animal_stays_where_it_lies_and_walks_before_and_after() -> None:
    start_s = NIGHT_UTC_S + 5 * 3600 + 400
    scene = Scene(6, 2, script=[incident(IncidentKind.IMMOBILITY, start_utc_s=start_s, hours=3)])

    def middles(first_s: float, hours: float) -> np.ndarray:
        moments = [scene.moment(first_s + second) for second in range(0, round(3600 * hours), 20)]
        return np.array([animal.middle for moment in moments if (animal := moment.of(1)) is not None])

    assert np.ptp(middles(start_s - 7200, 1.9), axis=0).max() > 50
    assert np.ptp(middles(start_s, 3.0), axis=0).max() < 1
    assert np.ptp(middles(start_s + 3 * 3600, 12.0), axis=0).max() > 50


def test_an_injured_tail_has_a_cold_place_and_nothing_else_changes(scene: Scene) -> None:
    injured = Scene(1, script=[incident(IncidentKind.TAIL_INJURY)]).at(NIGHT_UTC_S + 7200)
    usual = scene.at(NIGHT_UTC_S + 7200)
    change = injured.surface_celsius - usual.surface_celsius
    assert change[usual.parts == ScenePart.TAIL].min() == pytest.approx(-4.0, abs=0.5)
    trunk = (usual.parts == ScenePart.HEAD) | (usual.parts == ScenePart.BODY)
    assert not change[trunk].any()


def test_an_animal_that_is_taken_out_leaves_the_box_as_it_is_without_one() -> None:
    absence = Incident(kind=IncidentKind.ABSENCE, animal=1, start_utc_s=0.0, duration_s=math.inf)
    scene = Scene(1, script=[absence])
    frame = scene.at(MOMENTS[0])
    np.testing.assert_array_equal(frame.surface_celsius, Scene(1, 0).at(MOMENTS[0]).surface_celsius)
    assert frame.animals == ()
    assert scene.moment(MOMENTS[0]).animals == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"duration_s": 0.0}, "duration_s must be positive", id="duration"),
        pytest.param({"celsius": -1.0}, "celsius of the sign of 1.5", id="sign"),
        pytest.param({"kind": IncidentKind.ABSENCE, "celsius": 1.0}, "expected no celsius", id="without"),
        pytest.param({"animal": 2}, r"expected an animal 1\.\.1, got 2", id="animal"),
    ],
)
def test_impossible_scripts_are_refused(values: dict[str, object], message: str) -> None:
    fever = incident(IncidentKind.FEVER)
    with pytest.raises(ValueError, match=message):
        Scene(1, script=[replace(fever, **values)])  # type: ignore[arg-type]  # wrong on purpose


# Other


def test_who_is_not_there_is_not_told_of(three: Scene) -> None:
    assert three.moment(NIGHT_UTC_S).of(9) is None


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
    with pytest.raises(ValueError, match=r"0\.\.6 animals, got 7"):
        Scene(1, 7)
    with pytest.raises(ValueError, match=r"blur_sigma_px must be in 0\.\.5, got -1"):
        Scene(1, blur_sigma_px=-1)
