"""The way to the database: one connection that writes, others that read, and errors of one family.

Every commit to SQLite waits for the disk (`synchronous=FULL`). Measured in power cuts of a virtual machine: with the
usual WAL setting NORMAL every row since the last checkpoint was gone (482 of 482), with FULL none of 1,132. What makes
it affordable is the group commit: rows of `database.commit_interval_s` (0.2 s) share one, which costs about 4 ms.

The write-ahead log is bounded: it is copied into the database each `WAL_PAGES` pages and cut back to `WAL_LIMIT_BYTES`
afterwards. Readers hold no transaction longer than one query, so that the copying is never kept from its end.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from drivers.errors import ConfigError, StoreError, StoreRejectedError

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 2.0
"""How long another program may hold the database before a write gives up: the caller repeats it, and a stop of the
service has 5 s. Programs that only read hold nothing.
"""

WAL_PAGES = 1000
"""Pages of 4 KiB in the write-ahead log after which they are copied into the database; SQLite's own default."""

WAL_LIMIT_BYTES = 16 * 1024**2
"""Size to which the write-ahead log is cut back after something large has passed through it."""

CACHE_KIB = 512
"""Pages that each connection keeps. SQLite's own 2 MB fill over an hour, on each of seven connections, and look
like a leak; all that is read again and again fits into this."""

READERS = 6
"""So many may read at the same moment, two more than the page has threads, and others wait for them. A connection to
SQLite that was opened stays, with two files: how many there are shall not depend on who looked at the page when."""

PRIMARY_CODE = 0xFF
"""The low byte of an extended result code of SQLite says what kind of error it is."""

DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)

_SERVER_DRIVERS = ("postgresql", "postgresql+psycopg")

_SERVER_OPTIONS: dict[str, str | int] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # milliseconds
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "client_encoding": "UTF8",  # otherwise a server set up for SQL_ASCII sends bytes where text is expected
}
"""A server that does not answer is given up in seconds, also while an answer is waited for: the caller repeats it."""

_WRITERS = int.from_bytes(b"vivarium")
"""Number of the lock that every writer of a database on a server holds while it writes."""

_BEGIN_WRITING = (
    f"SELECT set_config('lock_timeout', '{round(BUSY_TIMEOUT_S * 1000)}', true), pg_advisory_xact_lock({_WRITERS})"
)
"""What BEGIN IMMEDIATE does in SQLite: one writer after the other, the service and the commands beside it. Numbers of
events, frames and messages are in the order of their commits, and a correction misses no frame, only because of that.
"""

_REFUSED = (IntegrityError, DataError, InterfaceError, ProgrammingError)
"""Errors that speak of the rows or the statement, not of the state of the database."""

_LOCKED = "55P03"
"""What PostgreSQL calls it (its SQLSTATE) when a lock is not given in time."""

_NOT_ALLOWED_OR_GONE = ("42501", "42P01", "3F000")
"""PostgreSQL's names for what it counts as a wrong statement, though only the server can mend it: no permission, no
such table, no such schema."""


def checked_url(text: str) -> URL:
    """The database's URL.

    Raises
    ------
    ConfigError
        If it is none, is of a kind of database that this program does not know, or names a database in memory, which
        nothing would be left of.
    """
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ConfigError(f"database.url: expected for instance sqlite:////srv/vivarium.db, got {text!r}") from error
    if not is_sqlite(url) and url.drivername not in _SERVER_DRIVERS:
        raise ConfigError(
            "database.url: expected sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE, "
            f"got one that begins with {url.drivername}://"
        )
    if any("password" in name for name in url.query):  # it would be printed, and stored with each run
        raise ConfigError("database.url: expected the password as in postgresql+psycopg://USER:PASSWORD@HOST/DATABASE")
    if is_sqlite(url) and (not url.database or url.database == ":memory:" or url.database.startswith("file:")):
        raise ConfigError(f"database.url: expected sqlite:/// and the path of a file, got {text!r}")
    return url


def is_sqlite(url: URL) -> bool:
    """Whether the database is a file of ours."""
    return url.get_backend_name() == "sqlite"


def sqlite_path(url: URL) -> Path | None:
    """The database's file; None when it is on a server."""
    return Path(url.database) if is_sqlite(url) and url.database else None


def suspicion(path: Path) -> Path:
    """The file whose being there says that the database must be looked through as a whole before it is used again."""
    return path.with_name(f"{path.name}.suspect")


def _suspect(path: Path) -> None:
    mark = suspicion(path)
    if not mark.exists():
        logger.error("database %s is damaged: it will be looked through at the next start", path)
        try:
            mark.touch()
        except OSError as error:
            logger.warning("cannot leave the mark %s: %s", mark, error)


@contextmanager
def store_errors(action: str) -> Iterator[None]:
    """Turn what the database says into `StoreError`; `action` completes the sentence "cannot ..."."""
    try:
        yield
    except SQLAlchemyError as error:
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        state = getattr(getattr(error, "orig", None), "sqlstate", None)
        refused = isinstance(error, _REFUSED) and not lost and state not in _NOT_ALLOWED_OR_GONE
        said = (
            "the database is locked by another program" if state == _LOCKED else getattr(error, "orig", None) or error
        )
        line = " ".join(str(said).split())  # a server tells in several
        raise (StoreRejectedError if refused else StoreError)(f"cannot {action}: {line}") from error
    except sqlite3.Error as error:
        raise StoreError(f"cannot {action}: {error}") from error


class Database:
    """Connections to one database. All methods may be called from any thread."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._writer = _engine(url, begin="BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
        self._readers = _engine(
            url, begin="BEGIN", read_only=True, pool_size=READERS, max_overflow=0, pool_use_lifo=True
        )

    @contextmanager
    def writing(self, action: str) -> Iterator[Connection]:
        """One transaction of the only writer, durable when the block is left; after an error nothing of it is there.

        Raises
        ------
        StoreRejectedError
            If what was to be written breaks a rule of the schema.
        StoreError
            If the database cannot be written: disk full, input/output error, locked by another program.
        """
        with self._lock, store_errors(action), _transaction(self._writer) as connection:
            keep_writers_out(connection)
            yield connection

    @contextmanager
    def reading(self, action: str) -> Iterator[Connection]:
        """One snapshot; fetch all rows before leaving the block.

        Raises
        ------
        StoreError
            If the database cannot be read.
        """
        with store_errors(action), _transaction(self._readers) as connection:
            yield connection

    def open_readers(self) -> None:
        """Open all that will ever read from a file, with what each keeps of it; where that fails, they wait for use."""
        if not is_sqlite(self.url):
            return
        try:
            with store_errors("open its connections"), ExitStack() as opened:
                for _ in range(READERS):
                    connection = opened.enter_context(self._readers.connect())
                    connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema")  # whoever asks reads the schema
        except StoreError as error:
            logger.warning("%s; they are opened one by one", error)

    def close(self) -> None:
        """Close all connections; the last one to go puts the write-ahead log into the database."""
        with self._lock:
            self._readers.dispose()
            self._writer.dispose()


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction, on a connection that is given up after an error of the disk.

    A disk that went and came back leaves open files broken for good. A disk that is merely full does not, and there
    the connection must stay: opening one anew takes room for its shared memory.
    """
    with engine.connect() as connection:
        try:
            with connection.begin():
                yield connection
        except DBAPIError as error:
            code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_OK) & PRIMARY_CODE
            if code == sqlite3.SQLITE_IOERR:
                connection.invalidate(error)
            path = sqlite_path(engine.url)
            if code in DAMAGE_CODES and path is not None:
                _suspect(path)
            raise


def migration_engine(url: URL) -> Engine:
    """One connection for changes of the schema, which rebuild tables and so cannot have foreign keys watched."""
    return _engine(url, begin="BEGIN IMMEDIATE", foreign_keys=False, poolclass=NullPool)


def keep_writers_out(connection: Connection) -> None:
    """Hold the lock of all writers to the end of this transaction; in SQLite its beginning has done so."""
    if not is_sqlite(connection.engine.url):
        connection.exec_driver_sql(_BEGIN_WRITING)


def _engine(
    url: URL, *, begin: str, read_only: bool = False, foreign_keys: bool = True, **pool_options: object
) -> Engine:
    options = dict(pool_options)
    if not is_sqlite(url):
        options |= _server_options(url, read_only=read_only)
    try:
        engine = create_engine(url, hide_parameters=True, **options)
    except (ImportError, ArgumentError) as error:
        raise ConfigError(f"database.url: no driver for {url.render_as_string()}, install one: {error}") from error
    if is_sqlite(url):
        _prepare_sqlite(engine, begin=begin, read_only=read_only, foreign_keys=foreign_keys)
    return engine


def _server_options(url: URL, *, read_only: bool) -> dict[str, object]:
    """What is asked of a server; what stands in the URL comes first, and the server's own defaults do not count."""
    return {
        "connect_args": {name: value for name, value in _SERVER_OPTIONS.items() if name not in url.query},
        "pool_pre_ping": True,  # a server that was started anew while nobody asked it anything goes unnoticed
        # A reader has one snapshot, as in SQLite. A writer sees, once it has its lock, what the one before it wrote.
        "isolation_level": "REPEATABLE READ" if read_only else "READ COMMITTED",
        "execution_options": {"postgresql_readonly": read_only},
    }


def _prepare_sqlite(engine: Engine, *, begin: str, read_only: bool, foreign_keys: bool) -> None:
    pragmas = [
        f"busy_timeout={round(BUSY_TIMEOUT_S * 1000)}",
        "journal_mode=WAL",
        "synchronous=FULL",
        f"wal_autocheckpoint={WAL_PAGES}",
        f"journal_size_limit={WAL_LIMIT_BYTES}",
        f"cache_size=-{CACHE_KIB}",
        f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
        f"query_only={'ON' if read_only else 'OFF'}",
        "trusted_schema=OFF",
    ]

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver's own transactions begin late and leave DDL out
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
