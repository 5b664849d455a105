"""One service a data directory."""

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Self

from drivers.errors import ConfigError


class DataDirectoryLock:
    """One service a data directory: two would write over each other."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "vivarium.lock"

    def __enter__(self) -> Self:
        try:
            self._file = os.fdopen(self._open(), "r+")
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ConfigError(
                    f"box.data_dir: {self._path} must be a plain file of its own, not a link or the like: remove it"
                ) from error
            raise ConfigError(
                f"box.data_dir: {self._path} cannot be written: {error.strerror}; "
                "chown the directory to the service's user or choose another one"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ConfigError(
                f"box.data_dir: {self._path.parent} is in use by another service; stop it or choose another directory"
            ) from None
        return self

    def _open(self) -> int:
        """Without following a link: the service's user could have put one there that leads to a file of root's."""
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path.name, flags, 0o640, dir_fd=folder)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:  # a further name of somebody else's file
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if os.geteuid() == 0:  # an administrator's command must not leave a file that keeps the service out
                    owner = os.fstat(folder)
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
            except OSError:
                os.close(descriptor)
                raise
        finally:
            os.close(folder)
        return descriptor

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()


def is_held(directory: Path) -> bool:
    """Whether a service runs on this data directory; True also where we may not look."""
    try:
        with (directory / "vivarium.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        return False
    return False
