"""The caretaker, one look at a time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from daemon.caretaker import Caretaker, bytes_per_day, database_file
from daemon.disk_files import set_aside_files
from daemon.events import EventKind, EventState
from daemon.evidence import EvidenceFolder
from daemon.minute_value import MinuteValue
from daemon.minute_values import MINUTE_NS
from daemon.open_events import open_now
from daemon.rule_settings import RuleSettings, RulesSettings
from daemon.schedule import PlannedBlock
from daemon.settings import Settings
from daemon.store.repository import RecordingState, Store, open_store
from daemon.store.retention import FEWEST_FRAMES, MINUTE_VALUE_BYTES
from daemon.watching import Watching
from drivers.clock import NS_PER_S, SimulatedClock
from drivers.errors import StoreError

NOW_UTC_NS = 1_795_000_000 * NS_PER_S
NOW_DAY = date(2026, 11, 18)


@dataclass(frozen=True)
class File:
    """A recording's file."""

    path: Path
    sha256: str | None = "a" * 64
    frames: int = FEWEST_FRAMES
    size_bytes: int = FEWEST_FRAMES * 25_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate(
        {
            "box": {"data_dir": tmp_path, "time_zone": "UTC"},
            "disk": {"min_free_gb": 0.001, "ballast_mb": 1},
            "measure": {"outside_rate_hz": 0},
        }
    )


@contextmanager
def caretaker_of(settings: Settings, clock: SimulatedClock) -> Iterator[tuple[Caretaker, Store]]:
    """A start, or another one, with what is stored and the files of evidence."""
    with watched_caretaker_of(settings, clock) as (caretaker, store, _):
        yield caretaker, store


@contextmanager
def watched_caretaker_of(settings: Settings, clock: SimulatedClock) -> Iterator[tuple[Caretaker, Store, Watching]]:
    """The same, and what the worker's thread has beside it."""
    with open_store(settings.database_url, outbox_limit=100) as store:
        run_id = store.start_run(
            version="1", config_hash="", config_json="{}", segmenter="", host="h", boot_id="b", started_utc_ns=1
        )
        watching = Watching(settings)
        watching.restore(store, clock.utc_ns())
        caretaker = Caretaker(
            settings,
            store=store,
            clock=clock,
            run_id=lambda: run_id,
            told=lambda: None,
            set_aside_before=set_aside_files(settings.box.data_dir, database_file(settings)),
            still_open=open_now(store.event_histories()),
            evidence=EvidenceFolder(settings.box.data_dir, 1_000_000),
            severities=watching.severities_of_disk,
        )
        yield caretaker, store, watching


def record(settings: Settings, store: Store, *, file: bool) -> Path:
    """A recording in the database, with its sidecar; also with its file, or without."""
    block = PlannedBlock(
        day=NOW_DAY,
        stratum="night",
        number=1,
        start_utc_ns=NOW_UTC_NS - 3600 * NS_PER_S,
        duration_ns=1800 * NS_PER_S,
        period_ns=NS_PER_S,
    )
    path = settings.recordings_dir / NOW_DAY.isoformat() / "box1_2026-11-18_night-1.mkv"
    path.parent.mkdir(parents=True)
    path.with_suffix(".json").touch()
    if file:
        path.write_bytes(bytes(1000))
    store.open_block(block, run_id=1, at_utc_ns=block.start_utc_ns)
    store.add_recording(block.key, File(path))
    return path


def test_a_recording_whose_file_is_gone_is_noted_and_one_without_sidecar_is_not(settings: Settings) -> None:
    with caretaker_of(settings, SimulatedClock(NOW_UTC_NS)) as (caretaker, store):
        path = record(settings, store, file=False)
        sidecar = path.with_suffix(".json")
        sidecar.unlink()  # the whole folder may be away, for instance not mounted
        caretaker.tick()
        assert store.all_recordings()[0].state is RecordingState.COMPLETE
    sidecar.touch()
    with caretaker_of(settings, SimulatedClock(NOW_UTC_NS)) as (caretaker, store):
        caretaker.tick()
        caretaker.tick()
        (row,) = store.all_recordings()
    assert (row.state, row.freed_reason, row.freed_utc_ns) == (RecordingState.FREED, "file_missing", NOW_UTC_NS)


def test_the_forecast_is_there_when_enough_was_recorded(settings: Settings) -> None:
    with caretaker_of(settings, SimulatedClock(NOW_UTC_NS)) as (caretaker, store):
        caretaker.tick()
        assert caretaker.status.full_in_days is None
    with caretaker_of(settings, SimulatedClock(NOW_UTC_NS)) as (caretaker, store):
        record(settings, store, file=True)
        caretaker.tick()
        status = caretaker.status
    assert status.bytes_per_day == 14_400 * 25_000
    assert status.full_in_days is not None
    assert status.full_in_days > 0
    assert status.ballast


@pytest.mark.parametrize(
    ("outside_rate_hz", "minutes"),
    [pytest.param(0, 8 * 30, id="only blocks are measured"), pytest.param(0.2, 1440, id="every minute has values")],
)
def test_the_forecast_counts_the_values_of_minutes(settings: Settings, outside_rate_hz: float, minutes: int) -> None:
    measure = settings.measure.model_copy(update={"outside_rate_hz": outside_rate_hz})
    values = [
        MinuteValue(
            measure=f"measure_{number}",
            minute_utc_ns=NOW_UTC_NS // MINUTE_NS * MINUTE_NS - minute * MINUTE_NS,
            animal=1,
            value=0.5,
            uncertainty=None,
            coverage=1.0,
            samples=60,
        )
        for minute in range(1, 11)
        for number in range(50)
    ]
    settings = settings.model_copy(update={"measure": measure})
    with caretaker_of(settings, SimulatedClock(NOW_UTC_NS)) as (caretaker, store):
        record(settings, store, file=True)
        caretaker.tick()
        before = bytes_per_day(settings, store, now_ns=NOW_UTC_NS)
        store.add([], run_id=1, camera_id=None, minute_values=values)
        after = bytes_per_day(settings, store, now_ns=NOW_UTC_NS)
    assert before == 14_400 * 25_000
    assert after == before + 50 * MINUTE_VALUE_BYTES * minutes


def test_a_new_size_of_the_ballast_takes_effect_without_a_restart(settings: Settings, tmp_path: Path) -> None:
    with caretaker_of(settings, SimulatedClock(NOW_UTC_NS)) as (caretaker, _store):
        caretaker.tick()
        assert (tmp_path / "ballast.bin").stat().st_size == 1_000_000
        disk = settings.disk.model_copy(update={"ballast_mb": 2})
        caretaker.settings = settings.model_copy(update={"disk": disk})
        caretaker.tick()
        assert (tmp_path / "ballast.bin").stat().st_size == 2_000_000


def test_a_database_that_refuses_is_said_once_and_what_is_untold_is_told_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    clock = SimulatedClock(NOW_UTC_NS)
    with caretaker_of(settings, clock) as (caretaker, store):
        (tmp_path / "vivarium.db.damaged-20261101T000000Z").write_bytes(bytes(1234))

        def refuse(*_arguments: object, **_more: object) -> int:
            raise StoreError("cannot note it: database or disk is full")

        with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
            patched.setattr(store, "free_recordings", refuse)
            for _ in range(5):
                caretaker.tick()
                clock.advance(1)
            assert [record.levelname for record in caplog.records].count("ERROR") == 1
            caretaker.stop()
            caretaker.run()  # its end is no failure of the thread
        caretaker.tick()
        (event,) = store.recent_events(5)
    assert (event.kind, event.data["what"]) == (EventKind.SET_ASIDE, "database")
    assert (event.data["rule"], event.data["size_bytes"]) == ("set_aside", 1234)
    assert isinstance(event.data["modified_utc_ns"], int)
    assert caretaker.set_aside == ("database vivarium.db.damaged-20261101T000000Z",)


def old_recordings(settings: Settings, days: int) -> list[Path]:
    """One a day up to today, not in the database; oldest first."""
    paths = []
    for age in reversed(range(days)):
        day = (NOW_DAY - timedelta(days=age)).isoformat()
        paths.append(settings.recordings_dir / day / f"box1_{day}_night-1.mkv")
        paths[-1].parent.mkdir(parents=True)
        paths[-1].write_bytes(b"x" * 5000)
    return paths


class Usage(NamedTuple):
    """As `shutil.disk_usage` returns it."""

    total: int
    used: int
    free: int


def gives_nothing_back(settings: Settings, monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> Settings:
    """A disk whose free space stays as it is, and no ballast."""
    usage = Usage(10**9, 10**9 - free_bytes, free_bytes)
    monkeypatch.setattr("daemon.caretaker.shutil.disk_usage", lambda _path: usage)
    return settings.model_copy(update={"disk": settings.disk.model_copy(update={"ballast_mb": 0})})


def test_when_what_gave_way_makes_no_room_nothing_more_gives_way_for_a_minute(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, recordings = SimulatedClock(NOW_UTC_NS), old_recordings(settings, 12)
    settings = gives_nothing_back(settings, monkeypatch, 996_000)  # short by a few recordings
    left = []
    with caretaker_of(settings, clock) as (caretaker, store):
        for _ in range(62):
            caretaker.tick()
            left.append(sum(path.exists() for path in recordings))
            clock.advance(1)
        kinds = [event.kind for event in store.recent_events(50)]
    assert kinds.count(EventKind.DISK_LOW) == 1
    assert left[0] < len(recordings)
    assert set(left[:60]) == {left[0]}


def test_a_low_disk_is_told_with_numbers_and_plot_and_again_when_it_is_much_lower(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, free_bytes = SimulatedClock(NOW_UTC_NS), 5_000_000
    settings = gives_nothing_back(settings, monkeypatch, free_bytes)
    monkeypatch.setattr(
        "daemon.caretaker.shutil.disk_usage", lambda _path: Usage(10**9, 10**9 - free_bytes, free_bytes)
    )

    def look(caretaker: Caretaker, free: int, minutes: int) -> None:
        nonlocal free_bytes
        free_bytes = free
        for _ in range(minutes):
            caretaker.tick()
            clock.advance(60)

    with caretaker_of(settings, clock) as (caretaker, store):
        look(caretaker, 5_000_000, 180)
        look(caretaker, 900_000, 5)
        [opened] = store.open_events()
    expected = {
        "rule": "disk_low",
        "measure": "free_bytes",
        "comparison": "below",
        "value": 900_000,
        "threshold": 1_000_000,
        "free_bytes": 900_000,
        "min_free_bytes": 1_000_000,
        "recordings_bytes": 0,
        "bytes_per_day": None,
        "ballast": False,
        "coverage": round(181 / 360, 3),
    }
    assert expected.items() <= dict(opened.data).items()
    assert "full_in_days" in opened.data
    path = settings.box.data_dir / str(opened.data["plot"])
    shown = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    blue, red = (shown == (150, 80, 20)).all(axis=2), (shown == (40, 40, 200)).all(axis=2)
    rows, columns = np.nonzero(blue)
    limit_row = np.nonzero(red)[0].max()
    assert rows[columns < 600].max() < limit_row < rows[columns > 620].max(), "above the limit, and then below"

    with caretaker_of(settings, clock) as (caretaker, store):  # a restart
        look(caretaker, 400_000, 59)
        assert len(store.recent_events(9)) == 1, "not within an hour"
        look(caretaker, 400_000, 30)
        look(caretaker, 201_000, 90)
        look(caretaker, 2_000_000, 1)
        told = store.recent_events(9)[::-1]
    assert [(event.kind, event.state, event.data["value"]) for event in told] == [
        (EventKind.DISK_LOW, EventState.OPENED, 900_000),
        (EventKind.DISK_LOW, EventState.UPDATED, 400_000),
        (EventKind.DISK_OK, EventState.CLOSED, 2_000_000),
    ]
    assert {event.opened_event_id for event in told[1:]} == {opened.event_id}
    assert told[1].data["reason"] == "worse"
    assert {event.data["since_utc_ns"] for event in told} == {opened.at_utc_ns}
    assert all((settings.box.data_dir / str(event.data["plot"])).exists() for event in told)


def test_after_a_restart_a_low_disk_is_told_again_only_where_it_is_lower_than_what_was_told_last(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimulatedClock(NOW_UTC_NS)
    for free_bytes in (900_000, 400_000, 400_000, 201_000, 199_000):
        settings = gives_nothing_back(settings, monkeypatch, free_bytes)
        with caretaker_of(settings, clock) as (caretaker, store):  # each time a restart
            minutes(caretaker, clock, 90)
            told = [event.data["value"] for event in reversed(store.recent_events(9))]
    assert told == [900_000, 400_000, 199_000]


def low_at_night(settings: Settings, monkeypatch: pytest.MonkeyPatch, **rule: object) -> Settings:
    """A disk that is low, in a box with quiet hours, and what the config says of that."""
    return gives_nothing_back(settings, monkeypatch, 900_000).model_copy(
        update={
            "rules": RulesSettings.model_validate({"quiet_hours": ["22:00", "06:00"]}),
            "rule": (RuleSettings.model_validate({"name": "disk_low", **rule}),),
        }
    )


MIDNIGHT_UTC_NS = NOW_UTC_NS // (86_400 * NS_PER_S) * 86_400 * NS_PER_S
"""In the quiet hours."""


def minutes(caretaker: Caretaker, clock: SimulatedClock, count: int) -> None:
    for _ in range(count):
        caretaker.tick()
        clock.advance(60)


def told_of_disk(store: Store) -> list[tuple[int, str, str, object]]:
    """Minutes since midnight, state, severity and reason of all events."""
    return [
        ((event.at_utc_ns - MIDNIGHT_UTC_NS) // MINUTE_NS, event.state.value, event.severity.value, reason)
        for event in reversed(store.recent_events(50))
        for reason in [event.data.get("reason")]
    ]


def test_a_disk_that_is_low_at_night_is_told_in_the_morning_with_what_is_free_then(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, clock = low_at_night(settings, monkeypatch), SimulatedClock(MIDNIGHT_UTC_NS)
    with caretaker_of(settings, clock) as (caretaker, store):
        minutes(caretaker, clock, 120)
    gives_nothing_back(settings, monkeypatch, 800_000)
    with caretaker_of(settings, clock) as (caretaker, store):
        minutes(caretaker, clock, 300)
        assert told_of_disk(store) == [
            (0, "opened", "notice", None),
            (360, "updated", "alert", "quiet_hours_over"),
        ]
        updated = store.recent_events(1)[0]
        assert (updated.data["value"], updated.data["rule"]) == (800_000, "disk_low")
        assert (settings.box.data_dir / str(updated.data["plot"])).exists()
        gives_nothing_back(settings, monkeypatch, 5_000_000)
        minutes(caretaker, clock, 1)
        assert told_of_disk(store)[2:] == [(420, "closed", "notice", None)]


@pytest.mark.parametrize("seen", [False, True], ids=["nobody", "acknowledged"])
def test_a_disk_that_stays_low_becomes_an_emergency_unless_somebody_has_seen_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    settings = low_at_night(settings, monkeypatch, escalate_after_minutes=90)
    clock = SimulatedClock(MIDNIGHT_UTC_NS)
    with watched_caretaker_of(settings, clock) as (caretaker, store, watching):
        minutes(caretaker, clock, 30)
        [opened] = store.open_events()
        if seen:
            watching.acknowledge(opened.event_id)
        minutes(caretaker, clock, 30 if not seen else 120)
    if seen:
        with caretaker_of(settings, clock) as (_, store):
            assert [each[1] for each in told_of_disk(store)] == ["opened"]
        return
    for _ in range(2):
        with caretaker_of(settings, clock) as (caretaker, store):
            minutes(caretaker, clock, 60)
            told = told_of_disk(store)
    assert told == [(0, "opened", "notice", None), (90, "updated", "emergency", "escalated")]


def test_what_was_set_aside_at_night_is_told_again_in_the_morning_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = low_at_night(settings, monkeypatch, severity="emergency")
    clock = SimulatedClock(MIDNIGHT_UTC_NS)
    with caretaker_of(settings, clock) as (caretaker, store):
        for number in (1, 2):
            (settings.box.data_dir / f"vivarium.db.damaged-{number}").touch()
        minutes(caretaker, clock, 30)
    for _ in range(2):
        with caretaker_of(settings, clock) as (caretaker, store):
            minutes(caretaker, clock, 200)
            told = [each for each in reversed(store.recent_events(50)) if each.kind is EventKind.SET_ASIDE]
            low = [each.severity for each in store.recent_events(50) if each.kind is EventKind.DISK_LOW]
    assert low == ["emergency"]
    assert [(each.state, each.severity) for each in told][-1] == (EventState.OCCURRED, "alert")
    assert {each.severity.value for each in told[:-1]} == {"notice"}
    assert (told[-1].at_utc_ns - MIDNIGHT_UTC_NS) // MINUTE_NS == 360
    assert len(told) == 3 and told[-1].data["times"] == 2


def test_what_gave_way_is_told_with_the_space_that_there_is(settings: Settings) -> None:
    settings = settings.model_copy(update={"disk": settings.disk.model_copy(update={"keep_days": 10})})
    old_recordings(settings, 12)
    with caretaker_of(settings, SimulatedClock(NOW_UTC_NS)) as (caretaker, store):
        caretaker.tick()
        [freed] = store.recent_events(9)
    assert (freed.kind, freed.data["rule"], freed.data["recordings"]) == (
        EventKind.RECORDINGS_FREED,
        "recordings_freed",
        1,
    )
    assert (freed.data["min_free_bytes"], freed.data["keep_days"], freed.data["budget_bytes"]) == (1_000_000, 10, None)
    assert isinstance(free_bytes := freed.data["free_bytes"], int) and free_bytes > 1_000_000


def test_files_that_cannot_be_removed_are_said_once_and_the_disk_is_low(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, recordings = SimulatedClock(NOW_UTC_NS), old_recordings(settings, 5)
    settings = gives_nothing_back(settings, monkeypatch, 0)

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    with caretaker_of(settings, clock) as (caretaker, store):
        with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
            patched.setattr(Path, "unlink", refuse)
            for _ in range(20):
                caretaker.tick()
                clock.advance(1)
        kinds = [event.kind for event in store.recent_events(50)]
    assert all(path.exists() for path in recordings)
    assert kinds == [EventKind.DISK_LOW]
    assert caretaker.status.low
    said = [record.getMessage() for record in caplog.records]
    assert sum("cannot be given up" in each for each in said) == 1
    assert sum("nothing more may give way" in each for each in said) == 1


def test_a_clock_that_is_wrong_by_decades_does_not_make_all_recordings_old(settings: Settings) -> None:
    settings = settings.model_copy(update={"disk": settings.disk.model_copy(update={"keep_days": 10})})
    clock, recordings = SimulatedClock(NOW_UTC_NS), old_recordings(settings, 12)
    with caretaker_of(settings, clock) as (caretaker, _store):
        clock.step_wall(70 * 365 * 86_400)
        for _ in range(3):
            caretaker.tick()
            clock.advance(61)
    assert [path.exists() for path in recordings] == [False] * 2 + [True] * 10
