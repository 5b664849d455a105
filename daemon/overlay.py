"""A frame as a picture for people: colours for degrees, outlines for parts, numbers for temperatures."""

import math
import unicodedata
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.observation import FrameObservation, PartObservation
from daemon.vision.parts import BodyPart, Segmentation
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

PART_COLOURS_BGR = {BodyPart.HEAD: (80, 80, 255), BodyPart.BODY: (120, 255, 120), BodyPart.TAIL: (255, 200, 80)}
_TEXT_BGR = (255, 255, 255)
_BANNER_BGR = (60, 190, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.19
"""Per unit of enlargement: letters as high as five pixels of the camera."""
_MARGIN_PX = 6
_CLEARANCE_PX = 11
"""Between the line of a tail and the middle of its label, in pixels of the camera."""
_BANNER_PX = 10
"""Height of the banner, in pixels of the camera."""
_SCALE_PERCENTILES = (0.5, 99.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a label is to be, in pixels of the camera."""

    x_px: float
    y_px: float
    away: tuple[float, float] = (0.0, 0.0)
    """In this direction from the point; (0, 0) puts its middle there."""


_CORNER = _Place(x_px=0, y_px=0)


def false_colour(celsius: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colours from the coldest to the hottest of the picture; black where there is no temperature.

    Returns
    -------
    (height, width, 3) uint8, BGR
    """
    valid = np.isfinite(celsius)
    if not valid.any():
        return np.zeros((*celsius.shape, 3), np.uint8)
    low, high = np.percentile(celsius[valid], _SCALE_PERCENTILES)
    position = (np.nan_to_num(celsius, nan=low) - low) / max(high - low, 0.1)
    coloured = cv2.applyColorMap((np.clip(position, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    coloured[~valid] = 0
    return np.asarray(coloured, np.uint8)


def draw(
    celsius: NDArray[np.float32],
    segmentation: Segmentation,
    observation: FrameObservation,
    *,
    scale: int = 3,
    banner: str | None = None,
) -> NDArray[np.uint8]:
    """The frame enlarged `scale` times, with outlines and mean temperature of each part.

    `banner` is said across the lower edge: that the picture counts for nothing, and why.

    Returns
    -------
    (192 * scale, 256 * scale, 3) uint8, BGR
    """
    size = (celsius.shape[1] * scale, celsius.shape[0] * scale)
    picture = cv2.resize(false_colour(celsius), size, interpolation=cv2.INTER_LINEAR)
    for part, colour in PART_COLOURS_BGR.items():
        mask = (segmentation.parts == part).astype(np.uint8)
        enlarged = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(enlarged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colour, 1)
    for animal in observation.animals:
        body = next((found for found in animal.parts if found.part is BodyPart.BODY), None)
        for found in animal.parts:
            text = found.part.name.lower()
            if found.mean_celsius is not None:
                text += f" {found.mean_celsius:.1f}"
            _label(picture, text, _beside(found, body), PART_COLOURS_BGR[found.part], scale)
    _caption(picture, observation, scale)
    if banner is not None:
        _write_banner(picture, banner, scale)
    return np.asarray(picture, np.uint8)


def _beside(found: PartObservation, body: PartObservation | None) -> _Place:
    """Where the label of a part hides little of it: on the body, before the head, along the tail."""
    if body is None or found is body:
        return _Place(x_px=found.x_px, y_px=found.y_px)
    away_x, away_y = found.x_px - body.x_px, found.y_px - body.y_px
    length = math.hypot(away_x, away_y) or 1.0
    away_x, away_y = away_x / length, away_y / length
    if found.part is BodyPart.HEAD:
        reach = math.sqrt(found.area_px) * 0.8  # a little more than from the middle of a head to the nose
    else:
        away_x, away_y = (away_y, -away_x) if away_x > 0 else (-away_y, away_x)  # across, and upwards
        reach = _CLEARANCE_PX
    return _Place(x_px=found.x_px + reach * away_x, y_px=found.y_px + reach * away_y, away=(away_x, away_y))


def draw_refused(reason: str, *, scale: int = 3) -> NDArray[np.uint8]:
    """What stands in the place of a transfer that was no good frame, in the size of `draw`."""
    picture = np.zeros((IMAGE_HEIGHT * scale, IMAGE_WIDTH * scale, 3), np.uint8)
    _label(picture, f"refused: {reason}", _CORNER, _TEXT_BGR, scale)
    return picture


def _label(picture: cv2.typing.MatLike, text: str, place: _Place, colour: tuple[int, int, int], scale: int) -> None:
    """Text on a dark plate, inside the picture."""
    (width, height), baseline = cv2.getTextSize(text, _FONT, _FONT_SCALE * scale, 1)
    x = (place.x_px + 0.5) * scale + place.away[0] * width / 2
    y = (place.y_px + 0.5) * scale + place.away[1] * height / 2
    left = min(max(round(x) - width // 2, _MARGIN_PX), picture.shape[1] - width - _MARGIN_PX)
    bottom = min(max(round(y) + height // 2, height + _MARGIN_PX), picture.shape[0] - baseline - _MARGIN_PX)
    corners = (left - 3, bottom - height - 3), (left + width + 3, bottom + baseline)
    cv2.rectangle(picture, *corners, (0, 0, 0), cv2.FILLED)
    cv2.putText(picture, text, (left, bottom), _FONT, _FONT_SCALE * scale, colour, 1, cv2.LINE_AA)


def _caption(picture: cv2.typing.MatLike, observation: FrameObservation, scale: int) -> None:
    if observation.not_measured is not None:
        _label(picture, f"not measured: {observation.not_measured}", _CORNER, _TEXT_BGR, scale)
    elif not observation.animals:
        _label(picture, "no animal", _CORNER, _TEXT_BGR, scale)


def _write_banner(picture: cv2.typing.MatLike, text: str, scale: int) -> None:
    """A coloured bar over the whole width; what does not fit is cut off."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()  # the font has no other letters
    height, width = picture.shape[:2]
    while cv2.getTextSize(plain, _FONT, _FONT_SCALE * scale, 1)[0][0] > width - 2 * _MARGIN_PX:
        plain = plain[:-4] + "..."
    top = height - _BANNER_PX * scale
    cv2.rectangle(picture, (0, top), (width - 1, height - 1), _BANNER_BGR, cv2.FILLED)
    place = _MARGIN_PX, height - _BANNER_PX * scale // 3
    cv2.putText(picture, plain, place, _FONT, _FONT_SCALE * scale, (0, 0, 0), 1, cv2.LINE_AA)


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """The picture as a PNG file."""
    done, encoded = cv2.imencode(".png", picture)
    if not done:
        raise ValueError(f"no PNG can be made of {picture.dtype} {picture.shape}")
    return encoded.tobytes()
