"""A camera that answers no request: the caller of the control waits, frames go on."""

import threading
import time
from typing import Any

from drivers.virtual.control_socket import Operator
from tests.hil.jobs.pictures import Pictures
from tests.hil.jobs.plain_reader import PlainReader, await_node

_SETTLE_FRAMES = 12
_READ_S = 8.0


def run() -> dict[str, Any]:
    """How long the control took and what it said; what came meanwhile."""
    pictures, operator = Pictures(), Operator()
    outcome: dict[str, Any] = {}
    with PlainReader(await_node()) as reader:
        reader.send(0x8004)
        for _ in range(_SETTLE_FRAMES):
            reader.read(5.0)
        operator("hangctl")
        thread = threading.Thread(target=_send, args=(reader, outcome))
        thread.start()
        end_s = time.monotonic() + _READ_S
        numbers = []
        while time.monotonic() < end_s:
            numbers.append(pictures.number(reader.read().data))
        thread.join()
        operator("unhangctl")
        reader.send(0x8004)
    known = [number for number in numbers if number is not None]
    return {
        **outcome,
        "frames": len(numbers),
        "missing": pictures.missing(known),
        "unknown": len(numbers) - len(known),
        "rate_hz": round(len(numbers) / _READ_S, 2),
    }


def _send(reader: PlainReader, outcome: dict[str, Any]) -> None:
    started_s = time.monotonic()
    try:
        reader.send(0x8004)
    except OSError as error:
        outcome["error"] = error.strerror
    outcome["control_s"] = round(time.monotonic() - started_s, 2)
