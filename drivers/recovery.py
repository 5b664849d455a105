"""What to try, and when, with a camera that gives no good frames: a ladder of ever stronger means, climbed for ever.

Pure: it decides and counts; who owns the camera acts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
"""Between two attempts on a camera that is attached and gives nothing."""

HEALTHY_AFTER_S = 3.0
"""Good frames for so long, and the next trouble is a new one; a camera that gives one frame per attempt is not well."""


class Step(StrEnum):
    """One means. The values are stable: they are counted and shown."""

    RESTART_STREAM = "restart_stream"
    """Stop and start the stream of the open camera."""
    REOPEN = "reopen"
    """Close the camera and open it anew."""
    USB_RESET = "usb_reset"
    """Reset the device on its bus, then open it."""
    REAUTHORIZE = "reauthorize"
    """Take the device away from the kernel and give it back, then open it."""


@runtime_checkable
class Restartable(Protocol):
    """A camera whose stream can be started again without closing it."""

    def restart_stream(self) -> None:
        """Stop the stream and start it again; raises CameraError."""
        ...


class AttachedDevice(Protocol):
    """A camera as a device on a bus, whether it is open or not."""

    def presence(self) -> str | None:
        """Another text after every plug-in; None while it is not attached."""
        ...

    def usb_reset(self) -> None:
        """Reset it; raises CameraError."""
        ...

    def reauthorize(self) -> None:
        """Take it off the bus and back; raises CameraError."""
        ...


@runtime_checkable
class SelfReporting(Protocol):
    """A camera that has something to say to its user."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know now; empty when all is well."""
        ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """The next thing to do."""

    step: Step
    pause_s: float
    """Wait so long before it."""


ON_THE_BUS = (Step.RESTART_STREAM, Step.REOPEN, Step.REOPEN, Step.USB_RESET, Step.REAUTHORIZE)
"""The ladder of a camera that is a device. Opened twice, since one just plugged in may not have its video node yet."""

OPEN_ANEW = (Step.REOPEN,)
"""The ladder of what is no device: simulated and recorded cameras."""


class RecoveryLadder:
    """Says what to try next, from the first step to the last, and from then on the last ones in turn, ever more slowly.

    Parameters
    ----------
    steps : sequence of Step
        What is possible, weakest first.
    longest_pause_s : float
        Between two attempts.
    """

    def __init__(self, steps: Sequence[Step], *, longest_pause_s: float) -> None:
        if not steps or Step.REOPEN not in steps:
            raise ValueError(f"a ladder needs at least the step {Step.REOPEN}, got {list(steps)}")
        self._steps = tuple(steps)
        # Once all has been tried: the strong means in turn, each followed by the attempt to open.
        self._for_ever = tuple(step for step in dict.fromkeys(steps) if step is not Step.RESTART_STREAM)
        self._longest_pause_s = longest_pause_s
        self._tried = 0
        self._pause_s = FIRST_PAUSE_S
        self.counts: Counter[str] = Counter()
        """How often each step was taken since the start."""
        self.failures: Counter[str] = Counter()
        """How often a step could not be done."""
        self.current: Step | None = None
        """The last step taken; None while the camera is well."""

    @property
    def restart_is_next(self) -> bool:
        """Whether the stream of an open camera is to be restarted before anything else."""
        return self._at() is Step.RESTART_STREAM

    def next(self, *, attached: bool = True, open_now: bool = False) -> Attempt:
        """What to do about a camera that gives no good frames.

        Parameters
        ----------
        attached : bool
            It is on the bus; a camera that is not can only be waited for.
        open_now : bool
            It is open, so that its stream can be restarted.
        """
        step = self._choose(attached=attached, open_now=open_now)
        pause_s = 0.0 if step is Step.RESTART_STREAM else self._grown_pause_s()
        self.current = step
        self.counts[step] += 1
        return Attempt(step, pause_s)

    def failed(self, step: Step) -> None:
        """The step could not be done."""
        self.failures[step] += 1

    def found_anew(self) -> None:
        """The camera was plugged in: begin at the weakest means, without long pauses."""
        self._tried, self._pause_s = 0, FIRST_PAUSE_S

    def recovered(self) -> None:
        """The camera is well."""
        self.found_anew()
        self.current = None

    def _choose(self, *, attached: bool, open_now: bool) -> Step:
        if not attached:
            return Step.REOPEN
        if not open_now and self.restart_is_next:
            self._tried += 1  # there is no stream to restart
        step = self._at()
        self._tried += 1
        return step

    def _at(self) -> Step:
        if self._tried < len(self._steps):
            return self._steps[self._tried]
        return self._for_ever[(self._tried - len(self._steps)) % len(self._for_ever)]

    def _grown_pause_s(self) -> float:
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, self._longest_pause_s)
        return min(pause_s, self._longest_pause_s)
