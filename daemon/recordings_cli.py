"""`vivarium recordings`: what is recorded, what of it is kept for a study, and what gives way."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daemon.caretaker import DiskSurvey, bytes_per_day, choose, freed_rows, give_up, survey
from daemon.disk_files import RecordingOnDisk, mark_pinned, recordings_on_disk, unmark
from daemon.installation import default_config
from daemon.settings import Settings, load_settings
from daemon.store.recordings import StoredRecording
from daemon.store.repository import RecordingState, Store, attach_store
from daemon.store.retention import GB, Limits, Pin, Sacrifice, Why, days_until_full, names_of
from drivers.clock import NS_PER_S, SystemClock
from drivers.closing import RecordingFiles
from drivers.errors import ConfigError, StoreError

recordings_app = typer.Typer(help="Raw recordings: list them, keep those of a study, make room.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The config file.")]
DayOption = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DAY")]
NameArgument = Annotated[str, typer.Argument(help="Name of the study.")]

_DEFAULT_CONFIG = default_config()
_MB = GB // 1000


@recordings_app.command(name="list")
def list_command(config: ConfigOption = _DEFAULT_CONFIG) -> None:
    """Print every recording, freed ones too, and the pins that keep some of them."""
    with _opened(config) as (settings, store):
        on_disk = {each.path: each for each in recordings_on_disk(settings.recordings_dir)}
        pins, rows = store.pins(), store.all_recordings()
    table = Table("block", "file", "frames", "MB", "state", "kept by", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row.block_key,
            escape(row.path.name),
            str(row.frames),
            f"{row.size_bytes / _MB:.1f}",
            _state(row),
            escape(", ".join(_kept_by(on_disk[row.path], pins)) if row.path in on_disk else ""),
        )
    for path in sorted(on_disk.keys() - {row.path for row in rows}):
        each = on_disk[path]
        kept = escape(", ".join(_kept_by(each, pins)))
        table.add_row(
            each.block_key, escape(path.name), "", f"{each.size_bytes / _MB:.1f}", "not in the database", kept
        )
    _console().print(table)
    for pin in pins:
        what = pin.block_key or f"{pin.first_day} to {pin.last_day}"
        _console().print(f"pin {escape(pin.name)}: {what}" + (f" ({escape(pin.reason)})" if pin.reason else ""))


@recordings_app.command()
def pin(
    name: NameArgument,
    block: Annotated[list[str] | None, typer.Option(help="Key of a block, as `list` prints it; repeatable.")] = None,
    first_day: DayOption = None,
    last_day: DayOption = None,
    reason: Annotated[str, typer.Option(help="Why they are kept.")] = "",
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Keep the recordings of blocks, or of local days, whatever the disk needs; also those still to come."""
    new = _pins(name, block or [], first_day, last_day, reason)
    with _opened(config) as (settings, store):
        store.add_pins(new)
        recordings = recordings_on_disk(settings.recordings_dir)
        try:
            mark_pinned(recordings, new)
        except OSError as error:
            raise StoreError(
                f"pinned in the database, but a mark cannot be written beside the recordings: {error}; "
                "the service writes it as soon as it can"
            ) from error
    kept = [each for each in recordings if names_of(new, each.day, each.block_key)]
    _console().print(f"{len(kept)} recordings are kept by {escape(name)}, {_sum(kept)}")
    for key in sorted({each.block_key for each in new if each.block_key} - {each.block_key for each in kept}):
        _console().print(f"there is no recording of {escape(key)} yet; `vivarium recordings list` prints the keys")


@recordings_app.command()
def unpin(name: NameArgument, config: ConfigOption = _DEFAULT_CONFIG) -> None:
    """Let go of what a pin keeps."""
    with _opened(config) as (settings, store):
        rows = store.remove_pins(name)
        try:
            marks = unmark(recordings_on_disk(settings.recordings_dir), name)
        except OSError as error:
            raise StoreError(f"a mark beside the recordings cannot be changed: {error}") from error
    if not (rows or marks):
        raise ConfigError(f"there is no pin {name!r}; `vivarium recordings list` prints them")
    _console().print(f"{escape(name)} keeps nothing any more: {marks} recordings may give way")


@recordings_app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would give way.")] = False,
    free_gb: Annotated[
        float | None, typer.Option(min=0, help="Make so much free space, in place of disk.min_free_gb.")
    ] = None,
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Give up now what the limits of [disk] ask for, in the order of docs/disk.md."""
    now_ns = SystemClock().utc_ns()
    with _opened(config) as (settings, store):
        found = _surveyed(settings, store, free_gb)
        why = Why.MIN_FREE if free_gb is None else Why.ASKED
        chosen = choose(settings, found, now_ns=now_ns, why=why)
        if not dry_run:
            chosen = [each for each in chosen if give_up(each)]
            store.free_recordings(freed_rows(chosen, now_ns))
        growth = bytes_per_day(settings, store, now_ns=now_ns)
    _print_plan(chosen, dry_run=dry_run)
    days = days_until_full(found.free_bytes, found.limits, growth)
    _console().print(
        f"{found.free_bytes / GB:.1f} GB were free, {found.limits.min_free_bytes / GB:.1f} GB are wanted"
        + ("" if days is None else f"; full in {days:.0f} days")
    )


def _surveyed(settings: Settings, store: Store, free_gb: float | None) -> DiskSurvey:
    try:
        found = survey(settings, store.pins())
    except OSError as error:
        raise StoreError(f"{settings.box.data_dir} cannot be looked at: {error}") from error
    if free_gb is None:
        return found
    limits = Limits(
        min_free_bytes=round(free_gb * GB), budget_bytes=found.limits.budget_bytes, keep_days=found.limits.keep_days
    )
    return DiskSurvey(
        free_bytes=found.free_bytes,
        total_bytes=found.total_bytes,
        limits=limits,
        recordings=found.recordings,
        pins=found.pins,
    )


def _print_plan(chosen: list[Sacrifice], *, dry_run: bool) -> None:
    table = Table("level", "file", "MB", "why", box=None, pad_edge=False)
    for each in chosen:
        candidate = each.candidate
        table.add_row(
            candidate.level.name.lower(), escape(candidate.path.name), f"{candidate.size_bytes / _MB:.1f}", each.why
        )
    if chosen:
        _console().print(table)
    size = sum(each.candidate.size_bytes for each in chosen) / _MB
    _console().print(f"{len(chosen)} files of {size:.1f} MB {'would give way' if dry_run else 'gave way'}")


def _pins(
    name: str, blocks: list[str], first_day: datetime | None, last_day: datetime | None, reason: str
) -> list[Pin]:
    now_ns = SystemClock().utc_ns()
    if not name.strip():
        raise ConfigError("a pin needs a name")
    if bool(blocks) == bool(first_day or last_day):
        raise ConfigError("expected either --block, or --first-day and --last-day")
    if blocks:
        return [Pin(name=name, reason=reason, created_utc_ns=now_ns, block_key=key) for key in dict.fromkeys(blocks)]
    first, last = first_day or last_day, last_day or first_day
    if first is None or last is None or first > last:
        raise ConfigError("--first-day must not be after --last-day")
    return [Pin(name=name, reason=reason, created_utc_ns=now_ns, first_day=first.date(), last_day=last.date())]


def _kept_by(each: RecordingOnDisk, pins: list[Pin]) -> list[str]:
    """Names of the pins; a mark that cannot be read keeps its recording, too."""
    marked = each.pins or frozenset()
    names = sorted(marked | names_of(pins, each.day, each.block_key))
    return names or ([] if each.pins is None else ["a mark that cannot be read"])


def _state(row: StoredRecording) -> str:
    if row.state is not RecordingState.FREED or row.freed_utc_ns is None:
        return row.state.value
    day = datetime.fromtimestamp(row.freed_utc_ns / NS_PER_S, UTC)
    sidecar = "" if RecordingFiles.of(row.path).sidecar.exists() else ", no sidecar"
    return f"freed {day:%Y-%m-%d} ({row.freed_reason}{sidecar})"


def _sum(recordings: list[RecordingOnDisk]) -> str:
    return f"{sum(each.size_bytes for each in recordings) / _MB:.1f} MB"


@contextmanager
def _opened(config: Path) -> Iterator[tuple[Settings, Store]]:
    settings = load_settings(config)
    with attach_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit) as store:
        yield settings, store


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=10_000, highlight=False)
