"""A database on a server, as far as the server tells about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

from sqlalchemy import URL, Connection, func, inspect, select

from daemon.store.engine import migration_engine, store_errors
from daemon.store.schema import frame, metadata
from drivers.errors import StoreError

ENCODING = "UTF8"

_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
"""Settings of a server that has what it says that it has, also after a power cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDatabase:
    """What a server says."""

    version: str
    """Of PostgreSQL."""
    size_bytes: int
    rows: Mapping[str, int]
    """By table; those that are there."""
    answer_s: float
    """How long a question takes that needs nothing read."""
    why_not_written: str | None
    """Why this user cannot store anything; None where it can."""
    not_durable: tuple[str, ...]
    """What is switched off of that which a power cut asks for."""


def check_encoding(connection: Connection) -> None:
    """Raise `StoreError` unless the server can keep every text; nothing is asked of SQLite."""
    if connection.dialect.name != "postgresql":
        return
    found = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if found != ENCODING:
        name = connection.engine.url.database
        raise StoreError(
            f"expected a database with the encoding {ENCODING}, {name} has {found}: make another one with "
            f"`createdb --encoding={ENCODING} --template=template0 NAME`"
        )


def look_at(url: URL, *, count_rows: bool) -> ServerDatabase:
    """Ask a server about a database.

    Parameters
    ----------
    url : URL
        Of the database.
    count_rows : bool
        Whether to count the rows of all tables, which reads them.

    Raises
    ------
    StoreError
        If it cannot be asked, or the database cannot be used.
    """
    with (
        store_errors(f"ask about the database {url.render_as_string()}"),
        migration_engine(url).connect() as connection,
    ):
        check_encoding(connection)
        begin = perf_counter()
        connection.exec_driver_sql("SELECT 1")
        answer_s = perf_counter() - begin
        there = set(inspect(connection).get_table_names())
        counted = [each for each in metadata.sorted_tables if count_rows and each.name in there]
        return ServerDatabase(
            version=str(connection.exec_driver_sql("SHOW server_version").scalar_one()).partition(" ")[0],
            size_bytes=connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one(),
            rows={
                each.name: connection.execute(select(func.count()).select_from(each)).scalar_one() for each in counted
            },
            answer_s=answer_s,
            why_not_written=_why_not_written(connection, frame.name in there),
            not_durable=tuple(
                name for name in _DURABLE if connection.exec_driver_sql(f"SHOW {name}").scalar_one() == "off"
            ),
        )


def _why_not_written(connection: Connection, has_tables: bool) -> str | None:
    if connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one():
        return "the server is a standby, which is read only"
    if has_tables:
        what = "change its tables"
        asked = " AND ".join(f"has_table_privilege('frame', '{right}')" for right in ("INSERT", "UPDATE", "DELETE"))
    else:
        what, asked = "make tables in it", "has_schema_privilege(current_schema(), 'CREATE')"
    may, user = connection.exec_driver_sql(f"SELECT {asked}, current_user").one()
    return None if may else f"{user} may not {what}"
