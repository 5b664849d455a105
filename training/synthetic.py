"""Scenes made while training runs, and the fixed ones that it is watched with."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from drivers.vivarium.dice import FIRST_TEST_SEED
from drivers.vivarium.snapshot import random_scene
from drivers.vivarium.truth import Contact
from training.augmentation import Augmentation
from training.labelled import Labelled, synthetic
from training.panoptic import centre_truth

FIRST_VALIDATION_SEED = 900_000
"""Scenes below are for training, from here to `FIRST_TEST_SEED` for watching it; those beyond are never touched."""

_POOL_SCENES = 48
"""So many scenes a worker has at hand to mix and to show again."""
_SHOWN_TOGETHER = 4


class Batch(NamedTuple):
    """What a network learns from; s is the stride of centre and offset."""

    celsius: Tensor
    """(N, 1, H, W) float32, °C, NaN where nothing is known."""
    parts: Tensor
    """(N, H, W) uint8."""
    centre: Tensor
    """(N, 1, H / s, W / s) float32."""
    offset: Tensor
    """(N, 2, H / s, W / s) float32, pixels."""
    inside: Tensor
    """(N, 1, H / s, W / s) bool: where the offset means something."""
    apart: Tensor
    """(N,) bool: no animal touches another; False where that is not known."""


def example(picture: Labelled, stride: int, *, apart: bool = False) -> Batch:
    """One picture as tensors, without the dimension N."""
    truth = centre_truth(picture.parts, picture.instances, stride)
    return Batch(
        celsius=torch.from_numpy(picture.celsius)[None],
        parts=torch.from_numpy(picture.parts),
        centre=torch.from_numpy(truth.centre)[None],
        offset=torch.from_numpy(truth.offset),
        inside=torch.from_numpy(truth.inside)[None],
        apart=torch.tensor(apart),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Which scenes an endless training sees, and how."""

    pictures_per_epoch: int
    stride: int
    uses: int = 2
    """Pictures made of each scene on the average, each time differently."""
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)


class SceneStream(IterableDataset[Batch]):
    """Pictures of fresh scenes: each epoch has new seeds until all 900,000 are through.

    Every `iter` is one epoch. An epoch depends on its number, the seed and on how many processes share the work, and
    on nothing that came before: a training that was killed goes on with the same pictures it would have seen.

    Parameters
    ----------
    stream : Stream
        What to make.
    epoch : int
        Number of the first epoch.
    rank, ranks : int
        This process and how many train together, each with its own share of the scenes.
    """

    def __init__(self, stream: Stream, *, epoch: int = 0, rank: int = 0, ranks: int = 1) -> None:
        super().__init__()
        self._stream = stream
        self._epoch = epoch
        self._rank = rank
        self._ranks = ranks

    def __iter__(self) -> Iterator[Batch]:
        """The pictures of one epoch that fall to this process and worker."""
        cv2.setNumThreads(1)
        worker = get_worker_info()
        workers, own = (worker.num_workers, worker.id) if worker else (1, 0)
        shares = self._ranks * workers
        share = self._rank * workers + own
        epoch, self._epoch = self._epoch, self._epoch + 1
        pictures = -(-self._stream.pictures_per_epoch // shares)
        scenes = -(-pictures // self._stream.uses)
        rng = np.random.default_rng((self._stream.seed, epoch, share))
        first = (epoch * shares + share) * scenes
        pool = deque(
            (synthetic(_seed(self._stream.seed, first - 1 - back)) for back in range(min(_POOL_SCENES, scenes))),
            maxlen=_POOL_SCENES,
        )
        made = 0
        for number in range(scenes):
            pool.append(synthetic(_seed(self._stream.seed, first + number)))
            for _ in range(min(self._stream.uses, pictures - made)):
                together = rng.choice(len(pool), min(_SHOWN_TOGETHER, len(pool)), replace=False)
                picture = self._stream.augmentation.apply([pool[index] for index in together], rng)
                yield example(picture, self._stream.stride)
                made += 1


def _seed(base: int, number: int) -> int:
    return (base + number) % FIRST_VALIDATION_SEED


class FixedScenes(Dataset[Batch]):
    """The same scenes each time, as the camera shows them.

    Parameters
    ----------
    first_seed : int
        In front of `FIRST_TEST_SEED`.
    count : int
        How many.
    stride : int
        Of centre and offset.
    augmentation : Augmentation, optional
        Applied to each scene, each time in the same way: how it does on pictures that went through more.

    Raises
    ------
    ValueError
        If scenes for judging would be among them.
    """

    def __init__(self, *, first_seed: int, count: int, stride: int, augmentation: Augmentation | None = None) -> None:
        if not 0 <= first_seed <= first_seed + count <= FIRST_TEST_SEED:
            raise ValueError(f"scenes from {FIRST_TEST_SEED} on are for judging only, got {first_seed} + {count}")
        self._first_seed = first_seed
        self._count = count
        self._stride = stride
        self._augmentation = augmentation

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Batch:
        """One scene."""
        if not 0 <= index < self._count:
            raise IndexError(f"there are {self._count} scenes, got number {index}")
        seed = self._first_seed + index
        scene = random_scene(seed)
        picture = Labelled(celsius=scene.celsius, parts=scene.frame.parts, instances=scene.frame.instances)
        if self._augmentation is not None:
            picture = self._augmentation.apply([picture], np.random.default_rng(seed))
        return example(picture, self._stride, apart=scene.frame.contact() is Contact.APART)
