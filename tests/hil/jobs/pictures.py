"""Which picture of the reel a frame shows: known by its content, since a T2S+ sends no frame numbers."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.thermometry import EnvironmentOverrides

IMAGE_BYTES = 192 * 256 * 2
REEL = Path("/share/reel.npz")

SIMULATED_DISTANCE = EnvironmentOverrides(distance_m=1.0)
"""The distance of the simulated scene; a v1 says 0 after each plug-in."""


class Pictures:
    """The pictures of one strip of the reel.

    Parameters
    ----------
    strip : str
        Field of `drivers.virtual.reel.Reel`.
    """

    def __init__(self, strip: str = "normal") -> None:
        with np.load(REEL) as arrays:
            transfers: NDArray[np.uint16] = arrays[strip]
        self.count = len(transfers)
        self._numbers = {transfer[:192].tobytes(): number for number, transfer in enumerate(transfers)}

    def number(self, data: bytes) -> int | None:
        """Its number in the reel; None for anything else."""
        return self._numbers.get(data[:IMAGE_BYTES])

    def missing(self, numbers: list[int]) -> int:
        """How many pictures are missing between those that were seen, in order."""
        return sum((after - before - 1) % self.count for before, after in pairwise(numbers))
