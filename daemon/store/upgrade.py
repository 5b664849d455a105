"""The schema's revisions: an older database is copied, then brought up to date in one transaction.

If that fails the database is as it was: the transaction sees to it, and where a revision has committed half-way, the
copy is put back. A copy that is still what the database is, is then removed, so that a service that tries again and
again does not fill the disk with copies.
"""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection

from daemon.store.backup import check_room, copy_name, differs, discard, put_back, stored_bytes, verified_copy
from daemon.store.engine import is_sqlite, keep_writers_out, migration_engine, sqlite_path, store_errors
from daemon.store.server import check_encoding
from drivers.errors import StoreError

logger = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def head_revision(location: Path = MIGRATIONS) -> str:
    """The revision that this program works with."""
    head = ScriptDirectory.from_config(_config(location)).get_current_head()
    if head is None:
        raise StoreError(f"no revisions of the schema in {location}: the installation is incomplete")
    return head


def current_revision(url: URL) -> str | None:
    """The revision that a database has; None for one without tables.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    with store_errors(f"read the revision of {url.render_as_string()}"):
        return _revision_of(url)


def _revision_of(url: URL) -> str | None:
    with migration_engine(url).connect() as connection:
        check_encoding(connection)
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(url: URL, *, utc_ns: int, label: str | None = None, location: Path = MIGRATIONS) -> Path | None:
    """Bring a database to the newest revision; a database without tables gets them.

    Parameters
    ----------
    url : URL
        Of the database.
    utc_ns : int
        Now, for the name of the copy.
    label : str, optional
        For the name of the copy, too; before-REVISION when left out.
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
    head, current = head_revision(location), current_revision(url)
    if current == head:
        return None
    path, copy = sqlite_path(url), None
    if current is not None:
        _refuse_unknown(url, current, head, location)
        if path is not None:
            # The copy, and a transaction that may write every page anew.
            check_room(path.parent, 2 * stored_bytes(path), f"bring the database {path} up to date")
            copy = verified_copy(path, copy_name(path, label or f"before-{head}", utc_ns))
            logger.info("database %s has revision %s, %s is needed; copy in %s", path, current, head, copy)
    try:
        _apply(url, head, location)
    except BaseException:
        if path is not None and copy is not None:
            _undo(path, copy)
        raise
    return copy


def _apply(url: URL, head: str, location: Path) -> None:
    """Apply all revisions in one transaction."""
    purpose = f"bring the database {url.render_as_string()} up to date"
    with store_errors(purpose), migration_engine(url).begin() as connection:
        keep_writers_out(connection)
        config = _config(location)
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(f"the schema cannot be brought to revision {head}: {error}") from error
        _check_soundness(connection, url)


def _undo(path: Path, copy: Path) -> None:
    if differs(path, copy):
        put_back(path, copy)
        logger.error("the upgrade of the database %s had gone half-way: the copy was put back", path)
    else:
        discard(copy)


def require_newest(url: URL) -> None:
    """Refuse a database that this program would have to upgrade, or is too old for.

    Raises
    ------
    StoreError
        If its revision is another than ours.
    """
    with store_errors(f"open the database {url.render_as_string()}"):
        current = _revision_of(url)
    if current != (head := head_revision()):
        raise StoreError(
            f"the database {url.render_as_string()} has revision {current}, this program works with {head}: "
            "start the service once, it brings the database up to date"
        )


def _config(location: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    return config


def is_known(revision: str, location: Path = MIGRATIONS) -> bool:
    """Whether this program knows a revision, and can bring it to the newest."""
    try:
        ScriptDirectory.from_config(_config(location)).get_revision(revision)
    except CommandError:
        return False
    return True


def _refuse_unknown(url: URL, current: str, head: str, location: Path) -> None:
    if not is_known(current, location):
        raise StoreError(
            f"the database {url.render_as_string()} has revision {current}, this program knows revisions up to {head}: "
            "install the newer version again, or give another database"
        )


def _check_soundness(connection: Connection, url: URL) -> None:
    if not is_sqlite(url):
        return
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if dangling:
        raise StoreError(f"the upgrade would leave {len(dangling)} rows that refer to nothing, nothing was changed")
    found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA quick_check(3)")]
    if found != ["ok"]:
        raise StoreError(
            f"the upgrade would leave a database that is not sound ({'; '.join(found)}), nothing was changed"
        )
