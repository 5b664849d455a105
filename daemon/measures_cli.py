"""`vivarium measures`: values of minutes as tables, by block, by hour of the day; maps of where an animal was."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daemon.behaviour import Maps, position_maps
from daemon.candidates import MOST_TOGETHER
from daemon.installation import default_config
from daemon.maintenance import Maintenance, minutes_at_work
from daemon.measures_list import in_units_of_box, markdown, measures_of
from daemon.minute_tables import (
    BLOCK_COLUMNS,
    HOUR_COLUMNS,
    MINUTE_COLUMNS,
    AnimalRhythm,
    Corrected,
    animal_rhythms,
    block_rows,
    hour_rows,
    minute_rows,
    unit_of,
)
from daemon.minute_value import Measure, Scope
from daemon.moments import moment_of
from daemon.settings import Settings, load_settings
from daemon.store.repository import Store, attach_store
from drivers.clock import NS_PER_S, SystemClock
from drivers.errors import ConfigError
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH

measures_app = typer.Typer(
    help="Values of minutes: as tables, by block, by hour of the day; maps of where an animal was.",
    invoke_without_command=True,
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The config file.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", metavar="FILE.csv", help="Where the table goes.")]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="2026-11-26 or 2026-11-26T07:00, of the box's time zone.")
]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Up to this, not included; now.")]
AnimalOption = Annotated[
    list[str] | None, typer.Option("--animal", help="Only this one, by its number or name; repeatable.")
]
MeasureOption = Annotated[list[str] | None, typer.Option("--measure", help="Only this one; repeatable.")]

_DEFAULT_CONFIG = default_config()


@measures_app.callback()
def export(
    context: typer.Context,
    since: FromOption = None,
    until: ToOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.csv", help="Where the table goes.")
    ] = None,
    animal: AnimalOption = None,
    measure: MeasureOption = None,
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Write the values of all minutes into a table, a row for each minute, animal and measure."""
    if context.invoked_subcommand is not None:
        return
    if output is None:
        raise ConfigError("give -o FILE.csv for the values of minutes, or one of list, blocks, rhythm, map")
    with _opened(config) as (settings, store):
        units = _measures(settings, measure)
        first, last = _span(settings, since, until)
        animals = [_number(each, settings) for each in animal or ()]
        values = store.minute_values(since_utc_ns=first, until_utc_ns=last, animals=animals or None, measures=measure)
        work = store.maintenance_between(first, last)
        rows = minute_rows(
            values,
            store.blocks_within(first, last),
            units=units,
            zone=settings.zone,
            maintenance=work,
            corrected=_corrected(store, first, last),
        )
        _write(output, MINUTE_COLUMNS, rows)
        _tell_maintenance(work, first, last)


@measures_app.command(name="list")
def list_command(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="As the table of docs/measures.md.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Also the measures of this box's zones, in its units.")
    ] = None,
) -> None:
    """Print every measure with its unit, formula, source and rule of validity."""
    measures = every_measure() if config is None else _of_box(load_settings(config))
    if as_markdown:
        typer.echo(markdown(measures.values()), nl=False)
        return
    for each in measures.values():
        _console().print(f"[bold]{escape(each.name)}[/]  [dim]{each.scope.value}, {escape(each.unit)}[/]")
        for heading, text in (("is", each.formula), ("source", each.source), ("valid", each.valid_when)):
            _console().print(f"    {heading:6} {escape(text)}", soft_wrap=True)


@measures_app.command()
def blocks(
    output: OutputOption,
    since: FromOption = None,
    until: ToOption = None,
    animal: AnimalOption = None,
    measure: MeasureOption = None,
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Write one value for each block (and so stratum and day), animal and measure into a table."""
    with _opened(config) as (settings, store):
        units = _measures(settings, measure)
        first, last = _span(settings, since, until)
        animals = [_number(each, settings) for each in animal or ()]
        values = store.minute_values(since_utc_ns=first, until_utc_ns=last, animals=animals or None, measures=measure)
        work = store.maintenance_between(first, last)
        planned = store.blocks_within(first, last)
        rows = block_rows(values, planned, units=units, maintenance=work, corrected=_corrected(store, first, last))
        _write(output, BLOCK_COLUMNS, rows)
        _tell_maintenance(work, first, last)


@measures_app.command(name="rhythm")
def rhythm_command(
    since: FromOption = None,
    until: ToOption = None,
    measure: Annotated[str, typer.Option(help="Of an animal.")] = "activity_mm_per_s",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.csv", help="Also a table by hour.")
    ] = None,
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Print how a measure goes with the zeitgeber hour: day, night, their ratio, how rest by day is disturbed."""
    with _opened(config) as (settings, store):
        name = in_units_of_box(measure, settings.measure.mm_per_px)
        units = _measures(settings, [name])
        if units[name].scope is not Scope.ANIMAL:
            raise ConfigError(f"--measure: {name!r} is of the {units[name].scope.value}, expected one of an animal")
        first, last = _span(settings, since, until)
        wanted = list(dict.fromkeys((name, "rest_share", "rest_endings")))
        rhythms = animal_rhythms(
            store.minute_values(since_utc_ns=first, until_utc_ns=last, measures=wanted),
            measure=name,
            lights_on=settings.schedule.lights_on,
            light_hours=settings.schedule.light_hours,
            zone=settings.zone,
        )
        work = store.maintenance_between(first, last)
        _say_corrected(store, first, last)
    unit = unit_of(name, units)
    _print_rhythms(rhythms, name, unit)
    _tell_maintenance(work, first, last)
    if output is not None:
        _write(output, HOUR_COLUMNS, hour_rows(rhythms, measure=name, unit=unit))


def _print_rhythms(rhythms: Sequence[AnimalRhythm], measure: str, unit: str) -> None:
    table = Table("animal", f"{measure} by day", "by night", "day / night", "rests broken off per h of rest by day",
                  "hours with a value", box=None, pad_edge=False)  # fmt: skip
    for each in rhythms:
        found = each.rhythm
        table.add_row(
            str(each.animal),
            _shown(found.day_mean, unit),
            _shown(found.night_mean, unit),
            _shown(found.day_night_ratio),
            _shown(each.rest_endings_per_hour),
            f"{found.hours} of 24",
        )
    _console().print(table if rhythms else "no values in this time")


@measures_app.command(name="map")
def map_command(
    animal: Annotated[str, typer.Option(help="Its number, or the name of its [[animal]].")],
    output: OutputOption,
    since: FromOption = None,
    until: ToOption = None,
    cell_px: Annotated[float, typer.Option("--cell", min=1, max=64, help="Edge of a cell, pixels.")] = 4.0,
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Write where an animal was (position heat map) and how much it moved there (displacement map) into a table."""
    with _opened(config) as (settings, store):
        first, last = _span(settings, since, until)
        number = _number(animal, settings)
        at_ns, places = store.trunk_places(number, since_utc_ns=first, until_utc_ns=last)
        work = store.maintenance_between(first, last)
        _say_corrected(store, first, last, number)
    maps = position_maps(at_ns, places, size=(IMAGE_HEIGHT, IMAGE_WIDTH), cell_px=cell_px)
    scale = settings.measure.mm_per_px
    speed = "px_per_s" if scale is None else "mm_per_s"
    _write(output, ("x_px", "y_px", "seconds", speed), _map_rows(maps, cell_px, scale, speed))
    _tell_maintenance(work, first, last)


def _map_rows(maps: Maps, cell_px: float, scale: float | None, speed: str) -> Iterator[dict[str, object]]:
    """Cells in which the animal was, by their middles."""
    for row, column in np.argwhere(maps.seconds > 0).tolist():
        yield {
            "x_px": f"{(column + 0.5) * cell_px - 0.5:g}",
            "y_px": f"{(row + 0.5) * cell_px - 0.5:g}",
            "seconds": f"{maps.seconds[row, column]:.3f}",
            speed: f"{maps.px_per_s[row, column] * (scale or 1.0):.4g}",
        }


def every_measure() -> Mapping[str, Measure]:
    """Of all boxes: lengths in both units, and a zone called NAME."""
    return {**measures_of((), None), **measures_of(("NAME",), 1.0)}


def _of_box(settings: Settings) -> Mapping[str, Measure]:
    return measures_of((zone.name for zone in settings.zones), settings.measure.mm_per_px)


def _measures(settings: Settings, wanted: Sequence[str] | None) -> Mapping[str, Measure]:
    """What this box measures; raises ConfigError for a name that is not among it."""
    known = _of_box(settings)
    for name in wanted or ():
        if name not in known:
            other = in_units_of_box(name, settings.measure.mm_per_px)
            hint = f"; in this box it is {other}" if other in known else "; `vivarium measures list` names them"
            raise ConfigError(f"--measure: {name!r} is not measured{hint}")
    return known


def _number(animal: str, settings: Settings) -> int:
    """Number of an animal that is named by number or name; also one above those of today, of whom rows may be left."""
    named = {name: number for number, name in settings.animal_names.items()}
    number = named.get(animal) or (int(animal) if animal.isdecimal() else 0)
    if not 1 <= number <= MOST_TOGETHER:
        known = f"1 to {settings.animal_count}" + (f", or {', '.join(named)}" if named else "")
        raise ConfigError(f"--animal: there is no animal {animal!r}; expected {known}")
    return number


def _span(settings: Settings, since: str | None, until: str | None) -> tuple[int, int]:
    """From and to as UTC ns; without --from the last 24 hours before --to, without --to now."""
    last = SystemClock().utc_ns() if until is None else moment_of("--to", until, settings.zone)
    first = last - 24 * 3600 * NS_PER_S if since is None else moment_of("--from", since, settings.zone)
    if first >= last:
        raise ConfigError(f"--from must lie before --to, got {since or 'a day before'} and {until or 'now'}")
    return first, last


def _corrected(store: Store, first_utc_ns: int, last_utc_ns: int) -> Corrected:
    """By which corrections an animal is who it is in a minute."""
    found = store.corrected_minutes(first_utc_ns, last_utc_ns)
    return lambda minute_utc_ns, animal: () if animal is None else found.get((minute_utc_ns, animal), ())


def _say_corrected(store: Store, first_utc_ns: int, last_utc_ns: int, animal: int | None = None) -> None:
    """Print which of what follows is a person's word about who is who."""
    found = store.corrected_minutes(first_utc_ns, last_utc_ns)
    numbers = {number for (_, one), of in found.items() if animal in (None, one) for number in of}
    for each in store.corrections():
        if each.number in numbers:
            _console().print(f"correction {each.number} by {escape(each.by)}: {each.correction.words}", soft_wrap=True)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    count = 0
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            for row in rows:
                writer.writerow(row)
                count += 1
    except OSError as error:
        raise ConfigError(f"-o: {path} cannot be written: {error.strerror}") from error
    _console().print(f"{count} rows written to {escape(str(path))}", soft_wrap=True)


def _tell_maintenance(stretches: Sequence[Maintenance], first_utc_ns: int, last_utc_ns: int) -> None:
    minutes = minutes_at_work(stretches, first_utc_ns, last_utc_ns)
    if minutes:
        _console().print(f"maintenance of {minutes} min counts for nothing")


def _shown(value: float | None, unit: str = "") -> str:
    return "cannot tell" if value is None else f"{value:.3g} {unit}".rstrip()


@contextmanager
def _opened(config: Path) -> Iterator[tuple[Settings, Store]]:
    settings = load_settings(config)
    with attach_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit) as store:
        yield settings, store


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=10_000, highlight=False)
