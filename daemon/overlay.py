"""A frame as a picture for people: colours for degrees, outlines for parts, numbers for temperatures."""

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.observation import FrameObservation
from daemon.vision.parts import BodyPart, Segmentation

PART_COLOURS_BGR = {BodyPart.HEAD: (80, 80, 255), BodyPart.BODY: (120, 255, 120), BodyPart.TAIL: (255, 200, 80)}
_TEXT_BGR = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
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
            position = (round(found.x_px * scale) - 20, round(found.y_px * scale))
            cv2.putText(picture, text, position, _FONT, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
            cv2.putText(picture, text, position, _FONT, 0.45, _TEXT_BGR, 1, cv2.LINE_AA)
    _caption(picture, observation)
    return np.asarray(picture, np.uint8)


def _caption(picture: NDArray[np.uint8] | cv2.typing.MatLike, observation: FrameObservation) -> None:
    if observation.not_measured is not None:
        caption = f"not measured: {observation.not_measured}"
    elif not observation.animals:
        caption = "no animal"
    else:
        return
    cv2.putText(picture, caption, (8, 20), _FONT, 0.6, _TEXT_BGR, 1, cv2.LINE_AA)


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """The picture as a PNG file."""
    done, encoded = cv2.imencode(".png", picture)
    if not done:
        raise ValueError(f"no PNG can be made of {picture.dtype} {picture.shape}")
    return encoded.tobytes()
