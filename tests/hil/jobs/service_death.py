"""What kills a service, or should: a hanging main loop, a stopped process, kill -9, too much memory, SIGTERM."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.hil.jobs import installed

_LIMIT_S = 400.0
_ENOUGH_TO_DIE = "90M"
_HUNG_US = 900_000_000
_SYSTEM_CALLS = "socket,connect,sendto,sendmsg"
"""Of the main thread: what it feeds the watchdog with."""


def run() -> dict[str, Any]:
    """For each: how long until the service was ready again, and what systemd said of the one that died."""
    installed.running(installed.config(rate_hz=1.0))
    before_s = time.monotonic()
    installed.systemctl("restart", installed.UNIT)
    start_s = time.monotonic() - before_s
    found: dict[str, Any] = {
        "watchdog_s": int(installed.unit_property("WatchdogUSec").removesuffix("s")),
        "start_s": round(start_s, 2),
        "hang": _again(_hang),
        "stopped": _again(lambda: os.kill(installed.main_pid(), signal.SIGSTOP)),
        "killed": _again(lambda: os.kill(installed.main_pid(), signal.SIGKILL)),
        "memory": _again(_starve),
    }
    since_s = time.monotonic()
    installed.systemctl("stop", installed.UNIT)
    found["stop_s"] = round(time.monotonic() - since_s, 2)
    found["stop_status"] = installed.unit_property("ExecMainStatus")
    found["stop_result"] = installed.unit_property("Result")
    return found


def _again(deed: Callable[[], object]) -> dict[str, Any]:
    """Do it, and wait for the next life of the service."""
    before = int(installed.unit_property("NRestarts"))
    pid = installed.main_pid()
    with installed.Journal() as journal:
        since_s = time.monotonic()
        deed()
        installed.await_that(lambda: installed.main_pid() not in (0, pid) and installed.is_ready(), "READY", _LIMIT_S)
        ready_s = time.monotonic() - since_s
    why = [line.text for line in journal.lines if line.monotonic_s > since_s and "Failed with result" in line.text]
    restarts = int(installed.unit_property("NRestarts")) - before
    return {"ready_s": round(ready_s, 2), "why": why, "restarts": restarts}


def _hang() -> None:
    """Hold the main thread, and no other, in its next call to the service manager, until the watchdog acts."""
    tracer = subprocess.Popen(
        [
            *("strace", "-p", str(installed.main_pid()), "-o", "/dev/null"),
            *("-e", f"trace={_SYSTEM_CALLS}", "-e", f"inject={_SYSTEM_CALLS}:delay_enter={_HUNG_US}"),
        ],
        stdout=subprocess.DEVNULL,  # not ours, which would then stay open as long as it hangs
        stderr=subprocess.DEVNULL,
    )
    threading.Thread(target=_let_go, args=(tracer,)).start()


def _let_go(tracer: "subprocess.Popen[bytes]") -> None:
    """No process ends while somebody else holds its main thread: a real hang has nobody who does."""
    installed.await_that(lambda: not installed.is_ready(), "the watchdog", _LIMIT_S)
    tracer.kill()
    tracer.wait()


def _starve() -> None:
    """Too little memory for this life of the service; the next has what the unit gives it."""
    pid = installed.main_pid()
    installed.systemctl("set-property", "--runtime", installed.UNIT, f"MemoryMax={_ENOUGH_TO_DIE}")
    installed.await_that(lambda: installed.main_pid() != pid, "the end", _LIMIT_S)
    installed.systemctl("revert", installed.UNIT)
