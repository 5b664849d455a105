"""The service's own measuring over recorded material: tables, masks and pictures into a directory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import av

from daemon.analysis_files import (
    ANIMALS_NAME,
    FRAMES_NAME,
    MASKS_NAME,
    PARTS_NAME,
    PICTURE_NAME,
    VIDEO_NAME,
    Masks,
    Overlay,
    Tables,
    at_own_size,
    own_celsius,
)
from daemon.analysis_minutes import MINUTES_NAME, MinuteTable
from daemon.cameras import false_colour_scale
from daemon.candidates import MOST_TOGETHER
from daemon.observation import PartObservation
from daemon.pipeline import Measured, Pipeline, nests_of
from daemon.reference import References
from daemon.settings import ReadingSettings, ReferenceSettings, ReplaySettings, ZoneSettings
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.segmenter import NetworkSegmenter
from drivers.decoder import FrameDecoder
from drivers.errors import FrameRejectedError, MaterialError, UnscaledColoursError, VivariumError
from drivers.material import SUFFIXES, FalseColourScale, Material, MaterialFrame, open_material
from drivers.replay import decode_material

NOMINAL_RANGE_CELSIUS = (20.0, 40.0)
"""Stands in for the unknown scale of false colours so that shapes can be found; no temperature is reported then."""

_RESULTS = (PARTS_NAME, ANIMALS_NAME, FRAMES_NAME, MINUTES_NAME, PICTURE_NAME, VIDEO_NAME, MASKS_NAME)
"""In the order in which they appear: where the last one is, the results are complete."""

_UNFINISHED = ".unfinished-"


class AnalysisError(VivariumError):
    """Results cannot be written, or are there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisSettings:
    """How to look at the material."""

    animals: int | None = None
    """How many there are at most; None for as many as the networks find, and one without networks."""
    min_area_px: int = 150
    """Smaller warm areas are no animals, without networks."""
    mm_per_px: float | None = None
    range_celsius: tuple[float, float] | None = None
    readings: tuple[ReadingSettings, ...] = ()
    zones: tuple[ZoneSettings, ...] = ()
    """Watched in the values of minutes."""
    reference: tuple[ReferenceSettings, ...] = ()
    """Patches that correct the frames; those of a contact probe say nothing, what it told then is not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisTarget:
    """One material and where its results go."""

    path: Path
    output: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisResult:
    """What came of one material."""

    frames: int
    """Frames of the material, also those that were refused or not measured."""
    measured: int
    rows: int
    """Rows of the table of parts."""
    minute_rows: int | None
    """Rows of the table of minutes; None where there is none."""
    notes: tuple[str, ...]
    """What the user should know about the results."""


def analysis_targets(paths: Sequence[Path], output: Path) -> list[AnalysisTarget]:
    """What there is to analyze: files, folders, and for a tree of folders each folder in it that holds material.

    With one material the results go into `output`, with several into a folder each below it.

    Raises
    ------
    MaterialError
        If a path does not exist.
    AnalysisError
        If there are results already where some are to go.
    """
    for path in paths:
        if not path.exists():
            raise MaterialError(f"{path}: there is no such file or folder")
    materials = [found for path in paths for found in _materials(path, output)]
    if len(materials) == 1:
        targets = [AnalysisTarget(path=materials[0], output=output)]
    else:
        names = _folder_names(materials)
        targets = [AnalysisTarget(path=path, output=output / name) for path, name in zip(materials, names, strict=True)]
    for target in targets:
        _require_no_results(target.output)
    return targets


def _materials(path: Path, output: Path) -> list[Path]:
    """The path itself, or the folders in a tree that hold material; earlier results below `output` are none."""
    if not path.is_dir():
        return [path]
    folders = [path, *sorted(child for child in path.rglob("*") if child.is_dir())]
    results = output.resolve()
    holding = [folder for folder in folders if _holds_material(folder) and not folder.resolve().is_relative_to(results)]
    return holding or [path]


def _holds_material(folder: Path) -> bool:
    return any(
        file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        for file in folder.iterdir()
    )


def _folder_names(materials: Sequence[Path]) -> list[str]:
    names: list[str] = []
    for path in materials:
        resolved = path.resolve()  # "." has no name
        stem = resolved.name if path.is_dir() else resolved.stem
        name, number = stem, 1
        while name in names:
            number += 1
            name = f"{stem}_{number}"
        names.append(name)
    return names


def _require_no_results(output: Path) -> None:
    for name in _RESULTS:
        if (output / name).exists():
            raise AnalysisError(f"{output / name} is already there: choose another directory")


def analyze(
    target: AnalysisTarget,
    settings: AnalysisSettings,
    *,
    networks: NetworkSegmenter | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> AnalysisResult:
    """Measure one material.

    The results are `parts.csv` (a row per frame, animal and part, as the service stores it), `frames.csv` (a row per
    frame, with the reason where nothing was measured), `overlay.png` or `overlay.mp4`, `parts.npz` (label maps `parts`
    and `instances` at the material's own size: (height, width) for a single picture, (frames, height, width) otherwise;
    an instance has the number of its animal in the tables), and `animals.csv` (a row per frame, animal and part about
    the pixels of these maps). Of material that says when its frames were taken there is also `minutes.csv`, what
    `vivarium measures` says of the service's minutes. They appear when all is done, `parts.npz` last: what is
    interrupted leaves none of them.

    Parameters
    ----------
    target : AnalysisTarget
        From `analysis_targets`.
    settings : AnalysisSettings
        How to look at it.
    networks : NetworkSegmenter, optional
        Find the animals; without them they are found by their warmth.
    on_progress : callable
        Told how many frames are done, and of how many.

    Raises
    ------
    MaterialError
        If the material cannot be replayed, or not to its end.
    AnalysisError
        If the results cannot be written.
    """
    material, known = _open(target.path, settings)
    output = target.output
    try:
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=_UNFINISHED, dir=output) as folder:
            result = _analyze(material, Path(folder), settings, networks, known=known, on_progress=on_progress)
            _require_no_results(output)
            for name in _RESULTS:
                if (Path(folder) / name).exists():
                    (Path(folder) / name).rename(output / name)
    except (OSError, av.FFmpegError) as error:
        raise AnalysisError(f"{output}: the results cannot be written: {error.strerror or error}") from error
    return result


def _open(path: Path, settings: AnalysisSettings) -> tuple[Material, bool]:
    """The material, and whether its temperatures are known."""
    scale = false_colour_scale(ReplaySettings(range_celsius=settings.range_celsius, readings=settings.readings))
    try:
        return open_material(path, scale=scale), True
    except UnscaledColoursError:
        return open_material(path, scale=FalseColourScale(range_celsius=NOMINAL_RANGE_CELSIUS)), False


def _analyze(
    material: Material,
    folder: Path,
    settings: AnalysisSettings,
    networks: NetworkSegmenter | None,
    *,
    known: bool,
    on_progress: Callable[[int, int], None],
) -> AnalysisResult:
    decoder = FrameDecoder(still=material.still)
    animals = settings.animals or (1 if networks is None else MOST_TOGETHER)
    with ExitStack() as stack:
        writers = _Writers(
            minutes=stack.enter_context(
                MinuteTable(folder, material, animals=animals, zones=settings.zones, mm_per_px=settings.mm_per_px)
            )
            if material.has_times
            else None,
            tables=stack.enter_context(Tables(folder)),
            masks=stack.enter_context(Masks(folder, material)),
            overlay=stack.enter_context(Overlay(folder, single=len(material) == 1)),
        )
        pipeline = Pipeline(
            networks or ClassicalSegmenter(animals=animals, min_area_px=settings.min_area_px),
            animals=animals,
            mm_per_px=settings.mm_per_px,
            references=References(settings.reference),
            nests=nests_of(settings.zones),
        )
        for index, item in enumerate(stack.enter_context(material)):
            _analyze_frame(index, item, decoder, pipeline, writers, known=known)
            on_progress(index + 1, len(material))
    tables = writers.tables
    return AnalysisResult(
        frames=tables.frames,
        measured=tables.measured,
        rows=tables.rows,
        minute_rows=None if writers.minutes is None else writers.minutes.rows,
        notes=tuple(_notes(tables, decoder, known=known)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writers:
    minutes: MinuteTable | None
    tables: Tables
    masks: Masks
    overlay: Overlay


def _analyze_frame(
    index: int, item: MaterialFrame, decoder: FrameDecoder, pipeline: Pipeline, writers: _Writers, *, known: bool
) -> None:
    try:
        frame = decode_material(decoder, item)
    except FrameRejectedError as error:
        writers.tables.refused(index, item, error.reason)
        writers.masks.add_empty()
        writers.overlay.add_refused(error.reason)
        return
    measured = pipeline.process(frame)
    shown = measured if known else _without_temperatures(measured)
    writers.tables.add(index, item, shown.observation)
    if writers.minutes is not None:
        writers.minutes.add(shown.observation)
    writers.tables.add_masks(index, item, at_own_size(item, shown), own_celsius(item, frame) if known else None)
    writers.masks.add(shown)
    writers.overlay.add(frame, shown)


def _notes(tables: Tables, decoder: FrameDecoder, *, known: bool) -> Iterator[str]:
    if not known:
        yield "no temperatures: the colours have no scale; give --range LOW HIGH or two --reading X,Y,C"
    for reason, count in sorted(tables.not_measured.items()):
        yield f"{counted(count, 'frame')} not measured: {reason}"
    for reason, count in sorted(decoder.rejected.items()):
        yield f"{counted(count, 'transfer')} refused: {reason}"


def counted(count: int, noun: str) -> str:
    """A number of things in words."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _without_temperatures(measured: Measured) -> Measured:
    animals = tuple(
        replace(animal, parts=tuple(_shape_only(part) for part in animal.parts))
        for animal in measured.observation.animals
    )
    groups = tuple(replace(group, mean_celsius=None, max_celsius=None) for group in measured.observation.groups)
    observation = replace(
        measured.observation, animals=animals, groups=groups, background_celsius=None, nest_celsius=None
    )
    return replace(measured, observation=observation)


def _shape_only(part: PartObservation) -> PartObservation:
    return replace(part, mean_celsius=None, median_celsius=None, p95_celsius=None, min_celsius=None, max_celsius=None)
