"""A frame in the payloads of a USB video stream, and what can go wrong with them on the way."""

import random
import struct
from dataclasses import dataclass
from enum import StrEnum

from drivers.t2s_protocol import Variant
from drivers.virtual.camera import Picture
from drivers.virtual.personality import PAYLOAD_HEADER_BYTES, Personality

_HEADER = struct.Struct("<BB4xB5x")  # length, flags, first byte of the clock field
_FRAME_ID, _END_OF_FRAME, _CLOCK, _ERROR, _END_OF_HEADER = 0x01, 0x02, 0x08, 0x40, 0x80
_DAMAGED_SHARE = 0.3


class WireFault(StrEnum):
    """Damage that the kernel's video driver may notice."""

    SHORT = "short"
    """The frame ends early."""
    GARBAGE = "garbage"
    """The right number of random bytes."""
    BAD_HEADER = "badhdr"
    """Random flags in some headers."""
    BAD_LENGTH = "badlen"
    """A wrong length in some headers."""
    ERROR_BIT = "errbit"
    """The camera itself says that there was an error."""
    DROP = "drop"
    """The frame is not sent."""


@dataclass(slots=True)
class PayloadMaker:
    """Cuts frames into payloads.

    Parameters
    ----------
    personality : Personality
        Of the camera.
    rng : Random
        Draws the damage.
    """

    personality: Personality
    rng: random.Random
    _frame_id: int = 0

    def payloads(self, picture: Picture, fault: WireFault | None = None) -> list[bytes]:
        """The payloads of one frame, in order, headers included."""
        if fault is WireFault.DROP:
            return []
        data = picture.data
        if fault is WireFault.SHORT:
            data = data[: self.rng.randrange(len(data))]
        elif fault is WireFault.GARBAGE:
            data = self.rng.randbytes(len(data))
        self._frame_id ^= _FRAME_ID
        step = self.personality.payload_bytes - PAYLOAD_HEADER_BYTES
        starts = range(0, max(len(data), 1), step)
        return [
            self._header(picture, number, last=number == len(starts) - 1, fault=fault) + data[start : start + step]
            for number, start in enumerate(starts)
        ]

    def _header(self, picture: Picture, number: int, *, last: bool, fault: WireFault | None) -> bytes:
        marked = self.personality.variant is Variant.V2
        flags = _END_OF_HEADER | self._frame_id | (_END_OF_FRAME if last else 0) | (_CLOCK if marked else 0)
        length = PAYLOAD_HEADER_BYTES
        if fault is WireFault.ERROR_BIT:
            flags |= _ERROR
        elif fault is WireFault.BAD_HEADER and self.rng.random() < _DAMAGED_SHARE:
            flags ^= self.rng.randrange(256)
        elif fault is WireFault.BAD_LENGTH and self.rng.random() < _DAMAGED_SHARE:
            length = self.rng.randrange(256)
        return _HEADER.pack(length, flags, picture.markers[number] if marked else 0)
