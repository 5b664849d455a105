"""The tail: the thin, warm appendage of a trunk."""

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.vision.shape import Mask, depth_px, grown, opened, pieces, square, window

_WIDEST_PX = 13
"""A tail of a rat that fills a 256 x 192 picture is 6 px wide and its blur adds 3; what is twice as wide is no tail."""

_LEAST_CELSIUS = 0.6
"""Above its surroundings. Tails of cold animals come near the floor; the reflections of bodies are wider than tails."""

_LEAST_SIGMAS = 4.0
"""And out of what the box itself shows."""

_EDGE_SHARE = 0.5
"""The outline runs where the heat has fallen to half of the tail's own: there a sharp edge lies that optics blur."""

_EDGE_REACH_PX = 3
"""How far from the middle line of a tail its outline is."""

FOOT_PX = 2 * _EDGE_REACH_PX
"""How far from its trunk a cold tail may come into sight: nearer, the foot of the trunk's blurred edge outshines it."""

_TAIL_TO_TRUNK_WIDTH = 0.35
"""What is narrower than this share of the trunk may be tail: a rat's tail has a sixth of the trunk's width at its base
and the optics add two or three pixels; head and rump taper from more than half."""

_LENGTH_TO_TRUNK_WIDTH = 0.6
"""A thin piece is a tail if it is at least this long, as a share of the trunk's width: ears and feet are shorter, and
even a third of a tail is longer."""

_LENGTH_TO_WIDTH = 4.0
"""And if it is so many times longer than wide: a whole tail is 15 to 20 times, a pointed head 1 to 2."""

_BASE_TO_TAIL_WIDTH = 2.0
"""The tail begins where it is no wider than this many times its mean: it tapers to a third, and before is rump."""


def thin_warmth(warm: NDArray[np.float32], sigma_celsius: float) -> tuple[Mask, NDArray[np.float32]]:
    """What is warmer than both its sides and narrow enough to be a tail.

    Parameters
    ----------
    warm : (height, width) float32
        Above the background, °C, without NaN.
    sigma_celsius : float
        Spread of the background.

    Returns
    -------
    mask : (height, width) bool
    height : (height, width) float32
        How much warmer than its sides, °C.

    Notes
    -----
    White top-hat: an opening takes away all that is narrower than its square, and what is missing then was thin.
    This does not look at how warm a tail is beside its trunk, so cold tails and cold tips are found as well.
    """
    height = warm - cv2.morphologyEx(warm, cv2.MORPH_OPEN, square(_WIDEST_PX // 2))
    least = max(_LEAST_CELSIUS, _LEAST_SIGMAS * sigma_celsius)
    around = cv2.dilate(height, square(_EDGE_REACH_PX))
    return np.asarray((height >= least) & (height >= _EDGE_SHARE * around)), height


def tail_of(body: Mask, thin: Mask, height: NDArray[np.float32]) -> Mask:
    """The tail of one animal; empty when none is seen.

    Parameters
    ----------
    body : (height, width) bool
        The warm component: the trunk, with or without its tail.
    thin, height
        From `thin_warmth`.

    Notes
    -----
    Two openings find it. The first takes a disc that fits into the trunk but not into a tail; of the thin pieces
    that begin at this trunk and are long enough the warmest as a whole is the tail (others are its reflections).
    The second takes a disc just wider than this tail, and so finds where it begins. A body that is nothing but
    a narrow strip is the tail of an animal beyond the edge of the picture.
    """
    here = window(body)
    depth = depth_px(body[here])
    trunk_radius = float(depth.max())
    if 2 * trunk_radius - 1 <= _WIDEST_PX and _is_strip(body, _WIDEST_PX):
        return body
    trunk = np.zeros_like(body)
    trunk[here] = opened(body[here], depth, _TAIL_TO_TRUNK_WIDTH * trunk_radius)
    beside = grown(trunk, FOOT_PX)
    least_px = 2 * trunk_radius * _LENGTH_TO_TRUNK_WIDTH
    tails = (
        piece
        for piece in pieces((thin | body) & ~trunk, round(least_px))
        if (piece & beside).any() and _is_strip(piece, least_px)
    )
    piece = max(tails, key=lambda one: float(height[one].sum()), default=None)
    if piece is None:
        return np.zeros_like(body)
    whole = body | piece
    here = window(whole)
    rump = np.zeros_like(body)
    base_depth = _BASE_TO_TAIL_WIDTH * (_width_px(piece) + 1) / 2
    rump[here] = opened(whole[here], depth_px(whole[here]), base_depth)
    tail = np.zeros_like(body)
    here = window(piece)
    for longest in pieces(piece[here] & ~rump[here])[:1]:
        tail[here] = longest
    return tail


def _is_strip(shape: Mask, least_px: float) -> bool:
    """Whether a shape, however bent, is many times longer than wide and at least this long."""
    width_px = _width_px(shape)
    return int(np.count_nonzero(shape)) / width_px >= max(least_px, _LENGTH_TO_WIDTH * width_px)


def _width_px(strip: Mask) -> float:
    """Mean width of a strip: across one that is w pixels wide the mean depth is (w + 2) / 4."""
    depth = depth_px(strip[window(strip)])
    return 4 * float(depth[depth > 0].mean()) - 2
