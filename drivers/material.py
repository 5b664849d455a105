"""Recorded material of any kind, frame by frame, as the bytes a camera sends.

Transfers are passed on untouched. Everything else (degrees, false colours) becomes a transfer that decodes to these
degrees, flagged `ESTIMATED`: what follows never knows the difference and never has another way in.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from drivers.clock import NS_PER_S
from drivers.errors import MaterialError
from drivers.false_colour import FalseColourReader, FalseColourScale, Reading
from drivers.frame import FrameFlag, RawFrame
from drivers.material_arrays import read_array
from drivers.material_pictures import is_recording
from drivers.material_sources import (
    ARRAYS,
    TABLES,
    DegreeSource,
    PictureSource,
    RecordingSource,
    Source,
    TransferSource,
    VideoSource,
    read_degrees,
    unlike,
)
from drivers.nuc import HostCorrection
from drivers.placement import Placement
from drivers.sidecar import RecordingHeader
from drivers.t2s_protocol import FRAME_RATE_HZ
from drivers.thermometry import Calibration

__all__ = ["FalseColourScale", "Material", "MaterialFrame", "Placement", "Reading", "open_material"]

_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
_VIDEOS = frozenset({".mkv", ".mp4", ".avi", ".webm", ".mov"})
SUFFIXES = ARRAYS | TABLES | _PICTURES | _VIDEOS
"""Endings of files that can be replayed, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaterialFrame:
    """One frame of recorded material."""

    raw: RawFrame
    """The transfer, numbered from 0, with the times of its capture where they were recorded; otherwise both times
    count from 0 at the start of the material. A damaged frame of a recording has no bytes: the decoder refuses it."""
    time_s: float
    """When it is to be played, from the start of the material. Between two files lies one period."""
    calibration: Calibration | None
    """What turned the counts into degrees; None where the transfer itself must say it."""
    correction: HostCorrection | None
    """Of a recorded v2: what the counts were corrected with; None where there was none, or it is not known."""
    flags: FrameFlag
    """`ESTIMATED` for what was no transfer; those of its capture for a recorded frame."""
    source: str
    """File name and number within the file."""
    placement: Placement
    """Where the source's own pixels lie in the frame."""
    recorded: bool
    """Whether the times of `raw` are those of its capture."""
    degrees: NDArray[np.floating] | None = None
    """Degrees C at the source's own size, where it holds them."""


class Material:
    """Recorded material, closed by `with`; each iteration starts anew. Made by `open_material`."""

    def __init__(self, path: Path, sources: Sequence[Source], rate_hz: float) -> None:
        self.path = path
        """What was opened: a file or a folder."""
        self._sources = sources
        self._period_s = 1 / rate_hz
        self.rate_hz = sources[0].rate_hz or rate_hz
        """Frames per second, by its own times or as it was opened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Nothing is held: files are open only while they are iterated over."""

    def __len__(self) -> int:
        return sum(map(len, self._sources))

    @property
    def still(self) -> bool:
        """Whether an unchanged picture is natural here and no sign of a closed shutter or a stalled stream."""
        return len(self) == 1 or any(source.estimated for source in self._sources)

    @property
    def plans(self) -> tuple[RecordingHeader, ...]:
        """What was planned to be in it, of each recording; empty for everything else."""
        return tuple(source.plan for source in self._sources if source.plan is not None)

    @property
    def has_times(self) -> bool:
        """Whether it says itself when its frames were taken, or at what distance."""
        return all(source.rate_hz is not None for source in self._sources)

    @property
    def placement(self) -> Placement:
        """Of all its frames."""
        return self._sources[0].placement

    def __iter__(self) -> Iterator[MaterialFrame]:
        """All frames in order.

        Raises
        ------
        MaterialError
            At one that cannot be read.
        """
        sequence = 0
        start_s = 0.0
        for source in self._sources:
            time_s = start_s
            for index, piece in enumerate(source.pieces()):
                time_s = start_s + (index * self._period_s if piece.time_s is None else piece.time_s)
                yield MaterialFrame(
                    raw=piece.recorded or _raw(sequence, time_s, piece.payload),
                    time_s=time_s,
                    calibration=piece.calibration,
                    correction=piece.correction,
                    flags=piece.flags,
                    source=piece.name,
                    placement=piece.placement,
                    recorded=piece.recorded is not None,
                    degrees=piece.degrees,
                )
                sequence += 1
            start_s = time_s + self._period_s


def _raw(sequence: int, time_s: float, payload: bytes) -> RawFrame:
    since_start_ns = round(time_s * NS_PER_S)
    return RawFrame(
        sequence=sequence, captured_utc_ns=since_start_ns, captured_monotonic_ns=since_start_ns, payload=payload
    )


def open_material(path: Path, *, scale: FalseColourScale | None = None, rate_hz: float = FRAME_RATE_HZ) -> Material:
    """Open recorded material.

    Parameters
    ----------
    path : Path
        A recording, `.npy`, `.npz`, `.csv`, picture, video, or a folder of such files of one kind and size. Recordings
        are taken in the order of their time, all others in that of their names with numbers as numbers.
    scale : FalseColourScale, optional
        How the colours of pictures and video become degrees; needed for these only. Palette and scale are those of
        the first picture.
    rate_hz : float
        Frames per second where the material has no times of its own.

    Raises
    ------
    MaterialError
        If there is nothing to replay, or something that is not what it should be. What is wrong with a later picture
        of a folder is found when its turn comes.
    """
    if not rate_hz > 0:
        raise MaterialError(f"frames per second must be positive, got {rate_hz:g}")
    if not path.exists():
        raise MaterialError(f"{path}: there is no such file or folder")
    files = _files_of(path) if path.is_dir() else [path]
    reader = None if scale is None else FalseColourReader(scale)
    if all(file.suffix.lower() in _PICTURES for file in files):
        return Material(path, [PictureSource(files, reader)], rate_hz)
    sources: list[Source] = []
    for file in files:
        source = _source_of(file, reader)
        sources.append(source)
        _check_alike(sources[0], source)
    if not any(map(len, sources)):
        raise MaterialError(f"{path}: expected at least one frame, got none")
    return Material(path, sorted(sources, key=_planned), rate_hz)


def _planned(source: Source) -> tuple[int, int]:
    """Order of recordings in time: a morning comes before an evening, whatever they are called."""
    plan = source.plan
    return (0, 0) if plan is None else (plan.start_utc_ns, plan.accounted_from_utc_ns)


def _files_of(folder: Path) -> list[Path]:
    try:
        present = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    except OSError as error:
        raise MaterialError(f"{folder}: cannot be read: {error.strerror}") from error
    known = [file for file in present if file.suffix.lower() in SUFFIXES]
    if not known:
        raise MaterialError(
            f"{folder}: expected files ending in {', '.join(sorted(SUFFIXES))}, "
            f"got {len(present)} others and none of these"
        )
    return sorted(known, key=_natural)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Order of names in which 2 comes before 10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _source_of(path: Path, reader: FalseColourReader | None) -> Source:
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return DegreeSource(path, _shape(read_degrees(path).shape))
    if suffix in ARRAYS:
        stack = read_array(path)
        if stack.dtype.kind == "u":
            return TransferSource(path, len(stack))
        return DegreeSource(path, _shape(stack.shape))
    if suffix in _PICTURES:
        return PictureSource([path], reader)
    if suffix in _VIDEOS:
        return RecordingSource(path) if is_recording(path) else VideoSource(path, reader)
    raise MaterialError(f"{path}: expected a file ending in {', '.join(sorted(SUFFIXES))}")


def _shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    count, height, width = shape
    return count, height, width


def _check_alike(first: Source, other: Source) -> None:
    if other.kind != first.kind:
        raise MaterialError(
            f"{other.path}: expected {first.kind} as in {first.path.name}, got {other.kind}; one folder, one kind"
        )
    if other.placement != first.placement:
        raise MaterialError(unlike(other.path, other.placement, first.path, first.placement))
