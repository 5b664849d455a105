"""How each animal looks: size and warmth, learnt while it is known which it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.sighting import Sighting
from daemon.vision.parts import BodyPart

_LEARNS_S = 300.0
"""What was seen so long ago counts for little."""
_LOOK_S = 2.0
"""Looks nearer in time than this say the same again."""
_LEAST_LOOKS = 20.0
"""Before so many looks, 40 s, nothing is known of an animal: it has shown one posture only."""
_FLOOR = {"size": 0.12, "head": 0.5, "body": 0.5, "tail": 1.2}
"""Spread below which no feature is believed, as the animal bends and its skin warms: logarithm of pixels, °C."""
_DRIFT_PER_HOUR = {"size": 0.02, "head": 0.6, "body": 0.6, "tail": 2.0}
"""What is remembered of an animal becomes less sure by so much."""
_MOST = 3.0
"""One feature never speaks louder than this for one against another, in standard deviations."""


def features(seen: Sighting) -> dict[str, float]:
    """Logarithm of the size of the trunk, and the temperature of each part, °C."""
    found = {part.name.lower(): seen.celsius[part] for part in BodyPart if part in seen.celsius}
    if seen.trunk_px > 0 and BodyPart.BODY in seen.centres:
        found["size"] = math.log(seen.trunk_px)
    return found


@dataclass(slots=True)
class _Figure:
    mean: float
    variance: float = 0.0
    looks: float = 0.0
    at_s: float = 0.0


@dataclass(slots=True)
class Appearance:
    """Of one animal."""

    _figures: dict[str, _Figure] = field(default_factory=dict)

    def learn(self, seen: Sighting, at_s: float) -> None:
        """It is known to look like this now."""
        for name, value in features(seen).items():
            figure = self._figures.get(name)
            if figure is None:
                self._figures[name] = _Figure(value, looks=1.0, at_s=at_s)
                continue
            elapsed_s = max(at_s - figure.at_s, 0.0)
            weight = max(1 - math.exp(-elapsed_s / _LEARNS_S), min(elapsed_s, _LOOK_S) / _LOOK_S / (figure.looks + 1))
            step = value - figure.mean
            figure.mean += weight * step
            figure.variance = (1 - weight) * (figure.variance + weight * step**2)
            figure.looks += min(elapsed_s / _LOOK_S, 1.0)
            figure.at_s = at_s

    def figure(self, name: str, at_s: float) -> tuple[float, float] | None:
        """Mean and spread of a feature as it is expected now; None while little is known of it."""
        figure = self._figures.get(name)
        if figure is None or figure.looks < _LEAST_LOOKS:
            return None
        doubt = _DRIFT_PER_HOUR[name] * max(at_s - figure.at_s, 0.0) / 3600
        return figure.mean, math.sqrt(figure.variance + _FLOOR[name] ** 2 + doubt**2)


def log_likelihoods(looks: Mapping[int, Appearance], seen: Sighting, at_s: float) -> dict[int, float]:
    """Natural logarithm of how well a sighting fits each animal, up to a constant; empty while one is not known.

    Parameters
    ----------
    looks : mapping of int to Appearance
        By animal.
    seen : Sighting
        May be any of them.
    at_s : float
        Now, as the animals were learnt.

    Notes
    -----
    A normal density for each feature, its variance that which was learnt, with a floor, and more the longer ago. Only
    features count that are known of all: one that is not known taken for an animal of any look at all gives wrong names
    where masks merge, as the first seconds of an animal show one posture only.
    """
    totals = dict.fromkeys(looks, 0.0)
    told = False
    for name, value in features(seen).items():
        figures = {animal: look.figure(name, at_s) for animal, look in looks.items()}
        known = {animal: figure for animal, figure in figures.items() if figure is not None}
        if len(known) < len(looks):
            continue
        told = True
        for animal, (mean, spread) in known.items():
            totals[animal] -= min(abs(value - mean) / spread, _MOST) ** 2 / 2 + math.log(spread)
    return totals if told else {}
