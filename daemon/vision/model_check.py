"""Trying a model as the service would: how fast, how right on synthetic scenes, and what it makes of odd input."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from daemon.vision.onnx_file import ModelError
from daemon.vision.parts import BodyPart
from daemon.vision.segmenter import NetworkSegmenter
from drivers.vivarium.snapshot import Snapshot, random_scene

Field = NDArray[np.float32]

_SIZES = ((120, 160), (384, 512), (200, 100), (1, 1))
"""Heights and widths that no network was made for."""
_FLOOR_CELSIUS = 23.0
_NOISE_CELSIUS = 0.05
_SPECK_SHARE = 0.002
"""So much of a picture may be taken for an animal that holds none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question to the model."""

    question: str
    answer: str
    good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How long one frame takes, from degrees to animals."""

    median_ms: float
    slowest_ms: float
    network_ms: float
    """Median of the networks alone."""
    frames: int


def scenes(count: int, first_seed: int) -> list[Snapshot]:
    """Synthetic pictures with their truth."""
    return [random_scene(seed) for seed in range(first_seed, first_seed + count)]


def speed(segmenter: NetworkSegmenter, pictures: Sequence[Field]) -> Speed:
    """Measure; the first picture is shown once more before, so that nothing is cold."""
    segmenter.segment(pictures[0])
    whole, alone = [], []
    for picture in pictures:
        start = time.perf_counter()
        segmenter.segment(picture)
        whole.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        segmenter.outputs(picture[np.newaxis])
        alone.append(1000 * (time.perf_counter() - start))
    return Speed(median_ms=median(whole), slowest_ms=max(whole), network_ms=median(alone), frames=len(pictures))


def part_iou(segmenter: NetworkSegmenter, snapshots: Sequence[Snapshot]) -> dict[str, float]:
    """Intersection over union with the truth, over the pixels of all pictures together, for each part and their mean.

    A part that neither the truth nor the network shows is left out.
    """
    both = np.zeros((4, 4), np.int64)
    for snapshot in snapshots:
        found = segmenter.segment(snapshot.celsius).parts
        both += np.bincount(4 * snapshot.frame.parts.ravel() + found.ravel(), minlength=16).reshape(4, 4)
    right, union = both.diagonal(), both.sum(0) + both.sum(1) - both.diagonal()
    scores = {part.name.lower(): float(right[part] / union[part]) for part in BodyPart if union[part]}
    return scores | ({"mean": float(np.mean(list(scores.values())))} if scores else {})


def checks(segmenter: NetworkSegmenter, pictures: Sequence[Field]) -> Iterator[Check]:
    """What the model makes of pictures without temperature, of other sizes, and of an empty box."""
    card = segmenter.models[0].card
    shape = (card.input_height, card.input_width)
    holed = np.array(pictures[0])
    holed[: shape[0] // 4] = np.nan
    holed[:, ::7] = np.nan
    yield _check("a picture with holes", segmenter, holed, "labels of its size")
    yield _check(
        "a picture without any temperature", segmenter, np.full(shape, np.nan, np.float32), "no animal", most=0
    )
    yield _check("infinite temperatures", segmenter, np.full(shape, np.inf, np.float32), "no animal", most=0)
    noise = np.random.default_rng(0).normal(_FLOOR_CELSIUS, _NOISE_CELSIUS, shape).astype(np.float32)
    yield _check("an empty box", segmenter, noise, "no animal", most=round(_SPECK_SHARE * noise.size))
    for height, width in _SIZES:
        rows = np.linspace(0, shape[0] - 1, height).astype(int)
        columns = np.linspace(0, shape[1] - 1, width).astype(int)
        picture = np.ascontiguousarray(pictures[0][rows[:, np.newaxis], columns])
        yield _check(f"a picture of {height} x {width}", segmenter, picture, "labels of its size")


def _check(question: str, segmenter: NetworkSegmenter, picture: Field, good: str, *, most: int | None = None) -> Check:
    try:
        found = segmenter.segment(picture)
    except (ModelError, ValueError) as error:
        return Check(question=question, answer=str(error), good=False)
    if found.parts.shape != picture.shape:
        return Check(question=question, answer=f"labels of {found.parts.shape}", good=False)
    pixels = int(np.count_nonzero(found.parts))
    if most is not None and pixels > most:
        return Check(question=question, answer=f"{pixels} pixels of an animal", good=False)
    return Check(question=question, answer=good, good=True)
