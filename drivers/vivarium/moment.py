"""What is true of all animals of a moving scene at a moment, without a picture of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivers.vivarium.anatomy import Species
from drivers.vivarium.figure import ScenePart
from drivers.vivarium.posture import Pose, Stance, clearance_px
from drivers.vivarium.truth import Point

TOUCHING_PX = 1.0
"""Outlines that are nearer touch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnimalMoment:
    """One animal at a moment, seen or covered."""

    animal: int
    """Its number, from 1: its identity for all time, and its label in `SceneFrame.instances`."""
    species: Species
    stance: Stance
    """What it does."""
    speed_px_s: float
    """Of the middle of its spine along its way."""
    middle: Point
    """Of its spine, (x, y) in pixels."""
    heading_rad: float
    """Direction from tail to nose at the middle of the spine; 0 looks right, a quarter turn down."""
    snout: Point
    neck: Point
    """The middle of the line between head and body."""
    tail_base: Point
    tail_tip: Point
    core_celsius: float
    """Body temperature inside."""
    skin_celsius: float
    """Of the hottest skin, that of eyes and ears, which are covered or too small to be seen at times."""
    surface_celsius: Mapping[ScenePart, float]
    """Mean surface temperature of each part as seen from above with nothing on it: head and body within 0.7 °C of what
    a picture shows, the tail within 0.9 °C, as a picture does not show what of it lies under the animal."""
    tail_dilation: float
    """How open the vessels of the tail are: 0 to 1 in health."""
    touching: tuple[int, ...]
    """Numbers of the animals that it touches, with trunk or tail."""
    huddle: tuple[int, ...]
    """Numbers of all animals of the huddle it lies in, its own among them; empty if it lies in none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """All animals that are in the box at a moment."""

    utc_s: float
    """Seconds since the Unix epoch."""
    zeitgeber_s: float
    """Since the lights went on; they are on for the first twelve hours."""
    animals: tuple[AnimalMoment, ...]
    """By number; one that has been taken out is missing."""

    def of(self, animal: int) -> AnimalMoment | None:
        """One animal; None while it is not in the box."""
        return next((one for one in self.animals if one.animal == animal), None)


def contacts(poses: Mapping[int, Pose]) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
    """Whom each animal touches, and with whom it huddles: rests while trunks touch, one after the other."""
    touching: dict[int, set[int]] = {number: set() for number in poses}
    huddle: dict[int, set[int]] = {number: {number} for number in poses}
    numbers: Sequence[int] = sorted(poses)
    for index, one in enumerate(numbers):
        for other in numbers[index + 1 :]:
            if clearance_px(poses[one], poses[other]) >= TOUCHING_PX:
                continue
            touching[one].add(other)
            touching[other].add(one)
            resting = Stance.WALKING not in (poses[one].posture.stance, poses[other].posture.stance)
            if resting and clearance_px(poses[one], poses[other], tails=False) < TOUCHING_PX:
                together = huddle[one] | huddle[other]
                for member in together:
                    huddle[member] = together
    return (
        {number: tuple(sorted(others)) for number, others in touching.items()},
        {number: tuple(sorted(group)) if len(group) > 1 else () for number, group in huddle.items()},
    )
