"""The database as a file: whether it is damaged, how it is set aside, how it is copied."""

import os
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from daemon.store.engine import BUSY_TIMEOUT_S, store_errors
from daemon.store.schema import metadata
from drivers.clock import NS_PER_S
from drivers.errors import StoreError
from drivers.sidecar import sync_directory

VERSION_TABLE = "alembic_version"

REVISION = re.compile(r"\d{4}")
"""How revisions of the schema are named."""

_COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; they must go where it goes."""

_DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)

_PRIMARY_CODE = 0xFF
"""The low byte of an extended result code says what kind of error it is."""

_DAMAGE_SENTENCES = ("unsupported file format", "same text encoding", "malformed")
"""Damage to the header that SQLite reports under the code of any other error."""


def utc_stamp(utc_ns: int) -> str:
    """A moment as part of a file name, for instance 20261122T094500Z."""
    return datetime.fromtimestamp(utc_ns / NS_PER_S, UTC).strftime("%Y%m%dT%H%M%SZ")


def why_damaged(path: Path, head: str) -> str | None:
    """Look through a database before it is used.

    All pages are read, which takes about a second for each gigabyte on an SSD. Changed bytes within a value are not
    seen: SQLite has no checksums.

    Parameters
    ----------
    path : Path
        The database; it need not exist.
    head : str
        Revision of the schema that this program works with.

    Returns
    -------
    str or None
        What is wrong with it; None when it can be used or does not exist.

    Raises
    ------
    StoreError
        If it cannot be looked at (permissions, locks, a failing disk), or is a sound database of something else.
    """
    if not path.exists():
        return None
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty"
    with store_errors(f"open {path}"), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        connection.isolation_level = None
        try:
            problems = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
            if problems != ["ok"]:
                return "; ".join(problems)
            problem = _why_unknown(connection, path, head)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("PRAGMA user_version = 0")  # writes the first page, which no other statement here does
            connection.execute("ROLLBACK")
            return problem
        except UnicodeDecodeError as error:  # from a message of SQLite that quotes what it found
            return f"not a database any more: {error}"
        except sqlite3.DatabaseError as error:
            if _speaks_of_damage(error, path):
                return str(error)
            raise


def _speaks_of_damage(error: sqlite3.DatabaseError, path: Path) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY_CODE
    if code == sqlite3.SQLITE_READONLY:  # a header that asks for a newer SQLite, unless we may not write indeed
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return code in _DAMAGE_CODES or any(sentence in str(error) for sentence in _DAMAGE_SENTENCES)


def _why_unknown(connection: sqlite3.Connection, path: Path, head: str) -> str | None:
    """What is wrong with the tables, as far as it can be damage."""
    tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if VERSION_TABLE not in tables:
        if tables.isdisjoint(metadata.tables) and tables:
            raise StoreError(
                f"{path} is a database of something else (tables {', '.join(sorted(tables))}): not touched"
            )
        return f"no table {VERSION_TABLE}" if tables else None
    revisions = [row[0] for row in connection.execute(f"SELECT version_num FROM {VERSION_TABLE}")]
    if len(revisions) != 1 or not isinstance(revisions[0], str) or not REVISION.fullmatch(revisions[0]):
        return f"the revision of its schema is not readable: {revisions}"
    if revisions != [head]:
        return None
    for table in metadata.sorted_tables:
        found = [row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table.name,))]
        if found != (expected := list(table.columns.keys())):
            return f"table {table.name}: expected the columns {expected}, found {found}"
    return None


def set_aside(path: Path, utc_ns: int) -> Path:
    """Rename a damaged database, with what belongs to it; the new name still opens as a whole.

    Raises
    ------
    StoreError
        If it cannot be renamed.
    """
    target = _free(path.with_name(f"{path.name}.damaged-{utc_stamp(utc_ns)}"))
    try:
        for companion in _COMPANIONS:
            beside = path.with_name(path.name + companion)
            if beside.exists():
                beside.rename(target.with_name(target.name + companion))
        path.rename(target)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"the damaged database {path} cannot be set aside: {error}") from error
    return target


def verified_copy(path: Path, *, label: str, utc_ns: int) -> Path:
    """Copy a database in use beside itself and check the copy.

    Parameters
    ----------
    path : Path
        The database.
    label : str
        Goes into the name of the copy, for instance `before-0002`.
    utc_ns : int
        Goes into the name, too.

    Raises
    ------
    StoreError
        If there is no room for it, or what was copied is not sound.
    """
    target = _free(path.with_name(f"{path.name}.{label}-{utc_stamp(utc_ns)}"))
    unfinished = target.with_name(f"{target.name}.part")
    unfinished.unlink(missing_ok=True)
    try:
        with (
            store_errors(f"copy {path} to {target}"),
            closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as source,
            closing(sqlite3.connect(unfinished)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            problems = [str(row[0]) for row in copy.execute("PRAGMA integrity_check(3)")]
        if problems != ["ok"]:
            raise StoreError(f"the copy of {path} is not sound, nothing was changed: {'; '.join(problems)}")
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.rename(target)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"cannot copy {path} to {target}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _free(path: Path) -> Path:
    """The path, or the next one that no file has."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.name}-{number}")
        number += 1
    return candidate
