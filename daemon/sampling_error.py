"""`vivarium sampling-error`: what sampled blocks would have said of days that were watched all the time.

For each animal and day the mean of a measure over the minutes of the plan's blocks is compared with its mean over all
minutes. Both rest on the same stored minutes, so all that differs is when one looked. Own definition.
A measure that cannot be compared is named, with what it lacks.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated

import typer

from daemon.maintenance import minutes_at_work
from daemon.measures_list import measures_of
from daemon.minute_series import DAY_MINUTES, MINUTE_NS
from daemon.minute_value import MinuteValue
from daemon.schedule import blocks_between
from daemon.settings import ScheduleSettings, Settings, load_settings
from daemon.store.repository import attach_store
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError

LEAST_DAY_SHARE = 0.5
"""A day counts for a measure if so many of its minutes have a value..."""
LEAST_BLOCK_MINUTES = 30
"""...and so many of them lie in blocks."""
_LEAST_DAY_MINUTES = math.ceil(LEAST_DAY_SHARE * DAY_MINUTES)


@dataclass(slots=True, kw_only=True)
class _Day:
    """The values of one measure of an animal, or the cage, in one day."""

    of_cage: bool
    minutes: list[float] = field(default_factory=list)
    in_blocks: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingError:
    """Of one measure; in its unit."""

    measure: str
    days: int
    """Of animals, that were compared: those with values enough."""
    of_days: int
    """So many are stored."""
    mean: float
    """Of all their minutes."""
    bias: float
    """Mean of (blocks - all minutes)."""
    error: float
    """Root of the mean square of the same."""
    spread: float | None
    """Standard deviation of the true means between these days of animals; None of a single one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLittle:
    """Of one measure, which no day of an animal can be compared by."""

    measure: str
    minutes: int
    """With a value; of the day of an animal that has most."""
    in_blocks: int | None
    """With a value, in blocks; of the day with most, of those with minutes enough; None without such a day."""

    @property
    def why(self) -> str:
        """What it lacks, in words."""
        if self.minutes == 0:
            return "no minute has a value"
        if self.in_blocks is None:
            return f"{self.minutes} min of a day have a value at most, {_LEAST_DAY_MINUTES} are needed"
        return f"{self.in_blocks} min in a day's blocks have a value at most, {LEAST_BLOCK_MINUTES} are needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """All measures, in the order of their names."""

    errors: tuple[SamplingError, ...]
    too_little: tuple[TooLittle, ...]


def sampling_errors(
    values: Iterable[MinuteValue], plan: ScheduleSettings, settings: Settings, *, start_utc_ns: int, stop_utc_ns: int
) -> Compared:
    """Compare, measure by measure: those of the box, and whatever else there are values of.

    Parameters
    ----------
    values : iterable of MinuteValue
        Of days that were watched all the time.
    plan : ScheduleSettings
        Whose blocks are looked at.
    settings : Settings
        The box: its time zone.
    start_utc_ns, stop_utc_ns : int
        Whole days from the start on.
    """
    planned = {
        minute
        for block in blocks_between(start_utc_ns, stop_utc_ns, plan, settings.zone)
        for minute in range(-(-block.start_utc_ns // MINUTE_NS), block.end_utc_ns // MINUTE_NS)
    }
    days, stored = _by_day(values, planned, start_utc_ns // MINUTE_NS)
    of_box = measures_of((zone.name for zone in settings.zones), settings.measure.mm_per_px)
    errors, too_little = [], []
    for measure in sorted({*of_box, *days}):
        long_enough = [day for day in days[measure] if len(day.minutes) >= _LEAST_DAY_MINUTES]
        compared = [day for day in long_enough if len(day.in_blocks) >= LEAST_BLOCK_MINUTES]
        if compared:
            errors.append(_error(measure, compared, of_days=stored[compared[0].of_cage]))
        else:
            too_little.append(
                TooLittle(
                    measure=measure,
                    minutes=max((len(day.minutes) for day in days[measure]), default=0),
                    in_blocks=max((len(day.in_blocks) for day in long_enough), default=None),
                )
            )
    return Compared(errors=tuple(errors), too_little=tuple(too_little))


def _by_day(
    values: Iterable[MinuteValue], planned: Collection[int], first: int
) -> tuple[Mapping[str, list[_Day]], Mapping[bool, int]]:
    """The days of each measure that have a value; and how many are stored at all, of animals and (True) of the cage."""
    days: dict[tuple[str, int, int], _Day] = {}
    stored: set[tuple[int, int]] = set()
    for each in values:
        minute, animal = each.minute_utc_ns // MINUTE_NS, each.animal or 0
        number = (minute - first) // DAY_MINUTES
        stored.add((animal, number))
        if each.value is None:
            continue
        day = days.setdefault((each.measure, animal, number), _Day(of_cage=animal == 0))
        day.minutes.append(each.value)
        if minute in planned:
            day.in_blocks.append(each.value)
    by_measure: Mapping[str, list[_Day]] = defaultdict(list)
    for (measure, _, _), day in days.items():
        by_measure[measure].append(day)
    return by_measure, Counter(animal == 0 for animal, _ in stored)


def _error(measure: str, compared: Sequence[_Day], *, of_days: int) -> SamplingError:
    true = [fmean(day.minutes) for day in compared]
    off = [fmean(day.in_blocks) - whole for day, whole in zip(compared, true, strict=True)]
    return SamplingError(
        measure=measure,
        days=len(compared),
        of_days=of_days,
        mean=fmean(true),
        bias=fmean(off),
        error=math.sqrt(fmean(each**2 for each in off)),
        spread=stdev(true) if len(true) > 1 else None,
    )


def sampling_error(
    start: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    days: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    config: Annotated[Path, typer.Option("--config", "-c", help="Of the box that was watched.")] = Path("config.toml"),
    plan: Annotated[
        Path | None, typer.Option(help="Config whose schedule is judged; that of the box when left out.")
    ] = None,
) -> None:
    """Print what sampled blocks would have said of days that were watched all the time: bias and error by measure.

    Each with the days of animals that were compared; at the end what could not be, and what it lacks.

    The days must be stored with a value in most minutes, as by vivarium simulate --script, or by a box that measures
    outside its blocks as often as within.
    """
    settings = load_settings(config)
    judged = settings.schedule if plan is None else load_settings(plan).schedule
    start_utc_ns = round(start.replace(tzinfo=settings.zone).timestamp()) * NS_PER_S
    stop_utc_ns = start_utc_ns + days * DAY_MINUTES * MINUTE_NS
    with attach_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit) as store:
        values = store.minute_values(since_utc_ns=start_utc_ns, until_utc_ns=stop_utc_ns)
        found = sampling_errors(values, judged, settings, start_utc_ns=start_utc_ns, stop_utc_ns=stop_utc_ns)
        work = minutes_at_work(store.maintenance_between(start_utc_ns, stop_utc_ns), start_utc_ns, stop_utc_ns)
    lacking = [f"{each.measure:30}  {each.why}" for each in found.too_little]
    if not found.errors:
        raise ConfigError(
            f"no measure has values in {LEAST_DAY_SHARE:.0%} of the minutes of a day from {start.date()}, and "
            f"{LEAST_BLOCK_MINUTES} in blocks:\n  " + "\n  ".join(lacking)
        )
    blocks = sum(len(times) for times in judged.strata.values())
    typer.echo(f"{blocks} blocks of {judged.block_minutes:g} min against all minutes; in the unit of each measure")
    if work:
        typer.echo(f"maintenance of {work} min counts for neither")
    typer.echo("measure                          days    of       mean       bias      error  between days")
    for each in found.errors:
        spread = "-" if each.spread is None else f"{each.spread:.4f}"
        numbers = f"{each.mean:9.3f}  {each.bias:9.4f}  {each.error:9.4f}  {spread:>12}"
        typer.echo(f"{each.measure:30}  {each.days:5}  {each.of_days:4}  {numbers}")
    if lacking:
        typer.echo("not compared (`vivarium measures list` says when a minute has a value):")
    for line in lacking:
        typer.echo(line)
