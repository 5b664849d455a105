"""The database as a file: whether it is damaged, and how it is set aside."""

import logging
import os
import re
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from daemon.store.engine import BUSY_TIMEOUT_S, DAMAGE_CODES, PRIMARY_CODE, store_errors, suspicion
from daemon.store.schema import metadata
from drivers.clock import NS_PER_S
from drivers.durable import sync_directory
from drivers.errors import StoreError

logger = logging.getLogger(__name__)

VERSION_TABLE = "alembic_version"

REVISION = re.compile(r"\d{4}")
"""How revisions of the schema are named."""

CHECK_BUDGET_S = 3.0
"""The service is to measure again within 10 s of a crash."""

COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; they must go where it goes."""

_DAMAGE_SENTENCES = ("unsupported file format", "same text encoding", "malformed", "Could not decode")
"""Damage that is reported under the code of any other error."""

_HEADER = b"SQLite format 3\0"


def utc_stamp(utc_ns: int) -> str:
    """A moment as part of a file name, for instance 20261122T094500Z."""
    return datetime.fromtimestamp(utc_ns / NS_PER_S, UTC).strftime("%Y%m%dT%H%M%SZ")


_STEPS_BETWEEN_LOOKS = 1000
"""Instructions of SQLite's machine between two looks at the clock: well under a millisecond."""


def why_damaged(path: Path, head: str, *, budget_s: float = CHECK_BUDGET_S) -> str | None:
    """Look through a database before it is used.

    Pages are checked for as long as the budget lasts (measured: about 80 MB a second on a slow and busy machine). If
    the part that was not reached is damaged, the first statement that meets it leaves a mark (`suspicion`), and the
    next start looks at everything. Changed bytes within a value are not seen at all: SQLite has no checksums.

    Parameters
    ----------
    path : Path
        The database; it need not exist.
    head : str
        Revision of the schema that this program works with.
    budget_s : float
        How long the service may be kept from starting.

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
    if not path.is_file():
        raise StoreError(f"cannot open {path}: expected a file")
    with store_errors(f"open {path}"):
        try:
            if (problem := _why_no_database(path)) is not None:
                return problem
            # Read-only, so that the log of a damaged database stays as evidence instead of being worked into it.
            with closing(_connect(path, "ro")) as connection:
                problem = _why_unsound(connection, None if suspicion(path).exists() else budget_s)
                if problem is not None:
                    return problem
                if (problem := _why_unknown(connection, path, head)) is not None:
                    return problem
            with closing(_connect(path, "rw")) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("PRAGMA user_version = 0")  # writes the first page, which damage can forbid
                connection.execute("ROLLBACK")
            suspicion(path).unlink(missing_ok=True)
        except UnicodeDecodeError as error:  # from a message of SQLite that quotes what it found
            return f"not a database any more: {error}"
        except OSError as error:
            raise StoreError(f"cannot open {path}: {error}") from error
        except sqlite3.DatabaseError as error:
            if _speaks_of_damage(error, path):
                return str(error)
            raise
    return None


def _why_unsound(connection: sqlite3.Connection, budget_s: float | None) -> str | None:
    """What is wrong with the pages, as far as the budget reaches."""
    if budget_s is not None:
        until_s = time.monotonic() + budget_s
        connection.set_progress_handler(lambda: time.monotonic() > until_s, _STEPS_BETWEEN_LOOKS)
    try:
        problems = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        logger.info("the database is large: looked through for %s s, the rest is left to the doctor", budget_s)
        return None
    finally:
        connection.set_progress_handler(None, 0)
    return None if problems == ["ok"] else "; ".join(problems)


def _why_no_database(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(len(_HEADER))
    if not start:
        return "the file is empty"
    return None if start == _HEADER else f"expected the file to begin with {_HEADER!r}, got {start!r}"


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)


def _speaks_of_damage(error: sqlite3.DatabaseError, path: Path) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY_CODE
    if code == sqlite3.SQLITE_READONLY:  # a header that asks for a newer SQLite, unless we may not write indeed
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return code in DAMAGE_CODES or any(sentence in str(error) for sentence in _DAMAGE_SENTENCES)


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
    target = free_name(path.with_name(f"{path.name}.damaged-{utc_stamp(utc_ns)}"))
    try:
        for companion in COMPANIONS:
            beside = path.with_name(path.name + companion)
            if beside.exists():
                beside.rename(target.with_name(target.name + companion))
        path.rename(target)
        suspicion(path).unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"the damaged database {path} cannot be set aside: {error}") from error
    return target


def free_name(path: Path) -> Path:
    """The path, or the next one that no file has."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.name}-{number}")
        number += 1
    return candidate
