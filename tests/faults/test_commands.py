"""Commands by MQTT: what is one is carried out once, and nothing else does anything."""

import json
import math
import os
import random
import re
import string
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from daemon.cli import main
from daemon.messaging.ask import give_command
from daemon.messaging.commands import RATE_HZ, REMEMBERED_S, CommandCounts, CommandDesk, CommandPayload, Inbox
from daemon.messaging.incoming import MOST_PAYLOAD_BYTES, IncomingMessage
from daemon.messaging.payloads import CommandResultPayload
from daemon.messaging.verbs import VERBS as ALL
from daemon.messaging.verbs import SetPayload, make_verbs
from daemon.order import Order, Outcome
from daemon.remote_settings import SETTABLE
from daemon.settings import Settings
from drivers.clock import NS_PER_S, SimulatedClock, SystemClock
from drivers.errors import CameraLostError, ConfigError
from drivers.simulated import SimulatedCamera, SimulatedDevice

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.faults.conftest import Eventually, JudgeGaps, MakeService, MakeSettings, RunningService
    from tests.faults.timing import Pacemaker, ReelCamera
    from tests.test_daemon.conftest import FaultProxy, Subscriber

    MakeProxy = Callable[[int], FaultProxy]
    Subscribe = Callable[[int], Subscriber]

MALFORMED = int(os.environ.get("VIVARIUM_MALFORMED_COMMANDS", "100000"))
THROUGH_THE_BROKER = int(os.environ.get("VIVARIUM_COMMANDS_THROUGH_BROKER", "4000"))
LARGE_BYTES = 1024**2
DEADLINE_S = 60.0
CONTROL_S = 2.0
"""How long capture is watched before the flood: what it does then is what this machine can do."""
BLOCKED_S = 1.0
MQTT_5 = MQTTProtocolVersion.MQTTv5
SLOW_SCHEDULE = {"rate_hz": 1.0, "block_minutes": 15, "strata": {}}
COMMAND = "vivarium/box1/command/"


pytestmark = pytest.mark.usefixtures("the_log_is_left_as_it_was")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shutter may close again after a second."""
    monkeypatch.setattr("daemon.calibration.MIN_RECALIBRATION_INTERVAL_S", 1.0)


def command(settings: Settings, verb: str, timeout_s: float = 20.0) -> list[tuple[str, str | None]]:
    """Give a command as the command line does: states and reasons of its results."""
    results = give_command(settings.mqtt, verb, password=None, box="box1", timeout_s=timeout_s)
    return [(result.state, result.reason) for result in results]


def is_capturing(running: "RunningService") -> bool:
    return running.service.status().camera.last_good_age_s is not None


def all_are_judged(running: "RunningService") -> bool:
    """Whether what came is what was accepted, refused and dropped, all together."""
    counts = running.service.status().mqtt.commands
    return counts["received"] == sum(number for name, number in counts.items() if name.startswith(DISPOSITIONS))


def calibrates(settings: Settings, eventually: "Eventually") -> None:
    """Command shutter cycles until one is done: the first may come too soon after another, or one too many."""
    said: list[list[tuple[str, str | None]]] = []

    def done() -> bool:
        said.append(command(settings, "calibrate"))
        return said[-1][-1] == ("done", None)

    eventually(done, f"a shutter cycle; said {said[-3:]}")


@pytest.mark.parametrize("broker", ["external", "embedded"])
def test_a_command_closes_the_shutter_and_says_when_it_is_open_again(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    free_port: int,
    eventually: "Eventually",
    soon: None,
    monkeypatch: pytest.MonkeyPatch,
    broker: str,
) -> None:
    device = SimulatedDevice(clock=SystemClock(), seed=5)
    settings = make_settings(
        mqtt={"broker": broker, "port": mosquitto.port if broker == "external" else free_port},
        recording={"enabled": False},
    )
    with make_service(settings, open_camera=lambda: SimulatedCamera(device, clock=SystemClock())) as running:
        eventually(lambda: is_capturing(running), "a frame")
        eventually(lambda: running.service.status().mqtt.state == "connected", "a connection")
        calibrates(settings, eventually)
        missed = "SELECT count(*) FROM planned_sample WHERE missing_reason = 'shutter'"
        eventually(lambda: running.evidence.rows(missed)[0][0] > 0, "the second in which the shutter was closed")
        monkeypatch.setattr("daemon.calibration.MIN_RECALIBRATION_INTERVAL_S", 60.0)
        assert command(settings, "calibrate") == [("refused", "too_soon")]
        assert command(settings, "fly") == [("refused", "unknown_verb")]
        device.unplug()
        eventually(lambda: running.service.status().camera.state == "lost", "the loss")
        assert command(settings, "calibrate") == [("refused", "camera_lost")]
        eventually(lambda: all_are_judged(running), "nothing waits")
        assert running.service.status().mqtt.commands["ended_done"] == 1


def test_recorded_material_has_no_shutter_to_close(
    make_settings: "MakeSettings", make_service: "MakeService", mosquitto: "Mosquitto", eventually: "Eventually"
) -> None:
    picture = Path(__file__).parents[1] / "data"
    material = next(picture.rglob("g1_*.npz"))
    settings = make_settings(
        camera={"kind": "replay", "replay": {"path": material}},
        mqtt={"broker": "external", "port": mosquitto.port},
        recording={"enabled": False},
    )
    with make_service(settings) as running:
        eventually(lambda: running.service.status().mqtt.state == "connected", "a connection")
        eventually(lambda: is_capturing(running), "a frame")
        assert command(settings, "calibrate") == [("refused", "no_shutter")]


class DeafCamera(SimulatedCamera):
    """Its control hangs or stalls: what it is asked for is never done."""

    def calibrate(self) -> None:
        """Nothing happens."""


def test_a_camera_that_does_not_calibrate_is_told_within_eight_seconds_and_capture_goes_on(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    eventually: "Eventually",
    soon: None,
) -> None:
    device = SimulatedDevice(clock=SystemClock(), seed=5)
    settings = make_settings(mqtt={"broker": "external", "port": mosquitto.port}, recording={"enabled": False})
    with make_service(settings, open_camera=lambda: DeafCamera(device, clock=SystemClock())) as running:
        eventually(lambda: is_capturing(running), "a frame")
        threading.Event().wait(1.1)  # since the start, which counts as a shutter cycle
        start_s = time.monotonic()
        assert command(settings, "calibrate") == [("accepted", None), ("failed", "timeout")]
        told_s = time.monotonic() - start_s
        assert running.service.status().camera.state == "running"
    assert told_s < 8
    print(f"a shutter that does not close: told after {told_s:.1f} s")  # noqa: T201  # the figure


class GoneCamera(SimulatedCamera):
    """It leaves the bus when it is asked to calibrate."""

    def calibrate(self) -> None:
        """See `ThermalCamera`."""
        raise CameraLostError("gone")


def test_a_camera_that_is_lost_while_it_calibrates_is_told(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    eventually: "Eventually",
    soon: None,
) -> None:
    device = SimulatedDevice(clock=SystemClock(), seed=5)
    settings = make_settings(mqtt={"broker": "external", "port": mosquitto.port}, recording={"enabled": False})
    with make_service(settings, open_camera=lambda: GoneCamera(device, clock=SystemClock())) as running:
        eventually(lambda: is_capturing(running), "a frame")
        threading.Event().wait(1.1)
        assert command(settings, "calibrate") == [("accepted", None), ("failed", "camera_lost")]


def test_the_config_is_read_again_by_command(
    make_settings: "MakeSettings", make_service: "MakeService", mosquitto: "Mosquitto", eventually: "Eventually"
) -> None:
    mqtt = {"broker": "external", "port": mosquitto.port}
    settings = make_settings(mqtt=mqtt, recording={"enabled": False})
    changed = make_settings(mqtt=mqtt, recording={"enabled": False}, alerts={"not_seen_after_s": 7})
    with make_service(settings) as running:
        eventually(lambda: running.service.status().mqtt.state == "connected", "a connection")
        running.load = lambda: changed
        assert command(settings, "reload") == [("accepted", None), ("done", None)]
        assert running.service.settings == changed

        def unreadable() -> Settings:
            raise ConfigError("config.toml: camera.knid: unknown key")

        running.load = unreadable
        (_, last) = give_command(settings.mqtt, "reload", password=None, box="box1", timeout_s=20)
        assert (last.state, last.reason) == ("failed", "config")
        assert last.message is not None
        assert "camera.knid: unknown key" in last.message
        assert running.service.settings == changed


def test_a_command_is_given_on_the_command_line(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    eventually: "Eventually",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "config.toml"

    def vivarium(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vivarium", "command", *arguments, "--config", str(config)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    config.write_text(f'[box]\ntime_zone = "UTC"\n[mqtt]\nbroker = "external"\nport = {mosquitto.port}\n')
    settings = make_settings(mqtt={"broker": "external", "port": mosquitto.port}, recording={"enabled": False})
    with make_service(settings) as running:
        eventually(lambda: running.service.status().mqtt.state == "connected", "a connection")
        code, out, _ = vivarium("reload")
        assert (code, out) == (0, "reload accepted\nreload done\n")
        code, out, _ = vivarium("stop")
        assert code == 1
        start = re.search(r"\n  start_utc_ns (\d{19}) \((.+)\)\n", out)
        assert start is not None, out
        assert datetime.fromisoformat(start[2]) == datetime.fromtimestamp(int(start[1]) // NS_PER_S, UTC)
        code, out, _ = vivarium("fly")
        assert (code, out) == (
            1,
            "fly refused: expected one of "
            + ", ".join(sorted([*ALL, *(f"set/{key}" for key in SETTABLE)]))
            + ", got fly\n",
        )
        code, _, err = vivarium("a/b")
        assert (code, "expected a verb of small letters" in err) == (2, True)
    code, _, err = vivarium("reload", "--timeout", "0.3")
    assert (code, "no result within 0.3 s; is the service running" in err) == (2, True)
    mosquitto.stop()
    code, _, err = vivarium("reload")
    assert (code, "Connection refused; is the service running?" in err) == (2, True)


def test_a_service_that_takes_no_commands_does_not_listen(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    eventually: "Eventually",
) -> None:
    settings = make_settings(
        mqtt={"broker": "external", "port": mosquitto.port, "commands": False}, recording={"enabled": False}
    )
    subscriber = subscribe(mosquitto.port)
    with make_service(settings) as running, Flood(mosquitto.port, MQTT_5) as flood:
        eventually(lambda: running.service.status().mqtt.state == "connected", "a connection")
        flood.publish(f"{COMMAND}reload", b"{}")
        flood.wait_delivered(DEADLINE_S)
        eventually(lambda: subscriber.payloads(f"{COMMAND}reload") == [b"{}"], "the command")
        assert running.service.status().mqtt.commands == {}


# Fault 16: malformed commands. What is valid is said here once more, with means of its own.

DISPOSITIONS = ("accepted", "repeated", "refused_", "dropped_")
VERBS = ("calibrate", "reload", "record", "stop", "snapshot", "set/log.level", "set/alerts.too_hot.celsius")
NOW_UTC_NS = 1_795_000_000 * NS_PER_S
FRESH = datetime.fromtimestamp(NOW_UTC_NS / NS_PER_S, UTC).isoformat()
STALE = "2020-01-01T00:00:00+00:00"

STRANGERS = (
    *("fly", "result", "", "é", "x" * 40, "Reload", "$SYS", "\U0001f400"),
    *(
        "set",
        "set/",
        "set/result",
        "set/mqtt.host",
        "set/log.level/x",
        "set/../log.level",
        "set/LOG.LEVEL",
        "set/schedule",
    ),
)
"""No verbs; some of them not even such as could be answered."""

Made = tuple[str, bytes, bool]
"""Verb, payload, retained."""


def is_valid(verb: str, payload: bytes, retained: bool, fresh: str) -> bool | None:
    """Whether something may be done; None where two readers of a time may differ."""
    if verb not in VERBS or retained or len(payload) > MOST_PAYLOAD_BYTES:
        return False
    try:
        content = json.loads(payload.decode())
    except (ValueError, RecursionError):
        return False
    if not isinstance(content, dict) or not wants(verb, content):
        return False
    request_id, issued_utc = content.get("request_id"), content.get("issued_utc")
    if request_id is not None and not (isinstance(request_id, str) and re.fullmatch(r"[!-~]{1,64}", request_id)):
        return False
    if issued_utc is None or issued_utc == fresh:
        return True
    return None if isinstance(issued_utc, str) and issued_utc != STALE else False


def wants(verb: str, content: dict[str, Any]) -> bool:
    """Whether the keys and values beside those of all commands are such as the verb wants."""
    rest = {name: value for name, value in content.items() if name not in ("request_id", "issued_utc")}
    if verb == "record":
        duration_s, rate_hz = rest.pop("duration_s", 60), rest.pop("rate_hz", None)
        return not rest and is_number(duration_s, 1, 3600) and (rate_hz is None or is_number(rate_hz, 1e-9, 25))
    if verb.startswith("set/"):
        value = rest.pop("value", None)
        if isinstance(value, str):  # half of a surrogate pair is no character
            return not rest and len(value) <= 200 and not re.search("[\ud800-\udfff]", value)
        return not rest and (isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)))
    return not rest


def is_number(value: object, least: float, most: float) -> bool:
    """Whether it is a number of this range; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def extra(dice: random.Random, verb: str) -> dict[str, Any]:
    """What a verb may be told beside what all are told: right, wrong or beside the point."""
    if verb == "record":
        many: tuple[dict[str, Any], ...] = (
            {},
            {"duration_s": dice.uniform(-10, 5000)},
            {"rate_hz": dice.choice((1, 25, 25.1, 0, -1, "1", True, None, [1]))},
            {"duration_s": 5, "rate_hz": 1.5},
            {"duration_s": anything(dice)},
        )
        return dice.choice(many)
    if verb.startswith("set/"):
        return dice.choice(({"value": "info"}, {"value": 39.5}, {"value": anything(dice)}, {}, {"values": 1}))
    return {"value": 1} if dice.random() < 0.02 else {}


def make_command(dice: random.Random, number: int, fresh: str) -> Made:
    """Something that somebody might send to a topic of commands; one in eight is a command."""
    verb = dice.choice((*VERBS * 7, *STRANGERS))
    request_id = f"r{number if dice.random() < 0.8 else number // 50}"
    valid = json.dumps({"request_id": request_id, "issued_utc": fresh, **extra(dice, verb)})
    kind = dice.randrange(12)
    if kind == 0:
        payload = bytes(LARGE_BYTES) if dice.random() < 0.02 else b"{" + b" " * dice.randrange(5000) + b"}"
    elif kind == 1:
        payload = dice.randbytes(dice.randrange(200))
    elif kind == 2:
        depth = dice.choice((3, 9, 100, 1000, 2000))
        payload = b'{"request_id":' + b"[" * depth + b"]" * dice.choice((depth, 0)) + b"}"
    elif kind == 3:
        payload = json.dumps({dice.choice(("request_id", "issued_utc", "now", "")): anything(dice)}).encode()
    elif kind == 4:
        payload = json.dumps({"request_id": "r", "issued_utc": dice.choice((STALE, "now", "", fresh[:-6]))}).encode()
    elif kind == 5:
        payload = valid.encode(dice.choice(("utf-16", "utf-32", "utf-8-sig", "cp037")))
    elif kind == 6:
        payload = json.dumps(anything(dice)).encode()
    elif kind in (7, 8):
        damaged = bytearray(valid.encode())
        for _ in range(dice.randrange(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        payload = bytes(damaged)
    elif kind == 9:
        payload = valid.encode()[: dice.randrange(len(valid))]
    else:
        payload = valid.encode()
    return verb, payload, dice.random() < 0.05


def anything(dice: random.Random, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = dice.randrange(8 if depth < 3 else 6)
    if kind == 6:
        return [anything(dice, depth + 1) for _ in range(dice.randrange(4))]
    if kind == 7:
        return {str(anything(dice, 9)): anything(dice, depth + 1) for _ in range(dice.randrange(4))}
    text = "".join(dice.choices(string.printable + "é\u2028\ud800", k=dice.randrange(90)))
    return (None, True, dice.randrange(-(10**30), 10**30), dice.uniform(-1e300, 1e300), float("nan"), text)[kind]


@pytest.mark.timeout(1800)
def test_a_hundred_thousand_malformed_commands_are_each_answered_or_counted_and_none_does_anything() -> None:
    clock, counts, dice = SimulatedClock(NOW_UTC_NS), CommandCounts(), random.Random(16)
    done: list[str | None] = []
    results: list[tuple[str, bytes]] = []

    def act(payload: CommandPayload, order: Order) -> None:
        done.append(payload.request_id)
        order.answer(Outcome("done"))

    def set_value(key: str, payload: SetPayload, order: Order) -> None:
        assert key in SETTABLE
        assert isinstance(payload.value, str | int | float | bool)
        act(payload, order)

    desk = CommandDesk(
        make_verbs(dict.fromkeys(ALL, act), set_value),
        box="box1",
        inbox=Inbox(counts),
        counts=counts,
        publish=lambda topic, payload, _correlation: results.append((topic, payload)),
        clock=clock,
    )
    states: Counter[str] = Counter()
    acted_ns: dict[tuple[str, str], int] = {}
    start_s, valid_commands, fresh = time.monotonic(), 0, FRESH
    for number in range(MALFORMED):
        if number % 100 == 0:
            fresh = datetime.fromtimestamp(clock.utc_ns() / NS_PER_S, UTC).isoformat()
        verb, payload, retained = make_command(dice, number, fresh)
        size_bytes = len(payload)
        message = IncomingMessage(
            topic=f"{COMMAND}{verb}",
            payload=payload if size_bytes <= MOST_PAYLOAD_BYTES else b"",
            size_bytes=size_bytes,
            retained=retained,
        )
        before, settled = len(done), sum(counts().values()) if number % 1000 == 0 else 0
        desk.handle(message)
        desk.settle()
        clock.advance(1 / RATE_HZ)  # as often as is answered
        valid = is_valid(verb, payload, retained, fresh)
        assert not (valid is False and len(done) > before), f"carried out: {verb} {payload[:200]!r} {retained}"
        request = (verb, done[-1] or "") if len(done) > before else ("", "")
        if request[1]:
            now_ns = clock.monotonic_ns()
            long_ago_ns = now_ns - round(REMEMBERED_S * NS_PER_S)
            assert acted_ns.get(request, long_ago_ns) <= long_ago_ns, f"carried out twice: {request}"
            acted_ns[request] = now_ns
        if number % 1000 == 0:
            assert sum(counts().values()) > settled
        if valid:
            valid_commands += 1
            known = (verb, json.loads(payload).get("request_id"))
            assert len(done) > before or known in acted_ns, f"not carried out: {verb} {payload!r}"
    elapsed_s = time.monotonic() - start_s
    for topic, payload in results:
        result = CommandResultPayload.model_validate_json(payload)
        assert topic == f"command/{result.verb}/result"
        assert result.state in ("accepted", "done") or result.message
        states[result.state] += 1
    told = counts()
    answered = told["accepted"] + told["repeated"] + sum(n for name, n in told.items() if name.startswith("refused_"))
    counted = sum(n for name, n in told.items() if name.startswith("dropped_"))
    assert answered + counted == MALFORMED
    assert states["accepted"] + states["refused"] + told["repeated"] >= answered
    assert told["accepted"] == len(done) == told["ended_done"]
    assert set(told) >= {f"refused_{why}" for why in REASONS}, told
    assert told.get("dropped_too_many", 0) == 0
    print(  # noqa: T201  # the figures
        f"malformed commands: {MALFORMED} in {elapsed_s:.1f} s, 0 crashes, {answered} answered, {counted} counted; "
        f"{valid_commands} valid ones carried out {len(done)} times, nothing else: "
        + ", ".join(f"{name} {number}" for name, number in sorted(told.items()))
    )


REASONS = ("retained", "too_large", "not_utf8", "not_json", "too_deep", "invalid", "stale", "unknown_verb")


class Flood:
    """Somebody outside who publishes much."""

    def __init__(self, port: int, protocol: MQTTProtocolVersion) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self._client.max_queued_messages_set(0)
        self._client.max_inflight_messages_set(200)
        self._port = port
        self._infos: list[paho.MQTTMessageInfo] = []

    def __enter__(self) -> "Flood":
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send at once, QoS 1."""
        self._infos.append(self._client.publish(topic, payload, qos=1, retain=retain))

    def wait_delivered(self, timeout_s: float) -> None:
        """Until the broker has all."""
        deadline_s = time.monotonic() + timeout_s
        for info in self._infos:
            info.wait_for_publish(max(deadline_s - time.monotonic(), 0.01))
            assert info.is_published()
        self._infos.clear()


@pytest.mark.timeout(1800)
def test_a_flood_of_malformed_commands_through_the_broker_stops_neither_capture_nor_a_command_after_it(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    make_proxy: "MakeProxy",
    reel: "ReelCamera",
    pacemaker: "Pacemaker",
    gaps_between: "JudgeGaps",
    eventually: "Eventually",
    soon: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    network, dice = make_proxy(mosquitto.port), random.Random(61)
    mqtt = {"broker": "external", "port": network.port}
    settings = make_settings(mqtt=mqtt, recording={"enabled": False}, schedule=SLOW_SCHEDULE)
    messages = [(verb, b"x" * LARGE_BYTES, False) for verb in VERBS for _ in range(10)]
    while len(messages) < THROUGH_THE_BROKER:
        made = make_command(dice, len(messages), datetime.now(UTC).isoformat())
        is_listened_to = made[0].count("/") == made[0].startswith("set/")  # nobody listens a level further down
        if is_listened_to and is_valid(made[0], made[1], False, "") is False:
            messages.append(made)
    dice.shuffle(messages)
    with make_service(settings, open_camera=lambda: reel) as running, Flood(mosquitto.port, MQTT_5) as flood:

        def received() -> int:
            return running.service.status().mqtt.commands.get("received", 0)

        eventually(lambda: running.service.status().mqtt.state == "connected", "a connection")
        eventually(lambda: is_capturing(running), "a frame")
        start_ns = time.monotonic_ns()
        threading.Event().wait(CONTROL_S)
        flood_ns = time.monotonic_ns()
        for verb, payload, retain in messages:
            flood.publish(f"{COMMAND}{verb}", payload, retain=retain)
        flood.wait_delivered(DEADLINE_S)
        eventually(lambda: received() == len(messages), "all of it", DEADLINE_S)
        end_ns = time.monotonic_ns()
        for verb in VERBS:  # valid, but for ever
            flood.publish(f"{COMMAND}{verb}", b"{}", retain=True)
        eventually(lambda: received() == len(messages) + len(VERBS), "the retained ones")
        before = received()
        network.cut()
        eventually(lambda: received() >= before + len(VERBS), "the retained ones once more", DEADLINE_S)
        eventually(lambda: all_are_judged(running), "nothing waits")
        counts = running.service.status().mqtt.commands
        assert reel.calibrations == 0
        assert counts.get("accepted", 0) == 0
        calibrates(settings, eventually)
        assert reel.calibrations >= 1
        assert running.service.status().camera.state == "running"
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    control = gaps_between(reel.captured_ns, pacemaker.stalls, start_ns, flood_ns)
    flooded = gaps_between(reel.captured_ns, pacemaker.stalls, flood_ns, end_ns)
    print(  # noqa: T201  # the figures
        f"{len(messages)} malformed commands through the broker in {(end_ns - flood_ns) / NS_PER_S:.1f} s: 0 crashes, "
        f"0 carried out, {counts}; longest time between frames {flooded}, before {control}"
    )
    assert flooded.held == 0 or control.held > 0, (flooded, control)
    assert flooded.longest_held_s < BLOCKED_S
