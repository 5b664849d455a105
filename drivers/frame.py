"""What a thermal camera delivers.

Arrays are indexed `[row, column]` and have the shape `(height, width)`. Points are `(x, y)` in pixels, x right,
y down, pixel centres on integers.
"""

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from drivers.nuc import HostCorrection
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH, TRANSFER_ROWS, Metadata
from drivers.thermometry import Calibration


class FrameFlag(IntFlag):
    """What is to be known before a degree of this frame is believed; stored as the sum of its bits."""

    NONE = 0
    SHUTTER = 1
    """The picture repeats the one before: the shutter is closed or the stream stalls. Not a measurement."""
    SETTLING = 2
    """Within the first seconds after a shutter event, or while the detector still warms up."""
    DRIFTED = 4
    """The detector's temperature has moved away from its value at the last calibration."""
    OVER_RANGE = 8
    """At least one pixel is saturated: its true temperature is higher."""
    UNCERTAIN = 16
    """Degrees are not corrected as they should be (v2 without offset or gain map): do not measure on them."""
    ESTIMATED = 32
    """Degrees were derived from a picture or table, not from the sensor's counts."""
    HIGH_RANGE = 64
    """The camera's high temperature range is in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFrame:
    """One transfer as it came off the wire, not yet checked."""

    sequence: int
    """Number within the camera session, from 0. A gap is a frame that never reached us."""

    captured_utc_ns: int
    """Wall time at the end of the transfer, nanoseconds since the Unix epoch."""

    captured_monotonic_ns: int
    """Monotonic time at the end of the transfer."""

    payload: bytes
    """The bytes; 100,352 of them when all is well."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # eq: arrays do not compare to one bool
class ThermalFrame:
    """One radiometric image. It owns its pixels: drivers copy them out of the transfer buffer."""

    sequence: int
    """Number within the camera session, from 0. A gap is a frame that never reached us."""

    captured_utc_ns: int
    """Wall time at the end of the transfer, nanoseconds since the Unix epoch."""

    captured_monotonic_ns: int
    """Monotonic time at the end of the transfer."""

    celsius: NDArray[np.float32]
    """Surface temperature in °C, shape (192, 256); NaN where the count has no temperature."""

    transfer: NDArray[np.uint16]
    """The whole transfer as it came, shape (196, 256): 192 image rows, then 4 metadata rows."""

    metadata: Metadata
    """The decoded metadata rows."""

    calibration: Calibration
    """What turned counts into degrees."""

    correction: HostCorrection | None = None
    """v2: what the counts were corrected with before; one object for all frames between two shutter events."""

    flags: FrameFlag = FrameFlag.NONE

    def __post_init__(self) -> None:
        if self.celsius.dtype != np.float32 or self.celsius.shape != (IMAGE_HEIGHT, IMAGE_WIDTH):
            raise ValueError(
                f"celsius must be ({IMAGE_HEIGHT}, {IMAGE_WIDTH}) float32, "
                f"got {self.celsius.dtype} {self.celsius.shape}"
            )
        if self.transfer.dtype != np.uint16 or self.transfer.shape != (TRANSFER_ROWS, IMAGE_WIDTH):
            raise ValueError(
                f"transfer must be ({TRANSFER_ROWS}, {IMAGE_WIDTH}) uint16, "
                f"got {self.transfer.dtype} {self.transfer.shape}"
            )
        self.celsius.setflags(write=False)
        self.transfer.setflags(write=False)

    @property
    def counts(self) -> NDArray[np.uint16]:
        """The image part of the transfer: sensor counts, shape (192, 256)."""
        return self.transfer[:IMAGE_HEIGHT]
