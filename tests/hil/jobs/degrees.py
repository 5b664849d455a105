"""Frames of a v1 through the kernel and the product's decoder, left in /share for the host to compare."""

from pathlib import Path
from typing import Any

import numpy as np

from drivers.decoder import FrameDecoder
from drivers.frame import RawFrame
from tests.hil.jobs.pictures import SIMULATED_DISTANCE, Pictures
from tests.hil.jobs.plain_reader import PlainReader, await_node

_FRAMES = 12
_SETTLE_FRAMES = 12
_OUT = Path("/share/degrees.npz")


def run() -> dict[str, Any]:
    """The numbers of the pictures; their degrees are in the file."""
    pictures, decoder = Pictures(), FrameDecoder(overrides=SIMULATED_DISTANCE)
    numbers, celsius = [], []
    with PlainReader(await_node()) as reader:
        reader.send(0x8004)
        for _ in range(_SETTLE_FRAMES):
            reader.read(5.0)
        for sequence in range(_FRAMES):
            buffer = reader.read()
            raw = RawFrame(
                sequence=sequence,
                captured_utc_ns=buffer.taken_ns,
                captured_monotonic_ns=buffer.taken_ns,
                payload=buffer.data,
            )
            frame = decoder.decode(raw)
            numbers.append(pictures.number(buffer.data))
            celsius.append(frame.celsius)
    np.savez(_OUT, celsius=np.stack(celsius))
    return {"numbers": numbers, "serial": frame.metadata.serial, "product": frame.metadata.product}
