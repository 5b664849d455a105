"""One random picture of a vivarium with its truth, for training and judging."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.vivarium.arrangement import random_cast
from drivers.vivarium.clutter import random_clutter, warm_thing
from drivers.vivarium.coat import floor_celsius
from drivers.vivarium.composition import Composition, compose, random_touch
from drivers.vivarium.detector import random_detector
from drivers.vivarium.dice import Axis, generator
from drivers.vivarium.housing import random_housing
from drivers.vivarium.lens import Lens, random_lens
from drivers.vivarium.reflections import random_mirrors
from drivers.vivarium.shapes import SHAPE, Field
from drivers.vivarium.truth import SceneFrame

_WARM_THING_SHARE = 0.3
_WARM_THING_ALONE_SHARE = 0.6
"""The same where there is no animal."""
_OVER_SHARE = 0.3
"""So many warm things are over the animals."""
_USUAL_LENGTH_PX = 90.0
_MOVING_SHARE = 0.4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """A picture as a camera gives it, and what it shows."""

    seed: int
    celsius: NDArray[np.float32]
    """Degrees with the camera's noise, shape (192, 256), read-only."""
    frame: SceneFrame
    """The truth."""

    def __post_init__(self) -> None:
        self.celsius.setflags(write=False)


def random_scene(seed: int) -> Snapshot:
    """The picture of a seed: always the same one, unlike those of all other seeds.

    Parameters
    ----------
    seed : int
        Not negative. Seeds from `dice.FIRST_TEST_SEED` on are for judging only.
    """
    box = generator(seed, Axis.BOX)
    floor = floor_celsius(box)
    housing = random_housing(box, floor)
    actors = random_cast(seed, floor)
    length_px = float(np.mean([actor.rodent.length_px for actor in actors])) if actors else _USUAL_LENGTH_PX
    under, clutter = housing.celsius, generator(seed, Axis.CLUTTER)
    random_clutter(under, clutter, floor, length_px)
    covers = list(housing.covers)
    while clutter.random() < (_WARM_THING_SHARE if actors else _WARM_THING_ALONE_SHARE):
        thing = warm_thing(clutter, floor)
        if thing.flat or clutter.random() > _OVER_SHARE:
            thing.onto(under)
        else:
            covers.append(thing.cover())
    optics = generator(seed, Axis.LENS)
    lens = random_lens(optics, floor)
    mirrors = random_mirrors(generator(seed, Axis.REFLECTIONS), housing.mirrors, length_px)
    above = float(np.mean([actor.warmth.fur_celsius for actor in actors])) - floor if actors else 0.0
    touch = random_touch(generator(seed, Axis.COATS), above)
    composed = compose(under, actors, lens=lens, mirrors=mirrors, covers=covers, touch=touch)
    noise = generator(seed, Axis.DETECTOR)
    detector = random_detector(noise, floor)
    before = _before(composed, lens, noise)
    return Snapshot(
        seed=seed, celsius=detector.read(composed.frame.radiometric_celsius, before, noise), frame=composed.frame
    )


def _before(composed: Composition, lens: Lens, rng: np.random.Generator) -> Field:
    """The picture one frame earlier, not yet forgotten by the filter: the animals were a little elsewhere."""
    frame = composed.frame
    x, y = rng.normal(0, 0.8, 2).tolist()
    if not frame.animals or rng.random() > _MOVING_SHARE:
        return frame.radiometric_celsius
    matrix = np.array(((1, 0, x), (0, 1, y)))
    moved = cv2.warpAffine(
        composed.excess, matrix, SHAPE[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return lens.seen(np.asarray(frame.surface_celsius - composed.excess + moved, np.float32))
