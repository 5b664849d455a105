"""Copies of the database that are known to be good: made beside a running service, checked, counted, put back.

A copy is taken in one read transaction, and is kept only if SQLite finds it sound, it has the same tables with the same
number of rows as the original had in that transaction, and it is on the disk. Its SHA-256 lies beside it in the format
of `sha256sum`, so that a copy that has travelled or aged can be checked without this program.
"""

import hashlib
import logging
import os
import re
import shutil
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from daemon.store.engine import BUSY_TIMEOUT_S, store_errors
from daemon.store.sqlite_file import COMPANIONS, VERSION_TABLE, free_name, utc_stamp
from drivers.durable import create_anew, sync_directory
from drivers.errors import StoreError

logger = logging.getLogger(__name__)

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]*")
"""What may stand in the name of a copy; versions of packages do."""

_SPARE_BYTES = 16 * 1024**2
"""Left free beside a copy: for what the service writes meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is in a database, as far as it can be told quickly."""

    revision: str | None
    """Of its schema; None when the database does not say."""
    schema: frozenset[tuple[str, str]]
    """Names and definitions of all tables and indexes."""
    rows: Mapping[str, int]
    """Number of rows of each table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found when a copy was checked."""

    contents: Contents | None
    """None when it cannot be read."""
    problems: tuple[str, ...]
    """What is wrong with it; empty when it is good."""
    sha256: str
    """Of the file as it is."""
    recorded: bool
    """Whether a checksum lies beside it; without one nobody can tell whether it is still what was copied."""


def contents(connection: sqlite3.Connection) -> Contents:
    """Look through all tables; call it in a transaction if others write."""
    schema = {
        str(name): str(sql)
        for name, sql in connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        )
    }
    tables = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = {table: int(connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]) for table in tables}
    revision = None
    if VERSION_TABLE in tables:
        found = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
        revision = None if found is None else str(found[0])
    return Contents(revision=revision, schema=frozenset(schema.items()), rows=rows)


def read_contents(path: Path) -> Contents:
    """What is in a database; `StoreError` if it cannot be read."""
    with store_errors(f"read {path}"), closing(_reader(path)) as connection:
        connection.execute("BEGIN")
        return contents(connection)


def stored_bytes(path: Path) -> int:
    """Size of a database with what belongs to it."""
    files = (path, *(path.with_name(path.name + companion) for companion in COMPANIONS))
    return sum(file.stat().st_size for file in files if file.exists())


def check_room(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raise `StoreError` unless a disk has room for something, before it is begun."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise StoreError(f"cannot {purpose}: {folder}: {error.strerror}") from error
    if free < needed_bytes + _SPARE_BYTES:
        raise StoreError(
            f"cannot {purpose}: {_megabytes(needed_bytes + _SPARE_BYTES)} must be free in {folder}, "
            f"{_megabytes(free)} are; nothing was changed"
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def copy_name(path: Path, label: str, utc_ns: int) -> Path:
    """Where a copy of a database goes: beside it, with a label and the time in its name."""
    _check_label(label)
    return free_name(path.with_name(f"{path.name}.{label}-{utc_stamp(utc_ns)}"))


def _check_label(label: str) -> None:
    if LABEL.fullmatch(label) is None:
        raise StoreError(f"a copy cannot be called {label!r}: letters, digits and . + ~ _ - only")


def checksum_file(copy: Path) -> Path:
    """The file beside a copy that holds its SHA-256."""
    return copy.with_name(f"{copy.name}.sha256")


def verified_copy(path: Path, target: Path) -> Path:
    """Copy a database that may be in use, check the copy, and leave its checksum beside it.

    Parameters
    ----------
    path : Path
        The database.
    target : Path
        The copy; no such file may exist. It appears under this name only once it is known to be good.

    Raises
    ------
    StoreError
        If there is no room for it, what was copied is not sound, or not what was to be copied.
    """
    purpose = f"copy {path} to {target}"
    if target.exists():
        raise StoreError(f"cannot {purpose}: the file exists")
    unfinished = target.with_name(f"{target.name}.part")
    try:
        check_room(target.parent, stored_bytes(path), purpose)
        with os.fdopen(create_anew(unfinished, 0o600), "wb") as made:
            _copy(path, unfinished, purpose)
            if not os.path.samestat(os.fstat(made.fileno()), unfinished.lstat()):
                raise StoreError(f"cannot {purpose}: something else took the place of {unfinished} meanwhile")
            _same_owner(path, made.fileno())
            os.fsync(made.fileno())
        _write_checksum(unfinished, target)
        unfinished.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        raise StoreError(f"cannot {purpose}: {error}") from error
    finally:
        with suppress(OSError):  # a disk that is read-only refuses to remove what is not there
            unfinished.unlink(missing_ok=True)
            if not target.exists():
                checksum_file(target).unlink(missing_ok=True)
    return target


def _copy(path: Path, unfinished: Path, purpose: str) -> None:
    """Fill the copy and compare it with what was to be copied."""
    with (
        store_errors(purpose),
        closing(_reader(path)) as source,
        closing(sqlite3.connect(unfinished, isolation_level=None)) as copy,
    ):
        source.execute("BEGIN")  # what is counted and what is copied are one state, whoever writes meanwhile
        expected = contents(source)
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        problems = _problems(copy)
        found = None if problems else contents(copy)
    if problems:
        raise StoreError(f"the copy of {path} is not sound, nothing was changed: {'; '.join(problems)}")
    if found != expected:
        raise StoreError(f"the copy of {path} has not what the database has, nothing was changed")


def verify(copy: Path) -> Verdict:
    """Check a copy: its checksum, its pages and indexes, its references.

    Raises
    ------
    StoreError
        If the file cannot be read.
    """
    try:
        sha256 = _sha256(copy)
        beside = checksum_file(copy)
        recorded = beside.read_text(encoding="ascii").split()[:1] if beside.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"cannot verify {copy}: {error}") from error
    problems: list[str] = []
    if recorded is not None and recorded != [sha256]:
        problems.append(f"it is not the file that was copied: expected SHA-256 {''.join(recorded)}, got {sha256}")
    found = None
    try:
        with closing(_reader(copy, mode="ro")) as connection:
            problems += _problems(connection)
            problems += [
                f"table {table}: row {row} refers to a row of {parent} that is not there"
                for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check")
            ]
            found = contents(connection)
            if found.revision is None:
                problems.append("it is no database of Strong Vivarium: the revision of its schema is not there")
    except sqlite3.Error as error:
        problems.append(str(error))
    return Verdict(contents=found, problems=tuple(problems), sha256=sha256, recorded=recorded is not None)


def copies(path: Path, label: str = "") -> list[Path]:
    """The copies beside a database, oldest first: those labelled so, also with a - and more after it, or all."""
    kind = rf"{re.escape(label)}(?:-[A-Za-z0-9.+~_-]*)?" if label else "[A-Za-z0-9.+~_-]*"
    name = re.compile(rf"{re.escape(path.name)}\.{kind}-(\d{{8}}T\d{{6}}Z)(-\d+)?")
    found = [(match[1], entry) for entry in path.parent.iterdir() if (match := name.fullmatch(entry.name))]
    return [entry for _, entry in sorted(found) if ".damaged-" not in entry.name]


def prune(path: Path, *, label: str, keep: int) -> list[Path]:
    """Remove all but the newest of the `copies` with a label: those that were removed."""
    _check_label(label)  # without one, copies of all kinds would go
    removed = copies(path, label)[:-keep] if keep else []
    for copy in removed:
        discard(copy)
        logger.info("copy %s of the database is older than %d others: removed", copy, keep)
    return removed


def discard(copy: Path) -> None:
    """Remove a copy with its checksum; one that cannot be removed stays and is told of."""
    try:
        copy.unlink(missing_ok=True)
        checksum_file(copy).unlink(missing_ok=True)
    except OSError as error:
        logger.warning("the copy %s cannot be removed: %s", copy, error)


def differs(path: Path, copy: Path) -> bool:
    """Whether a database is no longer what was copied from it; also when it cannot be read any more."""
    try:
        return read_contents(path) != read_contents(copy)
    except StoreError:
        return True


def put_back(path: Path, copy: Path) -> None:
    """Put a copy in the place of its database, which nobody may have open.

    Raises
    ------
    StoreError
        If it cannot be; the copy is then still there.
    """
    try:
        for companion in COMPANIONS:
            path.with_name(path.name + companion).unlink(missing_ok=True)
        copy.replace(path)
        checksum_file(copy).unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"{copy} cannot be put back as {path}: {error}; do it by hand") from error


def _reader(path: Path, *, mode: str = "rw") -> sqlite3.Connection:
    """A connection that changes nothing; one that could is the only one that tidies SQLite's own files up behind it."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _problems(connection: sqlite3.Connection) -> list[str]:
    found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    return [] if found == ["ok"] else found


def _same_owner(path: Path, descriptor: int) -> None:
    """Whoever may read the database may read the copy, also when root has made it."""
    status = path.stat()
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    with suppress(PermissionError):  # only root gives files away
        os.fchown(descriptor, status.st_uid, status.st_gid)


def _write_checksum(unfinished: Path, target: Path) -> None:
    with os.fdopen(create_anew(checksum_file(target), 0o600), "w", encoding="ascii") as file:
        file.write(f"{_sha256(unfinished)}  {target.name}\n")
        file.flush()
        _same_owner(unfinished, file.fileno())
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
