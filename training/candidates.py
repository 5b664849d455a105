"""What can be judged: anything that finds parts and animals in degrees, with the runtime's own steps behind it."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.vision.classical import ClassicalSegmenter
from training.verdict import Found


class Candidate(Protocol):
    """Finds parts and animals in a picture."""

    @property
    def name(self) -> str:
        """For titles and records: what it is, with its version or hash."""
        ...

    def find(self, celsius: NDArray[np.float32]) -> Found:
        """Label one picture of degrees C, shape (192, 256), NaN allowed."""
        ...


class ClassicalCandidate:
    """The path without a network; fulfils `Candidate`.

    Parameters
    ----------
    animals : int
        How many it may find at most.
    min_area_px : int
        Smaller warm areas are no animals.
    """

    def __init__(self, animals: int, min_area_px: int) -> None:
        self._segmenter = ClassicalSegmenter(animals=animals, min_area_px=min_area_px)

    @property
    def name(self) -> str:
        """See `Candidate`."""
        return self._segmenter.name

    def find(self, celsius: NDArray[np.float32]) -> Found:
        """See `Candidate`."""
        segmentation = self._segmenter.segment(celsius)
        return Found(parts=segmentation.parts, instances=segmentation.instances)
