"""What the outline of an animal is freed from: worked out by hand, and against the plain formula pixel by pixel."""

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.unmixing import Unmixed, unmixed
from daemon.vision.parts import Segmentation
from daemon.vision.regions import Regions
from drivers.scene import Scene

SHAPE = (192, 256)
NIGHT_UTC_S = 1_790_046_000


def floor() -> NDArray[np.float32]:
    return np.full(SHAPE, 20.0, np.float32)


def unmix(celsius: NDArray[np.float32], instances: NDArray[np.uint8]) -> tuple[Regions, Unmixed]:
    regions = Regions.of(Segmentation(parts=np.zeros_like(instances), instances=instances))
    return regions, unmixed(celsius, instances, regions)


def picture(celsius: NDArray[np.float32], instances: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The whole picture with the animals' degrees in it."""
    regions, found = unmix(celsius, instances)
    whole = celsius.copy()
    whole.ravel()[regions.pixels] = found.celsius
    return whole


def around(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each pixel and its eight neighbours, NaN beyond the picture, (9, height, width)."""
    height, width = values.shape
    padded = np.pad(values, 1, constant_values=np.nan)
    return np.array([padded[row : row + height, column : column + width] for row in range(3) for column in range(3)])


def plain(celsius: NDArray[np.float32], instances: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The formula on the whole picture, sums in float64 and all else in float32; and the outline."""

    def eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.asarray((np.nan_to_num(around(mask.astype(np.float64)), nan=1) > 0).all(axis=0))

    def mean(values: NDArray[np.float32], used: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        each = around(np.where(used, values, np.nan).astype(np.float64))
        counts = np.isfinite(each).sum(axis=0)
        sums = np.nansum(each, axis=0).astype(np.float32)
        return sums / np.maximum(counts, 1).astype(np.float32), counts > 0

    animal, known = instances > 0, np.isfinite(celsius)
    whole = eroded(animal)
    deep = eroded(whole)
    inside, within = mean(celsius, whole & known)
    deeper, within_deeper = mean(celsius, deep & known)
    second = whole & ~deep & known & within_deeper
    fall, _ = mean(np.minimum(celsius - deeper, 0), second)
    outline = animal & ~whole
    return np.where(outline & known & within, inside + np.float32(0.5) * fall, celsius), outline


def test_outline_pixels_have_the_temperature_of_the_animal_beside_them() -> None:
    celsius, instances = floor(), np.zeros(SHAPE, np.uint8)
    instances[10:15, 10:15] = 1
    celsius[10:15, 10:15] = 25  # half animal, half floor
    celsius[11:14, 11:14] = 30
    found = picture(celsius, instances)
    np.testing.assert_array_equal(found[10:15, 10:15], np.full((5, 5), 30.0))
    np.testing.assert_array_equal(found[instances == 0], celsius[instances == 0])


def test_half_of_the_fall_towards_the_rim_goes_on_and_a_rise_does_not() -> None:
    instances = np.zeros(SHAPE, np.uint8)
    instances[10:60, :] = 1
    for second_ring, outline in ((29.0, 28.5), (31.0, 31.0)):
        celsius = floor()
        celsius[10:60] = 25
        celsius[11:59] = second_ring
        celsius[12:58] = 30
        np.testing.assert_allclose(picture(celsius, instances)[10], outline, rtol=1e-6)


def test_a_thin_tip_without_inner_pixels_keeps_its_own_values() -> None:
    celsius, instances = floor(), np.zeros(SHAPE, np.uint8)
    instances[50:52, 20:60] = 1
    celsius[50:52, 20:60] = 24
    np.testing.assert_array_equal(picture(celsius, instances), celsius)


def test_nothing_is_invented_where_there_is_no_temperature() -> None:
    celsius, instances = floor(), np.zeros(SHAPE, np.uint8)
    instances[10:20, 10:20] = 1
    celsius[10, 10:20] = celsius[15, 15] = np.nan
    np.testing.assert_array_equal(np.isnan(picture(celsius, instances)), np.isnan(celsius))


def test_a_picture_without_animals_has_nothing_to_unmix() -> None:
    _, found = unmix(floor(), np.zeros(SHAPE, np.uint8))
    assert (len(found.celsius), len(found.outline)) == (0, 0)


def frames(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Four rats, in every other frame with noise, holes, strangers of a pixel and pixels without a temperature."""
    dice = np.random.default_rng(seed)
    shown = Scene(seed, 4).at(NIGHT_UTC_S + 60 * seed)
    celsius, instances = shown.radiometric_celsius.astype(np.float32), shown.instances.copy()
    if seed % 2:
        celsius += dice.normal(0, 0.3, SHAPE).astype(np.float32)
        celsius[dice.random(SHAPE) < 0.05] = np.nan
        instances[dice.random(SHAPE) < 0.01] = 0
        instances[dice.random(SHAPE) < 0.01] = 9
    return celsius, instances


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_plain_formula_to_the_last_bit(seed: int) -> None:
    celsius, instances = frames(seed)
    degrees, outline = plain(celsius, instances)
    np.testing.assert_array_equal(picture(celsius, instances), degrees)
    regions, found = unmix(celsius, instances)
    np.testing.assert_array_equal(found.outline, outline.ravel()[regions.pixels])


def test_at_the_edge_of_the_picture_too() -> None:
    dice = np.random.default_rng(1)
    celsius, instances = dice.uniform(25, 35, SHAPE).astype(np.float32), np.zeros(SHAPE, np.uint8)
    instances[:9, :12], instances[:7, 240:], instances[180:, 250:] = 1, 2, 3
    instances[90:, :4], instances[100:110, 252:], instances[3, 100:] = 4, 5, 6
    np.testing.assert_array_equal(picture(celsius, instances), plain(celsius, instances)[0])
    everywhere = np.ones(SHAPE, np.uint8)
    np.testing.assert_array_equal(picture(celsius, everywhere), celsius)
