"""When the shutter closes: by the age and drift of the calibration, and when somebody asks for it."""

from daemon.order import Order, OrderSlot, Outcome
from drivers.clock import NS_PER_S
from drivers.decoder import DRIFT_LIMIT_CELSIUS
from drivers.frame import FrameFlag, ThermalFrame

MIN_RECALIBRATION_INTERVAL_S = 15.0
"""Shutter cycles closer together warm the blade and make readings worse."""


class RecalibrationPolicy:
    """When to ask for a shutter cycle: by drift of the detector and by age, never twice in quick succession.

    Within a block it waits for the age alone to double before it interrupts, but drift is corrected at once:
    readings move by about 1.2 °C per °C of the detector.
    """

    def __init__(self, *, after_s: float) -> None:
        self._after_s = after_s
        self.last_ns: int | None = None
        """Monotonic time of the frame at which a cycle was last asked for, or of the first frame."""

    def wanted(self, frame: ThermalFrame, *, in_block: bool) -> bool:
        """Whether to calibrate now; the answer yes counts as done."""
        now_ns = frame.captured_monotonic_ns
        if self.last_ns is None:
            self.last_ns = now_ns
        age_s = (now_ns - self.last_ns) / NS_PER_S
        drifted = abs(frame.metadata.fpa_celsius - frame.calibration.fpa_celsius) > DRIFT_LIMIT_CELSIUS
        old = age_s >= self._after_s * (2 if in_block else 1)
        if not (old or (drifted and age_s >= MIN_RECALIBRATION_INTERVAL_S)):
            return False
        self.last_ns = now_ns
        return True


class CalibrationOrders:
    """Shutter cycles that somebody asked for. `place` is called from any thread, the rest by the capture thread."""

    def __init__(self, policy: RecalibrationPolicy) -> None:
        self._policy = policy
        self._slot = OrderSlot()
        self._current: Order | None = None
        self._closed = False

    def place(self, order: Order, *, now_ns: int) -> None:
        """Ask for a cycle; what cannot be is refused at once. Done means that the shutter has closed and opened."""
        last_ns, current = self._policy.last_ns, self._current
        since_s = MIN_RECALIBRATION_INTERVAL_S if last_ns is None else (now_ns - last_ns) / NS_PER_S
        if current is not None and current.outcome is None:
            order.answer(Outcome("refused", "busy", "a shutter cycle is under way"))
        elif since_s < MIN_RECALIBRATION_INTERVAL_S:
            order.answer(
                Outcome(
                    "refused",
                    "too_soon",
                    f"the last shutter cycle, or the start, was {since_s:.0f} s ago; cycles closer together than "
                    f"{MIN_RECALIBRATION_INTERVAL_S:g} s make readings worse",
                )
            )
        elif not self._slot.place(order):
            order.answer(Outcome("refused", "busy", "a shutter cycle was asked for and has not begun"))

    def due(self, frame: ThermalFrame) -> bool:
        """Whether to calibrate now because somebody asked for it; the answer yes counts as done. Ask at each frame."""
        if self._current is not None:
            self._watch(self._current, shut=bool(frame.flags & FrameFlag.SHUTTER))
        order = self._slot.take()
        if order is None:
            return False
        self._current, self._closed = order, False
        self._policy.last_ns = frame.captured_monotonic_ns
        return True

    def _watch(self, order: Order, *, shut: bool) -> None:
        if self._closed and not shut:
            order.answer(Outcome("done"))
        if order.outcome is not None:
            self._current = None
        self._closed = shut

    def camera_lost(self, why: str) -> None:
        """Nothing comes of what was asked for."""
        for order in (self._current, self._slot.take()):
            if order is not None:
                order.answer(Outcome("failed", "camera_lost", f"the camera was lost: {why}"))
        self._current = None
