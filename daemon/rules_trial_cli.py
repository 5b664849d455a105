"""`vivarium rules judge`: the rules on simulated boxes, a table and how sure it is."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from daemon.illness_script import NAMES, NONE
from daemon.moments import local_text
from daemon.rules_trial import CONFIDENCE, TriedWeek, false_alerts, tried
from daemon.scripted_run import with_animals
from daemon.seen_errors import SHIPPED_ERRORS, read_errors
from daemon.settings import Settings, load_settings
from drivers.errors import ConfigError

FIRST_DAY = date(2026, 9, 1)
MOST_FALSE_PER_HUNDRED = 1.0
_WIDTH = 10_000
_SCRIPTS = ",".join(name for name in NAMES if name != NONE)


def judge(
    seeds: Annotated[str, typer.Option(help="Of the boxes: 101-110, or 101,103.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory that keeps what is done.")],
    scripts: Annotated[str, typer.Option(help="Each box is tried healthy, and by each of these.")] = _SCRIPTS,
    days: Annotated[int, typer.Option(min=1, help="How many, from 2026-09-01; the script is in night 6.")] = 7,
    animals: Annotated[int, typer.Option(min=1, max=6, help="In each box.")] = 3,
    every_s: Annotated[int, typer.Option(min=1, max=30, help="Seconds between observations.")] = 30,
    errors: Annotated[
        Path | None, typer.Option(help="Errors to draw by, from vivarium seen-errors; else those without networks.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Whose rules; else the shipped.")] = None,
) -> None:
    """Try the rules on simulated boxes, healthy and ill: what is caught, after how long, how many alerts are false.

    No pictures are made. Goes on where it was stopped. Exit code 1 when an illness is missed, or more than 1 alert in
    100 animal-days is false.
    """
    settings = Settings() if config is None else load_settings(config)
    seen = SHIPPED_ERRORS if errors is None else read_errors(errors)
    numbers, illnesses = seeds_of(seeds), _named(scripts)
    weeks: list[TriedWeek] = []
    try:
        output.mkdir(parents=True, exist_ok=True)
        for seed in numbers:
            weeks += tried(
                with_animals(settings, seed=seed, animals=animals),
                seen,
                scripts=illnesses,
                first_day=FIRST_DAY,
                days=days,
                every_s=every_s,
                folder=output,
                on_day=lambda script, day, seed=seed: typer.echo(f"seed {seed}, {script}, day {day + 1}", err=True),  # type: ignore[misc]
            )
    except OSError as error:
        raise ConfigError(f"--output: {output} cannot be written: {error.strerror or error}") from error
    typer.echo(f"errors: {seen.source}")
    _print(weeks, settings.zone)
    for line in _summary(weeks, settings):
        typer.echo(line)
    found = false_alerts(weeks, baseline_days=_baseline_days(settings))
    missed = any(week.truth and week.caught_by is None for week in weeks)
    if missed or (found.per_hundred or 0.0) > MOST_FALSE_PER_HUNDRED:
        raise typer.Exit(1)


def seeds_of(text: str) -> list[int]:
    """Seeds of `101-110` or `101,103`."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or part.endswith("-"):
            raise ConfigError(f"--seeds: expected numbers such as 101-110 or 101,103, got {text!r}")
        of_part = range(int(first), int(last or first) + 1)
        if not of_part:
            raise ConfigError(f"--seeds: {part!r} has none")
        found += of_part
    return found


def _named(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in NAMES]:
        raise ConfigError(f"--scripts: expected some of {', '.join(NAMES)}, got {', '.join(unknown)}")
    return [name for name in names if name != NONE]


def _baseline_days(settings: Settings) -> int:
    return max(
        (
            condition.baseline.least_days
            for rule in settings.minute_rules()
            for condition in rule.conditions
            if condition.baseline
        ),
        default=0,
    )


def _print(weeks: Sequence[TriedWeek], zone: ZoneInfo) -> None:
    table = Table("seed", "script", "caught", "alerts in it", "false alerts", "notices", "animal-days", box=None)
    for week in weeks:
        table.add_row(
            str(week.seed),
            week.script,
            "" if not week.truth else _caught(week),
            "" if not week.truth else ", ".join(each.rule for each in week.about_illness) or "none",
            ", ".join(f"{each.rule} of {each.animal} at {local_text(each.at_utc_ns, zone)[:16]}" for each in week.false)
            or "0",
            str(week.notices),
            f"{week.animal_days:.1f}",
        )
    Console(width=_WIDTH, markup=False, highlight=False).print(table)


def _caught(week: TriedWeek) -> str:
    return "missed" if week.caught_by is None else f"after {week.caught_after_minutes:.0f} min by {week.caught_by}"


def _summary(weeks: Sequence[TriedWeek], settings: Settings) -> Iterator[str]:
    for script in dict.fromkeys(week.script for week in weeks if week.truth):
        of_it = [week for week in weeks if week.script == script]
        delays = [week.caught_after_minutes for week in of_it if week.caught_after_minutes is not None]
        typical = f", median after {median(delays):.0f} min, longest {max(delays):.0f}" if delays else ""
        single = sum(len(week.about_illness) == 1 for week in of_it)
        yield f"{script}: {len(delays)} of {len(of_it)} caught{typical}; told by one alert alone in {single}"
    found = false_alerts(weeks, baseline_days=_baseline_days(settings))
    if found.per_hundred is not None:
        yield (
            f"false alerts: {found.alerts} in {found.animal_days:.1f} animal-days, none counted twice: "
            f"{found.per_hundred:.2f} per 100, at most {found.at_most():.2f} ({CONFIDENCE:.0%})"
        )
    if found.settled_days > 0:
        yield (
            f"of these {found.settled_days:.1f} with a baseline: {100 * found.alerts / found.settled_days:.2f} per 100 "
            f"of them, at most {found.at_most(settled=True):.2f}"
        )
