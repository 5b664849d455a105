"""The Debian package under the real systemd: installed with a camera on the bus, upgraded, removed, purged.

Arguments: the names of two packages in /share, the later one with one more revision of the schema.
"""

import contextlib
import grp
import json
import pwd
import shutil
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHARE = Path("/share")
UNIT = "strong-vivarium.service"
TIMER = "strong-vivarium-deadman.timer"
DATA = Path("/var/lib/strong-vivarium")
DATABASE = DATA / "vivarium.db"
READY_S = 240.0
FRAMES_S = 120.0
_LEFT = (
    "/opt/strong-vivarium",
    "/etc/strong-vivarium",
    "/var/lib/strong-vivarium",
    "/var/lib/strong-vivarium-deadman",
    "/run/strong-vivarium",
    "/usr/bin/vivarium",
    "/usr/lib/systemd/system/strong-vivarium.service",
    "/usr/lib/udev/rules.d/60-strong-vivarium.rules",
    "/etc/systemd/system/multi-user.target.wants/strong-vivarium.service",
    "/etc/systemd/system/timers.target.wants/strong-vivarium-deadman.timer",
)


def run(first: str, later: str) -> dict[str, Any]:
    """Everything in turn; times in seconds."""
    found: dict[str, Any] = {}
    found["install_s"] = _dpkg("--install", str(SHARE / first))
    found["installed"] = _running()
    before = _frames()
    found["upgrade_s"] = _dpkg("--install", str(SHARE / later))
    found["upgraded"] = _running()
    found["frames_kept"] = _frames() >= before > 0
    copies = sorted(DATA.glob("vivarium.db.before-*Z"))
    found["copies"] = [copy.name.rpartition("-")[0] for copy in copies]
    found["copies_good"] = [_succeeds("vivarium", "db", "verify", str(copy)) for copy in copies]
    found["remove_s"] = _dpkg("--remove", "strong-vivarium")
    found["removed"] = {
        "unit": _show("ActiveState"),
        "processes": _succeeds("pgrep", "--uid", "strong-vivarium"),
        "program": Path("/opt/strong-vivarium").exists(),
        "database": DATABASE.exists(),
        "config": Path("/etc/strong-vivarium/config.toml").exists(),
    }
    found["purge_s"] = _dpkg("--purge", "strong-vivarium")
    found["left"] = [path for path in _LEFT if Path(path).exists() or Path(path).is_symlink()]
    found["users_left"] = [name for name in _names() if name == "strong-vivarium"]
    return found


def _dpkg(*arguments: str) -> float:
    """How long it took; what it says goes to the job's output."""
    started_s = time.monotonic()
    # The disk of an emulated machine: whether each file is on it at once is not what is tested here.
    subprocess.run(["dpkg", "--force-unsafe-io", *arguments], check=True, stdout=2)
    return round(time.monotonic() - started_s, 1)


def _running() -> dict[str, Any]:
    """The service once it is ready and frames of the camera have been stored."""
    ready_s = _await(lambda: _show("SubState") == "running", READY_S, "the service to be ready")
    before = _frames()
    frames_s = _await(lambda: _frames() > before, FRAMES_S, "a frame to be stored")
    process = Path("/proc", _show("MainPID"))
    with urllib.request.urlopen("http://127.0.0.1:8080/api/status", timeout=30) as answer:
        camera = json.load(answer)["camera"]
    return {
        "ready_s": ready_s,
        "first_frame_s": frames_s,
        "restarts": int(_show("NRestarts")),
        "enabled": _succeeds("systemctl", "is-enabled", UNIT, TIMER),
        "timer": _succeeds("systemctl", "is-active", TIMER),
        "user": process.owner(),
        "camera": camera["state"],
        "revision": _query("SELECT version_num FROM alembic_version"),
        "version": subprocess.run(["vivarium", "version"], stdout=subprocess.PIPE, text=True).stdout.strip(),
    }


def _await(condition: Callable[[], bool], timeout_s: float, what: str) -> float:
    started_s = time.monotonic()
    while not condition():
        if time.monotonic() - started_s > timeout_s:
            subprocess.run(["journalctl", "--no-pager", f"--unit={UNIT}", "--lines=40"], stdout=2)
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.2)
    return round(time.monotonic() - started_s, 1)


def _frames() -> int:
    return int(_query("SELECT count(*) FROM frame") or 0)


def _query(statement: str) -> str:
    """The only value; empty while there is no such table."""
    if not DATABASE.exists():
        return ""
    with contextlib.closing(sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            return str(connection.execute(statement).fetchone()[0])
        except sqlite3.OperationalError:
            return ""


def _show(name: str) -> str:
    command = ["systemctl", "show", UNIT, f"--property={name}", "--value"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def _succeeds(*command: str) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, stdout=2).returncode == 0


def _names() -> set[str]:
    return {user.pw_name for user in pwd.getpwall()} | {group.gr_name for group in grp.getgrall()}
