"""Pictures made while training runs, and the fixed ones that it is watched with, as tensors."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from drivers.vivarium.truth import Contact
from training.augmentation import Augmentation
from training.labelled import Labelled
from training.material import Material
from training.panoptic import centre_truth
from training.samples import Source

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
    animals_known: Tensor
    """(N, 1, 1, 1) bool: False where the labels do not tell animals apart, so that there is no centre."""
    apart: Tensor
    """(N,) bool: no animal touches another; False where that is not known."""


def example(picture: Labelled, stride: int, *, apart: bool = False) -> Batch:
    """One picture as tensors, without the dimension N."""
    truth = centre_truth(picture.parts, picture.instances, stride)
    return Batch(
        celsius=torch.from_numpy(np.array(picture.celsius))[None],
        parts=torch.from_numpy(np.array(picture.parts)),
        centre=torch.from_numpy(truth.centre)[None],
        offset=torch.from_numpy(truth.offset),
        inside=torch.from_numpy(truth.inside & picture.animals_known)[None],
        animals_known=torch.tensor(picture.animals_known)[None, None, None],
        apart=torch.tensor(apart),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Which pictures an endless training sees, and how."""

    pictures_per_epoch: int
    stride: int
    batch: int = 1
    """Workers make whole batches: so many pictures each, or a multiple of it."""
    uses: int = 2
    """Pictures made of each scene on the average, each time differently."""
    seed: int = 0
    material: Material = field(default_factory=Material)
    augmentation: Augmentation = field(default_factory=Augmentation)


class SceneStream(IterableDataset[Batch]):
    """Pictures of fresh scenes and other material, without an end.

    Every `iter` is one epoch. An epoch depends on its number, the seed and on how many processes share the work, and
    on nothing that came before: a training that was killed goes on with the same pictures it would have seen.

    Parameters
    ----------
    stream : Stream
        What to make.
    epoch : int
        Number of the first epoch.
    rank, ranks : int
        This process and how many train together, each with its own share of the pictures.
    """

    def __init__(self, stream: Stream, *, epoch: int = 0, rank: int = 0, ranks: int = 1) -> None:
        super().__init__()
        self._stream = stream
        self._epoch = epoch
        self._rank = rank
        self._ranks = ranks

    def __iter__(self) -> Iterator[Batch]:
        """The pictures of one epoch that fall to this process and worker."""
        cv2.setNumThreads(1)  # a worker has one core, and the network needs the others
        worker = get_worker_info()
        workers, own = (worker.num_workers, worker.id) if worker else (1, 0)
        shares = self._ranks * workers
        share = self._rank * workers + own
        epoch, self._epoch = self._epoch, self._epoch + 1
        batches = -(-self._stream.pictures_per_epoch // self._ranks) // self._stream.batch
        pictures = (batches // workers + (own < batches % workers)) * self._stream.batch
        scenes = -(-(-(-batches // workers) * self._stream.batch) // self._stream.uses)  # of the busiest worker
        rng = np.random.default_rng((self._stream.seed, epoch, share))
        first = self._stream.seed + (epoch * shares + share) * scenes
        material, pool = self._stream.material, deque[Labelled](maxlen=_POOL_SCENES)
        for back in range(min(_POOL_SCENES, scenes), 0, -1):
            pool.append(material.draw(first - back, rng))
        for number in range(pictures):
            if number % self._stream.uses == 0:
                pool.append(material.draw(first + number // self._stream.uses, rng))
            together = rng.choice(len(pool), min(_SHOWN_TOGETHER, len(pool)), replace=False)
            picture = self._stream.augmentation.apply([pool[index] for index in together], rng)
            yield example(picture, self._stream.stride)


class FixedPictures(Dataset[Batch]):
    """The same pictures each time, as the camera shows them or augmented, each always in the same way.

    Parameters
    ----------
    source : Source
        Which; none of the scenes for judging.
    stride : int
        Of centre and offset.
    augmentation : Augmentation, optional
        Shows how a network does on pictures that went through more.
    """

    def __init__(self, source: Source, *, stride: int, augmentation: Augmentation | None = None) -> None:
        self._source = source
        self._stride = stride
        self._augmentation = augmentation
        self._kept: dict[int, Batch] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Batch:
        """One picture; it is made once."""
        if index not in self._kept:
            self._kept[index] = self._made(index)
        return self._kept[index]

    def _made(self, index: int) -> Batch:
        sample = self._source[index]
        picture = Labelled.of(sample)
        if self._augmentation is not None:
            picture = self._augmentation.apply([picture], np.random.default_rng(index))
        return example(picture, self._stride, apart=sample.contact is Contact.APART)
