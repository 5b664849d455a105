"""Acknowledging and maintenance: carried out by the worker, stored before they are answered, known after a restart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest
from fastapi import FastAPI

from daemon.event_commands import Acknowledgement, MaintenanceChange
from daemon.events import Event, EventKind, EventState, Severity
from daemon.maintenance import SCHEDULE
from daemon.minute_series import MINUTE_NS
from daemon.minute_value import MinuteValue
from daemon.open_events import open_now
from daemon.order import Order, Outcome
from daemon.settings import parse_settings
from daemon.status import Status
from daemon.store.repository import open_store
from daemon.web.api import create_api
from daemon.web.server import WebServer
from daemon.worker import Worker
from drivers.clock import NS_PER_S
from tests.databases import ON_BOTH
from tests.worker_bench import WorkerBench, frame_of

START_UTC_NS = 1_795_000_000 * NS_PER_S // MINUTE_NS * MINUTE_NS
CONFIG = """
[box]
time_zone = "UTC"
[[maintenance]]
reason = "weighing"
at = "12:00"
minutes = 10
"""


class Bench(WorkerBench):
    """`again` is a restart."""

    def again(self) -> None:
        """Start anew with what is stored."""
        self.start(self.settings)

    def work(self, minutes: float = 1 / 60) -> None:
        """Let time pass, and do what is due."""
        self.clock.advance(minutes * 60)
        self.worker.tick()
        self.worker.write()

    def acknowledge(self, event_id: str, by: str = "Ana") -> Outcome | None:
        """What becomes of the command."""
        order = Order()
        self.commands.acknowledge(Acknowledgement(event_id=event_id, by=by), order)
        assert order.outcome is None
        self.work()
        return order.outcome

    def maintain(self, **words: object) -> Outcome | None:
        """What becomes of the command."""
        order = Order()
        self.commands.maintenance(MaintenanceChange.model_validate({"by": "Ana", **words}), order)
        self.work()
        return order.outcome

    def heat(self, minutes: int) -> None:
        """A cage that is too hot, from now on for so long."""
        for _ in range(minutes):
            begin = self.clock.utc_ns() // MINUTE_NS * MINUTE_NS
            hot = MinuteValue(
                measure="ambient_celsius",
                minute_utc_ns=begin,
                animal=None,
                value=32,
                uncertainty=None,
                coverage=1,
                samples=60,
            )
            self.clock.advance(60)
            self.worker.minutes_over([hot])
            self.work(0)

    def told(self) -> list[tuple[EventKind, EventState]]:
        """All that was told, oldest first."""
        return [(event.kind, event.state) for event in reversed(self.store.recent_events(100))]


@contextmanager
def page(api: FastAPI) -> Iterator[httpx.Client]:
    """A browser at the page."""
    with (
        WebServer(api, host="127.0.0.1", port=0) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client,
    ):
        yield client


@pytest.fixture
def bench(database_url: str, tmp_path: Path, golden: Path) -> Iterator[Bench]:
    settings = parse_settings(CONFIG, origin="test").resolved(tmp_path)
    with open_store(database_url, outbox_limit=1000) as store:
        yield Bench(store, settings, frame_of(golden), utc_ns=START_UTC_NS)


@ON_BOTH
def test_a_hot_cage_is_told_with_its_plot_and_acknowledged_once_by_name(bench: Bench) -> None:
    bench.heat(40)
    [opened] = bench.store.open_events()
    assert opened.kind is EventKind.CAGE_TOO_HOT
    assert (bench.settings.box.data_dir / str(opened.data["plot"])).read_bytes().startswith(b"\x89PNG")
    assert bench.acknowledge(opened.event_id) == Outcome("done")
    again = bench.acknowledge(opened.event_id, by="Rui")
    assert again is not None and (again.state, again.reason) == ("refused", "acknowledged")
    unknown = bench.acknowledge("f" * 32)
    assert unknown is not None and unknown.reason == "not_open"
    [found] = open_now(bench.store.event_histories())
    assert (found.acknowledged_by, found.opened) == ("Ana", opened)
    assert bench.store.outbox_depth() == 2


@ON_BOTH
def test_what_is_acknowledged_does_not_escalate_after_a_restart_either(bench: Bench) -> None:
    bench.heat(40)
    [opened] = bench.store.open_events()
    bench.acknowledge(opened.event_id)
    bench.again()
    bench.heat(120)
    assert (EventKind.CAGE_TOO_HOT, EventState.ACKNOWLEDGED) in bench.told()
    severities = {event.severity for event in bench.store.recent_events(100)}
    assert Severity.EMERGENCY not in severities
    assert [event.event_id for event in bench.store.open_events()] == [opened.event_id]


def test_maintenance_begins_ends_and_is_stored(bench: Bench) -> None:
    assert bench.maintain(action="begin", reason="dosing", minutes=30) == Outcome("done")
    busy = bench.maintain(action="begin", reason="other")
    assert busy is not None and (busy.state, busy.reason) == ("refused", "going_on")
    bench.heat(20)
    assert bench.watching.is_maintenance(bench.clock.utc_ns())
    assert bench.maintain(action="end") == Outcome("done")
    none = bench.maintain(action="end")
    assert none is not None and none.reason == "none"
    [stretch] = bench.store.maintenance_between(0, bench.clock.utc_ns())
    assert (stretch.reason, stretch.by) == ("dosing", "Ana")
    assert (stretch.end_utc_ns - stretch.start_utc_ns) // MINUTE_NS == 20
    assert bench.told() == [
        (EventKind.MAINTENANCE, EventState.OPENED),
        (EventKind.MAINTENANCE, EventState.CLOSED),
    ]


def test_maintenance_goes_on_over_a_restart_and_ends_by_itself(bench: Bench) -> None:
    bench.maintain(action="begin", reason="cage_change", minutes=5)
    bench.again()
    assert [each.reason for each in bench.watching.maintenance] == ["cage_change"]
    bench.work(6)
    assert bench.watching.maintenance == ()
    assert bench.store.open_events() == []


def test_planned_maintenance_begins_once_and_not_again_when_it_was_ended_early(bench: Bench) -> None:
    noon_ns = (START_UTC_NS // (86_400 * NS_PER_S) * 86_400 + 43_200 * NS_PER_S // NS_PER_S) * NS_PER_S
    while noon_ns < bench.clock.utc_ns():
        noon_ns += 86_400 * NS_PER_S
    bench.clock.advance((noon_ns - bench.clock.utc_ns()) / NS_PER_S)
    bench.work(1)
    assert [(each.reason, each.by) for each in bench.watching.maintenance] == [("weighing", SCHEDULE)]
    bench.maintain(action="end")
    bench.again()
    bench.work(1)
    assert bench.watching.maintenance == ()
    assert len(bench.store.maintenance_between(0, bench.clock.utc_ns())) == 1


def test_the_page_carries_out_commands_and_says_why_not(bench: Bench) -> None:
    def do_at_once(action: object) -> None:
        Worker.soon(bench.worker, action)  # type: ignore[arg-type]  # whatever the commands hand over
        bench.work()

    bench.worker.soon = do_at_once  # type: ignore[method-assign]  # no thread of the worker runs here
    api = create_api(lambda: cast(Status, None), lambda: None, lambda _seq, _limit: [], commands=bench.commands)
    with page(api) as client:
        begun = client.post("/api/maintenance", json={"action": "begin", "by": "Ana", "reason": "dosing"})
        assert (begun.status_code, begun.json()["state"]) == (200, "done")
        refused = client.post("/api/acknowledge", json={"event_id": "f" * 32, "by": "Ana"})
        assert (refused.status_code, refused.json()["reason"]) == (409, "not_open")
        assert client.post("/api/maintenance", json={"action": "begin", "by": "Ana"}).status_code == 422
        form = client.post(
            "/api/maintenance", content='{"action": "end", "by": "Ana"}', headers={"Content-Type": "text/plain"}
        )
        assert form.status_code in (415, 422)
        assert client.get(f"/api/evidence/{'f' * 32}/plot").status_code == 404
    assert bench.watching.maintenance


def test_without_commands_the_page_only_shows() -> None:
    with page(create_api(lambda: cast(Status, None), lambda: None, lambda _seq, _limit: [])) as client:
        assert client.post("/api/maintenance", json={"action": "end", "by": "Ana"}).status_code == 404


def test_an_acknowledgement_of_an_event_that_closed_is_passed_over() -> None:
    opened = Event(kind=EventKind.FEVER, state=EventState.OPENED, severity=Severity.ALERT, at_utc_ns=1)
    late = Event(
        kind=EventKind.FEVER,
        state=EventState.ACKNOWLEDGED,
        severity=Severity.ALERT,
        at_utc_ns=2,
        opened_event_id="another",
    )
    assert [each.acknowledged_by for each in open_now([late, opened, late])] == [None]
