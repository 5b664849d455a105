"""Things that are too many for memory, on the disk for a while."""

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Generic, Self, TypeVar

from drivers.errors import VivariumError

T = TypeVar("T")


class SpoolError(VivariumError):
    """The disk takes, or gives back, no more."""


class Spool(Generic[T]):
    """Takes parts of a long list and gives them back in their order, as often as asked; opened by `with`.

    Only what this process has written is read: nobody else has the name of the file, for it has none.
    """

    def __enter__(self) -> Self:
        with _told():
            self._file = tempfile.TemporaryFile()
        self._ends: list[int] = [0]
        self._count = 0
        return self

    def __exit__(self, *exc_info: object) -> None:
        with suppress(OSError):  # what could not be written is told by then, and nobody reads it any more
            self._file.close()

    def __len__(self) -> int:
        return self._count

    def put(self, part: Sequence[T]) -> None:
        """Add a part of the list.

        Raises
        ------
        SpoolError
            If the disk is full.
        """
        if part:
            with _told():
                self._file.seek(self._ends[-1])
                pickle.dump(list(part), self._file, pickle.HIGHEST_PROTOCOL)
                self._file.flush()
                self._ends.append(self._file.tell())
            self._count += len(part)

    def parts(self) -> Iterator[list[T]]:
        """The parts as they were put in.

        Raises
        ------
        SpoolError
            If the disk fails.
        """
        for start in self._ends[:-1]:
            with _told():
                self._file.seek(start)
                part = pickle.load(self._file)
            yield part


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise SpoolError(f"no file for what is computed in {_folder()}: {reason}; make room there") from error


def _folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return "any folder for temporary files"
