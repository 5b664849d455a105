"""Whether a directory can be written, or be made where it is not yet there."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a directory from being written."""

    found: str
    remedy: str


def nearest_existing(path: Path) -> Path:
    """The path, or of what it lies in the innermost that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def obstacle_to(directory: Path) -> Obstacle | None:
    """Why files cannot be made in a directory; None where they can."""
    existing = nearest_existing(directory)
    if not existing.is_dir():
        return Obstacle(f"{existing} is a file, and should be a directory", "rename it")
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        return Obstacle(
            f"{existing} is on a disk that is mounted read-only",
            "dmesg says whether the disk fails; else mount -o remount,rw",
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        return Obstacle(f"{existing} cannot be written", "chown it to the service's user")
    return None
