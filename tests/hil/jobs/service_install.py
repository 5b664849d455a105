"""The service is installed, looked at, and removed without a trace, by its own command."""

import subprocess
import time
from pathlib import Path
from typing import Any

from tests.hil.jobs import installed


def run() -> dict[str, Any]:
    """What was there before, in between and afterwards; what the command said; how long it took."""
    if installed.CONFIG.exists():
        installed.vivarium("service", "uninstall", "--purge")
    installed.put_program(installed.VERSION)
    before = installed.files()
    since_s = time.monotonic()
    said = installed.vivarium("service", "install")
    took_s = time.monotonic() - since_s
    between = installed.files()
    found = {
        "said": said,
        "took_s": round(took_s, 1),
        "ready": installed.is_ready(),
        "enabled": installed.systemctl("is-enabled", installed.UNIT),
        "again": installed.vivarium("service", "install"),
        "status": installed.vivarium("service", "status"),
        "verify": _verify(),
        "security": _security(),
    }
    removed = installed.vivarium("service", "uninstall")
    kept = [str(path) for path in (installed.CONFIG, installed.DATABASE) if path.exists()]
    purged = installed.vivarium("service", "uninstall", "--purge")
    return found | {
        "removed": removed,
        "kept": kept,
        "purged": purged,
        "added": sorted(between - before),
        "left": sorted(installed.files() - before),
        "gone": sorted(before - installed.files()),
        "user_left": "strong-vivarium" in Path("/etc/passwd").read_text(encoding="utf-8"),
    }


def _verify() -> str:
    """What systemd has to say about the unit; whether its manual is installed is not the unit's affair."""
    command = ["systemd-analyze", "verify", "--man=no", f"/etc/systemd/system/{installed.UNIT}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def _security() -> float:
    """The exposure that systemd itself works out for the loaded unit."""
    told = subprocess.run(
        ["systemd-analyze", "security", installed.UNIT], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(told.stdout.splitlines()[-1].split(":")[1].split()[0])
