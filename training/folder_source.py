"""A folder of pictures, each with a mask of its parts and perhaps one of its animals."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.false_colour import FalseColourScale
from drivers.placement import Placement
from training.label_map import OWN_LABELS, LabelMap, doubtful_heads
from training.name_moments import NameRule, moments_of_names
from training.picture_files import SUFFIXES, PictureReader, on_frame, read_labels, stretched
from training.samples import DataError, Moment, Sample

logger = logging.getLogger(__name__)

_OWN_MASK = "-parts"
_FOREIGN_MASKS = ("_mask", "-mask")
_INSTANCES = "-instances"
_LOOKED_AT = 20
"""So many masks are asked whether head and tail may be exchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    picture: Path
    mask: Path
    instances: Path | None


class FolderSource:
    """Pictures with masks; fulfils `training.samples.Source`.

    Either all lie in one folder: `NAME.npy` (or .csv, .jpg ...) with `NAME-parts.png` and, if there is one,
    `NAME-instances.png` as `vivarium scene` writes them, or with a foreign `NAME_mask.png`. Or in folders
    `images/NAME.*`, `masks/NAME.png` and perhaps `instances/NAME.png`. A mask of another size is stretched to its
    picture. Pictures without a mask are left out.

    Parameters
    ----------
    folder : Path
        Where they are; folders below it are not looked into.
    labels : LabelMap or None
        What the numbers mean; needed for masks that are not called `-parts`.
    scale : FalseColourScale or None
        What is known about the colours of pictures without degrees.
    single : bool
        Each picture shows one animal, and all parts in it are its own; masks of animals are not looked for.
    names : NameRule
        How the names tell sessions and times.

    Raises
    ------
    DataError
        If there is no picture with a mask, or the labels are not explained.
    """

    def __init__(
        self,
        folder: Path,
        labels: LabelMap | None = None,
        scale: FalseColourScale | None = None,
        *,
        single: bool = False,
        names: NameRule = NameRule(),  # noqa: B008 - frozen
    ) -> None:
        self._single = single
        self._folder = folder
        self._pairs = _pairs(folder)
        self._moments = moments_of_names([pair.picture.stem for pair in self._pairs], names)
        self._labels = labels
        if labels is None and any(not pair.mask.stem.endswith(_OWN_MASK) for pair in self._pairs):
            raise DataError(
                f"{self._pairs[0].mask}: nobody knows what the numbers of a foreign mask mean; say so with labels, for "
                "instance labels=1=tail,2=body,3=head"
            )
        self._pictures = PictureReader(self._pairs[0].picture, scale)
        looked_at = [self._parts(pair, read_labels(pair.mask)) for pair in self._pairs[:_LOOKED_AT]]
        if doubt := doubtful_heads(looked_at):
            logger.warning("%s: %s", folder, doubt)

    @property
    def name(self) -> str:
        """See `Source`."""
        return str(self._folder)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        """See `Source`."""
        pair = self._pairs[index]
        picture = self._pictures.read(pair.picture)
        parts = stretched(read_labels(pair.mask), picture.placement)
        layers = [self._parts(pair, parts).astype(np.int64)]
        if self._single:
            layers.append((layers[0] > 0).astype(np.int64))
        elif pair.instances is not None:
            layers.append(_instances(pair.instances, picture.placement))
            require_agreement(layers[0], layers[1], pair.instances)
        framed = on_frame(layers, picture.placement)
        return Sample(
            name=pair.picture.name,
            celsius=picture.celsius,
            parts=framed[0],
            instances=framed[1] if len(framed) > 1 else None,
            degrees_known=picture.degrees_known,
        )

    def moment(self, index: int) -> Moment:
        """See `Source`; from the name of the picture, see `training.name_moments`."""
        return self._moments[index]

    def _parts(self, pair: _Pair, mask: NDArray[np.int64]) -> NDArray[np.uint8]:
        own = pair.mask.stem.endswith(_OWN_MASK) and self._labels is None
        return (OWN_LABELS if own else self._labels or OWN_LABELS).apply(mask, str(pair.mask))


def require_agreement(parts: NDArray[np.int64], instances: NDArray[np.int64], file: Path) -> None:
    """Refuse masks of parts and animals that cover other pixels.

    Raises
    ------
    DataError
        If they do.
    """
    only_parts = int(np.count_nonzero((parts > 0) & (instances == 0)))
    only_animals = int(np.count_nonzero((parts == 0) & (instances > 0)))
    if only_parts or only_animals:
        raise DataError(
            f"{file}: expected an animal exactly where there is a part, got {only_parts} pixels with a part but no "
            f"animal and {only_animals} the other way round; correct one of the two masks"
        )


def _instances(file: Path, placement: Placement) -> NDArray[np.int64]:
    """Numbers of the animals from 1 on."""
    labels = read_labels(file)
    numbers, places = np.unique(labels, return_inverse=True)
    if len(numbers) > 255:
        raise DataError(f"{file}: expected at most 255 animals, got {len(numbers)} different numbers")
    shift = 0 if numbers[0] == 0 else 1
    return stretched((places + shift).reshape(labels.shape).astype(np.int64), placement)


def _pairs(folder: Path) -> list[_Pair]:
    try:
        found = sorted(_found(folder), key=lambda pair: pair.picture.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    if not found:
        raise DataError(
            f"{folder}: expected pictures with masks, got none: NAME.npy or NAME.jpg with NAME-parts.png or "
            "NAME_mask.png beside it, or images/NAME.* with masks/NAME.png"
        )
    return found


def _found(folder: Path) -> Iterator[_Pair]:
    if (folder / "images").is_dir():
        endings: tuple[str, ...] = ("", _OWN_MASK, *_FOREIGN_MASKS)
        pictures, masks = folder / "images", folder / "masks"
        instances = [folder / "instances"]
    else:
        pictures, masks, endings = folder, folder, (_OWN_MASK, *_FOREIGN_MASKS)
        instances = []
    for file in pictures.iterdir():
        if file.suffix.lower() not in SUFFIXES or file.name.startswith("."):
            continue
        mask = _first(masks / f"{file.stem}{ending}.png" for ending in endings)
        if mask is None or mask == file:
            continue
        yield _Pair(
            picture=file,
            mask=mask,
            instances=_first(
                (masks / f"{file.stem}{_INSTANCES}.png", *(place / f"{file.stem}.png" for place in instances))
            ),
        )


def _first(candidates: Iterable[Path]) -> Path | None:
    return next((file for file in candidates if file.is_file()), None)
