"""One labelled picture, and what every source of them promises."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart
from drivers.errors import VivariumError
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from drivers.vivarium.truth import AnimalTruth, Contact


class DataError(VivariumError):
    """Labelled pictures are not what they should be: which file, what was expected, what came, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a picture was taken, as far as splitting pictures into sets needs to know."""

    session: str
    """Pictures of one session show the same animals in the same box."""
    position_s: float
    """Place within the session in seconds; where there are no times the number of the picture stands in for them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """A picture with what is true about it. All arrays have the shape (192, 256) and are read-only."""

    name: str
    """Where it is from: the seed of a scene, file, or file and frame."""
    celsius: NDArray[np.float32]
    """°C as a camera reads them, float32, NaN allowed."""
    parts: NDArray[np.uint8]
    """0 background, otherwise a `BodyPart`."""
    instances: NDArray[np.uint8] | None
    """0 background, otherwise the number of the animal, from 1; None where the labels do not tell animals apart."""
    surface_celsius: NDArray[np.float32] | None = None
    """True surface temperature, °C, without lens and noise; None where it is not known."""
    contact: Contact | None = None
    """How close the animals are; None where it is not known."""
    animals: tuple[AnimalTruth, ...] = ()
    """All that is known about the animals of a scene, seen or covered; empty for other pictures."""
    degrees_known: bool = True
    """Whether `celsius` holds degrees; False for colours without a scale, where only shapes can be judged."""

    def __post_init__(self) -> None:
        expected = (IMAGE_HEIGHT, IMAGE_WIDTH)
        for name, array, kind in (
            ("celsius", self.celsius, np.float32),
            ("parts", self.parts, np.uint8),
            ("instances", self.instances, np.uint8),
            ("surface_celsius", self.surface_celsius, np.float32),
        ):
            if array is None:
                continue
            if array.shape != expected or array.dtype != kind:
                raise ValueError(
                    f"{self.name}: {name} must be {expected} {np.dtype(kind)}, got {array.dtype} {array.shape}"
                )
            array.setflags(write=False)
        if self.parts.max(initial=0) > max(BodyPart):
            raise ValueError(f"{self.name}: parts must be 0 to {max(BodyPart)}, got {self.parts.max()}")
        if self.instances is not None and ((self.instances > 0) != (self.parts > 0)).any():
            raise ValueError(
                f"{self.name}: an animal is where its parts are, but instances and parts cover other pixels"
            )


class Source(Protocol):
    """Labelled pictures by number. Reading the same number gives the same sample, in any order and process."""

    @property
    def name(self) -> str:
        """What it was opened from, for records."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """One picture.

        Raises
        ------
        DataError
            If its files are not what they should be.
        IndexError
            If there is no such number.
        """
        ...

    def moment(self, index: int) -> Moment:
        """When a picture was taken, without reading it."""
        ...
