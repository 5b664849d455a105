"""The shipped networks in the installed service, under all of the unit's hardening."""

import time
from typing import Any

from tests.hil.jobs import installed

_LIMIT_S = 240.0
_SPAN_S = 60.0


def run() -> dict[str, Any]:
    """What the status says of them, how many frames they have measured in a while, and what memory they took."""
    installed.running(installed.config(rate_hz=1.0, networks=True))
    started_s = installed.await_that(
        lambda: _measured() > 0, "a frame measured by the networks", _LIMIT_S, look_each_s=installed.STATUS_LOOK_S
    )
    before = _measured()
    time.sleep(_SPAN_S)
    return {
        "started_s": started_s,
        "measured": _measured() - before,
        "vision": installed.status()["vision"],
        "resources": installed.resources(),
        "restarts": int(installed.unit_property("NRestarts")),
    }


def _measured() -> int:
    """Frames in the database whose animals the networks have found."""
    vision = installed.status()["vision"]
    if not vision["models"]:
        return 0
    with installed.database() as database:
        (count,) = database.execute("SELECT count(*) FROM frame WHERE segmenter = ?", (vision["segmenter"],)).fetchone()
    return int(count)
