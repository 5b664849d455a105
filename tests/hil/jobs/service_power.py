"""What shall survive a power cut, until it comes: recording at full rate, events, a broker that acknowledges.

Said on the serial line, from where no cut can take it back: `EVENT id` when the broker has delivered it, `ALIVE ns` the
time of day, `READY`, `RECORDING`. First of all it is looked at what the cut before has left.
"""

import contextlib
import hashlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tests.hil.jobs import installed

_SERIAL = Path("/dev/ttyS0")
_SHARE = Path("/share")
_BROKER_DIR = Path("/var/lib/hil-broker")
_BROKER_CONFIG = """listener 1883 127.0.0.1
allow_anonymous true
persistence true
persistence_location /var/lib/hil-broker/
"""
_ALIVE_S = 0.05
_LIMIT_S = 120.0
_TOPIC = "vivarium/hil/event/#"
_ALERTS = """
[alerts]
too_hot = {{ celsius = {celsius}, hysteresis_celsius = 0, duration_s = 0 }}
"""


class Line:
    """The serial line."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def say(self, words: str) -> None:
        """One line."""
        with self._lock, _SERIAL.open("w", encoding="ascii") as serial:
            serial.write(f"HIL {words}\n")


def run(boot: str, then: str, alert_celsius: str) -> dict[str, Any]:
    """What the cut before has left is put into a folder; then "stay" goes on until the next, and "go" returns.

    Parameters
    ----------
    boot : str
        Name of the folder.
    then : str
        What to do when the service records.
    alert_celsius : str
        Of an alert that opens and closes with every breath.
    """
    alerts = _ALERTS.format(celsius=alert_celsius)
    line = Line()
    began_s = time.monotonic()
    with _broker():
        _subscribe(line)
        if not installed.VIVARIUM.exists() or alerts not in installed.CONFIG.read_text(encoding="utf-8"):
            installed.running(installed.config(more=alerts))
        installed.await_that(installed.is_ready, "the service to be ready by itself", installed.READY_S)
        ready_s = time.monotonic()
        line.say("READY")
        _leave_findings(_SHARE / boot)
        installed.await_that(
            lambda: installed.status()["camera"]["frames_per_second"] > 1,
            "frames",
            _LIMIT_S,
            look_each_s=installed.STATUS_LOOK_S,
        )
        line.say("RECORDING")
        while then == "stay":
            line.say(f"ALIVE {time.time_ns()}")
            time.sleep(_ALIVE_S)
        return {"ready_s": round(ready_s - began_s, 2)}


@contextlib.contextmanager
def _broker() -> Iterator[None]:
    _BROKER_DIR.mkdir(exist_ok=True)
    config = _BROKER_DIR / "mosquitto.conf"
    config.write_text(_BROKER_CONFIG, encoding="ascii")
    shutil.chown(_BROKER_DIR, "mosquitto")
    with subprocess.Popen(["mosquitto", "-c", str(config)]) as process:
        try:
            yield
        finally:
            process.terminate()


def _subscribe(line: Line) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="hil", protocol=mqtt.MQTTv5)

    def connected(client: mqtt.Client, *_: Any) -> None:
        client.subscribe(_TOPIC, qos=1)

    def heard(_client: mqtt.Client, _user: Any, message: mqtt.MQTTMessage) -> None:
        line.say(f"EVENT {json.loads(message.payload)['event_id']}")

    client.on_connect, client.on_message = connected, heard
    client.connect_async("127.0.0.1")
    client.loop_start()


def _leave_findings(folder: Path) -> None:
    """What is on the disk after the start that followed a cut."""
    folder.mkdir()
    with installed.database() as database:
        (integrity,) = database.execute("PRAGMA integrity_check").fetchone()
        events = [event_id for (event_id,) in database.execute("SELECT event_id FROM event")]
        waiting = [json.loads(payload).get("event_id") for (payload,) in database.execute("SELECT payload FROM outbox")]
    for path in installed.RECORDINGS.rglob("*"):
        if path.suffix in (".mkv", ".json") and ".part." not in path.name and not list(_SHARE.glob(f"*/{path.name}")):
            shutil.copy(path, folder)
    findings = {
        "integrity": integrity,
        "events": events,
        "waiting": waiting,
        "config": hashlib.sha256(installed.CONFIG.read_bytes()).hexdigest(),
        "set_aside": sorted(path.name for path in installed.STATE.rglob("*damaged*")),
        "restarts": int(installed.unit_property("NRestarts")),
    }
    (folder / "findings.json").write_text(json.dumps(findings), encoding="utf-8")
