"""The API under fuzz, under many clients and under slow ones: right answers, bounded memory, and capture goes on."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.events import Event, EventKind, EventState, Severity
from daemon.messaging.payloads import event_message

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.faults.conftest import Eventually, JudgeGaps, MakeService, MakeSettings, RunningService
    from tests.faults.timing import Gaps, OutsidePacemaker, ReelCamera

FUZZED = int(os.environ.get("VIVARIUM_API_EXAMPLES", "100"))
"""Generated requests for each operation and phase."""
FUZZ_TIMEOUT_S = 1500


def begin_with_events(running: "RunningService", eventually: "Eventually") -> None:
    """A picture and some events are there."""
    eventually(lambda: running.service.live.picture() is not None, "a picture")
    (run_id,) = running.evidence.rows("SELECT max(id) FROM run")[0]
    events = [
        Event(
            kind=EventKind.CAMERA_FOUND,
            state=EventState.OCCURRED,
            severity=Severity.NOTICE,
            at_utc_ns=number,
            data={"number": number, "text": "ü", "nothing": None, "share": 0.5, "sure": True},
        )
        for number in range(300)
    ]
    running.service.store.add([], run_id=run_id, camera_id=None, events=events, tell=event_message)


@pytest.mark.timeout(1800)
def test_the_api_answers_as_it_describes_itself_whatever_it_is_asked(
    make_settings: "MakeSettings", make_service: "MakeService", reel: "ReelCamera", eventually: "Eventually"
) -> None:
    settings = make_settings(recording={"enabled": False}, web={"port": 0})
    with make_service(settings, open_camera=lambda: reel) as running:
        begin_with_events(running, eventually)
        url = f"http://127.0.0.1:{running.service.web_port}/openapi.json"
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", url, "--checks", "all", "--max-examples", str(FUZZED),
                "--phases", "examples,coverage,fuzzing", "--mode", "all", "--seed", "17", "--no-color",
                "--continue-on-failure",
            ],
            capture_output=True,
            text=True,
            timeout=FUZZ_TIMEOUT_S,
            cwd=running.evidence.data_dir,
        )  # fmt: skip
        newest = running.evidence.newest_frame()
        eventually(lambda: running.evidence.newest_frame() > newest, "rows go on")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    cases = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert cases is not None
    assert tested is not None
    print(f"API fuzz: {cases[1]} requests to {tested[1]} operations, 0 server errors, 0 schema breaks")  # noqa: T201
    assert cases[1] == cases[2]
    assert tested[1] == "7"


CLIENTS = 50
SLOW = 10
PERIOD_S = 0.5
ROUNDS = 3
ROUND_S = 5.0
CONTROL_S = 3.0
BLOCKED_S = 1.0
GROWTH_MB = 80.0
"""Fifty connections, ten pictures that nobody takes, four threads that make answers: 30 MB as measured."""


class Visitors:
    """Clients in a process of their own, so that they take nothing of ours but answers."""

    def __init__(self, port: int, *, slow: int) -> None:
        script = Path(__file__).with_name("visitors.py")
        self._process = subprocess.Popen(
            [sys.executable, script, str(port), str(CLIENTS), str(PERIOD_S), str(slow)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def end(self) -> dict[str, int]:
        """How many answers came, by their status."""
        out, _ = self._process.communicate(timeout=60)
        answers: dict[str, int] = json.loads(out)
        return answers

    def close(self) -> None:
        """End them also when the test has failed."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def deaf_subscriber() -> Iterator[Callable[[int], socket.socket]]:
    """Somebody who subscribes to everything and reads nothing."""
    with ExitStack() as stack:

        def begin(port: int) -> socket.socket:
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port))
            deaf.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04deaf")  # CONNECT, MQTT 3.1.1, clean session
            deaf.sendall(b"\x82\x0f\x00\x01\x00\x0avivarium/#\x00")  # SUBSCRIBE, QoS 0
            return deaf

        yield begin


def resident_mb() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2


@pytest.mark.timeout(180)
def test_fifty_clients_slow_viewers_and_a_deaf_subscriber_delay_no_frame_and_take_bounded_memory(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    mosquitto: "Mosquitto",
    deaf_subscriber: Callable[[int], socket.socket],
    reel: "ReelCamera",
    outside_pacemaker: "OutsidePacemaker",
    gaps_between: "JudgeGaps",
    eventually: "Eventually",
) -> None:
    """While all of them are there, the best of a few rounds keeps to 0.1 s; every round keeps to a second.

    That says nothing finer about their arrival, which falls into the first round alone: 0.28 s and 0.32 s were seen
    there, in two of seven runs on a machine with four times more to do than processors.
    """
    settings = make_settings(
        web={"port": 0}, mqtt={"broker": "external", "port": mosquitto.port}, recording={"enabled": False}
    )
    pause = threading.Event()

    def watch(duration_s: float) -> "Gaps":
        start_ns = time.monotonic_ns()
        pause.wait(duration_s)
        return gaps_between(reel.captured_ns, outside_pacemaker.stalls, start_ns, time.monotonic_ns())

    with make_service(settings, open_camera=lambda: reel) as running, ExitStack() as stack:
        begin_with_events(running, eventually)
        control, before_mb = watch(CONTROL_S), resident_mb()
        deaf_subscriber(mosquitto.port)
        port = running.service.web_port
        assert port is not None
        visitors = Visitors(port, slow=SLOW)
        stack.callback(visitors.close)
        rounds: list[Gaps] = []
        while len(rounds) < ROUNDS and not any(each.held == 0 for each in rounds):
            rounds.append(watch(ROUND_S))
        grown_mb = resident_mb() - before_mb
        assert running.service.status().mqtt.state == "connected"
        answers = visitors.end()
    best = min(rounds, key=lambda each: each.longest_held_s)
    print(  # noqa: T201  # the figures
        f"{CLIENTS} clients of the API ({sum(answers.values())} answers), {SLOW} viewers and a subscriber who read "
        f"nothing: longest time between frames {', '.join(map(str, rounds))}, without them {control}; "
        f"memory +{grown_mb:.0f} MB"
    )
    assert set(answers) == {"200"}, answers
    assert best.held == 0 or control.held > 0, (rounds, control)
    assert max(each.longest_held_s for each in rounds) < BLOCKED_S, rounds
    assert grown_mb < GROWTH_MB
