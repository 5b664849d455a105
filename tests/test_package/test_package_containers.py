"""The files of containers/ fit each other and the program. Nothing is built: no container engine is needed."""

import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from daemon.settings import parse_settings

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "containers"
COMPOSE = (CONTAINERS / "compose.yaml").read_text()
CONTAINERFILE = (CONTAINERS / "Containerfile").read_text()
CHANGES_BETWEEN_SAVES = 60
RETAINED = 300
DEADLINE_S = 20
LAST = "vivarium/last"


def test_the_config_is_understood_and_names_the_services_of_the_compose_file() -> None:
    settings = parse_settings((CONTAINERS / "config.toml").read_text(), origin="config.toml")
    services = set(re.findall(r"(?m)^  (\w+):$", COMPOSE.partition("services:")[2].partition("\nvolumes:")[0]))
    assert services == {"vivarium", "mosquitto", "postgresql", "grafana"}
    assert settings.mqtt.host in services
    assert settings.web.host == "0.0.0.0"
    assert f'"127.0.0.1:{settings.web.port}:{settings.web.port}"' in COMPOSE
    assert f"data:{settings.box.data_dir}\n" in COMPOSE
    assert f"VOLUME {settings.box.data_dir}\n" in CONTAINERFILE
    assert f"http://127.0.0.1:{settings.web.port}/healthz" in CONTAINERFILE


def test_the_image_gets_everything_that_the_wheel_is_made_of() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for folder in [*build["packages"], *build["force-include"]]:
        assert f"COPY {folder} {folder}\n" in CONTAINERFILE
        assert folder in allowed
    assert {"pyproject.toml", "README.md", "LICENSE", "containers"} <= allowed


def test_the_service_does_not_run_as_root() -> None:
    final = CONTAINERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"(?m)^USER (.*)$", final) == ["970:970"]
    assert "--uid 970 --gid 970" in final


@pytest.fixture
def broker_folder() -> Iterator[Path]:
    """A folder that the broker's own user may write to; pytest's are closed to others."""
    with tempfile.TemporaryDirectory(prefix="vivarium-broker-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@contextmanager
def connected(port: int) -> Iterator[mqtt.Client]:
    """A client of the broker, once that accepts it."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            client.connect("127.0.0.1", port)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the broker does not start"
            time.sleep(0.05)  # another process is waited for
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_broker_that_is_killed_forgets_no_more_than_its_file_says(broker_folder: Path) -> None:
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = broker_folder / "mosquitto.conf"
    text = (CONTAINERS / "mosquitto" / "mosquitto.conf").read_text()
    text = text.replace("listener 1883", f"listener {port} 127.0.0.1").replace("/mosquitto/data/", f"{broker_folder}/")
    config.write_text(text)

    first = subprocess.Popen([program, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        with connected(port) as client:
            for number in range(RETAINED):
                client.publish(f"vivarium/box1/animal/{number}", b"{}", qos=1, retain=True).wait_for_publish(DEADLINE_S)
            first.kill()
            first.wait()
    finally:
        first.kill()
        first.wait()

    seen: set[str] = set()
    second = subprocess.Popen([program, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        with connected(port) as client:
            everything = threading.Event()

            def note(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
                if message.topic == LAST:
                    everything.set()
                else:
                    seen.add(message.topic)

            client.on_message = note
            client.on_subscribe = lambda client, *_: client.publish(LAST, b"", qos=1)  # comes after all retained ones
            client.subscribe("vivarium/#", qos=1)
            assert everything.wait(DEADLINE_S)
    finally:
        second.kill()
        second.wait()
    print(f"{RETAINED - len(seen)} of {RETAINED} retained messages forgotten on kill -9")  # noqa: T201  # the figure
    assert RETAINED - len(seen) <= CHANGES_BETWEEN_SAVES
