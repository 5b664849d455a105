"""An animal as pixels: labels and temperatures in the window of the picture that it covers."""

import math
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from drivers.vivarium.anatomy import Rodent
from drivers.vivarium.coat import Warmth, fur
from drivers.vivarium.posture import Pose, Ribbon
from drivers.vivarium.shapes import disc, ellipse

_OUTSIDE = -1.0
_MARGIN = 1.25
"""Windows reach so many half widths beyond the spine: feet and ears stick out."""
_SIDES = (-1.0, 1.0)
_FORE_FOOT_AT, _HIND_FOOT_AT = 0.30, 0.76
_THIGH_AT, _ELBOW_AT = 0.75, 0.36
_BOW_REACH = 0.09
"""The line between head and body is bent by no more of the length."""
_STRIDE = 0.06
_TAIL_ROOT = 1.2
"""A tail that lies over the body still comes out from under the rump."""
_TUCKED = 0.15
"""Feet that stick out less are under the body."""
_SURFACE_ABOVE_CORE = 1.0
"""No place of the surface is warmer than this above the core, not even an inflamed one."""
_STANDING = 0.3
"""An animal that rears more than this has its fore feet in the air."""


class ScenePart(IntEnum):
    """Labels of the truth masks; 0 is background. The numbers are those of every mask in the project."""

    HEAD = 1
    BODY = 2
    TAIL = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figure:
    """One animal alone, as far as it is inside the picture."""

    rows: slice
    columns: slice
    """The window: where in the picture the arrays belong."""
    parts: NDArray[np.uint8]
    """0 beside the animal, otherwise a `ScenePart`."""
    celsius: NDArray[np.float32]
    """True surface temperature where there is a part, 0 beside."""
    rim_celsius: NDArray[np.float32]
    """By how much it is cooler there than it would be amid other animals."""

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns, to index a picture."""
        return self.rows, self.columns


def figure(animal: Rodent, pose: Pose, warmth: Warmth) -> Figure:
    """Paint an animal."""
    rows, columns = _window(animal, pose)
    corner = np.array((columns.start, rows.start), np.float64)
    shape = rows.stop - rows.start, columns.stop - columns.start
    trunk = np.full(shape, _OUTSIDE, np.float32)
    if 0 in shape:
        return Figure(rows=rows, columns=columns, parts=trunk.astype(np.uint8), celsius=trunk, rim_celsius=trunk)
    _paint_limbs(trunk, animal, pose, corner)
    _paint_trunk(trunk, pose.body, corner)
    ears = _paint_ears(trunk, animal, pose, corner)
    feet, tail = _feet(shape, animal, pose, corner), np.full(shape, _OUTSIDE, np.float32)
    _paint_quads(tail, pose.tail, corner)
    haired = trunk >= 0
    tailed = (tail >= 0) & ~haired
    if pose.posture.tail_on_top:
        tailed |= tail > _TAIL_ROOT
    haired &= ~tailed
    bare = feet & ~haired & ~tailed

    parts = np.zeros(shape, np.uint8)
    parts[bare] = ScenePart.BODY
    parts[haired] = np.where(
        _is_head(trunk, animal, pose, corner)[haired], np.uint8(ScenePart.HEAD), np.uint8(ScenePart.BODY)
    )
    parts[tailed] = ScenePart.TAIL
    celsius = np.zeros(shape, np.float32)
    # Where the tail leaves the rump neither of them has an edge.
    depth_px = np.asarray(cv2.distanceTransform((haired | tailed).astype(np.uint8), cv2.DIST_L2, 3), np.float32)
    rim = np.where(haired, _rim(depth_px, warmth), np.float32(0))
    celsius[haired] = warmth.along(trunk[haired]) + _fur(shape, animal, pose, warmth, corner)[haired] - rim[haired]
    celsius[tailed] = _rounded(depth_px[tailed], warmth.along(tail[tailed]), pose.tail, warmth)
    celsius[bare] = warmth.foot_celsius
    _warm_places(celsius, rim, animal, pose, warmth, corner, ears)
    np.minimum(celsius, np.float32(warmth.core_celsius + _SURFACE_ABOVE_CORE), out=celsius)
    celsius[parts == 0] = 0
    return Figure(rows=rows, columns=columns, parts=parts, celsius=celsius, rim_celsius=rim)


def _window(animal: Rodent, pose: Pose) -> tuple[slice, slice]:
    """The part of the picture that an animal can touch."""
    spine = np.concatenate((pose.body.spine, pose.tail.spine))
    margin = _MARGIN * float(pose.body.half_width_px.max()) + 0.1 * animal.length_px
    left, top = np.clip(np.floor(spine.min(axis=0) - margin), 0, (IMAGE_WIDTH, IMAGE_HEIGHT)).astype(int)
    right, bottom = np.clip(np.ceil(spine.max(axis=0) + margin) + 1, 0, (IMAGE_WIDTH, IMAGE_HEIGHT)).astype(int)
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def _paint_trunk(along: NDArray[np.float32], body: Ribbon, corner: NDArray[np.float64]) -> None:
    """From tail to nose, so that a turned head lies on top: discs close the bends, quads give each pixel its place."""
    centres = body.spine - corner
    for (x, y), radius, place in zip(
        centres[::-1].tolist(), body.half_width_px[::-1].tolist(), body.along[::-1].tolist(), strict=True
    ):
        disc(along, (x, y), radius, place)
    _paint_quads(along, body, corner)


def _paint_limbs(along: NDArray[np.float32], animal: Rodent, pose: Pose, corner: NDArray[np.float64]) -> None:
    """Bent legs that stand out from the flanks, each a little differently."""
    body, posture = pose.body, pose.posture
    limbs = ((_THIGH_AT, animal.thigh, (0.15, 0.09)), (_ELBOW_AT, animal.elbow, (0.08, 0.05)))
    for at, stands_out, (long, wide) in limbs:
        for side in _SIDES:
            out = stands_out * (0.75 + 0.25 * math.sin(posture.step + 2 * side))
            index = int(np.argmin(np.abs(body.along - at)))
            beside = body.half_width_px[index] + (out - wide) * animal.length_px
            x, y = body.spine[index] + side * beside * body.normals[index] - corner
            angle = body.heading_rad(at) + 0.3 * side
            ellipse(along, (float(x), float(y)), (long * animal.length_px, wide * animal.length_px), angle, at)


def _is_head(trunk: NDArray[np.float32], animal: Rodent, pose: Pose, corner: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which places of the trunk are head: the line to the body is a piece of a circle through the neck."""
    head = trunk < np.float32(animal.head)
    if not animal.neck_bow:
        return head
    x, y = pose.body.point(animal.head)
    angle = pose.body.heading_rad(animal.head)
    half_px = float(np.interp(animal.head, pose.body.along, pose.body.half_width_px))
    radius_px = half_px / animal.neck_bow  # negative: the centre is behind the neck
    centre_x, centre_y = x - corner[0] + radius_px * math.cos(angle), y - corner[1] + radius_px * math.sin(angle)
    low, high = (
        (animal.head, animal.head + _BOW_REACH) if animal.neck_bow < 0 else (animal.head - _BOW_REACH, animal.head)
    )
    rows, columns = np.nonzero((trunk >= np.float32(low)) & (trunk <= np.float32(high)))
    beyond = (rows - centre_y) ** 2 + (columns - centre_x) ** 2 > radius_px**2
    head[rows[beyond], columns[beyond]] = animal.neck_bow < 0
    return head


def _rounded(
    depth_px: NDArray[np.float32], celsius: NDArray[np.float32], tail: Ribbon, warmth: Warmth
) -> NDArray[np.float32]:
    """A tail is a rod: towards its edges it is seen at a grazing angle, and cooler. A thin one has no edges to see."""
    thick = float(np.clip((np.median(tail.half_width_px) - 0.9) / 1.2, 0, 1))
    if not thick or not warmth.tail_edge:
        return celsius
    share = np.float32(thick * warmth.tail_edge) * np.exp(1 - depth_px)
    return np.asarray(celsius + share * (np.float32(warmth.air_celsius) - celsius))


def _paint_quads(along: NDArray[np.float32], ribbon: Ribbon, corner: NDArray[np.float64]) -> None:
    reach = ribbon.half_width_px[:, None] * ribbon.normals
    centred = ribbon.spine - corner
    sides = np.rint(np.stack((centred - reach, centred + reach), axis=1) * 16).astype(np.int32)
    quads = np.concatenate((sides[:-1], sides[1:, ::-1]), axis=1)[::-1]
    middles = ((ribbon.along[1:] + ribbon.along[:-1]) / 2)[::-1]
    for quad, middle in zip(quads, middles.tolist(), strict=True):
        cv2.fillConvexPoly(along, quad, middle, shift=4)


def _paint_ears(
    along: NDArray[np.float32], animal: Rodent, pose: Pose, corner: NDArray[np.float64]
) -> list[tuple[float, float, float]]:
    """Ears stand out beyond the outline of the head; their places and radii in the window."""
    near = float(pose.body.half_width_px[0] / (animal.half_width[0] * animal.length_px * pose.posture.girth))
    ears = []
    for side in _SIDES:
        x, y = pose.body.at(animal.ear_at, side * animal.ear_side)
        x, y, radius = x - corner[0], y - corner[1], max(animal.ear * animal.length_px * near, 0.8)
        disc(along, (x, y), radius, animal.ear_at)
        ears.append((x, y, radius))
    return ears


def _feet(shape: tuple[int, int], animal: Rodent, pose: Pose, corner: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the feet are; most of them is under the body."""
    posture, feet = pose.posture, np.zeros(shape, np.float32)
    for at, length, phase in ((_FORE_FOOT_AT, 0.6, 0.0), (_HIND_FOOT_AT, 1.0, math.pi)):
        if posture.feet < _TUCKED or (at == _FORE_FOOT_AT and posture.rear > _STANDING):
            continue
        for side in _SIDES:
            swing = _STRIDE * posture.feet * math.sin(posture.step + phase + (math.pi / 2) * side)
            x, y = pose.body.at(at - swing, side * (0.78 + 0.3 * posture.feet))
            angle = pose.body.heading_rad(at) + 0.3 * side
            half = animal.foot * length * animal.length_px / 2
            centre = x - corner[0] + 0.5 * half * math.cos(angle), y - corner[1] + 0.5 * half * math.sin(angle)
            ellipse(feet, centre, (half, max(0.32 * half, 0.7)), angle, 1.0)
    return feet > 0


def _fur(
    shape: tuple[int, int], animal: Rodent, pose: Pose, warmth: Warmth, corner: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Unevenness of the coat, and the warmer flank."""
    x, y = np.array(pose.body.at(0.5)) - corner
    uneven = fur(warmth, shape, (round(-x), round(-y)))
    right_x, right_y = pose.body.normals[len(pose.body.normals) // 2] * warmth.lean_celsius / (0.3 * animal.length_px)
    down, across = np.arange(shape[0]) - y, np.arange(shape[1]) - x
    lean = ((right_y * down)[:, None] + (right_x * across)[None]).astype(np.float32)
    return np.asarray(uneven + lean)


def _rim(depth_px: NDArray[np.float32], warmth: Warmth) -> NDArray[np.float32]:
    """How much cooler the coat is at a depth inside the outline."""
    return np.asarray(np.float32(warmth.rim_drop_celsius) * np.exp((depth_px - 1) * np.float32(-1 / warmth.rim_px)))


def _warm_places(
    celsius: NDArray[np.float32],
    rim: NDArray[np.float32],
    animal: Rodent,
    pose: Pose,
    warmth: Warmth,
    corner: NDArray[np.float64],
    ears: list[tuple[float, float, float]],
) -> None:
    """Ears, eyes, and wet or shaved patches of the back. Bare places have no cool rim."""
    for patch in warmth.patches:
        x, y = pose.body.at(patch.along, patch.side)
        rise = np.float32(patch.rise_celsius)
        window, bell = _bell(celsius.shape, x - corner[0], y - corner[1], patch.radius * animal.length_px)
        celsius[window] += rise * bell
    eye_px = max(animal.eye * animal.length_px, 0.7)
    places = [(*place, warmth.ear_celsius) for place in ears]
    for side in _SIDES:
        x, y = pose.body.at(animal.eye_at, 0.72 * side)
        places.append((x - corner[0], y - corner[1], eye_px, warmth.eye_celsius))
    for x, y, radius, target in places:
        window, bell = _bell(celsius.shape, x, y, radius)
        celsius[window] += bell * (np.float32(target) - celsius[window])
        rim[window] *= 1 - bell


def _bell(
    shape: tuple[int, ...], x: float, y: float, radius_px: float
) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """A bell around a point, in the piece of the window where it is not nothing."""
    reach = 2 * radius_px + 1
    top, bottom = np.clip((math.floor(y - reach), math.ceil(y + reach) + 1), 0, shape[0])
    left, right = np.clip((math.floor(x - reach), math.ceil(x + reach) + 1), 0, shape[1])
    spread = 2 * (0.75 * radius_px) ** 2
    down = np.exp(-((np.arange(top, bottom) - y) ** 2) / spread)
    across = np.exp(-((np.arange(left, right) - x) ** 2) / spread)
    return (slice(top, bottom), slice(left, right)), np.outer(down, across).astype(np.float32)
