"""Variety beyond the scenes: other distances and turns, and what cameras, apps and files do to degrees.

The scenes are radiometric and of one camera. Pictures that are judged come also through the colours of a phone app,
with a guessed scale, from other cameras, of animals half or twice the size, with text burnt in and with lines missing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.false_colour import filled, positions
from drivers.palettes import STEPS, known_palettes
from drivers.placement import Placement
from training.labelled import Labelled

Degrees = NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)

_MOSAIC = 2
"""Scenes along each side of a mosaic."""
_SEAM_SIGMA_CELSIUS = 0.4
_SCALES = (0.5, 2.0)
_LARGEST_PX = 14_000
"""An animal is not made larger than this: it fills a third of the picture."""
_NUMBERS_PER_SCENE = 16
_COLOUR_PALETTES = tuple(name for name in known_palettes() if name != "black_hot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How often each thing happens to a picture, as shares of pictures."""

    moved: float = 0.6
    """Another scale, turn or cut; all others are only mirrored, so that the camera's own sharpness is seen too."""
    shifted: float = 0.5
    """Another contrast and another zero of the scale."""
    blurred: float = 0.15
    noisy: float = 0.25
    striped: float = 0.12
    lost: float = 0.2
    """Lines, spots or dead pixels without a value."""
    stepped: float = 0.12
    """Few steps of gray and the squares of a JPEG."""
    painted: float = 0.1
    """Through the colours of a palette and back, with text and cross-hairs."""

    def apply(self, scenes: Sequence[Labelled], rng: np.random.Generator) -> Labelled:
        """A new picture.

        Parameters
        ----------
        scenes : sequence of Labelled
            At least one, all of one size; the first is the subject, others may appear beside it where the picture
            shows more than one scene.
        rng : Generator
            Decides everything.
        """
        picture = _mirrored(scenes[0], rng)
        if rng.random() < self.moved:
            picture = _moved([picture, *scenes[1:]], rng)
        celsius = picture.celsius
        for share, change in (
            (self.shifted, _shifted),
            (self.blurred, _blurred),
            (self.noisy, _noisy),
            (self.striped, _striped),
            (self.painted, _painted),
            (self.stepped, _stepped),
            (self.lost, _lost),
        ):
            if rng.random() < share:
                celsius = change(celsius, rng)
        return replace(picture, celsius=celsius)


def _mirrored(scene: Labelled, rng: np.random.Generator) -> Labelled:
    rows = slice(None, None, 1 if rng.random() < 0.5 else -1)
    columns = slice(None, None, 1 if rng.random() < 0.5 else -1)
    return replace(
        scene,
        celsius=np.ascontiguousarray(scene.celsius[rows, columns]),
        parts=np.ascontiguousarray(scene.parts[rows, columns]),
        instances=np.ascontiguousarray(scene.instances[rows, columns]),
    )


def _moved(scenes: Sequence[Labelled], rng: np.random.Generator) -> Labelled:
    """A window of another size, turn and place, in the scene or in a mosaic of scenes."""
    height, width = scenes[0].celsius.shape
    largest_px = np.bincount(scenes[0].instances.ravel())[1:].max(initial=1)
    high = min(_SCALES[1], max(0.7, math.sqrt(_LARGEST_PX / largest_px)))
    scale = math.exp(rng.uniform(math.log(_SCALES[0]), math.log(high)))
    angle = math.pi / 2 * rng.integers(4) + (rng.uniform(-0.4, 0.4) if rng.random() < 0.4 else 0.0)
    half_x = (abs(math.cos(angle)) * width + abs(math.sin(angle)) * height) / (2 * scale)
    half_y = (abs(math.sin(angle)) * width + abs(math.cos(angle)) * height) / (2 * scale)
    canvas = scenes[0]
    if half_x > width / 2 or half_y > height / 2:
        canvas = _mosaic([scenes[index % len(scenes)] for index in range(_MOSAIC**2)], rng)
    rows, columns = canvas.celsius.shape
    x = _place(half_x, columns, rng)
    y = _place(half_y, rows, rng)
    # From the new picture's pixels to those of the canvas.
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    matrix = np.array(
        (
            (cosine, -sine, x - cosine * middle_x + sine * middle_y),
            (sine, cosine, y - sine * middle_x - cosine * middle_y),
        )
    )
    celsius = canvas.celsius
    if scale < 0.8:
        # Each new pixel is the mean of what it covers: else noise and thin things alias.
        celsius = _smoothed(celsius, 0.4 / scale)
    size = (width, height)
    inverse = cv2.WARP_INVERSE_MAP
    outside = np.nan if rng.random() < 0.5 else float(np.nanmedian(celsius[::8, ::8]))
    return replace(
        canvas,
        celsius=np.asarray(
            cv2.warpAffine(celsius, matrix, size, flags=cv2.INTER_LINEAR | inverse, borderValue=(outside,)), np.float32
        ),
        parts=np.asarray(cv2.warpAffine(canvas.parts, matrix, size, flags=cv2.INTER_NEAREST | inverse), np.uint8),
        instances=np.asarray(
            cv2.warpAffine(canvas.instances, matrix, size, flags=cv2.INTER_NEAREST | inverse), np.uint8
        ),
    )


def _place(half: float, length: int, rng: np.random.Generator) -> float:
    """Where the middle of a window goes: inside where it fits, else in the middle of the canvas."""
    slack = length / 2 - half
    return (length - 1) / 2 + (rng.uniform(-slack, slack) if slack > 0 else 0.0)


def _mosaic(scenes: Sequence[Labelled], rng: np.random.Generator) -> Labelled:
    """Four scenes as one, brought near to the same floor."""
    floor = float(np.nanmedian(scenes[0].celsius[::4, ::4]))
    order = rng.permutation(len(scenes))
    celsius, parts, instances = [], [], []
    for place, index in enumerate(order):
        scene = _mirrored(scenes[index], rng) if index else scenes[0]
        level = 0.0
        if index:
            level = floor - float(np.nanmedian(scene.celsius[::4, ::4])) + rng.normal(0, _SEAM_SIGMA_CELSIUS)
        celsius.append(scene.celsius + np.float32(level))
        parts.append(scene.parts)
        number = scene.instances + np.uint8(_NUMBERS_PER_SCENE * place)
        instances.append(np.where(scene.instances > 0, number, 0).astype(np.uint8))
    return Labelled(
        celsius=_joined(celsius),
        parts=_joined(parts),
        instances=_joined(instances),
        animals_known=all(scene.animals_known for scene in scenes),
    )


def _joined(tiles: Sequence[NDArray[Number]]) -> NDArray[Number]:
    rows = [np.concatenate(tiles[start : start + _MOSAIC], axis=1) for start in range(0, len(tiles), _MOSAIC)]
    return np.concatenate(rows, axis=0)


def _shifted(celsius: Degrees, rng: np.random.Generator) -> Degrees:
    """A guessed scale: contrast 0.5 to 1.5 about the surroundings, and some degrees up or down."""
    around = np.float32(np.nanmedian(celsius[::4, ::4]))
    gain = np.float32(math.exp(rng.uniform(math.log(0.5), math.log(1.5))))
    return (around + gain * (celsius - around) + np.float32(rng.uniform(-4.5, 4.5))).astype(np.float32)


def _blurred(celsius: Degrees, rng: np.random.Generator) -> Degrees:
    return _smoothed(celsius, rng.uniform(0.4, 1.5))


def _noisy(celsius: Degrees, rng: np.random.Generator) -> Degrees:
    sigma = np.float32(math.exp(rng.uniform(math.log(0.03), math.log(0.25))))
    noise = rng.standard_normal(celsius.shape, np.float32)
    if rng.random() < 0.3:  # coarse, as compression and denoising leave it
        noise = 2 * _smoothed(noise, rng.uniform(0.6, 1.5))
    return celsius + sigma * noise


def _striped(celsius: Degrees, rng: np.random.Generator) -> Degrees:
    axis = int(rng.integers(2))
    shape = (1, celsius.shape[1]) if axis else (celsius.shape[0], 1)
    return celsius + np.float32(rng.uniform(0.05, 0.4)) * rng.standard_normal(shape, np.float32)


def _lost(celsius: Degrees, rng: np.random.Generator) -> Degrees:
    """Lines, spots and pixels without a value, and the bars beside a picture of another form."""
    height, width = celsius.shape
    holes = celsius.copy()
    kind = rng.integers(4)
    if kind == 0:
        for _ in range(rng.integers(1, 4)):
            row = int(rng.integers(height))
            holes[row : row + int(rng.integers(1, 4))] = np.nan
    elif kind == 1:
        for _ in range(rng.integers(1, 6)):
            row, column = int(rng.integers(height)), int(rng.integers(width))
            holes[row : row + int(rng.integers(2, 14)), column : column + int(rng.integers(2, 40))] = np.nan
    elif kind == 2:
        dead = rng.integers(0, celsius.size, int(rng.integers(1, 200)))
        holes.ravel()[dead] = np.nan
    elif rng.random() < 0.5:
        bar = int(rng.integers(1, height // 6))
        holes[:bar] = holes[height - bar :] = np.nan
    else:
        bar = int(rng.integers(1, width // 6))
        holes[:, :bar] = holes[:, width - bar :] = np.nan
    return holes


def _stepped(celsius: Degrees, rng: np.random.Generator) -> Degrees:
    """Few steps of gray between two ends that cut off, and the squares of a JPEG."""
    low, high = _ends(celsius, rng)
    steps = np.float32(math.exp(rng.uniform(math.log(24), math.log(255))))

    def change(known: Degrees) -> Degrees:
        share = np.clip((known - low) / (high - low), 0, 1)
        gray = np.rint(np.rint(share * steps) * np.float32(255 / steps)).astype(np.uint8)
        if rng.random() < 0.6:
            gray = _through_jpeg(gray, rng)
        return np.asarray(low + (high - low) * (gray.astype(np.float32) / np.float32(255)), np.float32)

    return _without_spreading_gaps(celsius, change)


def _painted(celsius: Degrees, rng: np.random.Generator) -> Degrees:
    """Through the colours of a palette, text and cross-hairs painted over, and back as the importer does it."""
    palette = known_palettes()[_COLOUR_PALETTES[int(rng.integers(len(_COLOUR_PALETTES)))]]
    low, high = _ends(celsius, rng)

    def change(known: Degrees) -> Degrees:
        index = np.rint(np.clip((known - low) / (high - low), 0, 1) * (STEPS - 1)).astype(np.intp)
        picture = np.rint(palette.colours[index]).astype(np.uint8)
        _scribble(picture, rng)
        if rng.random() < 0.8:
            picture = _through_jpeg(picture, rng)
        field = positions(picture, palette)
        field = filled(field, Placement.fit(field.shape[1], field.shape[0])) if rng.random() < 0.8 else field
        return np.asarray(low + (high - low) * field, np.float32)

    return _without_spreading_gaps(celsius, change)


def _ends(celsius: Degrees, rng: np.random.Generator) -> tuple[np.float32, np.float32]:
    """Coldest and hottest colour: about the picture's own, a little cut off or with room to spare."""
    low, high = np.nanpercentile(celsius[::3, ::3], (1, 99.8))
    span = max(float(high - low), 1.0)
    return np.float32(low - span * rng.uniform(-0.05, 0.4)), np.float32(high + span * rng.uniform(-0.12, 0.3))


def _through_jpeg(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    done, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 98))))
    if not done:
        raise RuntimeError("OpenCV cannot write JPEG")
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), np.uint8)


def _scribble(picture: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """White or black cross-hairs and figures, as apps paint them."""
    height, width = picture.shape[:2]
    for _ in range(rng.integers(0, 4)):
        colour = (255, 255, 255) if rng.random() < 0.7 else (0, 0, 0)
        x, y = int(rng.integers(width)), int(rng.integers(height))
        arm = int(rng.integers(2, 7))
        cv2.line(picture, (x - arm, y), (x + arm, y), colour)
        cv2.line(picture, (x, y - arm), (x, y + arm), colour)
        if rng.random() < 0.7:
            text = f"{rng.uniform(15, 40):.1f}"
            cv2.putText(picture, text, (x + 3, y - 3), cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.25, 0.45), colour)


def _smoothed(celsius: Degrees, sigma_px: float) -> Degrees:
    return _without_spreading_gaps(
        celsius, lambda known: np.asarray(cv2.GaussianBlur(known, (0, 0), sigma_px), np.float32)
    )


def _without_spreading_gaps(celsius: Degrees, change: Callable[[Degrees], Degrees]) -> Degrees:
    """Apply a change that looks at neighbours: gaps are filled with the median before and are gaps again after."""
    gaps = np.isnan(celsius)
    if not gaps.any():
        return change(celsius)
    known = np.where(gaps, np.float32(np.nanmedian(celsius)), celsius)
    changed = change(known)
    changed[gaps] = np.nan
    return changed
