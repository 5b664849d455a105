"""The pictures of a virtual T2S+, made beforehand by the simulator: an emulated processor could not make 25 a second.

They are shown in a circle. Besides the transfers of a v1 there are those that the same scene would give in the high
range, and from a v2 with its offset, gain and dead pixels, which the host must correct.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from drivers.clock import NS_PER_S, SimulatedClock
from drivers.frame import ThermalFrame
from drivers.nuc import GAIN_ONE
from drivers.sensor_model import NOISE_COUNTS
from drivers.simulated import SimulatedCamera, SimulatedDevice
from drivers.t2s_protocol import (
    COUNT_LEVELS,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    Constants,
    Metadata,
    Statistics,
    Variant,
    build_transfer,
    parse_metadata,
    picture_statistics,
)
from drivers.thermometry import calibration_of, temperature_table
from drivers.vivarium.truth import SceneFrame

PICTURES = 64
"""A little more than two and a half seconds."""
_BLADES = 16
SEED = 10
_START_UTC_NS = 1_770_000_000 * NS_PER_S

HIGH_RANGE_CONSTANTS = Constants(reference_count=2000, a=0.0338, b=1.6084, ka=-0.0002, kb=0.0299, kc=1.388)
_HIGH_RANGE_FPA_RAW = 6700
"""What a sibling of the T2S+ reports in the high range (zzh315/ThermalView)."""

_V2_WORD16 = 15_805
_V2_CELSIUS_PER_SHUTTER_COUNT = 0.0625
_SERIAL_AT = 576

_OFFSET_COUNTS = 5550
"""Mean of the shutter pictures of a real v2 (diminDDL/IR-Py-Thermal)."""
_OFFSET_PATTERN_COUNTS = 40.0
_OFFSET_BOWL_COUNTS = 120.0
_GAIN_SPREAD = 0.03
_DEAD_PIXELS = ((17, 40), (88, 131), (88, 132), (150, 9), (191, 255))
"""Row and column."""

Words = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One picture of the simulator with the truth about it."""

    frame: ThermalFrame
    truth: SceneFrame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reel:
    """Transfers, shape (pictures, 196, 256), and the gain map of the v2, shape (192, 256)."""

    normal: Words
    """Of a v1 in its normal range."""
    high: Words
    """Of a v1 in its high range."""
    blade: Words
    """Of a v1 at power-up: its closed shutter."""
    raw: Words
    """Of a v2."""
    raw_blade: Words
    """Of a v2 with its shutter closed."""
    gain: Words
    offset: NDArray[np.float32]
    """Counts of the closed shutter of the v2 without noise, shape (192, 256)."""

    def named(self, serial: str) -> Self:
        """The same pictures from a camera with another serial number, of up to 16 ASCII characters."""
        return replace(
            self,
            normal=_renamed(self.normal, serial),
            high=_renamed(self.high, serial),
            blade=_renamed(self.blade, serial),
            raw=_renamed(self.raw, serial),
            raw_blade=_renamed(self.raw_blade, serial),
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` has written."""
        with np.load(path) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def save(self, path: Path) -> None:
        """Write it as .npz."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})


_NAME_ROWS = (slice(576, 592), slice(1024, 1056))
"""Where serial number and product stand in the metadata, bytes."""


def _renamed(strip: Words, serial: str) -> Words:
    """All transfers of a strip with another serial number in their metadata."""
    renamed = strip.copy()
    metadata = replace(parse_metadata(strip[0]), serial=serial)
    wanted = build_transfer(strip[0, :IMAGE_HEIGHT], metadata)
    if metadata.variant is Variant.V2:
        wanted = blank_serial(wanted, serial)
    for place in _NAME_ROWS:
        words = slice(place.start // 2, place.stop // 2)
        renamed[:, IMAGE_HEIGHT:].reshape(len(strip), -1)[:, words] = wanted[IMAGE_HEIGHT:].reshape(-1)[words]
    return renamed


def shots(count: int = PICTURES, seed: int = SEED) -> Iterator[Shot]:
    """The pictures that a reel is made of: always the same ones for a seed."""
    clock = SimulatedClock(_START_UTC_NS)
    with SimulatedCamera.create(clock=clock, seed=seed, animals=2) as camera:
        for _ in range(count):
            frame = camera.read(1.0)
            yield Shot(frame=frame, truth=camera.truth(frame))


def render(seed: int = SEED) -> Reel:
    """Let the simulator make a reel; takes some seconds."""
    frames = [shot.frame for shot in shots(seed=seed)]
    rng = np.random.default_rng(seed)
    sensor = RawSensor(rng)
    return Reel(
        normal=np.stack([frame.transfer for frame in frames]),
        high=np.stack([_in_high_range(frame) for frame in frames]),
        blade=_power_up_blade(seed)[np.newaxis],
        raw=np.stack([sensor.transfer(frame) for frame in frames]),
        raw_blade=np.stack([sensor.blade(frames[0], rng) for _ in range(_BLADES)]),
        gain=sensor.gain,
        offset=sensor.offset.astype(np.float32),
    )


def _in_high_range(frame: ThermalFrame) -> Words:
    metadata = replace(frame.metadata, constants=HIGH_RANGE_CONSTANTS, fpa_raw=_HIGH_RANGE_FPA_RAW)
    counts = _counts_of(frame.celsius, metadata)
    statistics = picture_statistics(counts)
    return build_transfer(counts, replace(metadata, statistics=statistics, fpa_average=statistics.average_count))


def _counts_of(celsius: NDArray[np.float32], metadata: Metadata) -> Words:
    """The counts that mean these degrees under the constants and temperatures of the metadata."""
    table = temperature_table(calibration_of(metadata))
    first = int(np.argmax(np.isfinite(table)))
    counts = np.interp(celsius, table[first:], np.arange(first, len(table)))
    return np.rint(counts).astype(np.uint16)


def _power_up_blade(seed: int) -> Words:
    """What a cold v1 repeats until it has calibrated itself."""
    clock = SimulatedClock(_START_UTC_NS)
    device = SimulatedDevice(clock=clock, seed=seed, animals=0, warm=False)
    with SimulatedCamera(device, clock=clock) as camera:
        return camera.read(5.0).transfer


class RawSensor:
    """The bare sensor of a v2: counts with an offset and a gain of their own for every pixel.

    Parameters
    ----------
    rng : Generator
        Draws the patterns.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        shape = (IMAGE_HEIGHT, IMAGE_WIDTH)
        down, right = np.mgrid[-1 : 1 : IMAGE_HEIGHT * 1j, -1 : 1 : IMAGE_WIDTH * 1j]
        pattern = _OFFSET_PATTERN_COUNTS * rng.standard_normal(shape) + _OFFSET_BOWL_COUNTS * (down**2 + right**2)
        self.offset = np.rint(_OFFSET_COUNTS + pattern)
        """Counts of the closed shutter without noise, shape (192, 256)."""
        gain = np.rint(GAIN_ONE * (1 + _GAIN_SPREAD * rng.standard_normal(shape))).astype(np.uint16)
        for row, column in _DEAD_PIXELS:
            gain[row, column] = 0
        self.gain: Words = gain
        """Q14; 0 for dead pixels."""

    def transfer(self, frame: ThermalFrame) -> Words:
        """What the sensor sends of the scene that a v1 sees in a frame."""
        metadata = _raw_metadata(frame.metadata)
        signal = _counts_of(frame.celsius, metadata).astype(np.float64) - metadata.constants.reference_count
        return self._finish(signal * GAIN_ONE / np.where(self.gain == 0, GAIN_ONE, self.gain), metadata)

    def blade(self, frame: ThermalFrame, rng: np.random.Generator) -> Words:
        """What it sends of its closed shutter."""
        return self._finish(NOISE_COUNTS * rng.standard_normal(self.offset.shape), _raw_metadata(frame.metadata))

    def _finish(self, signal: NDArray[np.float64], metadata: Metadata) -> Words:
        counts = np.clip(np.rint(self.offset + signal), 0, COUNT_LEVELS - 1).astype(np.uint16)
        counts[self.gain == 0] = 0
        transfer = build_transfer(counts, replace(metadata, fpa_average=round(float(counts.mean()))))
        return blank_serial(transfer, metadata.serial)


def blank_serial(transfer: Words, serial: str) -> Words:
    """As a real v2 has done it in the first of the two places: all but the last character, in place."""
    block = transfer[IMAGE_HEIGHT:].reshape(-1).view(np.uint8)
    block[_SERIAL_AT : _SERIAL_AT + max(len(serial) - 1, 0)] = 0
    return transfer


def raw_shutter_word(celsius: float) -> int:
    """The shutter register of a v2."""
    return round(celsius / _V2_CELSIUS_PER_SHUTTER_COUNT)


def _raw_metadata(metadata: Metadata) -> Metadata:
    return replace(
        metadata,
        variant=Variant.V2,
        statistics=Statistics(),
        row0_word16=_V2_WORD16,
        shutter_raw=raw_shutter_word(metadata.shutter_celsius),
        core_raw=0,
    )
