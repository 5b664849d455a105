"""One service a data directory."""

import fcntl
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
