"""Animals and box put together: who lies on whom, what is mirrored, what is covered."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.vivarium.anatomy import Rodent
from drivers.vivarium.coat import Warmth
from drivers.vivarium.figure import Figure, ScenePart, figure
from drivers.vivarium.housing import Cover
from drivers.vivarium.lens import Lens
from drivers.vivarium.posture import Pose
from drivers.vivarium.reflections import Mirror
from drivers.vivarium.shapes import SHAPE, Field, Window
from drivers.vivarium.truth import AnimalTruth, SceneFrame, part_truths

_NEAR_PX = 7
_WARMEST_SEAM_CELSIUS = np.float32(37.5)
"""A furrow is no warmer than skin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """What becomes of coats that lie against one another."""

    given_back: float = 0.7
    """Share of the rim's coolness that is missing next to another animal."""
    seam_celsius: float = 0.0
    """The furrow between two animals keeps its heat: so much warmer it is than both."""
    seam_px: float = 1.5


def random_touch(rng: np.random.Generator, above_celsius: float) -> Touch:
    """Coats that are so much warmer than the floor where they touch: often no border is left to see.

    Parameters
    ----------
    above_celsius : float
        The animals above the floor.
    """
    warm = min(above_celsius / 6, 1.0)
    return Touch(
        given_back=rng.uniform(0.6, 1.0),
        seam_celsius=warm * float(np.clip(rng.normal(0.6, 0.7), -0.6, 2.2)),
        seam_px=rng.uniform(0.8, 2.5),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Actor:
    """An animal as it is at one moment."""

    number: int
    """Its label and identity, from 1."""
    rodent: Rodent
    pose: Pose
    warmth: Warmth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Composition:
    """The scene, and what only its maker needs."""

    frame: SceneFrame
    excess: Field
    """How much warmer than the floor the animals are; 0 beside them."""


def compose(
    under: Field,
    actors: Sequence[Actor],
    *,
    lens: Lens,
    mirrors: Sequence[Mirror] = (),
    covers: Sequence[Cover] = (),
    touch: Touch = Touch(),
    utc_s: float = 0.0,
) -> Composition:
    """Put a scene together.

    Parameters
    ----------
    under : (192, 256) float32
        Everything that lies under the animals, °C. It is not changed.
    actors : sequence of Actor
        From the lowest to the one on top.
    mirrors, covers : sequences
        What shows the animals a second time, and what hides them.
    touch : Touch
        What becomes of coats that lie against one another.
    utc_s : float
        The moment.
    """
    parts, instances = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    warm = np.array(under)
    figures = _warming_each_other([figure(actor.rodent, actor.pose, actor.warmth) for actor in actors], touch)
    for actor, alone in zip(actors, figures, strict=True):
        covered = alone.parts > 0
        parts[alone.window][covered] = alone.parts[covered]
        instances[alone.window][covered] = actor.number
    if len(actors) > 1 and touch.seam_celsius:
        figures = _with_seams(figures, parts, instances, touch)
    for alone in figures:
        covered = alone.parts > 0
        warm[alone.window][covered] = alone.celsius[covered]
    surface, excess, source = warm, np.zeros_like(warm), _around(figures)
    np.subtract(warm[source], under[source], out=excess[source])
    for mirror in mirrors if excess[source].size else ():
        window, image = mirror.image(excess, source)
        surface[window] += np.where(parts[window] == 0, image, np.float32(0))
    uncovered_px = _pixels(actors, figures, instances)
    for cover in covers:
        surface[cover.mask] = cover.celsius[cover.mask]
        parts[cover.mask] = instances[cover.mask] = 0
    radiometric = lens.seen(surface)
    frame = SceneFrame(
        utc_s=utc_s,
        surface_celsius=surface,
        radiometric_celsius=radiometric,
        parts=parts,
        instances=instances,
        truths=part_truths(surface, radiometric, parts, instances),
        animals=_animals(actors, figures, uncovered_px, _pixels(actors, figures, instances)),
    )
    return Composition(frame=frame, excess=excess)


def _around(figures: list[Figure]) -> Window:
    """The smallest window that holds those of all figures; an empty one of none."""
    seen = [alone for alone in figures if alone.parts.size]
    if not seen:
        return slice(0, 0), slice(0, 0)
    return (
        slice(min(alone.rows.start for alone in seen), max(alone.rows.stop for alone in seen)),
        slice(min(alone.columns.start for alone in seen), max(alone.columns.stop for alone in seen)),
    )


def _pixels(actors: Sequence[Actor], figures: Sequence[Figure], instances: NDArray[np.uint8]) -> list[int]:
    """How many pixels of each animal are seen."""
    return [
        int(np.count_nonzero(instances[alone.window] == actor.number))
        for actor, alone in zip(actors, figures, strict=True)
    ]


def _warming_each_other(figures: list[Figure], touch: Touch) -> list[Figure]:
    """Flanks that lie against another animal are hardly cooler than the back."""
    if len(figures) < 2:
        return figures
    covering = np.zeros(SHAPE, np.uint8)
    for alone in figures:
        covering[alone.window] += alone.parts > 0
    warmed = []
    for alone in figures:
        others = (covering[alone.window] > (alone.parts > 0)).astype(np.float32)
        if others.any():
            near = np.minimum(cv2.blur(others, (_NEAR_PX, _NEAR_PX)) * np.float32(2.5), np.float32(1))
            given_back = np.where(
                alone.parts > 0, np.float32(touch.given_back) * near * alone.rim_celsius, np.float32(0)
            )
            alone = replace(alone, celsius=alone.celsius + given_back)
        warmed.append(alone)
    return warmed


def _with_seams(
    figures: list[Figure], parts: NDArray[np.uint8], instances: NDArray[np.uint8], touch: Touch
) -> list[Figure]:
    """Figures with warm lines where their trunks are seen to touch."""
    window = _around(figures)
    trunks = np.where(parts[window] == ScenePart.TAIL, np.uint8(0), instances[window])
    line = np.zeros(trunks.shape, np.float32)
    for one, other, on_one, on_other in (
        (trunks[1:], trunks[:-1], line[1:], line[:-1]),
        (trunks[:, 1:], trunks[:, :-1], line[:, 1:], line[:, :-1]),
    ):
        border = (one != other) & (one > 0) & (other > 0)
        on_one[border] = on_other[border] = 1
    if not line.any():
        return figures
    # By the middle of a line two pixels wide after the blur.
    gain = np.float32(touch.seam_celsius / math.erf(1 / (math.sqrt(2) * touch.seam_px)))
    seams = np.zeros(SHAPE, np.float32)
    seams[window] = gain * cv2.GaussianBlur(line, (0, 0), touch.seam_px)
    warmed = []
    for alone in figures:
        trunk = (alone.parts == ScenePart.HEAD) | (alone.parts == ScenePart.BODY)
        rise = np.minimum(seams[alone.window], np.maximum(_WARMEST_SEAM_CELSIUS - alone.celsius, 0))
        warmed.append(replace(alone, celsius=alone.celsius + np.where(trunk, rise, np.float32(0))))
    return warmed


def _animals(
    actors: Sequence[Actor], figures: Sequence[Figure], uncovered_px: list[int], visible_px: list[int]
) -> tuple[AnimalTruth, ...]:
    """The truth about each animal, from its pixels alone, before things cover it, and after."""
    truths = []
    for layer, (actor, alone) in enumerate(zip(actors, figures, strict=True)):
        covered = alone.parts > 0
        labels = alone.parts[covered]
        areas = np.bincount(labels, minlength=len(ScenePart) + 1)
        sums = np.bincount(labels, weights=alone.celsius[covered], minlength=len(ScenePart) + 1)
        area = int(areas[1:].sum())
        body, tail = actor.pose.body, actor.pose.tail
        truths.append(
            AnimalTruth(
                animal=actor.number,
                species=actor.rodent.species,
                stance=actor.pose.posture.stance,
                layer=layer,
                core_celsius=actor.warmth.core_celsius,
                surface_celsius={part: float(sums[part] / areas[part]) for part in ScenePart if areas[part]},
                area_px=area,
                covered_share=1 - visible_px[layer] / area if area else 0.0,
                overlapped_share=1 - uncovered_px[layer] / area if area else 0.0,
                snout=body.at(0.0),
                neck=body.point(actor.rodent.head),
                tail_base=body.at(1.0),
                tail_tip=tail.at(2.0),
            )
        )
    return tuple(sorted(truths, key=lambda truth: truth.animal))
