"""When to ask for a shutter cycle, and where to put the second and a half without a picture that it costs."""

from collections.abc import Callable

from daemon.sampling import Sampler
from drivers.clock import NS_PER_S
from drivers.decoder import DRIFT_LIMIT_CELSIUS
from drivers.frame import ThermalFrame

MIN_RECALIBRATION_INTERVAL_S = 15.0
"""Shutter cycles closer together warm the blade and make readings worse."""

FREEZE_S = 1.5
"""From the command to the next fresh picture: 1.35 s of a v1, 1.2 s of a v2, and some time on the way."""

PLACEMENT_PATIENCE_S = 10.0
"""How long a cycle that is due waits for a moment at which it costs nothing."""

NextBlock = Callable[[int], int | None]
"""Start of the next block after a wall time, both in UTC nanoseconds; None when there is none."""


class RecalibrationPolicy:
    """When to ask for a shutter cycle: by drift of the detector and by age, never twice in quick succession.

    Within a block it waits for the age alone to double before it interrupts, but drift is corrected at once:
    readings move by about 1.2 °C per °C of the detector.
    """

    def __init__(self, *, after_s: float) -> None:
        self._after_s = after_s
        self.last_ns: int | None = None
        """Monotonic time of the frame at which a cycle was last asked for, or of the first frame."""
        self._due_since_ns: int | None = None

    def due(self, frame: ThermalFrame, *, in_block: bool) -> bool:
        """Whether to calibrate, as soon as it can be done without harm."""
        now_ns = frame.captured_monotonic_ns
        if self.last_ns is None:
            self.last_ns = now_ns
        age_s = (now_ns - self.last_ns) / NS_PER_S
        drifted = abs(frame.metadata.fpa_celsius - frame.calibration.fpa_celsius) > DRIFT_LIMIT_CELSIUS
        old = age_s >= self._after_s * (2 if in_block else 1)
        if not (old or (drifted and age_s >= MIN_RECALIBRATION_INTERVAL_S)):
            self._due_since_ns = None
            return False
        if self._due_since_ns is None:
            self._due_since_ns = now_ns
        return True

    def out_of_patience(self, now_ns: int) -> bool:
        """Whether a cycle that is due has waited long enough for a better moment."""
        return self._due_since_ns is not None and now_ns - self._due_since_ns >= PLACEMENT_PATIENCE_S * NS_PER_S

    def calibrated(self, now_ns: int) -> None:
        """A cycle was asked for."""
        self.last_ns, self._due_since_ns = now_ns, None


def costs_nothing(frame: ThermalFrame, sampler: Sampler, next_block: NextBlock) -> bool:
    """Whether a cycle that is asked for after this frame leaves every planned moment its picture, as far as possible.

    In a block the moment of this frame has its picture already; the next one gets it late, after the cycle, if its
    window is not over by then. Moments that follow each other too fast for that lose some wherever the cycle is put.
    Before a block it is put off into the block, where a place is found for it.
    """
    now_ns, block = frame.captured_utc_ns, sampler.block
    if block is None:
        start_ns = next_block(now_ns)
        return start_ns is None or not 0 <= start_ns - now_ns < FREEZE_S * NS_PER_S
    period_s = block.period_ns / NS_PER_S
    if 2 * period_s < FREEZE_S:
        return True
    wanted_in_s = sampler.wanted_in_s(utc_ns=now_ns, monotonic_ns=frame.captured_monotonic_ns)
    return wanted_in_s is None or wanted_in_s + period_s >= FREEZE_S
