"""Pictures of a virtual camera whose detector is still warming up: those of the reel, moved as far as it has drifted.

A camera that is warm shows the reel as it is, with its detector at one temperature.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from drivers.nuc import GAIN_ONE
from drivers.sensor_model import DRIFT_CELSIUS_PER_CELSIUS, PATTERN_COUNTS_PER_CELSIUS, ShutterEvent, Warmth
from drivers.t2s_protocol import (
    COUNT_LEVELS,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    Metadata,
    build_transfer,
    fpa_raw,
    parse_metadata,
    picture_statistics,
)
from drivers.thermometry import OVER_RANGE_COUNT, Calibration, calibration_of, temperature_table
from drivers.virtual.reel import Reel, Words, blank_serial, raw_shutter_word

_STEP_CELSIUS = 0.005
"""The tables are made anew when the detector has moved so far: 6 mK of a reading."""

_SEED = 6
_COMFORTABLE_CELSIUS = 25.0


@dataclass(slots=True)
class _Move:
    """How the counts of the reel become those of a drifting camera, as long as it has moved so far."""

    key: tuple[object, int]
    counts: NDArray[np.int16]
    """For each count of the reel."""
    pattern: NDArray[np.int16]
    """To be added to the picture."""


class DriftingPictures:
    """Makes pictures of the reel look as a camera would send them that is not warm yet.

    Parameters
    ----------
    reel : Reel
        The pictures of a warm camera.
    """

    def __init__(self, reel: Reel) -> None:
        self._reel = reel
        self._processed = parse_metadata(reel.normal[0])
        self._raw = parse_metadata(reel.raw[0])
        self._celsius = temperature_table(calibration_of(self._processed)).astype(np.float64)
        shape = (IMAGE_HEIGHT, IMAGE_WIDTH)
        self._pattern = np.random.default_rng(_SEED).standard_normal(shape, dtype=np.float32)
        self._move: _Move | None = None
        alive = np.where(reel.gain == 0, GAIN_ONE, reel.gain)
        self._amplification = (GAIN_ONE / alive).astype(np.float32)

    def processed(self, number: int, powered_s: float, warmth: Warmth, event: ShutterEvent) -> Words:
        """The transfer of a v1: what has happened since the shutter event is in the picture.

        Parameters
        ----------
        number : int
            Of the picture; the reel goes round.
        powered_s : float
            Time of the picture since power-up.
        warmth : Warmth
            Of the camera.
        event : ShutterEvent
            The last one before the picture.
        """
        moved = warmth.fpa_celsius(powered_s) - warmth.fpa_celsius(event.powered_s)
        move = self._moved_by(event, event.calibration, moved)
        shown = self._reel.normal[number % len(self._reel.normal), :IMAGE_HEIGHT]
        counts = np.clip(move.counts[shown] + move.pattern, 0, OVER_RANGE_COUNT).astype(np.uint16)
        statistics = picture_statistics(counts)
        metadata = replace(
            self._processed,
            statistics=statistics,
            fpa_average=statistics.average_count,
            fpa_raw=fpa_raw(warmth.fpa_celsius(powered_s)),
            shutter_raw=event.shutter_raw,
            core_raw=warmth.core_raw(powered_s),
        )
        return build_transfer(counts, metadata)

    def raw(self, number: int, powered_s: float, warmth: Warmth, *, calibrated_s: float, closed: bool) -> Words:
        """The transfer of a v2: offset and shutter sensor move, and what the host last calibrated does not know of it.

        Parameters
        ----------
        number : int
            Of the picture; the reel goes round.
        powered_s : float
            Time of the picture since power-up.
        warmth : Warmth
            Of the camera.
        calibrated_s : float
            When its shutter last opened.
        closed : bool
            Whether the shutter is closed.
        """
        then = self._raw_metadata(warmth, calibrated_s)
        away = warmth.fpa_celsius(powered_s) - self._raw.fpa_celsius
        offset = self._reel.offset + np.float32(away) * (
            np.float32(_drift_counts_per_celsius(calibration_of(self._raw)))
            + np.float32(PATTERN_COUNTS_PER_CELSIUS) * self._pattern
        )
        if closed:
            blade = self._reel.raw_blade[number % len(self._reel.raw_blade), :IMAGE_HEIGHT]
            signal = blade.astype(np.float32) - self._reel.offset
        else:
            move = self._moved_by(then.shutter_raw, calibration_of(then), 0.0)
            shown = self._reel.normal[number % len(self._reel.normal), :IMAGE_HEIGHT]
            signal = (move.counts[shown] - np.float32(then.constants.reference_count)) * self._amplification
        counts = np.clip(np.rint(offset + signal), 0, COUNT_LEVELS - 1).astype(np.uint16)
        counts[self._reel.gain == 0] = 0
        now = replace(self._raw_metadata(warmth, powered_s), fpa_average=round(float(counts.mean())))
        return blank_serial(build_transfer(counts, now), now.serial)

    def _raw_metadata(self, warmth: Warmth, powered_s: float) -> Metadata:
        return replace(
            self._raw,
            fpa_raw=fpa_raw(warmth.fpa_celsius(powered_s)),
            shutter_raw=raw_shutter_word(warmth.shutter_celsius(powered_s)),
        )

    def _moved_by(self, since: object, calibration: Calibration, moved_celsius: float) -> _Move:
        """Counts under a calibration, of a scene that seems to be colder by as much as the detector has drifted."""
        key = since, round(moved_celsius / _STEP_CELSIUS)
        if self._move is None or self._move.key != key:
            table = temperature_table(calibration)
            first = int(np.argmax(np.isfinite(table)))
            apparent = np.nan_to_num(self._celsius, nan=-273.15) + DRIFT_CELSIUS_PER_CELSIUS * moved_celsius
            counts = np.interp(apparent, table[first:], np.arange(first, len(table)))
            pattern = np.rint(np.float32(PATTERN_COUNTS_PER_CELSIUS * moved_celsius) * self._pattern)
            self._move = _Move(key, np.rint(counts).astype(np.int16), pattern.astype(np.int16))
        return self._move


def _drift_counts_per_celsius(calibration: Calibration) -> float:
    """By how many counts a reading moves per degree of the detector, at a comfortable temperature."""
    table = temperature_table(calibration)
    first = int(np.argmax(np.isfinite(table)))
    at = first + int(np.searchsorted(table[first:], _COMFORTABLE_CELSIUS))
    return DRIFT_CELSIUS_PER_CELSIUS / float(table[at + 1] - table[at])
