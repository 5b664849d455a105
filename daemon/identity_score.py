"""How well animals were kept apart over time, against the truth. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityScore:
    """Over all frames that were taken in."""

    idf1: float | None
    """2 IDTP / (2 IDTP + IDFP + IDFN); None where there was nothing to be named and nothing was."""
    wrong_share: float | None
    """Share of the names given that are wrong, IDFP / (IDTP + IDFP); None where none was given."""
    unresolved_share: float | None
    """Share of the animals seen that were given no name; None where none was seen."""
    swaps: int
    """How often an animal was given another name than it had been given before."""
    swaps_per_animal_hour: float | None
    animal_hours: float
    """In which an animal was seen."""


class IdentityCount:
    """Takes in frame by frame which name each true animal was given.

    Notes
    -----
    IDF1 as defined by Ristani et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking,
    ECCV Workshops 2016: true and given identities are matched one to one for the whole time, so that the frames in
    which they go together are most (IDTP). All other names given are false (IDFP), all other true animals missed
    (IDFN). A true animal that is not named is missed: saying that it is not known costs what not seeing it costs, and
    a wrong name costs twice.
    """

    def __init__(self) -> None:
        self._together: Counter[tuple[int, int]] = Counter()
        self._seen = 0
        self._last: dict[int, int] = {}
        self._swaps = 0

    def add(self, names: Mapping[int, int | None]) -> None:
        """One frame: true animal -> the name it was given; None where it was given none."""
        self._seen += len(names)
        for true, name in names.items():
            if name is None:
                continue
            self._together[true, name] += 1
            self._swaps += self._last.setdefault(true, name) != name
            self._last[true] = name

    def score(self, *, rate_hz: float) -> IdentityScore:
        """What has been taken in, at so many frames a second."""
        named = self._together.total()
        right = self._most_together()
        hours = self._seen / rate_hz / 3600
        return IdentityScore(
            idf1=2 * right / (named + self._seen) if named + self._seen else None,
            wrong_share=(named - right) / named if named else None,
            unresolved_share=(self._seen - named) / self._seen if self._seen else None,
            swaps=self._swaps,
            swaps_per_animal_hour=self._swaps / hours if hours else None,
            animal_hours=hours,
        )

    def _most_together(self) -> int:
        if not self._together:
            return 0
        truths = sorted({true for true, _ in self._together})
        names = sorted({name for _, name in self._together})
        frames = np.array([[self._together[true, name] for name in names] for true in truths])
        rows, columns = linear_sum_assignment(frames, maximize=True)
        return int(frames[rows, columns].sum())
