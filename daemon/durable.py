"""Small files that are there as a whole or not at all."""

import os
from pathlib import Path

from drivers.sidecar import sync_directory


def write_durably(path: Path, content: bytes) -> None:
    """Put a file into place in one step that survives a power cut: all of it, or the one before.

    Raises
    ------
    OSError
        If it cannot be written; the one before is untouched.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
