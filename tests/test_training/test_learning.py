"""The learning rate, and the windows that are learned from."""

import pytest
import torch

from training.learning import cut, rate
from training.recipe import TINY, Kind, Recipe, changed
from training.synthetic import Batch

RECIPE = Recipe(kind=Kind.UNET, shape=TINY, epochs=100, pictures_per_epoch=80, warm_up_steps=10, decay_epochs=20)


def test_the_rate_rises_stays_and_falls_along_half_a_cosine() -> None:
    share = rate(RECIPE, 1000)
    assert share(0) == pytest.approx(0.1)
    assert share(4) == pytest.approx(0.5)
    assert share(9) == share(500) == share(800) == pytest.approx(1.0)
    assert share(900) == pytest.approx(0.5)
    assert share(1000) == pytest.approx(0.0)


def test_before_the_decay_the_rate_does_not_depend_on_how_long_the_training_will_be() -> None:
    longer = rate(changed(RECIPE, epochs=200), 2000)
    assert all(rate(RECIPE, 1000)(step) == longer(step) for step in range(0, 800, 50))


def test_a_shorter_training_decays_at_most_all_the_time() -> None:
    assert changed(RECIPE, epochs=5).decay_epochs == 5


def _batch(pictures: int) -> tuple[torch.Tensor, Batch]:
    """Each value says where it is from, so that pieces can be compared."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    place = (1000 * rows + columns).expand(pictures, 64, 96)
    coarse = place[:, ::2, ::2].float()
    inside = torch.zeros(pictures, 1, 32, 48, dtype=torch.bool)
    inside[:, 0, 5:9, 40:44] = True
    batch = Batch(
        celsius=place[:, None].float(),
        parts=place,
        centre=coarse[:, None],
        offset=torch.stack((coarse, coarse), dim=1),
        inside=inside,
        animals_known=torch.ones(pictures, 1, 1, 1, dtype=torch.bool),
        apart=torch.ones(pictures, dtype=torch.bool),
    )
    return place[:, None].float(), batch


def test_windows_show_the_same_place_of_everything() -> None:
    torch.manual_seed(2)
    views, batch = cut(*_batch(12), size_px=(32, 48), step_px=16, about_share=0.5)
    assert views.shape == (12, 1, 32, 48)
    assert batch.parts.shape == (12, 32, 48)
    assert batch.offset.shape == (12, 2, 16, 24)
    assert torch.equal(views[:, 0].long(), batch.parts)
    assert torch.equal(batch.parts[:, ::2, ::2].float(), batch.centre[:, 0])
    assert (batch.parts[:, 0, 0] % 1000 % 16 == 0).all()


def test_a_window_lies_about_an_animal_where_there_is_one() -> None:
    torch.manual_seed(2)
    _, batch = cut(*_batch(30), size_px=(32, 48), step_px=16, about_share=1.0)
    assert batch.inside.flatten(1).any(dim=1).all()


def test_a_picture_without_animals_is_cut_anywhere() -> None:
    torch.manual_seed(2)
    views, whole = _batch(30)
    _, batch = cut(
        views, whole._replace(inside=torch.zeros_like(whole.inside)), size_px=(32, 48), step_px=16, about_share=1.0
    )
    assert len(set(batch.parts[:, 0, 0].tolist())) > 3


def test_some_windows_are_anywhere_so_that_what_is_no_animal_is_seen_too() -> None:
    torch.manual_seed(2)
    _, batch = cut(*_batch(200), size_px=(32, 48), step_px=16, about_share=0.5)
    about = batch.inside.flatten(1).any(dim=1).float().mean().item()
    _, nowhere = cut(*_batch(200), size_px=(32, 48), step_px=16, about_share=0.0)
    assert nowhere.inside.flatten(1).any(dim=1).float().mean().item() < about < 1
