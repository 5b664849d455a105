"""The short text that names a source of labelled pictures, with its options."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from drivers.errors import MaterialError
from drivers.false_colour import FalseColourScale, Reading
from training.name_moments import NameRule
from training.samples import DataError

DEFAULT_SCENES = 500
"""So many test scenes the models are held against."""

SPEC_HELP = (
    "scenes or scenes:FIRST+COUNT; a folder of pictures and masks; a recording (.mkv) or a folder of them, with masks; "
    "a COCO panoptic .json. With options behind it: FOLDER?labels=1=tail,2=body,3=head&range=20,40&weight=2, "
    "FOLDER?session=rat[0-9]+&fps=25"
)
"""For the help of commands."""

_KEYS = ("labels", "range", "reading", "palette", "masks", "images", "animals", "weight", "session", "fps", "block_s")
_BY_FOLDER = "folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """What to open, and how."""

    place: str
    """`scenes` with its numbers, or a path."""
    options: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `PLACE?key=value&key=value`.

        Raises
        ------
        DataError
            If an option is unknown.
        """
        place, _, query = text.partition("?")
        options: dict[str, tuple[str, ...]] = {}
        for pair in filter(None, query.split("&")):
            key, _, value = pair.partition("=")
            if key not in _KEYS or not value:
                raise DataError(f"{text}: expected options {', '.join(_KEYS)} as key=value, got {pair!r}")
            options[key] = (*options.get(key, ()), value)
        return cls(place=place, options=options)

    def one(self, key: str) -> str | None:
        """The value of an option that may stand only once; None without it."""
        values = self.options.get(key, ())
        if len(values) > 1:
            raise DataError(f"{self.place}: {key} is given {len(values)} times")
        return values[0] if values else None

    @property
    def scene_numbers(self) -> tuple[int, int] | None:
        """Seed of the first scene and their count; None where the text names no numbers of scenes."""
        kind, colon, numbers = self.place.partition(":")
        if kind != "scenes" or not colon:
            return None
        first, _, count = numbers.partition("+")
        if not first.isdecimal() or not count.isdecimal() or int(count) < 1:
            raise DataError(f"{self.place}: expected scenes:FIRST+COUNT, for instance scenes:990000+500")
        return int(first), int(count)

    @property
    def weight(self) -> float:
        """In a mix; 1 where nothing is said."""
        text = self.one("weight") or "1"
        weight = _number(text)
        if weight is None or not weight > 0:
            raise DataError(f"{self.place}: expected a positive weight, got {text!r}")
        return weight

    @property
    def names(self) -> NameRule:
        """How names of pictures are read."""
        session = self.one("session")
        try:
            pattern = None if session in (None, _BY_FOLDER) else re.compile(session or "")
        except re.error as error:
            raise DataError(
                f"{self.place}: expected session=folder, or session=REGEX such as session=night[0-9]+, got "
                f"{session!r}: {error}"
            ) from error
        return NameRule(session=pattern, by_folder=session == _BY_FOLDER, fps=self._positive("fps", "25"))

    @property
    def block_s(self) -> float | None:
        """Length of the blocks of time that are held back; None where nothing is said."""
        return self._positive("block_s", "600")

    def _positive(self, key: str, example: str) -> float | None:
        text = self.one(key)
        value = None if text is None else _number(text)
        if text is not None and (value is None or not 0 < value < math.inf):
            raise DataError(f"{self.place}: expected a positive number such as {key}={example}, got {text!r}")
        return value

    @property
    def single(self) -> bool:
        """Whether each picture shows exactly one animal."""
        text = self.one("animals")
        if text not in (None, "1"):
            raise DataError(
                f"{self.place}: expected animals=1, or masks of the animals where there are more; got {text!r}"
            )
        return text is not None

    @property
    def scale(self) -> FalseColourScale | None:
        """What is known about the colours; None where nothing is."""
        span, readings = self.one("range"), self.options.get("reading", ())
        if span is None and not readings:
            return None
        points = [self._numbers(text, 3) for text in readings]
        try:
            return FalseColourScale(
                range_celsius=None if span is None else _pair(self._numbers(span, 2)),
                readings=tuple(Reading(x=x, y=y, celsius=celsius) for x, y, celsius in points),
                palette=self.one("palette"),
            )
        except MaterialError as error:
            raise DataError(f"{self.place}: {error}") from error

    def _numbers(self, text: str, length: int) -> list[float]:
        values = [_number(piece) for piece in text.split(",")]
        known = [value for value in values if value is not None]
        if len(known) != length or len(values) != length:
            raise DataError(
                f"{self.place}: expected range=LOW,HIGH or reading=X,Y,CELSIUS with decimal points, got {text!r}"
            )
        return known


def _pair(values: list[float]) -> tuple[float, float]:
    low, high = values
    return low, high


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
