"""How well outlines and thin shapes are met: boundary F1 and centerline Dice."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

Mask = NDArray[np.bool_]

BOUNDARY_REACH_SHARE = 0.0075
"""Of the picture's diagonal: as far may an outline lie from the true one (Csurka et al. 2013, section 3.2)."""

_SQUARE = np.ones((3, 3), np.uint8)


def boundary_f1(true: Mask, found: Mask) -> float | None:
    """How much of the outlines lies near one another, 0 to 1; None where both masks are empty.

    Parameters
    ----------
    true, found : (height, width) bool

    Notes
    -----
    Precision is the share of the found outline with true outline within reach, recall the reverse; F1 is their harmonic
    mean. Reach is 0.75 % of the diagonal, 2.4 px here. The outline is made of the pixels of the mask that have another
    among their eight neighbours; the edge of the picture is none. Source: Csurka et al., *What is a good evaluation
    measure for semantic segmentation?*, BMVC 2013.
    """
    if not true.any() and not found.any():
        return None
    if not true.any() or not found.any():
        return 0.0
    reach_px = BOUNDARY_REACH_SHARE * math.hypot(*true.shape)
    true_outline, found_outline = _outline(true), _outline(found)
    return _harmonic(
        _share_near(found_outline, true_outline, reach_px), _share_near(true_outline, found_outline, reach_px)
    )


def _outline(mask: Mask) -> Mask:
    return mask & np.equal(cv2.erode(mask.astype(np.uint8), _SQUARE), 0)  # OpenCV takes what lies beyond as mask


def _share_near(points: Mask, others: Mask, reach_px: float) -> float:
    """The share of points that have one of the others near."""
    if not points.any():
        return 1.0 if not others.any() else 0.0  # a mask that fills the picture has no outline
    if not others.any():
        return 0.0
    distance_px = cv2.distanceTransform((~others).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distance_px[points] <= reach_px).mean())


def centerline_dice(true: Mask, found: Mask) -> float | None:
    """How much of the middle lines lies in the other mask, 0 to 1; None where both masks are empty.

    Parameters
    ----------
    true, found : (height, width) bool
        Thin, long shapes.

    Notes
    -----
    Topology precision is the share of the found mask's skeleton inside the true mask, topology sensitivity the reverse;
    clDice is their harmonic mean. It asks whether a tail is there along its whole length and hardly how wide it is.
    Source: Shit et al., *clDice*, CVPR 2021, equations 1 and 2; skeletons by scikit-image (Zhang and Suen 1984).
    """
    if not true.any() and not found.any():
        return None
    if not true.any() or not found.any():
        return 0.0
    true_skeleton, found_skeleton = _skeleton(true), _skeleton(found)
    return _harmonic(float(true[found_skeleton].mean()), float(found[true_skeleton].mean()))


def _skeleton(mask: Mask) -> Mask:
    """Of a speck the thinning may leave nothing: it is its own skeleton."""
    skeleton = np.asarray(skeletonize(mask), np.bool_)  # type: ignore[no-untyped-call]  # scikit-image has no types here
    return skeleton if skeleton.any() else mask


def _harmonic(one: float, other: float) -> float:
    return 2 * one * other / (one + other) if one + other else 0.0
