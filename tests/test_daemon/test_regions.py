"""Pixels by animal and part, worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.sighting import sightings
from daemon.vision.parts import BodyPart, Segmentation
from daemon.vision.regions import Regions


def small() -> Segmentation:
    """Animal 2 with body and tail, animal 7 with a head and a pixel of no part."""
    instances = np.array([[0, 2, 2, 2], [7, 7, 2, 0], [0, 7, 0, 0]], np.uint8)
    parts = np.array([[0, 3, 2, 2], [1, 0, 2, 0], [3, 1, 1, 0]], np.uint8)
    return Segmentation(parts=parts, instances=instances)


def test_pixels_are_in_order_of_animal_part_and_place() -> None:
    regions = Regions.of(small())
    assert regions.pixels.tolist() == [2, 3, 6, 1, 5, 4, 9]
    assert list(zip(regions.rows.tolist(), regions.columns.tolist(), strict=True)) == [
        (0, 2),
        (0, 3),
        (1, 2),
        (0, 1),
        (1, 1),
        (1, 0),
        (2, 1),
    ]
    assert regions.instances == {
        2: {2: (0, slice(0, 3)), 3: (1, slice(3, 4))},
        7: {0: (2, slice(4, 5)), 1: (3, slice(5, 7))},
    }
    assert regions.parts_of(7) == {BodyPart.HEAD: (3, slice(5, 7))}
    assert regions.whole(7) == slice(4, 7)


def test_sums_are_those_of_each_region() -> None:
    regions = Regions.of(small())
    assert regions.sums(regions.columns) == [7, 1, 1, 1]
    assert regions.sums(regions.columns > 1) == [3, 0, 0, 0]
    assert regions.sums(np.full(7, 0.5)) == [1.5, 0.5, 0.5, 1.0]


def test_without_animals_there_are_none() -> None:
    nothing = np.zeros((3, 4), np.uint8)
    regions = Regions.of(Segmentation(parts=nothing, instances=nothing.copy()))
    assert (regions.pixels.tolist(), regions.instances, regions.sums(regions.rows)) == ([], {}, [])
    assert sightings(regions, nothing.astype(np.float32)) == []


def test_what_is_seen_of_an_animal_by_hand() -> None:
    celsius: NDArray[np.float32] = np.arange(12, dtype=np.float32).reshape(3, 4)
    celsius[0, 3] = np.nan
    two, seven = sightings(Regions.of(small()), celsius)
    assert (two.instance, sorted(two.pixels.tolist()), two.trunk_px) == (2, [1, 2, 3, 6], 3)
    assert (two.x_px, two.y_px) == pytest.approx((7 / 3, 1 / 3))
    assert two.centres == {BodyPart.BODY: (7 / 3, 1 / 3), BodyPart.TAIL: (1, 0)}
    assert two.celsius == {BodyPart.BODY: 4, BodyPart.TAIL: 1}
    assert (seven.instance, seven.trunk_px, seven.x_px, seven.y_px) == (7, 2, 0.5, 1.5)
    assert seven.celsius == {BodyPart.HEAD: 6.5}


def test_of_a_tail_alone_all_that_is_seen_counts() -> None:
    segmentation = Segmentation(parts=np.array([[3, 3, 0, 0]], np.uint8), instances=np.array([[1, 1, 1, 0]], np.uint8))
    (seen,) = sightings(Regions.of(segmentation), np.full((1, 4), 30, np.float32))
    assert (seen.trunk_px, seen.x_px, seen.y_px) == (0, 1.0, 0.0)
    assert seen.centres == {BodyPart.TAIL: (0.5, 0.0)}
