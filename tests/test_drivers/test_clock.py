"""Clocks: the machine's, and the one that jumps."""

import threading
import time

import pytest

from drivers.clock import NS_PER_S, Clock, SimulatedClock, SystemClock

NEW_YEAR_2026_NS = 1_767_225_600 * NS_PER_S


@pytest.fixture(params=["system", "simulated"])
def clock(request: pytest.FixtureRequest) -> Clock:
    """Each clock there is: what holds for one holds for the other."""
    return SystemClock() if request.param == "system" else SimulatedClock(NEW_YEAR_2026_NS)


def test_waiting_takes_at_least_as_long_as_asked(clock: Clock) -> None:
    before = clock.monotonic_ns()
    assert clock.wait(0.001) is False
    assert clock.monotonic_ns() - before >= 1_000_000


def test_a_set_event_ends_the_wait_at_once(clock: Clock) -> None:
    event = threading.Event()
    event.set()
    # An hour of waiting would run into the time limit of the tests.
    assert clock.wait(3600, until=event) is True


def test_an_event_that_is_not_set_lets_the_wait_run_out(clock: Clock) -> None:
    assert clock.wait(0.001, until=threading.Event()) is False


@pytest.mark.parametrize("duration_s", [0.0, -1.0, -1e9])
def test_a_wait_that_is_already_over_returns(clock: Clock, duration_s: float) -> None:
    assert clock.wait(duration_s) is False
    assert clock.wait(duration_s, until=threading.Event()) is False


def test_the_systems_clock_is_the_machines() -> None:
    clock = SystemClock()
    before = time.time_ns(), time.monotonic_ns()
    now = clock.utc_ns(), clock.monotonic_ns()
    assert before[1] <= now[1] <= time.monotonic_ns()
    assert abs(now[0] - before[0]) < 60 * NS_PER_S  # the same clock, whatever NTP does in between


def test_an_event_set_by_another_thread_wakes_the_systems_clock() -> None:
    event = threading.Event()
    setter = threading.Thread(target=event.set)
    setter.start()
    assert SystemClock().wait(3600, until=event) is True
    setter.join()


def test_a_simulated_day_passes_at_once() -> None:
    clock = SimulatedClock(NEW_YEAR_2026_NS)
    for _ in range(24 * 60):
        clock.wait(60)
    assert clock.utc_ns() == NEW_YEAR_2026_NS + 86_400 * NS_PER_S
    assert clock.monotonic_ns() == 86_400 * NS_PER_S


def test_frames_of_40_ms_add_up_without_rounding_errors() -> None:
    clock = SimulatedClock(0)
    for _ in range(25 * 60):
        clock.wait(0.04)
    assert clock.monotonic_ns() == 60 * NS_PER_S


def test_a_step_of_the_wall_clock_leaves_the_monotonic_one() -> None:
    clock = SimulatedClock(NEW_YEAR_2026_NS)
    clock.advance(1.5)
    clock.step_wall(-5 * 3600)
    assert clock.utc_ns() == NEW_YEAR_2026_NS + round((1.5 - 5 * 3600) * NS_PER_S)
    assert clock.monotonic_ns() == 1_500_000_000


def test_simulated_time_does_not_run_backwards() -> None:
    clock = SimulatedClock(NEW_YEAR_2026_NS)
    with pytest.raises(ValueError, match="use step_wall for a clock step"):
        clock.advance(-0.1)
    assert (clock.utc_ns(), clock.monotonic_ns()) == (NEW_YEAR_2026_NS, 0)
