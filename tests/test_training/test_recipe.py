"""Recipes as values: stored, changed, refused."""

import pytest

from training.recipe import Kind, Preset, changed, overridden, preset, recipe_from_json, recipe_to_json


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("name", list(Preset))
def test_a_stored_recipe_comes_back_as_it_was(name: Preset, kind: Kind) -> None:
    recipe = preset(name, kind)
    assert recipe_from_json(recipe_to_json(recipe)) == recipe


def test_values_given_as_text_replace_those_of_the_recipe() -> None:
    recipe = overridden(
        preset(Preset.QUICK, Kind.UNET),
        ["dice_weight=0.5", "augmentation.painted=0", "shape.widths=[8, 16]", "cut_px=null", "label_weights=[1,2,1,3]"],
    )
    assert recipe.dice_weight == 0.5
    assert recipe.augmentation.painted == 0
    assert recipe.shape.widths == (8, 16)
    assert recipe.cut_px is None
    assert recipe.label_weights == (1, 2, 1, 3)
    assert recipe.augmentation.moved == preset(Preset.QUICK, Kind.UNET).augmentation.moved


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        pytest.param("dise_weight=1", "no such setting", id="unknown"),
        pytest.param("augmentation.spots=1", "no such setting", id="unknown within"),
        pytest.param("batch.size=1", "no such setting", id="within a number"),
        pytest.param("batch", "as JSON", id="no value"),
        pytest.param("batch=many", "as JSON", id="no JSON"),
        pytest.param('batch="many"', "batch", id="no number"),
        pytest.param("pictures_per_epoch=3", "less than a batch", id="does not fit"),
    ],
)
def test_settings_that_make_no_recipe_are_refused(setting: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        overridden(preset(Preset.QUICK, Kind.UNET), [setting])


def test_steps_of_an_epoch_are_shared_by_processes() -> None:
    recipe = changed(preset(Preset.QUICK, Kind.UNET), pictures_per_epoch=100, batch=8)
    assert [recipe.batches(ranks) for ranks in (1, 2, 3)] == [12, 6, 4]
