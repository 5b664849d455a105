"""What a network sees of degrees."""

import math

import pytest
import torch

from training.window import Window


def _views(celsius: torch.Tensor) -> torch.Tensor:
    views: torch.Tensor = Window()(celsius)
    return views


def test_views_by_hand() -> None:
    # Mean 25 °C, departures -1 and +1, so a spread of 1 °C.
    celsius = torch.tensor((24.0, 26.0, 26.0, 24.0)).reshape(1, 1, 2, 2)
    absolute, fine, relative = _views(celsius)[0]
    assert absolute[0, 0].item() == pytest.approx((24 - 28) / 12)
    assert fine[0, 1].item() == pytest.approx(1 / 4)
    assert relative[0, 1].item() == pytest.approx(1 / 4)


def test_another_zero_of_the_scale_changes_the_absolute_view_alone() -> None:
    celsius = 23 + torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 10
    before, after = _views(celsius)[0], _views(celsius + 3)[0]
    assert torch.allclose(before[1:], after[1:], atol=1e-5)
    assert not torch.allclose(before[0], after[0], atol=0.1)


def test_another_contrast_leaves_the_relative_view() -> None:
    celsius = 23 + torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 10
    stretched = 23 + 1.4 * (celsius - 23)
    assert torch.allclose(_views(celsius)[0, 2], _views(stretched)[0, 2], atol=1e-5)


def test_an_unknown_pixel_reads_as_the_mean_and_leaves_the_others_alone() -> None:
    celsius = torch.tensor((22.0, 24.0, math.nan, 26.0)).reshape(1, 1, 2, 2)
    views = _views(celsius)[0]
    assert views[1, 1, 0].item() == 0
    assert views[0, 1, 0].item() == pytest.approx((24 - 28) / 12)
    assert views[1, 0, 0].item() == pytest.approx(-2 / 4)
    assert not views.isnan().any()


@pytest.mark.parametrize("value", [math.nan, 25.0], ids=["nothing known", "all alike"])
def test_a_picture_without_contrast_gives_numbers(value: float) -> None:
    views = _views(torch.full((1, 1, 4, 4), value))
    assert views.isfinite().all()
    assert (views[:, 1:] == 0).all()


def test_a_spot_far_too_hot_is_cut_off() -> None:
    celsius = torch.full((1, 1, 8, 8), 24.0)
    celsius[0, 0, 3, 3] = 400.0
    assert _views(celsius).abs().max().item() <= 1
