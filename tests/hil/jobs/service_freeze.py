"""A camera that falls silent, and one that sends only rubbish, under the installed service: how far it climbs.

The steps are taken by the unit itself, without rights and with its hardening: the USB reset through /dev/bus/usb, the
other through the file "authorized" in /sys.
"""

import time
from collections import Counter
from typing import Any

from drivers.virtual.control_socket import Operator
from tests.hil.jobs import installed

_SETTLED_S = 10.0
_LIMIT_S = 60.0
_RUBBISH_FRAMES = 300


def run() -> dict[str, Any]:
    """When each was noticed, which steps were taken, which of them failed, and when it came back."""
    operator = Operator()
    installed.running(installed.config(rate_hz=1.0))
    with installed.Journal() as journal:
        installed.await_that(
            lambda: installed.camera_state() == "running", "the camera", _LIMIT_S, look_each_s=installed.STATUS_LOOK_S
        )
        time.sleep(_SETTLED_S)
        frozen = _lose(journal, operator, "freeze", until="reauthorize")
        since_s = time.monotonic()
        operator("thaw")
        frozen["back_s"] = journal.when("camera found", since_s=since_s, timeout_s=_LIMIT_S)
        time.sleep(_SETTLED_S)
        since_s = time.monotonic()
        rubbish = _lose(journal, operator, f"garbage {_RUBBISH_FRAMES}", until="restart_stream")
        rubbish["back_s"] = journal.when("camera found", since_s=since_s, timeout_s=_LIMIT_S)
    return {"freeze": frozen, "rubbish": rubbish}


def _lose(journal: installed.Journal, operator: Operator, deed: str, *, until: str) -> dict[str, Any]:
    """Do it, and wait until the service has come to a step."""
    before, failed, shown = _counted("recovery_steps"), _counted("recovery_failures"), set()

    def tried() -> bool:
        camera = installed.status()["camera"]
        if camera["recovery"] is not None:
            shown.add(camera["recovery"])
        return int(camera["recovery_steps"].get(until, 0)) > before[until]

    since_s = time.monotonic()
    operator(deed)
    noticed_s = journal.when("camera lost", since_s=since_s, timeout_s=_LIMIT_S)
    until_s = installed.await_that(tried, f"the step {until}", _LIMIT_S, look_each_s=installed.STATUS_LOOK_S)
    return {
        "noticed_s": noticed_s,
        "until_s": until_s,
        "shown": sorted(shown),
        "steps": dict(_counted("recovery_steps") - before),
        "failures": dict(_counted("recovery_failures") - failed),
    }


def _counted(name: str) -> Counter[str]:
    return Counter(installed.status()["camera"][name])
