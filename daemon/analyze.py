"""The service's own measuring over recorded material: tables, masks and pictures into a directory."""

import csv
import logging
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Self, TextIO

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from daemon.cameras import false_colour_scale
from daemon.messaging.payloads import flag_names, iso_utc
from daemon.observation import FrameObservation, PartObservation
from daemon.overlay import draw, to_png
from daemon.pipeline import Measured, Pipeline
from daemon.settings import ReadingSettings, ReplaySettings
from daemon.vision.classical import ClassicalSegmenter
from drivers.decoder import FrameDecoder
from drivers.errors import FrameRejectedError, MaterialError, UnscaledColoursError
from drivers.frame import ThermalFrame
from drivers.material import SUFFIXES, FalseColourScale, Material, MaterialFrame, open_material
from drivers.replay import decode_material
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

logger = logging.getLogger(__name__)

NOMINAL_RANGE_CELSIUS = (20.0, 40.0)
"""Stands in for the unknown scale of false colours so that shapes can be found; no temperature is reported then."""

MASKS_NAME = "parts.npz"
PARTS_NAME = "parts.csv"
FRAMES_NAME = "frames.csv"
OVERLAY_NAME = "overlay"

_OVERLAY_SCALE = 4
_VIDEO_RATE_HZ = 10
_PART_FIELDS = tuple(field.name for field in fields(PartObservation) if field.name != "part")
_FRAME_COLUMNS = (
    "frame", "source", "captured_utc", "captured_utc_ns", "flags", "not_measured", "animals",
    "background_celsius", "fpa_celsius", "shutter_celsius",
)  # fmt: skip
_PART_COLUMNS = ("frame", "source", "captured_utc_ns", "animal", "part", *_PART_FIELDS, "source_x_px", "source_y_px")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisSettings:
    """How to look at the material."""

    animals: int = 1
    min_area_px: int = 150
    mm_per_px: float | None = None
    range_celsius: tuple[float, float] | None = None
    readings: tuple[ReadingSettings, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisResult:
    """What came of one path."""

    path: Path
    output: Path
    frames: int
    """Frames of the material, also those that were refused or not measured."""
    measured: int
    rows: int
    """Rows of the table of parts."""
    notes: tuple[str, ...]
    """What the user should know about the results."""


def analyze(paths: Sequence[Path], output: Path, settings: AnalysisSettings) -> Iterator[AnalysisResult]:
    """Measure each path; with one material the results are in `output`, with several in a folder each below it.

    A result has `parts.csv` (a row per frame, animal and part), `frames.csv` (a row per frame, with the reason where
    nothing was measured), `parts.npz` (label maps `parts` and `instances` at the material's own size: (height, width)
    for a single picture, (frames, height, width) otherwise) and `overlay.png` or `overlay.mp4`.

    Raises
    ------
    MaterialError
        If a path is nothing that can be replayed, or `output` holds results already.
    """
    materials = [found for path in paths for found in _materials(path)]
    names = _folder_names(materials)
    for path, name in zip(materials, names, strict=True):
        yield _analyze_one(path, output if len(materials) == 1 else output / name, settings)


def _materials(path: Path) -> list[Path]:
    """The path itself, or for a tree of folders every folder in it that holds material."""
    if not path.is_dir():
        return [path]
    folders = [path, *sorted(child for child in path.rglob("*") if child.is_dir())]
    holding = [
        folder for folder in folders if any(f.suffix.lower() in SUFFIXES for f in folder.iterdir() if f.is_file())
    ]
    return holding or [path]


def _folder_names(materials: Sequence[Path]) -> list[str]:
    names: list[str] = []
    for path in materials:
        stem = path.name if path.is_dir() else path.stem
        name, number = stem, 1
        while name in names:
            number += 1
            name = f"{stem}_{number}"
        names.append(name)
    return names


def _open(path: Path, settings: AnalysisSettings) -> tuple[Material, bool]:
    """The material, and whether its temperatures are known."""
    scale = false_colour_scale(ReplaySettings(range_celsius=settings.range_celsius, readings=settings.readings))
    try:
        return open_material(path, scale=scale), True
    except UnscaledColoursError:
        return open_material(path, scale=FalseColourScale(range_celsius=NOMINAL_RANGE_CELSIUS)), False


def _analyze_one(path: Path, output: Path, settings: AnalysisSettings) -> AnalysisResult:
    output.mkdir(parents=True, exist_ok=True)
    for name in (MASKS_NAME, PARTS_NAME, FRAMES_NAME):
        if (output / name).exists():
            raise MaterialError(f"{output / name} is already there: choose another directory")
    material, known = _open(path, settings)
    with ExitStack() as stack:
        stack.enter_context(material)
        tables = stack.enter_context(_Tables(output))
        masks = stack.enter_context(_Masks(output / MASKS_NAME, material))
        overlay = stack.enter_context(_Overlay(output, single=len(material) == 1))
        pipeline = Pipeline(
            ClassicalSegmenter(animals=settings.animals, min_area_px=settings.min_area_px),
            animals=settings.animals,
            mm_per_px=settings.mm_per_px,
        )
        decoder = FrameDecoder(still=material.still)
        for index, item in enumerate(material):
            try:
                frame = decode_material(decoder, item)
            except FrameRejectedError as error:
                tables.refused(index, item, error.reason)
                masks.add_empty()
                continue
            measured = pipeline.process(frame)
            shown = measured if known else _without_temperatures(measured)
            tables.add(index, item, shown.observation)
            masks.add(shown)
            overlay.add(frame, shown)
    return AnalysisResult(
        path=path,
        output=output,
        frames=tables.frames,
        measured=tables.measured,
        rows=tables.rows,
        notes=tuple(_notes(tables, decoder, known=known)),
    )


def _notes(tables: "_Tables", decoder: FrameDecoder, *, known: bool) -> Iterator[str]:
    if not known:
        yield "no temperatures: the colours have no scale; give --range LOW HIGH or two --reading X,Y,C"
    for reason, count in sorted(tables.not_measured.items()):
        yield f"{count} frames not measured: {reason}"
    for reason, count in sorted(decoder.rejected.items()):
        yield f"{count} transfers refused: {reason}"


def _without_temperatures(measured: Measured) -> Measured:
    animals = tuple(
        replace(animal, parts=tuple(_shape_only(part) for part in animal.parts))
        for animal in measured.observation.animals
    )
    observation = replace(measured.observation, animals=animals, background_celsius=None)
    return replace(measured, observation=observation)


def _shape_only(part: PartObservation) -> PartObservation:
    return replace(part, mean_celsius=None, median_celsius=None, p95_celsius=None, min_celsius=None, max_celsius=None)


class _Tables:
    """The two CSV files."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self.frames = self.measured = self.rows = 0
        self.not_measured: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._files: list[TextIO] = []
        self._part_rows = self._writer(PARTS_NAME, _PART_COLUMNS)
        self._frame_rows = self._writer(FRAMES_NAME, _FRAME_COLUMNS)
        return self

    def _writer(self, name: str, columns: Sequence[str]) -> "csv.DictWriter[str]":
        file = (self._output / name).open("w", newline="", encoding="utf-8")
        self._files.append(file)
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        return writer

    def __exit__(self, *exc_info: object) -> None:
        for file in self._files:
            file.close()

    def refused(self, index: int, item: MaterialFrame, reason: str) -> None:
        """A transfer that was no good frame."""
        self.frames += 1
        self._frame_rows.writerow({"frame": index, "source": item.source, "not_measured": f"rejected_{reason}"})

    def add(self, index: int, item: MaterialFrame, observation: FrameObservation) -> None:
        """One frame and its parts."""
        self.frames += 1
        if observation.not_measured is None:
            self.measured += 1
        else:
            self.not_measured[observation.not_measured] = self.not_measured.get(observation.not_measured, 0) + 1
        self._frame_rows.writerow(
            {
                "frame": index,
                "source": item.source,
                "captured_utc": iso_utc(observation.captured_utc_ns) if item.recorded else "",
                "captured_utc_ns": observation.captured_utc_ns,
                "flags": " ".join(flag_names(observation.flags)),
                "not_measured": observation.not_measured or "",
                "animals": len(observation.animals),
                "background_celsius": _figure(observation.background_celsius),
                "fpa_celsius": _figure(observation.fpa_celsius),
                "shutter_celsius": _figure(observation.shutter_celsius),
            }
        )
        for animal in observation.animals:
            for part in animal.parts:
                self._add_part(index, item, observation, animal.animal, part)

    def _add_part(
        self, index: int, item: MaterialFrame, observation: FrameObservation, animal: int, part: PartObservation
    ) -> None:
        self.rows += 1
        values = {name: _figure(getattr(part, name)) for name in _PART_FIELDS}
        source_x, source_y = item.placement.point_to_source(part.x_px, part.y_px)
        self._part_rows.writerow(
            {
                "frame": index,
                "source": item.source,
                "captured_utc_ns": observation.captured_utc_ns,
                "animal": animal,
                "part": part.part.name.lower(),
                **values,
                "source_x_px": _figure(source_x),
                "source_y_px": _figure(source_y),
            }
        )


def _figure(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"


class _Masks:
    """Label maps, kept at the camera's size in temporary files and written at the material's own size at the end."""

    def __init__(self, path: Path, material: Material) -> None:
        self._path = path
        self._placement = material.placement
        self._single = len(material) == 1
        self._frames = 0

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        parts, instances = self._stack.enter_context(TemporaryFile()), self._stack.enter_context(TemporaryFile())
        self._files: dict[str, IO[bytes]] = {"parts": parts, "instances": instances}
        return self

    def add(self, measured: Measured) -> None:
        """The masks of one frame."""
        self._files["parts"].write(measured.segmentation.parts.tobytes())
        self._files["instances"].write(measured.segmentation.instances.tobytes())
        self._frames += 1

    def add_empty(self) -> None:
        """A frame that was refused has empty masks, so that the n-th mask is always the n-th frame's."""
        for file in self._files.values():
            file.write(bytes(IMAGE_HEIGHT * IMAGE_WIDTH))
        self._frames += 1

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        with self._stack:
            if kind is None:
                self._write()

    def _write(self) -> None:
        placement = self._placement
        size = (placement.source_height, placement.source_width)
        shape = size if self._single else (self._frames, *size)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, file in self._files.items():
                file.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    for _ in range(self._frames):
                        labels = np.frombuffer(file.read(IMAGE_HEIGHT * IMAGE_WIDTH), np.uint8)
                        member.write(placement.labels_to_source(labels.reshape(IMAGE_HEIGHT, IMAGE_WIDTH)).tobytes())


class _Overlay:
    """A picture for a single frame, a video for more."""

    def __init__(self, output: Path, *, single: bool) -> None:
        self._picture_path = output / f"{OVERLAY_NAME}.png" if single else None
        self._video_path = output / f"{OVERLAY_NAME}.mp4"

    def __enter__(self) -> Self:
        self._stream: VideoStream | None = None
        if self._picture_path is None:
            self._container = av.open(self._video_path, "w")
            self._stream = self._container.add_stream("libx264", rate=Fraction(_VIDEO_RATE_HZ))
            self._stream.width, self._stream.height = IMAGE_WIDTH * _OVERLAY_SCALE, IMAGE_HEIGHT * _OVERLAY_SCALE
            self._stream.pix_fmt = "yuv420p"
        return self

    def add(self, frame: ThermalFrame, measured: Measured) -> None:
        """One frame with its parts."""
        picture = draw(frame.celsius, measured.segmentation, measured.observation, scale=_OVERLAY_SCALE)
        if self._picture_path is not None:
            self._picture_path.write_bytes(to_png(picture))
        else:
            self._encode(picture)

    def _encode(self, picture: NDArray[np.uint8]) -> None:
        assert self._stream is not None
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")):
            self._container.mux(packet)

    def __exit__(self, *exc_info: object) -> None:
        if self._stream is not None:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
            self._container.close()
