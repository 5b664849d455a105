"""Mosquitto as a process of its own."""

import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

DEADLINE_S = 20.0
"""No test waits longer for a broker; it is no measurement."""
_POLL_S = 0.01


def mosquitto_program() -> str | None:
    """The broker; Debian keeps it in /usr/sbin, which is not on everybody's PATH."""
    return shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


class Mosquitto:
    """Mosquitto on a loopback port; may be stopped, killed and started again there."""

    def __init__(self, program: str, folder: Path, port: int, options: str) -> None:
        """The options are lines of its configuration; a listener at the port is among them."""
        self.port = port
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._config = folder / f"mosquitto-{port}.conf"
        self._log = folder / f"mosquitto-{port}.log"
        self._config.write_text(f"{options.rstrip()}\nlog_dest stderr\n")

    def start(self) -> None:
        """Return when it takes connections."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([self._program, "-c", self._config], stdout=log, stderr=log)
        end = time.monotonic() + DEADLINE_S
        while " running" not in self.log():
            assert self._process.poll() is None, f"mosquitto ended: {self.log()}\n{self._config.read_text()}"
            assert time.monotonic() < end, f"mosquitto does not start: {self.log()}"
            time.sleep(_POLL_S)  # another process is waited for

    def log(self) -> str:
        """What it has said since its start."""
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Of the running broker."""
        assert self._process is not None
        return self._process.pid

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Return when it is gone; asked repeatedly: it forgets what comes between its `running` and its loop."""
        if self._process is not None:
            end = time.monotonic() + DEADLINE_S
            while self._process.poll() is None:
                assert time.monotonic() < end, f"mosquitto does not end on {how.name}"
                self._process.send_signal(how)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.5)
            self._process = None
