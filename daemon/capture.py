"""The capture thread: reads the camera for ever, and opens it anew for ever."""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from daemon.calibration import CalibrationOrders
from daemon.order import Order, Outcome
from daemon.recalibration import NextBlock, RecalibrationPolicy, costs_nothing
from daemon.sampling import NO_FRAME, SHUTTER, CameraAway, CameraFound, CameraLost, CameraTrouble, Sampler
from drivers.camera import CameraInfo, ThermalCamera
from drivers.clock import NS_PER_S, Clock
from drivers.errors import (
    CameraError,
    CameraLostError,
    FrameRejectedError,
    FrameTimeoutError,
    MaterialError,
    ReplayEndedError,
)
from drivers.frame import FrameFlag, ThermalFrame
from drivers.recovery import (
    HEALTHY_AFTER_S,
    LONGEST_PAUSE_S,
    ON_THE_BUS,
    OPEN_ANEW,
    AttachedDevice,
    RecoveryLadder,
    Restartable,
    SelfReporting,
    Step,
)

logger = logging.getLogger(__name__)

CAMERA_LOST = "camera_lost"

READ_TIMEOUT_S = 0.5
"""How long one read waits: the loop looks at the clock and at the stop signal at least so often."""

AFTER_RESET_S = 1.0
"""A device that was reset needs so long until its video node can be opened."""

RATE_OVER_FRAMES = 50

MAX_FREEZE_S = 5.0
"""A repeated picture is a shutter event (1.3 s) for so long at most; then the stream is stuck."""

POWER_UP_FREEZE_S = 15.0
"""A camera that was just plugged in repeats its first picture for 9 s."""

STILL_LOST_S = 60.0
"""A camera that has been lost for so long is told of again, and then each time it has been for twice as long."""

FIRST_FRAME_S = 5.0
"""A camera that was just plugged in sends nothing for two seconds: its first frame is given longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSettings:
    """The patience of the capture loop."""

    frame_timeout_s: float
    retry_max_s: float
    recalibrate_after_s: float


class CaptureLoop:
    """Keeps a camera running and hands every good frame to the sampler.

    Parameters
    ----------
    open_camera : callable
        Makes a closed camera; entering it opens it.
    sampler : Sampler
        Takes what it wants.
    beat : callable
        Told whenever a unit of work is done.
    device : AttachedDevice, optional
        The camera on its bus, where it has one: it can be reset, and is opened at once when it was plugged in.
    next_block : callable
        When the next block starts: no shutter cycle begins just before it.
    """

    def __init__(
        self,
        open_camera: Callable[[], AbstractContextManager[ThermalCamera]],
        sampler: Sampler,
        *,
        clock: Clock,
        settings: CaptureSettings,
        beat: Callable[[], None],
        device: AttachedDevice | None = None,
        next_block: NextBlock = lambda _utc_ns: None,
    ) -> None:
        self._open_camera = open_camera
        self._sampler = sampler
        self._clock = clock
        self._settings = settings
        self._beat = beat
        self._device = device
        self._next_block = next_block
        self.ladder = (
            RecoveryLadder(OPEN_ANEW, longest_pause_s=settings.retry_max_s)
            if device is None
            else RecoveryLadder(ON_THE_BUS, longest_pause_s=LONGEST_PAUSE_S)
        )
        """What was tried to get the camera back, and how often."""
        self._camera: ThermalCamera | None = None
        self._well_since_ns: int | None = None
        self._stop = threading.Event()
        self.frames = 0
        """Good frames so far."""
        self.rejected: Counter[str] = Counter()
        """Refused transfers by reason."""
        self.ended = threading.Event()
        """Set when recorded material is over."""
        self.last_good_monotonic_ns: int | None = None
        """Of the last good, changing frame."""
        self.camera_info: CameraInfo | None = None
        """Of the camera that was found last."""
        self.calibrated_at_ns: int | None = None
        """Monotonic time at which a shutter cycle was last asked for."""
        self._recent_ns: deque[int] = deque(maxlen=RATE_OVER_FRAMES)
        self._last: ThermalFrame | None = None
        self._before: ThermalFrame | None = None
        self._lost_at_ns: int | None = None
        self._announced_lost = False
        self._away_told_s = 0.0
        self._patience_s: float | None = None
        self._steps_before, self._failures_before = 0, 0
        """Of the ladder, when the camera was lost."""
        self._policy = RecalibrationPolicy(after_s=settings.recalibrate_after_s)
        self._orders = CalibrationOrders(self._policy)

    @property
    def frames_per_second(self) -> float:
        """Rate of good frames over the last two seconds or so; 0 while none comes."""
        times = tuple(self._recent_ns)
        if len(times) < 2 or self._clock.monotonic_ns() - times[-1] > NS_PER_S * self._settings.frame_timeout_s:
            return 0.0
        return (len(times) - 1) * NS_PER_S / max(times[-1] - times[0], 1)

    @property
    def lost(self) -> bool:
        """Whether the camera is announced as lost."""
        return self._announced_lost

    def stop(self) -> None:
        """End `run` soon."""
        self._stop.set()

    def order_calibration(self, order: Order) -> None:
        """Ask for a shutter cycle, from any thread; what cannot be is refused at once."""
        info = self.camera_info
        if self._announced_lost or info is None:
            order.answer(Outcome("refused", "camera_lost", "there is no camera at present"))
        elif not info.has_shutter:
            order.answer(Outcome("refused", "no_shutter", f"{info.location}: recorded material has no shutter"))
        else:
            self._orders.place(order, now_ns=self._clock.monotonic_ns())

    @property
    def notes(self) -> tuple[str, ...]:
        """What the open camera has to say to its user."""
        camera = self._camera
        return camera.notes if isinstance(camera, SelfReporting) else ()

    def run(self) -> None:
        """Capture until stopped or the material is over."""
        while not self._stop.is_set():
            try:
                with self._open_camera() as camera:
                    self._camera = camera
                    self.run_connection(camera)
            except ReplayEndedError as error:
                logger.info("the recorded material is over: %s", error)
                self.ended.set()
                return
            except (CameraError, MaterialError) as error:
                self._lose(str(error))
            finally:
                self._camera = None
            if not self._stop.is_set():
                self._recover()
                self._tell_still_lost()

    def _recover(self) -> None:
        """Take the next step of the ladder; opening anew follows."""
        before = self._presence()
        attempt = self.ladder.next(attached=self._device is None or before is not None)
        if self._pause(attempt.pause_s, before):
            self._reset(attempt.step)

    def _reset(self, step: Step) -> None:
        if self._device is None or step is Step.REOPEN:
            return
        try:
            if step is Step.USB_RESET:
                self._device.usb_reset()
            else:
                self._device.reauthorize()
        except CameraError as error:
            self.ladder.failed(step)
            logger.log(
                logging.WARNING if self.ladder.failures[step] == 1 else logging.DEBUG, "%s failed: %s", step, error
            )
        else:
            self._pause(AFTER_RESET_S, self._presence())

    def _presence(self) -> str | None:
        return None if self._device is None else self._device.presence()

    def _pause(self, duration_s: float, presence: str | None) -> bool:
        """Wait before the next attempt, and account for planned moments meanwhile; False if it was cut short.

        It is when the loop is stopped, and when the camera is plugged in.
        """
        until_ns = self._clock.monotonic_ns() + round(duration_s * NS_PER_S)
        while not self._stop.is_set():
            self._beat()
            self._look()
            now = self._presence()
            if now is not None and now != presence:
                self.ladder.found_anew()
                return False
            presence = now
            left_s = (until_ns - self._clock.monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                return True
            self._clock.wait(min(left_s, READ_TIMEOUT_S), self._stop)
        return False

    def _look(self) -> None:
        self._sampler.look(utc_ns=self._clock.utc_ns(), monotonic_ns=self._clock.monotonic_ns())

    def run_connection(self, camera: ThermalCamera) -> None:
        """Read one open camera until it is lost, silent or stuck for too long, or the loop is stopped.

        Raises
        ------
        CameraError
            Why the connection is of no use any more.
        """
        opened_ns = last_ns = last_change_ns = self._clock.monotonic_ns()
        fresh_frames = 0
        first_frame_s = max(FIRST_FRAME_S, self._settings.frame_timeout_s)
        silence_s = first_frame_s
        self._before, self._well_since_ns = self._last, None
        while not self._stop.is_set():
            self._beat()
            frame = self.step(camera)
            now_ns = self._clock.monotonic_ns()
            if frame is not None:
                last_ns, silence_s = now_ns, self._settings.frame_timeout_s
                if not frame.flags & FrameFlag.SHUTTER:
                    last_change_ns, fresh_frames = now_ns, fresh_frames + 1
            powering_up = now_ns - opened_ns < POWER_UP_FREEZE_S * NS_PER_S
            freeze_s = POWER_UP_FREEZE_S if powering_up and fresh_frames < 2 else MAX_FREEZE_S
            why = None
            if now_ns - last_ns > silence_s * NS_PER_S:
                self._patience_s = silence_s
                why = f"{camera.info.location}: no good frame for {silence_s:g} s"
            elif now_ns - last_change_ns > freeze_s * NS_PER_S:
                self._patience_s = freeze_s
                why = f"{camera.info.location}: one picture again and again for {freeze_s:g} s"
            if why is not None:
                self._restart(camera, why)
                opened_ns = last_ns = last_change_ns = self._clock.monotonic_ns()
                fresh_frames = 0
                silence_s, self._well_since_ns = first_frame_s, None

    def _restart(self, camera: ThermalCamera, why: str) -> None:
        """Start the stream of an open camera again, where that has not been tried yet; otherwise give it up."""
        if not (isinstance(camera, Restartable) and self.ladder.restart_is_next):
            raise CameraLostError(why)
        self._lose(why)
        step = self.ladder.next(open_now=True).step
        try:
            camera.restart_stream()
        except CameraError:
            self.ladder.failed(step)
            raise

    def step(self, camera: ThermalCamera) -> ThermalFrame | None:
        """Read and hand on one frame: what the thread repeats, and what a simulated day drives. None if none came.

        Raises
        ------
        CameraError
            If the camera is lost or the material over.
        """
        frame = self._read(camera)
        if frame is None:
            self._look()
        else:
            self._process(camera, frame)
        return frame

    def _read(self, camera: ThermalCamera) -> ThermalFrame | None:
        try:
            return self._compared(camera.read(min(READ_TIMEOUT_S, self._settings.frame_timeout_s)))
        except FrameTimeoutError:
            self._sampler.trouble(NO_FRAME)
        except FrameRejectedError as error:
            if not self.rejected[error.reason]:
                logger.warning("first transfer refused for this reason: %s", error)
            self.rejected[error.reason] += 1
            self._sampler.trouble(f"rejected_{error.reason}")
        return None

    def _compared(self, frame: ThermalFrame) -> ThermalFrame:
        """Flag the first frame of a connection that repeats the last one of the connection before.

        The decoder, new with each connection, cannot see it; a stuck camera would look alive at each opening.
        """
        before, self._before, self._last = self._before, None, frame
        if before is None or not np.array_equal(before.counts, frame.counts):
            return frame
        return replace(frame, flags=frame.flags | FrameFlag.SHUTTER)

    def _process(self, camera: ThermalCamera, frame: ThermalFrame) -> None:
        if frame.flags & FrameFlag.SHUTTER:
            self._sampler.trouble(SHUTTER)
        else:
            self.frames += 1
            before_ns = self.last_good_monotonic_ns
            self.last_good_monotonic_ns = frame.captured_monotonic_ns
            self._recent_ns.append(frame.captured_monotonic_ns)
            self._find(camera, frame, before_ns)
            self._note_health(frame.captured_monotonic_ns)
        self._sampler.offer(frame)
        self._recalibrate(camera, frame)

    def _recalibrate(self, camera: ThermalCamera, frame: ThermalFrame) -> None:
        """Ask for a shutter cycle when one is ordered, or one is due and can be at a moment that costs nothing."""
        now_ns, policy = frame.captured_monotonic_ns, self._policy
        ordered = self._orders.due(frame)
        due = policy.due(frame, in_block=self._sampler.block is not None) and (
            policy.out_of_patience(now_ns) or costs_nothing(frame, self._sampler, self._next_block)
        )
        if ordered or due:
            logger.debug("asking for a shutter cycle")
            policy.calibrated(now_ns)
            self.calibrated_at_ns = now_ns
            camera.calibrate()

    def _note_health(self, now_ns: int) -> None:
        """Good frames for a while end the recovery."""
        if self._well_since_ns is None:
            self._well_since_ns = now_ns
        elif self.ladder.current is not None and now_ns - self._well_since_ns >= HEALTHY_AFTER_S * NS_PER_S:
            self.ladder.recovered()

    def _find(self, camera: ThermalCamera, frame: ThermalFrame, last_good_ns: int | None) -> None:
        if self.frames > 1 and not self._announced_lost:
            return
        away_s, trouble = self._away_s(), self._trouble(last_good_ns)
        self._lost_at_ns, self._announced_lost, self._patience_s = None, False, None
        self.camera_info = camera.info
        logger.info("camera found: %s at %s", camera.info.serial, camera.info.location)
        self._sampler.camera(
            CameraFound(
                at_utc_ns=frame.captured_utc_ns,
                info=camera.info,
                variant=frame.metadata.variant,
                away_s=away_s,
                trouble=trouble,
            )
        )

    def _lose(self, why: str) -> None:
        if self._announced_lost:
            logger.debug("camera still away: %s", why)
            return
        logger.error("camera lost: %s", why)
        self._orders.camera_lost(why)
        self._lost_at_ns, self._announced_lost = self._clock.monotonic_ns(), True
        self._steps_before, self._failures_before = self.ladder.counts.total(), self.ladder.failures.total()
        self._away_told_s = STILL_LOST_S / 2
        trouble = self._trouble(self.last_good_monotonic_ns, why)
        self._sampler.camera(CameraLost(at_utc_ns=self._clock.utc_ns(), reason=CAMERA_LOST, trouble=trouble))

    def _tell_still_lost(self) -> None:
        away_s = self._away_s()
        if not self._announced_lost or away_s < 2 * self._away_told_s:
            return
        self._away_told_s = away_s
        self._sampler.camera(
            CameraAway(
                at_utc_ns=self._clock.utc_ns(), away_s=away_s, trouble=self._trouble(self.last_good_monotonic_ns)
            )
        )

    def _away_s(self) -> float:
        return 0.0 if self._lost_at_ns is None else (self._clock.monotonic_ns() - self._lost_at_ns) / NS_PER_S

    def _trouble(self, last_ns: int | None, why: str | None = None) -> CameraTrouble:
        """How it stands, with the time of the last good frame before that."""
        ladder = self.ladder
        return CameraTrouble(
            why=why,
            frame_age_s=None if last_ns is None else (self._clock.monotonic_ns() - last_ns) / NS_PER_S,
            patience_s=self._patience_s,
            step=ladder.current,
            tries=ladder.counts.total() - self._steps_before,
            failures=ladder.failures.total() - self._failures_before,
            good_frames=self.frames,
            refused=self.rejected.total(),
        )
