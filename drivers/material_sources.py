"""The kinds of files that can be replayed, each as the bytes a camera sends."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.clock import NS_PER_S
from drivers.errors import MaterialError, RecordingError, UnscaledColoursError
from drivers.estimated import CALIBRATION, transfer_of
from drivers.false_colour import FalseColourReader
from drivers.frame import FrameFlag, RawFrame
from drivers.material_arrays import read_array, read_csv
from drivers.material_pictures import Video, read_picture
from drivers.nuc import HostCorrection
from drivers.placement import NATIVE, Placement
from drivers.recording import Recording
from drivers.sidecar import RecordingHeader
from drivers.thermometry import Calibration

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What a source gives for one frame; its number and time within the whole are `drivers.material`'s."""

    name: str
    """File name and number within the file."""
    payload: bytes
    placement: Placement
    time_s: float | None = None
    """Since the start of the source; None where it has no times."""
    calibration: Calibration | None = None
    correction: HostCorrection | None = None
    flags: FrameFlag = FrameFlag.NONE
    recorded: RawFrame | None = None
    """As it was captured, where that is known."""
    degrees: NDArray[np.floating] | None = None
    """Degrees C at the source's own size, where it holds them."""


class Source(ABC):
    """A file, or a series of pictures. Nothing stays open between iterations."""

    kind: str
    """What it holds: the sources of one folder must agree."""
    path: Path
    """The file, or the first one."""
    placement: Placement
    estimated = False
    """Whether degrees were known in place of counts."""
    rate_hz: float | None = None
    """Frames per second by its own times; None where it has none."""
    plan: RecordingHeader | None = None
    """What was planned to be in it; recordings only."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """All frames in order, from the start at each call.

        Raises
        ------
        MaterialError
            At one that cannot be read.
        """


def _estimated(celsius: NDArray[np.floating], name: str, placement: Placement, time_s: float | None = None) -> Piece:
    return Piece(
        name=name,
        payload=transfer_of(celsius, name),
        placement=placement,
        time_s=time_s,
        calibration=CALIBRATION,
        flags=FrameFlag.ESTIMATED,
    )


class RecordingSource(Source):
    """A recording of `drivers.recording`."""

    kind = "recordings"
    placement = NATIVE

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as recording:
            self._length = len(recording)
            self.plan = recording.header
            self.rate_hz = NS_PER_S / recording.header.period_ns

    def _open(self) -> Recording:
        try:
            return Recording(self.path)
        except RecordingError as error:
            raise MaterialError(str(error)) from error

    def __len__(self) -> int:
        return self._length

    def pieces(self) -> Iterator[Piece]:
        """See `Source`; a damaged frame comes without bytes, so that the decoder refuses and counts it."""
        with self._open() as recording:
            facts = recording.frames[: self._length]  # one that still grows ends where it ended when it was opened
            for index, fact in enumerate(facts):
                name = f"{self.path.name}#{index}"
                time_s = (fact.captured_monotonic_ns - facts[0].captured_monotonic_ns) / NS_PER_S
                try:
                    frame = recording[index]
                except RecordingError as error:
                    logger.warning("%s is damaged: %s", name, error)
                    yield Piece(name=name, payload=b"", placement=NATIVE, time_s=time_s)
                    continue
                yield Piece(
                    name=name,
                    payload=frame.raw.payload,
                    placement=NATIVE,
                    time_s=time_s,
                    calibration=frame.calibration,
                    correction=frame.correction,
                    flags=frame.flags,
                    recorded=frame.raw,
                )


class TransferSource(Source):
    """An array of whole transfers."""

    kind = "transfers"
    placement = NATIVE

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        self._length = length

    def __len__(self) -> int:
        return self._length

    def pieces(self) -> Iterator[Piece]:
        """See `Source`."""
        for index, transfer in enumerate(read_array(self.path)):
            yield _of_transfer(transfer, f"{self.path.name}#{index}")


def _of_transfer(transfer: NDArray[np.generic], name: str) -> Piece:
    return Piece(name=name, payload=transfer.astype("<u2").tobytes(), placement=NATIVE)


class DegreeSource(Source):
    """An array or table of degrees C."""

    kind = "degrees"
    estimated = True

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path = path
        self._length, height, width = shape
        self.placement = Placement.fit(width, height)

    def __len__(self) -> int:
        return self._length

    def pieces(self) -> Iterator[Piece]:
        """See `Source`."""
        for index, celsius in enumerate(read_degrees(self.path)):
            field = self.placement.field_to_frame(celsius)
            piece = _estimated(field, f"{self.path.name}#{index}", self.placement)
            yield replace(piece, degrees=celsius)


def read_degrees(path: Path) -> NDArray[np.floating]:
    """A stack of degrees C from any file that holds numbers, shape (n, height, width)."""
    if path.suffix.lower() in TABLES:
        return read_csv(path)[np.newaxis]
    stack = read_array(path)
    if stack.dtype.kind != "f":
        raise MaterialError(
            f"{path}: expected degrees C, got whole transfers: the file has changed since it was opened"
        )
    return stack.astype(stack.dtype, copy=False)


class PictureSource(Source):
    """A picture, or a folder of them: false colours, or whole transfers in 16 bits.

    Only the first is looked at before its turn; a folder may hold a day.
    """

    kind = "pictures"

    def __init__(self, paths: Sequence[Path], reader: FalseColourReader | None) -> None:
        self._paths = paths
        self.path = paths[0]
        self._reader = reader
        picture = read_picture(self.path)
        self.estimated = picture.dtype == np.uint8
        if self.estimated and reader is None:
            raise scale_wanted(self.path)
        self.placement = Placement.fit(picture.shape[1], picture.shape[0]) if self.estimated else NATIVE

    def __len__(self) -> int:
        return len(self._paths)

    def pieces(self) -> Iterator[Piece]:
        """See `Source`."""
        for path in self._paths:
            picture = read_picture(path)
            if (picture.dtype == np.uint8) != self.estimated:
                raise MaterialError(
                    f"{path}: {picture.dtype} is another kind than {self.path.name}; one folder, one kind"
                )
            if picture.dtype == np.uint16:
                yield _of_transfer(picture, path.name)
            elif self._reader is not None:
                placement = Placement.fit(picture.shape[1], picture.shape[0])
                if placement != self.placement:
                    raise MaterialError(unlike(path, placement, self.path, self.placement))
                celsius = self._reader.celsius(picture.astype(np.uint8, copy=False), str(path))
                yield _estimated(celsius, path.name, placement)


class VideoSource(Source):
    """A video of false colours."""

    kind = "video"
    estimated = True

    def __init__(self, path: Path, reader: FalseColourReader | None) -> None:
        if reader is None:
            raise scale_wanted(path)
        self.path = path
        self._reader = reader
        self._video = Video.of(path)
        self.rate_hz = self._video.rate_hz
        self.placement = Placement.fit(self._video.width, self._video.height)

    def __len__(self) -> int:
        return self._video.pictures

    def pieces(self) -> Iterator[Piece]:
        """See `Source`."""
        start_s: float | None = None
        for index, shown in enumerate(self._video.decode()):
            name = f"{self.path.name}#{index}"
            placement = Placement.fit(shown.picture.shape[1], shown.picture.shape[0])
            if placement != self.placement:
                raise MaterialError(unlike(self.path, placement, self.path, self.placement))
            if start_s is None:
                start_s = shown.time_s
            time_s = None if shown.time_s is None or start_s is None else shown.time_s - start_s
            yield _estimated(self._reader.celsius(shown.picture, name), name, placement, time_s)


def scale_wanted(path: Path) -> UnscaledColoursError:
    """Colours without a scale."""
    return UnscaledColoursError(
        f"{path}: a picture has colours, not degrees: give the range of its palette, or at least two readings"
    )


def unlike(path: Path, got: Placement, first: Path, expected: Placement) -> str:
    """Message: material of mixed sizes."""
    return (
        f"{path}: expected {expected.source_width} x {expected.source_height} pixels as in {first.name}, "
        f"got {got.source_width} x {got.source_height}; one folder, one size"
    )


ARRAYS = frozenset({".npy", ".npz"})
TABLES = frozenset({".csv", ".tsv"})
