"""A camera that answers no request, under the installed service: frames go on, and the command gets an error."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from drivers.virtual.control_socket import Operator
from tests.hil.jobs import installed

_ASKED_AFTER_S = 15.0
"""Age of a calibration after which the service asks for a shutter cycle, outside blocks."""
_LIMIT_S = 90.0
_ASKING = "asking for a shutter cycle"
_DEBUG = """
[log]
level = "debug"
"""


def run() -> dict[str, Any]:
    """When the error came after the command; the frames that were sent meanwhile, and those that were taken."""
    operator = Operator()
    later = datetime.now(UTC) + timedelta(hours=12)
    text = installed.config(rate_hz=1.0, starts=(f"{later:%H:%M:%S}",), more=_DEBUG)
    installed.running(text.replace("[camera]", f"[camera]\nrecalibrate_after_s = {_ASKED_AFTER_S}"))
    with installed.Journal() as journal:
        installed.await_that(
            lambda: installed.camera_state() == "running", "the camera", _LIMIT_S, look_each_s=installed.STATUS_LOOK_S
        )
        journal.when(_ASKING, since_s=time.monotonic(), timeout_s=_LIMIT_S)  # it works
        time.sleep(_ASKED_AFTER_S / 2)
        since_s = time.monotonic()
        operator("hangctl")
        sent, taken = operator("state")["frames"], installed.status()["camera"]["frames"]
        asked_s = since_s + journal.when(_ASKING, since_s=since_s, timeout_s=_LIMIT_S)
        installed.await_that(
            lambda: bool(installed.status()["camera"]["notes"]),
            "the error",
            _LIMIT_S,
            look_each_s=installed.STATUS_LOOK_S,
        )
        error_s = time.monotonic() - asked_s
        sent, status = operator("state")["frames"] - sent, installed.status()  # in the same order as before
        taken = status["camera"]["frames"] - taken
        operator("unhangctl")
        lost = [line.text for line in journal.lines if line.monotonic_s > since_s and "camera lost" in line.text]
    return {
        "error_s": round(error_s, 2),
        "notes": status["camera"]["notes"],
        "lost": lost,
        "sent": sent,
        "taken": taken,
    }
