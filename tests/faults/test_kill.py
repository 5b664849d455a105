"""Kill -9 in a block, twenty times: what was committed stays, what happened is told, every moment is accounted for."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from drivers.clock import NS_PER_S, Clock

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.faults.conftest import Eventually, Evidence, MakeDaemon, MakeService, MakeSettings
    from tests.test_daemon.conftest import FaultProxy, Subscriber

KILLS = int(os.environ.get("VIVARIUM_KILLS", "20"))
"""200 in the night."""
LOST_EACH = 2
"""Frames that a kill may cost."""
PAUSE_S = (0.2, 1.5)
"""Range of the time between the first row of a start and the next kill."""
BACK_WITHIN_S = 10.0
BLOCK_S = 45.0 * KILLS


def heard_ids(subscriber: "Subscriber") -> list[str]:
    return [json.loads(payload)["event_id"] for payload in subscriber.payloads("vivarium/box1/event/")]


def committed(evidence: "Evidence") -> tuple[set[object], ...]:
    """What another process sees of the rows."""
    return tuple(
        set(evidence.rows(statement))
        for statement in (
            "SELECT id, captured_utc_ns FROM frame",
            "SELECT frame_id, animal, part FROM part_observation",
            "SELECT planned_utc_ns, frame_id FROM planned_sample WHERE frame_id IS NOT NULL",
            "SELECT event_id FROM event",
        )
    )


@pytest.mark.timeout(15 * KILLS)
def test_kills_in_a_block_lose_no_row_and_no_event(
    make_settings: "MakeSettings",
    make_daemon: "MakeDaemon",
    make_service: "MakeService",
    make_clock: Callable[[float], Clock],
    mosquitto: "Mosquitto",
    make_proxy: "Callable[[int], FaultProxy]",
    subscribe: "Callable[[int], Subscriber]",
    eventually: "Eventually",
) -> None:
    network = make_proxy(mosquitto.port)
    settings = make_settings(block_s=BLOCK_S, mqtt={"broker": "external", "port": network.port})
    subscriber = subscribe(mosquitto.port)
    daemon = make_daemon(settings)
    evidence, chance, pause = daemon.evidence, random.Random(20), threading.Event()
    before: tuple[set[object], ...] = (set(), set(), set(), set())
    back_s: list[float] = []
    for kill in range(KILLS + 1):
        # Every other time the broker answers nothing, so that the events of this life are still in the outbox.
        (network.hang if kill % 2 else network.heal)()
        newest, start = evidence.newest_frame(), time.monotonic()
        daemon.start()
        eventually(lambda newest=newest: daemon.must_run() and evidence.newest_frame() > newest, f"rows, kill {kill}")
        back_s.append(time.monotonic() - start)
        assert evidence.is_sound(), f"after kill {kill}"
        after = committed(evidence)
        for kind, (old, new) in enumerate(zip(before, after, strict=True)):
            assert old <= new, f"after kill {kill} rows are gone: kind {kind}, {sorted(map(str, old - new))[:5]}"
        if kill < KILLS:
            pause.wait(chance.uniform(*PAUSE_S))
            before = committed(evidence)
            assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
    assert daemon.end(signal.SIGTERM) == 0
    # On a busy machine the interpreter alone takes longer: then the first start, before any kill, is the measure.
    assert max(back_s) < max(BACK_WITHIN_S, 2 * back_s[0]), daemon.log

    # A start after the end of the block accounts for the rest of it.
    with make_service(settings, clock=make_clock(BLOCK_S + 60)):
        eventually(lambda: set(evidence.event_ids()) <= set(heard_ids(subscriber)), "every event at the subscriber")
        eventually(lambda: evidence.rows("SELECT count(*) FROM outbox") == [(0,)], "an empty outbox")
    ((start_ns, expected, state, captured, missing),) = evidence.rows(
        "SELECT start_utc_ns, expected, state, captured, missing FROM block"
    )
    planned = evidence.planned()
    period_ns = NS_PER_S // 5
    assert sorted(planned) == list(range(start_ns, start_ns + expected * period_ns, period_ns))
    assert (state, captured + missing) == ("finished", expected)
    kinds = [row[0] for row in evidence.rows("SELECT kind FROM event")]
    assert kinds.count("block_started") >= KILLS / 2
    assert kinds.count("block_finished") == 1
    assert evidence.unfinished() == []
    recorded = evidence.recorded()
    assert sorted(recorded) == sorted(planned)[: len(recorded)]  # each moment once, up to the stop
    lost_in_crash = list(recorded.values()).count("lost_in_crash")
    lost_each = [sidecar.missing_by_reason.get("lost_in_crash", 0) for sidecar in evidence.sidecars()]
    assert max(lost_each) <= LOST_EACH
    gaps = evidence.rows("SELECT count(*) FROM gap WHERE reason = 'service_down' AND end_utc_ns IS NOT NULL")
    assert gaps[0][0] >= KILLS
    print(  # noqa: T201  # the figures
        f"kill -9 x {KILLS}: {len(after[0])} rows, 0 lost; {len(kinds)} events, 0 lost; "
        f"capturing again after {max(back_s):.1f} s at most; {captured} of {expected} moments captured, 0 unaccounted; "
        f"{len(evidence.sidecars())} recordings, {lost_in_crash} frames lost in crashes, "
        f"{max(lost_each)} by one kill at most"
    )
