"""The gain map of a v2: from payloads to a file and back, and the requests that make the camera send it."""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import usb.core
from numpy.typing import NDArray

from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import CameraError, CameraLostError, CameraRefusedError, ControlError
from drivers.gain_map import FETCH_ATTEMPTS, GainMapAssembler, GainMapError, GainMaps, checked_gain
from drivers.libusb import FETCH_S, LibusbStream, fetch_gain_map, reset_device
from drivers.nuc import GAIN_ONE
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from drivers.usb import UsbBus, UsbCamera

if TYPE_CHECKING:
    from tests.test_drivers.conftest import FakeSysfs

Gain = NDArray[np.uint16]

PAYLOAD_BYTES = 14_336


@pytest.fixture
def gain(golden: Path) -> Gain:
    with np.load(golden / "v2_nuc.npz") as vectors:
        words: Gain = vectors["gain_k"]
    return words


def payload(data: bytes, *, marker: int, flags: int = 0x80) -> bytes:
    """A payload with its header of 12 bytes; the marker is the first byte of its clock field."""
    header = bytes((12, flags, 0, 0, 0, 0, marker, 0, 0, 0, 0, 0))
    return header + data + bytes(PAYLOAD_BYTES - len(data))


def rows_of(gain: Gain) -> list[bytes]:
    return [payload(row.astype("<u2").tobytes(), marker=2) for row in gain]


PICTURE = payload(b"", marker=1)


# Putting it together


def test_rows_among_pictures_make_the_map(gain: Gain) -> None:
    rows = GainMapAssembler()
    for row in rows_of(gain)[:-1]:
        assert rows.feed(PICTURE) is None
        assert rows.feed(row) is None
    assert rows.lines == IMAGE_HEIGHT - 1
    whole = rows.feed(rows_of(gain)[-1])
    assert whole is not None
    np.testing.assert_array_equal(whole, gain)
    assert rows.lines == 0


@pytest.mark.parametrize("damaged", [pytest.param(0xC0, id="flagged"), pytest.param(None, id="short")])
def test_a_damaged_row_makes_all_before_it_void(gain: Gain, damaged: int | None) -> None:
    rows = GainMapAssembler()
    for row in rows_of(gain)[:10]:
        rows.feed(row)
    line = gain[10].astype("<u2").tobytes()
    bad = payload(line, marker=2, flags=damaged) if damaged else payload(line, marker=2)[:100]
    with pytest.raises(GainMapError, match="row 10 of the gain map is damaged"):
        rows.feed(bad)
    assert rows.lines == 0


@pytest.mark.parametrize("scrap", [b"", b"\x0c", bytes(6)])
def test_scraps_are_no_rows(scrap: bytes) -> None:
    assert GainMapAssembler().feed(scrap) is None


@pytest.mark.parametrize("word", [0, GAIN_ONE // 2 - 1, 2 * GAIN_ONE + 1, 65_535])
def test_words_that_are_no_gain_are_refused(word: int) -> None:
    with pytest.raises(GainMapError, match="median"):
        checked_gain(np.full((IMAGE_HEIGHT, IMAGE_WIDTH), word, dtype=np.uint16))


def test_a_map_of_which_half_is_dead_is_refused() -> None:
    words = np.full((IMAGE_HEIGHT, IMAGE_WIDTH), 2 * GAIN_ONE, dtype=np.uint16)
    words[::2] = 0
    with pytest.raises(GainMapError, match="24576 of 49152"):
        checked_gain(words)


# Keeping it


def test_a_map_outlives_the_process(tmp_path: Path, gain: Gain) -> None:
    GainMaps(tmp_path / "camera").save("ME1299", gain)
    stored = GainMaps(tmp_path / "camera").load("ME1299")
    assert stored is not None
    np.testing.assert_array_equal(stored, gain)
    assert GainMaps(tmp_path / "camera").load("ME1300") is None


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: content[:-1], id="cut"),
        pytest.param(lambda content: content[:500] + b"\x01" + content[501:], id="changed"),
    ],
)
def test_a_damaged_file_is_set_aside(tmp_path: Path, gain: Gain, damage: Callable[[bytes], bytes]) -> None:
    GainMaps(tmp_path).save("ME1299", gain)
    path = tmp_path / "gain-map-ME1299.bin"
    path.write_bytes(damage(path.read_bytes()))
    assert GainMaps(tmp_path).load("ME1299") is None
    assert [left.name for left in tmp_path.iterdir()] == ["gain-map-ME1299.damaged"]


@pytest.mark.parametrize("serial", ["", "../../etc/passwd", "a b"])
def test_a_serial_that_is_no_name_is_kept_in_memory_only(tmp_path: Path, gain: Gain, serial: str) -> None:
    maps = GainMaps(tmp_path)
    maps.save(serial, gain)
    assert maps.load(serial) is gain
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_the_file_only(tmp_path: Path, gain: Gain) -> None:
    (tmp_path / "camera").write_text("a file")
    maps = GainMaps(tmp_path / "camera")
    maps.save("ME1299", gain)
    assert maps.load("ME1299") is gain


def test_a_camera_is_asked_a_few_times_only() -> None:
    maps = GainMaps(None)
    assert [maps.may_fetch("A") for _ in range(FETCH_ATTEMPTS + 1)] == [True] * FETCH_ATTEMPTS + [False]
    assert maps.may_fetch("B")


# Asking for it


class Payloads:
    """A stream of payloads, one in 6 ms; asked for the map, it sends the rows of the next script."""

    def __init__(self, clock: SimulatedClock, *scripts: list[bytes]) -> None:
        self.words: list[int] = []
        self._clock = clock
        self._scripts = deque(scripts)
        self._waiting = deque([PICTURE] * 100)

    def command(self, word: int) -> None:
        """See `drivers.libusb.PayloadStream`."""
        self.words.append(word)
        if word == 0x8081 and self._scripts:
            self._waiting = deque(self._scripts.popleft())

    def read_payload(self, timeout_s: float) -> bytes | None:
        """See `drivers.libusb.PayloadStream`."""
        self._clock.advance(0.006 if self._waiting else timeout_s)
        return self._waiting.popleft() if self._waiting else None


def test_the_map_is_asked_for_after_300_ms_and_the_picture_mode_set_again(clock: SimulatedClock, gain: Gain) -> None:
    stream = Payloads(clock, rows_of(gain))
    np.testing.assert_array_equal(fetch_gain_map(stream, clock), gain)
    assert stream.words == [0x8081, 0x8004]
    assert clock.monotonic_ns() == (300 + 192 * 6) * NS_PER_S // 1000


def test_a_map_with_a_damaged_row_is_asked_for_again(clock: SimulatedClock, gain: Gain) -> None:
    bad = rows_of(gain)
    bad[50] = bad[50][:40]
    stream = Payloads(clock, bad, rows_of(gain))
    np.testing.assert_array_equal(fetch_gain_map(stream, clock), gain)
    assert stream.words == [0x8081, 0x8081, 0x8004]


def test_a_map_that_does_not_come_is_given_up(clock: SimulatedClock, gain: Gain) -> None:
    stream = Payloads(clock, rows_of(gain)[:7])
    with pytest.raises(GainMapError, match="got 7 of its rows"):
        fetch_gain_map(stream, clock)
    assert stream.words == [0x8081, 0x8004]
    assert clock.monotonic_ns() / NS_PER_S < FETCH_S + 1


# The requests on the wire


class Device:
    """Notes what pyusb is asked to do."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failures: deque[usb.core.USBError] = deque()
        # pyusb's own functions for interfaces talk to this part of a device.
        self._ctx = SimpleNamespace(
            managed_claim_interface=lambda device, number: self.calls.append(("claim", number)),
            managed_release_interface=lambda device, number: self.calls.append(("release", number)),
            dispose=lambda device: self.calls.append(("dispose",)),
        )

    def is_kernel_driver_active(self, interface: int) -> bool:
        """As of `usb.core.Device`, like all below."""
        return True

    def detach_kernel_driver(self, interface: int) -> None:
        """Note it."""
        self.calls.append(("detach", interface))

    def attach_kernel_driver(self, interface: int) -> None:
        """Note it."""
        self.calls.append(("attach", interface))

    def clear_halt(self, endpoint: int) -> None:
        """Note it."""
        self.calls.append(("clear_halt", endpoint))

    def ctrl_transfer(self, kind: int, request: int, value: int, index: int, data: Any, timeout: int) -> Any:
        """Answer the stream settings with payloads of 14348 bytes."""
        self.calls.append(("control", kind, request, value, index, data))
        return struct.pack("<HBBIHHHHHII", 1, 1, 1, 400_000, 0, 0, 0, 0, 0, 100_352, 14_348)

    def read(self, endpoint: int, length: int, timeout: int) -> bytes:
        """One payload, or a failure."""
        if self.failures:
            raise self.failures.popleft()
        self.calls.append(("read", endpoint, length))
        return bytes(length)


@pytest.fixture
def v2(sysfs: FakeSysfs, make_descriptors: Callable[..., bytes]) -> UsbCamera:
    blob = make_descriptors(vendor=0x04B4, product=0x0100, bulk=True, terminal=3)
    sysfs.plug(vendor=0x04B4, product_id=0x0100, blob=blob)
    return UsbBus(sysfs=sysfs.root).choose()


def test_the_device_is_taken_over_negotiated_read_and_given_back(v2: UsbCamera) -> None:
    device = Device()
    with LibusbStream(v2, device=device) as stream:
        stream.command(0x8081)
        assert stream.read_payload(0.5) == bytes(14_348)
    wish = struct.pack("<HBBIHHHHHII", 1, 1, 1, 400_000, 0, 0, 0, 0, 0, 100_352, 0)
    answer = struct.pack("<HBBIHHHHHII", 1, 1, 1, 400_000, 0, 0, 0, 0, 0, 100_352, 14_348)
    assert device.calls == [
        ("detach", 0),
        ("claim", 0),
        ("detach", 1),
        ("claim", 1),
        ("control", 0x21, 0x01, 0x0100, 1, wish),
        ("control", 0xA1, 0x81, 0x0100, 1, 26),
        ("control", 0x21, 0x01, 0x0200, 1, answer),
        ("control", 0x21, 0x01, 0x0B00, 0x0300, b"\x81\x80"),
        ("read", 0x81, 14_348),
        ("clear_halt", 0x81),
        ("release", 0),
        ("release", 1),
        ("attach", 0),
        ("dispose",),
    ]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        pytest.param(usb.core.USBError("gone", errno=errno.ENODEV), CameraLostError, id="gone"),
        pytest.param(usb.core.USBError("denied", errno=errno.EACCES), ControlError, id="denied"),
    ],
)
def test_errors_of_libusb_become_ours(v2: UsbCamera, failure: usb.core.USBError, kind: type[CameraError]) -> None:
    device = Device()
    with LibusbStream(v2, device=device) as stream:
        device.failures.append(failure)
        with pytest.raises(kind):
            stream.read_payload(0.5)
    assert device.calls[-1] == ("dispose",)


def test_silence_is_no_error(v2: UsbCamera) -> None:
    device = Device()
    with LibusbStream(v2, device=device) as stream:
        device.failures.append(usb.core.USBTimeoutError("timeout", errno=errno.ETIMEDOUT))
        assert stream.read_payload(0.5) is None


def test_a_camera_that_streams_otherwise_is_not_touched(sysfs: FakeSysfs) -> None:
    sysfs.plug()
    device = Device()
    with (
        pytest.raises(CameraRefusedError, match="bulk"),
        LibusbStream(UsbBus(sysfs=sysfs.root).choose(), device=device),
    ):
        pass
    assert device.calls == []


def test_a_reset_of_what_is_gone_or_without_libusb_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usb.core, "find", lambda **which: None)
    with pytest.raises(CameraLostError, match="3:7 is gone"):
        reset_device(3, 7)

    def no_backend(**which: int) -> None:
        raise usb.core.NoBackendError("No backend available")

    monkeypatch.setattr(usb.core, "find", no_backend)
    with pytest.raises(CameraError, match="apt install libusb"):
        reset_device(3, 7)
