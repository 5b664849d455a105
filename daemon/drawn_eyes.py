"""Observations drawn from the truth of a simulated box, without pictures: a week of three animals takes minutes."""

import math
from typing import Final

import numpy as np

from daemon.observation import AnimalObservation, FrameObservation, PartObservation
from daemon.posture import Posture
from daemon.seen_errors import Error, PartErrors, SeenErrors
from daemon.vision.parts import BodyPart
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag
from drivers.sensor_model import CONSTANTS, ENVIRONMENT, RISE_CELSIUS, ROOM_CELSIUS
from drivers.thermometry import Calibration
from drivers.vivarium.figure import ScenePart
from drivers.vivarium.moment import AnimalMoment, Moment

DRAWN: Final = "drawn from the truth"
"""Stands where the name of what found the animals stands."""

_SLOW_S = 600.0
"""What stays for minutes is drawn anew so often, and changes evenly in between."""
_CALIBRATION = Calibration(
    constants=CONSTANTS,
    shutter_celsius=ROOM_CELSIUS,
    fpa_celsius=ROOM_CELSIUS + RISE_CELSIUS,
    environment=ENVIRONMENT,
)
_MOST_ANIMALS, _QUANTITIES = 6, 12
_HEAD_PLACE = 11
"""Among the quantities: whether the head is seen."""
_P95_SHARE = 0.7
_BODY_SHARE = 0.7
"""So far from the base of the tail to the middle of the spine lies the middle of a body's mask, also of one that is
curled up; of shares from 0.6 to 1 the one that came nearest to 180 masks of seed 131."""
_IMAGE = 255.0, 191.0
"""The last column and row."""

Point = tuple[float, float]


class DrawnEyes:
    """What would be seen of moments, by stated errors; looked at in any order it sees the same.

    Which animal is which is never wrong. Median, 95th percentile and minimum of a part, which no measure uses, are
    filled in from its mean and maximum; its pixels are the usual ones.

    Parameters
    ----------
    errors : SeenErrors
        What is wrong with it.
    seed : int
        Of the errors.
    mm_per_px : float or None
        Size of a pixel.
    """

    def __init__(self, errors: SeenErrors, *, seed: int, mm_per_px: float | None) -> None:
        self._errors = errors
        self._seed = seed
        self._mm_per_px = mm_per_px
        self._kept: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}

    def look(
        self, moment: Moment, utc_ns: int, number: int, *, block_key: str | None, planned_utc_ns: int | None
    ) -> FrameObservation:
        """One frame, the `number`-th."""
        luck = np.random.default_rng((self._seed, 1, utc_ns // NS_PER_S))
        animals = [self._animal(each, utc_ns, luck) for each in moment.animals if self._is_seen(each, luck)]
        background = self._off(self._errors.background_celsius, 0, 0, utc_ns, luck)
        return FrameObservation(
            sequence=number,
            captured_utc_ns=utc_ns,
            captured_monotonic_ns=utc_ns,
            flags=FrameFlag.NONE,
            calibration=_CALIBRATION,
            fpa_celsius=_CALIBRATION.fpa_celsius,
            shutter_celsius=_CALIBRATION.shutter_celsius,
            background_celsius=background,
            animals=tuple(animals),
            not_measured=None,
            block_key=block_key,
            planned_utc_ns=planned_utc_ns,
            segmenter=DRAWN,
        )

    def _is_seen(self, true: AnimalMoment, luck: np.random.Generator) -> bool:
        errors = self._errors
        share = errors.seen_huddled if true.huddle else errors.seen_touching if true.touching else errors.seen_apart
        return bool(luck.random() < share)

    def _shows_head(self, true: AnimalMoment, utc_ns: int) -> bool:
        """Whether its head is seen; one that is covered stays so for minutes."""
        errors = self._errors
        share = errors.head_huddled if true.huddle else errors.head_touching if true.touching else errors.head_apart
        return 0.5 * math.erfc(-self._mixed(true.animal, _HEAD_PLACE, utc_ns) / math.sqrt(2)) < share

    def _animal(self, true: AnimalMoment, utc_ns: int, luck: np.random.Generator) -> AnimalObservation:
        errors = self._errors
        skin = true.skin_celsius + self._off(errors.skin_celsius, true.animal, 1, utc_ns, luck)
        parts, places = [], true_places(true)
        shows_head = self._shows_head(true, utc_ns)
        for part, of_part in ((BodyPart.HEAD, errors.head), (BodyPart.BODY, errors.body), (BodyPart.TAIL, errors.tail)):
            if part is BodyPart.HEAD and not shows_head:
                continue
            first = 2 + 3 * (int(part) - 1)
            mean = true.surface_celsius[ScenePart(part)]
            mean += self._off(of_part.mean_celsius, true.animal, first, utc_ns, luck)
            x, y = places[part]
            x += self._off(of_part.place_px, true.animal, first + 1, utc_ns, luck)
            y += self._off(of_part.place_px, true.animal, first + 2, utc_ns, luck)
            hottest = max(skin, mean) if part is BodyPart.HEAD else min(skin, mean + 1)
            parts.append(self._part(part, of_part, (x, y), mean, max(hottest, mean)))
        return AnimalObservation(animal=true.animal, parts=tuple(parts), posture=_posture(true, places))

    def _part(self, part: BodyPart, errors: PartErrors, place: Point, mean: float, hottest: float) -> PartObservation:
        x, y = (min(max(at, 0.0), last) for at, last in zip(place, _IMAGE, strict=True))
        scale = self._mm_per_px
        return PartObservation(
            part=part,
            x_px=x,
            y_px=y,
            x_mm=None if scale is None else x * scale,
            y_mm=None if scale is None else y * scale,
            area_px=errors.area_px,
            area_mm2=None if scale is None else errors.area_px * scale**2,
            valid_px=errors.area_px,
            mean_celsius=mean,
            median_celsius=mean,
            p95_celsius=mean + _P95_SHARE * (hottest - mean),
            min_celsius=mean - (hottest - mean),
            max_celsius=hottest,
            outline_px=errors.outline_px,
        )

    def _off(self, error: Error, animal: int, place: int, utc_ns: int, luck: np.random.Generator) -> float:
        """Seen minus true of one quantity."""
        return error.bias + error.slow * self._mixed(animal, place, utc_ns) + error.quick * luck.standard_normal()

    def _mixed(self, animal: int, place: int, utc_ns: int) -> float:
        """What stays for minutes, of unit spread."""
        cycle, share = divmod(utc_ns / NS_PER_S / _SLOW_S, 1.0)
        # Two independent draws mixed by cosine and sine keep the spread the same all the way from one to the next.
        angle = share * math.pi / 2
        before, after = self._slow(int(cycle), animal, place), self._slow(int(cycle) + 1, animal, place)
        return math.cos(angle) * before + math.sin(angle) * after

    def _slow(self, cycle: int, animal: int, place: int) -> float:
        drawn = self._kept.get(cycle)
        if drawn is None:
            for old in [each for each in self._kept if abs(each - cycle) > 1]:
                del self._kept[old]
            drawn = np.random.default_rng((self._seed, 2, cycle)).standard_normal((_MOST_ANIMALS + 1, _QUANTITIES))
            self._kept[cycle] = drawn
        return float(drawn[animal, place])


def true_places(true: AnimalMoment) -> dict[BodyPart, Point]:
    """Where the parts are, about: the middle of each."""
    return {
        BodyPart.HEAD: _between(true.snout, true.neck),
        BodyPart.BODY: _between(true.middle, true.tail_base, share=_BODY_SHARE),
        BodyPart.TAIL: _between(true.tail_base, true.tail_tip),
    }


def _between(one: Point, other: Point, *, share: float = 0.5) -> Point:
    """A point of the line between two, by the share of the first."""
    return share * one[0] + (1 - share) * other[0], share * one[1] + (1 - share) * other[1]


def _posture(true: AnimalMoment, places: dict[BodyPart, Point]) -> Posture | None:
    head, body = places[BodyPart.HEAD], places[BodyPart.BODY]
    length = math.dist(true.snout, head) + math.dist(head, body) + math.dist(body, true.tail_base)
    if length == 0:
        return None
    return Posture(
        nose_x_px=true.snout[0],
        nose_y_px=true.snout[1],
        length_px=length,
        curl=max(0.0, 1 - math.dist(true.snout, true.tail_base) / length),
    )
