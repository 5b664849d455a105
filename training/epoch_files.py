"""What is written after each epoch for people and programs beside the curves."""

import json
import logging
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback

from training.learning import PLAIN, Learning
from training.pixel_measures import multiclass_record

FOLDER = "epochs"
MULTICLASS_NAME = "metrics_multiclass.json"

logger = logging.getLogger(__name__)


class EpochFiles(Callback):
    """`epochs/NNN/metrics_multiclass.json`, and one line in the log.

    Parameters
    ----------
    folder : Path
        Of the training.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write what the module measured."""
        if not trainer.is_global_zero or not isinstance(module, Learning):
            return
        folder = self._folder / FOLDER / f"{trainer.current_epoch:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, measures in module.measures.items():
            path = folder / (MULTICLASS_NAME if name == PLAIN else f"metrics_multiclass_{name}.json")
            path.write_text(json.dumps(multiclass_record(measures), indent=1) + "\n", encoding="utf-8")
        logger.info(
            "epoch %d: mean IoU of the parts %s",
            trainer.current_epoch,
            ", ".join(
                f"{name} {measures.mean_iou_parts:.4f}"
                for name, measures in module.measures.items()
                if measures.mean_iou_parts is not None
            ),
        )
