"""What was known of who is who before a restart, as far as it still holds when the service comes back."""

import math
from collections.abc import Sequence

import numpy as np

from daemon.appearance import features
from daemon.sighting import Sighting
from daemon.store.repository import Store
from daemon.store.sightings import AnimalThen, SeenThen
from daemon.track import KnownThen
from daemon.vision.parts import BodyPart
from drivers.clock import NS_PER_S, Clock
from drivers.t2s_protocol import IMAGE_WIDTH

AWAY_S = 60.0
"""After longer nobody is taken for whom he was before."""
LOOKED_BACK_S = 600.0
"""How the animals looked for so long before the end of the last run is learnt again."""
MOST_FRAMES = 300
"""So many of its frames are enough."""


def remembered(store: Store, *, animals: int, clock: Clock) -> list[KnownThen]:
    """What the database says of it now; empty unless every animal was known when the last run ended, not long ago."""
    now_utc_ns = clock.utc_ns()
    frames = store.seen_since(now_utc_ns - round((LOOKED_BACK_S + AWAY_S) * NS_PER_S), at_most=MOST_FRAMES)
    return known_before(frames, animals=animals, now_utc_ns=now_utc_ns, now_monotonic_ns=clock.monotonic_ns())


def known_before(
    frames: Sequence[SeenThen], *, animals: int, now_utc_ns: int, now_monotonic_ns: int
) -> list[KnownThen]:
    """What a tracker can go on from; empty unless every animal was known when the last run ended, not long ago.

    Parameters
    ----------
    frames : sequence of SeenThen
        Of the last minutes, by time; the newest measured frame must be among them.
    animals : int
        How many live in the box.
    now_utc_ns, now_monotonic_ns : int
        The same moment by both clocks.
    """
    since_ns = now_utc_ns - round(AWAY_S * NS_PER_S)
    frames = [frame for frame in frames if frame.captured_utc_ns <= now_utc_ns]
    if not frames or frames[-1].captured_utc_ns < since_ns:
        return []
    if any(each.animal is None for each in frames[-1].animals):
        return []
    lately = {each.animal for frame in frames if frame.captured_utc_ns >= since_ns for each in frame.animals}
    if lately - {None} != set(range(1, animals + 1)):
        return []
    found = []
    for frame in frames:
        at_s = (now_monotonic_ns - (now_utc_ns - frame.captured_utc_ns)) / NS_PER_S
        background = math.nan if frame.background_celsius is None else frame.background_celsius
        seen = [_sighting(each) for each in frame.animals]
        for index, each in enumerate(frame.animals):
            if each.animal is not None:
                found.append(
                    KnownThen(
                        animal=each.animal,
                        at_s=at_s,
                        sighting=seen[index],
                        features=features(seen[index], background),
                        apart=all(_far(seen[index], other) for place, other in enumerate(seen) if place != index),
                    )
                )
    return found


def _sighting(animal: AnimalThen) -> Sighting:
    trunk = [part for part in animal.parts if part.part is not BodyPart.TAIL] or list(animal.parts)
    whole = max(sum(part.area_px for part in trunk), 1)
    x_px = sum(part.x_px * part.area_px for part in trunk) / whole
    y_px = sum(part.y_px * part.area_px for part in trunk) / whole
    return Sighting(
        instance=animal.key,
        pixels=np.array([round(y_px) * IMAGE_WIDTH + round(x_px)], np.intp),
        x_px=x_px,
        y_px=y_px,
        trunk_px=sum(part.area_px for part in animal.parts if part.part is not BodyPart.TAIL),
        head_px=sum(part.area_px for part in animal.parts if part.part is BodyPart.HEAD),
        centres={part.part: (part.x_px, part.y_px) for part in animal.parts},
        celsius={part.part: part.mean_celsius for part in animal.parts if part.mean_celsius is not None},
    )


def _far(one: Sighting, other: Sighting) -> bool:
    """Whether two trunks surely do not touch: their centres are farther apart than trunks of their size are long."""
    return math.dist((one.x_px, one.y_px), (other.x_px, other.y_px)) > math.sqrt(one.trunk_px) + math.sqrt(
        other.trunk_px
    )
