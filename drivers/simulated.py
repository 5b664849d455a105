"""A camera that is not there: it sends the bytes of a T2S+ looking at `drivers.scene`, with faults on demand."""

import threading
from collections import deque
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S, Clock
from drivers.decoder import FrameDecoder
from drivers.device_timeline import Timeline
from drivers.errors import CameraLostError, FrameTimeoutError
from drivers.frame import RawFrame, ThermalFrame
from drivers.scene import Scene
from drivers.sensor_model import FIRMWARE, PRODUCT, RISE_CELSIUS, SensorModel, Warmth
from drivers.t2s_protocol import COUNT_LEVELS, FRAME_RATE_HZ, IMAGE_HEIGHT, TRANSFER_BYTES
from drivers.thermometry import EnvironmentOverrides
from drivers.vivarium.truth import SceneFrame, uniform_scene

_SHORT_TRANSFER_BYTES = 512
"""What the camera family really sends as a short first frame."""
_TORN_AGE_FRAMES = 25
"""The other part of a torn frame is about so many frames older."""
_SCENES_KEPT = 16


class Fault(StrEnum):
    """What can go wrong between sensor and host."""

    UNPLUG = "unplug"
    """No power until `SimulatedDevice.plug`."""
    FREEZE = "freeze"
    """Nothing is sent for a while."""
    STUCK = "stuck"
    """One picture is sent again and again for a while."""
    LATE = "late"
    """The next frames come late."""
    TORN = "torn"
    """The next transfers are one half of a frame and one half of an older one."""
    TRUNCATED = "truncated"
    """The next transfers are short."""
    ALL_ZERO = "all_zero"
    """The next transfers are empty of content."""
    WRONG_MODE = "wrong_mode"
    """The next transfers have words above 14 bits, as in another output mode."""


_DAMAGES = frozenset({Fault.TORN, Fault.TRUNCATED, Fault.ALL_ZERO, Fault.WRONG_MODE})


class SimulatedDevice:
    """The camera on the bus: it streams by itself at 25 Hz of the clock, whether it is read or not.

    It outlives connections and unplugging, and may be disturbed from any thread while another one reads. With the same
    seed, and asked at the same times of the clock, it sends the same bytes.

    Parameters
    ----------
    clock : Clock
        What it runs on.
    seed : int
        Of scene, noise and fixed pattern.
    animals : int
        How many rats are in the box.
    warm : bool
        It has been on for an hour; false starts a cold one with silence, power-up shutter cycles and drift.
    scene : Scene, optional
        What it looks at, in place of a scene made from `seed` and `animals`.
    """

    def __init__(
        self, *, clock: Clock, seed: int = 1, animals: int = 1, warm: bool = True, scene: Scene | None = None
    ) -> None:
        self._clock = clock
        self._warm = warm
        # The scene moves on with monotonic time: a step of the wall clock does not move the animal.
        self._epoch_offset_ns = clock.utc_ns() - clock.monotonic_ns()
        self._scenes: deque[tuple[int, Scene]] = deque(maxlen=_SCENES_KEPT)
        self._scenes.append((clock.monotonic_ns(), scene or Scene(seed, animals)))
        self.info = CameraInfo(
            kind="simulated",
            product=PRODUCT,
            serial=f"SIM{seed:05d}"[:16],
            firmware=FIRMWARE,
            location=f"seed {seed}",
            frame_rate_hz=FRAME_RATE_HZ,
        )
        self._sensor = SensorModel(seed, self.info.serial)
        self._lock = threading.Lock()
        self._damages: deque[Fault] = deque()
        self._unplugged_at_ns = 0
        self._last_rendered: tuple[int, int, bytes] | None = None
        self._last_seen: tuple[Scene, SceneFrame] | None = None
        """Whoever asks for the truth of a frame mostly has just read it."""
        start = Warmth(start_rise_celsius=RISE_CELSIUS if warm else 0.0)
        self._timeline = self._power_up(0, start, warm=warm)

    def inject(self, fault: Fault, *, frames: int | None = None, duration_s: float | None = None) -> None:
        """Let something go wrong from now on.

        Parameters
        ----------
        fault : Fault
            What.
        frames : int, optional
            `LATE`: how many of the next frames; damaged transfers: how many of those that are read next. Default 1.
        duration_s : float, optional
            `FREEZE`, `STUCK`: for how long; `LATE`: by how much. Required for these.

        Raises
        ------
        ValueError
            If a number is missing, not positive, or has no meaning for this fault.
        """
        timed = fault in (Fault.FREEZE, Fault.STUCK, Fault.LATE)
        counted = fault in _DAMAGES or fault is Fault.LATE
        if timed != (duration_s is not None) or (duration_s is not None and not duration_s > 0):
            raise ValueError(f"{fault} {'needs a positive' if timed else 'takes no'} duration_s, got {duration_s}")
        if frames is not None and (not counted or frames < 1):
            raise ValueError(f"{fault} {'needs at least one frame' if counted else 'takes no frames'}, got {frames}")
        if fault is Fault.UNPLUG:
            self.unplug()
            return
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            if fault is Fault.FREEZE and duration_s is not None:
                self._timeline.fall_silent(now_ns, duration_s)
            elif fault is Fault.STUCK and duration_s is not None:
                self._timeline.hold_picture(now_ns, duration_s)
            elif fault is Fault.LATE and duration_s is not None:
                self._timeline.come_late(now_ns, frames or 1, duration_s)
            else:
                self._damages.extend([fault] * (frames or 1))

    def unplug(self) -> None:
        """Take its power away; waiting readers notice at once. Without effect on an unplugged device."""
        with self._lock:
            if not self._timeline.unplugged.is_set():
                self._unplugged_at_ns = self._clock.monotonic_ns()
                self._damages.clear()
                self._timeline.unplugged.set()

    def plug(self, *, warm: bool | None = None) -> None:
        """Give it power again. Without effect on a device that has it.

        Parameters
        ----------
        warm : bool, optional
            True sends pictures at once at full temperature, false plays the power-up of a real camera, which has cooled
            down for as long as it was unplugged. As the device was made by default.
        """
        with self._lock:
            old = self._timeline
            if not old.unplugged.is_set():
                return
            warm = self._warm if warm is None else warm
            powered_s = (self._unplugged_at_ns - old.started_ns) / NS_PER_S
            pause_s = (self._clock.monotonic_ns() - self._unplugged_at_ns) / NS_PER_S
            rise = RISE_CELSIUS if warm else old.warmth.rise_after_pause(powered_s, pause_s)
            self._timeline = self._power_up(old.number + 1, Warmth(start_rise_celsius=rise), warm=warm)

    def show(self, scene: Scene) -> None:
        """Look at another scene from now on: an animal taken out, put in, or with a fever."""
        with self._lock:
            self._scenes.append((self._clock.monotonic_ns(), scene))

    def truth_at(self, monotonic_ns: int) -> SceneFrame:
        """The truth of the newest frame that had arrived at a moment; of the held picture while one is repeated.

        Raises
        ------
        ValueError
            If the device had sent nothing since its last plug-in.
        """
        with self._lock:
            timeline = self._timeline
            frame = timeline.newest(monotonic_ns)
            if frame is None:
                raise ValueError(f"at {monotonic_ns} ns the device had sent no frame since its last plug-in")
            picture = timeline.picture_of(frame)
        return self._scene_frame(timeline, picture)

    def connect(self) -> Timeline:
        """What the device streams until it is unplugged.

        Raises
        ------
        CameraLostError
            If it is unplugged.
        """
        with self._lock:
            if self._timeline.unplugged.is_set():
                raise CameraLostError(f"simulated camera {self.info.serial} is unplugged: expected it on the bus")
            return self._timeline

    def close_shutter(self) -> None:
        """Do what command 0x8000 does; without effect while a picture is held or the power-up lasts."""
        with self._lock:
            self._timeline.close_shutter(self._clock.monotonic_ns())

    def next_frame(self, timeline: Timeline, after: int, now_ns: int) -> tuple[int, int]:
        """Number and time of arrival (monotonic) of the frame that a reader gets next: the newest, or one to come."""
        with self._lock:
            newest = timeline.newest(now_ns)
            if newest is None or newest <= after:
                newest = timeline.following(after)
            return newest, timeline.arrival_ns(newest)

    def send(self, timeline: Timeline, frame: int) -> bytes:
        """The bytes of a frame as they reach the host; a pending damage is done to them and counted down."""
        with self._lock:
            picture = timeline.picture_of(frame)
            damage = self._damages.popleft() if self._damages else None
        if damage is Fault.TRUNCATED:
            return self._payload(timeline, picture)[:_SHORT_TRANSFER_BYTES]
        if damage is Fault.ALL_ZERO:
            return bytes(TRANSFER_BYTES)
        if damage is Fault.WRONG_MODE:
            transfer = self._transfer(timeline, picture)
            transfer[:IMAGE_HEIGHT] |= COUNT_LEVELS
            return _to_bytes(transfer)
        if damage is Fault.TORN:
            return _to_bytes(self._torn(timeline, picture))
        return self._payload(timeline, picture)

    def _power_up(self, number: int, warmth: Warmth, *, warm: bool) -> Timeline:
        timeline = Timeline(number=number, started_ns=self._clock.monotonic_ns(), warmth=warmth)
        if not warm:
            timeline.play_power_up()
        return timeline

    def _payload(self, timeline: Timeline, picture: int) -> bytes:
        last = self._last_rendered
        if last is not None and last[:2] == (timeline.number, picture):
            return last[2]
        payload = _to_bytes(self._transfer(timeline, picture))
        self._last_rendered = timeline.number, picture, payload
        return payload

    def _transfer(self, timeline: Timeline, picture: int) -> NDArray[np.uint16]:
        with self._lock:
            event = timeline.last_event(picture)
        celsius = self._scene_frame(timeline, picture).radiometric_celsius
        return self._sensor.transfer(celsius, picture, timeline.powered_s(picture), timeline.warmth, event)

    def _torn(self, timeline: Timeline, picture: int) -> NDArray[np.uint16]:
        """Two halves of two frames; the half with the hottest pixel of row 0 is the older one, where it differs."""
        torn = self._transfer(timeline, picture)
        row, column = divmod(int(torn[:IMAGE_HEIGHT].argmax()), torn.shape[1])
        half = slice(0, IMAGE_HEIGHT // 2) if row < IMAGE_HEIGHT // 2 else slice(IMAGE_HEIGHT // 2, IMAGE_HEIGHT)
        age = _TORN_AGE_FRAMES
        while (older := self._transfer(timeline, picture - age))[row, column] == torn[row, column]:
            age += 1
        torn[half] = older[half]
        return torn

    def _scene_frame(self, timeline: Timeline, picture: int) -> SceneFrame:
        taken_ns = timeline.started_ns + round(timeline.powered_s(picture) * NS_PER_S)
        utc_s = (taken_ns + self._epoch_offset_ns) / NS_PER_S
        if timeline.shows_blade(picture):
            return uniform_scene(utc_s, timeline.warmth.shutter_celsius(timeline.powered_s(picture)))
        with self._lock:
            since = [scene for since_ns, scene in self._scenes if since_ns <= taken_ns]
            scene = since[-1] if since else self._scenes[0][1]
            last = self._last_seen
        if last is not None and last[0] is scene and last[1].utc_s == utc_s:
            return last[1]
        seen = scene.at(utc_s)
        with self._lock:
            self._last_seen = scene, seen
        return seen


class SimulatedCamera:
    """One connection to a simulated device, decoded as a real camera is.

    A reader that comes late gets the newest frame; older ones are gone, which shows as a gap in the sequence.

    Parameters
    ----------
    device : SimulatedDevice
        What to connect to.
    clock : Clock
        The one the device runs on.
    overrides : EnvironmentOverrides, optional
        The host's values for emissivity, distance and so on.
    """

    def __init__(self, device: SimulatedDevice, *, clock: Clock, overrides: EnvironmentOverrides | None = None) -> None:
        self.device = device
        self._clock = clock
        self._overrides = overrides
        self._decoder = FrameDecoder(overrides=overrides)
        self._timeline: Timeline | None = None
        self._first: int | None = None
        self._last = -1

    @classmethod
    def create(
        cls,
        *,
        clock: Clock,
        seed: int = 1,
        animals: int = 1,
        warm: bool = True,
        overrides: EnvironmentOverrides | None = None,
    ) -> Self:
        """A connection to a device of its own; see `SimulatedDevice`."""
        device = SimulatedDevice(clock=clock, seed=seed, animals=animals, warm=warm)
        return cls(device, clock=clock, overrides=overrides)

    @property
    def info(self) -> CameraInfo:
        """See `ThermalCamera`."""
        return self.device.info

    def __enter__(self) -> Self:
        self._timeline = self.device.connect()
        self._decoder = FrameDecoder(overrides=self._overrides)
        # What was sent before the connection is never seen.
        self._first, self._last = None, self._timeline.next_due(self._clock.monotonic_ns()) - 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._timeline = None

    def read(self, timeout_s: float) -> ThermalFrame:
        """See `ThermalCamera`."""
        return self._decoder.decode(self.read_raw(timeout_s))

    def read_raw(self, timeout_s: float) -> RawFrame:
        """The next transfer as it comes, unchecked; raises as `read` does, but rejects nothing."""
        deadline_ns = self._clock.monotonic_ns() + round(timeout_s * NS_PER_S)
        while True:
            timeline = self._connection()
            now_ns = self._clock.monotonic_ns()
            frame, arrival_ns = self.device.next_frame(timeline, self._last, now_ns)
            if arrival_ns <= now_ns:
                return self._receive(timeline, frame, arrival_ns)
            if now_ns >= deadline_ns:
                raise FrameTimeoutError(f"simulated camera {self.info.serial}: no frame within {timeout_s} s")
            self._clock.wait((min(arrival_ns, deadline_ns) - now_ns) / NS_PER_S, until=timeline.unplugged)

    def calibrate(self) -> None:
        """See `ThermalCamera`."""
        self._connection()
        self.device.close_shutter()

    def truth(self, frame: ThermalFrame) -> SceneFrame:
        """The scene that a frame shows; the held one for a repeated picture.

        Raises
        ------
        ValueError
            If the device was plugged in anew since this frame.
        """
        return self.device.truth_at(frame.captured_monotonic_ns)

    def _connection(self) -> Timeline:
        if self._timeline is None:
            raise CameraLostError(f"simulated camera {self.info.serial} is not open: read it inside its with block")
        if self._timeline.unplugged.is_set():
            raise CameraLostError(f"simulated camera {self.info.serial} was unplugged: open it anew")
        return self._timeline

    def _receive(self, timeline: Timeline, frame: int, arrival_ns: int) -> RawFrame:
        payload = self.device.send(timeline, frame)
        if self._first is None:
            self._first = frame
        self._last = frame
        wall_offset_ns = self._clock.utc_ns() - self._clock.monotonic_ns()
        return RawFrame(
            sequence=frame - self._first,
            captured_utc_ns=arrival_ns + wall_offset_ns,
            captured_monotonic_ns=arrival_ns,
            payload=payload,
        )


def _to_bytes(transfer: NDArray[np.uint16]) -> bytes:
    return transfer.astype("<u2", copy=False).tobytes()
