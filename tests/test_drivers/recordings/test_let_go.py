"""Writing transfers into a Matroska file: letting go of it."""

import contextlib
import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from drivers.errors import RecordingError
from drivers.matroska import TransferWriter


def descriptors() -> set[int]:
    """What this process has open, and perhaps what it took to look."""
    return {int(each.name) for each in Path("/proc/self/fd").iterdir()}


def test_a_file_that_is_finished_twice_is_let_go_once(tmp_path: Path) -> None:
    writer = TransferWriter(tmp_path / "a.mkv", header_json="{}", frame_rate_hz=Fraction(1))
    writer.write(np.zeros((196, 256), np.uint16), 0)
    before = descriptors()
    writer.finish()
    (number, *_) = before - descriptors()
    others = [os.open(tmp_path / "a.mkv", os.O_RDONLY) for _ in range(3)]
    assert number in others, "what the file had is another's now"
    with contextlib.suppress(RecordingError):
        writer.finish()
    for each in others:
        os.fstat(each)  # raises if it was closed
        os.close(each)
