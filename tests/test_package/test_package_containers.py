"""The files of containers/ fit each other and the program. Nothing is built: no container engine is needed."""

import re
import signal
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
from tests.brokers import DEADLINE_S, Mosquitto, mosquitto_program
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "containers"
COMPOSE = (CONTAINERS / "compose.yaml").read_text()
CONTAINERFILE = (CONTAINERS / "Containerfile").read_text()
CHANGES_BETWEEN_SAVES = 60
RETAINED = 300
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
def connected(broker: Mosquitto) -> Iterator[mqtt.Client]:
    """A client that the broker has accepted."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    accepted = threading.Event()
    client.on_connect = lambda *_: accepted.set()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        assert accepted.wait(DEADLINE_S), broker.log()
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_broker_that_is_killed_forgets_no_more_than_its_file_says(broker_folder: Path) -> None:
    program = mosquitto_program()
    if program is None:
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
    port = free_port()
    text = (CONTAINERS / "mosquitto" / "mosquitto.conf").read_text()
    text = text.replace("listener 1883", f"listener {port} 127.0.0.1").replace("/mosquitto/data/", f"{broker_folder}/")
    broker = Mosquitto(program, broker_folder, port, text)

    broker.start()
    try:
        with connected(broker) as client:
            unacknowledged = [
                client.publish(f"vivarium/box1/animal/{number}", b"{}", qos=1, retain=True)
                for number in range(RETAINED)
            ]
            wait_until_all_are_published(unacknowledged, broker)
            broker.stop(signal.SIGKILL)
    finally:
        broker.stop(signal.SIGKILL)

    seen: set[str] = set()
    broker.start()
    try:
        with connected(broker) as client:
            everything = threading.Event()

            def note(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
                if message.topic == LAST:
                    everything.set()
                else:
                    seen.add(message.topic)

            client.on_message = note
            client.on_subscribe = lambda client, *_: client.publish(LAST, b"", qos=1)  # comes after all retained ones
            client.subscribe("vivarium/#", qos=1)
            assert everything.wait(DEADLINE_S), broker.log()
    finally:
        broker.stop(signal.SIGKILL)
    print(f"{RETAINED - len(seen)} of {RETAINED} retained messages forgotten on kill -9")  # noqa: T201  # the figure
    assert RETAINED - len(seen) <= CHANGES_BETWEEN_SAVES


def wait_until_all_are_published(messages: list[mqtt.MQTTMessageInfo], broker: Mosquitto) -> None:
    """Until the broker has acknowledged each; where its connection breaks, they are sent again on a new one."""
    end = time.monotonic() + DEADLINE_S
    while missing := sum(not message.is_published() for message in messages):
        assert time.monotonic() < end, f"{missing} of {len(messages)} not acknowledged: {broker.log()}"
        time.sleep(0.01)  # another process is waited for
