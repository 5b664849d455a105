"""Reads pictures and video files as arrays of pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.errors import MaterialError
from drivers.matroska import CODEC, PIXEL_FORMAT
from drivers.t2s_protocol import IMAGE_WIDTH, TRANSFER_ROWS


def read_picture(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A picture file.

    Returns
    -------
    (height, width, 3) uint8
        RGB; a gray picture has three equal channels.
    (196, 256) uint16
        A whole transfer stored as a 16-bit gray picture.

    Raises
    ------
    MaterialError
        If it cannot be read, or has 16 bits and is no transfer.
    """
    try:
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise MaterialError(f"{path}: cannot be read: {error.strerror}") from error
    # These flags, unlike IMREAD_UNCHANGED, turn the picture as its camera says and leave transparency out.
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
    picture = cv2.imdecode(encoded, flags) if encoded.size else None
    if picture is None:
        raise MaterialError(
            f"{path}: expected a PNG, JPEG, BMP or TIFF picture, got {encoded.size} bytes of another kind"
        )
    pages = cv2.imcount(str(path)) if path.suffix.lower() in (".tif", ".tiff") else 1
    if pages > 1:
        raise MaterialError(
            f"{path}: expected one picture in a file, got {pages}; store each page as a file of its own"
        )
    if picture.dtype == np.uint8:
        return np.asarray(
            cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB if picture.ndim == 2 else cv2.COLOR_BGR2RGB), np.uint8
        )
    if picture.dtype == np.uint16 and picture.shape == (TRANSFER_ROWS, IMAGE_WIDTH):
        return np.asarray(picture, np.uint16)
    raise MaterialError(
        f"{path}: expected 8-bit colours or a whole transfer of {IMAGE_WIDTH} x {TRANSFER_ROWS} pixels in 16 bits, got "
        f"{picture.dtype} of shape {picture.shape}; nobody knows what degrees its numbers are: convert them and store "
        "degrees C as a .npy array of float"
    )


def is_recording(path: Path) -> bool:
    """Whether a video file holds whole transfers, as `drivers.recording` writes them.

    Raises
    ------
    MaterialError
        If it is no video file.
    """
    try:
        with av.open(path) as container:
            streams = container.streams.video
            if not streams:
                raise MaterialError(f"{path}: expected a video, got a file without pictures")
            codec = streams[0].codec_context
            size = (codec.height, codec.width)
            return (codec.name, codec.pix_fmt, size) == (CODEC, PIXEL_FORMAT, (TRANSFER_ROWS, IMAGE_WIDTH))
    except (av.FFmpegError, OSError) as error:
        raise MaterialError(f"{path}: cannot be read as video: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoPicture:
    """One picture of a video."""

    picture: NDArray[np.uint8]
    """RGB, shape (height, width, 3)."""
    time_s: float | None
    """Since the start of the video; None where the file does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A video file, known but not decoded."""

    path: Path
    width: int
    height: int
    pictures: int
    rate_hz: float | None
    """Mean frames per second; None where the file does not say."""

    @classmethod
    def of(cls, path: Path) -> "Video":
        """Size and number of pictures, counted without decoding them.

        Raises
        ------
        MaterialError
            If there is none.
        """
        try:
            with av.open(path) as container:
                stream = container.streams.video[0]
                pictures = sum(1 for packet in container.demux(stream) if packet.size)
                rate = stream.average_rate
                video = cls(
                    path=path,
                    width=stream.width,
                    height=stream.height,
                    pictures=pictures,
                    rate_hz=float(rate) if rate else None,
                )
        except (av.FFmpegError, OSError) as error:
            raise MaterialError(f"{path}: cannot be read as video: {error.strerror or error}") from error
        if not video.pictures:
            raise MaterialError(f"{path}: expected a video, got one without pictures")
        return video

    def decode(self) -> Iterator[VideoPicture]:
        """All pictures in order.

        Raises
        ------
        MaterialError
            At a damaged one.
        """
        try:
            with av.open(self.path) as container:
                for frame in container.decode(container.streams.video[0]):
                    yield VideoPicture(
                        picture=np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), time_s=frame.time
                    )
        except (av.FFmpegError, OSError) as error:
            raise MaterialError(f"{self.path}: damaged: {error.strerror or error}") from error
