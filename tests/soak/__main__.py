"""The service for hours at the camera's full rate, with broker, subscriber, viewer and recording: `make soak HOURS=2`.

Nothing is sped up and nothing replaced but the camera, which is the simulated one. What was seen every ten
seconds goes to `looks.csv`, the curves to `soak.png`; the last lines say which promise was kept, and the exit status is
1 if one was not.
"""

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.brokers import Mosquitto, mosquitto_program
from tests.ports import free_port
from tests.soak.judgement import RATE_HZ, judge
from tests.soak.plot import draw
from tests.soak.sampling import LookFile, look, read_looks

LOOK_INTERVAL_S = 10.0
START_S = 60.0
STOP_S = 30.0
ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run, look, draw, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--output", type=Path, required=True, help="folder for looks.csv and soak.png; made if needed")
    arguments = parser.parse_args()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    with _broker(output) as broker_port, _subscriber(broker_port) as heard, _service(output, broker_port) as (pid, url):
        _watch(pid, url, arguments.hours * 3600, output / "looks.csv")
        print(f"{heard.count} messages were received by a subscriber")  # noqa: T201  # the figure
    looks = read_looks(output / "looks.csv")
    draw(looks, output / "soak.png")
    findings = judge(looks)
    for finding in findings:
        print(f"{'kept  ' if finding.kept else 'BROKEN'} {finding.promise}: {finding.found}")  # noqa: T201
    return 0 if all(finding.kept for finding in findings) else 1


def _watch(pid: int, url: str, duration_s: float, path: Path) -> None:
    started_s = time.monotonic()
    with LookFile(path) as file:
        number = 0
        while (due_s := started_s + number * LOOK_INTERVAL_S) - started_s <= duration_s:
            time.sleep(max(0.0, due_s - time.monotonic()))
            file.add(look(pid, f"{url}/api/status", started_s))
            _fetch(f"{url}/api/live.png")  # somebody has the page open
            number += 1


def _fetch(url: str) -> None:
    with urllib.request.urlopen(url, timeout=START_S) as answer:
        answer.read()


class _Heard:
    count = 0


@contextmanager
def _subscriber(port: int) -> Iterator[_Heard]:
    heard = _Heard()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)

    def count(_client: paho.Client, _userdata: object, _message: paho.MQTTMessage) -> None:
        heard.count += 1

    client.on_connect = lambda *_: void(client.subscribe("vivarium/#", qos=1))
    client.on_message = count
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def void(_value: object) -> None:
    """Nothing."""


@contextmanager
def _broker(output: Path) -> Iterator[int]:
    program = mosquitto_program()
    if program is None:
        sys.exit("mosquitto is needed: apt-get install mosquitto")
    port = free_port()
    broker = Mosquitto(program, output, port, f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root")
    broker.start()
    try:
        yield port
    finally:
        broker.stop()


@contextmanager
def _service(output: Path, broker_port: int) -> Iterator[tuple[int, str]]:
    data = output / "data"
    shutil.rmtree(data, ignore_errors=True)
    port = free_port()
    config = output / "config.toml"
    config.write_text(_config(data, broker_port, port), encoding="utf-8")
    with (output / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "run", "--config", config], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        _await_port(port)
        yield process.pid, f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_S)


def _config(data: Path, broker_port: int, web_port: int) -> str:
    """One block of a day, from now."""
    start = datetime.now(UTC) + timedelta(seconds=5)
    return f"""
[box]
data_dir = "{data}"
time_zone = "UTC"
[schedule]
rate_hz = {RATE_HZ}
block_minutes = 1430
strata = {{ soak = ["{start:%H:%M:%S}"] }}
[mqtt]
broker = "external"
port = {broker_port}
[web]
port = {web_port}
"""


def _await_port(port: int) -> None:
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
