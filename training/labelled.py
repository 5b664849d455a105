"""A picture with its truth, as training uses it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.vivarium.snapshot import random_scene
from training.samples import Sample


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """Degrees and who is where. The three arrays have the same shape (H, W)."""

    celsius: NDArray[np.float32]
    """NaN where nothing is known."""
    parts: NDArray[np.uint8]
    """0 background, otherwise a `BodyPart`."""
    instances: NDArray[np.uint8]
    """0 background, otherwise the number of the animal in this picture."""
    animals_known: bool = True
    """False where labels do not tell animals apart: then `instances` means nothing."""

    def __post_init__(self) -> None:
        if not self.celsius.shape == self.parts.shape == self.instances.shape or self.celsius.ndim != 2:
            raise ValueError(
                f"degrees and masks must be of one size, got {self.celsius.shape}, {self.parts.shape} and "
                f"{self.instances.shape}"
            )

    @classmethod
    def of(cls, sample: Sample) -> "Labelled":
        """What training needs of a sample."""
        known = sample.instances is not None
        return cls(
            celsius=sample.celsius,
            parts=sample.parts,
            instances=sample.instances if sample.instances is not None else (sample.parts > 0).astype(np.uint8),
            animals_known=known,
        )


def synthetic(seed: int) -> Labelled:
    """The scene of a seed."""
    scene = random_scene(seed)
    return Labelled(celsius=scene.celsius, parts=scene.frame.parts, instances=scene.frame.instances)
