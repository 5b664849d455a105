"""Animals by their heat, without a network: warm components, their tails, and the split along the body axis."""

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.vision.axis import split
from daemon.vision.background import Excess, excess_over_background
from daemon.vision.parts import BY_SHAPE, Segmentation
from daemon.vision.shape import Mask, disc, grown, pieces, square, window
from daemon.vision.tail import FOOT_PX, tail_of, thin_warmth
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

_LEAST_CELSIUS = 2.0
"""Fur is 3 °C and more above a floor that rats can live on; reflections and warmed bedding stay below this."""

_LEAST_SIGMAS = 6.0
"""And an animal must stand out of what the box itself shows."""

_EDGE_SHARE = 0.5
"""The outline runs where the heat has fallen to half: there a sharp edge lies that optics have blurred."""

_EDGE_REACH_PX = 3
"""Within so many pixels to both sides of its outline an animal comes down to the floor, even somewhat out of focus."""

_EDGE_STEEPNESS = 0.5
"""Share of its heat that an animal loses within that reach; a patch of warmed floor loses it over many pixels."""

_SQUARE = square(1)


class ClassicalSegmenter:
    """Finds animals by their heat; fulfils `daemon.vision.parts.Segmenter`.

    Animals that touch are one warm component and are reported as one.

    Parameters
    ----------
    animals : int
        How many live in the box: no more than this are found, the largest first.
    min_area_px : int
        Smaller warm components are no animals.

    Raises
    ------
    ValueError
        If either is less than 1.
    """

    def __init__(self, animals: int, min_area_px: int) -> None:
        if animals < 1 or min_area_px < 1:
            raise ValueError(f"animals and min_area_px must be at least 1, got {animals} and {min_area_px}")
        self._animals = animals
        self._min_area_px = min_area_px

    @property
    def name(self) -> str:
        """See `Segmenter`."""
        return BY_SHAPE

    def segment(self, celsius: NDArray[np.float32]) -> Segmentation:
        """See `Segmenter`.

        Raises
        ------
        ValueError
            If the frame is not (192, 256).
        """
        if celsius.shape != (IMAGE_HEIGHT, IMAGE_WIDTH):
            raise ValueError(f"a frame of ({IMAGE_HEIGHT}, {IMAGE_WIDTH}) is expected, got {celsius.shape}")
        parts = np.zeros(celsius.shape, np.uint8)
        instances = np.zeros(celsius.shape, np.uint8)
        excess = excess_over_background(_without_dead_pixels(celsius))
        if excess is not None:
            self._label(excess, parts, instances)
        return Segmentation(parts=parts, instances=instances)

    def _label(self, excess: Excess, parts: NDArray[np.uint8], instances: NDArray[np.uint8]) -> None:
        warm = np.nan_to_num(excess.celsius, nan=0.0)
        bodies = self._bodies(warm, excess.sigma_celsius)
        if not bodies:
            return
        thin, height = thin_warmth(warm, excess.sigma_celsius)
        everybody = np.logical_or.reduce(bodies)
        for number, body in enumerate(bodies, start=1):
            free = (instances == 0) & (body | ~everybody)
            tail = tail_of(body, thin & free, height)
            animal = _joined(body, tail) & free
            here = window(animal)
            labels = split(animal[here], tail[here], warm[here])
            parts[here][animal[here]] = labels[animal[here]]
            instances[animal] = number

    def _bodies(self, warm: NDArray[np.float32], sigma_celsius: float) -> list[Mask]:
        """The warm components that are animals, with their tails as far as these are warm, the largest first."""
        least = max(_LEAST_CELSIUS, _LEAST_SIGMAS * sigma_celsius)
        steepness = np.asarray(cv2.morphologyEx(warm, cv2.MORPH_GRADIENT, square(_EDGE_REACH_PX)), np.float32)
        found: list[Mask] = []
        for component in pieces(warm >= least, self._min_area_px):
            heat = float(np.median(warm[component]))
            for body in pieces(warm >= _EDGE_SHARE * heat, self._min_area_px):
                new = (body & component).any() and not any((body & other).any() for other in found)
                if new and _has_an_edge(body, steepness, heat):
                    found.append(body)
        return sorted(found, key=np.count_nonzero, reverse=True)[: self._animals]


def _has_an_edge(body: Mask, steepness: NDArray[np.float32], heat: float) -> bool:
    outline = body & (cv2.erode(body.astype(np.uint8), _SQUARE) == 0)
    return bool(outline.any()) and float(np.median(steepness[outline])) >= _EDGE_STEEPNESS * heat


def _joined(body: Mask, tail: Mask) -> Mask:
    """All of an animal; a gap between its trunk and its tail is closed."""
    animal = body | tail
    trunk = body & ~tail
    if not trunk.any() or not tail.any() or (grown(tail, 1) & trunk).any():
        return animal
    return np.asarray(cv2.morphologyEx(animal.astype(np.uint8), cv2.MORPH_CLOSE, disc(FOOT_PX // 2 + 1)) > 0)


def _without_dead_pixels(celsius: NDArray[np.float32]) -> NDArray[np.float32]:
    """Single pixels without temperature take the mean of their neighbours; areas without stay as they are."""
    unknown = np.isnan(celsius)
    if not unknown.any():
        return celsius
    areas = cv2.morphologyEx(unknown.astype(np.uint8), cv2.MORPH_OPEN, _SQUARE) > 0
    known = (~unknown).astype(np.float32)
    sums = cv2.boxFilter(np.where(unknown, np.float32(0), celsius), -1, _SQUARE.shape, normalize=False)
    counts = cv2.boxFilter(known, -1, _SQUARE.shape, normalize=False)
    dead = unknown & ~areas & (counts > 0)
    return np.where(dead, sums / np.maximum(counts, 1), celsius).astype(np.float32)
