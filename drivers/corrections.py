"""The host corrections of a v2 as its recordings keep them: packed into text, the same words once.

Offset and gain are each 192 x 256 little-endian 16-bit words in row order, compressed with zlib, as base64, under the
SHA-256 of the words. A damaged one costs the degrees of its frames, not the recording.
"""

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from drivers.errors import RecordingError
from drivers.nuc import HostCorrection
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

_LEVEL = 1
"""Of zlib. The patterns of a sensor hardly compress: level 9 saves 1.5 % and takes four times as long."""

_WORDS_BYTES = IMAGE_HEIGHT * IMAGE_WIDTH * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCorrection:
    """Which words a host correction consists of, by their SHA-256."""

    offset: str
    gain: str | None
    """None when there was no gain map."""


def sum_of(words: NDArray[np.uint16]) -> str:
    """SHA-256 of the little-endian words, hexadecimal."""
    return hashlib.sha256(words.astype("<u2").tobytes()).hexdigest()


def packed(words: NDArray[np.uint16]) -> str:
    """The words as text."""
    return base64.b64encode(zlib.compress(words.astype("<u2").tobytes(), _LEVEL)).decode("ascii")


def unpacked(text: str, expected_sum: str) -> NDArray[np.uint16]:
    """The words again, shape (192, 256).

    Raises
    ------
    ValueError
        If the text is damaged.
    """
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), _WORDS_BYTES + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(data) != _WORDS_BYTES:
        raise ValueError(f"expected {_WORDS_BYTES} bytes, got {len(data)}")
    found_sum = hashlib.sha256(data).hexdigest()
    if found_sum != expected_sum:
        raise ValueError(f"expected SHA-256 {expected_sum}, got {found_sum}")
    return np.frombuffer(data, "<u2").astype(np.uint16).reshape(IMAGE_HEIGHT, IMAGE_WIDTH)


class CorrectionNotes:
    """Gives each host correction of a recording that is being written its number, and has it written when it is new.

    Only the newest is held; of the others the sums of their words.

    Parameters
    ----------
    write_words : callable
        Told the sum and the packed text of words that were not there before.
    write_correction : callable
        Told the number of a correction that was not there before, and its words, which were told before.
    """

    def __init__(
        self, write_words: Callable[[str, str], None], write_correction: Callable[[int, StoredCorrection], None]
    ) -> None:
        self._write_words = write_words
        self._write_correction = write_correction
        self._words: set[str] = set()
        self._numbers: dict[StoredCorrection, int] = {}
        self._newest: HostCorrection | None = None
        self._newest_number: int | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def number_of(self, correction: HostCorrection | None) -> int | None:
        """The number of a frame's correction, from 0; None for a frame without one."""
        if correction is not self._newest:
            self._newest_number = None if correction is None else self._noted(correction)
            self._newest = correction
        return self._newest_number

    def _noted(self, correction: HostCorrection) -> int:
        gain = correction.gain
        stored = StoredCorrection(offset=self._kept(correction.offset), gain=None if gain is None else self._kept(gain))
        if stored not in self._numbers:
            self._write_correction(len(self._numbers), stored)
            self._numbers[stored] = len(self._numbers)
        return self._numbers[stored]

    def _kept(self, words: NDArray[np.uint16]) -> str:
        found_sum = sum_of(words)
        if found_sum not in self._words:
            self._write_words(found_sum, packed(words))
            self._words.add(found_sum)
        return found_sum


@dataclass(slots=True)
class Corrections:
    """The host corrections of a recording, packed as its files hold them and unpacked when they are asked for."""

    stored: dict[int, StoredCorrection] = field(default_factory=dict)
    """By number; one that a crash has torn is not there."""
    words: dict[str, str] = field(default_factory=dict)
    """Packed, by the sum of the words."""

    @classmethod
    def from_records(cls, corrections: object, words: object) -> Self:
        """What `records` and `words` have become in a file; damaged entries are left out."""
        read = cls()
        if isinstance(words, Mapping):
            read.words = {name: text for name, text in words.items() if isinstance(text, str)}
        for record in corrections if isinstance(corrections, list) else ():
            with suppress(ValueError, TypeError, KeyError):
                read.take(record)
        return read

    def records(self) -> list[dict[str, Any]]:
        """One record for each, without the words."""
        return [{"index": number, **asdict(stored)} for number, stored in self.stored.items()]

    def take(self, record: Mapping[str, Any]) -> None:
        """Add one of `records`.

        Raises
        ------
        ValueError, TypeError, KeyError
            If it is none, or its words are not there.
        """
        number, stored = record["index"], StoredCorrection(offset=record["offset"], gain=record["gain"])
        missing = [name for name in (stored.offset, stored.gain) if name is not None and name not in self.words]
        if not isinstance(number, int) or missing:
            raise ValueError(f"host correction {number!r} without {missing}")
        self.stored[number] = stored

    def take_words(self, expected_sum: str, text: str) -> None:
        """Add packed words.

        Raises
        ------
        ValueError
            If they are damaged.
        """
        unpacked(text, expected_sum)
        self.words[expected_sum] = text

    def get(self, number: int) -> HostCorrection:
        """Unpack one.

        Raises
        ------
        RecordingError
            If it is damaged or not there.
        """
        stored = self.stored.get(number)
        if stored is None:
            raise RecordingError(f"host correction {number} is not there")
        try:
            return HostCorrection(
                offset=unpacked(self.words[stored.offset], stored.offset),
                gain=None if stored.gain is None else unpacked(self.words[stored.gain], stored.gain),
            )
        except ValueError as error:
            raise RecordingError(f"host correction {number} is damaged: {error}") from error
