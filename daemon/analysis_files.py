"""What an offline analysis leaves behind: two tables, label maps, a picture or a video."""

import csv
import gzip
import zipfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from daemon.messaging.payloads import flag_names, iso_utc
from daemon.observation import AnimalObservation, FrameObservation, PartObservation
from daemon.overlay import draw, draw_refused, to_png
from daemon.part_uncertainty import part_uncertainty
from daemon.physiology import TemperatureUncertainty
from daemon.pipeline import Measured
from daemon.vision.parts import BodyPart, Segmentation
from drivers.frame import FrameFlag, ThermalFrame
from drivers.material import Material, MaterialFrame
from drivers.placement import NATIVE
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

Field = NDArray[np.floating]

MASKS_NAME = "parts.npz"
PARTS_NAME = "parts.csv"
ANIMALS_NAME = "animals.csv"
FRAMES_NAME = "frames.csv"
PICTURE_NAME = "overlay.png"
VIDEO_NAME = "overlay.mp4"

_OVERLAY_SCALE = 4
_VIDEO_RATE_HZ = 10
_UNKNOWN = 100
"""First label in the masks of what is no known animal."""
_PART_FIELDS = tuple(field.name for field in fields(PartObservation) if field.name != "part")
_FRAME_COLUMNS = (
    "frame", "source", "time_s", "captured_utc", "captured_utc_ns", "flags", "not_measured", "animals",
    "background_celsius", "fpa_celsius", "shutter_celsius",
)  # fmt: skip
_ANIMAL_COLUMNS = (
    "frame", "source", "time_s", "animal", "part", "area_px", "valid_px", "x_px", "y_px",
    "mean_c", "median_c", "p95_c", "sd_c", "min_c", "max_c",
)  # fmt: skip
_PART_COLUMNS = (
    "frame", "source", "time_s", "captured_utc_ns", "animal", "part", *_PART_FIELDS, "source_x_px", "source_y_px",
    "track", "uncertainty_celsius",
)  # fmt: skip


class Tables:
    """The tables: `frames.csv` has a row per frame, the others one per frame, animal and part.

    `parts.csv` is what the service stores, in pixels of the camera; `animals.csv` describes the masks in `parts.npz`,
    pixel by pixel, at the material's own size.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.frames = self.measured = self.rows = 0
        self.not_measured: Counter[str] = Counter()
        """Frames that are no measurement by reason; refused ones are not among them."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._part_rows = self._writer(stack, PARTS_NAME, _PART_COLUMNS)
            self._animal_rows = self._writer(stack, ANIMALS_NAME, _ANIMAL_COLUMNS)
            self._frame_rows = self._writer(stack, FRAMES_NAME, _FRAME_COLUMNS)
            self._files = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._files.close()

    def _writer(self, stack: ExitStack, name: str, columns: Sequence[str]) -> "csv.DictWriter[str]":
        file = stack.enter_context((self._folder / name).open("w", newline="", encoding="utf-8"))
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        return writer

    def refused(self, index: int, item: MaterialFrame, reason: str) -> None:
        """A transfer that was no good frame."""
        self.frames += 1
        self._frame_rows.writerow({**_origin(index, item), **_captured(item), "not_measured": f"rejected_{reason}"})

    def add(self, index: int, item: MaterialFrame, observation: FrameObservation) -> None:
        """One frame and its parts."""
        self.frames += 1
        if observation.not_measured is None:
            self.measured += 1
        else:
            self.not_measured[observation.not_measured] += 1
        row = {
            **_origin(index, item),
            **_captured(item),
            "flags": " ".join(flag_names(observation.flags)),
            "not_measured": observation.not_measured or "",
            "animals": len(observation.animals),
            "background_celsius": _figure(observation.background_celsius),
        }
        if not observation.flags & FrameFlag.ESTIMATED:  # otherwise they are those of no camera
            row["fpa_celsius"] = _figure(observation.fpa_celsius)
            row["shutter_celsius"] = _figure(observation.shutter_celsius)
        self._frame_rows.writerow(row)
        for animal in observation.animals:
            for part in animal.parts:
                self._add_part(index, item, animal, part, part_uncertainty(part, observation))

    def _add_part(
        self,
        index: int,
        item: MaterialFrame,
        animal: AnimalObservation,
        part: PartObservation,
        uncertainty: TemperatureUncertainty | None,
    ) -> None:
        self.rows += 1
        source_x, source_y = item.placement.point_to_source(part.x_px, part.y_px)
        self._part_rows.writerow(
            {
                **_origin(index, item),
                "captured_utc_ns": _captured(item).get("captured_utc_ns", ""),
                "animal": "" if animal.animal is None else animal.animal,
                "track": "" if animal.track is None else animal.track,
                "part": part.part.name.lower(),
                **{name: _figure(getattr(part, name)) for name in _PART_FIELDS},
                "source_x_px": _figure(source_x),
                "source_y_px": _figure(source_y),
                "uncertainty_celsius": _figure(None if uncertainty is None else uncertainty.total),
            }
        )

    def add_masks(self, index: int, item: MaterialFrame, own_size: Segmentation, celsius: Field | None) -> None:
        """What the masks of a frame cover.

        Parameters
        ----------
        index : int
            Number of the frame.
        item : MaterialFrame
            The frame.
        own_size : Segmentation
            At the material's own size; instances are the animals' numbers.
        celsius : (height, width) float or None
            Of that size; None where temperatures are not known.
        """
        for animal in np.unique(own_size.instances[own_size.instances > 0]).tolist():
            for part in BodyPart:
                mask = (own_size.instances == animal) & (own_size.parts == part)
                if mask.any():
                    row = {**_origin(index, item), "animal": animal, "part": part.name.lower()}
                    self._animal_rows.writerow(row | _mask_figures(mask, celsius))


def _mask_figures(mask: NDArray[np.bool_], celsius: Field | None) -> dict[str, str]:
    rows, columns = np.nonzero(mask)
    figures: dict[str, float | int | None] = {
        "area_px": len(rows),
        "x_px": float(columns.mean()),
        "y_px": float(rows.mean()),
    }
    if celsius is not None:
        values = celsius[mask].astype(np.float64)
        values = values[np.isfinite(values)]
        figures["valid_px"] = len(values)
        if len(values):
            figures |= {"mean_c": float(values.mean()), "median_c": float(np.median(values))}
            figures |= {"p95_c": float(np.percentile(values, 95)), "sd_c": float(values.std())}
            figures |= {"min_c": float(values.min()), "max_c": float(values.max())}
    return {name: _figure(value) for name, value in figures.items()}


def at_own_size(item: MaterialFrame, measured: Measured) -> Segmentation:
    """The masks at the material's own size; instances are the animals' numbers."""
    placement = item.placement
    return Segmentation(
        parts=placement.labels_to_source(measured.segmentation.parts),
        instances=placement.labels_to_source(numbered(measured)),
    )


def own_celsius(item: MaterialFrame, frame: ThermalFrame) -> Field:
    """Degrees C at the material's own size: its own, or those of the frame's pixel that each one lies in."""
    if item.degrees is not None:
        return item.degrees
    return frame.celsius if item.placement == NATIVE else item.placement.labels_to_source(frame.celsius)


def numbered(measured: Measured) -> NDArray[np.uint8]:
    """The instances with the numbers of the animals, shape (192, 256); one that is not known has 100 and more."""
    numbers = np.zeros(256, np.uint8)
    animals = {each.key: each.animal for each in measured.observation.animals}
    for instance, key in measured.numbers.items():
        animal = animals.get(key)
        numbers[instance] = _UNKNOWN + key % (256 - _UNKNOWN) if animal is None else animal
    return numbers[measured.segmentation.instances]


def _origin(index: int, item: MaterialFrame) -> dict[str, object]:
    return {"frame": index, "source": item.source, "time_s": f"{item.time_s:.3f}"}


def _captured(item: MaterialFrame) -> dict[str, object]:
    """When the frame was captured, where that is known."""
    if not item.recorded:
        return {}
    utc_ns = item.raw.captured_utc_ns
    return {"captured_utc": iso_utc(utc_ns), "captured_utc_ns": utc_ns}


def _figure(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"


class Masks:
    """`parts.npz` with the label maps `parts` and `instances`.

    Memory does not grow with the number of frames: the maps wait at the camera's size, compressed, in temporary files
    beside the result and are brought to the material's own size one by one at the end.
    """

    def __init__(self, folder: Path, material: Material) -> None:
        self._folder = folder
        self._placement = material.placement
        self._single = len(material) == 1
        self._frames = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._files = {name: stack.enter_context(_Waiting(self._folder)) for name in ("parts", "instances")}
            self._stack = stack.pop_all()
        return self

    def add(self, measured: Measured) -> None:
        """The maps of one frame."""
        self._files["parts"].write(measured.segmentation.parts.tobytes())
        self._files["instances"].write(numbered(measured).tobytes())
        self._frames += 1

    def add_empty(self) -> None:
        """A frame that was refused has empty maps, so that the n-th map is always the n-th frame's."""
        for file in self._files.values():
            file.write(bytes(IMAGE_HEIGHT * IMAGE_WIDTH))
        self._frames += 1

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        with self._stack:
            if kind is None:
                self._write()

    def _write(self) -> None:
        size = (self._placement.source_height, self._placement.source_width)
        shape = size if self._single else (self._frames, *size)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with zipfile.ZipFile(self._folder / MASKS_NAME, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, waiting in self._files.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member, waiting.read_again() as file:
                    np.lib.format.write_array_header_1_0(member, header)
                    for _ in range(self._frames):
                        labels = np.frombuffer(file.read(IMAGE_HEIGHT * IMAGE_WIDTH), np.uint8)
                        own_size = self._placement.labels_to_source(labels.reshape(IMAGE_HEIGHT, IMAGE_WIDTH))
                        member.write(own_size.tobytes())


class _Waiting:
    """Bytes that wait, compressed, in a file without a name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._file = TemporaryFile(dir=self._folder)
        self._packed = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=1)
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._file:
            self._packed.close()

    def write(self, piece: bytes) -> None:
        """Append."""
        self._packed.write(piece)

    def read_again(self) -> gzip.GzipFile:
        """All of it from the start; nothing more can be written."""
        self._packed.close()
        self._file.seek(0)
        return gzip.GzipFile(fileobj=self._file, mode="rb")


class Overlay:
    """A picture for a single frame; for more a video, whose n-th picture is the n-th frame."""

    def __init__(self, folder: Path, *, single: bool) -> None:
        self._folder = folder
        self._single = single

    def __enter__(self) -> Self:
        if not self._single:
            self._container = av.open(self._folder / VIDEO_NAME, "w")
            self._stream = self._container.add_stream("libx264", rate=Fraction(_VIDEO_RATE_HZ))
            self._stream.width, self._stream.height = IMAGE_WIDTH * _OVERLAY_SCALE, IMAGE_HEIGHT * _OVERLAY_SCALE
            self._stream.pix_fmt = "yuv420p"
        return self

    def add(self, frame: ThermalFrame, measured: Measured) -> None:
        """One frame with its parts."""
        self._add(draw(frame.celsius, measured.segmentation, measured.observation, scale=_OVERLAY_SCALE))

    def add_refused(self, reason: str) -> None:
        """A frame that was refused."""
        self._add(draw_refused(reason, scale=_OVERLAY_SCALE))

    def _add(self, picture: NDArray[np.uint8]) -> None:
        if self._single:
            (self._folder / PICTURE_NAME).write_bytes(to_png(picture))
            return
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")):
            self._container.mux(packet)

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if self._single:
            return
        with self._container:
            if kind is None:
                for packet in self._stream.encode(None):
                    self._container.mux(packet)
