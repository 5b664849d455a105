"""What the numbers in foreign masks mean."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from daemon.vision.parts import BodyPart
from daemon.vision.shape import depth_px, pieces, window
from training.samples import DataError

BACKGROUND = 0

_NAMES = {"background": BACKGROUND, **{part.name.lower(): int(part) for part in BodyPart}}

_THIN_FROM = 4.0
"""So many times longer than wide is no head: heads are 1 to 2 times, whole tails 15 to 20 times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMap:
    """From the numbers of a mask to body parts. 0 is background where nothing else is said."""

    parts: Mapping[int, int]
    """Number in the mask -> 0 or `BodyPart`."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `1=tail,2=body,3=head`.

        Raises
        ------
        DataError
            If it is not of this form.
        """
        parts = {BACKGROUND: BACKGROUND}
        for pair in text.split(","):
            number, _, name = (piece.strip() for piece in pair.partition("="))
            if not number.isdecimal() or name.lower() not in _NAMES:
                raise DataError(
                    f"labels: expected NUMBER=NAME with {', '.join(_NAMES)} as names and commas between them, such as "
                    f"1=tail,2=body,3=head, got {pair!r}"
                )
            parts[int(number)] = _NAMES[name.lower()]
        return cls(parts=parts)

    def apply(self, mask: NDArray[np.integer], source: str) -> NDArray[np.uint8]:
        """The mask in labels of the project.

        Parameters
        ----------
        mask : (height, width) integers
            Foreign labels.
        source : str
            For messages.

        Raises
        ------
        DataError
            If it holds a number that has no name.
        """
        numbers, places = np.unique(mask, return_inverse=True)
        unknown = [int(number) for number in numbers if int(number) not in self.parts]
        if unknown:
            raise DataError(
                f"{source}: expected the labels {_listed(self.parts)}, got also {_listed(unknown)}; name them too, for "
                "instance as background"
            )
        table = np.array([self.parts[int(number)] for number in numbers], np.uint8)
        return np.asarray(table[places.reshape(mask.shape)], np.uint8)

    def __str__(self) -> str:
        names = {number: name for name, number in _NAMES.items()}
        return ",".join(f"{number}={names[part]}" for number, part in sorted(self.parts.items()) if number)


OWN_LABELS = LabelMap(parts={BACKGROUND: BACKGROUND, **{int(part): int(part) for part in BodyPart}})
"""Masks that were made by this project."""


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def slenderness(mask: NDArray[np.bool_]) -> float:
    """How many times longer than wide the largest piece of a mask is, however bent; NaN for an empty one."""
    if not mask.any():
        return float("nan")
    largest = pieces(mask)[0]
    depth = depth_px(largest[window(largest)])
    width_px = 4 * float(depth[depth > 0].mean()) - 2  # across a strip w pixels wide the mean depth is (w + 2) / 4
    return float(np.count_nonzero(largest)) / width_px**2


def doubtful_heads(masks: Sequence[NDArray[np.uint8]]) -> str | None:
    """Why the labels look as if head and tail were exchanged; None where they do not.

    Parameters
    ----------
    masks : sequence of (height, width) uint8
        In labels of the project.
    """
    heads = [value for mask in masks if not np.isnan(value := slenderness(mask == BodyPart.HEAD))]
    tails = [value for mask in masks if not np.isnan(value := slenderness(mask == BodyPart.TAIL))]
    if not heads:
        return None
    head = float(np.median(heads))
    if head < _THIN_FROM or (tails and head < float(np.median(tails))):
        return None
    return f"what is called head is {head:.0f} times longer than wide, which a tail is: are the labels exchanged?"
