"""A T2S+ behind its lens: commands that act, and the picture it would send at a moment. It knows nothing of USB.

Times and effects of commands: zzh315/ThermalView (v1, measured on a sibling), diminDDL/InfiCamPlus (v2).
"""

import struct
import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from drivers.clock import NS_PER_S, Clock
from drivers.device_timeline import Timeline
from drivers.sensor_model import RISE_CELSIUS, Warmth
from drivers.t2s_protocol import (
    COUNT_LEVELS,
    FRAME_RATE_HZ,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    Command,
    Environment,
    Variant,
)
from drivers.virtual.drift import DriftingPictures
from drivers.virtual.reel import Reel

PICTURE_MARKER, GAIN_MARKER = 1, 2
"""What a v2 writes into byte 6 of a payload's header."""
PAYLOADS = 7
"""Of a v2, for each frame."""

_YUV_OUTPUT = 0x8005
_USER_AREA_WORDS = range(0x0000, 0x1600)
_USER_AREA = struct.Struct("<5fH")
_USER_AREA_AT = IMAGE_HEIGHT * 512 + 766
_POINTS = (0xF000, 0xF400, 0xF800)
"""The words that set x of the three user points; y is set by those 0x200 above."""
_POINT_Y = 0x200
_POINT_COUNTS_AT = IMAGE_HEIGHT * 512 + 26
_SHORT_BYTES = 512
"""One malformed frame follows a command for the range."""
_CLOSED_FROM_S, _CLOSED_UNTIL_S = 0.3, 0.9
"""v2: when the shutter is closed after the command."""
_COMMANDS_KEPT = 1000


class Mode(StrEnum):
    """What the image words mean."""

    RADIOMETRIC = "radiometric"
    YUV = "yuv"


class PictureFault(StrEnum):
    """Damage that the transport does not notice."""

    ZERO = "zero"
    """Nothing but zeros."""
    TORN = "torn"
    """The lower half is that of an older picture."""
    YUV = "yuv"
    """Words above 14 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One frame as it leaves the camera."""

    data: bytes
    markers: tuple[int, ...]
    """v2: what each of its payloads is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A command word and when it came, monotonic."""

    word: int
    at_ns: int


class VirtualT2S:
    """One camera; frames are asked for by one thread, commands come from another.

    Parameters
    ----------
    reel : Reel
        Its pictures.
    variant : Variant
        Which of the two kinds it is.
    clock : Clock
        What it runs on.
    """

    def __init__(self, reel: Reel, *, variant: Variant, clock: Clock) -> None:
        self._reel = reel
        self._variant = variant
        self._clock = clock
        self._drifting = DriftingPictures(reel)
        self._lock = threading.Lock()
        self._plugged = 0
        self._rate_hz = FRAME_RATE_HZ
        self._words: deque[Received] = deque(maxlen=_COMMANDS_KEPT)
        self._faults: deque[PictureFault] = deque()
        self.power_up(cold=False)

    def power_up(self, *, cold: bool) -> None:
        """Begin anew, as after a plug-in: user area, mode and range are back to what was stored.

        Parameters
        ----------
        cold : bool
            It was off for long: a v1 is silent and calibrates itself, and the detector of either warms up from the
            temperature of the room, which moves its readings. A warm one stands at one temperature.
        """
        with self._lock:
            self._plugged += 1
            warmth = Warmth(start_rise_celsius=0.0 if cold else RISE_CELSIUS)
            self._timeline = Timeline(number=self._plugged, started_ns=self._clock.monotonic_ns(), warmth=warmth)
            self._warming_up = cold
            if cold and self._variant is Variant.V1:
                self._timeline.play_power_up()
            self._mode = Mode.YUV
            self._high_range = self._needs_shutter = False
            self._short_next = False
            self._gain_rows_left = 0
            self._closed: tuple[int, int] = (0, 0)
            stored = Environment(distance_m=0.0 if self._variant is Variant.V1 else 1.0)
            self._user_area = bytearray(_packed(stored))
            self._points: list[list[int | None]] = [[None, None] for _ in _POINTS]

    @property
    def words(self) -> tuple[Received, ...]:
        """Command words, oldest first."""
        with self._lock:
            return tuple(self._words)

    def state(self) -> dict[str, object]:
        """For the operator."""
        with self._lock:
            powered_s = (self._clock.monotonic_ns() - self._timeline.started_ns) / NS_PER_S
            warmth = self._timeline.warmth
            return {
                "mode": self._mode,
                "high_range": self._high_range,
                "user_area": self._user_area.hex(),
                "user_points": self._points,
                "rate_hz": self._rate_hz,
                "fpa_celsius": round(warmth.fpa_celsius(powered_s), 3) if self._warming_up else None,
            }

    def set_rate(self, rate_hz: float) -> None:
        """Send only some of the frames, evenly; the rate of a real one by default.

        Raises
        ------
        ValueError
            If it is not above 0 and at most 25.
        """
        if not 0 < rate_hz <= FRAME_RATE_HZ:
            raise ValueError(f"the rate must be above 0 and at most {FRAME_RATE_HZ:g}, got {rate_hz:g}")
        with self._lock:
            self._rate_hz = rate_hz

    def disturb(self, fault: PictureFault, frames: int) -> None:
        """Damage the next frames."""
        with self._lock:
            self._faults.extend([fault] * frames)

    def hold_picture(self, duration_s: float) -> None:
        """Repeat one picture for a while, without a shutter event."""
        with self._lock:
            self._timeline.hold_picture(self._clock.monotonic_ns(), duration_s)

    def command(self, word: int) -> None:
        """Take one command word."""
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            self._words.append(Received(word=word, at_ns=now_ns))
            if word == Command.SHUTTER:
                self._close_shutter(now_ns)
            elif word in (Command.RADIOMETRIC, _YUV_OUTPUT):
                self._mode = Mode.RADIOMETRIC if word == Command.RADIOMETRIC else Mode.YUV
            elif word in (Command.NORMAL_RANGE, Command.HIGH_RANGE) and self._variant is Variant.V1:
                self._switch_range(word == Command.HIGH_RANGE)
            elif word == Command.GAIN_MAP and self._variant is Variant.V2:
                self._gain_rows_left = IMAGE_HEIGHT
            elif word in _USER_AREA_WORDS and self._variant is Variant.V1:
                self._user_area[word >> 8] = word & 0xFF
            elif self._variant is Variant.V1:
                self._set_point(word)

    def first_frame(self) -> int:
        """Number of the first frame of a stream that begins now."""
        with self._lock:
            return self._timeline.next_due(self._clock.monotonic_ns())

    def following(self, frame: int) -> tuple[int, int]:
        """The first frame after this one that is sent at all, and when (monotonic)."""
        with self._lock:
            following = self._timeline.following(frame)
            while not self._is_sent(following):
                following = self._timeline.following(following)
            return following, self._timeline.arrival_ns(following)

    def picture(self, frame: int) -> Picture:
        """What is sent as this frame."""
        with self._lock:
            data = bytearray(self._words_of(frame).astype("<u2", copy=False).tobytes())
            if self._variant is Variant.V1:
                data[_USER_AREA_AT : _USER_AREA_AT + len(self._user_area)] = self._user_area
                self._fill_in_points(data)
            markers = self._mix_in_gain_rows(data)
            if self._short_next:
                self._short_next = False
                del data[_SHORT_BYTES:]
            return Picture(data=bytes(data), markers=markers)

    def _is_sent(self, frame: int) -> bool:
        share = self._rate_hz / FRAME_RATE_HZ
        return int(frame * share) != int((frame - 1) * share)

    def _set_point(self, word: int) -> None:
        """Take half of a user point; it shows once both are known."""
        for number, base in enumerate(_POINTS):
            if base <= word < base + IMAGE_WIDTH:
                self._points[number][0] = word - base
            elif base + _POINT_Y <= word < base + _POINT_Y + IMAGE_HEIGHT:
                self._points[number][1] = word - base - _POINT_Y

    def _fill_in_points(self, data: bytearray) -> None:
        """Row 0 has the counts at the user points."""
        for number, (x, y) in enumerate(self._points):
            if x is not None and y is not None:
                at, to = 2 * (y * IMAGE_WIDTH + x), _POINT_COUNTS_AT + 2 * number
                data[to : to + 2] = data[at : at + 2]

    def _close_shutter(self, now_ns: int) -> None:
        self._needs_shutter = False
        if self._variant is Variant.V1:
            self._timeline.close_shutter(now_ns)
            return
        opens_ns = now_ns + round(_CLOSED_UNTIL_S * NS_PER_S)
        closes_ns = now_ns + round(_CLOSED_FROM_S * NS_PER_S)
        still_closed = closes_ns <= self._closed[1]  # sent again and again it stays closed
        self._closed = (self._closed[0] if still_closed else closes_ns, opens_ns)

    def _switch_range(self, high: bool) -> None:
        self._needs_shutter = self._high_range and not high
        self._high_range = high
        self._short_next = True

    def _words_of(self, frame: int) -> NDArray[np.uint16]:
        number = self._timeline.picture_of(frame)
        fault = self._faults.popleft() if self._faults else None
        transfer = self._transfer(frame, number)
        if fault is PictureFault.ZERO or self._needs_shutter:
            return np.zeros_like(transfer)
        if fault is PictureFault.TORN:
            transfer = transfer.copy()
            older = self._transfer(frame, number - len(self._reel.normal) // 2)
            transfer[IMAGE_HEIGHT // 2 : IMAGE_HEIGHT] = older[IMAGE_HEIGHT // 2 : IMAGE_HEIGHT]
        if fault is PictureFault.YUV or self._mode is Mode.YUV:
            transfer = transfer.copy()
            transfer[:IMAGE_HEIGHT] |= COUNT_LEVELS
        return transfer

    def _transfer(self, frame: int, number: int) -> NDArray[np.uint16]:
        reel, timeline = self._reel, self._timeline
        closed = self._closed[0] <= timeline.arrival_ns(frame) < self._closed[1]
        if timeline.shows_blade(number):
            strip = reel.blade
        elif self._high_range:
            strip = reel.high  # at one temperature of the detector, warm or cold
        elif self._warming_up:
            return self._drifted(number, closed=closed)
        elif self._variant is Variant.V2:
            strip = reel.raw_blade if closed else reel.raw
        else:
            strip = reel.normal
        shown: NDArray[np.uint16] = strip[number % len(strip)]
        return shown

    def _drifted(self, number: int, *, closed: bool) -> NDArray[np.uint16]:
        timeline = self._timeline
        powered_s, warmth = timeline.powered_s(number), timeline.warmth
        if self._variant is Variant.V1:
            return self._drifting.processed(number, powered_s, warmth, timeline.last_event(number))
        opened_s = max(self._closed[1] - timeline.started_ns, 0) / NS_PER_S
        return self._drifting.raw(number, powered_s, warmth, calibrated_s=min(opened_s, powered_s), closed=closed)

    def _mix_in_gain_rows(self, data: bytearray) -> tuple[int, ...]:
        """Rows of the gain map in place of the first payloads' content, as long as there are any left."""
        rows = min(self._gain_rows_left, PAYLOADS)
        size = len(data) // PAYLOADS
        for payload in range(rows):
            row = self._reel.gain[IMAGE_HEIGHT - self._gain_rows_left].astype("<u2", copy=False).tobytes()
            data[payload * size : payload * size + len(row)] = row
            self._gain_rows_left -= 1
        return (GAIN_MARKER,) * rows + (PICTURE_MARKER,) * (PAYLOADS - rows)


def _packed(environment: Environment) -> bytes:
    return _USER_AREA.pack(
        environment.correction_celsius,
        environment.reflected_celsius,
        environment.air_celsius,
        environment.humidity,
        environment.emissivity,
        round(environment.distance_m),
    )
