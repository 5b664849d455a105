"""The schema's revisions: an older database is copied, then brought up to date in one transaction."""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection

from daemon.store.engine import is_sqlite, migration_engine, sqlite_path, store_errors
from daemon.store.sqlite_file import verified_copy
from drivers.errors import StoreError

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def head_revision(location: Path = MIGRATIONS) -> str:
    """The revision that this program works with."""
    head = ScriptDirectory.from_config(_config(location)).get_current_head()
    if head is None:
        raise StoreError(f"no revisions of the schema in {location}: the installation is incomplete")
    return head


def upgrade(url: URL, *, utc_ns: int, location: Path = MIGRATIONS) -> Path | None:
    """Bring a database to the newest revision; a database without tables gets them.

    Parameters
    ----------
    url : URL
        Of the database.
    utc_ns : int
        Now, for the name of the copy.
    location : Path
        Directory of the revisions.

    Returns
    -------
    Path or None
        The copy that was made of an older database beforehand (SQLite only; a server has its own backups).

    Raises
    ------
    StoreError
        If it belongs to a newer program, cannot be copied, or the upgrade fails; it is then as it was.
    """
    head, engine = head_revision(location), migration_engine(url)
    copy = None
    with store_errors(f"bring the database {url.render_as_string()} up to date"):
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        if current == head:
            return None
        path = sqlite_path(url)
        if current is not None:
            _refuse_unknown(url, current, head, location)
            if path is not None:
                copy = verified_copy(path, label=f"before-{head}", utc_ns=utc_ns)
                logger.info("database %s has revision %s, %s is needed; copy in %s", path, current, head, copy)
        with engine.begin() as connection:
            config = _config(location)
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise StoreError(f"the schema cannot be brought to revision {head}: {error}") from error
            _check_references(connection, url)
    return copy


def require_newest(url: URL) -> None:
    """Refuse a database that this program would have to upgrade, or is too old for.

    Raises
    ------
    StoreError
        If its revision is another than ours.
    """
    engine = migration_engine(url)
    with store_errors(f"open the database {url.render_as_string()}"), engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current != (head := head_revision()):
        raise StoreError(
            f"the database {url.render_as_string()} has revision {current}, this program works with {head}: "
            "start the service once, it brings the database up to date"
        )


def _config(location: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    return config


def _refuse_unknown(url: URL, current: str, head: str, location: Path) -> None:
    try:
        ScriptDirectory.from_config(_config(location)).get_revision(current)
    except CommandError as error:
        raise StoreError(
            f"the database {url.render_as_string()} has revision {current}, this program knows revisions up to {head}: "
            "install the newer version again, or give another database"
        ) from error


def _check_references(connection: Connection, url: URL) -> None:
    if is_sqlite(url):
        dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if dangling:
            raise StoreError(f"the upgrade would leave {len(dangling)} rows that refer to nothing, nothing was changed")
