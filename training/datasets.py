"""Labelled pictures by a short text: `scenes`, a folder, recordings, COCO annotations, or several of them mixed."""

from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import Dataset

from drivers.vivarium.dice import FIRST_TEST_SEED
from training.coco_source import CocoSource
from training.folder_source import FolderSource
from training.label_map import LabelMap
from training.mixed import JoinedSource, MixedSource
from training.recording_source import RecordingSource
from training.samples import DataError, Sample, Source
from training.scenes import SceneSource
from training.source_spec import DEFAULT_SCENES, SPEC_HELP, SourceSpec

__all__ = ["SPEC_HELP", "SampleDataset", "SourceSpec", "open_source"]


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
        false colours) or `reading` (`X,Y,C`, two or more), `palette`, `masks`, `images` (folders), `animals=1` (each
        picture of a folder shows one), `weight` (in a mix), `session` (a regular expression that finds the session
        in names of pictures, or `folder`: each folder below is one), `fps` (frames per second that the numbers in names
        count), `block_s` (see `training.material.divided`).
    labels : str, optional
        For those without labels of their own.
    length : int, optional
        Pictures of one round of a mix. Several sources are mixed where this or a weight is given; otherwise they are
        joined, one after the other.
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
    if length is None and not any(spec.one("weight") for spec in parsed):
        return JoinedSource(sources)
    return MixedSource(sources, [spec.weight for spec in parsed], length=length or sum(map(len, sources)), seed=seed)


def _open(spec: SourceSpec, labels: str | None, first_seed: int, count: int) -> Source:
    numbers = spec.scene_numbers
    if numbers is not None or spec.place == "scenes":
        _require_no_names(spec, "scenes have no names")
        return SceneSource(*(numbers or (first_seed, count)))
    path = Path(spec.place)
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; expected {SPEC_HELP}")
    said = spec.one("labels") or labels
    masks, images = (Path(folder) if folder else None for folder in (spec.one("masks"), spec.one("images")))
    if path.suffix.lower() == ".json":
        return CocoSource(
            path, categories=_categories(said), images=images, masks=masks, scale=spec.scale, names=spec.names
        )
    recordings = [path] if path.suffix.lower() == ".mkv" else sorted(path.glob("*.mkv")) if path.is_dir() else []
    if recordings:
        _require_no_names(spec, "a recording is a session and has its own times")
        return RecordingSource(recordings, masks)
    if not path.is_dir():
        raise DataError(f"{path}: expected {SPEC_HELP}")
    label_map = LabelMap.parse(said) if said else None
    folders = sorted(each for each in path.iterdir() if each.is_dir()) if spec.names.by_folder else [path]
    if not folders:
        raise DataError(f"{path}: expected a folder for each session (session=folder), got none")
    sources = [FolderSource(each, label_map, spec.scale, single=spec.single, names=spec.names) for each in folders]
    return sources[0] if len(sources) == 1 else JoinedSource(sources)


def _require_no_names(spec: SourceSpec, why: str) -> None:
    given = [key for key in ("session", "fps") if spec.one(key) is not None]
    if given:
        raise DataError(f"{spec.place}: {' and '.join(given)} say how names of pictures are read; {why}")


def _categories(said: str | None) -> dict[str, str] | None:
    if said is None:
        return None
    pairs = [pair.partition("=") for pair in said.split(",")]
    return {key.strip(): name.strip().lower() for key, _, name in pairs}


class SampleDataset(Dataset[Sample]):
    """A source as torch's loaders want it; what becomes tensors is the collate function's business."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        """See `Source`."""
        return self.source[index]
