"""The cable is pulled under the installed service, again and again; seen by journal, status page, /proc, database."""

import time
from typing import Any

from drivers.virtual.control_socket import Operator
from tests.hil.jobs import installed

_BETWEEN_S = 1.0
_UNPLUGGED_S = 0.2
_LIMIT_S = 30.0


def run(cycles: str, warm_s: str) -> dict[str, Any]:
    """Times of all cycles, what was open before and after, and what the database says of the block.

    The first cycle begins when the camera has run for `warm_s` seconds.
    """
    operator = Operator()
    installed.running(installed.config(rate_hz=1.0))
    noticed, back, states, resources = [], [], [], []
    with installed.Journal() as journal:
        installed.await_that(
            lambda: installed.camera_state() == "running", "the camera", 60, look_each_s=installed.STATUS_LOOK_S
        )
        fresh = installed.resources()
        time.sleep(float(warm_s))
        warm = installed.resources()
        before = installed.status()["block"]["key"]
        for _ in range(int(cycles)):
            time.sleep(_BETWEEN_S)
            since_s = time.monotonic()
            operator("unplug")
            noticed.append(journal.when("camera lost", since_s=since_s, timeout_s=_LIMIT_S))
            states.append(installed.camera_state())
            time.sleep(_UNPLUGGED_S)
            since_s = time.monotonic()
            operator("plug")
            back.append(journal.when("camera found", since_s=since_s, timeout_s=_LIMIT_S))
            resources.append(installed.resources())
    after = installed.status()
    with installed.database() as database:
        (keys,) = database.execute("SELECT count(*) FROM block WHERE state = 'open'").fetchone()
    return {
        "noticed_s": noticed,
        "back_s": back,
        "states": sorted(set(states)),
        "block": [before, after["block"]["key"]],
        "open_blocks": keys,
        "fresh": fresh,
        "warm": warm,
        "resources": resources,
        "restarts": int(installed.unit_property("NRestarts")),
        "recordings": sorted(str(path.name) for path in installed.RECORDINGS.rglob("*.mkv")),
    }
