"""The unit file: systemd accepts it without a word, and finds little that it exposes."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from daemon.health import STALLED_AFTER_S

UNIT = Path(__file__).parents[2] / "systemd" / "strong-vivarium.service"
MAX_EXPOSURE = 2.0
"""Of 10, as `systemd-analyze security` counts: below is what it calls OK and better."""


@pytest.fixture
def systemd_analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt install systemd)")
    return program


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists on every machine in place of ours."""
    text, replaced = re.subn(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", UNIT.read_text())
    assert replaced == 1
    path = tmp_path / UNIT.name
    path.write_text(text)
    return path


def test_systemd_has_nothing_to_say_about_the_unit(systemd_analyze: str, unit: Path) -> None:
    done = subprocess.run([systemd_analyze, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.stdout, done.returncode) == ("", "", 0)  # an unknown key is a warning with code 0


def test_a_mistyped_key_would_be_noticed(systemd_analyze: str, unit: Path) -> None:
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchdogSecs="))
    done = subprocess.run([systemd_analyze, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    assert "WatchdogSecs" in done.stderr


def test_the_unit_exposes_little(systemd_analyze: str, unit: Path) -> None:
    done = subprocess.run(
        [systemd_analyze, "security", "--offline=true", "--no-pager", unit], capture_output=True, text=True, timeout=60
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    print(f"exposure {found[1]} of 10, allowed {MAX_EXPOSURE}")  # noqa: T201  # the figure
    assert float(found[1]) <= MAX_EXPOSURE


def test_the_watchdog_waits_longer_than_a_stall_takes_to_be_noticed() -> None:
    watchdog = re.search(r"(?m)^WatchdogSec=(\d+)$", UNIT.read_text())
    assert watchdog is not None
    assert float(watchdog[1]) >= 2 * STALLED_AFTER_S
