"""How an animal holds itself, from its masks: nose, base of the tail, length, curl."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart

Places = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Rows and columns of pixels."""

_BASE_SHARE = 0.1
"""The base of the tail is where its nearest tenth lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posture:
    """Of one animal in one frame, pixels."""

    nose_x_px: float
    """The head's pixel farthest from the body's centre, column."""
    nose_y_px: float
    length_px: float
    """Way nose - head's centre - body's centre - base of the tail."""
    curl: float
    """1 - (straight line nose to base of the tail) / length: 0 stretched, towards 1 curled up."""


def posture_of(parts: Mapping[BodyPart, Places]) -> Posture | None:
    """The posture of one animal; None without head or body.

    Parameters
    ----------
    parts : mapping of BodyPart to (rows, columns)
        The pixels of each part that was found.

    Notes
    -----
    The base of the tail is the centre of the tenth of its pixels nearest to the body's centre; where no tail is seen,
    the body's pixel farthest from the head's centre. The way along three straight lines is shorter than the spine of a
    bent animal, but bends with it: own definition, cheap enough for every frame.
    """
    head, body, tail = (parts.get(part) for part in BodyPart)
    if head is None or body is None:
        return None
    head_centre, body_centre = _centre(head), _centre(body)
    nose = _pixel(head, int(_squared_distances(head, body_centre).argmax()))
    if tail is None:
        base = _pixel(body, int(_squared_distances(body, head_centre).argmax()))
    else:
        distances = _squared_distances(tail, body_centre)
        # Stable: which of several pixels as near are taken must not depend on the processor.
        nearest = np.argsort(distances, kind="stable")[: max(round(_BASE_SHARE * len(distances)), 1)]
        base = _centre((tail[0][nearest], tail[1][nearest]))
    length = math.dist(nose, head_centre) + math.dist(head_centre, body_centre) + math.dist(body_centre, base)
    if length == 0:
        return None
    return Posture(
        nose_x_px=nose[0], nose_y_px=nose[1], length_px=length, curl=max(0.0, 1 - math.dist(nose, base) / length)
    )


def _centre(places: Places) -> tuple[float, float]:
    # Whole numbers: their sums are exact, and `mean` takes several times as long on so few.
    return int(places[1].sum()) / len(places[1]), int(places[0].sum()) / len(places[0])


def _pixel(places: Places, index: int) -> tuple[float, float]:
    return float(places[1][index]), float(places[0][index])


def _squared_distances(places: Places, point: tuple[float, float]) -> NDArray[np.float64]:
    rows, columns = places[0] - point[1], places[1] - point[0]
    return np.asarray(rows * rows + columns * columns, np.float64)
