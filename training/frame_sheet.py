"""A sheet of pictures beside what is true and what was found in them, the worst first."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.overlay import PART_COLOURS_BGR, false_colour
from training.samples import Sample
from training.verdict import Found, FrameVerdict

_TILE_PX = (256, 192)
"""Width and height of each of the three pictures in a row."""
_CAPTION_PX = 16
_GAP_PX = 8
_FRAME_BGR = (90, 90, 90)
_ACROSS = 2
"""Pictures side by side, each with its truth and what was found."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedFrame:
    """A picture, what was found in it, and how good that is."""

    sample: Sample
    found: Found
    verdict: FrameVerdict


class WorstFrames:
    """Keeps the worst pictures of many.

    Parameters
    ----------
    most : int
        How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[JudgedFrame] = []

    def add(self, frame: JudgedFrame) -> None:
        """Keep it if it is among the worst so far; of equals the earlier."""
        self._kept = sorted([*self._kept, frame], key=lambda one: one.verdict.score)[: self._most]

    @property
    def frames(self) -> tuple[JudgedFrame, ...]:
        """The worst first."""
        return tuple(self._kept)


def sheet(frames: tuple[JudgedFrame, ...]) -> NDArray[np.uint8]:
    """Rows of picture, truth and finding with their scores.

    Returns
    -------
    (height, width, 3) uint8, BGR
        Red head, green body, blue tail; white lines run where one animal ends and another begins.

    Raises
    ------
    ValueError
        If there is no picture.
    """
    if not frames:
        raise ValueError("a sheet needs at least one picture")
    tiles = [_tile(frame) for frame in frames]
    across = min(_ACROSS, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % across)
    rows = [np.concatenate(tiles[start : start + across], axis=1) for start in range(0, len(tiles), across)]
    return np.concatenate(rows)


def _tile(frame: JudgedFrame) -> NDArray[np.uint8]:
    pictures = (
        cv2.resize(false_colour(frame.sample.celsius), _TILE_PX, interpolation=cv2.INTER_NEAREST),
        labels_picture(frame.sample.parts, frame.sample.instances),
        labels_picture(frame.found.parts, frame.found.instances),
    )
    framed = [cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=_FRAME_BGR) for picture in pictures]
    row = np.concatenate([np.asarray(picture, np.uint8) for picture in framed], axis=1)
    tile = cv2.copyMakeBorder(row, _CAPTION_PX, _GAP_PX, 0, _GAP_PX, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    cv2.putText(tile, _caption(frame), (3, _CAPTION_PX - 4), _FONT, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return np.asarray(tile, np.uint8)


def labels_picture(parts: NDArray[np.uint8], instances: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Labels in their colours, with the borders of animals where these are told apart; (192, 256, 3) uint8, BGR."""
    colours = np.array(((0, 0, 0), *PART_COLOURS_BGR.values()), np.uint8)[parts]
    if instances is not None:
        colours[(cv2.dilate(instances, _SQUARE) != instances) & (instances > 0)] = 255
    return np.asarray(cv2.resize(colours, _TILE_PX, interpolation=cv2.INTER_NEAREST), np.uint8)


def _caption(frame: JudgedFrame) -> str:
    ious = (
        f"{part.name.lower()} {'-' if iou is None else f'{iou:.2f}'}" for part, iou in frame.verdict.part_iou.items()
    )
    text = f"{frame.sample.name}: score {frame.verdict.score:.2f}; IoU {', '.join(ious)}"
    if frame.verdict.animals is not None:
        true, found = frame.verdict.animals.detections.overlap.shape
        text += f"; animals {true}, found {found}"
    contact = frame.sample.contact
    return text if contact is None else f"{text}; {contact.value}"
