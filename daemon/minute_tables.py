"""Tables made of values of minutes: as they are, by block, and by the hour of the day. Pure."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from statistics import fmean
from typing import Protocol
from zoneinfo import ZoneInfo

from daemon.behaviour import Rhythm, rest_disturbance, rhythm, zeitgeber_hour
from daemon.maintenance import Maintenance, in_minute
from daemon.minute_value import Measure, MinuteValue
from daemon.minute_values import MINUTE_NS, MINUTE_S
from drivers.clock import NS_PER_S

MINUTE_COLUMNS = (
    "minute_utc", "minute_local", "minute_utc_ns", "animal", "measure", "unit", "value", "uncertainty", "coverage",
    "samples", "block", "stratum", "maintenance", "correction",
)  # fmt: skip
BLOCK_COLUMNS = (
    "block", "stratum", "day", "start_utc", "animal", "measure", "unit", "of_minutes", "value", "minutes",
    "planned_minutes", "coverage", "maintenance_minutes", "correction",
)  # fmt: skip
HOUR_COLUMNS = ("animal", "measure", "unit", "zeitgeber_hour", "mean", "minutes")

_SUMMED = ("distance_mm", "distance_px", "rest_endings", "vasodilation_onset", "vasoconstriction_onset")
_GREATEST = ("speed_max_mm_per_s", "speed_max_px_per_s", "immobile_bout_s", "head_max_celsius", "cooling_celsius")
_LAST = ("skin_max_30min_celsius", "fever_signature_celsius")

Row = dict[str, object]

Corrected = Callable[[int, int | None], Collection[int]]
"""Told the begin of a minute, UTC ns, and an animal: numbers of the corrections by which a person said who it is."""


def never(_minute_utc_ns: int, _animal: int | None) -> Collection[int]:
    """Nobody corrected anything."""
    return ()


class Block(Protocol):
    """What of a block is needed."""

    @property
    def key(self) -> str:
        """Unique."""
        ...

    @property
    def stratum(self) -> str:
        """Its part of the day."""
        ...

    @property
    def day(self) -> date:
        """Of the plan."""
        ...

    @property
    def start_utc_ns(self) -> int:
        """Begin."""
        ...

    @property
    def end_utc_ns(self) -> int:
        """End."""
        ...


def minute_rows(
    values: Iterable[MinuteValue],
    blocks: Sequence[Block],
    *,
    units: Mapping[str, Measure],
    zone: ZoneInfo,
    maintenance: Sequence[Maintenance] = (),
    corrected: Corrected = never,
) -> Iterator[Row]:
    """One row for each value; `block` is the one that the minute begins in.

    `maintenance` says why people were there, `correction` by which of their words the animal is who it is.
    """
    find = _Finder(blocks)
    for each in values:
        moment = datetime.fromtimestamp(each.minute_utc_ns // NS_PER_S, UTC)
        block = find.at(each.minute_utc_ns)
        work = in_minute(maintenance, each.minute_utc_ns)
        yield {
            "minute_utc": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "minute_local": moment.astimezone(zone).isoformat(),
            "minute_utc_ns": each.minute_utc_ns,
            "animal": each.animal or "",
            "measure": each.measure,
            "unit": unit_of(each.measure, units),
            "value": figure(each.value),
            "uncertainty": figure(each.uncertainty),
            "coverage": figure(each.coverage),
            "samples": each.samples,
            "block": "" if block is None else block.key,
            "stratum": "" if block is None else block.stratum,
            "maintenance": "" if work is None else work.reason.value,
            "correction": _numbers(corrected(each.minute_utc_ns, each.animal)),
        }


def unit_of(measure: str, units: Mapping[str, Measure]) -> str:
    """Its unit; empty for a measure of a zone that is not in the config any more."""
    known = units.get(measure)
    return "" if known is None else known.unit


class _Finder:
    """Finds the block that a time lies in, among many in the order of their starts."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self._starts = [block.start_utc_ns for block in blocks]

    def at(self, utc_ns: int) -> Block | None:
        place = bisect_right(self._starts, utc_ns) - 1
        found = self._blocks[place] if place >= 0 else None
        return found if found is not None and utc_ns < found.end_utc_ns else None


def _numbers(numbers: Collection[int]) -> str:
    return " ".join(map(str, sorted(numbers)))


def figure(value: float | None) -> str:
    """A number as tables have it; empty where there is none."""
    return "" if value is None else f"{value:.6g}"


def of_minutes(measure: str) -> str:
    """How the minutes of a block become one value: their `sum`, `max`, `last` or `mean`."""
    if measure in _SUMMED or (measure.startswith("zone_") and measure.endswith(("_entries", "_dwell_s"))):
        return "sum"
    if measure in _GREATEST:
        return "max"
    return "last" if measure in _LAST else "mean"


def block_rows(
    values: Iterable[MinuteValue],
    blocks: Sequence[Block],
    *,
    units: Mapping[str, Measure],
    maintenance: Sequence[Maintenance] = (),
    corrected: Corrected = never,
) -> Iterator[Row]:
    """One row for each block, animal and measure, of the minutes that lie in the block.

    `coverage` is the share of the block's minutes that have a value; the value itself is never scaled up to the whole
    block. `maintenance_minutes` are those that have none because people worked at the cage. `last` is the value of the
    block's last minute: of a proxy of 30 minutes that of the block, if it lasts so long. It is empty where that minute
    has none.
    """
    gathered: dict[tuple[str, int, str], list[MinuteValue]] = defaultdict(list)
    by_key = {block.key: block for block in blocks}
    find = _Finder(blocks)
    for each in values:
        block = find.at(each.minute_utc_ns)
        if block is not None and each.minute_utc_ns + MINUTE_NS <= block.end_utc_ns:
            gathered[block.key, each.animal or 0, each.measure].append(each)
    for (key, animal, measure), minutes in gathered.items():
        block = by_key[key]
        planned = _whole_minutes(block)
        known = [minute.value for minute in minutes if minute.value is not None]
        how = of_minutes(measure)
        yield {
            "block": key,
            "stratum": block.stratum,
            "day": block.day.isoformat(),
            "start_utc": datetime.fromtimestamp(block.start_utc_ns / NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "animal": animal or "",
            "measure": measure,
            "unit": unit_of(measure, units),
            "of_minutes": how,
            "value": figure(_of_block(how, minutes, known, planned)),
            "minutes": len(known),
            "planned_minutes": len(planned),
            "coverage": figure(len(known) / len(planned)),
            "maintenance_minutes": sum(in_minute(maintenance, minute) is not None for minute in planned),
            "correction": _numbers(
                {number for minute in minutes for number in corrected(minute.minute_utc_ns, minute.animal)}
            ),
        }


def _whole_minutes(block: Block) -> range:
    """Begins of the minutes that lie in a block as a whole."""
    first = -(-block.start_utc_ns // MINUTE_NS) * MINUTE_NS
    return range(first, max(block.end_utc_ns - MINUTE_NS + 1, first + 1), MINUTE_NS)


def _of_block(how: str, minutes: Sequence[MinuteValue], known: Sequence[float], planned: range) -> float | None:
    if how == "last":
        last = minutes[-1]
        return last.value if last.minute_utc_ns == planned[-1] else None
    if not known:
        return None
    if how == "mean":
        return fmean(known)
    return sum(known) if how == "sum" else max(known)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnimalRhythm:
    """The rhythm of one animal."""

    animal: int
    rhythm: Rhythm
    rest_endings_per_hour: float | None
    """How often a rest is broken off in the light phase, per hour of rest."""


def animal_rhythms(
    values: Iterable[MinuteValue], *, measure: str, lights_on: str, light_hours: float, zone: ZoneInfo
) -> list[AnimalRhythm]:
    """The rhythm of a measure for each animal, and how its rest by day is disturbed.

    Parameters
    ----------
    values : iterable of MinuteValue
        Of the measure, and of rest_share and rest_endings.
    """
    of_measure: dict[int, list[tuple[float, float]]] = defaultdict(list)
    resting_hours: dict[int, float] = defaultdict(float)
    endings: dict[int, float] = defaultdict(float)
    for each in values:
        if each.animal is None or each.value is None:
            continue
        hour = zeitgeber_hour(each.minute_utc_ns, lights_on, zone)
        if each.measure == measure:
            of_measure[each.animal].append((hour, each.value))
        if hour < light_hours and each.measure == "rest_share":
            resting_hours[each.animal] += each.value * each.coverage * MINUTE_S / 3600
        if hour < light_hours and each.measure == "rest_endings":
            endings[each.animal] += each.value
    return [
        AnimalRhythm(
            animal=animal,
            rhythm=rhythm(pairs, light_hours=light_hours),
            rest_endings_per_hour=rest_disturbance(endings[animal], resting_hours[animal]),
        )
        for animal, pairs in sorted(of_measure.items())
    ]


def hour_rows(rhythms: Iterable[AnimalRhythm], *, measure: str, unit: str) -> Iterator[Row]:
    """One row for each animal and zeitgeber hour."""
    for each in rhythms:
        for hour, (mean, minutes) in enumerate(zip(each.rhythm.hourly, each.rhythm.minutes, strict=True)):
            yield {
                "animal": each.animal,
                "measure": measure,
                "unit": unit,
                "zeitgeber_hour": hour,
                "mean": figure(mean),
                "minutes": minutes,
            }
