"""The clock is set while the installed service runs: forth, back, and right again after a start in 1970."""

import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from drivers.virtual.control_socket import Operator
from tests.hil.jobs import installed

_STEPS_H = {"forward": 2, "back": -5}
_LIMIT_S = 60.0
_BLOCK_MINUTES = 50
_SETTLED_S = 2.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""A clock that has lost its battery starts there; the kernel takes no time before that of its own start."""
_FPS = 8
"""An emulated processor that is busy with 25 measures late what is told in order."""


def run() -> dict[str, Any]:
    """How long after each step the block of that hour was open, and how often the service was started anew for it."""
    now = datetime.now(UTC)
    every_hour = tuple(f"{hour:02}:00:00" for hour in range(24))
    text = installed.config(rate_hz=1.0, block_minutes=_BLOCK_MINUTES, starts=every_hour)
    Operator()(f"fps {_FPS}")
    _set(_within_a_block(now))
    installed.running(text)
    found: dict[str, Any] = {}
    with installed.Journal() as journal:
        for name, hours in _STEPS_H.items():
            time.sleep(_SETTLED_S)
            found[name] = _step(journal, datetime.now(UTC) + timedelta(hours=hours))
        right = datetime.now(UTC)
        _set(_within_a_block(_EPOCH + timedelta(hours=1, seconds=time.monotonic())))
        since_s = time.monotonic()
        installed.systemctl("restart", installed.UNIT)
        found["1970"] = {
            "opened_s": journal.when("event block_started", since_s=since_s, timeout_s=_LIMIT_S),
            "restarts": 0,
        }
        time.sleep(_SETTLED_S)
        found["right again"] = _step(journal, right)
    return found


def _step(journal: installed.Journal, to: datetime) -> dict[str, Any]:
    pid = installed.main_pid()
    since_s = time.monotonic()
    _set(to)
    opened_s = journal.when("event block_started", since_s=since_s, timeout_s=_LIMIT_S)
    return {"opened_s": opened_s, "restarts": int(installed.main_pid() != pid)}


def _within_a_block(now: datetime) -> datetime:
    """Ten minutes after the hour: not in the gap between two blocks, now and after all steps."""
    return now.replace(minute=10, second=0)


def _set(to: datetime) -> None:
    subprocess.run(["date", "--utc", "--set", f"{to:%Y-%m-%d %H:%M:%S}"], stdout=subprocess.DEVNULL, check=True)
