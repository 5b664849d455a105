"""A file that takes up room, to be given up when there is none.

Measured: on a full disk even a DELETE fails, for it needs room in the write-ahead log. The room of this file lets
database and sidecars go on while recordings are freed; then it is made again.
"""

import logging
import os
from pathlib import Path

from daemon.store.retention import GB

logger = logging.getLogger(__name__)

MB = GB // 1000

NAME = "ballast.bin"

LARGEST_SHARE = 0.1
"""On a disk that it would take more of there is no ballast."""

URGENT_SHARE = 0.25
"""With less free space than this share of the ballast the disk counts as full."""


class Ballast:
    """The ballast in a directory; used by one thread.

    Parameters
    ----------
    directory : Path
        On the disk that it is for.
    size_bytes : int
        0 for none. A file of another size, from before a change of the config, is removed.
    """

    def __init__(self, directory: Path, size_bytes: int) -> None:
        self._path = directory / NAME
        self.size_bytes = size_bytes
        """What it is to take."""
        self._refused: str | None = None
        if self._path.exists() and self._path.stat().st_size != size_bytes:
            self.release()

    @property
    def in_place(self) -> bool:
        """Whether it is there."""
        return self._path.exists()

    def is_urgent(self, free_bytes: int) -> bool:
        """Whether it is to be given up now."""
        return self.in_place and free_bytes < self.size_bytes * URGENT_SHARE

    def lacking_bytes(self, total_bytes: int) -> int:
        """What is missing of it on a disk of this size."""
        return 0 if self.in_place or self.size_bytes > total_bytes * LARGEST_SHARE else self.size_bytes

    def make_if_room(self, free_bytes: int, total_bytes: int) -> None:
        """Make it when it is missing and as much again stays free; what keeps it from being made is logged once."""
        lacking = self.lacking_bytes(total_bytes)
        if not lacking or free_bytes < lacking * (2 + URGENT_SHARE):
            return
        try:
            _allocate(self._path, lacking)
        except OSError as error:
            if str(error) != self._refused:
                logger.warning("no ballast can be made in %s: %s", self._path.parent, error)
            self._refused = str(error)
        else:
            self._refused = None
            logger.info("ballast of %d MB in place", lacking // MB)

    def release(self) -> None:
        """Give up its room."""
        self._path.unlink(missing_ok=True)


def _allocate(path: Path, size_bytes: int) -> None:
    """Real blocks, not a promise of zeros."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
        os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
