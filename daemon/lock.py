"""One service a data directory."""

import fcntl
import os
from pathlib import Path
from typing import Self

from drivers.errors import ConfigError


class DataDirectoryLock:
    """One service a data directory: two would write over each other."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "vivarium.lock"

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("w")
            if os.geteuid() == 0:  # an administrator's command must not leave a file that keeps the service out
                owner = self._path.parent.stat()
                os.chown(self._path, owner.st_uid, owner.st_gid)
        except OSError as error:
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

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()
