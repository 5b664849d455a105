"""Variety beyond the scenes: the labels stay with what they label."""

from dataclasses import fields

import numpy as np
import pytest

from training.augmentation import Augmentation
from training.labelled import Labelled, synthetic

NOTHING = {field.name: 0.0 for field in fields(Augmentation)}
SEEDS = range(300, 312)


@pytest.fixture(scope="module")
def scenes() -> list[Labelled]:
    return [synthetic(seed) for seed in SEEDS]


def _bright(celsius: np.ndarray, parts: np.ndarray) -> float:
    """How much warmer bodies are than background, in units of the picture's spread."""
    known = ~np.isnan(celsius)
    body, floor = celsius[(parts == 2) & known], celsius[(parts == 0) & known]
    return float((body.mean() - floor.mean()) / np.nanstd(celsius))


@pytest.mark.parametrize("name", [field.name for field in fields(Augmentation)])
def test_bodies_stay_warmer_than_what_surrounds_them(name: str, scenes: list[Labelled]) -> None:
    augmentation = Augmentation(**(NOTHING | {name: 1.0}))
    rng = np.random.default_rng(7)
    contrasts = []
    for index in range(len(scenes)):
        picture = augmentation.apply([*scenes[index:], *scenes[:index]], rng)
        assert picture.celsius.shape == picture.parts.shape == (192, 256)
        assert picture.celsius.dtype == np.float32
        assert ((picture.instances > 0) == (picture.parts > 0)).all()
        if (picture.parts == 2).sum() > 200:
            contrasts.append(_bright(picture.celsius, picture.parts))
    assert len(contrasts) >= 6
    assert np.median(contrasts) > 1.0


def test_without_augmentation_a_picture_is_only_mirrored(scenes: list[Labelled]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(6):
        picture = Augmentation(**NOTHING).apply(scenes[:1], rng)
        turned = [picture.parts[::rows, ::columns] for rows in (1, -1) for columns in (1, -1)]
        assert any(np.array_equal(one, scenes[0].parts) for one in turned)
        assert np.sort(picture.celsius, axis=None).tolist() == np.sort(scenes[0].celsius, axis=None).tolist()


def test_the_same_chance_makes_the_same_picture(scenes: list[Labelled]) -> None:
    once, again = (Augmentation().apply(scenes, np.random.default_rng(11)) for _ in range(2))
    assert np.array_equal(once.celsius, again.celsius, equal_nan=True)
    assert np.array_equal(once.parts, again.parts)


def test_animals_of_different_scenes_in_one_mosaic_have_different_numbers(scenes: list[Labelled]) -> None:
    crowd = next(scene for scene in scenes if scene.instances.max() >= 2)
    rng = np.random.default_rng(3)
    augmentation = Augmentation(**(NOTHING | {"moved": 1.0}))
    most = 0
    for _ in range(20):
        picture = augmentation.apply([crowd, crowd, crowd, crowd], rng)
        numbers = np.unique(picture.instances)
        most = max(most, len(numbers) - 1)
    assert most > crowd.instances.max()


def test_the_scale_of_a_picture_covers_half_to_twice_the_size() -> None:
    scene = synthetic(300)
    own_px = int((scene.parts == 2).sum())
    rng = np.random.default_rng(5)
    augmentation = Augmentation(**(NOTHING | {"moved": 1.0}))
    empty = Labelled(
        celsius=np.full((192, 256), 23.0, np.float32),
        parts=np.zeros((192, 256), np.uint8),
        instances=np.zeros((192, 256), np.uint8),
    )
    shares = [
        np.count_nonzero(augmentation.apply([scene, empty, empty, empty], rng).parts == 2) / own_px for _ in range(60)
    ]
    assert max(shares) > 1.8  # of the area; the largest are cut by the border
    assert any(0.2 < share < 0.4 for share in shares)


def test_gaps_of_a_picture_stay_gaps(scenes: list[Labelled]) -> None:
    holed = scenes[0].celsius.copy()
    holed[40:60, 70:90] = np.nan
    picture = Labelled(celsius=holed, parts=scenes[0].parts, instances=scenes[0].instances)
    for name in ("blurred", "noisy", "stepped", "shifted", "striped"):
        augmented = Augmentation(**(NOTHING | {name: 1.0})).apply([picture], np.random.default_rng(2))
        assert np.isnan(augmented.celsius).sum() == 400, name


def test_a_mosaic_with_a_picture_whose_animals_are_not_told_apart_does_not_tell_them_apart() -> None:
    scene = synthetic(300)
    unknown = Labelled(celsius=scene.celsius, parts=scene.parts, instances=scene.instances, animals_known=False)
    augmentation = Augmentation(**(NOTHING | {"moved": 1.0}))
    rng = np.random.default_rng(5)
    assert not any(augmentation.apply([unknown] * 4, rng).animals_known for _ in range(10))
