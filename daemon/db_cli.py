"""`vivarium db`: the database from the terminal, and for the package's own scripts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import URL

from daemon.installation import default_config
from daemon.lock import DataDirectoryLock
from daemon.settings import load_settings
from daemon.store.backup import (
    checksum_file,
    copies,
    copy_name,
    prune,
    read_contents,
    stored_bytes,
    verified_copy,
    verify,
)
from daemon.store.engine import checked_url, sqlite_path
from daemon.store.repository import attach_store
from daemon.store.server import look_at
from daemon.store.sqlite_file import why_damaged
from daemon.store.upgrade import current_revision, head_revision, upgrade
from drivers.clock import SystemClock
from drivers.errors import StoreError

db_app = typer.Typer(help="The database: look at it, copy it, check a copy, bring it up to date.", no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The config file that names the database.")]
LabelOption = Annotated[str, typer.Option("--label", help="Stands in the name of the copy.")]
KeepOption = Annotated[
    int | None,
    typer.Option("--keep", min=1, help="Remove older copies with a label of this kind (its part before the first -)."),
]

_DEFAULT_CONFIG = default_config()
_WIDTH = 10_000
"""What goes into a file or another program is not broken into lines."""


@db_app.command()
def info(config: ConfigOption = _DEFAULT_CONFIG) -> None:
    """Print where the database is, its size, its revision, its rows and the copies beside it."""
    url = _url(config)
    path = sqlite_path(url)
    table = Table("field", "value", box=None, pad_edge=False, show_header=False)
    head = head_revision()
    if path is None:
        server, revision = look_at(url, count_rows=True), current_revision(url)
        table.add_row("database", escape(url.render_as_string()))
        table.add_row("server", f"PostgreSQL {escape(server.version)}")
        table.add_row("size", f"{server.size_bytes:,} bytes")
        table.add_row("revision", _revision(revision, head))
        _add_rows(table, server.rows)
    elif not path.exists():
        table.add_row("database", f"{escape(str(path))}: not made yet, the service makes it")
    else:
        found = read_contents(path)
        table.add_row("database", escape(str(path)))
        table.add_row("size", f"{stored_bytes(path):,} bytes")
        table.add_row("revision", _revision(found.revision, head))
        _add_rows(table, found.rows)
        for copy in copies(path):
            table.add_row("copy", escape(f"{copy}, {copy.stat().st_size:,} bytes"))
    _print(table)


@db_app.command()
def backup(
    config: ConfigOption = _DEFAULT_CONFIG,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The copy's file; beside the database when left out.")
    ] = None,
    label: LabelOption = "backup",
    keep: KeepOption = None,
) -> None:
    """Copy the database and check the copy, also while the service runs; its SHA-256 is left beside it."""
    path = _file(_url(config))
    copy = verified_copy(path, output or copy_name(path, label, SystemClock().utc_ns()))
    _say_copied(copy)
    if keep is not None:
        _prune(path, label, keep)


@db_app.command(name="verify")
def verify_command(
    copy: Annotated[
        Path | None,
        typer.Argument(
            help="A copy that `vivarium db backup` or an upgrade has made; the database itself when left out."
        ),
    ] = None,
    config: ConfigOption = _DEFAULT_CONFIG,
) -> None:
    """Check a copy, or the database itself while the service runs: pages and indexes, references, a copy's checksum.

    Exit code 1 if anything is wrong with it.
    """
    if copy is None:
        _verify_database(config)
        return
    verdict = verify(copy)
    table = Table("field", "value", box=None, pad_edge=False, show_header=False)
    table.add_row("copy", escape(str(copy)))
    where = "as recorded beside it" if verdict.recorded else f"no {checksum_file(copy).name} beside it to compare with"
    table.add_row("SHA-256", verdict.sha256 if verdict.problems else f"{verdict.sha256}, {escape(where)}")
    if verdict.contents is not None:
        table.add_row("revision", verdict.contents.revision or "none")
        _add_rows(table, verdict.contents.rows)
    for problem in verdict.problems:
        table.add_row("[bold red]wrong[/]", escape(problem))
    _print(table)
    if verdict.problems:
        raise typer.Exit(1)
    _console().print("the copy is good")


def _verify_database(config: Path) -> None:
    settings = load_settings(config)
    path = _file(checked_url(settings.database_url), "check", "pg_amcheck")
    with attach_store(settings.database_url, outbox_limit=settings.mqtt.outbox_limit) as store:
        problems = store.integrity()
    for problem in problems:
        _console().print(f"[bold red]wrong[/] {escape(problem)}")
    if problems:
        raise typer.Exit(1)
    _console().print(f"{escape(str(path))}: the database is good")


@db_app.command()
def migrate(config: ConfigOption = _DEFAULT_CONFIG, label: LabelOption = "before-migration", keep: int = 3) -> None:
    """Bring the database up to date after a verified copy; the service must be stopped (it does the same at its start).

    A copy is made in any case where there is room. Without one an older database is not touched; one that is up to
    date needs none. If anything fails the database stays as it was, and exit code 2 says so.
    """
    settings = load_settings(config)
    url = checked_url(settings.database_url)
    path, utc_ns = sqlite_path(url), SystemClock().utc_ns()
    if path is not None and not path.exists():
        _say(f"no database yet in {path}: the service makes it")
        return
    with DataDirectoryLock(settings.box.data_dir):
        if path is not None and (damage := why_damaged(path, head_revision())) is not None:
            _say(
                f"database {path} is damaged ({damage}): the service sets it aside when it starts and begins a new one"
            )
            return
        before, head = current_revision(url), head_revision()
        if before != head:
            copy = upgrade(url, utc_ns=utc_ns, label=label)
            if copy is not None:
                _say_copied(copy)
            _say(f"the database was brought from revision {before or 'none'} to {head}")
        else:
            if path is not None:
                _copy_if_possible(path, label, utc_ns)
            _say(f"the database has revision {head}: up to date")
    if path is not None:
        _prune(path, label, keep)


def _copy_if_possible(path: Path, label: str, utc_ns: int) -> None:
    try:
        _say_copied(verified_copy(path, copy_name(path, label, utc_ns)))
    except StoreError as error:
        _say(f"no copy was made, and none is needed: {error}")


def _prune(path: Path, label: str, keep: int) -> None:
    for removed in prune(path, label=label.partition("-")[0], keep=keep):
        _say(f"older copy {removed} removed")


def _url(config: Path) -> URL:
    return checked_url(load_settings(config).database_url)


def _file(url: URL, verb: str = "copy", tool: str = "pg_dump") -> Path:
    path = sqlite_path(url)
    if path is None:
        raise StoreError(f"{url.render_as_string()} is on a server: {verb} it with the server's own tools ({tool})")
    if not path.exists():
        raise StoreError(f"there is no database in {path} yet")
    return path


def _revision(found: str | None, head: str) -> str:
    if found == head:
        return f"{found}, up to date"
    return f"{found or 'none'}; this program works with {head}: `vivarium db migrate`, or start the service"


def _add_rows(table: Table, counted: Mapping[str, int]) -> None:
    for name, rows in sorted(counted.items()):
        table.add_row(f"rows of {escape(name)}", f"{rows:,}")


def _say_copied(copy: Path) -> None:
    _say(f"copy of the database, checked: {copy}")
    _say(f"SHA-256 {checksum_file(copy).read_text(encoding='ascii').split()[0]}")


def _say(line: str) -> None:
    _console().print(escape(line), soft_wrap=True)


def _print(table: Table) -> None:
    _console().print(table)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)
