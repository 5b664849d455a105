"""The service, with one fault that a file brings about: `watchdog_victim.py FAULT TRIGGER vivarium-arguments...`.

Each fault sits in one function that a thread calls again and again: it hangs there, works for ever,
ends the thread, or does nothing.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from daemon.app import Service
from daemon.capture import CaptureLoop
from daemon.caretaker import Caretaker
from daemon.cli import main
from daemon.messaging.commands import CommandDesk
from daemon.messaging.publisher import Publisher
from daemon.recorder import BlockRecorder
from daemon.worker import Worker

PLACES: dict[str, tuple[type[Any], str]] = {
    "supervisor": (Service, "_give_sign_of_life"),
    "capture": (CaptureLoop, "step"),
    "worker": (Worker, "write_if_due"),
    "recorder": (BlockRecorder, "_try_again_if_due"),
    "publisher": (Publisher, "_next_pause_s"),
    "commands": (CommandDesk, "settle"),
    "caretaker": (Caretaker, "tick"),
}


def _hang() -> None:
    threading.Event().wait()


def _churn() -> None:
    picture = np.zeros((192, 256), np.float32)
    while True:
        cv2.GaussianBlur(picture, (0, 0), 3)  # C++ that lets other threads run meanwhile


def _die() -> None:
    raise SystemExit  # ends a thread without a word


def _err() -> None:
    raise RuntimeError("a mistake")


FAULTS: dict[str, Callable[[], None]] = {
    "hang": _hang,
    "churn": _churn,
    "die": _die,
    "err": _err,
    "idle": lambda: None,
}


def prepare(fault: str, trigger: Path) -> None:
    """Let the fault happen once the file is there."""
    what, _, where = fault.partition(":")
    owner, name = PLACES[where]
    real, happen = getattr(owner, name), FAULTS[what]

    def spoiled(*arguments: Any, **options: Any) -> Any:
        if trigger.exists():
            return happen()
        return real(*arguments, **options)

    setattr(owner, name, spoiled)


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]))
    sys.argv[1:3] = []
    main()
