"""Reading a camera for the self-test: notes of each frame, and the statistics of its pixels."""

import math
from collections import Counter
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.selftest import FrameNote, Seen
from drivers.clock import NS_PER_S, Clock
from drivers.errors import FrameRejectedError, FrameTimeoutError
from drivers.frame import FrameFlag, ThermalFrame
from drivers.t2s_plus import T2SPlusCamera
from drivers.t2s_protocol import Variant

READ_S = 0.5
_COARSE = 8
"""Median and spread of a picture are taken from each eighth pixel of each eighth row: a test must not cost frames."""
_APART = 10
"""Frames so far apart have noise of their own: the camera filters in time."""
_MAD_TO_RMS = 1.4826
_MK = 1000.0


class PixelStatistics:
    """Noise of a pixel from frame to frame, and the pattern that stays, both robust against what moves in the scene."""

    def __init__(self) -> None:
        self._count = 0
        self._previous: NDArray[np.float32] | None = None
        self._sum: NDArray[np.float64] | None = None
        self._squares: NDArray[np.float64] | None = None

    def add(self, celsius: NDArray[np.float32]) -> None:
        """A picture that is independent of the one before, °C."""
        if self._sum is None or self._squares is None or self._previous is None:
            self._sum, self._squares = np.zeros(celsius.shape), np.zeros(celsius.shape)
        else:
            self._squares += np.square(celsius - self._previous)
        self._sum += celsius
        self._previous = celsius
        self._count += 1

    @property
    def temporal_mk(self) -> float | None:
        """Rms of the middle pixel; None of too few pictures."""
        if self._squares is None or self._count < 3:
            return None
        return float(np.nanmedian(np.sqrt(self._squares / (2 * (self._count - 1))))) * _MK

    @property
    def pattern_mk(self) -> float | None:
        """Rms of the mean picture against its own surroundings; None of too few pictures."""
        if self._sum is None or self._count < 3:
            return None
        mean = np.nan_to_num(self._sum / self._count).astype(np.float32)
        rough = mean - cv2.medianBlur(mean, 5)
        return float(np.median(np.abs(rough - np.median(rough)))) * _MAD_TO_RMS * _MK


def note_of(frame: ThermalFrame) -> FrameNote:
    """What is kept of a frame."""
    low, middle, high = _tenths(frame.celsius[::_COARSE, ::_COARSE])
    off = None
    if frame.metadata.variant is Variant.V1:
        mean = int(frame.counts.sum(dtype=np.uint32)) / frame.counts.size
        off = frame.metadata.statistics.average_count - mean
    return FrameNote(
        at_ns=frame.captured_monotonic_ns,
        sequence=frame.sequence,
        flags=frame.flags,
        fpa_celsius=frame.metadata.fpa_celsius,
        shutter_celsius=frame.metadata.shutter_celsius,
        median_celsius=middle,
        spread_celsius=high - low,
        average_off_counts=off,
    )


def _tenths(celsius: NDArray[np.float32]) -> tuple[float, float, float]:
    """The first, the fifth and the ninth tenth of the pixels that have a temperature; NaN when none has."""
    known = celsius[np.isfinite(celsius)]
    if known.size == 0:
        return math.nan, math.nan, math.nan
    places = known.size // 10, known.size // 2, known.size * 9 // 10
    ordered = np.partition(known, places)
    return float(ordered[places[0]]), float(ordered[places[1]]), float(ordered[places[2]])


def watch(
    camera: T2SPlusCamera,
    clock: Clock,
    duration_s: float,
    *,
    until: Callable[[ThermalFrame], bool] = lambda _frame: False,
    pixels: PixelStatistics | None = None,
) -> Seen:
    """Read an open camera for a while, or until a frame is what was waited for.

    Raises
    ------
    CameraLostError
        If it goes away.
    """
    notes: list[FrameNote] = []
    rejected: Counter[str] = Counter()
    timeouts, since_kept = 0, _APART
    deadline_ns = clock.monotonic_ns() + round(duration_s * NS_PER_S)
    while clock.monotonic_ns() < deadline_ns:
        try:
            frame = camera.read(READ_S)
        except FrameTimeoutError:
            timeouts += 1
            continue
        except FrameRejectedError as error:
            rejected[error.reason] += 1
            continue
        notes.append(note_of(frame))
        since_kept += 1
        if pixels is not None and since_kept > _APART and not frame.flags & FrameFlag.SHUTTER:
            pixels.add(frame.celsius)
            since_kept = 0
        if until(frame):
            break
    return Seen(notes=tuple(notes), rejected=dict(rejected), timeouts=timeouts)
