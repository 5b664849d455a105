"""A virtual T2S+ plugged into the kernel: the device's side of USB/IP over a pair of sockets.

One end of the pair is given to vhci_hcd, which takes it for a device on a high-speed port: the kernel's own drivers
enumerate it, make its video node, and stream from it.
"""

import contextlib
import errno
import logging
import os
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drivers.clock import NS_PER_S, Clock
from drivers.errors import CameraError
from drivers.virtual import wire
from drivers.virtual.camera import VirtualT2S
from drivers.virtual.control_requests import ControlRequests, Deed
from drivers.virtual.payloads import PayloadMaker, WireFault
from drivers.virtual.personality import Personality

logger = logging.getLogger(__name__)

_ATTACH = Path("/sys/devices/platform/vhci_hcd.0/attach")
_HIGH_SPEED = 3
_PORTS = range(8)
_SOCKET_BYTES = 1 << 20
_FIRST_DEVICE_ID = 0x10002
"""Of the device at the first port; vhci_hcd wants another one for each."""
_PATIENCE_S = 1.0
_TOO_LATE_NS = round(0.2 * NS_PER_S)
"""A camera that the host does not let send for so long has lost frames."""
_MIN_WAIT_S = 0.0005


class NoPortError(CameraError):
    """vhci_hcd is not there, may not be used, or has no free port."""


@dataclass(slots=True)
class Disturbance:
    """What an operator does to the line."""

    frozen: bool = False
    """No more pictures; commands are answered."""
    hung: bool = False
    """Nothing is answered or sent."""
    control_hung: bool = False
    """No request is answered; pictures go on."""
    stalls: int = 0
    """So many of the next commands are refused."""
    late_s: float = 0.0
    """Every control request is answered so late."""


@dataclass(slots=True)
class Counts:
    """What the device has done since it was made."""

    frames: int = 0
    lost: int = 0
    """Frames that the host left no time for."""
    transfers: int = 0
    plugs: int = 0


class VirtualDevice:
    """One camera and its cable.

    Parameters
    ----------
    camera : VirtualT2S
        What sends and obeys.
    personality : Personality
        What it says of itself.
    clock : Clock
        The one the camera runs on: the machine's.
    port : int, optional
        Of vhci_hcd; the first free one when left out.
    """

    def __init__(self, camera: VirtualT2S, personality: Personality, *, clock: Clock, port: int | None = None) -> None:
        self.camera = camera
        self.personality = personality
        self.clock = clock
        self.disturbance = Disturbance()
        self.counts = Counts()
        self._ports = _PORTS if port is None else range(port, port + 1)
        self._faults: deque[WireFault] = deque()
        self._plug: _Plug | None = None
        self._lock = threading.Lock()

    @property
    def plugged(self) -> bool:
        """Whether the kernel has it."""
        plug = self._plug
        return plug is not None and not plug.closed.is_set()

    def plug(self, *, cold: bool = False) -> int:
        """Give it to the kernel; the number of its port. Without effect when it is there (-1).

        Raises
        ------
        NoPortError
            If the kernel does not take it.
        """
        with self._lock:
            if self.plugged:
                return -1
            self.camera.power_up(cold=cold)
            self.counts.plugs += 1
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
            self._plug = _Plug(self, ours)
            self._plug.start()
            try:
                return _attach(theirs, self._ports)
            except NoPortError:
                self._plug.close()
                raise
            finally:
                theirs.close()

    def unplug(self) -> None:
        """Cut the cable. Without effect on an unplugged device."""
        with self._lock:
            if self._plug is not None:
                self._plug.close()
                self._plug = None

    def disturb(self, **changes: bool | float) -> None:
        """Change the disturbance by the names of its fields."""
        for name, value in changes.items():
            setattr(self.disturbance, name, value)
        plug = self._plug
        if plug is not None:
            plug.wake()

    def damage(self, fault: WireFault, frames: int) -> None:
        """Damage the next frames."""
        self._faults.extend([fault] * frames)

    def next_fault(self) -> WireFault | None:
        """The damage to be done to the frame that is sent now."""
        return self._faults.popleft() if self._faults else None


class _Plug:
    """One plug-in: its socket, what the kernel has asked for, and two threads."""

    def __init__(self, device: VirtualDevice, line: socket.socket) -> None:
        self._device = device
        self._line = line
        self._requests = ControlRequests(device.personality)
        self._changed = threading.Condition()
        self._pending: deque[wire.Submit] = deque()
        self._swallowed: set[int] = set()
        self._streaming = False
        self.stream_number = 0
        # The kernel cuts the line on a stray answer: taking a transfer and answering it must be one deed.
        self._answering = threading.RLock()
        self.closed = threading.Event()

    def start(self) -> None:
        """Start both threads."""
        for target in (self._receive, _Sender(self._device, self).run):
            threading.Thread(target=target, daemon=True).start()

    def close(self) -> None:
        """Cut the line; may be done twice."""
        with self._changed:
            self.closed.set()
            self._pending.clear()
            self._changed.notify_all()
        with contextlib.suppress(OSError):  # the kernel was faster
            self._line.shutdown(socket.SHUT_RDWR)
        self._line.close()

    def wake(self) -> None:
        """Let the sender look at the disturbance anew."""
        with self._changed:
            self._changed.notify_all()

    def wait_for_room(self) -> tuple[int, wire.Submit] | None:
        """Until the stream runs and the kernel has given room: the stream's number and the transfer. None: closed."""
        with self._changed:
            while not self.closed.is_set():
                disturbance = self._device.disturbance
                if self._streaming and self._pending and not (disturbance.frozen or disturbance.hung):
                    return self.stream_number, self._pending[0]
                self._changed.wait(_PATIENCE_S)
            return None

    def complete(self, request: wire.Submit, answer: bytes) -> bool:
        """Answer a transfer unless the kernel has taken it back."""
        with self._answering:
            with self._changed:
                if not self._pending or self._pending[0] is not request:
                    return False
                self._pending.popleft()
            self._send(answer)
        self._device.counts.transfers += 1
        return True

    def _receive(self) -> None:
        try:
            with self._line.makefile("rb") as stream:
                while (request := wire.read_request(stream)) is not None:
                    self._serve(request)
        except (OSError, ValueError) as error:  # closed by us or by the kernel
            logger.debug("line closed: %s", error)
        finally:
            self.close()

    def _serve(self, request: wire.Submit | wire.Unlink) -> None:
        if isinstance(request, wire.Unlink):
            self._take_back(request)
        elif request.endpoint == 0:
            disturbance = self._device.disturbance
            if disturbance.hung or disturbance.control_hung:
                self._swallowed.add(request.sequence)
            elif disturbance.late_s:
                self._swallowed.add(request.sequence)
                late = threading.Timer(disturbance.late_s, self._answer_late, [request])
                late.daemon = True
                late.start()
            else:
                self._control(request)
        else:
            with self._changed:
                self._pending.append(request)
                self._changed.notify_all()

    def _answer_late(self, request: wire.Submit) -> None:
        """Answer unless the kernel has taken the request back meanwhile."""
        with self._answering:
            if request.sequence in self._swallowed and not self.closed.is_set():
                self._swallowed.discard(request.sequence)
                self._control(request)

    def _take_back(self, request: wire.Unlink) -> None:
        with self._answering:
            with self._changed:
                victim = next((pending for pending in self._pending if pending.sequence == request.victim), None)
                if victim is not None:
                    self._pending.remove(victim)
            unanswered = victim is not None or request.victim in self._swallowed
            self._swallowed.discard(request.victim)
            self._send(wire.unlinked(request, status=wire.CANCELLED if unanswered else 0))

    def _control(self, request: wire.Submit) -> None:
        disturbance = self._device.disturbance
        if disturbance.stalls > 0 and self._requests.is_command(request.setup):
            disturbance.stalls -= 1
            self._send(wire.submitted(request, status=wire.STALLED))
            return
        answer = self._requests.answer(request.setup, request.data)
        if answer.data is None:
            self._send(wire.submitted(request, status=wire.STALLED))
            return
        if answer.deed is Deed.COMMAND:
            self._device.camera.command(answer.word)
        elif answer.deed is not Deed.NOTHING:
            self._stream(on=answer.deed is Deed.START_STREAM)
        self._send(wire.submitted(request, data=answer.data))

    def _stream(self, *, on: bool) -> None:
        with self._changed:
            self._streaming = on
            self.stream_number += 1
            self._changed.notify_all()

    def _send(self, answer: bytes) -> None:
        try:
            with self._answering:
                self._line.sendall(answer)
        except OSError as error:
            logger.debug("answer not sent: %s", error)


class _Sender:
    """Puts pictures into the transfers of one plug-in, at the time they are due."""

    def __init__(self, device: VirtualDevice, plug: _Plug) -> None:
        self._device = device
        self._plug = plug
        self._maker = PayloadMaker(device.personality, random.Random(device.counts.plugs))
        self._stream = -1
        self._frame = -1
        self._payloads: deque[bytes] = deque()
        self._line_ns = 0
        self._split = False

    def run(self) -> None:
        """Until the device is unplugged."""
        send: Callable[[wire.Submit], None] = self._bulk if self._device.personality.bulk else self._packets
        while (room := self._plug.wait_for_room()) is not None:
            stream, request = room
            if stream != self._stream:
                self._begin(stream)
            send(request)

    def _begin(self, stream: int) -> None:
        """A new stream: nothing of the old one is left."""
        self._stream = stream
        self._frame = self._device.camera.first_frame() - 1
        self._payloads.clear()
        self._split = False
        self._line_ns = self._device.clock.monotonic_ns()

    def _load(self, now_ns: int) -> int:
        """Make payloads of the next frame if it is due; when the next one is."""
        following, due_ns = self._device.camera.following(self._frame)
        if due_ns > now_ns:
            return due_ns
        while now_ns - due_ns > _TOO_LATE_NS:
            self._device.counts.lost += 1
            following, due_ns = self._device.camera.following(following)
        self._frame = following
        picture = self._device.camera.picture(following)
        self._payloads.extend(self._maker.payloads(picture, self._device.next_fault()))
        self._device.counts.frames += 1
        return due_ns

    def _packets(self, request: wire.Submit) -> None:
        """Isochronous: packets go by at a fixed rate, empty ones when there is nothing to send."""
        now_ns = self._device.clock.monotonic_ns()
        if now_ns - self._line_ns > _TOO_LATE_NS:
            self._line_ns = now_ns
        answer = wire.submitted_packets(request, self._fill(len(request.packet_lengths)))
        self._wait((self._line_ns - self._device.clock.monotonic_ns()) / NS_PER_S)
        self._plug.complete(request, answer)

    def _fill(self, count: int) -> list[bytes]:
        """The next packets of the line; a frame begins in the first one at or after its time."""
        slot_ns = round(NS_PER_S / self._device.personality.packets_per_s)
        packets: list[bytes] = []
        while len(packets) < count:
            if not self._payloads:
                due_ns = self._load(self._line_ns)
                empty = min(-(-(due_ns - self._line_ns) // slot_ns), count - len(packets))
                packets += [b""] * empty  # a negative number, of a frame that has been loaded, is none
                self._line_ns += max(empty, 0) * slot_ns
            if self._payloads and len(packets) < count:
                packets.append(self._payloads.popleft())
                self._line_ns += slot_ns
        return packets

    def _bulk(self, request: wire.Submit) -> None:
        """Bulk: a transfer is answered as soon as there is a payload for it."""
        if not self._payloads:
            now_ns = self._device.clock.monotonic_ns()
            due_ns = self._load(now_ns)
            if not self._payloads:
                self._wait((due_ns - now_ns) / NS_PER_S)
                return
        payload = self._payloads[0]
        part = payload[: request.length]
        if not self._plug.complete(request, wire.submitted(request, data=part)):
            return
        self._payloads.popleft()
        if len(part) < len(payload):
            self._payloads.appendleft(payload[len(part) :])  # it goes on in the next transfer
            self._split = True
        elif self._split and len(part) == request.length:
            self._payloads.appendleft(b"")  # an exact fit is ended by a transfer without bytes
            self._split = False

    def _wait(self, duration_s: float) -> None:
        if duration_s > _MIN_WAIT_S:
            time.sleep(min(duration_s, _PATIENCE_S))


def check_host() -> None:
    """Make sure that this machine can have a virtual device.

    Raises
    ------
    NoPortError
        If it cannot; the message says what to do.
    """
    if not _ATTACH.exists():
        raise NoPortError(
            f"{_ATTACH} is not there: as root, modprobe -a vhci_hcd uvcvideo (a kernel without these modules cannot "
            "have a virtual camera)"
        )
    if not os.access(_ATTACH, os.W_OK):
        raise NoPortError(f"{_ATTACH} may not be written: plugging in a virtual camera needs root")


def _attach(line: socket.socket, ports: range) -> int:
    """Give one end of the line to vhci_hcd; a port that was just left may still be busy."""
    check_host()
    reason = ""
    for port in ports:
        try:
            _ATTACH.write_text(f"{port} {line.fileno()} {_FIRST_DEVICE_ID + port} {_HIGH_SPEED}")
        except OSError as error:
            reason = errno.errorcode.get(error.errno or 0, str(error))
        else:
            return port
    raise NoPortError(f"vhci_hcd takes no device on ports {ports.start} to {ports.stop - 1}: {reason}")
