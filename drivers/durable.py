"""Small files that are there as a whole or not at all."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_anew(path: Path, mode: int = 0o666) -> int:
    """Open a file that is certainly new; what had its name is removed, and a link is never followed.

    Root, too, writes into folders of the service's user, who could have put a link to somebody else's file there.

    Raises
    ------
    OSError
        If it cannot be made, or something takes the name meanwhile.
    """
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def write_durably(path: Path, content: bytes) -> None:
    """Put a file into place in one step that survives a power cut: all of it, or the one before.

    Raises
    ------
    OSError
        If it cannot be written; the one before is untouched.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with os.fdopen(create_anew(temporary), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put new files, by their names, into a folder; when this returns their content survives a power cut.

    The disk is waited for once all are written, which takes little more than for one file. Until this returns any of
    them may be there in part: nobody is to know of the folder before. Of a folder that is new itself the parent is to
    be synchronized, too (`sync_directory`).

    Raises
    ------
    OSError
        If one cannot be written.
    """
    with ExitStack() as opened:
        written = []
        for name, content in files.items():
            file = opened.enter_context(os.fdopen(create_anew(folder / name), "wb"))
            file.write(content)
            file.flush()
            written.append(file)
        for file in written:
            os.fsync(file.fileno())
    sync_directory(folder)
