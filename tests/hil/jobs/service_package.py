"""The Debian package under the real systemd: installed, upgraded over an older database, removed, purged.

The package is /share/package.deb, the database of an older program /share/older.db.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.hil.jobs import installed

_PACKAGE = "strong-vivarium"
_DEB = Path("/share/package.deb")
_OLDER = Path("/share/older.db")
_START_S = 300.0


def run() -> dict[str, Any]:
    """What each step has left behind."""
    shutil.rmtree(installed.PROGRAM, ignore_errors=True)
    before = installed.files()
    found: dict[str, Any] = {"install": _dpkg("--install", str(_DEB)), "owned": _owned(installed.main_pid())}
    installed.systemctl("stop", installed.UNIT)
    installed.DATABASE.unlink()
    shutil.copyfile(_OLDER, installed.DATABASE)
    shutil.chown(installed.DATABASE, "strong-vivarium", "strong-vivarium")
    found["upgrade"] = _dpkg("--install", str(_DEB))
    with installed.database() as database:
        found["revision"], *_ = database.execute("SELECT version_num FROM alembic_version").fetchone()
    found["copies"] = sorted(path.name for path in installed.STATE.glob("vivarium.db.before-*"))
    found["remove"] = _dpkg("--remove", _PACKAGE)
    found["kept"] = [path.name for path in (installed.CONFIG, installed.DATABASE) if path.exists()]
    found["purge"] = _dpkg("--purge", _PACKAGE)
    after = installed.files()
    return found | {"left": sorted(after - before), "gone": sorted(before - after)}


def _dpkg(*arguments: str) -> dict[str, Any]:
    """Its exit code and its last words; whether the service is ready some time after it."""
    since_s = time.monotonic()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["dpkg", *arguments], capture_output=True, text=True, env=environment, check=False)
    took_s = round(time.monotonic() - since_s, 1)
    if arguments[0] == "--install":
        installed.await_that(installed.is_ready, "the service to be ready", _START_S)
    return {"code": done.returncode, "said": (done.stdout + done.stderr)[-400:], "took_s": took_s}


def _owned(pid: int) -> str:
    """Who runs the service, and from where."""
    return f"{Path('/proc', str(pid)).owner()} {Path('/proc', str(pid), 'cwd').readlink()}"
