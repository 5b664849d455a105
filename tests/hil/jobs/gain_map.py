"""The gain map of a v2 by libusb, and whether its video node is back afterwards."""

import time
from typing import Any

import numpy as np

from drivers.clock import SystemClock
from drivers.libusb import LibusbStream, fetch_gain_map
from drivers.usb import UsbBus
from tests.hil.jobs.pictures import REEL
from tests.hil.jobs.plain_reader import PlainReader, await_node


def run() -> dict[str, Any]:
    """Whether it is the one of the reel."""
    await_node()
    started_s = time.monotonic()
    with LibusbStream(UsbBus().choose()) as stream:
        gain = fetch_gain_map(stream, SystemClock())
    took_s = time.monotonic() - started_s
    with np.load(REEL) as arrays:
        equal = bool(np.array_equal(gain, arrays["gain"]))
    with PlainReader(await_node()) as reader:
        frame_after = len(reader.read(5.0).data)
    return {"equal": equal, "took_s": round(took_s, 2), "frame_after": frame_after}
