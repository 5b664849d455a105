"""Which commands a camera is given after its stream was opened, and when: a pure function of time and frames.

Source: the sequences of the public drivers side by side (the vendor's demo, InfiCam, zzh315/ThermalView); the longest
delays of them are taken.
"""

from enum import StrEnum

from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag, ThermalFrame
from drivers.t2s_protocol import Command

REPEAT_MODE_AFTER_S = 0.3
"""The output mode is asked for before the stream begins, and once more so long after."""

GOOD_FRAMES = 3
"""Fresh good frames before the camera is believed to be in the right mode."""

RANGE_PAUSE_S = 0.5
"""From the command for the range to that for the shutter."""


class Stage(StrEnum):
    """How far the start-up has come."""

    OPENED = "opened"
    """Asked for 16-bit output; the first frames may be in another mode."""
    AWAITING_FRAMES = "awaiting_frames"
    RANGE_SET = "range_set"
    """Before the first shutter cycle in this range."""
    READY = "ready"


class StartUp:
    """The start-up of one stream.

    Parameters
    ----------
    high_range : bool
        Up to 400 °C instead of 120 °C.
    """

    def __init__(self, *, high_range: bool) -> None:
        self._range_word = Command.HIGH_RANGE if high_range else Command.NORMAL_RANGE
        self.stage = Stage.OPENED
        self._since_ns = 0
        self._good = 0
        self.powering_up = False
        """The stream opened with a repeated picture: the camera calibrates itself and needs no command for it."""

    def begin(self, now_ns: int) -> tuple[int, ...]:
        """What to send before the stream starts; also when it is started anew."""
        self._enter(Stage.OPENED, now_ns)
        self._good, self.powering_up = 0, False
        return (Command.RADIOMETRIC,)

    def switch_range(self, now_ns: int, *, high_range: bool) -> tuple[int, ...]:
        """What to send for another temperature range; a shutter cycle follows."""
        self._range_word = Command.HIGH_RANGE if high_range else Command.NORMAL_RANGE
        if self.stage in (Stage.OPENED, Stage.AWAITING_FRAMES):
            return ()  # it is sent in its turn
        self.powering_up = False
        self._enter(Stage.RANGE_SET, now_ns)
        return (self._range_word,)

    def advance(self, now_ns: int, frame: ThermalFrame | None) -> tuple[int, ...]:
        """What to send now.

        Parameters
        ----------
        now_ns : int
            Monotonic time.
        frame : ThermalFrame, optional
            The good frame that has just come; None when time has passed without one.
        """
        if self.stage is Stage.OPENED and self._passed_s(now_ns) >= REPEAT_MODE_AFTER_S:
            self._enter(Stage.AWAITING_FRAMES, now_ns)
            return (Command.RADIOMETRIC,)
        if self.stage is Stage.AWAITING_FRAMES and self._enough(frame):
            self._enter(Stage.RANGE_SET, now_ns)
            return (self._range_word,)
        if self.stage is Stage.RANGE_SET and self._passed_s(now_ns) >= RANGE_PAUSE_S:
            self._enter(Stage.READY, now_ns)
            return () if self.powering_up else (Command.SHUTTER,)
        return ()

    def _enough(self, frame: ThermalFrame | None) -> bool:
        if frame is None:
            return False
        if frame.flags & FrameFlag.SHUTTER:
            self._good, self.powering_up = 0, True
            return False
        self._good += 1
        return self._good >= GOOD_FRAMES

    def _enter(self, stage: Stage, now_ns: int) -> None:
        self.stage, self._since_ns = stage, now_ns

    def _passed_s(self, now_ns: int) -> float:
        return (now_ns - self._since_ns) / NS_PER_S
