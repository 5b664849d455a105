"""The pixels of a segmentation, sorted once by animal and part for all who read them."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart, Segmentation

_PARTS = tuple(BodyPart)

Region = tuple[int, slice]
"""Its number, from 0, and where its pixels are."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regions:
    """The pixels of all instances of a frame: region after region, within one row by row from the left.

    A region is what one instance has of one part, or of none. They are in order of instance, then of label.
    """

    pixels: NDArray[np.intp]
    """Places in the flattened picture, (n,)."""
    rows: NDArray[np.intp]
    """The same as row and column."""
    columns: NDArray[np.intp]
    starts: NDArray[np.intp]
    """Where each region begins in these, (regions,)."""
    instances: dict[int, dict[int, Region]]
    """By instance and label of the part."""

    @classmethod
    def of(cls, segmentation: Segmentation) -> Self:
        """Those of a frame."""
        flat, parts = segmentation.instances.ravel(), segmentation.parts.ravel()
        found = np.flatnonzero(flat != 0)
        keys = flat.take(found).astype(np.uint16) << np.uint16(8) | parts.take(found)
        order = np.argsort(keys, kind="stable")  # of 16 bits: a radix sort
        pixels, keys = found.take(order), keys.take(order)
        rows = pixels // segmentation.instances.shape[1]
        changes = (np.flatnonzero(keys[1:] != keys[:-1]) + 1).tolist()
        bounds = [0, *changes, len(keys)] if len(keys) else [0]
        instances: dict[int, dict[int, Region]] = {}
        for number, (first, last) in enumerate(pairwise(bounds)):
            instance, label = divmod(int(keys[first]), 256)
            instances.setdefault(instance, {})[label] = number, slice(first, last)
        return cls(
            pixels=pixels,
            rows=rows,
            columns=pixels - rows * segmentation.instances.shape[1],
            starts=np.array(bounds[:-1], np.intp),
            instances=instances,
        )

    def parts_of(self, instance: int) -> dict[BodyPart, Region]:
        """The parts that one has."""
        own = self.instances[instance]
        return {part: own[part] for part in _PARTS if part in own}

    def whole(self, instance: int) -> slice:
        """Where all pixels of one are."""
        own = [here for _, here in self.instances[instance].values()]
        return slice(own[0].start, own[-1].stop)

    def sums(self, values: NDArray[Any]) -> list[Any]:
        """Over each region, of one value for each pixel; of whole numbers, or of bools, whole numbers."""
        kind = np.intp if values.dtype == np.bool_ else values.dtype
        return np.add.reduceat(values, self.starts, dtype=kind).tolist() if len(self.starts) else []
