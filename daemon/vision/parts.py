"""Body parts, and what a segmenter promises, whether it is a network or not."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class BodyPart(IntEnum):
    """Labels of every mask in the project; 0 is background."""

    HEAD = 1
    BODY = 2
    TAIL = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segmentation:
    """What is where in one frame; both maps have its size, (192, 256) for a frame of the camera."""

    parts: NDArray[np.uint8]
    """Shape (height, width): 0 background, otherwise a `BodyPart`."""

    instances: NDArray[np.uint8]
    """Shape (height, width): 0 background, otherwise the number of the animal within this frame, from 1."""

    by: str | None = None
    """Name of who found it, where that is not always the segmenter that was asked; None where it is."""

    def __post_init__(self) -> None:
        for name, labels in (("parts", self.parts), ("instances", self.instances)):
            if labels.dtype != np.uint8 or labels.ndim != 2 or labels.shape != self.parts.shape:
                raise ValueError(f"{name} must be (height, width) uint8, both alike, got {labels.dtype} {labels.shape}")
            labels.setflags(write=False)


BY_SHAPE = "classical-1"
"""Name of what finds animals by warmth and shape alone, without networks; the number rises with every change of what is
found. Where a head is, it reckons; animals that touch are one."""


class Segmenter(Protocol):
    """Finds animals and their parts."""

    @property
    def name(self) -> str:
        """For the record of a run: what did the segmenting, with its version or hash."""
        ...

    def segment(self, celsius: NDArray[np.float32]) -> Segmentation:
        """Label one frame of degrees C, (height, width) float32, NaN allowed; the maps have its size."""
        ...
