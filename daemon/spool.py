"""Things that are too many for memory, on the disk for a while."""

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Spool(Generic[T]):
    """Takes parts of a long list and gives them back in their order, as often as asked; opened by `with`.

    Only what this process has written is read: nobody else has the name of the file, for it has none.
    """

    def __enter__(self) -> Self:
        self._file = tempfile.TemporaryFile()
        self._ends: list[int] = [0]
        self._count = 0
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def put(self, part: Sequence[T]) -> None:
        """Add a part of the list."""
        if part:
            self._file.seek(self._ends[-1])
            pickle.dump(list(part), self._file, pickle.HIGHEST_PROTOCOL)
            self._ends.append(self._file.tell())
            self._count += len(part)

    def parts(self) -> Iterator[list[T]]:
        """The parts as they were put in."""
        for start in self._ends[:-1]:
            self._file.seek(start)
            yield pickle.load(self._file)
