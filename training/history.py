"""What a network went through: which code trained it on which pictures, and what its weights were before.

It lies in each checkpoint beside the recipe, so that a model can say later what it was made of, whatever the program
looks like by then.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from training.material import scenes_share
from training.recipe import Recipe

UNKNOWN = "unknown"
"""In place of a hash that nobody wrote down."""

_ROOT = Path(__file__).resolve().parents[1]
_GENERATOR = ("drivers/vivarium",)
_CODE = ("training", "drivers/vivarium", "daemon/vision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Epochs that were trained by one state of the program on the same material."""

    first_epoch: int
    """From 0."""
    code_hash: str
    """SHA-256 over the sources that made and trained the network; `UNKNOWN` in checkpoints from before it was kept."""
    generator_hash: str
    """SHA-256 over those of the scene generator alone, likewise."""
    data: tuple[str, ...]
    """What was learned from, as in the recipe."""
    seed: int
    pictures_per_epoch: int
    scene_uses: int

    @property
    def scenes_share(self) -> float:
        """Of the pictures, those of fresh scenes."""
        return scenes_share(self.data)

    @property
    def numbers_per_epoch(self) -> int:
        """By so much the seeds of the scenes go on with each epoch."""
        return -(-self.pictures_per_epoch // self.scene_uses)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All stretches of a training, the earliest first."""

    stretches: tuple[Stretch, ...]
    origin: "Origin | None" = None
    """None where the weights were random in the beginning, or where that is not known."""

    def whole(self) -> Iterator[Stretch]:
        """Its stretches and, before them, those of what it began as."""
        if self.origin is not None:
            yield from self.origin.history.whole()
        yield from self.stretches


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The checkpoint that a training began with."""

    version: str
    """First letters of the SHA-256 of its file."""
    kind: str
    epochs: int | None
    history: History


_STORED = TypeAdapter(History)


def history_to_json(history: History) -> str:
    """For checkpoints and the run's folder."""
    return _STORED.dump_json(history, indent=1).decode()


def history_from_json(text: str) -> History:
    """The way back.

    Raises
    ------
    ValueError
        If it is no history.
    """
    return _STORED.validate_json(text)


def untold(recipe: Recipe) -> History:
    """What is known of a training that kept no history: its recipe, and not the code."""
    return History(stretches=(_stretch(recipe, 0, UNKNOWN, UNKNOWN),))


def begun(recipe: Recipe, origin: Origin | None) -> History:
    """Of a training that begins now, with the program as it is."""
    return History(stretches=(_now(recipe, 0),), origin=origin)


def gone_on(history: History, recipe: Recipe, epochs: int) -> History:
    """Of a training that goes on after so many epochs, with the program as it is."""
    now, last = _now(recipe, epochs), history.stretches[-1]
    if replace(now, first_epoch=last.first_epoch) == last:
        return history
    kept = tuple(stretch for stretch in history.stretches if stretch.first_epoch < epochs)
    return replace(history, stretches=(*kept, now))


def version_of(checkpoint: Path) -> str:
    """First letters of the SHA-256 of a file, by which a model is known.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    return hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:8]


def sources_hash(folders: Iterable[str]) -> str:
    """SHA-256 over the names and contents of the Python files in some folders of the program, as they are now."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted((_ROOT / folder).rglob("*.py")):
            total.update(f"{path.relative_to(_ROOT)}\0".encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _now(recipe: Recipe, first_epoch: int) -> Stretch:
    return _stretch(recipe, first_epoch, sources_hash(_CODE), sources_hash(_GENERATOR))


def _stretch(recipe: Recipe, first_epoch: int, code_hash: str, generator_hash: str) -> Stretch:
    return Stretch(
        first_epoch=first_epoch,
        code_hash=code_hash,
        generator_hash=generator_hash,
        data=recipe.data,
        seed=recipe.seed,
        pictures_per_epoch=recipe.pictures_per_epoch,
        scene_uses=recipe.scene_uses,
    )
