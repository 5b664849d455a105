"""A frame as a picture for people: colours for degrees, outlines for parts, numbers for temperatures."""

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.observation import FrameObservation
from daemon.vision.parts import BodyPart, Segmentation

PART_COLOURS_BGR = {BodyPart.HEAD: (80, 80, 255), BodyPart.BODY: (120, 255, 120), BodyPart.TAIL: (255, 200, 80)}
_TEXT_BGR = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.5
_MARGIN_PX = 6
_SCALE_PERCENTILES = (0.5, 99.8)


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
    celsius: NDArray[np.float32], segmentation: Segmentation, observation: FrameObservation, *, scale: int = 3
) -> NDArray[np.uint8]:
    """The frame enlarged `scale` times, with outlines and mean temperature of each part.

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
        for found in animal.parts:
            text = found.part.name.lower()
            if found.mean_celsius is not None:
                text += f" {found.mean_celsius:.1f}"
            _label(picture, text, round(found.x_px * scale), round(found.y_px * scale), PART_COLOURS_BGR[found.part])
    _caption(picture, observation)
    return np.asarray(picture, np.uint8)


def _label(picture: cv2.typing.MatLike, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    """Text on a dark plate, with its middle at the point but inside the picture."""
    (width, height), baseline = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    left = min(max(x - width // 2, _MARGIN_PX), picture.shape[1] - width - _MARGIN_PX)
    bottom = min(max(y + height // 2, height + _MARGIN_PX), picture.shape[0] - baseline - _MARGIN_PX)
    corners = (left - 3, bottom - height - 3), (left + width + 3, bottom + baseline)
    cv2.rectangle(picture, *corners, (0, 0, 0), cv2.FILLED)
    cv2.putText(picture, text, (left, bottom), _FONT, _FONT_SCALE, colour, 1, cv2.LINE_AA)


def _caption(picture: cv2.typing.MatLike, observation: FrameObservation) -> None:
    if observation.not_measured is not None:
        _label(picture, f"not measured: {observation.not_measured}", 0, 0, _TEXT_BGR)
    elif not observation.animals:
        _label(picture, "no animal", 0, 0, _TEXT_BGR)


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """The picture as a PNG file."""
    done, encoded = cv2.imencode(".png", picture)
    if not done:
        raise ValueError(f"no PNG can be made of {picture.dtype} {picture.shape}")
    return encoded.tobytes()
