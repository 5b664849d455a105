"""Shutter cycles that somebody asks for."""

from daemon.order import Order, OrderSlot, Outcome
from daemon.recalibration import MIN_RECALIBRATION_INTERVAL_S, RecalibrationPolicy
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag, ThermalFrame


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
