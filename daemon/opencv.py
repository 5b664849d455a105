"""How much of the machine OpenCV may take."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV works in the thread that calls it, with none of its own: those are as many as cores and not nice.

    It belongs to the whole process, and is as before when the block is left. On pictures of 192 x 256 more threads gain
    nothing, and take their cores from capture.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
