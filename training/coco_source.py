"""Pictures with COCO panoptic annotations: a JSON file, and a PNG of segment ids for each picture.

Format: cocodataset.org, "Format data". The id of a pixel is R + 256 G + 65536 B, 0 is unlabelled.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from daemon.vision.parts import BodyPart
from drivers.false_colour import FalseColourScale
from training.label_map import doubtful_heads
from training.name_moments import NameRule, moments_of_names
from training.picture_files import PictureReader, on_frame, read_segment_ids, stretched
from training.samples import DataError, Moment, Sample

logger = logging.getLogger(__name__)

_WHOLE = -1
"""Stands for a category that is a whole animal."""

_MEANINGS = {
    "background": 0,
    "rat": _WHOLE,
    "mouse": _WHOLE,
    "animal": _WHOLE,
    **{part.name.lower(): int(part) for part in BodyPart},
}
_MEANING_NAMES = ", ".join(_MEANINGS)
_LOOKED_AT = 20
_SQUARE = np.ones((3, 3), np.uint8)


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Picture(_Record):
    id: int
    file_name: str


class _Segment(_Record):
    id: int
    category_id: int
    bbox: tuple[float, float, float, float] | None = None
    """x, y, width, height in pixels."""
    animal: int | None = None
    """Not COCO's: which animal this part belongs to, where whoever wrote the file knew."""


class _Annotation(_Record):
    image_id: int
    file_name: str
    segments_info: tuple[_Segment, ...]


class _Category(_Record):
    id: int
    name: str


class _Content(_Record):
    images: tuple[_Picture, ...]
    annotations: tuple[_Annotation, ...]
    categories: tuple[_Category, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    picture: Path
    segments: Path
    annotation: _Annotation


class CocoSource:
    """COCO panoptic annotations; fulfils `training.samples.Source`.

    Categories are read by name (head, body, tail; rat, mouse or animal for a whole one), or as `categories` says. A
    part belongs to the animal that its segment's field `animal` names. Where there is none, but segments of whole
    animals, to the one whose box holds most of it; pixels of a whole animal that are no part are body. Otherwise each
    segment of a body is one animal, and heads and tails belong to the body that they touch most, or to the nearest.

    Parameters
    ----------
    file : Path
        The JSON file.
    categories : mapping of str to str, optional
        Name or number of a category in the file -> head, body, tail, animal or background.
    images : Path, optional
        Folder of the pictures; beside the JSON file, or in `images` there, when left out.
    masks : Path, optional
        Folder of the PNG files; the one called as the JSON file, or else beside it, when left out.
    scale : FalseColourScale, optional
        What is known about the colours of pictures without degrees.
    names : NameRule
        How the names tell sessions and times.

    Raises
    ------
    DataError
        If the file or a file it names cannot be read, or a category is not understood.
    """

    def __init__(
        self,
        file: Path,
        *,
        categories: Mapping[str, str] | None = None,
        images: Path | None = None,
        masks: Path | None = None,
        scale: FalseColourScale | None = None,
        names: NameRule = NameRule(),  # noqa: B008 - frozen
    ) -> None:
        self._file = file
        content = _content(file)
        self._meanings = _meanings(content, categories or {}, file)
        beside = file.parent
        images = images or (beside / "images" if (beside / "images").is_dir() else beside)
        masks = masks or (file.with_suffix("") if file.with_suffix("").is_dir() else beside)
        pictures = {picture.id: picture for picture in content.images}
        self._items = []
        for annotation in content.annotations:
            if annotation.image_id not in pictures:
                raise DataError(
                    f"{file}: {annotation.file_name} belongs to picture {annotation.image_id}, which is not listed"
                )
            item = _Item(
                picture=images / pictures[annotation.image_id].file_name,
                segments=masks / annotation.file_name,
                annotation=annotation,
            )
            for needed in (item.picture, item.segments):
                if not needed.is_file():
                    raise DataError(
                        f"{file}: names {needed.name}, but {needed} is not there; say where with images= and masks="
                    )
            self._items.append(item)
        if not self._items:
            raise DataError(f"{file}: expected at least one annotation, got none")
        within = (item.picture.relative_to(images).with_suffix("") for item in self._items)
        self._moments = moments_of_names([path.as_posix() for path in within], names)
        self._pictures = PictureReader(self._items[0].picture, scale)
        looked_at = [self._labels(item)[0].astype(np.uint8) for item in self._items[:_LOOKED_AT]]
        if doubt := doubtful_heads(looked_at):
            logger.warning("%s: %s", file, doubt)

    @property
    def name(self) -> str:
        """See `Source`."""
        return str(self._file)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        """See `Source`."""
        item = self._items[index]
        picture = self._pictures.read(item.picture)
        layers = [stretched(layer, picture.placement) for layer in self._labels(item)]
        parts, instances = on_frame(layers, picture.placement)
        return Sample(
            name=item.picture.name,
            celsius=picture.celsius,
            parts=parts,
            instances=instances,
            degrees_known=picture.degrees_known,
        )

    def moment(self, index: int) -> Moment:
        """See `Source`; from the name of the picture and its folder, see `training.name_moments`."""
        return self._moments[index]

    def _labels(self, item: _Item) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Parts, and numbers of the animals, at the size of the PNG."""
        ids = read_segment_ids(item.segments)
        named = {segment.id: segment for segment in item.annotation.segments_info}
        present = [int(number) for number in np.unique(ids) if number]
        unknown = [number for number in present if number not in named]
        if unknown:
            raise DataError(f"{item.segments}: holds segment {unknown[0]}, which {self._file.name} does not describe")
        parts = np.zeros(ids.shape, np.int64)
        for number in present:
            meaning = self._meanings[named[number].category_id]
            parts[ids == number] = BodyPart.BODY if meaning == _WHOLE else meaning
        owners = _owners(ids, [named[number] for number in present], list(named.values()), self._meanings)
        instances = np.zeros(ids.shape, np.int64)
        for place, owner in enumerate(sorted(set(owners.values())), start=1):
            for number in (number for number, animal in owners.items() if animal == owner):
                instances[ids == number] = place
        return parts, instances


def _content(file: Path) -> _Content:
    try:
        return _Content.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{file}: expected JSON, got something else: {error}") from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{file}: expected COCO panoptic annotations, but {where}: {first['msg']}") from error


def _meanings(content: _Content, said: Mapping[str, str], file: Path) -> dict[int, int]:
    """Number of each category -> part, 0 or whole."""
    known = {category.name for category in content.categories} | {str(category.id) for category in content.categories}
    for key, name in said.items():
        if key not in known or name not in _MEANINGS:
            raise DataError(
                f"{file}: expected a category of {', '.join(sorted(known))} and a meaning of {_MEANING_NAMES}, got "
                f"{key}={name}"
            )
    meanings = {}
    for category in content.categories:
        name = said.get(category.name, said.get(str(category.id), category.name.lower()))
        if name not in _MEANINGS:
            raise DataError(
                f"{file}: category {category.name!r} is none of {_MEANING_NAMES}; say what it means, for instance "
                f"labels={category.id}=background"
            )
        meanings[category.id] = _MEANINGS[name]
    used = {segment.category_id for annotation in content.annotations for segment in annotation.segments_info}
    if lacking := used - meanings.keys():
        raise DataError(f"{file}: segments have category {min(lacking)}, which is not among its categories")
    return meanings


def _owners(
    ids: NDArray[np.int64], seen: list[_Segment], listed: list[_Segment], meanings: Mapping[int, int]
) -> dict[int, int]:
    """Segment -> a number of its animal, for all segments that are parts or animals."""
    shown = [segment for segment in seen if meanings[segment.category_id] != 0]
    owners = {segment.id: segment.animal for segment in shown if segment.animal is not None}
    rest = [segment for segment in shown if segment.id not in owners]
    wholes = {segment.id: segment for segment in listed if meanings[segment.category_id] == _WHOLE}
    first_free = 1 + max(owners.values(), default=0)
    if wholes:
        boxes = {number: segment.bbox or _box(ids == number) for number, segment in wholes.items()}
        for segment in rest:
            mask = ids == segment.id
            owner = segment.id if segment.id in wholes else max(boxes, key=lambda number: _inside(mask, boxes[number]))
            owners[segment.id] = first_free + owner
        return owners
    bodies = [segment.id for segment in rest if meanings[segment.category_id] == BodyPart.BODY]
    for segment in rest:
        if segment.id in bodies or not bodies:
            owners[segment.id] = first_free + segment.id
        else:
            owners[segment.id] = first_free + _touching_most(ids, segment.id, bodies)
    return owners


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(mask)
    if not rows.size:
        return 0.0, 0.0, 0.0, 0.0
    return (
        float(columns.min()),
        float(rows.min()),
        float(np.ptp(columns) + 1),
        float(np.ptp(rows) + 1),
    )


def _inside(mask: NDArray[np.bool_], box: tuple[float, float, float, float]) -> int:
    x, y, width, height = box
    rows = slice(max(0, round(y)), max(0, round(y + height)))
    columns = slice(max(0, round(x)), max(0, round(x + width)))
    return int(np.count_nonzero(mask[rows, columns]))


def _touching_most(ids: NDArray[np.int64], number: int, bodies: list[int]) -> int:
    mask = ids == number
    around = ids[cv2.dilate(mask.astype(np.uint8), _SQUARE) > 0]
    touching = {body: int(np.count_nonzero(around == body)) for body in bodies}
    best = max(bodies, key=touching.__getitem__)
    if touching[best]:
        return best
    distance_px = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return min(bodies, key=lambda body: float(distance_px[ids == body].min()))
