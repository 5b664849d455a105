"""The shipped networks in the installed service, under all of the unit's hardening."""

from typing import Any

from tests.hil.jobs import installed

_LIMIT_S = 240.0


def run() -> dict[str, Any]:
    """How long until they had passed their trial and were in force, and what the status says of them."""
    installed.running(installed.config(rate_hz=1.0, networks=True))
    ready_s = installed.await_that(
        lambda: installed.status()["vision"]["models"] != {},
        "the networks",
        _LIMIT_S,
        look_each_s=installed.STATUS_LOOK_S,
    )
    return {
        "ready_s": ready_s,
        "vision": installed.status()["vision"],
        "resources": installed.resources(),
        "restarts": int(installed.unit_property("NRestarts")),
    }
