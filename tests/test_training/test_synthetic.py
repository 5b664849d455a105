"""The stream of pictures that a training sees."""

from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch

from drivers.vivarium.dice import FIRST_TEST_SEED
from training import material as material_module
from training import synthetic as synthetic_module
from training.augmentation import Augmentation
from training.labelled import Labelled
from training.material import FIRST_VALIDATION_SEED, Material
from training.recipe import Kind, Preset, changed, preset
from training.scenes import SceneSource
from training.synthetic import Batch, FixedPictures, SceneStream, Stream


@dataclass
class _Drawn:
    seeds: list[int]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> _Drawn:
    """Notes which scenes are drawn; they are small and empty, so that thousands take no time."""
    seen = _Drawn([])

    def noted(seed: int) -> Labelled:
        seen.seeds.append(seed)
        blank = np.zeros((64, 64), np.uint8)
        return Labelled(celsius=np.full((64, 64), seed % 30, np.float32), parts=blank, instances=blank)

    monkeypatch.setattr(material_module, "synthetic", noted)
    return seen


def _epoch(stream: SceneStream) -> list[Batch]:
    return list(stream)


def test_a_training_that_goes_on_sees_the_pictures_it_would_have_seen() -> None:
    settings = Stream(pictures_per_epoch=6, stride=2, seed=4)
    whole = SceneStream(settings)
    _epoch(whole)
    second, resumed = _epoch(whole), _epoch(SceneStream(settings, epoch=1))
    assert len(second) == len(resumed) == 6
    for one, other in zip(second, resumed, strict=True):
        assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(one, other, strict=True))


def test_epochs_and_processes_draw_scenes_of_their_own(drawn: _Drawn) -> None:
    settings = Stream(pictures_per_epoch=400, stride=2, uses=2)
    fresh: list[set[int]] = []
    for epoch in (0, 1):
        for rank in (0, 1):
            drawn.seeds.clear()
            assert len(_epoch(SceneStream(settings, epoch=epoch, rank=rank, ranks=2))) == 200
            fresh.append(set(drawn.seeds[48:]))  # the first ones fill the pool
    assert all(len(seeds) == 100 for seeds in fresh)
    assert len(set.union(*fresh)) == 400


@dataclass
class _Worker:
    num_workers: int
    id: int


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 3), (2, 3), (1, 5), (3, 2)])
def test_an_epoch_has_as_many_batches_as_the_recipe_says_whoever_makes_them(
    drawn: _Drawn, monkeypatch: pytest.MonkeyPatch, ranks: int, workers: int
) -> None:
    recipe = changed(preset(Preset.QUICK, Kind.UNET), pictures_per_epoch=100)
    settings = Stream(pictures_per_epoch=100, stride=2, batch=recipe.batch, uses=2)
    seen: list[set[int]] = []
    for rank in range(ranks):
        batches = 0
        for worker in range(max(1, workers)):
            known = _Worker(workers, worker) if workers else None
            monkeypatch.setattr(synthetic_module, "get_worker_info", lambda known=known: known)
            for epoch in range(2):
                drawn.seeds.clear()
                pictures = len(_epoch(SceneStream(settings, epoch=epoch, rank=rank, ranks=ranks)))
                assert pictures % recipe.batch == 0
                seen.append(set(drawn.seeds[-(pictures // 2) :] if pictures else ()))
                batches += pictures // recipe.batch if epoch == 0 else 0
        assert batches == recipe.batches(ranks)
    assert len(set.union(*seen)) == sum(map(len, seen)), "each scene falls to one of them"


def test_no_scene_for_watching_or_judging_is_ever_learned_from(drawn: _Drawn) -> None:
    per_epoch, untouched = 2_000, Augmentation(**{one.name: 0.0 for one in fields(Augmentation)})
    stream = Stream(pictures_per_epoch=per_epoch, stride=2, uses=1, augmentation=untouched)
    for epoch in (0, FIRST_VALIDATION_SEED // per_epoch - 1, FIRST_TEST_SEED // per_epoch, 10**6):
        _epoch(SceneStream(stream, epoch=epoch))
    assert 0 <= min(drawn.seeds) <= max(drawn.seeds) < FIRST_VALIDATION_SEED < FIRST_TEST_SEED


def test_a_picture_as_tensors_holds_degrees_labels_and_truth_of_centres() -> None:
    pictures = FixedPictures(SceneSource(FIRST_VALIDATION_SEED, 4), stride=2)
    batch = pictures[1]
    assert batch.celsius.shape == (1, 192, 256)
    assert batch.parts.shape == (192, 256)
    assert batch.centre.shape == (1, 96, 128)
    assert batch.offset.shape == (2, 96, 128)
    assert batch.inside.shape == (1, 96, 128)
    assert bool(batch.animals_known)


def test_fixed_pictures_are_augmented_in_the_same_way_each_time() -> None:
    once, again = (
        FixedPictures(SceneSource(FIRST_VALIDATION_SEED, 3), stride=2, augmentation=Augmentation()) for _ in range(2)
    )
    for index in range(3):
        assert torch.equal(once[index].celsius.nan_to_num(), again[index].celsius.nan_to_num())
    plain = FixedPictures(SceneSource(FIRST_VALIDATION_SEED, 3), stride=2)
    assert not all(torch.equal(once[index].celsius, plain[index].celsius) for index in range(3))


def test_weights_decide_how_often_a_source_comes(drawn: _Drawn) -> None:
    other = SceneSource(FIRST_VALIDATION_SEED, 2)
    mix = Material(scenes_weight=3.0, portions=(material_module.Portion(source=other, weight=1.0),))
    rng = np.random.default_rng(0)
    pictures = [mix.draw(number, rng) for number in range(400)]
    share = sum(picture.celsius.shape == (192, 256) for picture in pictures) / len(pictures)
    assert share == pytest.approx(0.25, abs=0.07)
