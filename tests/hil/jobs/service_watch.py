"""The installed service on the virtual camera for a while; its own files are left in /share for the host to compare."""

import shutil
import time
from pathlib import Path
from typing import Any

from drivers.virtual.control_socket import Operator
from tests.hil.jobs import installed

_START_UP_S = 6.0
"""With the shutter event of the start."""
_FOUND_S = 120.0
_SHARE = Path("/share")


def run(name: str, watched_s: str) -> dict[str, Any]:
    """What it was watched for; the files are in the folder of this name."""
    if not (installed.VIVARIUM.exists() and installed.is_ready()):
        installed.running(installed.config())
    found_s = installed.await_that(
        lambda: installed.camera_state() == "running", "the camera", _FOUND_S, look_each_s=installed.STATUS_LOOK_S
    )
    time.sleep(_START_UP_S)
    lost = Operator()("state")["lost"]
    from_ns = time.monotonic_ns()
    time.sleep(float(watched_s))
    until_ns = time.monotonic_ns()
    lost = Operator()("state")["lost"] - lost
    status = installed.status()
    with installed.database() as database, installed.closing_copy(_SHARE / name / "vivarium.db") as copy:
        database.backup(copy)
    shutil.copytree(installed.RECORDINGS, _SHARE / name / "recordings", dirs_exist_ok=True)
    return {
        "from_monotonic_ns": from_ns,
        "until_monotonic_ns": until_ns,
        "found_s": found_s,
        "lost_by_device": lost,
        "status": status,
        "user": installed.unit_property("User"),
        "restarts": int(installed.unit_property("NRestarts")),
        "resources": installed.resources(),
        "no_new_privileges": installed.unit_property("NoNewPrivileges"),
        "capabilities": installed.capabilities(),
    }
