"""Grouping of heat maps into animals: known answers, and the truth of synthetic scenes fed back."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.vision.panoptic import LEAST_ANIMAL_PX, CentreMap, PartMap, grouped, merged, peaks
from daemon.vision.parts import BodyPart, Segmentation
from drivers.vivarium.snapshot import random_scene
from drivers.vivarium.truth import Contact, SceneFrame

HEIGHT, WIDTH = 192, 256
FIRST_SEED, SCENES = 700_000, 160
SIGMA_PX = 5.0

Labels = NDArray[np.uint8]


def cells(size: int, stride: int) -> NDArray[np.float32]:
    """Where the middle of each cell lies, in pixels."""
    return ((np.arange(size // stride) + 0.5) * stride - 0.5).astype(np.float32)


def centre_map(instances: Labels, centres: dict[int, tuple[float, float]], stride: int = 2) -> CentreMap:
    """Perfect maps: a hill at each centre, and in each cell of an animal the way to its own."""
    x, y = cells(instances.shape[1], stride), cells(instances.shape[0], stride)[:, np.newaxis]
    heat = np.zeros((len(y), len(x)), np.float32)
    offset = np.zeros((2, len(y), len(x)), np.float32)
    shares = {
        number: cv2.resize((instances == number).astype(np.float32), heat.shape[::-1], interpolation=cv2.INTER_AREA)
        for number in centres
    }
    most = np.zeros_like(heat)
    for number, (centre_x, centre_y) in centres.items():
        heat = np.maximum(heat, np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * SIGMA_PX**2)))
        own = shares[number] > most
        most[own] = shares[number][own]
        offset[0][own] = np.broadcast_to(centre_x - x, heat.shape)[own]
        offset[1][own] = np.broadcast_to(centre_y - y, heat.shape)[own]
    return CentreMap(centre=heat.astype(np.float32), offset=offset, stride=stride)


def centres_of(frame: SceneFrame) -> dict[int, tuple[float, float]]:
    """The middle of what is seen of each animal's body, or of all of it where no body is seen."""
    centres = {}
    for number in np.unique(frame.instances[frame.instances > 0]).tolist():
        own = frame.instances == number
        body = own & (frame.parts == BodyPart.BODY)
        rows, columns = np.nonzero(body if body.any() else own)
        centres[number] = float(columns.mean()), float(rows.mean())
    return centres


def animal(instances: Labels, parts: Labels, number: int, x: int, y: int) -> None:
    """Paint one: a head of 8, a body of 24 and a tail of 20 pixels, from left to right, the body about (x, y)."""
    for part, first, last, half in (
        (BodyPart.HEAD, x - 20, x - 12, 5), (BodyPart.BODY, x - 12, x + 12, 7), (BodyPart.TAIL, x + 12, x + 32, 1),
    ):  # fmt: skip
        instances[y - half : y + half + 1, first:last] = number
        parts[y - half : y + half + 1, first:last] = part


@pytest.fixture
def two() -> tuple[Labels, Labels, dict[int, tuple[float, float]]]:
    """Two animals that touch along their sides: instances, parts, centres."""
    instances, parts = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    animal(instances, parts, 1, 100, 80)
    animal(instances, parts, 2, 104, 95)
    return instances, parts, {1: (99.5, 80.0), 2: (103.5, 95.0)}


def test_touching_animals_come_apart_along_their_border(
    two: tuple[Labels, Labels, dict[int, tuple[float, float]]],
) -> None:
    instances, parts, centres = two
    for stride in (1, 2, 4):
        found = grouped(parts, centre_map(instances, centres, stride))
        np.testing.assert_array_equal(found.parts, parts)
        assert np.mean(found.instances != instances) < (0.0005 if stride == 1 else 0.002)
        assert found.instances.max() == 2


def test_peaks_are_where_the_hills_are_the_clearest_first() -> None:
    instances = np.zeros((HEIGHT, WIDTH), np.uint8)
    wanted = {1: (60.5, 40.5), 2: (180.5, 120.5)}
    found = centre_map(instances, wanted)
    dimmer = found.centre.copy()
    dimmer[:, :64] *= 0.7
    places = peaks(CentreMap(centre=dimmer, offset=found.offset, stride=2))
    np.testing.assert_allclose(places, [wanted[2], wanted[1]], atol=1.0)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("apart_cells", [1, 2, 3, 4, 6])
def test_equal_tops_on_one_hill_are_one_centre(stride: int, apart_cells: int) -> None:
    """Eight bits make neighbouring heights equal; between two of them may lie one that is a step lower."""
    heat = np.zeros((HEIGHT // stride, WIDTH // stride), np.float32)
    row, column = heat.shape[0] // 2, heat.shape[1] // 2
    heat[row - 3 : row + 4, column - 3 : column + 10] = 0.5
    heat[row, column : column + apart_cells + 1] = 203 / 255
    heat[row, [column, column + apart_cells]] = 204 / 255
    places = peaks(CentreMap(centre=heat, offset=np.zeros((2, *heat.shape), np.float32), stride=stride))
    middle = ((column + apart_cells / 2 + 0.5) * stride - 0.5, (row + 0.5) * stride - 0.5)
    np.testing.assert_allclose(places, [middle])


def test_an_animal_whose_hill_has_equal_tops_stays_whole(
    two: tuple[Labels, Labels, dict[int, tuple[float, float]]],
) -> None:
    instances, parts, centres = two
    maps = centre_map(instances, centres)
    coarse = (np.minimum(maps.centre, 0.8) * 255).round() / np.float32(255)
    rows, columns = np.nonzero(coarse == coarse.max())
    coarse[rows, columns] -= np.float32(2 / 255) * ((rows + columns) % 2 == 0)
    found = grouped(parts, CentreMap(centre=coarse.astype(np.float32), offset=maps.offset, stride=2))
    np.testing.assert_array_equal(found.parts, parts)
    assert found.instances.max() == 2
    assert np.mean(found.instances != instances) < 0.002


def test_two_equal_hills_with_a_dip_between_stay_two() -> None:
    instances = np.zeros((HEIGHT, WIDTH), np.uint8)
    found = peaks(centre_map(instances, {1: (100.5, 80.5), 2: (114.5, 80.5)}))
    np.testing.assert_allclose(sorted(found), [(100.5, 80.5), (114.5, 80.5)], atol=1.0)


def test_nothing_is_found_in_nothing() -> None:
    nothing = np.zeros((HEIGHT, WIDTH), np.uint8)
    for centres in (None, centre_map(nothing, {}), centre_map(nothing, {1: (50.0, 50.0)})):
        found = grouped(nothing, centres)
        assert not found.parts.any()
        assert not found.instances.any()


def test_a_piece_that_points_at_no_centre_is_no_animal(
    two: tuple[Labels, Labels, dict[int, tuple[float, float]]],
) -> None:
    instances, parts, centres = two
    with_a_hand = parts.copy()
    with_a_hand[10:50, 180:240] = BodyPart.BODY
    found = grouped(with_a_hand, centre_map(instances, centres))
    np.testing.assert_array_equal(found.parts, parts)
    assert found.instances.max() == 2


def test_a_centre_that_nothing_points_at_is_none(two: tuple[Labels, Labels, dict[int, tuple[float, float]]]) -> None:
    instances, parts, centres = two
    maps = centre_map(instances, centres)
    ghost = centre_map(np.zeros_like(instances), {1: (220.0, 160.0)})
    with_ghost = CentreMap(centre=np.maximum(maps.centre, ghost.centre), offset=maps.offset, stride=2)
    np.testing.assert_array_equal(grouped(parts, with_ghost).instances, grouped(parts, maps).instances)


def test_a_small_spot_inside_another_animal_is_that_animals(
    two: tuple[Labels, Labels, dict[int, tuple[float, float]]],
) -> None:
    instances, parts, centres = two
    maps = centre_map(instances, centres, stride=1)
    offset = maps.offset.copy()
    offset[:, 77:81, 92:96] += np.array((4.0, 15.0), np.float32)[:, np.newaxis, np.newaxis]  # points at the other one
    found = grouped(parts, CentreMap(centre=maps.centre, offset=offset, stride=1))
    np.testing.assert_array_equal(found.instances, grouped(parts, maps).instances)


def test_a_tail_goes_to_its_owner_though_its_tip_points_at_another() -> None:
    instances, parts = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    animal(instances, parts, 1, 60, 80)
    animal(instances, parts, 2, 160, 84)
    maps = centre_map(instances, {1: (59.5, 80.0), 2: (159.5, 84.0)}, stride=1)
    offset = maps.offset.copy()
    offset[0, 79:82, 87:92] = 159.5 - np.arange(87, 92)
    found = grouped(parts, CentreMap(centre=maps.centre, offset=offset, stride=1))
    tail = (instances == 1) & (parts == BodyPart.TAIL)
    assert set(np.unique(found.instances[tail])) == {found.instances[80, 60]}


def test_a_tail_behind_a_bar_stays_with_its_animal() -> None:
    instances, parts = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    animal(instances, parts, 1, 60, 80)
    instances[:, 74:78] = parts[:, 74:78] = 0
    found = grouped(parts, centre_map(instances, {1: (59.5, 80.0)}))
    np.testing.assert_array_equal(found.instances, instances)


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_than_there_can_be_and_the_clearest_stay(
    two: tuple[Labels, Labels, dict[int, tuple[float, float]]], most: int
) -> None:
    instances, parts, centres = two
    animal(instances, parts, 3, 200, 150)
    maps = centre_map(instances, centres | {3: (199.5, 150.0)})
    dim = maps.centre.copy()
    dim[60:] *= 0.5
    found = grouped(parts, CentreMap(centre=dim, offset=maps.offset, stride=2), most=most)
    assert found.instances.max() == most
    assert not found.parts[150, 200]


def test_specks_and_lone_streaks_are_no_animals() -> None:
    parts = np.zeros((HEIGHT, WIDTH), np.uint8)
    parts[10:14, 10:14] = BodyPart.BODY
    parts[100:102, 20:80] = BodyPart.TAIL
    assert not grouped(parts, None).instances.any()
    assert not grouped(parts, None).parts.any()


def test_without_centres_each_piece_is_an_animal_the_largest_first() -> None:
    instances, parts = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    animal(instances, parts, 2, 60, 40)
    animal(instances, parts, 1, 160, 140)
    parts[147:152, 150:165] = BodyPart.BODY
    instances[147:152, 150:165] = 1
    np.testing.assert_array_equal(grouped(parts, None).instances, instances)


def test_an_animal_is_found_among_hundreds_of_specks() -> None:
    instances, parts = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    parts[::4, ::4] = BodyPart.BODY
    parts[130:175] = 0
    animal(instances, parts, 1, 160, 150)
    np.testing.assert_array_equal(grouped(parts, None).instances, instances)


def test_of_two_opinions_the_surer_one_counts_pixel_by_pixel() -> None:
    first = PartMap(parts=np.array([[0, 1, 2]], np.uint8), confidence=np.array([[0.9, 0.4, 0.7]], np.float32))
    second = PartMap(parts=np.array([[2, 2, 3]], np.uint8), confidence=np.array([[0.6, 0.8, 0.7]], np.float32))
    both = merged(first, second)
    np.testing.assert_array_equal(both.parts, [[0, 2, 2]])
    np.testing.assert_allclose(both.confidence, [[0.9, 0.8, 0.7]])


def test_maps_that_do_not_fit_together_are_refused() -> None:
    parts = np.ones((HEIGHT, WIDTH), np.uint8)
    with pytest.raises(ValueError, match=r"parts of \(192, 256\) do not fit to centres of \(48, 64\) with stride 2"):
        grouped(
            parts, CentreMap(centre=np.zeros((48, 64), np.float32), offset=np.zeros((2, 48, 64), np.float32), stride=2)
        )


def test_offsets_that_are_no_numbers_harm_nothing(two: tuple[Labels, Labels, dict[int, tuple[float, float]]]) -> None:
    instances, parts, centres = two
    maps = centre_map(instances, centres)
    found = grouped(parts, CentreMap(centre=maps.centre, offset=np.full_like(maps.offset, np.nan), stride=maps.stride))
    assert found.instances.max() <= 2


def quality(pairs: list[tuple[Labels, Labels]]) -> float:
    """Panoptic quality (Kirillov et al., CVPR 2019) of (truth, found) over all pictures: IoU of matches above 0.5."""
    overlap, matched, unmatched = 0.0, 0, 0
    for truth, found in pairs:
        true_numbers, found_numbers = np.unique(truth[truth > 0]), np.unique(found[found > 0])
        ious = [
            np.count_nonzero((truth == t) & (found == f)) / np.count_nonzero((truth == t) | (found == f))
            for t in true_numbers
            for f in found_numbers
        ]
        good = [iou for iou in ious if iou > 0.5]
        overlap += sum(good)
        matched += len(good)
        unmatched += len(true_numbers) + len(found_numbers) - 2 * len(good)
    return overlap / (matched + unmatched / 2)


@pytest.fixture(scope="module")
def by_contact() -> dict[Contact, list[tuple[SceneFrame, Segmentation]]]:
    """Scenes that are not for judging, with what grouping makes of their true parts and perfect maps of stride 2."""
    told: dict[Contact, list[tuple[SceneFrame, Segmentation]]] = {contact: [] for contact in Contact}
    for seed in range(FIRST_SEED, FIRST_SEED + SCENES):
        frame = random_scene(seed).frame
        found = grouped(frame.parts, centre_map(frame.instances, centres_of(frame)))
        told[frame.contact()].append((frame, found))
    return told


def worth_finding(frame: SceneFrame) -> Labels:
    """True animals but those that grouping leaves out on purpose: of which a tail alone, or a speck, looks in."""
    trunks = np.unique(frame.instances[(frame.parts > 0) & (frame.parts != BodyPart.TAIL)])
    sizes = np.bincount(frame.instances.ravel())
    kept = [number for number in trunks if sizes[number] >= LEAST_ANIMAL_PX]
    return np.where(np.isin(frame.instances, kept), frame.instances, np.uint8(0))


@pytest.mark.parametrize(
    ("contact", "least"), [(Contact.APART, 0.99), (Contact.TOUCHING, 0.97), (Contact.HUDDLE, 0.94)]
)
def test_perfect_maps_of_scenes_give_animals_that_are_nearly_perfect(
    by_contact: dict[Contact, list[tuple[SceneFrame, Segmentation]]], contact: Contact, least: float
) -> None:
    pairs = [(worth_finding(frame), found.instances) for frame, found in by_contact[contact]]
    assert len(pairs) > 15
    assert quality(pairs) > least


def test_parts_and_instances_always_agree(by_contact: dict[Contact, list[tuple[SceneFrame, Segmentation]]]) -> None:
    for pairs in by_contact.values():
        for frame, found in pairs:
            np.testing.assert_array_equal(found.parts > 0, found.instances > 0)
            shown = found.parts > 0
            np.testing.assert_array_equal(found.parts[shown], frame.parts[shown])
            areas = np.bincount(found.instances.ravel())[1:]
            assert all(areas) and sorted(areas, reverse=True) == areas.tolist()
