"""The status page and the JSON behind it, also as a browser shows them."""

import asyncio
import itertools
import json
import logging
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import cv2
import httpx
import numpy as np
import pytest

from daemon.events import Event, EventKind, EventState, NumberedEvent, Severity
from daemon.live import LiveView
from daemon.messaging.payloads import event_message
from daemon.pipeline import Pipeline
from daemon.status import (
    AnimalStatus,
    BlockStatus,
    CameraStatus,
    MaintenanceStatus,
    MqttStatus,
    Reason,
    ReasonCode,
    Status,
    StoreStatus,
    Verdict,
)
from daemon.vision.classical import ClassicalSegmenter
from daemon.web import server
from daemon.web.api import STATUS_AGE_S, SharedStatus, create_api
from daemon.web.server import MOST_CONNECTIONS, MOST_TOLD, WebServer
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import StoreError
from drivers.frame import ThermalFrame
from drivers.simulated import SimulatedCamera

NEXT_START_UTC_NS = 1_795_430_640 * NS_PER_S
"""23 November 2026, 10:44 UTC, a Monday."""
BROWSER_S = 60
DEADLINE_S = 15.0


def a_status(**changes: Any) -> Status:
    """A box in the middle of a block, with these parts changed."""
    values: dict[str, Any] = {
        "box": "box1",
        "version": "1.2.3",
        "verdict": Verdict.FINE,
        "reasons": (),
        "uptime_s": 5400.0,
        "camera": CameraStatus(
            state="running",
            kind="simulated",
            serial="SIM00001",
            frames_per_second=25.0,
            frames=100,
            last_good_age_s=0.04,
            rejected={"torn": 3},
        ),
        "block": BlockStatus(
            key="2026-11-23/night-1",
            accounted=158,
            planned=1800,
            next_start_utc_ns=NEXT_START_UTC_NS,
            captured_24h=157,
            expected_24h=158,
        ),
        "animals": (AnimalStatus(animal=1, age_s=0.4, head_celsius=32.55, body_celsius=30.9, tail_celsius=None),),
        "background_celsius": 22.84,
        "store": StoreStatus(
            frames=12345, part_observations=37035, events=2, outbox=7, waiting=0, lost=0, write_error=None
        ),
        "mqtt": MqttStatus(state="connected", broker="127.0.0.1:1883", protocol="5", published=9, last_error=None),
        "recording_error": None,
        "disk_free_bytes": 80_000_000_000,
        "open_alerts": (),
    }
    return Status(**(values | changes))


ALARMING = a_status(
    verdict=Verdict.ACT,
    in_groups=2,
    unnamed=1,
    reasons=(
        Reason(code="open_alert", detail="animal_too_hot (animal 1)"),
        Reason(code="open_alert", detail="animal_too_cold (animal 2)"),
        Reason(code="open_alert", detail="something_new"),
        Reason(code="late_frame", detail="12"),
        Reason(code="observations_lost", detail="4"),
        Reason(code="not_recorded", detail="<b>disk full</b>"),
        Reason(code="low_disk", detail="1.5"),
        Reason(code="no_broker", detail=""),
        Reason(code="maintenance", detail="other"),
    ),
    animal_names={2: "Ana"},
    maintenance=(
        MaintenanceStatus(reason="other", by="João", start_utc_ns=NEXT_START_UTC_NS, end_utc_ns=NEXT_START_UTC_NS),
    ),
)


@pytest.fixture(scope="module")
def frame() -> ThermalFrame:
    """A simulated rat."""
    with SimulatedCamera.create(clock=SimulatedClock(1_790_046_000 * NS_PER_S), seed=3) as camera:
        return camera.read(1)


@pytest.fixture
def live(frame: ThermalFrame) -> LiveView:
    """Shows the rat."""
    view = LiveView()
    view.show(frame, Pipeline(ClassicalSegmenter(animals=1, min_area_px=150), animals=1, mm_per_px=None).process(frame))
    return view


EventsAfter = Callable[[int, int], Sequence[NumberedEvent]]


def no_events(_seq: int, _limit: int) -> Sequence[NumberedEvent]:
    """Nothing has happened."""
    return ()


class Client:
    """Asks the application without a network."""

    def __init__(
        self, status: Callable[[], Status], picture: Callable[[], bytes | None], events: EventsAfter = no_events
    ) -> None:
        self._transport = httpx.ASGITransport(create_api(status, picture, events))

    def get(self, path: str, method: str = "GET") -> httpx.Response:
        """One answer."""

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://box1") as client:
                return await client.request(method, path)

        return asyncio.run(ask())


def client_of(status: Callable[[], Status], picture: Callable[[], bytes | None] = lambda: None) -> Client:
    """Asks an application that shows this."""
    return Client(status, picture)


def test_the_status_is_served_as_json() -> None:
    answer = client_of(a_status).get("/api/status")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert Status.model_validate_json(answer.text) == a_status()
    assert answer.json()["animals"][0]["tail_celsius"] is None


def test_the_page_is_served_whole_and_without_help_from_elsewhere() -> None:
    answer = client_of(a_status).get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.rstrip().endswith("</html>")
    assert "http://" not in answer.text
    assert "https://" not in answer.text


@pytest.mark.parametrize("code", get_args(ReasonCode))
def test_the_page_has_a_sentence_for_every_reason_in_both_languages(code: str) -> None:
    english, _, portuguese = client_of(a_status).get("/").text.partition("  pt: {")
    assert f"{code}: " in english
    assert f"{code}: " in portuguese


def test_there_is_no_picture_before_the_first_frame_and_then_a_png(live: LiveView) -> None:
    empty = client_of(a_status, LiveView().picture).get("/api/live.png")
    assert (empty.status_code, empty.content) == (204, b"")
    answer = client_of(a_status, live.picture).get("/api/live.png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["cache-control"] == "no-store"
    picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (576, 768, 3)


def test_a_picture_is_made_once_a_frame(live: LiveView) -> None:
    first = live.picture()
    assert live.picture() is first


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.FINE, 200), (Verdict.LOOK, 200), (Verdict.ACT, 503)])
def test_a_monitor_is_told_when_somebody_has_to_act(verdict: Verdict, code: int) -> None:
    answer = client_of(lambda: a_status(verdict=verdict)).get("/healthz")
    assert (answer.status_code, answer.json()) == (code, {"verdict": verdict.value})


@pytest.mark.parametrize("path", ["/api/status", "/healthz"])
def test_a_database_that_cannot_be_read_is_said_and_not_a_crash(path: str) -> None:
    def unreadable() -> Status:
        raise StoreError("cannot read the counters: disk I/O error")

    answer = client_of(unreadable).get(path)
    assert (answer.status_code, answer.json()) == (503, {"error": "cannot read the counters: disk I/O error"})


@pytest.mark.parametrize("path", ["/api/nothing", "/docs", "/../config.toml"])
def test_there_is_nothing_else(path: str) -> None:
    assert client_of(a_status).get(path).status_code == 404


def test_the_description_of_the_api_names_what_there_is() -> None:
    paths = client_of(a_status).get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/api/status",
        "/api/live.png",
        "/api/events",
        "/api/evidence/{event_id}/{name}",
        "/healthz",
    }
    assert all("503" in path["get"]["responses"] for path in paths.values())


def ten_events(seq: int, limit: int) -> Sequence[NumberedEvent]:
    """Events 1 to 10."""
    return [
        NumberedEvent(
            event=Event(
                kind=EventKind.CAMERA_LOST,
                state=EventState.OPENED,
                severity=Severity.ALERT,
                at_utc_ns=NEXT_START_UTC_NS + number,
                event_id=f"e{number}",
            ),
            seq=number,
            boot_id="b1",
        )
        for number in range(seq + 1, 11)
    ][:limit]


@pytest.mark.parametrize(
    ("query", "seqs", "more"),
    [
        pytest.param("", list(range(1, 11)), False, id="all"),
        pytest.param("?after=7", [8, 9, 10], False, id="after"),
        pytest.param("?after=2&limit=3", [3, 4, 5], True, id="part"),
        pytest.param("?after=7&limit=3", [8, 9, 10], False, id="the last part"),
        pytest.param("?after=10", [], False, id="none"),
        pytest.param(f"?after={2**63 - 1}", [], False, id="far beyond"),
    ],
)
def test_missed_events_are_found_by_number_as_they_were_published(query: str, seqs: list[int], more: bool) -> None:
    answer = Client(a_status, lambda: None, ten_events).get(f"/api/events{query}")
    assert answer.status_code == 200
    assert [event["seq"] for event in answer.json()["events"]] == seqs
    assert answer.json()["more"] is more
    for event, numbered in zip(answer.json()["events"], ten_events(seqs[0] - 1, 10) if seqs else (), strict=False):
        assert event == json.loads(event_message(numbered).payload)


@pytest.mark.parametrize(
    "query", ["?after=-1", f"?after={2**63}", "?after=x", "?limit=0", "?limit=1001", "?after=", "?after=1.5"]
)
def test_a_number_that_is_none_is_refused(query: str) -> None:
    answer = client_of(a_status).get(f"/api/events{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "query"


@pytest.mark.parametrize("path", ["/api/status", "/api/live.png", "/api/events", "/healthz", "/"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed_here(path: str, method: str) -> None:
    answer = client_of(a_status).get(path, method)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_a_status_is_read_once_for_all_who_ask_at_a_time() -> None:
    clock, reads = SimulatedClock(NEXT_START_UTC_NS), itertools.count()
    shared = SharedStatus(lambda: a_status(uptime_s=next(reads)), clock)
    assert [shared().uptime_s for _ in range(3)] == [0, 0, 0]
    clock.wait(STATUS_AGE_S + 0.01)
    assert [shared().uptime_s for _ in range(3)] == [1, 1, 1]


def test_a_status_that_could_not_be_read_is_read_again() -> None:
    answers: list[Callable[[], Status]] = [a_status, a_status]

    def unreadable() -> Status:
        raise StoreError("disk I/O error")

    answers.append(unreadable)
    clock = SimulatedClock(NEXT_START_UTC_NS)
    shared = SharedStatus(lambda: answers.pop()(), clock)
    with pytest.raises(StoreError):
        shared()
    assert shared() == a_status()


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


class Caller:
    """A plain connection to the server."""

    def __init__(self, port: int, *, window_bytes: int | None = None) -> None:
        self._socket = socket.socket()
        if window_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        self._socket.settimeout(DEADLINE_S)
        self._socket.connect(("127.0.0.1", port))

    def ask(self, path: str) -> None:
        """Send a request; the answer is not read."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: box1\r\n\r\n".encode())

    def begin_to_ask(self) -> None:
        """Send half a request."""
        self._socket.sendall(b"GET /healthz HT")

    def hear(self) -> bytes:
        """One whole answer; empty when it was hung up."""
        heard = b""
        while not _is_whole(heard):
            try:
                more = self._socket.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                return b""
            heard += more
        return heard

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@pytest.fixture
def call(live: LiveView) -> Iterator[Callable[..., Caller]]:
    """Connects to a server that waits only a second for who takes nothing."""
    server = WebServer(create_api(a_status, live.picture, no_events), host="127.0.0.1", port=0, stalled_s=1)
    with server, ExitStack() as callers:

        def make(**options: Any) -> Caller:
            caller = Caller(server.port, **options)
            callers.callback(caller.close)
            return caller

        yield make


def test_who_comes_when_all_connections_are_taken_is_told_and_served_later(call: Callable[..., Caller]) -> None:
    callers = [call() for _ in range(MOST_CONNECTIONS)]
    for caller in callers:  # each is served, so each is counted
        caller.ask("/healthz")
        assert caller.hear().startswith(b"HTTP/1.1 200")
    late = call()
    late.ask("/api/status")
    answer = late.hear()
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 5" in answer
    assert b"100 connections are open" in answer
    assert late.hear() == b""
    callers[1].ask("/healthz")
    assert callers[1].hear().startswith(b"HTTP/1.1 200")
    callers[0].close()
    deadline_s = time.monotonic() + DEADLINE_S
    while not answer.startswith(b"HTTP/1.1 200"):  # until the server has seen the end of that connection
        assert time.monotonic() < deadline_s
        again = call()
        again.ask("/healthz")
        answer = again.hear()


def test_beyond_that_the_server_hangs_up(call: Callable[..., Caller]) -> None:
    callers = [call() for _ in range(MOST_CONNECTIONS + MOST_TOLD + 1)]
    assert callers[-1].hear() == b""
    for caller, answer in ((callers[0], b"HTTP/1.1 200"), (callers[-2], b"HTTP/1.1 503")):
        caller.ask("/healthz")
        assert caller.hear().startswith(answer)


def test_who_asks_nothing_is_hung_up_on(call: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SILENT_S", 0.2)
    silent, asking = call(), call()
    asking.ask("/healthz")
    assert silent.hear() == b""
    assert asking.hear().startswith(b"HTTP/1.1 200")
    asking.ask("/healthz")
    assert asking.hear().startswith(b"HTTP/1.1 200")


def test_who_stops_in_the_middle_of_a_second_question_is_hung_up_on(
    call: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SILENT_S", 0.2)
    caller = call()
    caller.ask("/healthz")
    assert caller.hear().startswith(b"HTTP/1.1 200")
    caller.begin_to_ask()
    assert caller.hear() == b""


def test_who_takes_nothing_of_the_pictures_is_hung_up_on(call: Callable[..., Caller]) -> None:
    """More pictures than the buffers of the kernel hold are asked for, and none is read."""
    slow = call(window_bytes=4096)
    start_s = time.monotonic()
    with pytest.raises((ConnectionResetError, BrokenPipeError, TimeoutError)):
        while time.monotonic() - start_s < DEADLINE_S:
            slow.ask("/api/live.png")
            threading.Event().wait(0.01)
    print(f"a viewer who reads nothing was left after {time.monotonic() - start_s:.1f} s")  # noqa: T201


@pytest.fixture
def served(live: LiveView) -> Iterator[tuple[str, list[Status]]]:
    """A real server that shows the last of these states; its address."""
    states = [a_status()]
    with WebServer(create_api(lambda: states[-1], live.picture, no_events), host="127.0.0.1", port=0) as server:
        yield f"http://127.0.0.1:{server.port}/", states


def test_the_server_listens_from_enter_to_exit(live: LiveView) -> None:
    with WebServer(create_api(a_status, live.picture, no_events), host="127.0.0.1", port=0) as server:
        port = server.port
        assert port > 0
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status") as answer:
            assert json.load(answer)["box"] == "box1"
        assert any(thread.name == "web" for thread in threading.enumerate())
    assert not any(thread.name == "web" for thread in threading.enumerate())
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/")
    with WebServer(create_api(a_status, live.picture, no_events), host="127.0.0.1", port=port):
        pass  # free again


def test_a_port_that_is_taken_is_named_once_and_tried_until_it_is_free(
    live: LiveView, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, server.__name__)
    api = create_api(a_status, live.picture, no_events)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        why = (
            f"web.port: cannot listen on 127.0.0.1:{port}: Address already in use; "
            "stop the other program or choose another port"
        )
        with WebServer(api, host="127.0.0.1", port=port, retry_s=0.01) as waiting:
            threading.Event().wait(0.1)  # some more attempts
            assert (waiting.why_none, waiting.alive) == (why, True)
            assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
                ("ERROR", f"there is no status page, all else goes on: {why}; tried every 0.01 s")
            ]
            other.close()
            deadline_s = time.monotonic() + DEADLINE_S
            while waiting.why_none is not None:
                assert time.monotonic() < deadline_s
                threading.Event().wait(0.01)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=DEADLINE_S) as answer:
                assert json.load(answer)["box"] == "box1"
    assert [each.getMessage() for each in caplog.records[1:]] == [f"status page at http://127.0.0.1:{port}/"]


def test_who_waits_for_a_port_ends_at_once_when_asked_to(live: LiveView) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        waiting = WebServer(
            create_api(a_status, live.picture, no_events), host="127.0.0.1", port=other.getsockname()[1]
        )
        start_s = time.monotonic()
        with waiting:
            pass
        assert not waiting.alive
        assert time.monotonic() - start_s < server.RETRY_S / 2


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Opens a page in a browser without a window."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")

    def run(url: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2500", *options, url,
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, timeout=BROWSER_S, check=True)

    return run


def test_a_browser_shows_animal_block_and_storage(
    served: tuple[str, list[Status]], browse: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    shown = browse(served[0], "--accept-lang=en-US", "--dump-dom").stdout.decode()
    for text in (
        'class="fine"', "Fine", "0 s ago", "32.6 °C", "30.9 °C", "22.8 °C", "night-1: 158\xa0/\xa01800", "10:44",
        "157\xa0/\xa0158 (99.4 %)", "12,345", "connected · 127.0.0.1:1883", "refused: torn", "80.0 GB",
        "box1 · Strong Vivarium 1.2.3 · up for 1.5 h", 'alt="newest frame with outlined parts"',
    ):  # fmt: skip
        assert text.replace("\xa0", "&nbsp;") in shown
    assert "undefined" not in shown[: shown.index("<script>")]
    assert '<div id="maintenance" role="status" hidden=""></div>' in shown


def test_a_browser_says_in_portuguese_what_has_to_be_done(
    served: tuple[str, list[Status]], browse: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    url, states = served
    states.append(ALARMING)
    shown = browse(url, "--accept-lang=pt-BR", "--dump-dom").stdout.decode()
    for text in (
        '<html lang="pt-BR">', 'class="act"', "Agir", "o animal 1 está quente demais", "something_new",
        "o animal Ana (2) está frio demais",
        "o último quadro bom tem 12 s", "4 observações não puderam ser gravadas",
        "nada está sendo gravado: &lt;b&gt;disk full&lt;/b&gt;", "apenas 1.5 GB de disco livres",
        "o broker não responde", "cabeça", "32,6 °C", "nenhuma regra é julgada: outro trabalho",
        "por João: outro trabalho. O que se mede agora não entra", "em grupo, sem distinção", "não se sabe qual",
    ):  # fmt: skip
        assert text in shown


def test_the_language_can_be_chosen_on_the_page(
    served: tuple[str, list[Status]], browse: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    shown = browse(f"{served[0]}?lang=pt", "--accept-lang=en-US", "--dump-dom").stdout.decode()
    assert "Tudo bem" in shown
    assert '<a href="?lang=en">English</a>' in shown


@pytest.mark.parametrize(
    ("width", "height"), [pytest.param(400, 900, id="phone"), pytest.param(1000, 768, id="desktop")]
)
def test_the_page_has_its_colours_and_the_picture_at_each_width(
    width: int,
    height: int,
    served: tuple[str, list[Status]],
    browse: Callable[..., subprocess.CompletedProcess[bytes]],
    tmp_path: Path,
) -> None:
    file = tmp_path / "shot.png"
    browse(served[0], f"--window-size={width},{height}", f"--screenshot={file}")
    picture = cv2.imread(str(file))
    assert picture is not None
    assert picture.shape == (height, width, 3)
    blue, green, red = (picture[30:60, width // 2].mean(axis=0)).tolist()
    assert green > red + 50, "the verdict is green"
    assert green > blue + 30
    rat = (picture[..., 2] > 200) & (picture[..., 1] > 100) & (picture[..., 0] < 100)  # orange
    assert rat.mean() > 0.003
