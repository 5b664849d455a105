"""What training makes small."""

import torch
from torch import Tensor
from torch.nn import functional

from training.unet import CLASSES

_SMOOTH_PX = 32.0
"""Added to both sides of the Dice share: a batch without tails is neither punished nor rewarded."""


def parts_loss(logits: Tensor, parts: Tensor, *, dice_weight: float) -> Tensor:
    """Cross entropy, and Dice for the three parts over the whole batch.

    Cross entropy alone is content to miss thin tails, a fiftieth of the pixels; weighting them makes them thick.
    Dice (Milletari et al., "V-Net", 2016) is close to what is judged, the intersection over the union of each part.

    Parameters
    ----------
    logits : (N, 4, H, W) float32
    parts : (N, H, W) int64
    dice_weight : float
        Beside the cross entropy's 1.
    """
    likelihood = functional.log_softmax(logits.float(), 1)
    loss = functional.nll_loss(likelihood, parts)
    if dice_weight:
        loss = loss + dice_weight * dice_loss(likelihood.exp(), parts)
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
