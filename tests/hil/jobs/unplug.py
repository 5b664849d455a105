"""Surprise unplugging, again and again, with the plain reader: when it is noticed and when frames come again."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivers.virtual.control_socket import Operator
from tests.hil.jobs.plain_reader import FRAME_BYTES, PlainReader, video_node

_RETRY_S = 0.05
_BETWEEN_S = 0.3
_FOREVER_S = 30.0


class Watch:
    """Reads for ever, opens anew when the camera is lost, and notes when what happened."""

    def __init__(self) -> None:
        self.lost_s = self.good_s = 0.0
        self.stop = threading.Event()

    def run(self) -> None:
        """Until `stop` is set."""
        reader: PlainReader | None = None
        while not self.stop.is_set():
            try:
                if reader is None:
                    reader = self._opened()
                elif len(reader.read().data) == FRAME_BYTES:
                    self.good_s = time.monotonic()
            except (OSError, ValueError):  # TimeoutError is an OSError
                self.lost_s = time.monotonic()
                if reader is not None:
                    reader.close()
                    reader = None
        if reader is not None:
            reader.close()

    def _opened(self) -> PlainReader | None:
        node = video_node()
        if node is None:
            self.stop.wait(_RETRY_S)
            return None
        try:
            reader = PlainReader(node)
            reader.send(0x8004)
        except OSError:
            self.stop.wait(_RETRY_S)
            return None
        return reader


def run(cycles: str) -> dict[str, Any]:
    """Times of all cycles, and what is still open in the end."""
    watch, operator = Watch(), Operator()
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        _await(lambda: watch.good_s > 0, "the first frame")
        open_files = [_open_files()]
        noticed, back = [], []
        for _ in range(int(cycles)):
            time.sleep(_BETWEEN_S)
            noticed.append(_timed(lambda: operator("unplug"), lambda since_s: watch.lost_s > since_s))
            time.sleep(_RETRY_S)
            back.append(_timed(lambda: operator("plug"), lambda since_s: watch.good_s > since_s))
            open_files.append(_open_files())
    finally:
        watch.stop.set()
        thread.join()
    return {
        "noticed_s": noticed,
        "back_s": back,
        "open_files": [open_files[0], open_files[-1]],
        "threads": threading.active_count(),
    }


def _timed(deed: Callable[[], object], done: Callable[[float], bool]) -> float:
    """Seconds from the deed until it shows."""
    since_s = time.monotonic()
    deed()
    _await(lambda: done(since_s), "the reader to notice")
    return round(time.monotonic() - since_s, 3)


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + _FOREVER_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"waited {_FOREVER_S:g} s for {what}")
        time.sleep(0.01)


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
