"""What a training learns from: fresh scenes, labelled pictures of others, or a mix with weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.datasets import SourceSpec, open_source
from training.labelled import Labelled, synthetic
from training.mixed import PartOfSource
from training.samples import DataError, Source
from training.scenes import SceneSource
from training.split import moments_of, split_by_session, split_by_time

FIRST_VALIDATION_SEED = 900_000
"""Scenes below are for training, from here on for watching it, from `dice.FIRST_TEST_SEED` on for judging."""

FRESH_SCENES = "scenes"
VALIDATION_SHARE = 0.2
_BLOCK_S = 600.0
_GAP_S = 60.0


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
    """Open what a training is to learn from, and hold back a fifth of it by session, or by blocks of 10 minutes.

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
        moments = moments_of(source)
        if len({moment.session for moment in moments}) > 1:
            split = split_by_session(moments, share=VALIDATION_SHARE, seed=seed)
        else:
            split = split_by_time(moments, share=VALIDATION_SHARE, block_s=_BLOCK_S, gap_s=_GAP_S, seed=seed)
        portions.append(Portion(source=PartOfSource(source, split.training), weight=weight))
        held_back.append(PartOfSource(source, split.validation))
    if not scenes_weight and not portions:
        raise DataError("expected at least one source of pictures, got none")
    return Divided(material=Material(scenes_weight=scenes_weight, portions=tuple(portions)), held_back=tuple(held_back))


def scenes_share(specs: Sequence[str]) -> float:
    """Share of the pictures that are of fresh scenes, 0 to 1.

    Raises
    ------
    DataError
        If a text is not understood.
    """
    parsed = [SourceSpec.parse(text) for text in specs]
    return sum(spec.weight for spec in parsed if spec.place == FRESH_SCENES) / sum(spec.weight for spec in parsed)
