"""Whether the driver finds the virtual camera on the bus of a real kernel, and what it reads of it."""

from typing import Any

from drivers.usb import UsbBus
from tests.hil.jobs.plain_reader import await_node


def run() -> dict[str, Any]:
    """What the driver says of the only camera."""
    path = await_node()
    bus = UsbBus()
    camera = bus.choose()
    return {
        "vendor": camera.vendor_id,
        "product_id": camera.product_id,
        "manufacturer": camera.manufacturer,
        "product": camera.product,
        "variant": camera.expected_variant.value,
        "transfer": camera.video.transfer.value,
        "node_is_right": bus.video_node(camera).path == path,
    }
