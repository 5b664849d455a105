"""Finding cameras by what they are, in a tree like the kernel's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drivers.errors import CameraAbsentError, CameraError, CameraLostError, CameraRefusedError
from drivers.t2s_protocol import Variant
from drivers.usb import UsbBus, UsbCameraDevice
from drivers.uvc_descriptors import PictureSize, TransferType, read_descriptors

if TYPE_CHECKING:
    from tests.test_drivers.conftest import FakeSysfs

Descriptors = Callable[..., bytes]


@pytest.fixture
def bus(sysfs: FakeSysfs) -> UsbBus:
    return UsbBus(sysfs=sysfs.root, dev=sysfs.dev)


def never(bus_number: int, device_number: int) -> None:
    raise AssertionError("nothing is to be reset here")


# Descriptors


def test_descriptors_of_a_sibling_tell_terminal_interfaces_and_size(make_descriptors: Descriptors) -> None:
    video = read_descriptors(make_descriptors())
    assert (video.control_interface, video.camera_terminal, video.zoom) == (0, 1, True)
    assert (video.streaming_interface, video.endpoint, video.transfer) == (1, 0x81, TransferType.ISOCHRONOUS)
    assert video.sizes == (
        PictureSize(format_index=1, frame_index=1, width=256, height=196, frame_bytes=100_352, interval_100ns=400_000),
    )
    assert video.sizes[0].rate_hz == 25


def test_the_terminal_is_read_and_not_assumed(make_descriptors: Descriptors) -> None:
    assert read_descriptors(make_descriptors(terminal=7)).camera_terminal == 7


def test_a_bulk_endpoint_is_known_as_one(make_descriptors: Descriptors) -> None:
    assert read_descriptors(make_descriptors(bulk=True)).transfer is TransferType.BULK


@pytest.mark.parametrize("controls", [pytest.param(0x20, id="focus only"), pytest.param(0, id="none")])
def test_zoom_is_bit_nine_of_the_control_bitmap(make_descriptors: Descriptors, controls: int) -> None:
    assert not read_descriptors(make_descriptors(controls=controls)).zoom


def test_damaged_descriptors_are_refused_wherever_they_end(make_descriptors: Descriptors) -> None:
    whole = make_descriptors()
    for length in range(len(whole) - 1):
        with pytest.raises(CameraRefusedError, match="USB descriptors"):
            read_descriptors(whole[:length])


def test_a_descriptor_without_length_does_not_loop_for_ever() -> None:
    with pytest.raises(CameraRefusedError, match="length 0 at byte 0"):
        read_descriptors(bytes(18))


def test_a_descriptor_that_is_too_short_for_its_kind_is_refused(make_descriptors: Descriptors) -> None:
    with pytest.raises(CameraRefusedError, match="too short"):
        read_descriptors(make_descriptors() + bytes((3, 4, 0)))


# The family


def test_a_camera_of_the_family_is_found_with_its_port_serial_and_node(sysfs: FakeSysfs, bus: UsbBus) -> None:
    sysfs.plug("1-2.3", serial="KA1213", node=4)
    (camera,) = bus.cameras()
    assert (camera.port, camera.serial, camera.product, camera.fault) == ("1-2.3", "KA1213", "T2S+", None)
    assert camera.expected_variant is Variant.V1
    node = bus.video_node(camera)
    assert (node.path, node.device_number) == (sysfs.dev / "video4", "81:4")


def test_another_webcam_is_never_looked_at(sysfs: FakeSysfs, bus: UsbBus) -> None:
    sysfs.plug("1-1", vendor=0x046D, product_id=0x0825, product="Webcam C270")
    assert bus.cameras() == []
    with pytest.raises(CameraAbsentError, match="found: none"):
        bus.choose()


@pytest.mark.parametrize("product", ["T2S+", "T2S+_V2", "T2S+_A2", "T2L-A4L", "T2 Pro", "T2S+ (virtual)"])
def test_a_v2_is_known_by_its_product_text(
    sysfs: FakeSysfs, bus: UsbBus, make_descriptors: Descriptors, product: str
) -> None:
    blob = make_descriptors(vendor=0x04B4, product=0x0100, bulk=True)
    sysfs.plug(vendor=0x04B4, product_id=0x0100, product=product, blob=blob)
    assert bus.choose().expected_variant is Variant.V2


@pytest.mark.parametrize("product", ["Barcode Scanner", "", "AT2S+", "T24 Keyboard"])
def test_a_gadget_with_the_identity_of_a_v2_is_none(sysfs: FakeSysfs, bus: UsbBus, product: str) -> None:
    sysfs.plug(vendor=0x04B4, product_id=0x0100, product=product)
    assert bus.cameras() == []


def test_a_larger_camera_of_the_family_is_listed_and_refused(
    sysfs: FakeSysfs, bus: UsbBus, make_descriptors: Descriptors
) -> None:
    sysfs.plug(product="HT-301", blob=make_descriptors(width=384, height=292))
    with pytest.raises(CameraRefusedError, match="expected a stream of 256x196 YUY2, it offers 384x292"):
        bus.choose()


def test_a_camera_without_a_way_for_commands_is_refused(
    sysfs: FakeSysfs, bus: UsbBus, make_descriptors: Descriptors
) -> None:
    sysfs.plug(blob=make_descriptors(controls=0x20))
    with pytest.raises(CameraRefusedError, match="Zoom"):
        bus.choose()


def test_unreadable_descriptors_are_a_fault_of_that_camera_only(sysfs: FakeSysfs, bus: UsbBus) -> None:
    sysfs.plug("1-1", blob=b"\x12\x01")
    sysfs.plug("1-2", node=2)
    assert [camera.fault is None for camera in bus.cameras()] == [False, True]
    assert bus.choose().port == "1-2"


def test_no_usb_at_all_is_no_camera(tmp_path: Path) -> None:
    assert UsbBus(sysfs=tmp_path).cameras() == []


# Which one


def test_one_of_two_cameras_must_be_named(sysfs: FakeSysfs, bus: UsbBus) -> None:
    sysfs.plug("1-1", serial="A")
    sysfs.plug("2-4", serial="B", node=2)
    with pytest.raises(CameraRefusedError, match=r"2 fit.*1-1 \(A\), 2-4 \(B\)"):
        bus.choose()
    assert bus.choose(port="2-4").serial == "B"
    assert bus.choose(serial="A").port == "1-1"


def test_an_absent_camera_is_told_from_the_one_that_is_there(sysfs: FakeSysfs, bus: UsbBus) -> None:
    sysfs.plug("1-1", serial="A")
    with pytest.raises(CameraAbsentError, match=r"at port 1-3 on the USB bus; found: T2S\+ .*1-1 with serial A"):
        bus.choose(port="1-3")


def test_a_camera_without_driver_has_no_node(sysfs: FakeSysfs, bus: UsbBus) -> None:
    sysfs.plug(node=None)
    with pytest.raises(CameraLostError, match="modprobe uvcvideo"):
        bus.video_node(bus.choose())


# What can be done from outside


def test_presence_changes_with_every_plug_in(sysfs: FakeSysfs, bus: UsbBus) -> None:
    device = UsbCameraDevice(bus, reset=never)
    seen = [device.presence()]
    sysfs.plug()
    seen += [device.presence(), device.presence()]
    sysfs.unplug()
    seen.append(device.presence())
    sysfs.plug()
    seen.append(device.presence())
    assert seen == [None, "1-2/2", "1-2/2", None, "1-2/3"]


def test_a_reset_goes_to_the_camera_by_its_numbers(sysfs: FakeSysfs, bus: UsbBus) -> None:
    reset: list[tuple[int, int]] = []
    sysfs.plug("3-1")
    UsbCameraDevice(bus, reset=lambda *numbers: reset.append(numbers)).usb_reset()
    assert reset == [(3, 2)]


def test_authorization_is_taken_and_given_back(sysfs: FakeSysfs, bus: UsbBus) -> None:
    folder = sysfs.plug()
    bus.authorize(bus.choose(), allowed=False)
    assert (folder / "authorized").read_text() == "0"
    UsbCameraDevice(bus, reset=never).reauthorize()
    assert (folder / "authorized").read_text() == "1"


def test_an_authorization_that_is_not_allowed_says_so(sysfs: FakeSysfs, bus: UsbBus) -> None:
    folder = sysfs.plug()
    (folder / "authorized").unlink()
    (folder / "authorized").mkdir()  # refuses writing even to root
    with pytest.raises(CameraError, match="cannot be written"):
        UsbCameraDevice(bus, reset=never).reauthorize()
