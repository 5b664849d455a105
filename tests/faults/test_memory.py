"""The memory of the running service: bounded, and well below what systemd allows it."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.faults.conftest import Eventually, MakeDaemon, MakeSettings

LIMIT_MB = 350
FRAMES = 50


def peak_mb(pid: int) -> float:
    """The most that the process has had in memory so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


@pytest.mark.timeout(180)
def test_the_service_stays_below_its_limit_of_memory(
    make_settings: "MakeSettings", make_daemon: "MakeDaemon", mosquitto: "Mosquitto", eventually: "Eventually"
) -> None:
    settings = make_settings(block_s=300, mqtt={"broker": "external", "port": mosquitto.port})
    daemon = make_daemon(settings)
    daemon.start()
    eventually(
        lambda: daemon.must_run() and daemon.evidence.newest_frame() >= FRAMES, f"{FRAMES} recorded and stored frames"
    )
    peak = peak_mb(daemon.pid)
    print(f"peak memory after {FRAMES} recorded and stored frames: {peak:.0f} MB")  # noqa: T201  # the figure
    assert peak < LIMIT_MB
    assert daemon.end(signal.SIGTERM) == 0
