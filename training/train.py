"""A training as a folder: Lightning's trainer with its logs, checkpoints, and the way back after a kill."""

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from drivers.errors import ConfigError
from training.checkpoints import CheckpointError, epochs_of, history_of, origin_of, recipe_of, start_from
from training.epoch_files import EpochFiles
from training.history import History, begun, gone_on, history_to_json
from training.learning import WATCHED, Learning, averaging
from training.material import FIRST_VALIDATION_SEED, Divided, divided
from training.mixed import PartOfSource
from training.recipe import Recipe, recipe_to_json
from training.samples import Source
from training.scenes import SceneSource
from training.synthetic import Batch, FixedPictures, SceneStream, Stream

RECIPE_NAME = "recipe.json"
HISTORY_NAME = "history.json"
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"

_EXPECTED = (
    ".*does not have many workers",  # the fixed pictures are few
    ".*isinstance.treespec, LeafSpec",  # Lightning's own use of torch
    "Checkpoint directory .* exists and is not empty",  # when going on
    ".*find a batch size",
)
logger = logging.getLogger(__name__)

_CLIP = 1.0
"""Longest gradient: a batch of strange pictures must not undo the weights."""


class Accelerator(StrEnum):
    """Where the network is."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


class Precision(StrEnum):
    """In how many bits sums are taken."""

    BF16_MIXED = "bf16-mixed"
    """Multiplied in 16 bits, added up in 32."""
    FLOAT32 = "32-true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Where and on what a training runs; nothing of this changes what is learned but for rounding."""

    folder: Path
    resume: bool = False
    start: Path | None = None
    """A checkpoint whose weights are the beginning."""
    threads: int = 1
    workers: int = 1
    """Processes that make pictures."""
    devices: int = 1
    """Processes that train together, each on a GPU where there are some."""
    accelerator: Accelerator = Accelerator.AUTO
    precision: Precision = Precision.BF16_MIXED
    progress: bool = True
    """Bars on the terminal."""

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.folder / CHECKPOINTS / LAST


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a training."""

    checkpoint: Path
    epochs: int
    mean_iou: float
    """Of head, body and tail on the scenes it was watched with."""
    is_first_process: bool
    """Of those that trained together; it alone should speak."""


class Pictures(lightning.LightningDataModule):
    """Pictures to learn from, and fixed ones to watch with: as they are, augmented, and those held back of others."""

    def __init__(self, recipe: Recipe, material: Divided, *, workers: int) -> None:
        super().__init__()
        self._recipe = recipe
        self._divided = material
        self._workers = workers

    def train_dataloader(self) -> DataLoader[Batch]:
        """From the epoch that the trainer stands at."""
        recipe, trainer = self._recipe, self.trainer
        if trainer is None:
            raise RuntimeError("pictures are made for a trainer, and there is none")
        stream = SceneStream(
            Stream(
                pictures_per_epoch=recipe.pictures_per_epoch,
                stride=recipe.shape.stem,
                batch=recipe.batch,
                uses=recipe.scene_uses,
                seed=recipe.seed,
                material=self._divided.material,
                augmentation=recipe.augmentation,
            ),
            # When a training goes on, the number of the epoch still is that of the last one; steps are right.
            epoch=trainer.global_step // recipe.batches(trainer.world_size),
            rank=trainer.global_rank,
            ranks=trainer.world_size,
        )
        return DataLoader(
            stream,
            batch_size=recipe.batch,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            multiprocessing_context="spawn" if self._workers else None,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """In the order that `Learning` expects."""
        recipe = self._recipe
        scenes = SceneSource(FIRST_VALIDATION_SEED, recipe.validation_scenes)
        loaders = [self._fixed(scenes), self._fixed(scenes, augmented=True)]
        loaders.extend(self._fixed(_at_most(source, recipe.validation_scenes)) for source in self._divided.held_back)
        return loaders

    def _fixed(self, source: Source, *, augmented: bool = False) -> DataLoader[Batch]:
        augmentation = self._recipe.augmentation if augmented else None
        pictures = FixedPictures(source, stride=self._recipe.shape.stem, augmentation=augmentation)
        return DataLoader(pictures, batch_size=self._recipe.batch)


def _at_most(source: Source, count: int) -> Source:
    return PartOfSource(source, range(count)) if len(source) > count else source


def train(recipe: Recipe, run: Run) -> Outcome:
    """Train, or go on with a training that was stopped or killed.

    The folder holds `recipe.json`, `history.json`, `logs/version_N/metrics.csv` (one N per start) and
    `tensorboard/` (the curves), `checkpoints/` (one per epoch, and
    `last.ckpt`) and `epochs/NNN/metrics_multiclass.json`.

    Parameters
    ----------
    recipe : Recipe
        What to do. With `run.resume` it may differ from the one in the folder: more epochs, for instance.
    run : Run
        Where.

    Raises
    ------
    ConfigError
        If there is a training in the folder and it is not to be resumed, or none where one is.
    DataError
        If the material cannot be opened.
    """
    _require_place(run)
    material = divided(recipe.data, seed=recipe.seed)
    torch.set_num_threads(run.threads)
    lightning.seed_everything(recipe.seed, verbose=False)
    history = _history(recipe, run)
    learning = Learning(recipe, history)
    if run.start is not None:
        start_from(learning.network, run.start)
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / RECIPE_NAME).write_text(recipe_to_json(recipe) + "\n", encoding="utf-8")
    (run.folder / HISTORY_NAME).write_text(history_to_json(history) + "\n", encoding="utf-8")
    with _quiet():
        try:
            trainer = _trainer(recipe, run)
        except MisconfigurationException as error:  # for instance no GPU
            raise ConfigError(f"Lightning refuses: {error}") from error
        trainer.fit(
            learning,
            datamodule=Pictures(recipe, material, workers=run.workers),
            ckpt_path=run.last if run.resume else None,
            weights_only=False if run.resume else None,
        )
    figures = trainer.callback_metrics
    if trainer.interrupted:
        raise ConfigError(f"stopped in epoch {trainer.current_epoch}; --resume goes on from {run.last}")
    if WATCHED not in figures:
        raise ConfigError(f"{run.folder}: all {recipe.epochs} epochs are done; --epochs makes the training longer")
    return Outcome(
        checkpoint=run.last,
        epochs=trainer.current_epoch,
        mean_iou=float(figures[WATCHED]),
        is_first_process=trainer.is_global_zero,
    )


def stored_recipe(run: Run) -> Recipe:
    """The recipe of the training in a folder, for going on with it.

    Raises
    ------
    ConfigError
        If there is none.
    """
    _require_place(run)
    return recipe_of(run.last)


def _history(recipe: Recipe, run: Run) -> History:
    if not run.resume:
        return begun(recipe, None if run.start is None else origin_of(run.start))
    return gone_on(history_of(run.last), recipe, epochs_of(run.last) or 0)


def _require_place(run: Run) -> None:
    if run.resume:
        _mend_last(run)
    if run.resume and not run.last.is_file():
        raise ConfigError(f"{run.last}: there is no training to go on with; leave --resume away to begin one")
    if run.resume and run.start is not None:
        raise ConfigError("a training that goes on has weights already: give --resume or --from")
    if not run.resume and run.last.is_file():
        raise ConfigError(f"{run.folder}: there is a training already; go on with --resume or choose another folder")


def _mend_last(run: Run) -> None:
    """Put the newest sound checkpoint in the place of a last one that a kill or a power cut has torn."""
    if not run.last.is_file() or _is_sound(run.last):
        return
    for path in sorted(
        run.last.parent.glob("epoch=*.ckpt"), key=lambda file: (len(file.name), file.name), reverse=True
    ):
        if _is_sound(path):
            logger.warning("%s is damaged; going on from %s", run.last, path.name)
            copy = run.last.with_suffix(".mended")
            shutil.copyfile(path, copy)
            copy.replace(run.last)
            return


def _is_sound(path: Path) -> bool:
    try:
        recipe_of(path)
    except CheckpointError:
        return False
    return True


def _trainer(recipe: Recipe, run: Run) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator=run.accelerator.value,
        devices=run.devices,
        strategy="ddp" if run.devices > 1 else "auto",
        precision=run.precision.value,
        benchmark=torch.cuda.is_available(),  # pictures of one size: a GPU tries once which of its ways is the fastest
        max_epochs=recipe.epochs,
        gradient_clip_val=_CLIP,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        logger=[
            CSVLogger(run.folder, name="logs"),  # a folder of its own for each start: it overwrites
            TensorBoardLogger(run.folder, name="", version="tensorboard"),
        ],
        callbacks=_callbacks(recipe, run),
        enable_progress_bar=run.progress,
        enable_model_summary=False,
    )


class _Averaging(WeightAveraging):
    """Averages where the network learns: Lightning asks where it is before it has moved it to the GPU."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        pl_module.to(trainer.strategy.root_device)
        super().setup(trainer, pl_module, stage)


def _callbacks(recipe: Recipe, run: Run) -> list[Callback]:
    callbacks: list[Callback] = [
        _Averaging(multi_avg_fn=averaging(recipe.average)),
        EpochFiles(run.folder),
        LearningRateMonitor(logging_interval="epoch"),
        ModelCheckpoint(
            run.folder / CHECKPOINTS,
            filename="{epoch:03d}",
            save_top_k=-1,
            save_last=True,
            every_n_epochs=1,
            enable_version_counter=False,
        ),
    ]
    if run.progress:
        callbacks.append(RichProgressBar())
    if recipe.patience_epochs:
        callbacks.append(EarlyStopping(WATCHED, mode="max", patience=recipe.patience_epochs))
    return callbacks


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning says of itself and what is meant to be as it is."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for words in _EXPECTED:
            warnings.filterwarnings("ignore", words)
        yield
