"""The wall clock is set, and changes to and from daylight saving time: each daily block once, and soon."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from daemon.settings import ScheduleSettings
from daemon.timetable import LONGEST_INTERVAL_S, BlockClosed, BlockMissed, BlockOpened, Timetable
from drivers.clock import NS_PER_S, SystemClock
from drivers.simulated import SimulatedCamera, SimulatedDevice

if TYPE_CHECKING:
    from tests.faults.conftest import Eventually, MakeService, MakeSettings

DUE_WITHIN_S = 15.0
FORWARD_S, BACK_S = 2 * 3600.0, -5 * 3600.0
LONGEST_GAP_S = 5 + 2.0
"""Between two rows: outside blocks there is one each five seconds."""
NOON_UTC_NS = round(datetime(2026, 11, 18, 12, tzinfo=UTC).timestamp()) * NS_PER_S

PLACES = [
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("America/Sao_Paulo", date(2018, 11, 4)),
    ("America/Sao_Paulo", date(2019, 2, 17)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),  # half an hour
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Asia/Kolkata", date(2026, 6, 1)),  # half an hour from all others, and none of it
]
EVERY_HOUR = ScheduleSettings(
    block_minutes=5,
    rate_hz=1,
    strata={"hourly": tuple(f"{hour:02}:{minute}" for hour in range(24) for minute in (15, 45))},
)
"""With a block in each half hour that daylight saving time leaves out or repeats."""


class SetClock(SystemClock):
    """The machine's clock, as an administrator sets it."""

    def __init__(self, utc_ns: int) -> None:
        self._offset_ns = utc_ns - super().monotonic_ns()
        self._lock = threading.Lock()

    def utc_ns(self) -> int:
        """See `Clock`."""
        with self._lock:
            return super().monotonic_ns() + self._offset_ns

    def set(self, utc_ns: int) -> None:
        """Set it."""
        with self._lock:
            self._offset_ns = utc_ns - super().monotonic_ns()


def days_around(day: date, zone: ZoneInfo) -> Iterator[int]:
    """Questions each 15 s from noon of the day before to noon of the day after."""
    start = datetime.combine(day - timedelta(days=1), datetime.min.time(), zone).timestamp() + 43_200
    stop = datetime.combine(day + timedelta(days=1), datetime.min.time(), zone).timestamp() + 43_200
    return iter(range(round(start) * NS_PER_S, round(stop) * NS_PER_S, round(LONGEST_INTERVAL_S) * NS_PER_S))


@pytest.mark.parametrize(("place", "day"), PLACES)
def test_each_daily_block_runs_once_on_the_days_that_the_clocks_change(place: str, day: date) -> None:
    zone = ZoneInfo(place)
    box = Timetable(EVERY_HOUR, zone)
    changes = [change for moment in days_around(day, zone) for change in box.update(moment)]
    opened = [change.block for change in changes if isinstance(change, BlockOpened)]
    closed = [change.block.key for change in changes if isinstance(change, BlockClosed)]
    runs = Counter(block.key for block in opened if block.day == day)
    planned = sum(len(times) for times in EVERY_HOUR.strata.values())
    assert set(runs) == {f"{day.isoformat()}/hourly-{number}" for number in range(1, planned + 1)}
    assert set(runs.values()) == {1}
    assert [key for key in closed if key.startswith(day.isoformat())] == list(runs)
    assert not any(isinstance(change, BlockMissed) for change in changes)
    in_time = [change for change in changes if isinstance(change, BlockOpened)][1:]  # the first one was joined
    late_s = [(change.at_utc_ns - change.block.start_utc_ns) / NS_PER_S for change in in_time]
    assert max(late_s) <= DUE_WITHIN_S
    hours = (max(block.end_utc_ns for block in opened if block.day == day) - opened[0].start_utc_ns) / 3600 / NS_PER_S
    print(  # noqa: T201  # the figures
        f"{place} {day}: {planned} of {planned} daily blocks once, {max(late_s):.0f} s late at most, over {hours:.1f} h"
    )


@pytest.mark.timeout(180)
def test_a_block_is_open_soon_after_the_clock_was_set_into_it_and_each_step_is_marked(
    make_settings: "MakeSettings",
    make_service: "MakeService",
    eventually: "Eventually",
) -> None:
    clock = SetClock(60 * NS_PER_S)  # 1970, as on a board without a battery
    device = SimulatedDevice(clock=clock, seed=5)
    open_camera: Callable[[], SimulatedCamera] = lambda: SimulatedCamera(device, clock=clock)  # noqa: E731
    settings = make_settings(
        schedule={
            "rate_hz": 5,
            "block_minutes": 30,
            "strata": {"boot": ["11:50"], "forward": ["13:50"], "back": ["08:50"]},
        }
    )
    due_s: dict[str, float] = {}
    with make_service(settings, open_camera=open_camera, clock=clock) as running:
        evidence = running.evidence

        def block_is(name: str) -> bool:
            key = running.service.status().block.key
            return key is not None and key.endswith(f"/{name}-1")

        def due_in(name: str) -> float:
            """How long it took until the block was open; returns when some of it is stored."""
            waited_s = eventually(lambda: block_is(name), f"block {name}")
            captured = (
                "SELECT 1 FROM planned_sample JOIN block ON block.id = block_id WHERE frame_id > 0 AND key LIKE ?"
            )
            eventually(lambda: bool(evidence.rows(captured, f"%/{name}-1")), f"rows of block {name}")
            return waited_s

        eventually(lambda: evidence.newest_frame() > 0, "rows in 1970")
        assert running.service.status().block.key is None
        clock.set(NOON_UTC_NS)
        due_s["1970 to now"] = due_in("boot")
        clock.set(clock.utc_ns() + round(FORWARD_S * NS_PER_S))
        due_s["+2 h"] = due_in("forward")
        clock.set(clock.utc_ns() + round(BACK_S * NS_PER_S))
        due_s["-5 h"] = due_in("back")
        steps = evidence.rows(
            "SELECT json_extract(data_json, '$.first_utc_ns'), json_extract(data_json, '$.step_s') FROM event"
            " WHERE kind = 'clock_stepped' ORDER BY id"
        )
        kinds = [row[0] for row in evidence.rows("SELECT kind FROM event")]
    frames = evidence.rows("SELECT captured_utc_ns, captured_monotonic_ns FROM frame ORDER BY id")
    marked = {first_ns for first_ns, _ in steps}
    unmarked = [
        after for before, after in itertools.pairwise(frames) if after[0] <= before[0] and after[0] not in marked
    ]
    assert unmarked == []
    assert [round(step_s / 3600) for _, step_s in steps[1:]] == [2, -5]
    # Durations are monotonic: the camera was never lost, and no frame came late.
    assert "camera_lost" not in kinds
    longest_s = max(after[1] - before[1] for before, after in itertools.pairwise(frames)) / NS_PER_S
    assert longest_s < LONGEST_GAP_S
    opened = [key.partition("/")[2] for (key,) in evidence.rows("SELECT key FROM block WHERE state <> 'missed'")]
    assert sorted(opened) == ["back-1", "boot-1", "forward-1"], "each once, and no past is invented"
    assert evidence.rows("SELECT count(*) FROM block WHERE state = 'missed'")[0][0] <= 2
    assert max(due_s.values()) <= DUE_WITHIN_S
    print(  # noqa: T201  # the figures
        "clock set: "
        + ", ".join(f"{name}: open after {seconds:.1f} s" for name, seconds in due_s.items())
        + f"; {len(steps)} steps marked, 0 times decrease without; {longest_s:.1f} s between two frames at most"
    )
