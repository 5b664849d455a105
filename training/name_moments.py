"""When a picture was taken, as far as its name tells: sessions, and places within them."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from training.samples import DataError, Moment

_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRule:
    """How names are read."""

    session: re.Pattern[str] | None = None
    """Finds the session in a name, in its first group if it has one; None takes the name without its frame number."""
    by_folder: bool = False
    """The folder that a picture lies in is its session."""
    fps: float | None = None
    """Frames per second that the numbers in names count; None where that is not known."""


def moments_of_names(names: Sequence[str], rule: NameRule) -> list[Moment]:
    """Session and place of each picture.

    Of the numbers in names that are alike but for their numbers, the one that differs most often counts the frames, of
    equals the last: in `night3_000017_left`, `night3_000018_left` ... the second. Without `fps` it stands for seconds.

    Parameters
    ----------
    names : sequence of str
        Paths of the pictures with `/`, relative to the folder they belong to, without the ending.
    rule : NameRule
        What is known of them.

    Raises
    ------
    DataError
        If the rule finds no session in a name.
    """
    alike: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        alike[_NUMBER.sub("#", name)].append(index)
    moments: dict[int, Moment] = {}
    for indices in alike.values():
        numbers = {index: list(_NUMBER.finditer(names[index])) for index in indices}
        distinct = [len({int(match[0]) for match in field}) for field in zip(*numbers.values(), strict=True)]
        frame = max(range(len(distinct)), key=lambda place: (distinct[place], place)) if distinct else None
        for index in indices:
            match = None if frame is None else numbers[index][frame]
            moments[index] = Moment(
                session=_session(names[index], match, rule),
                position_s=0.0 if match is None else int(match[0]) / (rule.fps or 1.0),
            )
    return [moments[index] for index in range(len(names))]


def _session(name: str, frame: re.Match[str] | None, rule: NameRule) -> str:
    if rule.by_folder:
        return str(PurePosixPath(name).parent)
    if rule.session is None:
        return name if frame is None else name[: frame.start()].rstrip("-_ ") + name[frame.end() :]
    found = rule.session.search(name)
    if found is None:
        raise DataError(f"{name}: session={rule.session.pattern} finds nothing in this name")
    return found[1] or "" if rule.session.groups else found[0]
