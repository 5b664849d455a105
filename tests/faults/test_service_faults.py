"""Camera, broker and disk fail under the running service: it goes on or comes back, and accounts for everything."""

import itertools
import json
import logging
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.capture import MAX_FREEZE_S
from drivers.clock import NS_PER_S, SystemClock
from drivers.scene import Scene
from drivers.simulated import Fault, SimulatedCamera, SimulatedDevice
from drivers.vivarium.incidents import Incident, IncidentKind

if TYPE_CHECKING:
    from tests.brokers import Mosquitto
    from tests.faults.conftest import Eventually, MakeDaemon, MakeService, MakeSettings, RunningService
    from tests.test_daemon.conftest import FaultProxy, Subscriber

    MakeProxy = Callable[[int], FaultProxy]
    Subscribe = Callable[[int], Subscriber]

BACK_WITHIN_S = 10.0
STOP_WITHIN_S = 5.0
MATROSKA_INDEX = b"\x1c\x53\xbb\x6b"
"""The element Cues: with it a player can jump to any frame."""
SEED = 5

UNPLUGGED_S, FROZEN_S, STUCK_S = 3.0, 4.0, MAX_FREEZE_S + 3
CAMERA_BLOCK_S = 55.0
"""Room for the faults above, one after the other, and for the way back from each."""

FULL_S = float(os.environ.get("VIVARIUM_DISK_FULL_S", "6"))
"""How long the disk stays full; 600 in the night."""

LONGEST_GAP_S = 2.0
"""Between two rows at 5 Hz on a busy machine; whoever waited for the broker would wait 4 s for a connection."""


@pytest.fixture
def device() -> SimulatedDevice:
    return SimulatedDevice(clock=SystemClock(), seed=SEED)


@pytest.fixture
def open_camera(device: SimulatedDevice) -> Callable[[], SimulatedCamera]:
    return lambda: SimulatedCamera(device, clock=SystemClock())


def good_frames(running: "RunningService") -> int:
    return running.evidence.newest_frame()


def goes_on(running: "RunningService", eventually: "Eventually") -> float:
    """Wait for new rows; how long it took."""
    newest = good_frames(running)
    return eventually(lambda: good_frames(running) > newest + 1, "new rows")


def missing_between(running: "RunningService", first_utc_ns: int, last_utc_ns: int) -> Counter[str]:
    """What became of the planned moments within a stretch of time."""
    return Counter(what for moment, what in running.evidence.planned().items() if first_utc_ns <= moment < last_utc_ns)


def last_status(subscriber: "Subscriber") -> tuple[str, str]:
    """What the service said last of its being there."""
    status = json.loads(subscriber.payloads("vivarium/box1/status")[-1])
    return status["state"], status["reason"]


def heard_ids(subscriber: "Subscriber") -> list[str]:
    """Events in the order of their first arrival."""
    payloads = subscriber.payloads("vivarium/box1/event/")
    return list(dict.fromkeys(json.loads(payload)["event_id"] for payload in payloads))


@pytest.mark.timeout(180)
def test_the_camera_comes_back_from_each_fault_and_each_gap_has_its_reason(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    device: SimulatedDevice,
    open_camera: Callable[[], SimulatedCamera],
    eventually: "Eventually",
    caplog: pytest.LogCaptureFixture,
) -> None:
    back_s: dict[str, float] = {}
    gaps: dict[str, Counter[str]] = {}
    pause = threading.Event()

    def suffer(name: str, fault: Callable[[], None], lasts_s: float, cure: Callable[[], None]) -> None:
        goes_on(running, eventually)
        start_ns = time.time_ns()
        fault()
        pause.wait(lasts_s)
        cure()
        cured_ns = time.time_ns()
        back_s[name] = eventually(
            lambda: bool(running.evidence.rows("SELECT 1 FROM frame WHERE captured_utc_ns > ?", cured_ns)),
            f"{name} over",
        )
        gaps[name] = missing_between(running, start_ns, cured_ns)

    settings = make_settings(block_s=CAMERA_BLOCK_S)
    with make_service(settings, open_camera=open_camera) as running:
        suffer("unplug", device.unplug, UNPLUGGED_S, device.plug)
        suffer("freeze", lambda: device.inject(Fault.FREEZE, duration_s=FROZEN_S), FROZEN_S, lambda: None)
        suffer("torn", lambda: device.inject(Fault.TORN, frames=20), 1.0, lambda: None)
        suffer("stuck", lambda: device.inject(Fault.STUCK, duration_s=STUCK_S), STUCK_S, lambda: None)
        finished = "SELECT count(*) FROM event WHERE kind = 'block_finished'"
        eventually(lambda: running.evidence.rows(finished) == [(1,)], "the end of the block", CAMERA_BLOCK_S)
        kinds = [row[0] for row in running.evidence.rows("SELECT kind FROM event ORDER BY id")]

    assert max(back_s.values()) < BACK_WITHIN_S
    assert gaps["unplug"]["camera_lost"] >= (UNPLUGGED_S - 1) * 5
    assert gaps["freeze"]["no_frame"] + gaps["freeze"]["camera_lost"] >= (FROZEN_S - 1) * 5
    assert gaps["torn"]["rejected_statistics"] >= 2
    assert gaps["stuck"]["shutter"] >= (MAX_FREEZE_S - 1) * 5
    assert gaps["stuck"]["camera_lost"] >= 1
    assert kinds.count("camera_lost") == 3
    assert kinds.count("camera_found") == 4
    assert kinds[-1] == "block_finished"

    planned, recorded = running.evidence.planned(), running.evidence.recorded()
    ((start_ns, expected, captured),) = running.evidence.rows("SELECT start_utc_ns, expected, captured FROM block")
    assert sorted(planned) == [start_ns + k * NS_PER_S // 5 for k in range(expected)]
    assert recorded == planned
    assert list(planned.values()).count("captured") == captured
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    print(  # noqa: T201  # the figures
        "camera: back after "
        + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in back_s.items())
        + f"; {captured} of {expected} moments captured, 0 without a reason"
    )


@pytest.mark.timeout(180)
def test_events_survive_a_broker_that_stops_or_is_killed_and_capture_never_waits(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    device: SimulatedDevice,
    open_camera: Callable[[], SimulatedCamera],
    mosquitto: "Mosquitto",
    make_proxy: "MakeProxy",
    subscribe: "Subscribe",
    eventually: "Eventually",
) -> None:
    network = make_proxy(mosquitto.port)
    settings = make_settings(
        mqtt={"broker": "external", "port": network.port, "keep_alive_s": 5},
        alerts={"not_seen_after_s": 1},
        schedule=make_settings().schedule.model_copy(update={"rate_hz": 5.0}),
    )
    absence = Incident(kind=IncidentKind.ABSENCE, animal=1, start_utc_s=0.0, duration_s=math.inf)
    hidden = Scene(SEED, 1, script=[absence])
    visible = Scene(SEED, 1)
    subscriber = subscribe(mosquitto.port)

    def something_happens() -> None:
        """The animal goes and comes back: two events."""
        before = len(running.evidence.event_ids())
        device.show(hidden)
        eventually(lambda: len(running.evidence.event_ids()) == before + 1, "the animal is not seen")
        device.show(visible)
        eventually(lambda: len(running.evidence.event_ids()) == before + 2, "the animal is seen again")

    back_s: list[float] = []
    with make_service(settings, open_camera=open_camera) as running:
        eventually(lambda: len(heard_ids(subscriber)) == 2, "the first events at the subscriber")
        something_happens()
        for times, how in enumerate((signal.SIGTERM, signal.SIGKILL), start=2):
            mosquitto.stop(how)
            something_happens()
            something_happens()
            assert running.service.status().mqtt.state == "connecting"
            network.refuse()  # until the subscriber is there: a broker has nobody else to give the events to
            mosquitto.start()
            subscriber.wait_subscribed(times=times)
            network.heal()
            back_s.append(
                eventually(lambda: heard_ids(subscriber) == running.evidence.event_ids(), "all events, in order")
            )
            something_happens()
        eventually(lambda: heard_ids(subscriber) == running.evidence.event_ids(), "all events, in order")
        eventually(lambda: running.service.status().store.outbox == 0, "an empty outbox")
        events = len(running.evidence.event_ids())
    captured_ns = [row[0] for row in running.evidence.rows("SELECT captured_monotonic_ns FROM frame ORDER BY id")]
    longest_s = max(later - earlier for earlier, later in itertools.pairwise(captured_ns)) / NS_PER_S
    assert max(back_s) < BACK_WITHIN_S
    assert longest_s < LONGEST_GAP_S
    print(  # noqa: T201  # the figures
        f"broker stopped and killed: {events} events, 0 lost, in order; delivered {max(back_s):.1f} s after its "
        f"return; longest time without a frame {longest_s:.2f} s at 5 Hz"
    )


@pytest.mark.timeout(180)
def test_a_full_disk_stops_neither_capture_nor_mqtt_and_all_is_written_when_there_is_room(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    open_camera: Callable[[], SimulatedCamera],
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    small_disk: Path,
    fill: Callable[[Path], None],
    eventually: "Eventually",
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = make_settings(data_dir=small_disk / "data", mqtt={"broker": "external", "port": mosquitto.port})
    subscriber = subscribe(mosquitto.port)
    ballast = small_disk / "ballast"
    full_s = FULL_S
    with make_service(settings, open_camera=open_camera) as running:
        goes_on(running, eventually)
        status, filled_ns = running.service.status, time.time_ns()
        fill(ballast)
        eventually(lambda: status().recording_error is not None, "the recording fails")
        eventually(lambda: status().reasons != (), "the status says so")
        threading.Event().wait(full_s)
        fill(ballast)  # what the failed segment gave back
        full = status()
        assert full.camera.state == "running"
        assert full.camera.frames_per_second > 20
        assert full.mqtt.state == "connected"
        heard = len(subscriber.payloads("vivarium/box1/observation"))
        ballast.unlink()
        freed_ns = time.time_ns()
        back_s = eventually(
            lambda: (
                bool(running.evidence.rows("SELECT 1 FROM frame WHERE captured_utc_ns > ?", freed_ns))
                and status().recording_error is None
            ),
            "rows and recording again",
        )
        eventually(lambda: len(subscriber.payloads("vivarium/box1/observation")) > heard + 5, "observations again")
        newest = good_frames(running)
        eventually(lambda: good_frames(running) > newest + 10, "more rows")
        assert status().store.lost == 0
    assert back_s < BACK_WITHIN_S
    planned = running.evidence.planned()
    what = Counter(planned.values())
    assert {"not_stored", "overrun"}.isdisjoint(what)
    assert missing_between(running, filled_ns, freed_ns)["captured"] >= 0.8 * 5 * full_s
    assert running.evidence.is_sound()
    assert running.evidence.unfinished() == []
    recorded = running.evidence.recorded()
    assert sorted(recorded) == sorted(planned)[: len(recorded)]
    not_recorded = [told for told in recorded.values() if told in ("not_recorded", "write_failed")]
    assert len(not_recorded) >= full_s
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    by_part = Counter(record.name for record in errors)
    assert by_part["daemon.recorder"] == 1, [record.getMessage() for record in errors]
    assert by_part["daemon.worker"] <= 1
    assert [record.getMessage() for record in errors if record.exc_info] == []
    print(  # noqa: T201  # the figures
        f"disk full for {full_s:g} s: {what['captured']} rows, 0 lost; {len(not_recorded)} moments not recorded, each "
        f"with its reason; rows and recording again {back_s:.1f} s after there was room"
    )


def test_sigterm_while_recording_loses_nothing(
    make_settings: "MakeSettings",
    make_daemon: "MakeDaemon",
    mosquitto: "Mosquitto",
    subscribe: "Subscribe",
    eventually: "Eventually",
) -> None:
    subscriber = subscribe(mosquitto.port)
    daemon = make_daemon(make_settings(mqtt={"broker": "external", "port": mosquitto.port}))
    evidence = daemon.evidence
    daemon.start()
    eventually(lambda: daemon.must_run() and evidence.newest_frame() >= 10, "rows")
    start = time.monotonic()
    assert daemon.end(signal.SIGTERM) == 0, daemon.log
    stop_s = time.monotonic() - start
    assert stop_s < STOP_WITHIN_S
    assert evidence.unfinished() == []
    (recording,) = evidence.recordings.rglob("*.mkv")
    assert MATROSKA_INDEX in recording.read_bytes()
    assert evidence.rows("SELECT count(*) FROM outbox") == [(0,)]
    eventually(lambda: heard_ids(subscriber) == evidence.event_ids(), "every event at the subscriber")
    eventually(lambda: last_status(subscriber) == ("offline", "stopped"), "the goodbye")
    (sidecar,) = evidence.sidecars()
    planned = evidence.planned()
    assert evidence.recorded() == planned
    assert list(planned.values()).count("captured") == sidecar.captured
    # One frame more may have been measured before the block was opened.
    assert sidecar.captured <= evidence.newest_frame() <= sidecar.captured + 1
    assert evidence.rows("SELECT count(*) FROM run WHERE end_reason = 'stopped'") == [(1,)]
    assert evidence.rows("SELECT frames, state FROM recording") == [(len(sidecar.frames), "complete")]
    assert "ERROR" not in daemon.log
    print(  # noqa: T201  # the figures
        f"SIGTERM while recording: ended after {stop_s:.1f} s with 0, {sidecar.captured} frames with an index, 0 lost; "
        f"{len(evidence.event_ids())} events delivered, outbox empty"
    )
