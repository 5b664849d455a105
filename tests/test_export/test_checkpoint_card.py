"""The card of a model says what its checkpoint went through, and not what the program looks like at the export."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from daemon.vision.model_card import ModelCard
from export.checkpoint_card import card_of_network
from training.checkpoints import HISTORY_KEY, RECIPE_KEY, epochs_of, load, untrained
from training.history import History, Origin, Stretch, begun, gone_on, history_to_json, sources_hash, untold
from training.recipe import Kind, Preset, Recipe, changed, preset, recipe_to_json

RECIPE = changed(preset(Preset.QUICK, Kind.UNET), epochs=10, pictures_per_epoch=1000)
FIRST = Stretch(
    first_epoch=0,
    code_hash="code-1",
    generator_hash="generator-1",
    data=("scenes",),
    seed=0,
    pictures_per_epoch=1000,
    scene_uses=2,
)


def card(folder: Path, recipe: Recipe, history: History | None, *, licence: str | None = None) -> ModelCard:
    """Of a checkpoint with random weights after eight epochs."""
    path = folder / "last.ckpt"
    state = {f"network.{name}": value for name, value in untrained(recipe).state_dict().items()}
    stored = {RECIPE_KEY: recipe_to_json(recipe), "state_dict": state, "epoch": 7}
    torch.save(stored | ({HISTORY_KEY: history_to_json(history)} if history else {}), path)
    return card_of_network(load(path), path, epochs=epochs_of(path), licence=licence)


def test_hashes_are_those_of_the_training(tmp_path: Path) -> None:
    made = card(tmp_path, RECIPE, History(stretches=(FIRST,)))
    assert made.code_hash == "code-1"
    assert made.trained_on.generator_hash == "generator-1"
    assert made.trained_on.scenes == 8 * 500
    assert made.trained_on.seeds == "0 to 3999"
    assert made.trained_on.text == "synthetic scenes, 8 of 10 epochs of 1000 augmented pictures"


def test_a_training_that_went_on_under_other_code_names_both(tmp_path: Path) -> None:
    second = replace(FIRST, first_epoch=5, code_hash="code-2")
    made = card(tmp_path, RECIPE, History(stretches=(FIRST, second)))
    assert made.code_hash == "code-1, code-2"
    assert made.trained_on.generator_hash == "generator-1"
    assert made.trained_on.seeds == "0 to 2499, 2500 to 3999"
    assert made.trained_on.text.endswith("; from epoch 6 on the same by another state of the program")


def test_material_of_others_is_named_without_its_folder_and_has_no_licence_of_ours(tmp_path: Path) -> None:
    data = ("scenes?weight=3", "/home/somebody/rats?labels=1=tail,2=body,3=head")
    made = card(tmp_path, replace(RECIPE, data=data), History(stretches=(replace(FIRST, data=data),)))
    assert made.trained_on.text.startswith("synthetic scenes (75%), rats (25%), 8 of 10 epochs")
    assert made.trained_on.scenes == 3000
    assert "somebody" not in made.to_json()
    assert made.licence == "unknown"
    assert not any("synthetic pictures alone" in limit for limit in made.limits)
    assert card(tmp_path, RECIPE, History(stretches=(FIRST,)), licence="CC-BY-4.0").licence == "CC-BY-4.0"


def test_without_fresh_scenes_no_seeds_are_claimed(tmp_path: Path) -> None:
    made = card(tmp_path, RECIPE, History(stretches=(replace(FIRST, data=("rats",)),)))
    assert (made.trained_on.scenes, made.trained_on.seeds, made.trained_on.generator_hash) == (0, "", "")


def test_an_older_checkpoint_still_says_on_what_it_was_trained(tmp_path: Path) -> None:
    made = card(tmp_path, replace(RECIPE, data=("rats",)), None)
    assert made.trained_on.text.startswith("rats, 8 of 10 epochs")
    assert made.code_hash == "unknown"
    assert made.licence == "unknown"


def test_what_it_began_as_is_part_of_it(tmp_path: Path) -> None:
    earlier = replace(FIRST, code_hash="code-0", data=("scenes", "mice.json"))
    origin = Origin(version="1a2b3c4d", kind="panoptic", epochs=4, history=History(stretches=(earlier,)))
    made = card(tmp_path, RECIPE, History(stretches=(replace(FIRST, seed=1),), origin=origin))
    assert made.code_hash == "code-0, code-1"
    assert made.trained_on.text.endswith(
        "; begun with the weights of a panoptic network (1a2b3c4d: synthetic scenes (50%), mice.json (50%), "
        "4 epochs of 1000 augmented pictures)"
    )
    assert made.trained_on.scenes == 4 * 250 + 8 * 500
    assert made.trained_on.seeds == "0 to 1999, 1 to 4000"
    assert made.licence == "unknown", "the mice were somebody's"


@pytest.mark.parametrize("epochs", [3, 8])
def test_a_training_that_goes_on_as_it_was_keeps_its_history(epochs: int) -> None:
    history = begun(RECIPE, None)
    assert history.stretches[0].generator_hash == sources_hash(["drivers/vivarium"])
    assert gone_on(history, RECIPE, epochs) == history
    other = gone_on(history, replace(RECIPE, data=("rats",)), epochs)
    assert [(one.first_epoch, one.data) for one in other.stretches] == [(0, ("scenes",)), (epochs, ("rats",))]
    older = gone_on(untold(RECIPE), RECIPE, epochs)
    assert [one.code_hash == "unknown" for one in older.stretches] == [True, False]
