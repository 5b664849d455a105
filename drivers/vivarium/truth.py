"""A scene at one moment, and the truth about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.t2s_protocol import IMAGE_WIDTH
from drivers.vivarium.anatomy import Species
from drivers.vivarium.figure import ScenePart
from drivers.vivarium.posture import Stance
from drivers.vivarium.shapes import SHAPE, Field, full

Point = tuple[float, float]
"""x and y in pixels; may lie outside the picture."""

HUDDLE_OVERLAP_SHARE = 0.08
"""Touching animals are a huddle when others lie on so much of one of them."""


class Contact(StrEnum):
    """How close the animals of a picture are, by what is seen of them."""

    APART = "apart"
    """None touches another; also where there is one or none."""
    TOUCHING = "touching"
    HUDDLE = "huddle"
    """They touch, and one lies on another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTruth:
    """The truth about one visible body part."""

    animal: int
    """Number of the animal, from 1: its label in `SceneFrame.instances`."""
    part: ScenePart
    area_px: int
    x_px: float
    """Centroid of its pixels, column."""
    y_px: float
    """Centroid of its pixels, row."""
    surface_celsius: float
    """Mean of the true surface temperature over its pixels."""
    radiometric_celsius: float
    """The same of what a perfect sensor sees behind the lens, which mixes in what lies beside the part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnimalTruth:
    """The truth about one animal, whether it is seen or covered."""

    animal: int
    """Its label in `SceneFrame.instances`, and its identity: a moving scene never gives it to another."""
    species: Species
    stance: Stance
    layer: int
    """0 lies lowest; where two overlap the one with the higher layer is seen."""
    core_celsius: float
    """Body temperature inside."""
    surface_celsius: Mapping[ScenePart, float]
    """Mean surface temperature of each part that is inside the picture, covered or not."""
    area_px: int
    """Pixels of it inside the picture, covered or not."""
    covered_share: float
    """So much of that area is covered by other animals and by things."""
    overlapped_share: float
    """The same by other animals alone."""
    snout: Point
    neck: Point
    """The middle of the line between head and body."""
    tail_base: Point
    tail_tip: Point


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneFrame:
    """The scene at one moment. All arrays have the shape (192, 256) and are read-only."""

    utc_s: float
    """The moment, seconds since the Unix epoch; 0 for a picture without a time."""
    surface_celsius: NDArray[np.float32]
    """True surface temperature, °C."""
    radiometric_celsius: NDArray[np.float32]
    """The same behind the lens: blurred, free of noise. A perfect camera reads this."""
    parts: NDArray[np.uint8]
    """0 background, otherwise a `ScenePart`."""
    instances: NDArray[np.uint8]
    """0 background, otherwise the number of the animal, from 1."""
    truths: tuple[PartTruth, ...]
    """Every visible part, by animal and part."""
    animals: tuple[AnimalTruth, ...] = ()
    """Every animal in the box, by number, also where nothing of it is seen."""

    def __post_init__(self) -> None:
        for array in (self.surface_celsius, self.radiometric_celsius, self.parts, self.instances):
            array.setflags(write=False)

    def truth(self, part: ScenePart, animal: int = 1) -> PartTruth | None:
        """The truth about one part; None when it cannot be seen."""
        return next((truth for truth in self.truths if truth.part == part and truth.animal == animal), None)

    def contact(self) -> Contact:
        """How close the animals are."""
        touching = {
            int(number) for number in np.unique(self.instances)[1:] if _touches_another(self.instances, int(number))
        }
        if not touching:
            return Contact.APART
        overlap = max(animal.overlapped_share for animal in self.animals if animal.animal in touching)
        return Contact.HUDDLE if overlap > HUDDLE_OVERLAP_SHARE else Contact.TOUCHING


def uniform_scene(utc_s: float, celsius: float) -> SceneFrame:
    """Nothing but one temperature, as when a camera looks at its own shutter."""
    surface, nothing = full(celsius), np.zeros(SHAPE, np.uint8)
    return SceneFrame(
        utc_s=utc_s,
        surface_celsius=surface,
        radiometric_celsius=surface.copy(),
        parts=nothing,
        instances=nothing.copy(),
        truths=(),
    )


def _touches_another(instances: NDArray[np.uint8], number: int) -> bool:
    """Whether pixels of an animal lie beside or cornerwise to those of another."""
    around = cv2.dilate((instances == number).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    near = instances[around]
    return bool(np.any((near > 0) & (near != number)))


def part_truths(
    surface: Field, radiometric: Field, parts: NDArray[np.uint8], instances: NDArray[np.uint8]
) -> tuple[PartTruth, ...]:
    """Area, centroid and mean temperatures of every visible part."""
    covered = np.flatnonzero(parts)
    keys = instances.ravel()[covered].astype(np.intp) * len(ScenePart) + parts.ravel()[covered] - 1
    areas = np.bincount(keys)

    def means(values: NDArray[np.generic]) -> NDArray[np.float64]:
        return np.bincount(keys, weights=values).astype(np.float64) / np.maximum(areas, 1)

    columns, rows = means(covered % IMAGE_WIDTH), means(covered // IMAGE_WIDTH)
    true, seen = means(surface.ravel()[covered]), means(radiometric.ravel()[covered])
    return tuple(
        PartTruth(
            animal=int(key) // len(ScenePart),
            part=ScenePart(int(key) % len(ScenePart) + 1),
            area_px=int(areas[key]),
            x_px=float(columns[key]),
            y_px=float(rows[key]),
            surface_celsius=float(true[key]),
            radiometric_celsius=float(seen[key]),
        )
        for key in np.flatnonzero(areas)
    )
