"""Which picture a simulated camera shows in which of its frames: a function of what has happened to it so far.

Times are nanoseconds since the camera got power; frame k is due at k x 40 ms.
"""

import bisect
import threading
from dataclasses import dataclass, field

from drivers.clock import NS_PER_S
from drivers.sensor_model import ShutterEvent, Warmth
from drivers.t2s_protocol import FRAME_RATE_HZ

FRAME_PERIOD_NS = round(NS_PER_S / FRAME_RATE_HZ)

SHUTTER_FRAMES = 31
"""Equal frames in a row in a shutter event: 1.24 s."""
SHUTTER_DELAY_S = 0.1
"""From the command to the first of them."""

_POWER_UP_SILENT_S = 2.0
_POWER_UP_BLADE_S = 9.1
_POWER_UP_EVENTS_S = (9.15, 13.1, 37.0, 64.8)
"""A cold camera sends nothing, then one picture of its shutter, then calibrates itself at these times and never again.

Source: zzh315/ThermalView, docs/DEVICE.md, three power-ups of a sibling of the T2S+.
"""

_KEPT_HOLDS = 2000
"""Shutter events remembered: more than a week at one in 380 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """Frames from `first` to `last`."""

    first: int
    last: int

    def __contains__(self, frame: int) -> bool:
        return self.first <= frame <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hold(_Span):
    """The picture of the first frame is shown in all of them."""

    event: ShutterEvent | None
    """What the camera keeps of it when it is a shutter event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Late(_Span):
    """Frames that come late."""

    late_ns: int


@dataclass(slots=True, kw_only=True)
class Timeline:
    """The frames of a camera from one plug-in to the next."""

    number: int
    """Counts the plug-ins."""
    started_ns: int
    """Monotonic time of the plug-in."""
    warmth: Warmth
    unplugged: threading.Event = field(init=False, default_factory=threading.Event)
    """Set for ever when the camera loses power."""
    _blade_until: int = field(init=False, default=-1)
    _silent: list[_Span] = field(init=False, default_factory=list)
    _late: list[_Late] = field(init=False, default_factory=list)
    _holds: list[_Hold] = field(init=False, default_factory=list)

    def play_power_up(self) -> None:
        """Begin as a cold camera does."""
        first = frame_at(round(_POWER_UP_SILENT_S * NS_PER_S))
        self._silent.append(_Span(first=0, last=first - 1))
        self._blade_until = frame_at(round(_POWER_UP_BLADE_S * NS_PER_S)) - 1
        self._holds.append(_Hold(first=first, last=self._blade_until, event=None))
        for second in _POWER_UP_EVENTS_S:
            self._close_shutter(frame_at(round(second * NS_PER_S)))

    def close_shutter(self, now_ns: int) -> None:
        """A shutter event begins shortly after `now_ns` (monotonic); without effect while a picture is held."""
        self._close_shutter(self.next_due(now_ns + round(SHUTTER_DELAY_S * NS_PER_S)))

    def hold_picture(self, now_ns: int, duration_s: float) -> None:
        """The next frames all show the picture of the last one."""
        first = (now_ns - self.started_ns) // FRAME_PERIOD_NS
        self._add(_Hold(first=first, last=first + _frames_in(duration_s), event=None))

    def fall_silent(self, now_ns: int, duration_s: float) -> None:
        """The next frames are never sent."""
        first = self.next_due(now_ns)
        self._silent.append(_Span(first=first, last=first - 1 + _frames_in(duration_s)))

    def come_late(self, now_ns: int, frames: int, late_s: float) -> None:
        """The next frames are sent late; those that come due before the last of them has arrived are lost."""
        first = self.next_due(now_ns)
        late = _Late(first=first, last=first + frames - 1, late_ns=round(late_s * NS_PER_S))
        self._late.append(late)
        self._silent.append(_Span(first=late.last + 1, last=late.last + late.late_ns // FRAME_PERIOD_NS))

    def powered_s(self, frame: int) -> float:
        """When a frame's picture is taken, seconds since power-up."""
        return frame * FRAME_PERIOD_NS / NS_PER_S

    def arrival_ns(self, frame: int) -> int:
        """When a frame is complete at the host, monotonic."""
        late_ns = max((late.late_ns for late in self._late if frame in late), default=0)
        return self.started_ns + frame * FRAME_PERIOD_NS + late_ns

    def newest(self, now_ns: int) -> int | None:
        """The newest frame that has arrived; None before the first."""
        frame = (now_ns - self.started_ns) // FRAME_PERIOD_NS
        while frame >= 0:
            silence = self._silence_at(frame)
            if silence is not None:
                frame = silence.first - 1
            elif self.arrival_ns(frame) > now_ns:
                frame -= 1
            else:
                return frame
        return None

    def following(self, frame: int) -> int:
        """The first frame after this one that is sent at all."""
        frame += 1
        while (silence := self._silence_at(frame)) is not None:
            frame = silence.last + 1
        return frame

    def picture_of(self, frame: int) -> int:
        """The frame whose picture is shown in this one: itself, or the one that is held."""
        index = bisect.bisect_right(self._holds, frame, key=lambda hold: hold.first) - 1
        return self._holds[index].first if index >= 0 and frame in self._holds[index] else frame

    def shows_blade(self, picture: int) -> bool:
        """Whether the picture is that of the closed shutter, as at power-up."""
        return picture <= self._blade_until

    def last_event(self, picture: int) -> ShutterEvent:
        """The shutter event in force when a picture was taken."""
        for hold in reversed(self._holds):
            if hold.last < picture and hold.event is not None:
                return hold.event
        return ShutterEvent.at(0, 0.0, self.warmth)

    def next_due(self, now_ns: int) -> int:
        """The first frame due at `now_ns` (monotonic) or later, whether it is sent or not."""
        return frame_at(now_ns - self.started_ns)

    def _close_shutter(self, first: int) -> None:
        last = first + SHUTTER_FRAMES - 1
        number = 1 + max((hold.event.number for hold in self._holds if hold.event is not None), default=0)
        self._add(_Hold(first=first, last=last, event=ShutterEvent.at(number, self.powered_s(last + 1), self.warmth)))

    def _add(self, hold: _Hold) -> None:
        if any(hold.first <= other.last and other.first <= hold.last for other in self._holds):
            return
        bisect.insort(self._holds, hold, key=lambda other: other.first)
        del self._holds[:-_KEPT_HOLDS]

    def _silence_at(self, frame: int) -> _Span | None:
        return next((span for span in self._silent if frame in span), None)


def frame_at(powered_ns: int) -> int:
    """The first frame due at this time since power-up or later."""
    return -(-powered_ns // FRAME_PERIOD_NS)


def _frames_in(duration_s: float) -> int:
    return max(1, round(duration_s * FRAME_RATE_HZ))
