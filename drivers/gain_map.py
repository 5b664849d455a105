"""The gain map of a v2 camera: put together from its stream, and kept per serial number.

The camera sends it once it is asked, one row of 256 gain words in each payload. Only the payload's header tells such a
payload from a picture, and the kernel's video driver strips headers: this needs libusb. Source: diminDDL/InfiCamPlus.
"""

import logging
import os
import re
import threading
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.errors import CameraError
from drivers.nuc import GAIN_ONE
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

logger = logging.getLogger(__name__)

FETCH_ATTEMPTS = 3
"""How often the map of one camera is asked for before the service does without."""

_LINE_BYTES = IMAGE_WIDTH * 2
_MARKER_OFFSET = 6
"""In the payload header: the first byte of what the standard calls the source clock."""
_GAIN_MARKER = 2
_HEADER_FLAGS_OFFSET = 1
_ERROR_BIT = 0x40

_MEDIAN_LIMITS = (GAIN_ONE // 2, 2 * GAIN_ONE)
"""The middle pixel amplifies neither half nor twice as much as it should."""

_SAFE_SERIAL = re.compile(r"[A-Za-z0-9_-]{1,32}")


class GainMapError(CameraError):
    """The gain map could not be had: degrees of a v2 stay uncertain."""


class GainMapAssembler:
    """Collects the payloads of a stream that was asked for the gain map."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    @property
    def lines(self) -> int:
        """Rows so far."""
        return len(self._lines)

    def feed(self, payload: bytes) -> NDArray[np.uint16] | None:
        """Take one payload with its header; the map when it is complete, (192, 256) uint16.

        Raises
        ------
        GainMapError
            If a row is damaged. Rows carry no number, so the map must be asked for again.
        """
        if len(payload) <= _MARKER_OFFSET or payload[_MARKER_OFFSET] != _GAIN_MARKER:
            return None
        header_bytes = payload[0]
        line = payload[header_bytes : header_bytes + _LINE_BYTES]
        if payload[_HEADER_FLAGS_OFFSET] & _ERROR_BIT or len(line) != _LINE_BYTES:
            at, self._lines = self.lines, []
            raise GainMapError(f"row {at} of the gain map is damaged: expected {_LINE_BYTES} bytes, got {len(line)}")
        self._lines.append(line)
        if self.lines < IMAGE_HEIGHT:
            return None
        words = np.frombuffer(b"".join(self._lines), dtype="<u2").reshape(IMAGE_HEIGHT, IMAGE_WIDTH).astype(np.uint16)
        self._lines = []
        return checked_gain(words)


def checked_gain(words: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """A gain map that can be one.

    Raises
    ------
    GainMapError
        If its shape is wrong or its median is none of a gain: most pixels dead, or a picture in its place.
    """
    if words.shape != (IMAGE_HEIGHT, IMAGE_WIDTH) or words.dtype != np.uint16:
        raise GainMapError(f"a gain map is ({IMAGE_HEIGHT}, {IMAGE_WIDTH}) uint16, got {words.shape} {words.dtype}")
    median = int(np.median(words))
    dead = words.size - np.count_nonzero(words)
    if not _MEDIAN_LIMITS[0] <= median <= _MEDIAN_LIMITS[1] or dead >= words.size // 2:
        raise GainMapError(
            f"a gain map has a median of {_MEDIAN_LIMITS[0]} to {_MEDIAN_LIMITS[1]} and few dead pixels, "
            f"got {median} and {dead} of {words.size}"
        )
    return words


class GainMaps:
    """The maps of all cameras that were ever attached, one file each; safe to use from any thread.

    Parameters
    ----------
    folder : Path, optional
        Where the files are; made if needed. Without it maps are kept as long as the process lives.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[str, NDArray[np.uint16]] = {}
        self._attempts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def load(self, serial: str) -> NDArray[np.uint16] | None:
        """The map of a camera, or None; a damaged file is set aside."""
        with self._lock:
            if serial not in self._known:
                stored = self._read(serial)
                if stored is not None:
                    self._known[serial] = stored
            return self._known.get(serial)

    def save(self, serial: str, gain: NDArray[np.uint16]) -> None:
        """Keep a map; a file that cannot be written is logged, and the map kept in memory."""
        with self._lock:
            self._known[serial] = gain
            path = self._path(serial)
            if path is None:
                return
            try:
                _write(path, gain)
            except OSError as error:
                logger.error("the gain map of %s cannot be kept in %s: %s", serial, path, error)

    def may_fetch(self, serial: str) -> bool:
        """Whether to ask the camera for its map (once more); the answer yes counts as an attempt."""
        with self._lock:
            if self._attempts[serial] >= FETCH_ATTEMPTS:
                return False
            self._attempts[serial] += 1
            return True

    def _path(self, serial: str) -> Path | None:
        if self._folder is None or not _SAFE_SERIAL.fullmatch(serial):
            return None
        return self._folder / f"gain-map-{serial}.bin"

    def _read(self, serial: str) -> NDArray[np.uint16] | None:
        path = self._path(serial)
        if path is None or not path.exists():
            return None
        try:
            return checked_gain(_unpacked(path.read_bytes()))
        except (OSError, ValueError, GainMapError) as error:
            aside = path.with_suffix(".damaged")
            logger.error("%s is no gain map (%s): set aside as %s", path, error, aside.name)
            try:
                path.replace(aside)
            except OSError as failure:
                logger.error("%s cannot be set aside: %s", path, failure)
            return None


_CHECKSUM_BYTES = 4


def _write(path: Path, gain: NDArray[np.uint16]) -> None:
    """All of the file or nothing, also in a power cut: rows, little-endian, then their CRC-32."""
    words = gain.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(words + zlib.crc32(words).to_bytes(_CHECKSUM_BYTES, "little"))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _unpacked(content: bytes) -> NDArray[np.uint16]:
    words, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if len(words) != IMAGE_HEIGHT * _LINE_BYTES or zlib.crc32(words).to_bytes(_CHECKSUM_BYTES, "little") != checksum:
        raise GainMapError(f"expected {IMAGE_HEIGHT * _LINE_BYTES} bytes and their checksum, got {len(content)} bytes")
    return np.frombuffer(words, dtype="<u2").reshape(IMAGE_HEIGHT, IMAGE_WIDTH).astype(np.uint16)
