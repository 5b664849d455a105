"""Reads one picture and one mask from files, and brings both onto the camera's frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from drivers.decoder import FrameDecoder
from drivers.errors import FrameRejectedError, MaterialError
from drivers.false_colour import FalseColourReader, FalseColourScale
from drivers.frame import RawFrame
from drivers.material_arrays import read_array, read_csv
from drivers.material_pictures import read_picture
from drivers.material_sources import ARRAYS, TABLES
from drivers.placement import NATIVE, Placement
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from training.samples import DataError

COLOURS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
SUFFIXES = ARRAYS | TABLES | COLOURS
"""Endings of files that hold one picture, in lower case."""

NOMINAL_RANGE_CELSIUS = (20.0, 40.0)
"""Stands in for the unknown scale of false colours: shapes can be learnt and judged, degrees cannot."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A picture on the camera's frame."""

    celsius: NDArray[np.float32]
    """°C, shape (192, 256); NaN outside the picture."""
    placement: Placement
    degrees_known: bool


class PictureReader:
    """Reads pictures of one kind and origin.

    Palette and scale of false colours are found in `first` and hold for all, in whatever order they are read.

    Parameters
    ----------
    first : Path
        One of the pictures.
    scale : FalseColourScale or None
        What is known about their colours, if anything.

    Raises
    ------
    DataError
        If the first picture cannot be read.
    """

    def __init__(self, first: Path, scale: FalseColourScale | None) -> None:
        self._degrees_known = scale is not None
        self._colours = FalseColourReader(scale or FalseColourScale(range_celsius=NOMINAL_RANGE_CELSIUS))
        self.read(first)

    def read(self, path: Path) -> Picture:
        """One picture: degrees (`.npy`, `.npz`, `.csv`, `.tsv`), a raw transfer, or false colours.

        Raises
        ------
        DataError
            If it is not one, or cannot be read.
        """
        try:
            if path.suffix.lower() in TABLES:
                return _of_degrees(read_csv(path))
            if path.suffix.lower() in ARRAYS:
                stack = read_array(path)
                if len(stack) != 1:
                    raise DataError(f"{path}: expected one picture in a file, got {len(stack)}; store each by itself")
                return _of_transfer(stack[0], path) if stack.dtype.kind == "u" else _of_degrees(stack[0])
            picture = read_picture(path)
            if picture.dtype == np.uint16:
                return _of_transfer(picture, path)
            celsius = self._colours.celsius(picture.astype(np.uint8, copy=False), str(path))
            placement = Placement.fit(picture.shape[1], picture.shape[0])
            return Picture(celsius=celsius, placement=placement, degrees_known=self._degrees_known)
        except MaterialError as error:
            raise DataError(str(error)) from error


def _of_degrees(degrees: NDArray[np.floating]) -> Picture:
    placement = Placement.fit(degrees.shape[1], degrees.shape[0])
    return Picture(celsius=placement.field_to_frame(degrees), placement=placement, degrees_known=True)


def _of_transfer(transfer: NDArray[np.generic], path: Path) -> Picture:
    raw = RawFrame(sequence=0, captured_utc_ns=0, captured_monotonic_ns=0, payload=transfer.astype("<u2").tobytes())
    try:
        frame = FrameDecoder(still=True).decode(raw)
    except FrameRejectedError as error:
        raise DataError(f"{path}: expected a good transfer, got one that is refused: {error}") from error
    return Picture(celsius=frame.celsius, placement=NATIVE, degrees_known=True)


def read_labels(path: Path) -> NDArray[np.int64]:
    """The numbers of a mask, shape (height, width); of a mask with a palette the numbers, not the colours.

    Raises
    ------
    DataError
        If it cannot be read or holds colours.
    """
    numbers = _read_image(path)
    if numbers.ndim == 3 and (numbers == numbers[..., :1]).all():
        numbers = numbers[..., 0]
    if numbers.ndim != 2 or numbers.dtype.kind not in "bui":
        raise DataError(
            f"{path}: expected a mask with one number for each pixel, got a picture in colours; store label numbers as "
            "8-bit gray PNG"
        )
    return numbers.astype(np.int64)


def read_segment_ids(path: Path) -> NDArray[np.int64]:
    """The ids of a COCO panoptic PNG, shape (height, width): R + 256 G + 65536 B.

    Raises
    ------
    DataError
        If it cannot be read or is not in colours.
    """
    colours = _read_image(path)
    if colours.ndim != 3 or colours.shape[2] < 3 or colours.dtype != np.uint8:
        raise DataError(f"{path}: expected a PNG of 8-bit colours, as COCO stores segment ids, got another kind")
    return colours[..., :3].astype(np.int64) @ np.array((1, 256, 65536), np.int64)


def _read_image(path: Path) -> NDArray[np.generic]:
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such mask") from error
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as a mask: {error}") from error


def stretched(labels: NDArray[np.int64], placement: Placement) -> NDArray[np.int64]:
    """Labels at the size of their picture: each pixel takes the nearest, also where the aspect ratio differs.

    Published masks are squashed to a square; so both directions are scaled by themselves.
    """
    height, width = placement.source_height, placement.source_width
    if labels.shape == (height, width):
        return labels
    rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(np.intp)
    return np.asarray(labels[rows[:, np.newaxis], columns], np.int64)


def on_frame(layers: Sequence[NDArray[np.int64]], placement: Placement) -> list[NDArray[np.uint8]]:
    """Labels of a picture on the camera's frame, 0 outside the picture.

    Parameters
    ----------
    layers : sequence of (source_height, source_width) int64
        Labels that belong together, such as parts and animals, 0 to 255.
    placement : Placement
        Where the picture lies.

    Returns
    -------
    list of (192, 256) uint8
        Where the picture is the finer grid each pixel of the frame takes the combination that covers most of it, so
        that the layers agree; otherwise the nearest.
    """
    combined = sum((layer << (8 * place) for place, layer in enumerate(layers)), np.zeros((), np.int64))
    keys, places = np.unique(combined, return_inverse=True)
    places = places.reshape(combined.shape)
    size = (placement.width, placement.height)
    if placement.source_width > placement.width:
        most = np.full(size[::-1], -1.0, np.float32)
        inside = np.zeros(size[::-1], np.intp)
        for number in range(len(keys)):
            share = cv2.resize((places == number).astype(np.float32), size, interpolation=cv2.INTER_AREA)
            inside[share > most] = number
            most = np.maximum(most, share)
    else:
        inside = stretched(places.astype(np.int64), Placement.fit(*size)) if combined.shape != size[::-1] else places
    frame = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH), np.int64)
    frame[placement.top : placement.top + placement.height, placement.left : placement.left + placement.width] = keys[
        inside
    ]
    return [((frame >> (8 * place)) & 255).astype(np.uint8) for place in range(len(layers))]
