"""What training makes small, by hand."""

import math

import pytest
import torch

from training.losses import centre_loss, dice_loss, lovasz_loss, offset_loss, parts_loss


def test_dice_is_one_minus_twice_the_common_part_over_both() -> None:
    # 100 pixels of body, of which the network is sure of half; each side of the share has 32 pixels on top.
    parts = torch.zeros(1, 10, 20, dtype=torch.long)
    parts[0, :, :10] = 2
    probability = torch.zeros(1, 4, 10, 20)
    probability[:, 0] = 1.0
    probability[0, :, :5, :10] = 0.0
    probability[0, 2, :5, :10] = 1.0
    body = (2 * 50 + 32) / (100 + 50 + 32)
    absent = 1.0  # head and tail are neither there nor found
    assert dice_loss(probability, parts).item() == pytest.approx(1 - (body + 2 * absent) / 3)


def test_the_loss_of_labels_is_cross_entropy_and_dice() -> None:
    logits = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    parts = torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(4))
    entropy = torch.nn.functional.cross_entropy(logits, parts)
    assert parts_loss(logits, parts, dice_weight=0.0).item() == pytest.approx(entropy.item(), rel=1e-5)
    both = entropy + 0.5 * dice_loss(logits.softmax(1), parts)
    assert parts_loss(logits, parts, dice_weight=0.5).item() == pytest.approx(both.item(), rel=1e-5)


def test_a_heat_map_that_is_right_costs_nothing() -> None:
    centre = torch.tensor((0.0, 0.5, 1.0, 0.2)).reshape(1, 1, 2, 2)
    logit = torch.logit(centre.clamp(1e-7, 1 - 1e-7))
    assert centre_loss(logit, centre, torch.ones(1, 1, 1, 1, dtype=torch.bool)).item() == pytest.approx(0, abs=1e-5)


def test_the_loss_of_a_missed_centre_by_hand() -> None:
    # Heat 0.5 where 1 is true: 0.25 times ln 2; and at the three other places 0.25 times ln 2 where 0 is true.
    centre = torch.tensor((1.0, 0.0, 0.0, 0.0)).reshape(1, 1, 2, 2)
    known = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    assert centre_loss(torch.zeros(1, 1, 2, 2), centre, known).item() == pytest.approx(4 * 0.25 * math.log(2))


def test_pictures_whose_animals_are_not_told_apart_have_no_say_about_centres() -> None:
    centre = torch.zeros(2, 1, 2, 2)
    centre[:, 0, 0, 0] = 1.0
    logit = torch.zeros(2, 1, 2, 2)
    logit[1] = 9.0
    known = torch.tensor((True, False)).reshape(2, 1, 1, 1)
    alone = centre_loss(logit[:1], centre[:1], known[:1])
    assert centre_loss(logit, centre, known).item() == pytest.approx(alone.item())


def test_offsets_count_only_within_animals() -> None:
    truth = torch.zeros(1, 2, 2, 2)
    offset = torch.full((1, 2, 2, 2), 9.0)
    offset[0, :, 0, 0] = torch.tensor((1.0, -2.0))
    inside = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    assert offset_loss(offset, truth, inside).item() == 0
    inside[0, 0, 0, 0] = True
    assert offset_loss(offset, truth, inside).item() == pytest.approx(3.0)


def test_lovasz_of_sure_labels_is_one_minus_the_iou_of_each_part() -> None:
    # Where the network is sure, right or wrong, the convex function touches 1 - IoU (Berman et al., 2018).
    parts = torch.tensor((0, 1, 1, 2, 2, 2, 3, 3)).reshape(1, 2, 4)
    found = torch.tensor((0, 1, 2, 2, 2, 2, 0, 3)).reshape(1, 2, 4)
    probability = torch.nn.functional.one_hot(found, 4).movedim(3, 1).float()
    iou = (1 / 2, 3 / 4, 1 / 2)  # of head, body and tail
    assert lovasz_loss(probability, parts).item() == pytest.approx(1 - sum(iou) / 3)


def test_lovasz_leads_to_the_right_labels() -> None:
    parts = torch.randint(0, 4, (1, 6, 6), generator=torch.Generator().manual_seed(1))
    logits = torch.zeros(1, 4, 6, 6, requires_grad=True)
    for _ in range(60):
        (slope,) = torch.autograd.grad(parts_loss(logits, parts, lovasz_weight=1.0), logits)
        logits = (logits - 20.0 * slope).detach().requires_grad_()
    assert torch.equal(logits.argmax(1), parts)


def test_weights_of_labels_count_in_the_cross_entropy() -> None:
    logits = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    parts = torch.randint(0, 4, (1, 4, 4), generator=torch.Generator().manual_seed(4))
    weights = (1.0, 2.0, 1.0, 5.0)
    expected = torch.nn.functional.cross_entropy(logits, parts, weight=torch.tensor(weights))
    assert parts_loss(logits, parts, label_weights=weights).item() == pytest.approx(expected.item(), rel=1e-5)
