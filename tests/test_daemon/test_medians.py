"""Medians, against numpy's."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.medians import median_of, median_where

SHAPE = (192, 256)


def pictures() -> dict[str, NDArray[np.float32]]:
    dice = np.random.default_rng(1)
    uneven = np.full(SHAPE, 20.0)
    uneven[::4, ::4] = 30.0  # exactly what is looked at first says the wrong thing
    return {
        "noise": dice.normal(24, 0.5, SHAPE).astype(np.float32),
        "slope": np.linspace(20, 30, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.float32),
        "two levels": np.where(dice.random(SHAPE) < 0.5, 20, 30).astype(np.float32),
        "steps of a camera": np.round(dice.normal(24, 0.5, SHAPE) * 20).astype(np.float32) / np.float32(20),
        "one value": np.full(SHAPE, 24.3, np.float32),
        "uneven": uneven.astype(np.float32),
        "below zero": dice.normal(0, 5, SHAPE).astype(np.float32),
    }


@pytest.mark.parametrize("name", pictures())
@pytest.mark.parametrize("holes", [0.0, 0.05], ids=["whole", "with holes"])
def test_the_median_where_a_mask_is_that_of_numpy_to_the_last_bit(name: str, holes: float) -> None:
    picture, dice = pictures()[name], np.random.default_rng(2)
    picture[dice.random(SHAPE) < holes] = np.nan
    picture[dice.random(SHAPE) < holes / 10] = np.inf
    for share in (1.0, 0.9, 0.5, 0.01, 0.0002):
        where = dice.random(SHAPE) < share
        for _ in range(2):  # of an odd number and of an even one
            known = picture[where & np.isfinite(picture)]
            assert median_where(picture, where) == float(np.median(known))
            where.ravel()[np.flatnonzero(where & np.isfinite(picture))[0]] = False


def test_of_nothing_there_is_no_median() -> None:
    picture = np.full(SHAPE, np.nan, np.float32)
    assert median_where(picture, np.ones(SHAPE, np.bool_)) is None
    assert median_where(np.zeros_like(picture), np.zeros(SHAPE, np.bool_)) is None
    assert math.isnan(median_of(np.array([], np.float32)))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 99, 100])
def test_the_median_of_a_few_is_that_of_numpy(count: int) -> None:
    values = np.random.default_rng(count).normal(24, 0.5, count).astype(np.float32)
    assert median_of(values) == float(np.median(values))
