"""What the synthetic vivarium is made of: bodies, postures, traces, mirrors, lens and detector, each by its numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from drivers.vivarium.anatomy import Rodent, Species, rodent
from drivers.vivarium.clutter import (
    BODY_PATCH_CELSIUS,
    URINE_CELSIUS,
    dropping,
    patch_rise_celsius,
    urine_rise_celsius,
    warm_patch,
    warm_thing,
)
from drivers.vivarium.coat import Warmth, litter, warmth
from drivers.vivarium.composition import Actor, Touch, compose
from drivers.vivarium.detector import Detector
from drivers.vivarium.dice import Axis, generator
from drivers.vivarium.figure import ScenePart, figure
from drivers.vivarium.housing import Cover, random_housing
from drivers.vivarium.lens import Lens, through_lens
from drivers.vivarium.posture import Stance, posed, tilted, usual
from drivers.vivarium.reflections import Mirror, random_mirrors, wall_mirror
from drivers.vivarium.shapes import SHAPE, full
from drivers.vivarium.truth import Contact

FLOOR = 22.5
LENGTH_PX = 110.0

EVEN = Warmth(
    core_celsius=37.5,
    fur_celsius=30.0,
    head_rise_celsius=1.5,
    rump_drop_celsius=0.0,
    eye_celsius=36.0,
    ear_celsius=34.0,
    foot_celsius=27.0,
    rim_drop_celsius=2.0,
    rim_px=2.0,
    tail_base_celsius=28.0,
    tail_tip_celsius=24.0,
    tail_fall=1.0,
    texture_celsius=0.0,
    blotch_celsius=0.0,
)
"""An animal without unevenness, for known answers."""


def animal(species: Species = Species.RAT, seed: int = 1) -> Rodent:
    return rodent(generator(seed, Axis.INDIVIDUALS), species, LENGTH_PX)


def actor(number: int, *, stance: Stance = Stance.WALKING, x: float = 128, y: float = 96, heading: float = 0.0,
          heat: Warmth = EVEN) -> Actor:  # fmt: skip
    body = animal(seed=number)
    return Actor(number=number, rodent=body, pose=posed(body, usual(stance), (x, y), heading), warmth=heat)


def distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    return math.hypot(one[0] - other[0], one[1] - other[1])


@pytest.mark.parametrize("species", Species)
def test_the_spine_is_as_long_as_the_animal_and_the_tail_tapers(species: Species) -> None:
    body = animal(species)
    pose = posed(body, usual(Stance.WALKING), (100, 90), 0.3)
    way = np.linalg.norm(np.diff(pose.body.spine, axis=0), axis=1).sum()
    assert way == pytest.approx(LENGTH_PX, rel=0.02)
    assert np.all(np.diff(pose.tail.half_width_px) <= 0)
    assert pose.body.at(0.5) == pytest.approx((100, 90), abs=2)


def test_a_mouse_has_larger_ears_and_a_longer_tail_for_its_size() -> None:
    rats, mice = ([animal(species, seed) for seed in range(40)] for species in Species)
    assert np.mean([body.ear for body in mice]) > 1.3 * np.mean([body.ear for body in rats])
    assert np.mean([body.tail for body in mice]) > 1.1 * np.mean([body.tail for body in rats])


def test_heading_nought_looks_right_and_a_quarter_turn_down() -> None:
    for heading, expected in ((0.0, (1, 0)), (math.pi / 2, (0, 1))):
        body = posed(animal(), usual(Stance.STRETCHED), (128, 96), heading).body
        ahead = np.array(body.at(0.0)) - body.at(1.0)
        assert tuple(ahead / np.linalg.norm(ahead)) == pytest.approx(expected, abs=0.1)
        assert body.heading_rad(0.5) == pytest.approx(heading, abs=0.1)


def test_postures_differ_as_they_do_in_life() -> None:
    span = {}
    for stance in Stance:
        body = posed(animal(), usual(stance), (128, 96), 0.0).body
        span[stance] = distance(body.at(0.0), body.at(1.0))
    assert span[Stance.STRETCHED] > 1.08 * span[Stance.WALKING]
    assert span[Stance.REARING] < 0.8 * span[Stance.WALKING]
    assert span[Stance.CURLED] < 0.5 * span[Stance.WALKING]
    assert span[Stance.RESTING] < 0.85 * span[Stance.WALKING]


def test_an_animal_is_warm_as_it_was_made_part_by_part() -> None:
    body, pose = animal(), posed(animal(), usual(Stance.STRETCHED), (160, 96), 0.0)
    alone = figure(body, pose, EVEN)
    picture = full(0.0)
    picture[alone.window] = alone.celsius

    def read(along: float, side: float = 0.0) -> float:
        x, y = pose.tail.at(along) if along > 1 else pose.body.at(along, side)
        return float(picture[round(y), round(x)])

    assert read(0.6) == pytest.approx(EVEN.fur_celsius, abs=0.2)
    assert read(0.6, 0.97) < EVEN.fur_celsius - 0.8  # the cool rim
    assert read(body.eye_at, 0.72) > 33.5
    assert 32 < read(body.ear_at, 1.0) <= EVEN.ear_celsius
    assert read(1.25) == pytest.approx(27.0, abs=0.3)
    assert read(1.75) == pytest.approx(25.0, abs=0.3)


def test_a_constricted_tail_is_at_ambient_and_a_dilated_one_as_warm_as_fur() -> None:
    warmths = [warmth(generator(seed, Axis.INDIVIDUALS), FLOOR) for seed in range(400)]
    tips = np.array([heat.tail_tip_celsius - FLOOR for heat in warmths])
    bases = np.array([heat.tail_base_celsius - heat.fur_celsius for heat in warmths])
    assert np.mean(tips < 0.3) > 0.1
    assert np.mean(bases > -0.5) > 0.1
    assert tips.min() > 0


def test_an_animal_outside_the_picture_covers_nothing_of_it() -> None:
    alone = figure(animal(), posed(animal(), usual(Stance.WALKING), (900, 96), 0.0), EVEN)
    assert not alone.parts.any()
    frame = compose(full(FLOOR), [actor(1, x=900)], lens=Lens()).frame
    assert frame.truths == ()
    assert frame.animals[0].covered_share == 0


def test_the_one_on_top_is_seen_and_the_covered_one_is_still_in_the_truth() -> None:
    low, high = actor(1), actor(2, heading=math.pi / 2)
    alone = compose(full(FLOOR), [low], lens=Lens()).frame
    crossed = compose(full(FLOOR), [low, high], lens=Lens()).frame
    assert crossed.instances[96, 128] == 2
    first, second = crossed.animals
    assert (first.layer, second.layer) == (0, 1)
    assert second.covered_share == 0
    hidden = 1 - np.count_nonzero(crossed.instances == 1) / np.count_nonzero(alone.instances)
    assert first.covered_share == first.overlapped_share == pytest.approx(hidden)
    assert hidden > 0.1
    assert crossed.contact() is Contact.HUDDLE
    assert first.area_px == np.count_nonzero(alone.instances)
    swapped = compose(full(FLOOR), [high, low], lens=Lens()).frame
    assert swapped.instances[96, 128] == 1


def test_animals_that_only_touch_are_no_huddle() -> None:
    width_px = float(actor(1).pose.body.half_width_px.max() + actor(2).pose.body.half_width_px.max())
    frame = compose(full(FLOOR), [actor(1, y=80), actor(2, y=80 + width_px)], lens=Lens()).frame
    assert frame.contact() is Contact.TOUCHING
    assert compose(full(FLOOR), [actor(1, y=50), actor(2, y=140)], lens=Lens()).frame.contact() is Contact.APART


def test_flanks_that_touch_lose_their_cool_rim() -> None:
    width_px = float(actor(1).pose.body.half_width_px.max() + actor(2).pose.body.half_width_px.max())
    apart = compose(full(FLOOR), [actor(1, y=60)], lens=Lens()).frame
    touching = compose(full(FLOOR), [actor(1, y=60), actor(2, y=60 + width_px)], lens=Lens()).frame
    rise = (touching.surface_celsius - apart.surface_celsius)[(touching.instances == 1)]
    assert rise.max() > 1.0
    assert rise.min() > -1e-4


def test_the_furrow_between_two_trunks_is_warm_and_part_of_the_truth() -> None:
    width_px = float(actor(1).pose.body.half_width_px.max() + actor(2).pose.body.half_width_px.max())
    pair = [actor(1, y=60), actor(2, y=60 + 0.9 * width_px)]
    cool = compose(full(FLOOR), pair, lens=Lens(), touch=Touch(seam_celsius=0.0)).frame
    warm = compose(full(FLOOR), pair, lens=Lens(), touch=Touch(seam_celsius=1.2, seam_px=1.5)).frame
    rise = warm.surface_celsius - cool.surface_celsius
    assert rise.max() == pytest.approx(1.2, abs=0.35)
    assert not rise[warm.parts == 0].any()
    assert not rise[warm.parts == ScenePart.TAIL].any()
    upper = warm.animals[1]
    seen = warm.truth(ScenePart.BODY, upper.animal)
    assert upper.covered_share == 0
    assert seen is not None
    assert seen.surface_celsius == pytest.approx(upper.surface_celsius[ScenePart.BODY], abs=1e-3)


def test_the_edges_of_a_thick_tail_are_cooler_than_its_middle() -> None:
    body = replace(animal(), tail_half_width=np.full(28, 0.035))
    pose = posed(body, usual(Stance.STRETCHED), (160, 96), 0.0)
    warm_rod = replace(EVEN, tail_tip_celsius=28.0, tail_edge=0.6, air_celsius=FLOOR)
    alone, even = figure(body, pose, warm_rod), figure(body, pose, replace(warm_rod, tail_edge=0.0))
    middle = pose.tail.at(1.5)
    column = round(middle[0]) - alone.columns.start
    across = alone.celsius[:, column][alone.parts[:, column] == ScenePart.TAIL]
    assert across.size >= 6
    assert across[0] == pytest.approx(28.0 - 0.6 * (28.0 - FLOOR), abs=0.3)
    assert across[across.size // 2] > 27.2
    assert even.celsius[even.parts == ScenePart.TAIL].min() == pytest.approx(28.0)


def test_a_tail_begins_as_warm_as_the_rump() -> None:
    cold = replace(EVEN, tail_base_celsius=24.0, tail_tip_celsius=23.0, tail_root=0.06)
    root, middle = cold.along(np.array([1.002, 1.5], np.float32))
    assert root > 28
    assert middle == pytest.approx(23.5, abs=0.05)


@pytest.mark.parametrize(("bow", "sides"), [(0.8, ScenePart.BODY), (-0.8, ScenePart.HEAD)])
def test_the_line_between_head_and_body_is_bent_and_goes_through_the_neck(bow: float, sides: ScenePart) -> None:
    body = replace(animal(), neck_bow=bow, ear_side=0.5)
    pose = posed(body, usual(Stance.STRETCHED), (128, 96), 0.0)
    picture = np.zeros(SHAPE, np.uint8)
    alone = figure(body, pose, EVEN)
    picture[alone.window] = alone.parts
    x, y = pose.body.point(body.head)
    row = round(y)
    assert {int(picture[row, round(x) + step]) for step in (-2, 2)} == {ScenePart.HEAD, ScenePart.BODY}
    half_px = float(np.interp(body.head, pose.body.along, pose.body.half_width_px))
    ahead = 2 if bow > 0 else -2
    for side in (-0.85, 0.85):
        assert picture[round(y + side * half_px), round(x) + ahead] == sides


def test_an_oblique_view_shortens_what_points_away_and_keeps_the_middle() -> None:
    squashed = np.array(((0.7, 0.0), (0.0, 1.0)))
    for heading, long, wide in ((0.0, 0.7, 0.92), (math.pi / 2, 1.0, 0.77)):
        above = posed(animal(), usual(Stance.STRETCHED), (128, 96), heading)
        seen = tilted(above, squashed)
        length = distance(seen.body.at(0.0), seen.body.at(1.0)) / distance(above.body.at(0.0), above.body.at(1.0))
        assert length == pytest.approx(long, abs=0.02)
        assert seen.body.half_width_px[25] / above.body.half_width_px[25] == pytest.approx(wide, abs=0.02)
        assert seen.body.at(0.5) == pytest.approx(above.body.at(0.5))


def test_thighs_and_elbows_stand_out_when_legs_are_bent() -> None:
    slim, bent = replace(animal(), thigh=-0.03, elbow=-0.03), replace(animal(), thigh=0.06, elbow=0.03)
    pose = posed(slim, replace(usual(Stance.RESTING), feet=0.0), (128, 96), 0.0)
    areas = [np.count_nonzero(figure(body, pose, EVEN).parts == ScenePart.BODY) for body in (slim, bent)]
    assert areas[1] > 1.05 * areas[0]


def test_mates_of_a_huddle_are_alike_and_strangers_are_not() -> None:
    def difference(spread: float) -> float:
        pairs = []
        for seed in range(60):
            mates = litter(generator(seed, Axis.INDIVIDUALS, 0), FLOOR, spread=spread)
            one, other = (warmth(generator(seed, Axis.INDIVIDUALS, number), FLOOR, mates=mates) for number in (1, 2))
            pairs.append(abs(one.fur_celsius - other.fur_celsius))
        return float(np.median(pairs))

    assert difference(0.3) < 0.4
    assert difference(1.3) > 2 * difference(0.3)


def test_a_cover_hides_an_animal_and_its_labels() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[:, :128] = True
    frame = compose(full(FLOOR), [actor(1)], lens=Lens(), covers=[Cover(mask=mask, celsius=full(21.0))]).frame
    assert not frame.instances[:, :128].any()
    assert np.all(frame.surface_celsius[:, :128] == 21.0)
    assert 0.2 < frame.animals[0].covered_share < 0.9
    assert frame.animals[0].overlapped_share == 0


def test_a_mirror_shows_the_animal_beside_itself_half_a_degree_to_two_above_the_floor() -> None:
    mirror = Mirror(flip_axis=None, offset_px=(0.0, 45.0), share=0.15, blur_px=1.0)
    frame = compose(full(FLOOR), [actor(1)], lens=Lens(), mirrors=[mirror]).frame
    reflected = frame.surface_celsius[96 + 45, 128] - FLOOR
    assert reflected == pytest.approx(0.15 * (frame.surface_celsius[96, 128] - FLOOR), abs=0.15)
    assert 0.5 < reflected < 2
    assert frame.parts[96 + 45, 128] == 0


def test_mirrors_are_common_and_some_give_back_almost_half() -> None:
    strongest = np.array([
        max((mirror.share for mirror in random_mirrors(generator(seed, Axis.REFLECTIONS), (), LENGTH_PX)), default=0.0)
        for seed in range(400)
    ])  # fmt: skip
    print("strongest mirror", np.percentile(strongest, (25, 50, 75, 90, 99)).round(2))  # noqa: T201
    assert 0.25 < np.mean(strongest == 0) < 0.45  # none: that must be learnt as well
    assert np.mean(strongest > 0.15) > 0.35
    assert np.mean(strongest > 0.3) > 0.08
    assert 0.35 < strongest.max() < 0.5


def test_a_wall_mirrors_about_its_foot() -> None:
    excess = np.zeros(SHAPE, np.float32)
    excess[100, 60] = 8.0
    source = slice(95, 110), slice(50, 61)
    for axis, foot_px, expected in ((1, 40.0, (100, 20)), (0, 80.0, (60, 60))):
        mirrored = np.zeros(SHAPE, np.float32)
        window, image = wall_mirror(axis, foot_px, share=0.5, blur_px=0.5).image(excess, source)
        mirrored[window] = image
        assert divmod(int(mirrored.argmax()), SHAPE[1]) == expected
        assert mirrored.sum() == pytest.approx(0.5 * 8.0, rel=1e-3)


def test_what_is_mirrored_out_of_the_picture_is_nothing() -> None:
    window, image = wall_mirror(1, -80.0, share=0.5, blur_px=0.5).image(full(8.0), (slice(0, 192), slice(0, 256)))
    assert image.size == 0
    assert full(1.0)[window].size == 0


def test_a_warm_patch_cools_with_time() -> None:
    assert patch_rise_celsius(0.0, 0.0) == 0
    assert patch_rise_celsius(1e6, 0.0) == pytest.approx(BODY_PATCH_CELSIUS)
    assert patch_rise_celsius(1e6, 75.0) == pytest.approx(BODY_PATCH_CELSIUS / math.e)
    field = full(FLOOR)
    warm_patch(field, (100.0, 90.0), (30.0, 15.0), 0.0, 2.0)
    assert field[90, 100] == pytest.approx(FLOOR + 2, abs=0.2)
    assert field[90, 200] == pytest.approx(FLOOR)
    assert field.sum() - full(FLOOR).sum() == pytest.approx(2 * math.pi * 30 * 15, rel=0.1)


def test_urine_is_warm_then_cold_then_gone() -> None:
    assert urine_rise_celsius(-1.0) == 0
    assert urine_rise_celsius(0.0) == pytest.approx(URINE_CELSIUS)
    assert -1.7 < urine_rise_celsius(240.0) < -1.0
    assert abs(urine_rise_celsius(2 * 3600.0)) < 0.01


def test_a_dropping_is_small_and_has_its_temperature() -> None:
    field = full(FLOOR)
    dropping(field, generator(1, Axis.CLUTTER), (100.0, 90.0), 5.0, 20.0)
    assert field[90, 100] == 20.0
    assert 4 < np.count_nonzero(field == 20.0) < 30


def test_warm_things_are_no_animals_but_as_warm_as_one() -> None:
    hottest, sizes, flat = [], [], []
    for seed in range(120):
        field, thing = full(FLOOR), warm_thing(generator(seed, Axis.CLUTTER), FLOOR)
        thing.onto(field)
        assert np.isfinite(field).all()
        hottest.append(float(field.max()) - FLOOR)
        sizes.append(np.count_nonzero(np.abs(field - FLOOR) > 1))
        flat.append(thing.flat)
    assert np.mean(np.array(hottest) > 5) > 0.4
    assert max(hottest) < 30
    assert np.percentile(sizes, 25) > 150
    assert 0.08 < np.mean(flat) < 0.3


def test_a_hand_can_lie_over_an_animal_and_then_is_no_animal() -> None:
    thing = next(
        thing
        for seed in range(200)
        if not (thing := warm_thing(generator(seed, Axis.CLUTTER), FLOOR)).flat
        and (thing.share[60:130] > 0.5).sum() > 900
    )
    rows, columns = np.nonzero(thing.share > 0.5)
    held = actor(1, x=float(np.median(columns)), y=float(np.median(rows)))
    frame = compose(full(FLOOR), [held], lens=Lens(), covers=[thing.cover()]).frame
    assert frame.animals[0].covered_share > 0.05
    assert not frame.parts[thing.share > 0.5].any()
    assert np.isfinite(frame.surface_celsius).all()


def test_boxes_differ_in_walls_and_covers() -> None:
    boxes = [random_housing(generator(seed, Axis.BOX), FLOOR) for seed in range(200)]
    assert 0.03 < np.mean([bool(box.covers) for box in boxes]) < 0.35
    assert 0.3 < np.mean([bool(box.mirrors) for box in boxes]) < 0.8
    assert all(box.celsius.min() > 15 and box.celsius.max() < 30 for box in boxes)


def test_the_lens_spreads_a_point_and_keeps_its_sum() -> None:
    point = np.zeros(SHAPE, np.float32)
    point[96, 128] = 1.0
    seen = through_lens(point, 0.6)
    assert seen.sum() == pytest.approx(1.0, abs=1e-5)
    assert 0.3 < seen[96, 128] < 0.6  # 1 / (2 pi sigma^2) = 0.44 for a point-like pixel
    assert np.array_equal(through_lens(point, 0.0), point)


def test_corners_and_mist_read_differently() -> None:
    dim = Lens(blur_sigma_px=0.0, vignette_celsius=-1.0).seen(full(FLOOR))
    assert dim[0, 0] == pytest.approx(FLOOR - 1)
    assert dim[96, 128] == pytest.approx(FLOOR, abs=0.01)
    misted = Lens(blur_sigma_px=0.0, mist=full(0.25), mist_celsius=20.0).seen(full(30.0))
    assert misted[0, 0] == pytest.approx(27.5)


PERFECT = Detector(
    netd_celsius=0.0, pattern_celsius=0.0, column_celsius=0.0, row_celsius=0.0, shade_celsius=0.0, drift_celsius=0.0,
    memory=0.0, dead=0, step_celsius=0.001,
)  # fmt: skip


def _read(detector: Detector, picture: np.ndarray, before: np.ndarray) -> np.ndarray:
    return np.asarray(detector.read(picture, before, generator(1, Axis.DETECTOR)) - picture)


@pytest.mark.parametrize(("netd", "memory", "rms"), [(0.04, 0.0, 0.04), (0.06, 0.6, 0.03)])
def test_the_temporal_filter_halves_noise_at_a_memory_of_six_tenths(netd: float, memory: float, rms: float) -> None:
    picture = full(25.0)
    error = _read(replace(PERFECT, netd_celsius=netd, memory=memory), picture, picture)
    assert error.std() == pytest.approx(rms, rel=0.03)


def test_stripes_drift_and_dead_pixels_are_what_they_are_called() -> None:
    picture = full(25.0)
    columns = _read(replace(PERFECT, column_celsius=0.05), picture, picture)
    assert np.ptp(columns, axis=0).max() < 1e-3
    assert columns[0].std() == pytest.approx(0.05, rel=0.2)
    assert _read(replace(PERFECT, drift_celsius=0.4), picture, picture).mean() == pytest.approx(0.4, abs=1e-3)
    dead = _read(replace(PERFECT, dead=7), picture, picture)
    assert 1 <= np.count_nonzero(np.abs(dead) > 0.01) <= 7


def test_a_wrong_emissivity_lowers_the_contrast_to_the_surroundings() -> None:
    detector = replace(PERFECT, contrast=0.8, surroundings_celsius=20.0)
    assert _read(detector, full(30.0), full(30.0)).mean() == pytest.approx(-2.0, abs=1e-3)
    picture = full(20.0)
    assert _read(detector, picture, picture).mean() == pytest.approx(0.0, abs=1e-3)


def test_a_filter_with_memory_still_shows_where_the_animal_was() -> None:
    picture, before = full(25.0), full(30.0)
    assert _read(replace(PERFECT, memory=0.4), picture, before).mean() == pytest.approx(2.0, abs=1e-3)


def test_the_truth_says_what_species_and_stance_an_animal_has() -> None:
    frame = compose(full(FLOOR), [actor(1, stance=Stance.REARING)], lens=Lens()).frame
    truth = frame.animals[0]
    assert (truth.species, truth.stance, truth.core_celsius) == (Species.RAT, Stance.REARING, 37.5)
    assert set(truth.surface_celsius) == set(ScenePart)
