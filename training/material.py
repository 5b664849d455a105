"""What a training learns from: fresh scenes, labelled pictures of others, or a mix with weights."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.datasets import SourceSpec, open_source
from training.labelled import Labelled, synthetic
from training.mixed import PartOfSource
from training.recording_source import RecordingSource
from training.samples import DataError, Source
from training.scenes import SceneSource
from training.split import Split, moments_of, split_by_session, split_by_time

FIRST_VALIDATION_SEED = 900_000
"""Scenes below are for training, from here on for watching it, from `dice.FIRST_TEST_SEED` on for judging."""

FRESH_SCENES = "scenes"
VALIDATION_SHARE = 0.2
_BLOCK_S = 600.0
"""Where the times of pictures are known ..."""
_BLOCKS = 10
"""... and where only their numbers are, so many blocks."""
_GAP_SHARE = 0.1
"""Of a block: what lies so near to pictures that are held back is not learned from."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Pictures of one source, and how often they come."""

    source: Source
    weight: float
    """Beside the other portions and the fresh scenes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Where the pictures of a training come from."""

    scenes_weight: float = 1.0
    """Of fresh scenes; 0 does without."""
    portions: tuple[Portion, ...] = ()

    def draw(self, number: int, rng: np.random.Generator) -> Labelled:
        """A picture.

        Parameters
        ----------
        number : int
            Counts the scenes of the whole training: each number is another scene, until all 900,000 are through.
        rng : Generator
            Decides where the picture is from.
        """
        weights = np.array((self.scenes_weight, *(portion.weight for portion in self.portions)))
        which = int(rng.choice(len(weights), p=weights / weights.sum())) if self.portions else 0
        if which == 0:
            return synthetic(number % FIRST_VALIDATION_SEED)
        source = self.portions[which - 1].source
        return Labelled.of(source[int(rng.integers(len(source)))])


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """Material to learn from, and what of it is held back."""

    material: Material
    held_back: tuple[Source, ...]
    """Whole sessions or blocks of time; fresh scenes need none, they have seeds of their own."""


def divided(specs: Sequence[str], *, seed: int) -> Divided:
    """Open what a training is to learn from, and hold back a fifth of it: by session, or by blocks of time.

    Sessions are split where there are several and no `block_s=` is given. Otherwise blocks are: of `block_s`, or of ten
    minutes, or, where nobody says how many frames are a second, tenths of the session.

    Parameters
    ----------
    specs : sequence of str
        `scenes` for fresh scenes, everything else as in `open_source`; each may end in `?weight=`.
    seed : int
        Decides which sessions are held back.

    Raises
    ------
    DataError
        If something cannot be opened, or cannot be split.
    """
    scenes_weight, portions, held_back = 0.0, [], []
    for text in specs:
        spec = SourceSpec.parse(text)
        weight = spec.weight
        if spec.place == FRESH_SCENES:
            scenes_weight += weight
            continue
        source = open_source(text)
        if isinstance(source, SceneSource) and source.first_seed + len(source) > FIRST_VALIDATION_SEED:
            raise DataError(
                f"{text}: scenes from {FIRST_VALIDATION_SEED} on are for watching and judging; "
                "nothing may be trained on them"
            )
        split = _split(spec, source, seed)
        portions.append(Portion(source=PartOfSource(source, split.training), weight=weight))
        held_back.append(PartOfSource(source, split.validation))
    if not scenes_weight and not portions:
        raise DataError("expected at least one source of pictures, got none")
    return Divided(material=Material(scenes_weight=scenes_weight, portions=tuple(portions)), held_back=tuple(held_back))


def _split(spec: SourceSpec, source: Source, seed: int) -> Split:
    moments = moments_of(source)
    sessions = {moment.session for moment in moments}
    if len(sessions) > 1 and spec.block_s is None:
        if len(sessions) == len(moments) and not isinstance(source, SceneSource):
            logger.warning(
                "%s: by its name each picture is a session of its own; if some of them are neighbours say which belong "
                "together, for instance session=folder or session=night[0-9]+",
                spec.place,
            )
        return split_by_session(moments, share=VALIDATION_SHARE, seed=seed)
    has_times = isinstance(source, RecordingSource) or spec.names.fps is not None
    if has_times:
        block_s = spec.block_s or _BLOCK_S
    elif spec.block_s is not None:
        raise DataError(f"{spec.place}: block_s needs fps=, the frames in a second: names hold numbers and no times")
    else:
        places = [moment.position_s for moment in moments]
        block_s = (max(places) - min(places) + 1) / _BLOCKS
    try:
        return split_by_time(moments, share=VALIDATION_SHARE, block_s=block_s, gap_s=_GAP_SHARE * block_s, seed=seed)
    except DataError as error:
        raise DataError(f"{spec.place}: {error}; see session=, fps= and block_s= in docs/training.md") from error


def scenes_share(specs: Sequence[str]) -> float:
    """Share of the pictures that are of fresh scenes, 0 to 1.

    Raises
    ------
    DataError
        If a text is not understood.
    """
    parsed = [SourceSpec.parse(text) for text in specs]
    return sum(spec.weight for spec in parsed if spec.place == FRESH_SCENES) / sum(spec.weight for spec in parsed)
