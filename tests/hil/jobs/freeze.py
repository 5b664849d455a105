"""A camera that falls silent without going away."""

import time
from typing import Any

from drivers.virtual.control_socket import Operator
from tests.hil.jobs.plain_reader import PlainReader, await_node

_TIMES = 3
_PATIENCE_S = 2.0
_SETTLE_FRAMES = 12


def run() -> dict[str, Any]:
    """When the silence was noticed, and when the next frame came after its end."""
    operator = Operator()
    noticed, back = [], []
    with PlainReader(await_node()) as reader:
        reader.send(0x8004)
        for _ in range(_TIMES):
            for _ in range(_SETTLE_FRAMES):
                reader.read(5.0)
            since_s = time.monotonic()
            operator("freeze")
            noticed.append(_silent_since(reader) - since_s)
            since_s = time.monotonic()
            operator("thaw")
            reader.read(5.0)
            back.append(time.monotonic() - since_s)
    return {"noticed_s": noticed, "back_s": back}


def _silent_since(reader: PlainReader) -> float:
    """When the reader gave up waiting."""
    while True:
        try:
            reader.read(_PATIENCE_S)
        except TimeoutError:
            return time.monotonic()
