"""`vivarium sampling-error`: what sampled blocks would have said of days that were watched all the time.

For each animal and day the mean of a measure over the minutes of the plan's blocks is compared with its mean over all
minutes. Both rest on the same stored minutes, so all that differs is when one looked. Own definition.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated

import typer

from daemon.maintenance import minutes_at_work
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

DayKey = tuple[str, int, int]
"""Measure, animal (0 for the cage) and number of the day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingError:
    """Of one measure; in its unit."""

    measure: str
    days: int
    """Of animals, that were compared."""
    mean: float
    """Of all their minutes."""
    bias: float
    """Mean of (blocks - all minutes)."""
    error: float
    """Root of the mean square of the same."""
    spread: float | None
    """Standard deviation of the true means between these days of animals; None of a single one."""


def sampling_errors(
    values: Iterable[MinuteValue], plan: ScheduleSettings, settings: Settings, *, start_utc_ns: int, stop_utc_ns: int
) -> Iterator[SamplingError]:
    """Compare, measure by measure, in the order of their names.

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
    first = start_utc_ns // MINUTE_NS
    everything: Mapping[DayKey, list[float]] = defaultdict(list)
    sampled: Mapping[DayKey, list[float]] = defaultdict(list)
    for each in values:
        if each.value is None:
            continue
        minute = each.minute_utc_ns // MINUTE_NS
        key = each.measure, each.animal or 0, (minute - first) // DAY_MINUTES
        everything[key].append(each.value)
        if minute in planned:
            sampled[key].append(each.value)
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key, found in everything.items():
        if len(found) >= LEAST_DAY_SHARE * DAY_MINUTES and len(sampled[key]) >= LEAST_BLOCK_MINUTES:
            pairs[key[0]].append((fmean(found), fmean(sampled[key])))
    for measure, compared in sorted(pairs.items()):
        true = [whole for whole, _ in compared]
        off = [part - whole for whole, part in compared]
        yield SamplingError(
            measure=measure,
            days=len(compared),
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

    The days must be stored with a value in most minutes, as by vivarium simulate --script, or by a box that measures
    outside its blocks as often as within.
    """
    settings = load_settings(config)
    judged = settings.schedule if plan is None else load_settings(plan).schedule
    start_utc_ns = round(start.replace(tzinfo=settings.zone).timestamp()) * NS_PER_S
    stop_utc_ns = start_utc_ns + days * DAY_MINUTES * MINUTE_NS
    with attach_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit) as store:
        values = store.minute_values(since_utc_ns=start_utc_ns, until_utc_ns=stop_utc_ns)
        found = list(sampling_errors(values, judged, settings, start_utc_ns=start_utc_ns, stop_utc_ns=stop_utc_ns))
        work = minutes_at_work(store.maintenance_between(start_utc_ns, stop_utc_ns), start_utc_ns, stop_utc_ns)
    if not found:
        raise ConfigError(
            f"no measure has values in {LEAST_DAY_SHARE:.0%} of the minutes of a day from {start.date()}, and "
            f"{LEAST_BLOCK_MINUTES} in blocks"
        )
    blocks = sum(len(times) for times in judged.strata.values())
    typer.echo(f"{blocks} blocks of {judged.block_minutes:g} min against all minutes; in the unit of each measure")
    if work:
        typer.echo(f"maintenance of {work} min counts for neither")
    typer.echo("measure                         days       mean       bias      error  between days")
    for each in found:
        spread = "-" if each.spread is None else f"{each.spread:.4f}"
        typer.echo(
            f"{each.measure:30}  {each.days:4}  {each.mean:9.3f}  {each.bias:9.4f}  {each.error:9.4f}  {spread:>12}"
        )
