"""Which end of an animal is the head: decided over time, by motion and heat and what most labels say."""

import math
from dataclasses import dataclass

from daemon.sighting import Point, Sighting
from daemon.vision.parts import BodyPart

_MOST = 6.0
"""Log odds beyond which more of the same says nothing."""
_LABEL = 0.7
"""Log odds that the labels of one look are right."""
_WALKS_PX_S = 12.0
"""A rat that moves as fast walks, and rats walk forwards."""
_WALKING = 1.5
_WARMER_CELSIUS = 1.5
"""A head is warmer than a tail by so much before it counts: tails with open vessels come near."""
_HEAT = 1.0
_CERTAIN_CELSIUS = 3.0
"""No tail is so much warmer than the head: then heat alone decides, whatever was seen before."""
_LOOK_S = 0.2
"""Looks nearer in time than this say the same again and count for less."""
_TURNS_S = 0.5
"""After so long an animal may have turned round unseen."""
_FORGETS_S = 5.0


@dataclass(slots=True)
class Heading:
    """Of one track."""

    x: float = 0.0
    """Direction from tail to head, length 1; (0, 0) before the first look."""
    y: float = 0.0
    odds: float = 0.0
    """Log odds that this is right and not the opposite."""

    def look(self, seen: Sighting, velocity: Point, elapsed_s: float) -> bool:
        """Take in one more look.

        Parameters
        ----------
        seen : Sighting
            As labelled.
        velocity : (x, y)
            Of the animal, px/s.
        elapsed_s : float
            Since the last look.

        Returns
        -------
        bool
            Whether the labels of head and tail are the wrong way round.
        """
        axis = seen.axis
        if axis is None:
            return False
        warmer = _head_warmer_celsius(seen)
        if abs(warmer) > _CERTAIN_CELSIUS:
            self.x, self.y = math.copysign(1.0, warmer) * axis[0], math.copysign(1.0, warmer) * axis[1]
            self.odds = _MOST
            return warmer < 0
        evidence = _evidence(seen, axis, velocity) * min(1.0, elapsed_s / _LOOK_S if elapsed_s > 0 else 1.0)
        if elapsed_s > _TURNS_S or (self.x, self.y) == (0.0, 0.0):
            # It may have turned unseen: what was known before says nothing about these labels.
            self.x, self.y = axis
            self.odds = _LABEL + _evidence(seen, axis, velocity)
        else:
            same = axis[0] * self.x + axis[1] * self.y >= 0
            sign = 1.0 if same else -1.0
            self.x, self.y = sign * axis[0], sign * axis[1]
            fade = math.exp(-elapsed_s / _FORGETS_S)
            vote = _LABEL * min(1.0, elapsed_s / _LOOK_S)
            self.odds = fade * self.odds + sign * (evidence + vote)
        self.odds = max(-_MOST, min(_MOST, self.odds))
        if self.odds < 0:
            self.x, self.y, self.odds = -self.x, -self.y, -self.odds
        return axis[0] * self.x + axis[1] * self.y < 0


def _evidence(seen: Sighting, axis: Point, velocity: Point) -> float:
    """Log odds that the end labelled head is the head, by motion and heat alone."""
    speed = math.hypot(*velocity)
    odds = 0.0
    if speed > _WALKS_PX_S:
        odds += _WALKING * (axis[0] * velocity[0] + axis[1] * velocity[1]) / speed
    warmer = _head_warmer_celsius(seen)
    if abs(warmer) > _WARMER_CELSIUS:
        odds += math.copysign(_HEAT, warmer)
    return odds


def _head_warmer_celsius(seen: Sighting) -> float:
    """By how much what is labelled head is warmer than what is labelled tail; 0 where it is not known."""
    head, tail = seen.celsius.get(BodyPart.HEAD), seen.celsius.get(BodyPart.TAIL)
    return 0.0 if head is None or tail is None else head - tail
