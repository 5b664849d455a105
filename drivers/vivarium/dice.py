"""Chance with a seed: one independent stream of numbers for each thing that varies."""

from enum import IntEnum

import numpy as np

FIRST_TEST_SEED = 990_000
"""Scenes from this seed on are for judging; nothing may be trained on them."""


class Axis(IntEnum):
    """What varies independently in a scene: with another number drawn along one axis the others stay as they are."""

    ARRANGEMENT = 0
    """How many animals there are, of which kind, where and in which posture."""
    INDIVIDUALS = 1
    """Shape, coat and warmth of each animal."""
    BOX = 2
    CLUTTER = 3
    REFLECTIONS = 4
    LENS = 5
    DETECTOR = 6
    WAY = 7
    """Where a moving animal goes, and when."""
    COATS = 8
    """What becomes of coats that touch."""


_KEY_FLOOR = 1_000_000
"""Keys are not negative, numbers of quarter hours before 1970 are."""


def generator(seed: int, axis: Axis, *more: int) -> np.random.Generator:
    """The stream of an axis; `more` tells apart streams of the same axis, for instance those of several animals."""
    key = (axis, *(_KEY_FLOOR + number for number in more))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
