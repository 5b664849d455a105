"""From what the networks give to animals with parts: labels merged, pixels sent to their animal, fragments tidied.

Bottom-up grouping by centres and offsets after Cheng et al., *Panoptic-DeepLab*, CVPR 2020
(https://arxiv.org/abs/1911.10194): each pixel goes to the centre that its offset points at. Training and judging use
these very functions, so that what is measured there is what runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart, Segmentation
from daemon.vision.shape import window

MOST_ANIMALS = 16
"""Centres that are looked at, the clearest first."""

CENTRE_LEAST = 0.3
"""Height of the heat map below which nothing is a centre: less makes animals that are none, more loses some."""

CENTRE_RADIUS_PX = 6.0
"""Of two peaks nearer to each other than this only the higher is a centre: the trunk of a small mouse is wider."""

_LEAST_DIP = 0.02
"""Two animals have a dip between their peaks; a ridge that falls by less, a few steps of eight bits, is one top."""

_MOST_TOPS = 64
"""So many tops are looked at, the highest first; a map with more is noise."""

LEAST_ANIMAL_PX = 80
"""Fewer pixels are no animal: a fifth of the smallest mouse."""

_LEAST_TRUNK_PX = 12
"""Of head or body: a lone streak that looks like a tail is no animal."""

_LEAST_PIECE_PX = 10
"""A piece of an animal that lies apart from the rest of it is a speck below this."""

_FRAGMENT_SHARE = 0.15
"""A piece smaller than this share of its animal, and in touch with another one, belongs to that one."""

_REACH_PX = 60.0
"""So far from a centre an offset may end and still mean it: less cuts tips of tails off, more lets hands in ..."""
_REACH_SHARE = 0.3
"""... and so much of its own length farther: long ones, from tails, are less exact."""

_WHOLE_TAIL_SHARE = 0.75
"""A streak of tail goes as a whole to the animal that so many of its pixels point at."""
_TOUCHING_TAIL_SHARE = 0.2
"""... or so many, when it grows out of that animal and of no other."""

_SQUARE = np.ones((3, 3), np.uint8)

Labels = NDArray[np.uint8]
Field = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartMap:
    """Which part each pixel shows, by one network."""

    parts: Labels
    """Shape (height, width): 0 background, otherwise a `BodyPart`."""
    confidence: Field
    """Shape (height, width): probability of that label."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CentreMap:
    """Where the animals' centres are, and which one each cell belongs to."""

    centre: Field
    """Shape (height / stride, width / stride), 0 to 1."""
    offset: Field
    """Shape (2, height / stride, width / stride): (dx, dy) in pixels from a cell's middle to its animal's centre."""
    stride: int


def merged(first: PartMap, second: PartMap) -> PartMap:
    """The labels of both: of two opinions on a pixel the one that is surer of itself, of equals the first."""
    surer = second.confidence > first.confidence
    return PartMap(
        parts=np.where(surer, second.parts, first.parts),
        confidence=np.maximum(first.confidence, second.confidence),
    )


def grouped(
    parts: Labels, centres: CentreMap | None, *, most: int = MOST_ANIMALS, least_px: int = LEAST_ANIMAL_PX
) -> Segmentation:
    """Animals with their parts.

    Parameters
    ----------
    parts : (height, width) uint8
        Labels, for instance of `merged`.
    centres : CentreMap or None
        None where no network tells the animals apart: then each connected piece is one.
    most : int
        How many animals there are at most. Where more centres are found the clearest count, and what pointed at the
        others goes to one of these if it lies near, and else to the background.
    least_px : int
        Smaller ones are background.

    Returns
    -------
    Segmentation
        Instances are numbered from 1, the largest first. Each pixel with a part belongs to an animal; what points at
        no centre is background: where it was taken for an animal, more of such pieces were none.

    Raises
    ------
    ValueError
        If the maps do not fit together.
    """
    if centres is not None and parts.shape != tuple(size * centres.stride for size in centres.centre.shape):
        raise ValueError(
            f"parts of {parts.shape} do not fit to centres of {centres.centre.shape} with stride {centres.stride}"
        )
    if not parts.any():
        return Segmentation(parts=np.zeros_like(parts), instances=np.zeros_like(parts))
    if centres is None:
        owners = _pieces(parts)
    else:
        owners = _owners_by_centre(parts, centres, min(most, MOST_ANIMALS), least_px)
        owners = _tails_to_owners(parts, owners)
        owners = _without_fragments(owners)
    return _numbered(parts, owners, most, least_px)


def peaks(centres: CentreMap) -> list[tuple[float, float]]:
    """The centres (x, y), in pixels of the full picture, the clearest first."""
    reach = max(1, round(CENTRE_RADIUS_PX / centres.stride))
    heat = centres.centre
    highest = cv2.dilate(heat, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    tops = ((heat >= highest) & (heat >= CENTRE_LEAST)).astype(np.uint8)
    count, labels, _, middles = cv2.connectedComponentsWithStats(tops, connectivity=8)
    heights = np.zeros(count, np.float32)
    heights[labels] = heat  # the cells of a top touch each other, so they are equal
    heights[0] = -np.inf
    groups: list[list[_Top]] = []
    for index in np.argsort(-heights, kind="stable")[: min(count - 1, _MOST_TOPS)].tolist():
        top = _Top(x=float(middles[index][0]), y=float(middles[index][1]), height=float(heights[index]))
        group = next((group for group in groups if _is_one_top(heat, group[0], top, reach)), None)
        if group is None:
            groups.append([top])
        elif top.height > group[0].height - _LEAST_DIP:
            group.append(top)
    return [
        (
            _full(sum(top.x for top in group) / len(group), centres.stride),
            _full(sum(top.y for top in group) / len(group), centres.stride),
        )
        for group in groups[:MOST_ANIMALS]
    ]


class _Top(NamedTuple):
    """Where a heat map is highest, in cells, and how high."""

    x: float
    y: float
    height: float


def _is_one_top(heat: Field, clearer: _Top, other: _Top, reach: int) -> bool:
    """Whether two tops are one animal's: equal ones side by side, as eight bits make them, or ends of one ridge."""
    if max(abs(clearer.x - other.x), abs(clearer.y - other.y)) <= reach:
        return True
    steps = 1 + round(max(abs(clearer.x - other.x), abs(clearer.y - other.y)))
    columns = np.linspace(clearer.x, other.x, steps + 1).round().astype(np.intp)
    rows = np.linspace(clearer.y, other.y, steps + 1).round().astype(np.intp)
    return bool(heat[rows, columns].min() > other.height - _LEAST_DIP)


def _full(cell: float, stride: int) -> float:
    return (cell + 0.5) * stride - 0.5


def _pieces(parts: Labels) -> Labels:
    """Numbers of the largest connected pieces, from 1; 0 for all the others."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats((parts > 0).astype(np.uint8), connectivity=8)
    largest = 1 + np.argsort(-statistics[1:, cv2.CC_STAT_AREA], kind="stable")[:MOST_ANIMALS]
    numbers = np.zeros(count, np.uint8)
    numbers[largest] = np.arange(1, len(largest) + 1)
    return np.asarray(numbers[labels], np.uint8)


def _owners_by_centre(parts: Labels, centres: CentreMap, most: int, least_px: int) -> Labels:
    """For each pixel of an animal which one, from 1; 0 where no centre is meant."""
    votes = _Votes(parts > 0, centres)
    points = peaks(centres)[:most]
    owners = votes.owners(points)
    areas = _counts(owners)[1 : len(points) + 1]
    kept = [point for point, area in zip(points, areas, strict=True) if area >= least_px]
    return owners if len(kept) == len(points) else votes.owners(kept)


class _Votes:
    """Where the offsets of all cells end, and how far that is from given points."""

    def __init__(self, animal: NDArray[np.bool_], centres: CentreMap) -> None:
        self._animal = animal
        self._stride = centres.stride
        height, width = centres.centre.shape
        self._size = (animal.shape[1], animal.shape[0])
        offset = centres.offset
        self._x = offset[0] + _full_axis(width, centres.stride)
        self._y = offset[1] + _full_axis(height, centres.stride)[:, np.newaxis]
        self._reach = _REACH_PX + _REACH_SHARE * cv2.magnitude(offset[0], offset[1])
        # Cells of the floor point nowhere: each counts by its share of animal when distances become those of pixels.
        mask = animal.astype(np.float32)
        share = mask if centres.stride == 1 else self._resized(mask, (width, height), cv2.INTER_AREA)
        self._weight = np.asarray(share * share, np.float32)

    @staticmethod
    def _resized(field: Field, size: tuple[int, int], method: int) -> Field:
        return np.asarray(cv2.resize(field, size, interpolation=method), np.float32)

    def owners(self, points: Sequence[tuple[float, float]]) -> Labels:
        """The number of the nearest point for each pixel of an animal; 0 beyond the reach of its offset."""
        owners = np.zeros(self._animal.shape, np.uint8)
        nearest = self._at_pixels(self._reach)
        for number, (x, y) in enumerate(points, start=1):
            distance = self._at_pixels(cv2.magnitude(self._x - np.float32(x), self._y - np.float32(y)))
            np.putmask(owners, distance < nearest, number)
            np.minimum(nearest, distance, out=nearest)
        return np.multiply(owners, self._animal, dtype=np.uint8)

    def _at_pixels(self, distance: Field) -> Field:
        """Weighted distances at every pixel; not divided by the weights, since only the least one counts."""
        weighted = np.asarray(distance * self._weight, np.float32)
        return weighted if self._stride == 1 else self._resized(weighted, self._size, cv2.INTER_LINEAR)


def _full_axis(cells: int, stride: int) -> Field:
    return ((np.arange(cells, dtype=np.float32) + 0.5) * stride - 0.5).astype(np.float32)


def _tails_to_owners(parts: Labels, owners: Labels) -> Labels:
    """Streaks of tail as a whole, where it is clear whose; crossing tails keep what their pixels say."""
    tail = parts == BodyPart.TAIL
    if not tail.any() or owners.max() < 2:
        return owners
    owners = owners.copy()
    trunks = np.where(tail, 0, owners).astype(np.uint8)
    count, streaks, statistics, _ = cv2.connectedComponentsWithStats(tail.astype(np.uint8), connectivity=8)
    for label in range(1, count):
        here = _box(statistics[label], owners.shape)
        streak = streaks[here] == label
        votes = np.bincount(owners[here][streak], minlength=256)
        total, votes[0] = int(votes.sum()), 0
        leader = int(votes.argmax())
        if votes[leader] >= _WHOLE_TAIL_SHARE * total:
            owners[here][streak] = leader
            continue
        roots = _touched(trunks[here], streak)
        root = int(roots.argmax())
        if np.count_nonzero(roots) == 1 and votes[root] >= _TOUCHING_TAIL_SHARE * total:
            owners[here][streak] = root
    return owners


def _without_fragments(owners: Labels) -> Labels:
    """Small pieces go to the animal they lie in; specks to the floor; what a bar has cut off stays."""
    tidy = owners.copy()
    for number in range(1, int(owners.max()) + 1):
        mask = owners == number
        if not mask.any():
            continue
        area = np.count_nonzero(mask)
        whole = window(mask)
        count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask[whole].astype(np.uint8), connectivity=8)
        areas = statistics[1:count, cv2.CC_STAT_AREA]
        for label in set(range(1, count)) - {1 + int(areas.argmax())}:
            box = _box(statistics[label], mask[whole].shape)
            piece = labels[box] == label
            if statistics[label, cv2.CC_STAT_AREA] >= _FRAGMENT_SHARE * area:
                continue
            contacts = _touched(owners[whole][box], piece)
            contacts[number] = 0
            if contacts.any():
                tidy[whole][box][piece] = int(contacts.argmax())
            elif statistics[label, cv2.CC_STAT_AREA] < _LEAST_PIECE_PX:
                tidy[whole][box][piece] = 0
    return tidy


def _box(statistics: NDArray[np.int32], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """A component's window with one pixel around it."""
    left, top, width, height = (int(value) for value in statistics[:4])
    return (
        slice(max(top - 1, 0), min(top + height + 1, shape[0])),
        slice(max(left - 1, 0), min(left + width + 1, shape[1])),
    )


def _touched(owners: Labels, piece: NDArray[np.bool_]) -> NDArray[np.intp]:
    """How many pixels of each owner lie beside a piece; those of none do not count."""
    beside = (cv2.dilate(piece.astype(np.uint8), _SQUARE) > 0) & ~piece
    counts = np.bincount(owners[beside], minlength=256)
    counts[0] = 0
    return counts


def _numbered(parts: Labels, owners: Labels, most: int, least_px: int) -> Segmentation:
    """Numbers by size; what is too small, or more than there can be, is floor."""
    areas = _counts(owners)
    trunks = areas - _counts(np.where(parts == BodyPart.TAIL, owners, 0).astype(np.uint8))
    animals = [
        owner
        for owner in np.argsort(-areas, kind="stable").tolist()
        if owner and areas[owner] >= least_px and trunks[owner] >= _LEAST_TRUNK_PX
    ][:most]
    numbers = np.zeros(256, np.uint8)
    numbers[animals] = np.arange(1, len(animals) + 1)
    instances = np.asarray(cv2.LUT(owners, numbers), np.uint8)
    return Segmentation(parts=np.where(instances > 0, parts, np.uint8(0)), instances=instances)


def _counts(labels: Labels) -> NDArray[np.intp]:
    """Pixels of each label; many times faster than `np.bincount` on bytes."""
    return np.asarray(cv2.calcHist([labels], [0], None, [256], [0, 256]), np.intp).ravel()
