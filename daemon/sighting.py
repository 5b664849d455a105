"""What a frame shows of one animal, as far as it helps to know it again."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart
from daemon.vision.regions import Regions

Point = tuple[float, float]

_TRUNK = (BodyPart.HEAD, BodyPart.BODY)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sighting:
    """One instance of a frame."""

    instance: int
    pixels: NDArray[np.intp]
    """Places of its pixels in the flattened picture, in any order."""
    x_px: float
    """Centre of head and body, column; of the tail where nothing else is seen."""
    y_px: float
    trunk_px: int
    """Pixels of head and body."""
    head_px: int
    """Pixels of the head."""
    centres: dict[BodyPart, Point]
    """Of each part that is seen, (x, y)."""
    celsius: dict[BodyPart, float]
    """Mean of each part that has a temperature."""

    @property
    def axis(self) -> Point | None:
        """Direction (x, y) of length 1 from body to head, else from tail to body, as labelled; None without either."""
        for front, back in ((BodyPart.HEAD, BodyPart.BODY), (BodyPart.BODY, BodyPart.TAIL)):
            if front in self.centres and back in self.centres:
                (x, y), (from_x, from_y) = self.centres[front], self.centres[back]
                length = math.hypot(x - from_x, y - from_y)
                if length > 0:
                    return (x - from_x) / length, (y - from_y) / length
        return None


def sightings(regions: Regions, celsius: NDArray[np.float32]) -> list[Sighting]:
    """All instances of a frame, by number.

    Parameters
    ----------
    regions : Regions
        What is where.
    celsius : (height, width) float32
        °C, NaN allowed.
    """
    degrees = celsius.take(regions.pixels).astype(np.float64)
    known = np.isfinite(degrees)
    x, y = regions.sums(regions.columns), regions.sums(regions.rows)
    warm, heat = regions.sums(known), regions.sums(np.where(known, degrees, 0))
    found = []
    for instance, own in regions.instances.items():
        parts = regions.parts_of(instance)
        areas = {number: here.stop - here.start for number, here in own.values()}
        trunk = [parts[part][0] for part in _TRUNK if part in parts]
        used = trunk or list(areas)
        share = 1 / sum(areas[number] for number in used)
        found.append(
            Sighting(
                instance=instance,
                pixels=regions.pixels[regions.whole(instance)],
                x_px=sum(share * x[number] for number in used),
                y_px=sum(share * y[number] for number in used),
                trunk_px=sum(areas[number] for number in trunk),
                head_px=areas[parts[BodyPart.HEAD][0]] if BodyPart.HEAD in parts else 0,
                centres={
                    part: (x[number] / areas[number], y[number] / areas[number]) for part, (number, _) in parts.items()
                },
                celsius={part: heat[number] / warm[number] for part, (number, _) in parts.items() if warm[number]},
            )
        )
    return found
