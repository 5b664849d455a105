"""Labelled pictures by a short text: `scenes`, a folder, recordings, COCO annotations, or several of them mixed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch.utils.data import Dataset

from drivers.errors import MaterialError
from drivers.false_colour import FalseColourScale, Reading
from drivers.vivarium.dice import FIRST_TEST_SEED
from training.coco_source import CocoSource
from training.folder_source import FolderSource
from training.label_map import LabelMap
from training.mixed import MixedSource
from training.recording_source import RecordingSource
from training.samples import DataError, Sample, Source
from training.scenes import SceneSource

DEFAULT_SCENES = 500

SPEC_HELP = (
    "scenes or scenes:FIRST+COUNT; a folder of pictures and masks; a recording (.mkv) or a folder of them, with masks; "
    "a COCO panoptic .json. With options behind it: FOLDER?labels=1=tail,2=body,3=head&range=20,40&weight=2"
)
"""For the help of commands."""

_KEYS = ("labels", "range", "reading", "palette", "masks", "images", "weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """What to open, and how."""

    place: str
    """`scenes` with its numbers, or a path."""
    options: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `PLACE?key=value&key=value`.

        Raises
        ------
        DataError
            If an option is unknown.
        """
        place, _, query = text.partition("?")
        options: dict[str, tuple[str, ...]] = {}
        for pair in filter(None, query.split("&")):
            key, _, value = pair.partition("=")
            if key not in _KEYS or not value:
                raise DataError(f"{text}: expected options {', '.join(_KEYS)} as key=value, got {pair!r}")
            options[key] = (*options.get(key, ()), value)
        return cls(place=place, options=options)

    def one(self, key: str) -> str | None:
        """The value of an option that may stand only once; None without it."""
        values = self.options.get(key, ())
        if len(values) > 1:
            raise DataError(f"{self.place}: {key} is given {len(values)} times")
        return values[0] if values else None


def open_source(
    specs: str | Sequence[str],
    *,
    labels: str | None = None,
    length: int | None = None,
    seed: int = 0,
    first_seed: int = FIRST_TEST_SEED,
    count: int = DEFAULT_SCENES,
) -> Source:
    """Open labelled pictures.

    Parameters
    ----------
    specs : str or sequence of str
        `scenes` (those that the last two parameters say), `scenes:FIRST+COUNT`, or a path: a folder (`FolderSource`),
        a recording or a folder of recordings (`RecordingSource`), a JSON file (`CocoSource`). Behind it options as
        `?key=value&key=value`: `labels` (`1=tail,2=body,3=head`; for COCO `NAME=part`), `range` (`LOW,HIGH`, °C of
        false colours) or `reading` (`X,Y,C`, two or more), `palette`, `masks`, `images` (folders), `weight` (in a mix).
    labels : str, optional
        For those without labels of their own.
    length : int, optional
        Pictures of one round of a mix; all of the sources together when left out.
    seed : int
        Of the mix.
    first_seed, count : int
        Of plain `scenes`.

    Raises
    ------
    DataError
        If a text is not understood, or what it names is not what it should be.
    """
    parsed = [SourceSpec.parse(spec) for spec in ([specs] if isinstance(specs, str) else specs)]
    if not parsed:
        raise DataError("expected at least one source of pictures, got none")
    sources = [_open(spec, labels, first_seed, count) for spec in parsed]
    if len(sources) == 1:
        return sources[0]
    weights = [_weight(spec) for spec in parsed]
    return MixedSource(sources, weights, length=length or sum(map(len, sources)), seed=seed)


def _open(spec: SourceSpec, labels: str | None, first_seed: int, count: int) -> Source:
    kind, _, numbers = spec.place.partition(":")
    if kind == "scenes":
        return _scenes(spec, numbers) if numbers else SceneSource(first_seed, count)
    path = Path(spec.place)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; expected {SPEC_HELP}")
    said = spec.one("labels") or labels
    masks, images = spec.one("masks"), spec.one("images")
    if path.suffix.lower() == ".json":
        return CocoSource(
            path,
            categories=_categories(said),
            images=Path(images) if images else None,
            masks=Path(masks) if masks else None,
            scale=_scale(spec),
        )
    recordings = [path] if path.suffix.lower() == ".mkv" else sorted(path.glob("*.mkv")) if path.is_dir() else []
    if recordings:
        return RecordingSource(recordings, Path(masks) if masks else None)
    if not path.is_dir():
        raise DataError(f"{path}: expected {SPEC_HELP}")
    return FolderSource(path, LabelMap.parse(said) if said else None, _scale(spec))


def _scenes(spec: SourceSpec, numbers: str) -> SceneSource:
    first, _, count = numbers.partition("+")
    if not first.isdecimal() or not count.isdecimal() or int(count) < 1:
        raise DataError(f"{spec.place}: expected scenes:FIRST+COUNT, for instance scenes:990000+500")
    return SceneSource(int(first), int(count))


def _categories(said: str | None) -> dict[str, str] | None:
    if said is None:
        return None
    pairs = [pair.partition("=") for pair in said.split(",")]
    return {key.strip(): name.strip().lower() for key, _, name in pairs}


def _weight(spec: SourceSpec) -> float:
    text = spec.one("weight") or "1"
    weight = _number(text)
    if weight is None or not weight > 0:
        raise DataError(f"{spec.place}: expected a positive weight, got {text!r}")
    return weight


def _scale(spec: SourceSpec) -> FalseColourScale | None:
    span, readings, palette = spec.one("range"), spec.options.get("reading", ()), spec.one("palette")
    if span is None and not readings:
        return None
    numbers = [[_number(piece) for piece in text.split(",")] for text in (*readings, *([span] if span else []))]
    wanted = [3] * len(readings) + [2] * (span is not None)
    if any(None in values or len(values) != length for values, length in zip(numbers, wanted, strict=True)):
        raise DataError(f"{spec.place}: expected range=LOW,HIGH or reading=X,Y,CELSIUS, with points as decimal marks")
    values = [[number for number in some if number is not None] for some in numbers]
    try:
        return FalseColourScale(
            range_celsius=(values[-1][0], values[-1][1]) if span else None,
            readings=tuple(Reading(x=x, y=y, celsius=celsius) for x, y, celsius in values[: len(readings)]),
            palette=palette,
        )
    except MaterialError as error:
        raise DataError(f"{spec.place}: {error}") from error


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class SampleDataset(Dataset[Sample]):
    """A source as torch's loaders want it; what becomes tensors is the collate function's business."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        """See `Source`."""
        return self.source[index]
