"""A shutter command to a v1: how long its picture is frozen, and what the decoder says of it."""

import time
from typing import Any

from drivers.decoder import FrameDecoder
from drivers.frame import FrameFlag, RawFrame
from tests.hil.jobs.plain_reader import Buffer, PlainReader, await_node

_BEFORE, _AFTER = 15, 75
_LEAST_FREEZE = 5
_IMAGE_BYTES = 192 * 256 * 2


def run() -> dict[str, Any]:
    """The longest row of equal pictures, in frames and by the kernel's times."""
    with PlainReader(await_node()) as reader:
        reader.send(0x8004)
        for _ in range(_BEFORE):
            reader.read(5.0)
        sent_ns = time.monotonic_ns()
        reader.send(0x8000)
        buffers = [reader.read() for _ in range(_AFTER)]
        reader.send(0x8004)
    first, last = _freeze(buffers)
    decoder = FrameDecoder()
    flags = [decoder.decode(_raw(number, buffer)).flags for number, buffer in enumerate(buffers)]
    shutter = [number for number, flag in enumerate(flags) if flag & FrameFlag.SHUTTER]
    return {
        "delay_s": (buffers[first].taken_ns - sent_ns) / 1e9,
        "frozen_frames": last - first + 1,
        "frozen_s": (buffers[last + 1].taken_ns - buffers[first].taken_ns) / 1e9,
        "flagged": shutter == list(range(first + 1, last + 1)),
        "settling_after": bool(flags[last + 1] & FrameFlag.SETTLING),
        "rejected": dict(decoder.rejected),
    }


def _freeze(buffers: list[Buffer]) -> tuple[int, int]:
    """First and last frame of the longest row of equal pictures."""
    best = start = (0, 0)
    for number in range(1, len(buffers)):
        same = buffers[number].data[:_IMAGE_BYTES] == buffers[number - 1].data[:_IMAGE_BYTES]
        start = (start[0], number) if same else (number, number)
        best = max(best, start, key=lambda span: span[1] - span[0])
    if best[1] - best[0] < _LEAST_FREEZE:
        raise ValueError(f"the picture did not freeze: at most {best[1] - best[0] + 1} equal frames")
    return best


def _raw(number: int, buffer: Buffer) -> RawFrame:
    return RawFrame(
        sequence=number,
        captured_utc_ns=buffer.taken_ns,
        captured_monotonic_ns=buffer.taken_ns,
        payload=buffer.data,
    )
