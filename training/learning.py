"""How a network learns: the loss of a step, the figures of an epoch, the learning rate (a Lightning module)."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from training.checkpoints import HISTORY_KEY, RECIPE_KEY, untrained
from training.history import History, history_to_json
from training.losses import centre_loss, offset_loss, parts_loss
from training.panoptic import OFFSET_UNIT_PX
from training.pixel_measures import PixelMeasures, pixel_measures, pixel_metrics
from training.recipe import Recipe, recipe_to_json
from training.synthetic import Batch
from training.unet import UNet
from training.window import Window

PLAIN = "all"
"""Of the pictures that training is watched with: as the camera shows them."""
APART = "apart"
"""Those of them in which no animal touches another."""
HARD = "hard"
"""The same pictures, augmented as those that are learned from."""
HELD_BACK = "held_back"
"""Pictures of other sources that are not learned from."""

WATCHED = f"val_miou_{PLAIN}"
"""The figure that decides about stopping: mean IoU of head, body and tail."""

_SEEDS = 2**63
_EAGER_STEPS = 10.0
"""After n steps the average looks back over about a tenth of them, until it reaches its full length."""
_LOADERS = (PLAIN, HARD, HELD_BACK)


class Learning(lightning.LightningModule):
    """A network that learns to label pictures.

    Parameters
    ----------
    recipe : Recipe
        What to train and how.
    history : History, optional
        What is to be said in checkpoints about code and data.
    """

    def __init__(self, recipe: Recipe, history: History | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self._history = history
        self.window = Window()
        self.network = untrained(recipe)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self._metrics = nn.ModuleDict({name: pixel_metrics() for name in (PLAIN, APART, HARD, HELD_BACK)})
        self.measures: dict[str, PixelMeasures] = {}
        """Of the last validation, by the name of its pictures."""

    def _views(self, batch: Batch) -> Tensor:
        views: Tensor = self.window(batch.celsius)
        return views.contiguous(memory_format=torch.channels_last)

    def on_train_epoch_start(self) -> None:
        """Begin each epoch with chances of its own, so that a training that was stopped goes on as it would have."""
        torch.manual_seed(hash((self.recipe.seed, self.current_epoch, self.global_rank)) % _SEEDS)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Loss of a batch."""
        losses = self.losses(batch, whole=self.current_epoch >= self.recipe.epochs - self.recipe.decay_epochs)
        total = torch.stack(list(losses.values())).sum()
        for name, loss in losses.items():
            self.log(f"train_{name}", loss.detach(), on_step=False, on_epoch=True, batch_size=len(batch.parts))
        self.log("loss", total.detach(), prog_bar=True, batch_size=len(batch.parts))
        return total

    def losses(self, batch: Batch, *, whole: bool) -> dict[str, Tensor]:
        """What is to become small, by name, weighted; of whole pictures or of windows of them."""
        recipe, views = self.recipe, self._views(batch)
        if recipe.cut_px is not None and not whole:
            views, batch = cut(
                views, batch, recipe.cut_px, recipe.shape.multiple, about_share=recipe.about_animals_share
            )
        parts = batch.parts.long()
        if isinstance(self.network, UNet):
            return {"parts": self._parts_loss(self.network(views), parts)}
        logits = self.network(views)
        return {
            "parts": self._parts_loss(logits.parts, parts),
            "centre": recipe.centre_weight * centre_loss(logits.centre, batch.centre, batch.animals_known),
            "offset": recipe.offset_weight * offset_loss(logits.offset, batch.offset / OFFSET_UNIT_PX, batch.inside),
        }

    def _parts_loss(self, logits: Tensor, parts: Tensor) -> Tensor:
        return parts_loss(
            logits,
            parts,
            dice_weight=self.recipe.dice_weight,
            lovasz_weight=self.recipe.lovasz_weight,
            label_weights=self.recipe.label_weights,
        )

    def validation_step(self, batch: Batch, _index: int, dataloader_idx: int = 0) -> None:
        """Count the labels of a batch, and say how far centres and offsets are off."""
        result = self.network(self._views(batch))
        logits, parts = (result if isinstance(result, Tensor) else result.parts), batch.parts.long()
        labels = logits.float().argmax(1)
        name = _LOADERS[min(dataloader_idx, len(_LOADERS) - 1)]
        self._metric(name).update(labels, parts)
        if name != PLAIN:
            return
        if batch.apart.any():
            self._metric(APART).update(labels[batch.apart], parts[batch.apart])
        if not isinstance(result, Tensor):
            miss = offset_loss(result.offset, batch.offset / OFFSET_UNIT_PX, batch.inside)
            centre = centre_loss(result.centre, batch.centre, batch.animals_known)
            self._note("val_offset_px", OFFSET_UNIT_PX * miss, len(parts))
            self._note("val_centre", centre, len(parts))

    def on_validation_epoch_end(self) -> None:
        """Log the figures of the epoch."""
        self.measures = {}
        for name in self._metrics:
            metrics = self._metric(name)
            seen = any(metric.update_called for metric in metrics.values())
            if not self.trainer.strategy.reduce_boolean_decision(seen, all=False):
                continue
            with warnings.catch_warnings():
                if not seen:  # another process has such pictures, and waits for the counts of all
                    warnings.filterwarnings("ignore", ".*was called before the ``update`` method", UserWarning)
                measures = self.measures[name] = pixel_measures(metrics.compute())
            metrics.reset()
            for label, one in measures.classes.items():
                self._note(f"val_iou_{label}_{name}", one.iou)
            self._note(f"val_miou_{name}", measures.mean_iou_parts, shown=name in (PLAIN, APART))
            self._note(f"val_animal_iou_{name}", measures.animal_iou)

    def _metric(self, name: str) -> MetricCollection:
        return cast(MetricCollection, self._metrics[name])

    def _note(self, name: str, value: Tensor | float | None, pictures: int = 1, *, shown: bool = False) -> None:
        if value is not None:
            self.log(name, value, prog_bar=shown, sync_dist=True, add_dataloader_idx=False, batch_size=pictures)

    def configure_optimizers(self) -> Any:
        """AdamW; a warm-up, a constant rate, and a decay at the end."""
        decayed = [weight for weight in self.parameters() if weight.ndim > 1]
        others = [weight for weight in self.parameters() if weight.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(
            groups,
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
        )
        steps = self.recipe.epochs * self.recipe.batches(self.trainer.world_size)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate(self.recipe, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the recipe beside the weights, and what they went through."""
        checkpoint[RECIPE_KEY] = recipe_to_json(self.recipe)
        if self._history is not None:
            checkpoint[HISTORY_KEY] = history_to_json(self._history)


def averaging(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """How the average of the weights follows them: exponentially, and faster at first, when they are still random."""

    @torch.no_grad()
    def follow(average: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        # Nothing here waits for a GPU: the count of updates may lie there, and is not read.
        count = torch.as_tensor(updates, dtype=torch.float32)
        step = 1 - ((1 + count) / (_EAGER_STEPS + count)).clamp(max=decay)
        for mean, value in zip(average, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), step.to(mean.dtype))
            else:
                mean.copy_(value)

    return follow


def cut(
    views: Tensor, batch: Batch, size_px: tuple[int, int], step_px: int, *, about_share: float
) -> tuple[Tensor, Batch]:
    """A window of each picture, about a random place on an animal or anywhere.

    Most of a picture is floor, of which little can be learnt. The views were made from the whole picture, so a window
    looks as it does there.

    Parameters
    ----------
    views : (N, C, H, W) float32
    batch : Batch
        What belongs to them.
    size_px : (int, int)
        Height and width of the window, multiples of `step_px`.
    step_px : int
        Windows begin at multiples of this, as the network's coarsest cells do.
    about_share : float
        So many windows are about an animal where there is one. With all of them a network never learns what warm
        things are no animals: they are rarely near one.
    """
    height, width = size_px
    stride = batch.parts.shape[-1] // batch.inside.shape[-1]
    pieces: list[tuple[Tensor, ...]] = []
    for index, inside in enumerate(batch.inside[:, 0]):
        places = inside.nonzero()
        if len(places) and float(torch.rand(())) < about_share:
            middle = places[int(torch.randint(len(places), ()))] * stride
        else:
            middle = torch.tensor([int(torch.randint(length, ())) for length in batch.parts.shape[1:]])
        corner = []
        for axis, (length, whole) in enumerate(zip(size_px, batch.parts.shape[1:], strict=True)):
            wanted = int(middle[axis]) - int(torch.randint(length // 4, 3 * length // 4, ()))
            corner.append(min(max(round(wanted / step_px) * step_px, 0), whole - length))
        top, left = corner
        fine = (..., slice(top, top + height), slice(left, left + width))
        coarse = (
            ...,
            slice(top // stride, (top + height) // stride),
            slice(left // stride, (left + width) // stride),
        )
        pieces.append(
            (
                views[index][fine],
                batch.parts[index][fine],
                batch.centre[index][coarse],
                batch.offset[index][coarse],
                batch.inside[index][coarse],
            )
        )
    cut_views, parts, centre, offset, inside = (torch.stack(some) for some in zip(*pieces, strict=True))
    windows = batch._replace(parts=parts, centre=centre, offset=offset, inside=inside)
    return cut_views.contiguous(memory_format=torch.channels_last), windows


def rate(recipe: Recipe, steps: int) -> Callable[[int], float]:
    """The learning rate as a share of the full one, by step.

    It rises for `warm_up_steps`, stays, and falls along half a cosine over the last `decay_epochs`. As long as it
    stays, nothing depends on how long the training will be: it can be made longer, and only what follows the plateau
    is done anew (Hu et al., "MiniCPM", 2024, call it warm-up, stable, decay).
    """
    decay = max(1.0, steps * recipe.decay_epochs / recipe.epochs)

    def share(step: int) -> float:
        left = max(steps - step, 0)
        warm = min(1.0, (step + 1) / recipe.warm_up_steps)
        return warm * (0.5 - 0.5 * math.cos(math.pi * left / decay) if left < decay else 1.0)

    return share
