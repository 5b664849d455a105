"""Frames in which rats are followed, for tests of who is who."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from daemon.observation import AnimalObservation, FrameObservation, GroupObservation
from tests.observations import frame, rat

NOT_KNOWN, GROUPED = (60, 110), (200, 230)
"""Seconds in which nobody knows who tracks 4 and 5 are, and in which animals 2 and 3 are track 6."""
DOUBTED = 85
"""From this second on tracks 4 and 5 may have changed places."""


def followed(each: AnimalObservation, track: int, **known: object) -> AnimalObservation:
    """An animal as a track, by default one of which it is sure enough who it is."""
    return replace(each, track=track, **{"probability": 0.99, **known})  # type: ignore[arg-type]


def film(seconds: int, *, every_s: float = 1, seed: int = 1) -> Iterator[FrameObservation]:
    """Three rats that are named; for a while two of them are not, and two are a group; some frames lack one of them."""
    luck = np.random.default_rng(seed)
    places = luck.uniform(40, 150, (3, 2))
    for number in range(round(seconds / every_s)):
        second = number * every_s
        if luck.random() < 0.7:
            places = np.clip(places + luck.normal(0, 3, (3, 2)), 20, 170)
        warmth = luck.normal((36.0, 37.5, 35.0), 0.2)
        shown = [
            rat(one + 1, at=tuple(places[one]), eye=warmth[one] + 1, body=warmth[one] - 4, tail=warmth[one] - 9)
            for one in range(3)
        ]
        animals = [followed(each, one + 1) for one, each in enumerate(shown)]
        groups: tuple[GroupObservation, ...] = ()
        if NOT_KNOWN[0] <= second < NOT_KNOWN[1]:
            share = float(luck.uniform(0.5, 0.9))
            unknown = {"animal": None, "probability": share, "candidates": (1, 3), "doubts": int(second >= DOUBTED)}
            animals[0] = followed(shown[0], 4, **unknown)
            animals[2] = followed(shown[2], 5, **unknown)
        elif GROUPED[0] <= second < GROUPED[1]:
            group = {"probability": None, "candidates": (2, 3), "group": 6, "posture": None}
            animals[1:] = [followed(shown[1], 6, animal=None, **group)]
            groups = (
                GroupObservation(number=6, members=(2, 3), size=2, area_px=490, mean_celsius=31.0, max_celsius=38.0),
            )
        elif luck.random() < 0.1:
            del animals[1]
        animals.sort(key=lambda each: (each.animal is None, each.animal or each.key))
        yield replace(frame(second, *animals), groups=groups)
