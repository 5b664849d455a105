"""Random pictures of the synthetic vivarium: the same for a seed, true in every label, typical in every number."""

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.decoder import FrameDecoder
from drivers.material import FalseColourScale, Reading, open_material
from drivers.vivarium.anatomy import Species
from drivers.vivarium.arrangement import MAX_ANIMALS
from drivers.vivarium.dice import FIRST_TEST_SEED
from drivers.vivarium.figure import ScenePart
from drivers.vivarium.posture import Stance
from drivers.vivarium.snapshot import Snapshot, random_scene
from drivers.vivarium.truth import AnimalTruth, Contact

pytestmark = pytest.mark.timeout(600)  # a thousand scenes are ten seconds of a core that has nothing else to do

SCENES = 1000
LOOKED_AT = 150
"""So many of them are examined pixel by pixel."""


@pytest.fixture(scope="module")
def thousand() -> list[Snapshot]:
    return [random_scene(seed) for seed in range(SCENES)]


def digest(snapshot: Snapshot) -> str:
    frame = snapshot.frame
    arrays = (snapshot.celsius, frame.surface_celsius, frame.parts, frame.instances)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def uncovered(snapshot: Snapshot) -> list[AnimalTruth]:
    """Animals that nothing hides and that are not cut by the border."""
    frame = snapshot.frame
    border = np.unique(np.concatenate([frame.instances[edge].ravel() for edge in (0, -1)]
                                      + [frame.instances[:, edge].ravel() for edge in (0, -1)]))  # fmt: skip
    return [
        animal
        for animal in frame.animals
        if animal.area_px and animal.covered_share == 0 and animal.animal not in border
    ]


def at(labels: NDArray[np.uint8], point: tuple[float, float], reach_px: int = 2) -> set[int]:
    """Labels around a point."""
    x, y = round(point[0]), round(point[1])
    window = labels[max(y - reach_px, 0) : y + reach_px + 1, max(x - reach_px, 0) : x + reach_px + 1]
    return set(np.unique(window).tolist())


def test_a_seed_gives_the_same_picture_in_another_process() -> None:
    program = (
        "import hashlib; from drivers.vivarium.snapshot import random_scene\n"
        "for seed in (3, 41, 990_017):\n"
        "    shot = random_scene(seed); frame = shot.frame\n"
        "    arrays = (shot.celsius, frame.surface_celsius, frame.parts, frame.instances)\n"
        "    print(hashlib.sha256(b''.join(array.tobytes() for array in arrays)).hexdigest())\n"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    random_scene(5)  # nothing carries over from one to the next
    assert there.stdout.split() == [digest(random_scene(seed)) for seed in (3, 41, 990_017)]


def test_no_two_seeds_give_the_same_picture(thousand: list[Snapshot]) -> None:
    test_scenes = [random_scene(seed) for seed in range(FIRST_TEST_SEED, FIRST_TEST_SEED + 50)]
    assert len({digest(snapshot) for snapshot in thousand + test_scenes}) == SCENES + 50


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        random_scene(-1)


def test_the_picture_cannot_be_painted_over() -> None:
    with pytest.raises(ValueError, match="read-only"):
        random_scene(1).celsius[0, 0] = 37.0


def test_every_labelled_pixel_belongs_to_one_animal(thousand: list[Snapshot]) -> None:
    for snapshot in thousand:
        frame = snapshot.frame
        assert frame.parts.shape == frame.instances.shape == snapshot.celsius.shape == (192, 256)
        np.testing.assert_array_equal(frame.parts > 0, frame.instances > 0)
        assert frame.parts.max() <= ScenePart.TAIL
        assert set(np.unique(frame.instances)) - {0} <= {animal.animal for animal in frame.animals}
        assert np.isfinite(snapshot.celsius).all()


def test_the_temperatures_of_the_truth_are_those_of_the_picture_before_the_lens(thousand: list[Snapshot]) -> None:
    compared = 0
    for snapshot in thousand[:LOOKED_AT]:
        frame = snapshot.frame
        for truth in frame.truths:
            mask = (frame.parts == truth.part) & (frame.instances == truth.animal)
            rows, columns = np.nonzero(mask)
            assert truth.area_px == rows.size
            assert (truth.x_px, truth.y_px) == pytest.approx((columns.mean(), rows.mean()))
            assert truth.surface_celsius == pytest.approx(frame.surface_celsius[mask].mean(), abs=1e-3)
            assert truth.radiometric_celsius == pytest.approx(frame.radiometric_celsius[mask].mean(), abs=1e-3)
        for animal in uncovered(snapshot):
            for part, celsius in animal.surface_celsius.items():
                seen = frame.truth(part, animal.animal)
                assert seen is not None
                assert seen.surface_celsius == pytest.approx(celsius, abs=1e-3)
                compared += 1
    assert compared > 200


def test_an_uncovered_animal_is_one_piece_with_its_points_on_it(thousand: list[Snapshot]) -> None:
    seen = 0
    for snapshot in thousand[:LOOKED_AT]:
        frame = snapshot.frame
        for animal in uncovered(snapshot):
            own = np.where(frame.instances == animal.animal, frame.parts, 0).astype(np.uint8)
            assert cv2.connectedComponents((own > 0).astype(np.uint8), connectivity=8)[0] == 2, snapshot.seed
            assert set(np.unique(own)) == {0, *ScenePart}
            if animal.stance is not Stance.CURLED:  # which may lie on its own tail
                assert ScenePart.TAIL in at(own, animal.tail_tip), snapshot.seed
            if animal.stance in (Stance.WALKING, Stance.STRETCHED):
                assert ScenePart.HEAD in at(own, animal.snout)
                assert {ScenePart.HEAD, ScenePart.BODY} <= at(own, animal.neck), snapshot.seed
                assert {ScenePart.BODY, ScenePart.TAIL} & at(own, animal.tail_base)
            seen += 1
    assert seen > 60


def test_where_animals_touch_both_are_labelled(thousand: list[Snapshot]) -> None:
    for snapshot in thousand[:LOOKED_AT]:
        instances = snapshot.frame.instances
        if snapshot.frame.contact() is Contact.APART:
            numbers = np.unique(instances)[1:]
            masks = [
                cv2.dilate((instances == number).astype(np.uint8), np.ones((3, 3), np.uint8)) for number in numbers
            ]
            assert not any((mask > 0)[(instances > 0) & (instances != number)].any()
                           for mask, number in zip(masks, numbers, strict=True))  # fmt: skip
        else:
            assert len(np.unique(instances)) > 2


def test_a_thousand_scenes_have_all_that_a_vivarium_has(thousand: list[Snapshot]) -> None:
    counts = Counter(len(snapshot.frame.animals) for snapshot in thousand)
    contacts = Counter(snapshot.frame.contact() for snapshot in thousand)
    animals = [animal for snapshot in thousand for animal in snapshot.frame.animals]
    stances, species = Counter(animal.stance for animal in animals), Counter(animal.species for animal in animals)
    cut = np.mean([len(uncovered(snapshot)) < len(snapshot.frame.animals) for snapshot in thousand])
    print(f"{counts=} {contacts=} {stances=} {species=} {cut=:.2f}")  # noqa: T201
    assert set(counts) == set(range(MAX_ANIMALS + 1))
    assert min(counts.values()) > 0.04 * SCENES
    assert min(contacts.values()) > 0.08 * SCENES
    assert set(contacts) == set(Contact)
    assert set(stances) == set(Stance)
    assert min(stances.values()) > 0.05 * len(animals)
    assert set(species) == set(Species)


def test_a_thousand_scenes_have_the_temperatures_of_rodents(thousand: list[Snapshot]) -> None:
    floors = np.array([np.median(snapshot.frame.surface_celsius[snapshot.frame.parts == 0]) for snapshot in thousand])
    truths = [truth for snapshot in thousand for truth in snapshot.frame.truths if truth.area_px > 20]
    by_part = {part: np.array([truth.surface_celsius for truth in truths if truth.part == part]) for part in ScenePart}
    hottest = np.array([
        snapshot.frame.surface_celsius[snapshot.frame.parts == ScenePart.HEAD].max()
        for snapshot in thousand
        if (snapshot.frame.parts == ScenePart.HEAD).any()
    ])  # fmt: skip
    cores = np.array([animal.core_celsius for snapshot in thousand for animal in snapshot.frame.animals])

    for name, values in (("floor", floors), ("hottest of a head", hottest), ("core", cores), *by_part.items()):
        print(name, *(f"{value:.1f}" for value in np.percentile(values, (1, 10, 50, 90, 99))))  # noqa: T201
    assert 22 < np.median(floors) < 24
    assert np.mean((floors > 21.5) & (floors < 24.5)) > 0.75
    assert 29 < np.median(by_part[ScenePart.BODY]) < 31
    assert np.mean((by_part[ScenePart.BODY] > 28) & (by_part[ScenePart.BODY] < 32.5)) > 0.62
    assert np.mean((by_part[ScenePart.BODY] > 22) & (by_part[ScenePart.BODY] < 35.5)) > 0.96
    assert 30.5 < np.median(by_part[ScenePart.HEAD]) < 33
    assert np.mean((by_part[ScenePart.TAIL] > 21) & (by_part[ScenePart.TAIL] < 32.5)) > 0.9
    assert np.percentile(by_part[ScenePart.TAIL], 90) > 27
    assert np.percentile(by_part[ScenePart.TAIL], 10) < 24.5
    assert 33 < np.median(hottest) < 37
    assert hottest.max() < 40
    assert 36 < cores.min() < cores.max() < 39.5


def test_a_thousand_scenes_have_animals_of_less_than_40_to_more_than_160_px(thousand: list[Snapshot]) -> None:
    walking = [
        np.hypot(animal.snout[0] - animal.tail_base[0], animal.snout[1] - animal.tail_base[1])
        for snapshot in thousand
        for animal in snapshot.frame.animals
        if animal.stance is Stance.WALKING
    ]
    shortest, usual, longest = np.percentile(walking, (1, 50, 99))
    print(f"walking animals are {shortest:.0f} to {longest:.0f} px long, half of them above {usual:.0f}")  # noqa: T201
    assert 26 < shortest < 42
    assert 155 < longest < 200


def test_the_camera_reads_the_floor_as_it_is_but_for_noise_and_drift(thousand: list[Snapshot]) -> None:
    errors = [snapshot.celsius - snapshot.frame.radiometric_celsius for snapshot in thousand[:LOOKED_AT]]
    offsets = np.array([np.median(error) for error in errors])
    noises = np.array([np.median(np.abs(np.diff(error, axis=0))) / 0.954 for error in errors])
    print(f"offset {offsets.std():.2f} °C rms, noise {noises.min():.3f} to {noises.max():.3f} °C")  # noqa: T201
    assert 0.3 < offsets.std() < 0.7
    assert 0.01 < noises.min() < noises.max() < 0.1


def floor_around(celsius: NDArray[np.float32], own: NDArray[np.bool_], parts: NDArray[np.uint8]) -> float:
    """Temperature of the floor around an animal; NaN where none is seen."""
    near, far = (cv2.dilate(own.astype(np.uint8), np.ones((size, size), np.uint8)) > 0 for size in (9, 25))
    floor = far & ~near & (parts == 0)
    return float(np.median(celsius[floor])) if floor.any() else float("nan")


def body_above_floor(celsius: NDArray[np.float32], own: NDArray[np.bool_], parts: NDArray[np.uint8]) -> float:
    """The body of an animal above the floor around it; NaN where one of them is not seen."""
    body = own & (parts == ScenePart.BODY)
    if np.count_nonzero(body) < 30:
        return float("nan")
    return float(celsius[body].mean()) - floor_around(celsius, own, parts)


def edge_share(celsius: NDArray[np.float32], own: NDArray[np.bool_], parts: NDArray[np.uint8]) -> float:
    """Warmth of a body's outermost pixels by that of its inside, both above the floor; NaN where there is no inside."""
    depth_px = cv2.distanceTransform(own.astype(np.uint8), cv2.DIST_L2, 5)
    body = own & (parts == ScenePart.BODY)
    inside, edge = celsius[body & (depth_px > 6)], celsius[body & (depth_px <= 1)]
    if inside.size <= 10 or not edge.size or not body_above_floor(celsius, own, parts) > 1:
        return float("nan")
    floor = floor_around(celsius, own, parts)
    return float((edge.mean() - floor) / (inside.mean() - floor))


def percentiles(name: str, values: list[float]) -> NDArray[np.float64]:
    """Those of the table in docs/scenes.md, printed."""
    found = np.nanpercentile(values, (1, 10, 50, 90, 99))
    print(name, *(f"{value:.2f}" for value in found))  # noqa: T201
    return found


def test_tails_are_thin_and_thick_cold_and_as_warm_as_the_body(thousand: list[Snapshot]) -> None:
    shares, colder = [], []
    for snapshot in thousand:
        frame = snapshot.frame
        for animal in uncovered(snapshot):
            own = frame.instances == animal.animal
            shares.append(float(np.mean(frame.parts[own] == ScenePart.TAIL)))
            tail, body = (frame.truth(part, animal.animal) for part in (ScenePart.TAIL, ScenePart.BODY))
            if tail and body:
                colder.append(tail.radiometric_celsius - body.radiometric_celsius)
    _, low, middle, high, highest = percentiles("tail's share of the pixels", shares)
    assert low < 0.11
    assert 0.125 < middle < 0.155
    assert high > 0.165
    assert 0.19 < highest < 0.3
    coldest, cold, half, warm, warmest = percentiles("tail minus body", colder)
    assert coldest < cold < -5
    assert -4 < half < -1.8
    assert warm > -1
    assert warmest > 0


def test_animals_stand_out_from_the_floor_hardly_as_usual_and_a_lot(thousand: list[Snapshot]) -> None:
    contrasts = [
        body_above_floor(frame.radiometric_celsius, frame.instances == animal.animal, frame.parts)
        for frame in (snapshot.frame for snapshot in thousand[:300])
        for animal in frame.animals
    ]
    lowest, low, middle, high, highest = percentiles("body above the floor", contrasts)
    assert 0.4 < lowest < 1.2
    assert low < 2.6
    assert 5 < middle < 7
    assert high > 8
    assert highest > 10


def test_heads_rumps_and_tails_alone_look_into_the_picture(thousand: list[Snapshot]) -> None:
    areas, alone = [], Counter[frozenset[ScenePart]]()
    for snapshot in thousand:
        seen: dict[int, dict[ScenePart, int]] = {animal.animal: {} for animal in snapshot.frame.animals}
        for truth in snapshot.frame.truths:
            seen[truth.animal][truth.part] = truth.area_px
        areas += [float(sum(parts.values())) for parts in seen.values()]
        alone.update(frozenset(parts) for parts in seen.values())
    smallest, *_ = percentiles("visible pixels of an animal", areas)
    print({"+".join(part.name.lower() for part in sorted(parts)): count for parts, count in alone.items()})  # noqa: T201
    assert smallest < 120
    assert np.mean(np.array(areas) < 300) > 0.04
    for parts in ({ScenePart.HEAD}, {ScenePart.TAIL}, {ScenePart.BODY, ScenePart.TAIL}):
        assert alone[frozenset(parts)] >= 5, parts
    assert alone[frozenset()] < 0.02 * len(areas)


def test_outlines_are_sharp_and_blurred(thousand: list[Snapshot]) -> None:
    edges = [
        edge_share(snapshot.frame.radiometric_celsius, snapshot.frame.instances == animal.animal, snapshot.frame.parts)
        for snapshot in thousand[:300]
        for animal in uncovered(snapshot)
    ]
    _, soft, _, sharp, _ = percentiles("outermost pixels of a body, share of its warmth", edges)
    assert soft < 0.3
    assert sharp > 0.5


def test_there_is_enough_of_each_kind_of_company(thousand: list[Snapshot]) -> None:
    several = [snapshot.frame for snapshot in thousand if len(snapshot.frame.animals) > 1]
    assert np.mean([frame.contact() is Contact.APART for frame in several]) > 0.36
    mixed = [frame for frame in several if len({animal.species for animal in frame.animals}) == 2]
    assert 0.03 < len(mixed) / len(several) < 0.15
    differences = [
        max(bodies) - min(bodies)
        for frame in several
        if frame.contact() is Contact.HUDDLE
        and len(bodies := [truth.surface_celsius for truth in frame.truths
                           if truth.part == ScenePart.BODY and truth.area_px > 60]) > 1
    ]  # fmt: skip
    _, alike, usual, unlike, _ = percentiles("warmest minus coldest body of a huddle", differences)
    assert alike < 0.4
    assert usual < 1.1
    assert unlike > 1.3


def test_empty_pictures_often_show_something_warm(thousand: list[Snapshot]) -> None:
    empty = [snapshot.celsius for snapshot in thousand if not snapshot.frame.animals]
    warm = np.mean([float(np.percentile(picture, 99) - np.median(picture)) > 2 for picture in empty])
    print(f"{len(empty)} empty pictures, something warm in {warm:.0%}")  # noqa: T201
    assert 0.3 < warm < 0.85


@pytest.mark.real
def test_the_published_picture_lies_inside_the_ranges(thousand: list[Snapshot], real_material: Path) -> None:
    """Nothing is fitted to it: whatever is measured on it is to be among what scenes show, and not at their ends."""
    scale = FalseColourScale(readings=(Reading(x=390, y=683, celsius=29.3), Reading(x=714, y=534, celsius=26.3)))
    with open_material(real_material / "real" / "rat_frame_00001.jpg", scale=scale) as material:
        first = next(iter(material))
        celsius = (
            FrameDecoder(still=True, base_flags=first.flags).decode(first.raw, calibration=first.calibration).celsius
        )
    mask = cv2.imread(str(real_material / "real" / "rat_frame_00001_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    squashed = cv2.resize(mask, celsius.shape[::-1], interpolation=cv2.INTER_NEAREST)
    parts = np.array((0, ScenePart.TAIL, ScenePart.BODY, ScenePart.HEAD), np.uint8)[squashed]

    def measured(
        celsius: NDArray[np.float32], own: NDArray[np.bool_], parts: NDArray[np.uint8]
    ) -> tuple[float, float, float, float]:
        tail, body = own & (parts == ScenePart.TAIL), own & (parts == ScenePart.BODY)
        colder = float(celsius[tail].mean() - celsius[body].mean()) if tail.any() and body.any() else float("nan")
        return (
            np.count_nonzero(tail) / np.count_nonzero(own),
            colder,
            body_above_floor(celsius, own, parts),
            edge_share(celsius, own, parts),
        )

    on_scenes = np.array([
        measured(snapshot.frame.radiometric_celsius, snapshot.frame.instances == animal.animal, snapshot.frame.parts)
        for snapshot in thousand[:400]
        for animal in uncovered(snapshot)
    ])  # fmt: skip
    names = ("tail's share of the pixels", "tail minus body", "body above the floor", "outermost pixels of the body")
    for name, real, scenes in zip(names, measured(celsius, parts > 0, parts), on_scenes.T, strict=True):
        below = float(np.mean(scenes[np.isfinite(scenes)] < real))
        print(f"published picture: {name} {real:.2f}, more than {below:.0%} of the scenes' animals")  # noqa: T201
        assert 0.08 < below < 0.92, name
