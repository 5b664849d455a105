"""What a shutter command does to the frames that follow, for each of the two cameras.

A v1 repeats one picture while it calibrates itself. A v2 shows its closed shutter, and the host calibrates.
Sources: zzh315/ThermalView (v1, measured), diminDDL/InfiCamPlus (v2).
"""

import logging
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.clock import NS_PER_S
from drivers.decoder import SETTLING_S
from drivers.frame import FrameFlag, ThermalFrame
from drivers.nuc import average_offset
from drivers.t2s_protocol import COUNT_LEVELS

logger = logging.getLogger(__name__)

FREEZE_EXPECTED_S = 1.0
"""A v1 freezes within this time after the command; right after power-up it does not."""

CLOSED_S = (0.35, 0.8)
"""When the shutter of a v2 is closed for certain, after the command."""

REOPENED_S = 1.2
"""When it is open again for certain: it opens by itself after 0.8 to 1 s."""

RETRY_S = 1.0
"""Pause between two attempts to calibrate a v2 that is not ready."""

_BLADE_TOLERANCE_COUNTS = 8.0
"""By how much the middle pixel of a picture of the blade may differ from the others'; its noise is 1.3 counts."""
_COARSE = 4
"""Each fourth pixel of each fourth row is enough to compare them."""

_CLOSED_MEAN_COUNTS = (0.01 * COUNT_LEVELS, 0.75 * COUNT_LEVELS)
"""The picture of a closed shutter is within; a v2 just started or switched in range sends nonsense for seconds."""


class ShutterWatch(Protocol):
    """Follows shutter commands and says what is to be known of each frame."""

    def commanded(self, sent_ns: int) -> None:
        """The camera has taken the command at this monotonic time."""
        ...

    def flags_of(self, frame: ThermalFrame) -> FrameFlag:
        """Flags that the frame needs besides the decoder's; every good frame is shown once, in order."""
        ...


class FreezeWatch:
    """Of a v1: from the command until the picture has frozen, frames are no measurement to rely on.

    From the freeze on the decoder knows by itself.
    """

    def __init__(self) -> None:
        self._sent_ns: int | None = None
        self.unseen = 0
        """Commands after which no freeze was seen."""

    def commanded(self, sent_ns: int) -> None:
        """See `ShutterWatch`."""
        self._sent_ns = sent_ns

    def flags_of(self, frame: ThermalFrame) -> FrameFlag:
        """See `ShutterWatch`."""
        if self._sent_ns is None or frame.captured_monotonic_ns < self._sent_ns:
            return FrameFlag.NONE
        if frame.flags & FrameFlag.SHUTTER:
            self._sent_ns = None
        elif frame.captured_monotonic_ns - self._sent_ns > FREEZE_EXPECTED_S * NS_PER_S:
            self._sent_ns = None
            self.unseen += 1
            logger.info("no freeze within %g s of the shutter command", FREEZE_EXPECTED_S)
        else:
            return FrameFlag.SETTLING
        return FrameFlag.NONE


class HostCalibration:
    """Of a v2: averages the frames of the closed shutter into the offset that the host corrects with."""

    def __init__(self) -> None:
        self._sent_ns: int | None = None
        self._closed: list[NDArray[np.uint16]] = []
        self._offset: NDArray[np.uint16] | None = None
        self._judged = False
        self._retry_ns: int | None = None
        self.failures = 0
        """Commands after which no picture of a closed shutter came."""

    def commanded(self, sent_ns: int) -> None:
        """See `ShutterWatch`."""
        self._sent_ns, self._retry_ns = sent_ns, None
        self._closed = []
        self._judged = False

    def flags_of(self, frame: ThermalFrame) -> FrameFlag:
        """See `ShutterWatch`."""
        if self._sent_ns is None or frame.captured_monotonic_ns < self._sent_ns:
            return FrameFlag.NONE
        since_s = (frame.captured_monotonic_ns - self._sent_ns) / NS_PER_S
        if CLOSED_S[0] <= since_s <= CLOSED_S[1]:
            self._closed.append(frame.counts)
        elif since_s > CLOSED_S[1] and not self._judged:
            self._judge(frame.captured_monotonic_ns)
        if since_s > REOPENED_S + SETTLING_S:
            self._sent_ns = None
            return FrameFlag.NONE
        return FrameFlag.SHUTTER if since_s <= REOPENED_S else FrameFlag.SETTLING

    def failed(self, now_ns: int) -> None:
        """The camera has not taken the command: ask for it again soon."""
        self._retry_ns = now_ns + round(RETRY_S * NS_PER_S)

    def take_offset(self) -> NDArray[np.uint16] | None:
        """The offset of the latest calibration, once; shape (192, 256)."""
        offset, self._offset = self._offset, None
        return offset

    def wants_retry(self, now_ns: int) -> bool:
        """Whether the command is to be sent again; the answer yes counts as done."""
        if self._retry_ns is None or now_ns < self._retry_ns:
            return False
        self._retry_ns = None
        return True

    def _judge(self, now_ns: int) -> None:
        """Make the offset; ask for another attempt if the frames are not those of a closed shutter."""
        self._judged = True
        least, greatest = _CLOSED_MEAN_COUNTS
        closed = _alike(self._closed)
        means = [float(counts.mean()) for counts in closed]
        if means and all(least <= mean <= greatest for mean in means):
            self._offset, self._closed = average_offset(closed), []
            return
        self.failures += 1
        self._retry_ns = now_ns + round(RETRY_S * NS_PER_S)
        logger.info(
            "the shutter picture cannot be used: %d frames with means %s, expected %.0f to %.0f counts; again in %g s",
            len(means),
            [round(mean) for mean in means],
            least,
            greatest,
            RETRY_S,
        )


def _alike(pictures: list[NDArray[np.uint16]]) -> list[NDArray[np.uint16]]:
    """Those that show the same as most: a picture that was under way when the shutter moved would spoil the offset."""
    if len(pictures) < 3:
        return pictures
    coarse = np.stack([picture[::_COARSE, ::_COARSE] for picture in pictures]).astype(np.float32)
    differences = np.median(np.abs(coarse - np.median(coarse, axis=0)), axis=(1, 2))
    kept = [
        picture
        for picture, difference in zip(pictures, differences, strict=True)
        if difference <= _BLADE_TOLERANCE_COUNTS
    ]
    if len(kept) < len(pictures):
        logger.info(
            "%d of %d shutter pictures show something else and are left out", len(pictures) - len(kept), len(pictures)
        )
    return kept
