"""A stream with the plain reader: its rate, what is missing, and whether commands reach the camera."""

import time
from itertools import pairwise
from typing import Any

from drivers.virtual.control_socket import Operator
from tests.hil.jobs.pictures import Pictures
from tests.hil.jobs.plain_reader import FRAME_BYTES, PlainReader, await_node

_WORDS = (0x8004, 0x0000, 0xFFFF, 0x1033, 0x8004)
_SETTLE_FRAMES = 12
_WATCHED_S = 10.0


def run(strip: str = "normal", attempts: str = "3") -> dict[str, Any]:
    """What was seen at the first attempt without a gap, or at the last one.

    On a busy host the emulated processor stands still now and then for longer than the kernel's buffers last.
    """
    pictures = Pictures(strip)
    with PlainReader(await_node()) as reader:
        for word in _WORDS:
            reader.send(word)
        words = [word for word, _ in Operator()("words")["words"]]
        for _ in range(_SETTLE_FRAMES):
            reader.read(5.0)
        for attempt in range(1, int(attempts) + 1):
            seen = {**_watch(reader, pictures), "attempt": attempt}
            if seen["lost_by_device"] == seen["missing"] == 0:
                break
    return seen | {"words": words}


def _watch(reader: PlainReader, pictures: Pictures) -> dict[str, Any]:
    operator = Operator()
    lost = operator("state")["lost"]
    end_s = time.monotonic() + _WATCHED_S
    buffers = []
    while time.monotonic() < end_s:
        buffers.append(reader.read())
    # The kernel copies on several processors; when one of them is slow, frames are handed out in the wrong order.
    out_of_order = sum(after.sequence < before.sequence for before, after in pairwise(buffers))
    buffers.sort(key=lambda buffer: buffer.sequence)
    numbers = [pictures.number(buffer.data) for buffer in buffers]
    known = [number for number in numbers if number is not None]
    span_s = (buffers[-1].taken_ns - buffers[0].taken_ns) / 1e9
    return {
        "frames": len(buffers),
        "rate_hz": round((len(buffers) - 1) / span_s, 3),
        "wrong_size": sum(len(buffer.data) != FRAME_BYTES for buffer in buffers),
        "out_of_order": out_of_order,
        "errors": sum(buffer.error for buffer in buffers),
        "unknown": len(numbers) - len(known),
        "missing": pictures.missing(known),
        "sequence_gaps": buffers[-1].sequence - buffers[0].sequence - len(buffers) + 1,
        "largest_gap_ms": max(b.taken_ns - a.taken_ns for a, b in pairwise(buffers)) / 1e6,
        "lost_by_device": operator("state")["lost"] - lost,
    }
