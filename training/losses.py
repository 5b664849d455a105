"""What training makes small."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training.unet import CLASSES

_SMOOTH_PX = 32.0
"""Added to both sides of the Dice share: a batch without tails is neither punished nor rewarded."""


def parts_loss(
    logits: Tensor,
    parts: Tensor,
    *,
    dice_weight: float = 0.0,
    lovasz_weight: float = 0.0,
    label_weights: Sequence[float] | None = None,
) -> Tensor:
    """Cross entropy, with Dice or Lovász for the three parts over the whole batch.

    Cross entropy alone is content to miss thin tails, a fiftieth of the pixels. Weighting the labels finds them but
    makes them thick; Dice and Lovász are near to what is judged, the intersection over the union of each part.
    docs/training.md has the commands that compare them.

    Parameters
    ----------
    logits : (N, 4, H, W) float
    parts : (N, H, W) int64
    dice_weight, lovasz_weight : float
        Beside the cross entropy's 1.
    label_weights : sequence of float, optional
        Of background, head, body and tail in the cross entropy.
    """
    likelihood = functional.log_softmax(logits.float(), 1)
    weights = None if label_weights is None else likelihood.new_tensor(label_weights)
    loss = functional.nll_loss(likelihood, parts, weight=weights)
    if dice_weight:
        loss = loss + dice_weight * dice_loss(likelihood.exp(), parts)
    if lovasz_weight:
        loss = loss + lovasz_weight * lovasz_loss(likelihood.exp(), parts)
    return loss


def dice_loss(probability: Tensor, parts: Tensor) -> Tensor:
    """1 minus the mean over head, body and tail of 2 |A and B| / (|A| + |B|), soft, over the batch.

    Parameters
    ----------
    probability : (N, 4, H, W) float32
    parts : (N, H, W) int64
    """
    shares = []
    for label in range(1, CLASSES):
        guess, truth = probability[:, label], parts == label
        both = torch.where(truth, guess, 0.0).sum()
        shares.append((2 * both + _SMOOTH_PX) / (guess.sum() + truth.sum() + _SMOOTH_PX))
    return 1 - torch.stack(shares).mean()


def lovasz_loss(probability: Tensor, parts: Tensor) -> Tensor:
    """Lovász-softmax (Berman, Rannen Triki and Blaschko, CVPR 2018) of head, body and tail, over the batch.

    1 - IoU as a function of which pixels are wrong, made convex: pixels are sorted by how wrong they are, and each
    counts by what it adds to 1 - IoU when it is the next to be wrong.

    Parameters
    ----------
    probability : (N, 4, H, W) float32
    parts : (N, H, W) int64
    """
    losses = []
    for label in range(1, CLASSES):
        truth = (parts == label).flatten().to(probability.dtype)
        error, order = (truth - probability[:, label].flatten()).abs().sort(descending=True)
        wrong = truth[order]
        area = truth.sum()
        missed, added = wrong.cumsum(0), (1 - wrong).cumsum(0)
        share = 1 - (area - missed) / (area + added).clamp(1.0)
        losses.append((error * share.diff(prepend=share.new_zeros(1))).sum())
    return torch.stack(losses).mean()


def centre_loss(logit: Tensor, centre: Tensor, known: Tensor) -> Tensor:
    """Quality focal loss (Li et al., NeurIPS 2020): |heat - truth|² times their cross entropy, per hill.

    Parameters
    ----------
    logit, centre : (N, 1, H, W) float32
    known : (N, 1, 1, 1) bool
        Pictures in which animals are told apart; others do not count.
    """
    logit = logit.float()
    miss = (torch.sigmoid(logit) - centre).square()
    entropy = functional.binary_cross_entropy_with_logits(logit, centre, reduction="none")
    return (miss * entropy * known).sum() / (centre * known).sum().clamp(1.0)


def offset_loss(offset: Tensor, truth: Tensor, inside: Tensor) -> Tensor:
    """Mean absolute error within animals, both components added, in the network's unit.

    Parameters
    ----------
    offset, truth : (N, 2, H, W) float32
    inside : (N, 1, H, W) bool
    """
    error = (offset.float() - truth).abs().sum(1, keepdim=True)
    return (error * inside).sum() / inside.sum().clamp(1)
