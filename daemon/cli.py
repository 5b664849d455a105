"""`vivarium`: the map of the product."""

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import numpy as np
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from threadpoolctl import threadpool_limits

from daemon.analyze import AnalysisError, AnalysisResult, AnalysisSettings, analysis_targets, analyze, counted
from daemon.app import VERSION, Outcome, run_service
from daemon.camera_cli import camera_app
from daemon.candidates import MOST_TOGETHER
from daemon.config_keys import describe_keys, example_toml
from daemon.correction_cli import add_corrections
from daemon.credentials import mqtt_password
from daemon.db_cli import db_app
from daemon.doctor import examine
from daemon.film_cli import film
from daemon.heap import keep_heap_small
from daemon.identity_cli import identity_app
from daemon.inspect import inspect_frame
from daemon.installation import default_config
from daemon.logs import configure_logging
from daemon.measures_cli import measures_app
from daemon.messaging.ask import give_command
from daemon.messaging.verbs import VERBS
from daemon.messaging.watch import watch
from daemon.model_cli import model_app
from daemon.moments import with_local_time
from daemon.more_commands import mount
from daemon.mqtt_cli import mqtt_app
from daemon.networks import open_networks
from daemon.recordings_cli import recordings_app
from daemon.rules_cli import acknowledge, maintenance_app, rules_app
from daemon.rules_trial_cli import judge
from daemon.sampling_error import sampling_error
from daemon.scene_cli import scene
from daemon.schedule import StratifiedDay, check_plan, describe_day
from daemon.scripted_run import run_script, with_animals
from daemon.seen_errors_cli import seen_errors
from daemon.service_cli import service_app
from daemon.settings import (
    NO_MODEL,
    SHIPPED_MODEL,
    LogSettings,
    ReadingSettings,
    Settings,
    VisionSettings,
    load_settings,
)
from daemon.simulate import DaySimulation
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError, MaterialError, VivariumError
from drivers.thermometry import EnvironmentOverrides

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="vivarium",
    help="Watches laboratory rats by their heat: a T2S+ camera, per-part temperatures, SQLite, MQTT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
schedule_app = typer.Typer(help="Which minutes of a day are sampled.", no_args_is_help=True)
app.add_typer(schedule_app, name="schedule")
app.add_typer(camera_app, name="camera")
app.add_typer(db_app, name="db")
add_corrections(identity_app)
app.add_typer(identity_app, name="identity")
app.add_typer(measures_app, name="measures")
app.add_typer(model_app, name="model")
app.add_typer(mqtt_app, name="mqtt")
app.add_typer(recordings_app, name="recordings")
app.add_typer(service_app, name="service")
app.add_typer(rules_app, name="rules")
rules_app.command()(judge)
app.add_typer(maintenance_app, name="maintenance")
app.command()(scene)
app.command()(acknowledge)
app.command()(film)
app.command()(seen_errors)
app.command(name="sampling-error")(sampling_error)
mount(app)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The config file.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Directory for the results; made if needed.")]
RangeOption = Annotated[
    tuple[float, float] | None,
    typer.Option("--range", metavar="LOW HIGH", help="False colour: °C of the coldest and the hottest colour."),
]
ReadingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--reading", metavar="X,Y,C", help="False colour: a temperature read off the picture; give two or more."
    ),
]

_DEFAULT_CONFIG = default_config()


_WRONG = 2
"""Exit code for what goes wrong on purpose."""

_PIPE_WIDTH = 10_000
"""Columns where nobody looks: what goes into a file or another program is not broken into lines."""


def main() -> None:
    """Run the command; what goes wrong on purpose is one line on standard error and exit code 2."""
    try:
        # Our matrices are small: more threads only wait for each other, at the cost of the capture thread.
        with threadpool_limits(limits=1, user_api="blas"):
            app(prog_name="vivarium")
    except VivariumError as error:
        _complain(error)
        sys.exit(_WRONG)


def _complain(error: VivariumError) -> None:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


@app.command()
def run(
    config: ConfigOption = _DEFAULT_CONFIG,
    heartbeat: Annotated[
        Path | None, typer.Option(help="File that is written every second, for the dead-man script.")
    ] = None,
    last_good: Annotated[
        Path | None,
        typer.Option(
            "--last-good",
            metavar="FILE",
            help="Keep a copy of the config here; start with it if the config is damaged.",
        ),
    ] = None,
) -> None:
    """Run the service until it is stopped (Ctrl-C or SIGTERM); SIGHUP reads the config again."""
    keep_heap_small()
    threads_before, code = set(threading.enumerate()), 0
    try:
        if run_service(config, os.environ, heartbeat_path=heartbeat, last_good=last_good) is Outcome.MATERIAL_OVER:
            logger.info("nothing more to replay")
    except VivariumError as error:
        _complain(error)
        code = _WRONG
    except Exception:  # the top of the service: it ends, with its reason in the journal
        logger.exception("the service has failed")
        code = 1
    if any(thread.daemon for thread in set(threading.enumerate()) - threads_before):
        _leave(code)
    raise typer.Exit(code)


def _leave(code: int) -> NoReturn:
    """End the process over the heads of threads that did not stop in time.

    The interpreter's own end would stop them inside C++, which cannot bear it and aborts the process.
    """
    try:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


@app.command()
def doctor(config: ConfigOption = _DEFAULT_CONFIG) -> None:
    """Say what is wrong with this box and how to repair it; exit code 1 if anything must be repaired."""
    findings = examine(config, os.environ)
    table = Table("", "what", "found", "what to do", box=None, pad_edge=False)
    marks = {True: "[green]ok[/]", False: "[bold red]wrong[/]", None: "[yellow]note[/]"}
    for finding in findings:
        table.add_row(marks[finding.good], finding.subject, escape(finding.found), escape(finding.remedy or ""))
    _console().print(table)
    if any(finding.good is False for finding in findings):
        raise typer.Exit(1)


@app.command(name="watch")
def watch_command(config: ConfigOption = _DEFAULT_CONFIG) -> None:
    """Print what the service publishes by MQTT, until Ctrl-C."""
    settings = load_settings(config)
    console = _console()
    password = mqtt_password(os.environ, config)
    try:
        for message in watch(settings.mqtt, password=password, box=settings.box.name):
            mark = "[dim](retained)[/] " if message.retained else ""
            console.print(f"[bold]{escape(message.topic)}[/] {mark}{escape(message.payload)}", soft_wrap=True)
    except KeyboardInterrupt:
        return


@app.command(name="command")
def command_command(
    verb: Annotated[str, typer.Argument(help=f"{', '.join(VERBS)}, or set/KEY; see docs/mqtt.md.")],
    values: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE", help="For instance duration_s=60, or value=39.5.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the last result.", min=0.1)] = 15.0,
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Give the running service a command by MQTT and print what becomes of it; exit code 1 when it is not done."""
    settings = load_settings(config)
    password = mqtt_password(os.environ, config)
    state = "refused"
    results = give_command(
        settings.mqtt,
        verb,
        password=password,
        box=settings.box.name,
        timeout_s=timeout_s,
        values=dict(map(_named_value, values or [])),
    )
    for result in results:
        state = result.state
        why = f": {escape(result.message)}" if result.message else ""
        _console().print(f"{escape(result.verb)} {state}{why}", soft_wrap=True)
        for name, value in result.data.items():
            _console().print(f"  {escape(with_local_time(name, value, settings.zone))}", soft_wrap=True)
    if state != "done":
        raise typer.Exit(1)


def _named_value(text: str) -> tuple[str, object]:
    """A name and its value: JSON where it is some, else the text itself."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A recording, raw transfer, degree array, table or picture.")],
    frame: Annotated[int, typer.Option(help="Which frame, from 0.")] = 0,
    celsius: Annotated[
        Path | None, typer.Option("--celsius", metavar="OUT.npy", help="Write the degrees: float32 (192, 256).")
    ] = None,
    emissivity: Annotated[float | None, typer.Option(help="In place of the camera's.", min=0.01, max=1)] = None,
    distance_m: Annotated[float | None, typer.Option(help="In place of the camera's.", min=0, max=20)] = None,
    range_celsius: RangeOption = None,
    reading: ReadingOption = None,
) -> None:
    """Print metadata and temperatures of one frame."""
    if celsius is not None and celsius.exists() and file.exists() and celsius.samefile(file):
        raise ConfigError(f"--celsius: {celsius} is the file that is read; choose another name for the degrees")
    report = inspect_frame(
        file,
        index=frame,
        overrides=EnvironmentOverrides(emissivity=emissivity, distance_m=distance_m),
        range_celsius=range_celsius,
        readings=_readings(reading),
    )
    table = Table("field", "value", box=None, pad_edge=False, show_header=False)
    for name, value in report.rows():
        table.add_row(f"[bold]{name}[/]", escape(value))
    _console().print(table)
    if celsius is not None:
        try:
            with celsius.open("wb") as file_out:
                np.save(file_out, report.frame.celsius)
        except OSError as error:
            raise ConfigError(f"--celsius: {celsius} cannot be written: {error.strerror}") from error
        _console().print(f"degrees written to {escape(str(celsius))}", soft_wrap=True)


@app.command(name="analyze")
def analyze_command(
    paths: Annotated[list[Path], typer.Argument(help="Recordings, transfers, tables, pictures, videos, folders.")],
    output: OutputOption,
    animals: Annotated[
        int | None,
        typer.Option(
            help="How many animals there are at most; else all that are found, one with --classical.", min=1, max=6
        ),
    ] = None,
    classical: Annotated[
        bool, typer.Option("--classical", help="Find animals by their warmth alone, without the networks.")
    ] = False,
    unet: Annotated[
        str, typer.Option(metavar="FILE", help="Network for parts; shipped, off or an ONNX file.")
    ] = SHIPPED_MODEL,
    panoptic: Annotated[
        str, typer.Option(metavar="FILE", help="Network that tells animals apart; shipped, off or an ONNX file.")
    ] = SHIPPED_MODEL,
    min_area_px: Annotated[
        int, typer.Option(help="Smaller warm areas are no animals, with --classical.", min=10)
    ] = 150,
    mm_per_px: Annotated[
        float | None, typer.Option(help="Size of a camera pixel (256 x 192) at the animals.", min=0.001)
    ] = None,
    range_celsius: RangeOption = None,
    reading: ReadingOption = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Of the box that recorded it: its animals, pixel size, zones, references."),
    ] = None,
) -> None:
    """Measure recorded material as the service would: tables, masks, overlay picture or video.

    parts.csv is what the service would store, minutes.csv its measures by minute (of recordings and videos). parts.npz
    holds the label maps parts and instances at the material's own size, and animals.csv describes them: area, centroid
    and temperatures of each part of each animal.
    """
    box = None if config is None else load_settings(config)
    if box is not None:
        animals, mm_per_px = animals or box.animal_count, mm_per_px or box.measure.mm_per_px
    settings = AnalysisSettings(
        animals=animals,
        min_area_px=min_area_px,
        mm_per_px=mm_per_px,
        range_celsius=range_celsius,
        readings=_readings(reading),
        zones=() if box is None else box.zones,
        reference=() if box is None else box.reference,
    )
    choice = _vision(NO_MODEL, NO_MODEL) if classical else _vision(unet, panoptic)
    networks = open_networks(choice, most=animals or MOST_TOGETHER)
    if networks.segmenter is None and not classical:
        Console(stderr=True).print(
            f"[yellow]note:[/] found by their warmth alone: {escape(networks.why_none or '')}", soft_wrap=True
        )
    failed = False
    for target in analysis_targets(paths, output):
        try:
            with _progress(transient=True) as progress:
                task = progress.add_task(escape(target.path.name), total=None)
                result = analyze(
                    target, settings, networks=networks.segmenter, on_progress=partial(_show, progress, task)
                )
        except (MaterialError, AnalysisError) as error:
            _complain(error)
            failed = True
            continue
        _console().print(
            f"{escape(str(target.path))}: {counted(result.frames, 'frame')}, {result.measured} measured, "
            f"{counted(result.rows, 'row')}{_of_minutes(result)} -> {escape(str(target.output))}",
            soft_wrap=True,
        )
        for note in result.notes:
            _console().print(f"  [yellow]note:[/] {escape(note)}", soft_wrap=True)
    if failed:
        raise typer.Exit(2)


def _of_minutes(result: AnalysisResult) -> str:
    if result.minute_rows is not None:
        return f", {counted(result.minute_rows, 'value')} of minutes"
    return ", no values of minutes since it has no times" if result.frames > 1 else ""


@app.command()
def simulate(
    output: OutputOption,
    days: Annotated[int, typer.Option(help="How many local days.", min=1)] = 1,
    first_day: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day; today when left out.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of animal, box and noise; the config's when left out.")] = None,
    outside_rate_hz: Annotated[float, typer.Option(help="Frames per second measured outside blocks.", min=0, max=1)] = 1
    / 60,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Config file; defaults when left out.")] = None,
    script: Annotated[
        str | None,
        typer.Option(help="fever, hypothermia, immobility, tail_injury, none or a JSON file: no pictures are made."),
    ] = None,
    animals: Annotated[int | None, typer.Option(min=1, max=6, help="How many; the config's when left out.")] = None,
    every_s: Annotated[int, typer.Option(min=1, max=30, help="With --script: seconds between observations.")] = 30,
    pictures_day: Annotated[
        int | None, typer.Option(min=1, help="With --script: this day is seen through pictures, and compared.")
    ] = None,
    pictures_hours: Annotated[
        int, typer.Option(min=1, max=24, help="With --pictures-day: only so many hours of it, from its midnight.")
    ] = 24,
    errors: Annotated[
        Path | None, typer.Option(help="With --script: errors to draw by, from vivarium seen-errors.")
    ] = None,
) -> None:
    """Run scheduled days with simulated clock and camera into DIR/vivarium.db and DIR/recordings/.

    With --script observations are drawn from the truth: DIR gets database, evidence, truth.json, week.csv, two plots.
    """
    configure_logging(LogSettings(level="warning"))
    settings = Settings() if config is None else load_settings(config)
    settings = with_animals(settings, seed=seed, animals=animals)
    day = first_day.date() if first_day else datetime.now(settings.zone).date()
    if script is not None:
        with _progress() as progress:
            task = progress.add_task("simulated seconds", total=days * 86_400)
            told = run_script(
                settings,
                script,
                first_day=day,
                days=days,
                every_s=every_s,
                pictures_day=pictures_day,
                pictures_hours=pictures_hours,
                errors=errors,
                output=output,
                version=VERSION,
                on_progress=lambda seconds: progress.update(task, completed=seconds),
            )
        for line in told:
            typer.echo(line)
        return
    if pictures_day is not None or errors is not None:
        raise ConfigError("--pictures-day and --errors belong to --script")
    settings = settings.model_copy(
        update={"measure": settings.measure.model_copy(update={"outside_rate_hz": outside_rate_hz})}
    )
    simulation = DaySimulation(settings, first_day=day, days=days, output=output, version=VERSION)
    with _progress() as progress:
        seconds = (simulation.stop_utc_ns - simulation.start_utc_ns) // NS_PER_S
        task = progress.add_task("simulated seconds", total=seconds)
        result = simulation.run(
            lambda utc_ns: progress.update(task, completed=(utc_ns - simulation.start_utc_ns) // NS_PER_S)
        )
    _console().print(
        f"{counted(result.blocks, 'block')}, {result.captured} of {result.expected} planned frames captured, "
        f"{result.recorded} recorded\n"
        f"database   {escape(str(result.database))}\nrecordings {escape(str(result.recordings))}",
        soft_wrap=True,
    )


def _show(progress: Progress, task: TaskID, done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)


@contextmanager
def _progress(*, transient: bool = False) -> Iterator[Progress]:
    """A bar on standard error; a transient one is for people only and vanishes at its end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns,
        console=console,
        transient=transient,
        disable=transient and not console.is_terminal,
        redirect_stdout=False,  # results go where the user wants them, even while the bar is on a terminal
    ) as progress:
        yield progress


@schedule_app.command(name="show")
def schedule_show(
    day: Annotated[datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="Today when left out.")] = None,
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Print the blocks of one day."""
    settings = load_settings(config)
    chosen: date = day.date() if day else datetime.now(settings.zone).date()
    plan = StratifiedDay.of(chosen, settings.schedule, settings.zone)
    table = Table("block", "local start", "local end", "ZT", "UTC start", "frames", box=None, pad_edge=False)
    for row in describe_day(plan):
        table.add_row(
            row.key.partition("/")[2],
            f"{row.start_local:%Y-%m-%d %H:%M %z}",
            f"{row.end_local:%H:%M %z}",
            row.zeitgeber,
            f"{row.start_local.astimezone(UTC):%H:%M:%S}",
            str(row.frames),
        )
    _console().print(f"{chosen} in {settings.zone.key}")
    _console().print(table)
    _console().print(f"{counted(len(plan), 'block')}, {counted(plan.frames, 'frame')}")


@app.command(name="config")
def config_command(
    config: ConfigOption = _DEFAULT_CONFIG,
    explain: Annotated[bool, typer.Option("--explain", help="Print every key with type, default and meaning.")] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a config file with every key.")] = False,
) -> None:
    """Check the config file and print what is in force."""
    if explain:
        for key in describe_keys():
            heading = key.key if not key.default else f"{key.key} = {key.default}"
            _console().print(f"[bold]{escape(heading)}[/]  [dim]{escape(key.kind)}[/]", soft_wrap=True)
            _console().print(f"    {escape(key.description)}", soft_wrap=True)
        return
    if example:
        typer.echo(example_toml(), nl=False)
        return
    settings = load_settings(config)
    check_plan(settings.schedule)
    typer.echo(settings.printed())


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(VERSION)


def _vision(unet: str, panoptic: str) -> VisionSettings:
    try:
        return VisionSettings(unet=unet, panoptic=panoptic)
    except ValidationError as error:
        raise ConfigError(f"--{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from error


def _readings(texts: list[str] | None) -> tuple[ReadingSettings, ...]:
    readings = []
    for text in texts or ():
        try:
            x, y, celsius = (float(part) for part in text.split(","))
            readings.append(ReadingSettings(x=x, y=y, celsius=celsius))
        except ValueError:
            raise ConfigError(f"--reading: expected X,Y,CELSIUS with points as decimal marks, got {text!r}") from None
    return tuple(readings)
