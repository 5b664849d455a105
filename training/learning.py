"""Training with Lightning: what a step, an epoch and a run are."""

import math
from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassConfusionMatrix

from training.checkpoints import untrained
from training.losses import centre_loss, offset_loss, parts_loss
from training.panoptic import OFFSET_UNIT_PX
from training.recipe import Recipe, recipe_to_json
from training.synthetic import FIRST_VALIDATION_SEED, Batch, FixedScenes, SceneStream, Stream
from training.unet import CLASSES, UNet
from training.window import Window


class Learning(lightning.LightningModule):
    """A network that learns from scenes.

    Parameters
    ----------
    recipe : Recipe
        What to train and how.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.window = Window()
        self.network = untrained(recipe).to(memory_format=torch.channels_last)
        self._confusion = nn.ModuleDict({name: MulticlassConfusionMatrix(CLASSES) for name in ("all", "apart", "hard")})

    def _views(self, batch: Batch) -> Tensor:
        views: Tensor = self.window(batch.celsius)
        return views.contiguous(memory_format=torch.channels_last)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Loss of a batch."""
        losses = self._losses(batch)
        total = torch.stack(list(losses.values())).sum()
        self.log_dict({f"train_{name}": loss.detach() for name, loss in losses.items()}, on_step=False, on_epoch=True)
        self.log("loss", total.detach(), prog_bar=True)
        return total

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        recipe = self.recipe
        views, parts = self._views(batch), batch.parts.long()
        if isinstance(self.network, UNet):
            return {"parts": parts_loss(self.network(views), parts, dice_weight=recipe.dice_weight)}
        logits = self.network(views)
        return {
            "parts": parts_loss(logits.parts, parts, dice_weight=recipe.dice_weight),
            "centre": recipe.centre_weight * centre_loss(logits.centre, batch.centre),
            "offset": recipe.offset_weight * offset_loss(logits.offset, batch.offset / OFFSET_UNIT_PX, batch.inside),
        }

    def validation_step(self, batch: Batch, _index: int, dataloader_idx: int = 0) -> None:
        """Count the labels of a batch, and say how far centres and offsets are off."""
        result = self.network(self._views(batch))
        logits, parts = (result if isinstance(result, Tensor) else result.parts), batch.parts.long()
        labels = logits.float().argmax(1)
        if dataloader_idx == 1:
            self._confusion["hard"].update(labels, parts)
            return
        self._confusion["all"].update(labels, parts)
        if batch.apart.any():
            self._confusion["apart"].update(labels[batch.apart], parts[batch.apart])
        if not isinstance(result, Tensor):
            miss = offset_loss(result.offset, batch.offset / OFFSET_UNIT_PX, batch.inside)
            self.log("val_offset_px", OFFSET_UNIT_PX * miss, sync_dist=True, add_dataloader_idx=False)
            self.log("val_centre", centre_loss(result.centre, batch.centre), sync_dist=True, add_dataloader_idx=False)

    def on_validation_epoch_end(self) -> None:
        """Log the figures of the epoch."""
        for name, confusion in self._confusion.items():
            table = confusion.compute().double()
            confusion.reset()
            iou = table.diag() / (table.sum(0) + table.sum(1) - table.diag()).clamp(1)
            self.log(f"val_miou_{name}", iou[1:].mean().float(), prog_bar=name != "hard")
            for label, value in zip(("background", "head", "body", "tail"), iou, strict=True):
                self.log(f"val_iou_{label}_{name}", value.float())

    def configure_optimizers(self) -> Any:
        """AdamW; a warm-up, a constant rate, and a decay at the end."""
        decayed = [weight for weight in self.parameters() if weight.ndim > 1]
        others = [weight for weight in self.parameters() if weight.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
        )
        steps = self.recipe.epochs * self.recipe.batches(self.trainer.world_size)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate(self.recipe, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the recipe beside the weights."""
        checkpoint["recipe"] = recipe_to_json(self.recipe)


def rate(recipe: Recipe, steps: int) -> Callable[[int], float]:
    """The learning rate as a share of the full one, by step."""
    decay = steps * recipe.decay_epochs / recipe.epochs

    def share(step: int) -> float:
        left = max(steps - step, 0)
        warm = min(1.0, (step + 1) / recipe.warm_up_steps)
        return warm * (0.5 - 0.5 * math.cos(math.pi * left / decay) if left < decay else 1.0)

    return share


class Scenes(lightning.LightningDataModule):
    """Fresh scenes to learn from, fixed ones to watch with: as they are, and augmented."""

    def __init__(self, recipe: Recipe, *, workers: int) -> None:
        super().__init__()
        self._recipe = recipe
        self._workers = workers

    def train_dataloader(self) -> DataLoader[Batch]:
        """From the epoch that the trainer stands at."""
        recipe = self._recipe
        assert self.trainer is not None
        stream = SceneStream(
            Stream(
                pictures_per_epoch=recipe.pictures_per_epoch,
                stride=recipe.shape.stem,
                uses=recipe.scene_uses,
                seed=recipe.seed,
                augmentation=recipe.augmentation,
            ),
            epoch=self.trainer.current_epoch,
            rank=self.trainer.global_rank,
            ranks=self.trainer.world_size,
        )
        return DataLoader(
            stream,
            batch_size=recipe.batch,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            multiprocessing_context="spawn" if self._workers else None,
            drop_last=True,
        )

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """The fixed scenes, and the same augmented."""
        recipe = self._recipe
        return [
            DataLoader(
                FixedScenes(
                    first_seed=FIRST_VALIDATION_SEED,
                    count=recipe.validation_scenes,
                    stride=recipe.shape.stem,
                    augmentation=augmentation,
                ),
                batch_size=recipe.batch,
            )
            for augmentation in (None, recipe.augmentation)
        ]
