"""Split pictures into those to train on and those to judge on, so that the second are really unseen.

Neighbouring frames are nearly the same picture: one of them in each set makes every figure too good.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from training.samples import DataError, Moment, Source

Key = TypeVar("Key", str, tuple[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Numbers of pictures, each side in ascending order."""

    training: tuple[int, ...]
    validation: tuple[int, ...]
    left_out: tuple[int, ...]
    """Too near in time to a picture of the validation."""


def moments_of(source: Source) -> list[Moment]:
    """When each picture of a source was taken."""
    return [source.moment(index) for index in range(len(source))]


def split_by_session(moments: Sequence[Moment], *, share: float, seed: int) -> Split:
    """Whole sessions to one side or the other.

    Parameters
    ----------
    moments : sequence of Moment
        Of all pictures.
    share : float
        Of the pictures that the validation is to have, in (0, 1); met as nearly as sessions allow, and at least one
        session goes to each side.
    seed : int
        Which sessions are chosen.

    Raises
    ------
    DataError
        If there are fewer than two sessions.
    """
    sessions: dict[str, list[int]] = defaultdict(list)
    for index, moment in enumerate(moments):
        sessions[moment.session].append(index)
    if len(sessions) < 2:
        raise DataError(
            f"expected at least two sessions to split by, got {len(sessions)}; split by blocks of time, or name files "
            "SESSION_NUMBER"
        )
    chosen = _chosen({name: len(indices) for name, indices in sessions.items()}, share, seed)
    validation = sorted(index for name in chosen for index in sessions[name])
    training = sorted(index for name in sessions.keys() - chosen for index in sessions[name])
    return Split(training=tuple(training), validation=tuple(validation), left_out=())


def split_by_time(moments: Sequence[Moment], *, share: float, block_s: float, gap_s: float, seed: int) -> Split:
    """Blocks of time to one side or the other, with a gap between.

    Parameters
    ----------
    moments : sequence of Moment
        Of all pictures.
    share : float
        Of the pictures that the validation is to have, in (0, 1); met as nearly as blocks allow.
    block_s : float
        Length of a block; each session has its own.
    gap_s : float
        A picture of the same session nearer than this to one of the validation is not trained on; nor is the very
        next one, however far it is.
    seed : int
        Which blocks are chosen.

    Raises
    ------
    DataError
        If fewer than two blocks hold pictures, or the gap leaves none to train on.
    """
    if not block_s > 0 or gap_s < 0:
        raise ValueError(f"expected a block longer than 0 s and a gap of at least 0 s, got {block_s:g} and {gap_s:g}")
    starts: dict[str, float] = {}
    for moment in moments:
        starts[moment.session] = min(moment.position_s, starts.get(moment.session, math.inf))
    blocks: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, moment in enumerate(moments):
        number = math.floor((moment.position_s - starts[moment.session]) / block_s)
        blocks[moment.session, number].append(index)
    if len(blocks) < 2:
        raise DataError(
            f"expected pictures in at least two blocks of {block_s:g} s, got {len(blocks)}; use shorter ones"
        )
    chosen = _chosen({key: len(indices) for key, indices in blocks.items()}, share, seed)
    validation = sorted(index for key in chosen for index in blocks[key])
    others = sorted(index for key in blocks.keys() - chosen for index in blocks[key])
    near = _near(moments, others, validation, gap_s)
    training = tuple(index for index in others if index not in near)
    if not training:
        raise DataError(f"a gap of {gap_s:g} s leaves no picture to train on; make it shorter, or record longer")
    return Split(training=training, validation=tuple(validation), left_out=tuple(sorted(near)))


def _chosen(sizes: dict[Key, int], share: float, seed: int) -> set[Key]:
    """Groups that together hold nearly the share of all, in an order drawn by the seed; never none, never all."""
    if not 0 < share < 1:
        raise ValueError(f"the share must be between 0 and 1, got {share:g}")
    keys = sorted(sizes)
    order = [keys[place] for place in np.random.Generator(np.random.PCG64(seed)).permutation(len(keys))]
    wanted = share * sum(sizes.values())
    chosen: set[Key] = set()
    held = 0
    for key in order[:-1]:
        if chosen and abs(held + sizes[key] - wanted) >= abs(held - wanted):
            continue
        chosen.add(key)
        held += sizes[key]
    return chosen


def _near(moments: Sequence[Moment], indices: Sequence[int], others: Sequence[int], gap_s: float) -> set[int]:
    """Those nearer than the gap to one of the others in their session, and those next to one however far it is."""
    sides: dict[str, list[tuple[float, int, bool]]] = defaultdict(list)
    for group, kept in ((indices, False), (others, True)):
        for index in group:
            sides[moments[index].session].append((moments[index].position_s, index, kept))
    near = set()
    for session in sides.values():
        session.sort()
        for steps in (session, session[::-1]):
            last_s = math.inf
            after_kept = False
            for position_s, index, kept in steps:
                if kept:
                    last_s = position_s
                elif after_kept or abs(position_s - last_s) < gap_s:
                    near.add(index)
                after_kept = kept
    return near
