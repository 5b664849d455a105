"""Reference patches in the scene: surfaces of known temperature that take the camera's drift out of each frame."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.behaviour import Polygon
from daemon.physiology import drift_celsius
from daemon.settings import ReferenceSettings
from daemon.vision.shape import Mask, grown
from drivers.clock import NS_PER_S
from drivers.frame import ThermalFrame
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from drivers.thermometry import Calibration

MOST_OFFSET_CELSIUS = 10.0
"""A patch that reads farther off than this is no patch: it was moved, or lies under bedding."""

MOST_SPREAD_CELSIUS = 0.5
"""Standard deviation of a patch's pixels above which something lies on it or its edge is in the polygon."""

CLEAR_OF_ANIMALS_PX = 3
"""A patch with an animal so near is not read: the lens's blur carries warmth over."""

HOLD_S = 600.0
"""For so long an offset holds while no patch can be read, as long as the calibration stays; its uncertainty grows."""

ProbeReading = Callable[[str, int], float | None]
"""What the contact probe of a topic says at a monotonic time, °C; None where it has said nothing for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """What is added to every reading of a frame."""

    celsius: float
    uncertainty: float
    """Standard uncertainty that takes the place of the drift's, °C."""


def no_probe(_topic: str, _monotonic_ns: int) -> None:
    """Where nothing is received."""


def polygon_mask(polygon: Polygon) -> Mask:
    """Pixels of the camera's picture whose centre lies in a polygon or on its edge, (192, 256) bool."""
    mask = np.zeros((IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8)
    cv2.fillPoly(mask, [np.round(np.asarray(polygon)).astype(np.int32)], 1)
    return mask > 0


def weighted_offset(differences: Sequence[tuple[float, float]]) -> Offset:
    """The offset that several patches give.

    Parameters
    ----------
    differences : sequence of (float, float)
        Known less read temperature of each patch that could be read, at least one, and its standard uncertainty, °C.

    Notes
    -----
    Mean weighted by 1/u², with u² = 1 / sum(1/u²).
    """
    weights = [1 / uncertainty**2 for _, uncertainty in differences]
    total = sum(weights)
    celsius = sum(weight * difference for weight, (difference, _) in zip(weights, differences, strict=True)) / total
    return Offset(celsius=celsius, uncertainty=math.sqrt(1 / total))


class References:
    """Reads the patches frame by frame; belongs to one thread.

    Parameters
    ----------
    settings : sequence of ReferenceSettings
        The patches; with none nothing is ever corrected.
    probe : callable
        What contact probes say.
    """

    def __init__(self, settings: Sequence[ReferenceSettings], probe: ProbeReading = no_probe) -> None:
        self._settings = settings
        masks = [polygon_mask(each.polygon) for each in settings]
        self._pixels = [np.flatnonzero(mask) for mask in masks]
        self._near = [np.flatnonzero(grown(mask, CLEAR_OF_ANIMALS_PX)) for mask in masks]
        self._probe = probe
        self._held: tuple[Offset, ThermalFrameTime] | None = None

    def offset(self, frame: ThermalFrame, instances: NDArray[np.uint8]) -> Offset | None:
        """What the patches say is to be added to this frame's degrees.

        Parameters
        ----------
        frame : ThermalFrame
            As the camera gives it.
        instances : (height, width) uint8
            Where the animals are: 0 background.

        Returns
        -------
        Offset or None
            None without patches, and where none can be read nor an earlier offset holds.
        """
        if not self._settings:
            return None
        readings = [
            (known - read, each.uncertainty_celsius)
            for each, pixels, near in zip(self._settings, self._pixels, self._near, strict=True)
            if (known := self._known(each, frame)) is not None
            and not instances.take(near).any()
            and (read := _reading(frame.celsius.take(pixels))) is not None
            and abs(known - read) <= MOST_OFFSET_CELSIUS
        ]
        now = ThermalFrameTime.of(frame)
        if readings:
            offset = weighted_offset(readings)
            self._held = offset, now
            return offset
        return self._still(now)

    def _known(self, reference: ReferenceSettings, frame: ThermalFrame) -> float | None:
        if reference.topic is None:
            return reference.celsius
        return self._probe(reference.topic, frame.captured_monotonic_ns)

    def _still(self, now: "ThermalFrameTime") -> Offset | None:
        if self._held is None:
            return None
        offset, then = self._held
        age_ns = now.monotonic_ns - then.monotonic_ns
        if then.calibration != now.calibration or not 0 <= age_ns <= HOLD_S * NS_PER_S:
            return None
        grown_by = drift_celsius(now.fpa_celsius, then.fpa_celsius)
        return Offset(celsius=offset.celsius, uncertainty=math.hypot(offset.uncertainty, grown_by))


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermalFrameTime:
    """What of a frame decides how long an offset holds."""

    monotonic_ns: int
    fpa_celsius: float
    calibration: Calibration

    @classmethod
    def of(cls, frame: ThermalFrame) -> "ThermalFrameTime":
        """Of this frame."""
        return cls(
            monotonic_ns=frame.captured_monotonic_ns,
            fpa_celsius=frame.metadata.fpa_celsius,
            calibration=frame.calibration,
        )


def _reading(celsius: NDArray[np.float32]) -> float | None:
    """Mean of a patch; None where a pixel has no temperature or they differ by more than a patch's do."""
    values = celsius.astype(np.float64)
    if not values.size or not np.isfinite(values).all() or float(values.std()) > MOST_SPREAD_CELSIUS:
        return None
    return float(values.mean())


def corrected(frame: ThermalFrame, offset: Offset | None) -> ThermalFrame:
    """The frame with the offset added to its degrees; the frame itself without one."""
    if offset is None:
        return frame
    return replace(frame, celsius=frame.celsius + np.float32(offset.celsius))
