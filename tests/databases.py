"""A look into any database, and a PostgreSQL server of the tests' own, with databases that cost little to make."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, NullPool, create_engine, make_url

from daemon.store.upgrade import upgrade
from tests.ports import free_port

KINDS = ("sqlite", "postgresql")

ON_BOTH = pytest.mark.parametrize("kind_of_database", KINDS)
"""Has a test run on both kinds of database, if its fixtures ask for `kind_of_database`."""

NONE = "no PostgreSQL server is installed (Debian: apt install postgresql)"

_QUICK = ("fsync=off", "full_page_writes=off", "autovacuum=off", "max_wal_size=4GB", "checkpoint_timeout=1h")
"""Nothing is lost by it unless the machine dies."""

_TEMPLATE = "with_tables"


def rows_of(url: str, statement: str) -> list[tuple[object, ...]]:
    """What a connection of its own reads."""
    with _connected(url) as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def change(url: str, *statements: str) -> None:
    """Change a database behind the program's back."""
    with _connected(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        yield connection


def why_none() -> str | None:
    """Why there is no server to be had on this machine; None where there is one."""
    if not _programs():
        return NONE
    if os.geteuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return None


def _programs() -> list[Path]:
    return sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class Server:
    """A PostgreSQL server on a loopback port. Text is ordered as in English, not by its bytes, as most servers do."""

    def __init__(self, folder: Path) -> None:
        self._programs, self._data = _programs()[-1], folder / "data"
        self._made, self._template_made = 0, False
        self.port = free_port()
        # It refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)
        self._run("initdb", "--auth=trust", "--username=vivarium", "--no-sync", "--encoding=UTF8", "--locale=C")

    def url(self, database: str) -> str:
        """Of one of its databases."""
        return f"postgresql+psycopg://vivarium@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._data}"
        quick = " ".join(f"-c {each}" for each in _QUICK)
        log = str(self._data / "log")
        self._run("pg_ctl", "start", "--wait", f"--log={log}", f"--options={options} {quick}")

    def stop(self) -> None:
        """Stop it without a word to those who are connected."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    @contextmanager
    def database(self, *, tables: bool = True, like: str | None = None, options: str = "") -> Iterator[str]:
        """The URL of a new database, dropped at the end.

        It has empty tables of the newest revision, or none, or is a copy of the database of another URL that nobody is
        connected to; without tables it may have options of `CREATE DATABASE`.
        """
        if tables and like is None and not self._template_made:
            self._create(_TEMPLATE)
            upgrade(make_url(self.url(_TEMPLATE)), utc_ns=0)
            self._template_made = True
        self._made += 1
        name = f"database_{self._made}"
        template = _TEMPLATE if like is None else make_url(like).database
        self._create(name, f"TEMPLATE {template}" if tables else options)
        try:
            yield self.url(name)
        finally:
            with self.connected() as connection:
                connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _create(self, name: str, options: str = "") -> None:
        english = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"  # from version 15 on
        with self.connected() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} {options or english}")

    @contextmanager
    def connected(self, database: str = "postgres") -> Iterator[Connection]:
        """A connection whose statements are transactions of their own."""
        engine = create_engine(self.url(database), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            yield connection

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._data), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, user=self._user, cwd="/", timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
