"""What lies between a scene and the bytes of a T2S+: detector warmth, drift, noise, metadata rows.

The camera that is modelled is a v1, which corrects its picture itself. Its constants, noise, drift and times are those
measured on a sibling of the T2S+ (zzh315/ThermalView, docs/DEVICE.md); each number stands with its own note.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.t2s_protocol import (
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    KELVIN,
    NORMAL_RANGE_REFERENCE,
    Constants,
    Environment,
    Metadata,
    Variant,
    build_transfer,
    fpa_celsius,
    fpa_raw,
    picture_statistics,
)
from drivers.thermometry import OVER_RANGE_COUNT, Calibration, temperature_table

PRODUCT = "T2S+"
FIRMWARE = "1.00.simulated"

CONSTANTS = Constants(reference_count=NORMAL_RANGE_REFERENCE, a=0.2333, b=27.867, ka=4e-5, kb=0.0053, kc=0.5351)
ENVIRONMENT = Environment()

ROOM_CELSIUS = 22.0
RISE_CELSIUS = 12.0
"""The detector ends 11 to 13 °C above the room."""

_WARM_UP_S = 600.0
"""Time constant with which it gets there (20 to 30 minutes until it stands)."""
_WANDER_CELSIUS = 0.03
_WANDER_PERIOD_S = 1700.0
_SHUTTER_SHARE = 0.75
_CORE_SHARE = 0.85
"""Shutter and housing rise less than the detector."""

DRIFT_CELSIUS_PER_CELSIUS = -1.2
"""Change of a reading per degree of the detector since the last shutter event."""

NOISE_COUNTS = 1.25
"""Temporal noise of one pixel, rms; about 25 mK."""
_NOISE_MEMORY = 0.4
"""Share of the noise that comes from the frame before: the camera filters a little in time."""
PATTERN_COUNTS_PER_CELSIUS = 2.0
"""Fixed pattern that grows with the detector's temperature since the last shutter event, rms."""
_OFFSET_ERROR_COUNTS = 0.4
"""Fixed pattern that each shutter event leaves behind, rms: the shutter picture is noisy, too."""

_NOISE, _PATTERN, _OFFSET = range(3)
_SEED_FLOOR = 1_000_000  # seeds are not negative, numbers of frames before the plug-in are


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmth:
    """Temperatures inside the camera as a function of the time since it got power."""

    start_rise_celsius: float
    """How far the detector was above the room at power-up; `RISE_CELSIUS` for a warm camera."""

    def rise_celsius(self, powered_s: float) -> float:
        """How far the detector is above the room."""
        missing = (RISE_CELSIUS - self.start_rise_celsius) * math.exp(-max(powered_s, 0.0) / _WARM_UP_S)
        return RISE_CELSIUS - missing + _WANDER_CELSIUS * math.sin(2 * math.pi * powered_s / _WANDER_PERIOD_S)

    def rise_after_pause(self, powered_s: float, pause_s: float) -> float:
        """How far it still is above the room after `powered_s` with power and then `pause_s` without."""
        return self.rise_celsius(powered_s) * math.exp(-pause_s / _WARM_UP_S)

    def fpa_celsius(self, powered_s: float) -> float:
        """Detector temperature."""
        return ROOM_CELSIUS + self.rise_celsius(powered_s)

    def shutter_celsius(self, powered_s: float) -> float:
        """Temperature of the shutter's blade."""
        return ROOM_CELSIUS + _SHUTTER_SHARE * self.rise_celsius(powered_s)

    def core_celsius(self, powered_s: float) -> float:
        """Temperature of the housing."""
        return ROOM_CELSIUS + _CORE_SHARE * self.rise_celsius(powered_s)

    def core_raw(self, powered_s: float) -> int:
        """The housing's register, kelvin x 10."""
        return _kelvin_tenths(self.core_celsius(powered_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutterEvent:
    """What the camera has kept of a shutter event."""

    number: int
    """Counts the events of one camera since it got power; 0 is the power-up itself."""
    powered_s: float
    """When, in seconds since power-up: at the first picture after it."""
    fpa_celsius: float
    """Detector temperature then, as its register says it."""
    shutter_raw: int
    """Shutter register, kelvin x 10."""

    @classmethod
    def at(cls, number: int, powered_s: float, warmth: Warmth) -> "ShutterEvent":
        """The event with the registers as they stand at this moment."""
        return cls(
            number=number,
            powered_s=powered_s,
            fpa_celsius=fpa_celsius(fpa_raw(warmth.fpa_celsius(powered_s))),
            shutter_raw=_kelvin_tenths(warmth.shutter_celsius(powered_s)),
        )

    @property
    def calibration(self) -> Calibration:
        """What fixes the table from degrees to counts until the next event."""
        return Calibration(
            constants=CONSTANTS,
            shutter_celsius=self.shutter_raw / 10 - KELVIN,
            fpa_celsius=self.fpa_celsius,
            environment=ENVIRONMENT,
        )


class SensorModel:
    """Turns pictures in degrees into transfers; the same seed and frame number give the same bytes.

    Parameters
    ----------
    seed : int
        Of noise and fixed pattern.
    serial : str
        Up to 16 ASCII characters.
    """

    def __init__(self, seed: int, serial: str) -> None:
        self._seed = seed
        self._serial = serial
        self._pattern = self._normal(_PATTERN, 0)
        self._white_of = -1, self._normal(_NOISE, -1)
        self._event: ShutterEvent | None = None
        self._celsius = self._counts = np.empty(0)
        self._offset = np.empty(0, np.float32)

    def transfer(
        self, celsius: NDArray[np.float32], frame: int, powered_s: float, warmth: Warmth, event: ShutterEvent
    ) -> NDArray[np.uint16]:
        """The transfer the camera sends for a picture.

        Parameters
        ----------
        celsius : (192, 256) float32
            Surface temperature behind the lens.
        frame : int
            Number that fixes the noise; neighbours are a little correlated.
        powered_s : float
            Time of the picture since power-up.
        warmth : Warmth
            Of the camera.
        event : ShutterEvent
            The last one before this picture.

        Returns
        -------
        (196, 256) uint16
        """
        self._take(event)
        moved = warmth.fpa_celsius(powered_s) - warmth.fpa_celsius(event.powered_s)
        apparent = celsius + np.float32(DRIFT_CELSIUS_PER_CELSIUS * moved)
        counts = np.interp(apparent, self._celsius, self._counts).astype(np.float32)
        counts += self._offset + np.float32(PATTERN_COUNTS_PER_CELSIUS * moved) * self._pattern + self._noise(frame)
        image = np.clip(np.rint(counts), self._counts[0], OVER_RANGE_COUNT).astype(np.uint16)
        return build_transfer(image, self._metadata(image, powered_s, warmth, event))

    def _take(self, event: ShutterEvent) -> None:
        """Make the table and the residual pattern that hold since a shutter event."""
        if event == self._event:
            return
        table = temperature_table(event.calibration)
        first = int(np.argmax(np.isfinite(table)))
        self._celsius = table[first:].astype(np.float64)
        self._counts = np.arange(first, len(table), dtype=np.float64)
        self._offset = np.float32(_OFFSET_ERROR_COUNTS) * self._normal(_OFFSET, event.number)
        self._event = event

    def _noise(self, frame: int) -> NDArray[np.float32]:
        """Temporal noise of a frame in counts: its own share and one that it has in common with the frame before."""
        known, before = self._white_of
        if known != frame - 1:
            before = self._normal(_NOISE, frame - 1)
        own = self._normal(_NOISE, frame)
        self._white_of = frame, own
        return np.float32(NOISE_COUNTS) * (
            np.float32(math.sqrt(1 - _NOISE_MEMORY**2)) * own + np.float32(_NOISE_MEMORY) * before
        )

    def _normal(self, purpose: int, number: int) -> NDArray[np.float32]:
        rng = np.random.default_rng((self._seed, purpose, _SEED_FLOOR + number))
        return rng.standard_normal((IMAGE_HEIGHT, IMAGE_WIDTH), dtype=np.float32)

    def _metadata(self, image: NDArray[np.uint16], powered_s: float, warmth: Warmth, event: ShutterEvent) -> Metadata:
        statistics = picture_statistics(image)
        return Metadata(
            variant=Variant.V1,
            fpa_average=statistics.average_count,
            fpa_raw=fpa_raw(warmth.fpa_celsius(powered_s)),
            statistics=statistics,
            row0_word16=0,
            shutter_raw=event.shutter_raw,
            shutter_trim=0,
            core_raw=warmth.core_raw(powered_s),
            constants=CONSTANTS,
            environment=ENVIRONMENT,
            factory_environment=ENVIRONMENT,
            firmware=FIRMWARE,
            serial=self._serial,
            product=PRODUCT,
        )


def _kelvin_tenths(celsius: float) -> int:
    return round((celsius + KELVIN) * 10)
