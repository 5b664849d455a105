"""The T2S+ on the wire: a transfer and its metadata rows, the checks a transfer must pass, the command words.

Everything is little-endian. Offsets count bytes from the start of the metadata, which is the byte after the image.
Sources: public drivers for the InfiRay family (stawel/ht301_hacklib, diminDDL/IR-Py-Thermal, diminDDL/InfiCamPlus)
and the register and descriptor notes of zzh315/ThermalView; their numbers are facts of the device, the code is ours.
"""

import math
import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray

from drivers.errors import FrameRejectedError

IMAGE_HEIGHT = 192
IMAGE_WIDTH = 256
METADATA_ROWS = 4
TRANSFER_ROWS = IMAGE_HEIGHT + METADATA_ROWS
TRANSFER_BYTES = TRANSFER_ROWS * IMAGE_WIDTH * 2
FRAME_RATE_HZ = 25.0

COUNT_LEVELS = 16_384
"""Image words use 14 bits."""

NORMAL_RANGE_REFERENCE = 6000
"""cal_00 in the normal range (-20..120 °C); 2000 in the high one."""

KELVIN = 273.15

_METADATA_BYTES = METADATA_ROWS * IMAGE_WIDTH * 2

# FPA (detector) temperature of the 256-wide sensor: 20 °C at count 8617, 37.682 counts per °C, falling.
_FPA_COUNT_AT_20_C = 8617
_FPA_COUNTS_PER_C = 37.682

_ROW0 = struct.Struct("<17H")
_ROW0_STATISTICS = slice(4, 32)
_CONSTANTS = struct.Struct("<3H5f")
_ENVIRONMENT = struct.Struct("<5fH")
_CONSTANTS_OFFSET = 512
_FACTORY_ENVIRONMENT_OFFSET = 538
_FIRMWARE_OFFSET = 560
_SERIAL_OFFSET = 576
_PRODUCT_OFFSET = 592
_TEXT_BYTES = 16
_USER_AREA_OFFSET = 766
_PACKED_TEXT_OFFSET = 1024
_PACKED_TEXT_BYTES = 64
_SHUTTER_TRIM_OFFSET = 1119

# How far row 0 may be from the true mean of the picture.
_AVERAGE_TOLERANCE_COUNTS = 10

# A v2's shutter register is 12 bits: up to here it counts upwards from 0 °C, above it downwards from 4095.
_V2_SHUTTER_POSITIVE_MAX = 2048
_V2_SHUTTER_TOP = 4095
_V2_SHUTTER_CELSIUS_PER_COUNT = 0.0625
_V2_TRIM_CELSIUS_PER_COUNT = 0.1

# What a v2's shutter register holds between about -25 and 87 °C; a v1's kelvin x 10 are never there.
_V2_SHUTTER_WARM = range(1400)
_V2_SHUTTER_COLD = range(3700, _V2_SHUTTER_TOP + 1)

# Detector, shutter and housing of a camera that works are within these, °C.
_INSIDE_MIN_CELSIUS = -20
_INSIDE_MAX_CELSIUS = 80

_CONSTANT_A_MAX = 1e3  # real ones are 0.027 to 0.235


class Variant(StrEnum):
    """Two cameras under one name: `V1` corrects the picture itself, `V2` sends bare sensor counts."""

    V1 = "v1"
    V2 = "v2"


class RejectReason(StrEnum):
    """Why a transfer is not a good frame. The values are stable: they are counted, stored and published."""

    DAMAGED = "damaged"
    """The kernel says that a part of the transfer was lost on the bus."""
    LENGTH = "length"
    """Not 100,352 bytes: a short or truncated transfer."""
    OUTPUT_MODE = "output_mode"
    """A count above 14 bits: the camera is in another output mode, or the frame is shifted."""
    UNIFORM = "uniform"
    """All pixels equal, for instance all zero."""
    CONSTANTS = "constants"
    """Calibration constants are not finite or not positive."""
    FPA_TEMPERATURE = "fpa_temperature"
    SHUTTER_TEMPERATURE = "shutter_temperature"
    ENVIRONMENT = "environment"
    """Emissivity, humidity, reflected or air temperature cannot be."""
    STATISTICS = "statistics"
    """The statistics of row 0 are not those of the picture: parts of two frames."""
    CONSTANTS_CHANGED = "constants_changed"
    """The constants or the firmware text differ from those of the frames before: a torn metadata block."""
    TABLE = "table"
    """The table of temperatures does not rise with the count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What lies between surface and camera."""

    correction_celsius: float = 0.0
    """Added to every reading, °C."""
    reflected_celsius: float = 25.0
    """Mean temperature of what the surface mirrors, °C."""
    air_celsius: float = 25.0
    humidity: float = 0.45
    """Relative humidity, 0..1."""
    emissivity: float = 0.98
    """Of the surface, in (0, 1]."""
    distance_m: float = 1.0


_SCENE_CELSIUS = (-50.0, 400.0)

_ENVIRONMENT_LIMITS = {
    "correction_celsius": (-400.0, 400.0),  # the whole range of the camera: beyond it there is only damage
    "reflected_celsius": _SCENE_CELSIUS,
    "air_celsius": _SCENE_CELSIUS,
    "humidity": (0.0, 1.0),
    "emissivity": (0.0, 1.0),  # 0 itself is excluded: such a surface does not radiate
    "distance_m": (0.0, float(0xFFFF)),
}


def environment_fault(name: str, value: float) -> str | None:
    """What is wrong with the value of one field of an `Environment`; None when it can be true."""
    least, greatest = _ENVIRONMENT_LIMITS[name]
    if least <= value <= greatest and not (name == "emissivity" and value == 0):  # NaN fails the first comparison
        return None
    return f"{name} must be in {'(' if name == 'emissivity' else '['}{least:g}, {greatest:g}], got {value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Factory constants of the sensor, from metadata row 1."""

    reference_count: int
    """cal_00: 6000 in the normal range, 2000 in the high one."""
    a: float
    """cal_01"""
    b: float
    """cal_02"""
    ka: float
    """cal_03"""
    kb: float
    """cal_04"""
    kc: float
    """cal_05"""

    @property
    def high_range(self) -> bool:
        """Whether these belong to the range up to 400 °C."""
        return self.reference_count < (NORMAL_RANGE_REFERENCE + 2000) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Row 0 of a v1 camera: what the camera itself says of its picture. All zero on v2."""

    max_x: int = 0
    max_y: int = 0
    max_count: int = 0
    min_x: int = 0
    min_y: int = 0
    min_count: int = 0
    average_count: int = 0
    centre_count: int = 0
    """Pixel x = 128, y = 96."""
    user_counts: tuple[int, int, int] = (0, 0, 0)
    """At the three user points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The four metadata rows of a transfer, decoded."""

    variant: Variant
    fpa_average: int
    """Average of the detector, counts; on v2 the mean of the raw image."""
    fpa_raw: int
    """Detector temperature register."""
    statistics: Statistics
    row0_word16: int
    """Meaning unknown; non-zero and changing on v2."""
    shutter_raw: int
    """Shutter temperature register; its coding depends on the variant."""
    shutter_trim: int
    """v2: correction of the shutter temperature, 0.1 °C per count."""
    core_raw: int
    """Core (housing) temperature register; 0 on v2."""
    constants: Constants
    environment: Environment
    """The user area: what the host has written into the camera."""
    factory_environment: Environment
    """The second environment block."""
    firmware: str
    serial: str
    product: str

    @property
    def fpa_celsius(self) -> float:
        """Detector temperature, °C."""
        return fpa_celsius(self.fpa_raw)

    @property
    def shutter_celsius(self) -> float:
        """Shutter temperature, °C, with the trim of a v2."""
        return shutter_celsius(self.shutter_raw, self.shutter_trim, self.variant)

    @property
    def core_celsius(self) -> float | None:
        """Core temperature, °C; None on v2, which has no such register."""
        return None if self.variant is Variant.V2 else self.core_raw / 10 - KELVIN


def fpa_celsius(raw: int) -> float:
    """Detector temperature of the 256-wide sensor, °C."""
    return 20 - (raw - _FPA_COUNT_AT_20_C) / _FPA_COUNTS_PER_C


def fpa_raw(celsius: float) -> int:
    """The register value for a detector temperature: the inverse of `fpa_celsius`, rounded."""
    return round(_FPA_COUNT_AT_20_C - (celsius - 20) * _FPA_COUNTS_PER_C)


def shutter_celsius(raw: int, trim: int, variant: Variant) -> float:
    """Shutter temperature, °C: v1 sends kelvin x 10, v2 sixteenths of a degree (12 bits, signed) plus a trim."""
    if variant is Variant.V1:
        return raw / 10 - KELVIN
    steps = raw if raw <= _V2_SHUTTER_POSITIVE_MAX else raw - _V2_SHUTTER_TOP
    return steps * _V2_SHUTTER_CELSIUS_PER_COUNT + trim * _V2_TRIM_CELSIUS_PER_COUNT


def _text(block: bytes) -> str:
    return block.split(b"\0", 1)[0].decode("ascii", errors="replace").strip()


def _environment(block: bytes, offset: int) -> Environment:
    correction, reflected, air, humidity, emissivity, distance = _ENVIRONMENT.unpack_from(block, offset)
    return Environment(
        correction_celsius=correction,
        reflected_celsius=reflected,
        air_celsius=air,
        humidity=humidity,
        emissivity=emissivity,
        distance_m=float(distance),
    )


def _looks_like_v2(block: bytes, shutter: int, core: int) -> bool:
    return (
        core == 0 and not any(block[_ROW0_STATISTICS]) and (shutter in _V2_SHUTTER_WARM or shutter in _V2_SHUTTER_COLD)
    )


def transfer_from_bytes(payload: bytes) -> NDArray[np.uint16]:
    """Bytes off the wire as words: read-only, shape (196, 256), sharing the memory of `payload`.

    Raises
    ------
    FrameRejectedError
        If the length is not that of a transfer.
    """
    if len(payload) != TRANSFER_BYTES:
        raise FrameRejectedError(RejectReason.LENGTH, f"expected {TRANSFER_BYTES} bytes, got {len(payload)}")
    return np.frombuffer(payload, dtype="<u2").reshape(TRANSFER_ROWS, IMAGE_WIDTH)


def parse_metadata(transfer: NDArray[np.uint16]) -> Metadata:
    """Decode the metadata rows of a transfer; the values are not yet checked (see `check_transfer`)."""
    block = transfer[IMAGE_HEIGHT:].tobytes()
    fpa_average, fpa, *statistics, centre, user_0, user_1, user_2, word16 = _ROW0.unpack_from(block)
    max_x, max_y, max_count, min_x, min_y, min_count, average, *_unknown = statistics
    reference, shutter, core, a, b, ka, kb, kc = _CONSTANTS.unpack_from(block, _CONSTANTS_OFFSET)
    packed = block[_PACKED_TEXT_OFFSET : _PACKED_TEXT_OFFSET + _PACKED_TEXT_BYTES]
    # The serial in row 1 is blanked on a v2, so row 2 is preferred for it; the product is good in row 1.
    return Metadata(
        variant=Variant.V2 if _looks_like_v2(block, shutter, core) else Variant.V1,
        fpa_average=fpa_average,
        fpa_raw=fpa,
        statistics=Statistics(
            max_x=max_x,
            max_y=max_y,
            max_count=max_count,
            min_x=min_x,
            min_y=min_y,
            min_count=min_count,
            average_count=average,
            centre_count=centre,
            user_counts=(user_0, user_1, user_2),
        ),
        row0_word16=word16,
        shutter_raw=shutter,
        shutter_trim=struct.unpack_from("<b", block, _SHUTTER_TRIM_OFFSET)[0],
        core_raw=core,
        constants=Constants(reference_count=reference, a=a, b=b, ka=ka, kb=kb, kc=kc),
        environment=_environment(block, _USER_AREA_OFFSET),
        factory_environment=_environment(block, _FACTORY_ENVIRONMENT_OFFSET),
        firmware=_text(block[_FIRMWARE_OFFSET : _FIRMWARE_OFFSET + _TEXT_BYTES]),
        serial=_text(packed) or _text(block[_SERIAL_OFFSET : _SERIAL_OFFSET + _TEXT_BYTES]),
        product=_text(block[_PRODUCT_OFFSET : _PRODUCT_OFFSET + _TEXT_BYTES]),
    )


def check_transfer(transfer: NDArray[np.uint16], metadata: Metadata) -> None:
    """Refuse a transfer that is corrupt, torn, or in another output mode, by what it says of itself.

    What needs earlier frames (changed constants, repeated pictures) is `drivers.decoder`'s.

    Raises
    ------
    FrameRejectedError
        With the `RejectReason` of the first check that fails.
    """
    check_metadata(transfer, metadata, check_picture(transfer))


def check_picture(transfer: NDArray[np.uint16]) -> tuple[int, int]:
    """The part of `check_transfer` that needs no metadata; the highest and the lowest count."""
    image = transfer[:IMAGE_HEIGHT]
    highest, lowest = int(image.max()), int(image.min())
    if highest >= COUNT_LEVELS:
        raise FrameRejectedError(RejectReason.OUTPUT_MODE, f"counts must be below {COUNT_LEVELS}, got {highest}")
    if highest == lowest:
        raise FrameRejectedError(RejectReason.UNIFORM, f"every pixel is {highest}")
    return highest, lowest


def check_metadata(transfer: NDArray[np.uint16], metadata: Metadata, extremes: tuple[int, int]) -> None:
    """The rest of `check_transfer`, for a picture with these extremes."""
    _check_constants(metadata.constants, metadata.fpa_celsius)
    _check_temperatures(metadata)
    _check_environment(metadata.environment)
    if metadata.variant is Variant.V1:
        _check_statistics(transfer[:IMAGE_HEIGHT], metadata.statistics, *extremes)


def gain(constants: Constants, fpa: float) -> float:
    """G = ka*T_fpa^2 + kb*T_fpa + kc: the slope of signal against count at a detector temperature in °C."""
    return constants.ka * fpa**2 + constants.kb * fpa + constants.kc


def _check_constants(constants: Constants, fpa: float) -> None:
    values = (constants.a, constants.b, constants.ka, constants.kb, constants.kc)
    if not all(map(math.isfinite, values)) or not 0 < constants.a < _CONSTANT_A_MAX:
        raise FrameRejectedError(
            RejectReason.CONSTANTS, f"constants must be finite with 0 < a < {_CONSTANT_A_MAX:.0f}, got {constants}"
        )
    if constants.reference_count >= COUNT_LEVELS:
        raise FrameRejectedError(
            RejectReason.CONSTANTS, f"reference count must be below {COUNT_LEVELS}, got {constants.reference_count}"
        )
    if gain(constants, fpa) <= 0:
        raise FrameRejectedError(RejectReason.CONSTANTS, f"gain must be positive, got {gain(constants, fpa)}")


def _believable_inside(celsius: float) -> bool:
    return _INSIDE_MIN_CELSIUS <= celsius <= _INSIDE_MAX_CELSIUS


def _check_temperatures(metadata: Metadata) -> None:
    # In the high range the register decodes to about 70 °C or more and says nothing.
    if not metadata.constants.high_range and not _believable_inside(metadata.fpa_celsius):
        raise FrameRejectedError(
            RejectReason.FPA_TEMPERATURE, f"detector must be at -20..80 °C, got {metadata.fpa_celsius:.1f}"
        )
    core = metadata.core_celsius
    for name, celsius in (("shutter", metadata.shutter_celsius), ("core", core)):
        if celsius is not None and not _believable_inside(celsius):
            raise FrameRejectedError(
                RejectReason.SHUTTER_TEMPERATURE, f"{name} must be at -20..80 °C, got {celsius:.1f}"
            )


def _check_environment(environment: Environment) -> None:
    for name in _ENVIRONMENT_LIMITS:
        fault = environment_fault(name, getattr(environment, name))
        if fault:
            raise FrameRejectedError(RejectReason.ENVIRONMENT, f"user area: {fault}")


def _check_statistics(image: NDArray[np.uint16], statistics: Statistics, highest: int, lowest: int) -> None:
    for name, x, y, count, true_count in (
        ("maximum", statistics.max_x, statistics.max_y, statistics.max_count, highest),
        ("minimum", statistics.min_x, statistics.min_y, statistics.min_count, lowest),
    ):
        if count != true_count or x >= IMAGE_WIDTH or y >= IMAGE_HEIGHT or image[y, x] != count:
            raise FrameRejectedError(
                RejectReason.STATISTICS, f"row 0 says {name} {count} at ({x}, {y}), the picture has {true_count}"
            )
    mean = int(image.sum(dtype=np.uint32)) / image.size  # 14-bit counts: the sum stays below 2^32
    if abs(statistics.average_count - mean) > _AVERAGE_TOLERANCE_COUNTS:
        raise FrameRejectedError(
            RejectReason.STATISTICS, f"row 0 says average {statistics.average_count}, the picture has {mean:.1f}"
        )


def picture_statistics(image: NDArray[np.uint16], user_counts: tuple[int, int, int] = (0, 0, 0)) -> Statistics:
    """Row 0 as a v1 camera would fill it for this picture, shape (192, 256)."""
    hottest, coldest = int(image.argmax()), int(image.argmin())
    return Statistics(
        max_x=hottest % IMAGE_WIDTH,
        max_y=hottest // IMAGE_WIDTH,
        max_count=int(image.flat[hottest]),
        min_x=coldest % IMAGE_WIDTH,
        min_y=coldest // IMAGE_WIDTH,
        min_count=int(image.flat[coldest]),
        average_count=round(float(image.mean(dtype=np.float64))),
        centre_count=int(image[IMAGE_HEIGHT // 2, IMAGE_WIDTH // 2]),
        user_counts=user_counts,
    )


def build_transfer(image: NDArray[np.uint16], metadata: Metadata) -> NDArray[np.uint16]:
    """The transfer a camera would send for this picture: the inverse of `parse_metadata`.

    Parameters
    ----------
    image : (192, 256) uint16
        Counts, below 16384.
    metadata : Metadata
        Written as it is; `picture_statistics` makes the statistics that a v1 camera would send.

    Returns
    -------
    (196, 256) uint16

    Raises
    ------
    ValueError
        If a text is not ASCII or does not fit its field.
    """
    statistics = metadata.statistics
    block = bytearray(_METADATA_BYTES)
    _ROW0.pack_into(
        block,
        0,
        metadata.fpa_average,
        metadata.fpa_raw,
        statistics.max_x,
        statistics.max_y,
        statistics.max_count,
        statistics.min_x,
        statistics.min_y,
        statistics.min_count,
        statistics.average_count,
        0,
        0,
        0,
        statistics.centre_count,
        *statistics.user_counts,
        metadata.row0_word16,
    )
    constants = metadata.constants
    _CONSTANTS.pack_into(
        block,
        _CONSTANTS_OFFSET,
        constants.reference_count,
        metadata.shutter_raw,
        metadata.core_raw,
        constants.a,
        constants.b,
        constants.ka,
        constants.kb,
        constants.kc,
    )
    for offset, environment in (
        (_FACTORY_ENVIRONMENT_OFFSET, metadata.factory_environment),
        (_USER_AREA_OFFSET, metadata.environment),
    ):
        _ENVIRONMENT.pack_into(
            block,
            offset,
            environment.correction_celsius,
            environment.reflected_celsius,
            environment.air_celsius,
            environment.humidity,
            environment.emissivity,
            round(environment.distance_m),
        )
    for offset, text in (
        (_FIRMWARE_OFFSET, metadata.firmware),
        (_SERIAL_OFFSET, metadata.serial),
        (_PRODUCT_OFFSET, metadata.product),
    ):
        encoded = _encoded(text)
        block[offset : offset + len(encoded)] = encoded
    packed = b"%s\0%s\0" % (_encoded(metadata.serial), _encoded(metadata.product))
    block[_PACKED_TEXT_OFFSET : _PACKED_TEXT_OFFSET + len(packed)] = packed
    struct.pack_into("<b", block, _SHUTTER_TRIM_OFFSET, metadata.shutter_trim)
    transfer = np.empty((TRANSFER_ROWS, IMAGE_WIDTH), dtype=np.uint16)
    transfer[:IMAGE_HEIGHT] = image
    transfer[IMAGE_HEIGHT:] = np.frombuffer(block, dtype="<u2").reshape(METADATA_ROWS, IMAGE_WIDTH)
    return transfer


def _encoded(text: str) -> bytes:
    if not text.isascii() or len(text) > _TEXT_BYTES:
        raise ValueError(f"texts of the camera are at most {_TEXT_BYTES} ASCII characters, got {text!r}")
    return text.encode("ascii")


class Command(IntEnum):
    """Words written to the camera terminal's Zoom (Absolute) control."""

    SHUTTER = 0x8000
    """Close the shutter, calibrate the offset, reopen."""
    RADIOMETRIC = 0x8004
    """16-bit radiometric output: the mode to use, and the harmless word to end every batch with."""
    NORMAL_RANGE = 0x8020
    HIGH_RANGE = 0x8021
    GAIN_MAP = 0x8081
    """v2: send the per-pixel gain map in the video stream."""
    SAVE = 0x80FF
    """Store user area and output mode in non-volatile memory: only on the user's explicit request."""


class UserField(IntEnum):
    """First address of each value of the user area, written byte by byte."""

    CORRECTION = 0x00
    REFLECTED = 0x04
    AIR = 0x08
    HUMIDITY = 0x0C
    EMISSIVITY = 0x10
    DISTANCE = 0x14


_FIELD_NAMES = {
    UserField.CORRECTION: "correction_celsius",
    UserField.REFLECTED: "reflected_celsius",
    UserField.AIR: "air_celsius",
    UserField.HUMIDITY: "humidity",
    UserField.EMISSIVITY: "emissivity",
    UserField.DISTANCE: "distance_m",
}


def user_area_words(field: UserField, value: float) -> tuple[int, ...]:
    """Command words that write one value into the user area, in the order in which they must be sent.

    Parameters
    ----------
    field : UserField
        Where.
    value : float
        °C, a fraction, or for `DISTANCE` whole metres.

    Raises
    ------
    ValueError
        If the value cannot be true (frames with it in their user area would be refused), or the distance is not a
        whole number of metres.
    """
    fault = environment_fault(_FIELD_NAMES[field], value)
    if fault:
        raise ValueError(fault)
    if field is not UserField.DISTANCE:
        encoded = struct.pack("<f", value)
    elif value == int(value):
        encoded = struct.pack("<H", int(value))
    else:
        raise ValueError(f"the camera's distance is whole metres, got {value:g}; use the host's distance instead")
    return tuple((field + index) << 8 | byte for index, byte in enumerate(encoded))


def user_point_words(index: int, x: int, y: int) -> tuple[int, int]:
    """Command words that place one of the three user points.

    Raises
    ------
    ValueError
        If the point does not exist or lies outside the picture.
    """
    if index not in (0, 1, 2) or not 0 <= x < IMAGE_WIDTH or not 0 <= y < IMAGE_HEIGHT:
        raise ValueError(f"user point 0..2 inside {IMAGE_WIDTH} x {IMAGE_HEIGHT} expected, got {index} at ({x}, {y})")
    return 0xF000 + 0x400 * index + x, 0xF200 + 0x400 * index + y
