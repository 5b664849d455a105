"""The T2S+ itself: over the kernel's video driver, with its commands on a thread of their own.

Order and delays of the commands are in `drivers.start_up`, what the shutter does to the frames in `drivers.shutter`.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S, Clock
from drivers.control import ControlChannel, ControlState
from drivers.decoder import FrameDecoder
from drivers.errors import (
    CameraError,
    CameraLostError,
    ControlError,
    FrameRejectedError,
    FrameTimeoutError,
)
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.gain_map import GainMaps
from drivers.libusb import LibusbStream, PayloadStream, fetch_gain_map
from drivers.nuc import HostCorrection
from drivers.shutter import FreezeWatch, HostCalibration, ShutterWatch
from drivers.start_up import Stage, StartUp
from drivers.t2s_protocol import FRAME_RATE_HZ, Command, RejectReason, Variant
from drivers.thermometry import EnvironmentOverrides
from drivers.usb import UsbCamera, UsbCameraDevice
from drivers.v4l2 import DeviceIo, SystemIo, Transfer, VideoStream, ZoomControl

logger = logging.getLogger(__name__)

FIRST_COMMAND_S = 7.0
"""How long opening waits for the first command: the kernel gives a hanging camera 5 s."""

IDENTIFY_S = 4.0
"""How long opening waits for the frame of a v2 that tells its serial number, to look for its gain map."""

NODE_BACK_S = 3.0
"""How long the kernel's driver may take to make the video node again after libusb had the device."""

_NODE_LOOK_S = 0.1
_SEQUENCE_SPAN = 1 << 32
"""The kernel's sequence number has 32 bits."""

OpenPayloads = Callable[[UsbCamera], AbstractContextManager[PayloadStream]]


@dataclass(slots=True)
class FrameNumbers:
    """The kernel's frame numbers, which begin anew with each stream, as one count from 0."""

    offset: int | None = None
    last: int = -1
    missing: int = 0
    """Frames that the kernel counted and nobody got."""

    def take(self, kernel_number: int) -> int:
        """The number of a frame; one that comes late keeps its own, and is missing no more."""
        if self.offset is None:
            self.offset = kernel_number - (self.last + 1)
        half = _SEQUENCE_SPAN // 2
        step = (kernel_number - self.offset - self.last + half) % _SEQUENCE_SPAN - half
        if step < 0:
            self.missing = max(0, self.missing - 1)
            return self.last + step
        self.missing += max(0, step - 1)
        self.last += step
        return self.last

    def begin_again(self) -> None:
        """The next number belongs to a new stream and follows the last one."""
        self.offset = None


class T2SPlusCamera:
    """One connection to a T2S+, v1 or v2.

    Frames keep the kernel's time of their first packet and its number, so a lost frame is a gap. Commands are sent
    without waiting; what becomes of them is counted in `control`. Degrees are made on the host, nothing is written into
    the camera's user area.

    Parameters
    ----------
    device : UsbCameraDevice
        Which camera.
    clock : Clock
        The machine's.
    high_range : bool
        Up to 400 °C instead of 120 °C.
    overrides : EnvironmentOverrides, optional
        The host's values for emissivity, distance and so on.
    gain_maps : GainMaps, optional
        Of v2 cameras; shared by all connections.
    io : DeviceIo, optional
        The system calls; the machine's own when left out.
    open_payloads : callable
        Opens the stream of a v2 with its payload headers.
    """

    def __init__(
        self,
        device: UsbCameraDevice,
        *,
        clock: Clock,
        high_range: bool = False,
        overrides: EnvironmentOverrides | None = None,
        gain_maps: GainMaps | None = None,
        io: DeviceIo | None = None,
        open_payloads: OpenPayloads = LibusbStream,
    ) -> None:
        self._device = device
        self._clock = clock
        self._high_range = high_range
        self._overrides = overrides
        self._gain_maps = gain_maps or GainMaps(None)
        self._io = io or SystemIo()
        self._open_payloads = open_payloads
        self._usb: UsbCamera | None = None
        self._connection: ExitStack | None = None
        self._forget()

    def _forget(self) -> None:
        """Begin as if nothing had come yet."""
        self._decoder = FrameDecoder(overrides=self._overrides)
        self._start_up = StartUp(high_range=self._high_range)
        self._watch: ShutterWatch | None = None
        self._shutter: Future[int] | None = None
        self._sequence = FrameNumbers()
        self._kept: ThermalFrame | None = None
        self._variant: Variant | None = None
        self._serial = self._product = self._firmware = ""
        self._gain: NDArray[np.uint16] | None = None
        self._uncertain_because: str | None = None

    # Opening and closing

    def __enter__(self) -> Self:
        """Find the camera, open it and start its stream.

        Raises
        ------
        CameraAbsentError
            If it is not on the bus.
        CameraRefusedError
            If it cannot be used as it is; the message says what to do.
        CameraLostError
            If it goes away meanwhile.
        """
        self._forget()
        self._open()
        try:
            if self._attached.expected_variant is Variant.V2:
                self._get_gain_map()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> None:
        usb = self._device.find()
        node = self._device.bus.video_node(usb)
        with ExitStack() as stack:
            self._stream = stack.enter_context(VideoStream(node, clock=self._clock, io=self._io))
            self._control = stack.enter_context(
                ControlChannel(lambda: ZoomControl(node, io=self._io), clock=self._clock)
            )
            self._usb = usb
            self._send_first()
            self._stream.start()
            self._connection = stack.pop_all()
        logger.info("opened %s as %s", usb, node.path)

    def _send_first(self) -> None:
        """Ask for 16-bit output before the first frame; a camera that does not take commands may still be read."""
        words = self._start_up.begin(self._clock.monotonic_ns())
        try:
            self._control.submit(*words).result(FIRST_COMMAND_S)
        except (ControlError, FutureTimeoutError) as error:
            logger.warning("%s does not take commands, its frames are read all the same: %s", self._usb, error)

    def restart_stream(self) -> None:
        """Stop the stream and start it again, with the commands of a start-up.

        Raises
        ------
        CameraError
            If the camera does not let itself be started.
        """
        self._opened()
        self._stream.stop()
        self._sequence.begin_again()
        self._start_up = StartUp(high_range=self._high_range)
        self._control.submit(*self._start_up.begin(self._clock.monotonic_ns()))
        self._stream.start()

    # Reading

    @property
    def info(self) -> CameraInfo:
        """What the frames say, and before the first good one what the USB descriptors say."""
        usb = self._attached
        return CameraInfo(
            kind="t2s_plus",
            product=self._product or usb.product or f"{usb.vendor_id:04x}:{usb.product_id:04x}",
            serial=self._serial or usb.serial,
            firmware=self._firmware,
            location=f"USB port {usb.port}",
            frame_rate_hz=FRAME_RATE_HZ,
        )

    @property
    def is_open(self) -> bool:
        """Whether it can be read."""
        return self._connection is not None

    @property
    def variant(self) -> Variant | None:
        """What the frames have shown; None before the first good one."""
        return self._variant

    @property
    def control(self) -> ControlState:
        """How commands have done."""
        self._opened()
        return self._control.state

    @property
    def missing_frames(self) -> int:
        """Frames of this connection that the kernel counted and nobody got."""
        return self._sequence.missing

    @property
    def stage(self) -> Stage:
        """How far the start-up has come."""
        return self._start_up.stage

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of this camera now."""
        notes = []
        if self._uncertain_because is not None:
            notes.append(f"temperatures are uncertain: {self._uncertain_because}")
        if self.is_open and self._control.state.failed:
            notes.append(
                f"{self._control.state.failed} commands did not reach the camera: {self._control.state.last_error}"
            )
        return tuple(notes)

    def read(self, timeout_s: float) -> ThermalFrame:
        """See `ThermalCamera`."""
        self._opened()
        kept, self._kept = self._kept, None
        return kept or self._read(timeout_s)

    def read_raw(self, timeout_s: float) -> RawFrame:
        """The next transfer as it came, not decoded; raises as `read` does."""
        self._opened()
        transfer = self._stream.read(timeout_s)
        raw = self._stamped(transfer)
        if transfer.damaged:
            self._decoder.rejected[RejectReason.DAMAGED] += 1
            raise FrameRejectedError(
                RejectReason.DAMAGED, f"frame {raw.sequence}: the kernel says that a part of it is missing"
            )
        return raw

    def _read(self, timeout_s: float) -> ThermalFrame:
        frame, stage = None, self._start_up.stage
        try:
            frame = self._decoder.decode(self.read_raw(timeout_s))
        finally:
            self._proceed(frame)
        self._take_identity(frame)
        return self._completed(frame, starting=stage is not Stage.READY)

    def _stamped(self, transfer: Transfer) -> RawFrame:
        utc_ns, now_ns = self._clock.utc_ns(), self._clock.monotonic_ns()
        arrived_ns = min(transfer.arrived_ns, now_ns)
        return RawFrame(
            sequence=self._sequence.take(transfer.sequence),
            captured_utc_ns=utc_ns - (now_ns - arrived_ns),
            captured_monotonic_ns=arrived_ns,
            payload=transfer.payload,
        )

    # Commands

    def calibrate(self) -> None:
        """Ask for a shutter cycle and return at once; a camera that does not take it is counted in `control`."""
        self._opened()
        if self._shutter is None or self._shutter.done():
            self._note_shutter()
            self._shutter = self._control.submit(Command.SHUTTER)

    def select_range(self, *, high: bool) -> None:
        """Switch the temperature range and calibrate; readings settle within two minutes."""
        self._opened()
        self._high_range = high
        words = self._start_up.switch_range(self._clock.monotonic_ns(), high_range=high)
        if words:
            self._control.submit(*words)
        self._decoder.correction = None  # a v2's offset belongs to its range

    def commands_done(self, timeout_s: float) -> bool:
        """Whether the camera has taken or refused every command so far, waited for in real time."""
        self._opened()
        return self._control.wait_idle(timeout_s)

    def _proceed(self, frame: ThermalFrame | None) -> None:
        """Send what is due."""
        now_ns = self._clock.monotonic_ns()
        self._note_shutter()
        words = self._start_up.advance(now_ns, frame)
        if words == (Command.SHUTTER,):
            self.calibrate()
        elif words:
            self._control.submit(*words)
        if isinstance(self._watch, HostCalibration) and self._watch.wants_retry(now_ns):
            self.calibrate()

    def _note_shutter(self) -> None:
        """Tell the watch when the camera has taken a shutter command."""
        if self._shutter is None or not self._shutter.done() or self._watch is None:
            return
        done, self._shutter = self._shutter, None
        if done.exception() is None:
            self._watch.commanded(done.result())
        elif isinstance(self._watch, HostCalibration):
            self._watch.failed(self._clock.monotonic_ns())

    # What a frame tells besides its picture

    def _completed(self, frame: ThermalFrame, *, starting: bool) -> ThermalFrame:
        """The frame with the flags that the decoder cannot know."""
        flags = frame.flags
        if self._watch is not None:
            flags |= self._watch.flags_of(frame)
        if starting:
            flags |= FrameFlag.SETTLING
        if isinstance(self._watch, HostCalibration):
            offset = self._watch.take_offset()
            if offset is not None:
                self._decoder.correction = HostCorrection(offset=offset, gain=self._gain)
            self._uncertain_because = self._why_uncertain()
        return frame if flags == frame.flags else replace(frame, flags=flags)

    def _why_uncertain(self) -> str | None:
        if self._decoder.correction is None:
            return "a v2 camera has not been calibrated yet: no picture of its closed shutter"
        if self._gain is None:
            return (
                f"no gain map of {self._serial or 'a camera without serial number'}: it is asked for at each of the "
                "next openings; it needs libusb and the rights of the udev rule"
            )
        return None

    def _take_identity(self, frame: ThermalFrame) -> None:
        """Learn from the first good frame who the camera is; the frame goes before the USB identity."""
        if frame.metadata.variant is self._variant:
            return
        metadata, expected = frame.metadata, self._attached.expected_variant
        if metadata.variant is not expected:
            logger.error(
                "%s: its USB identity says %s, its frames say %s; the frames are believed",
                self._attached,
                expected,
                metadata.variant,
            )
        self._variant = metadata.variant
        self._serial, self._product, self._firmware = metadata.serial, metadata.product, metadata.firmware
        if metadata.variant is Variant.V1:
            self._watch = FreezeWatch()
        else:
            self._watch = HostCalibration()
            self._gain = self._gain_maps.load(self._serial)

    # The gain map of a v2

    def _get_gain_map(self) -> None:
        """Find or fetch the map before frames are handed out; without one they are flagged `UNCERTAIN`."""
        self._kept = self._first_good(IDENTIFY_S)
        if self._kept is None or self._variant is not Variant.V2 or self._gain is not None:
            return
        serial = self._serial
        if not self._gain_maps.may_fetch(serial):
            return
        usb = self._attached
        self.__exit__()
        try:
            with self._open_payloads(usb) as payloads:
                self._gain_maps.save(serial, fetch_gain_map(payloads, self._clock))
            logger.info("%s: the gain map of %s was fetched", usb, serial)
        except CameraLostError:
            raise
        except CameraError as error:
            logger.warning("%s: no gain map: %s", usb, error)
        self._await_node()
        self._forget()
        self._open()

    def _first_good(self, patience_s: float) -> ThermalFrame | None:
        deadline_ns = self._clock.monotonic_ns() + round(patience_s * NS_PER_S)
        while (left_s := (deadline_ns - self._clock.monotonic_ns()) / NS_PER_S) > 0:
            try:
                return self._read(left_s)
            except (FrameTimeoutError, FrameRejectedError) as error:
                logger.debug("waiting for a good frame: %s", error)
        return None

    def _await_node(self) -> None:
        """Wait until the kernel's driver has made the video node again."""
        deadline_ns = self._clock.monotonic_ns() + round(NODE_BACK_S * NS_PER_S)
        while True:
            try:
                self._device.bus.video_node(self._device.find())
            except CameraLostError:
                if self._clock.monotonic_ns() >= deadline_ns:
                    raise
                self._clock.wait(_NODE_LOOK_S)
            else:
                return

    @property
    def _attached(self) -> UsbCamera:
        if self._usb is None:
            raise CameraLostError("the camera is not open; use `with`")
        return self._usb

    def _opened(self) -> None:
        if not self.is_open:
            raise CameraLostError("the camera is not open; use `with`")
