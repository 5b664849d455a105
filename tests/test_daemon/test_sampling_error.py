"""Sampling error: what blocks miss of days that are known whole."""

import pytest

from daemon.minute_series import DAY_MINUTES, MINUTE_NS
from daemon.minute_value import MinuteValue
from daemon.sampling_error import SamplingError, sampling_errors
from daemon.settings import Settings, parse_settings

START_UTC_NS = 1_788_220_800 * 1_000_000_000
PLAN = """
[box]
time_zone = "UTC"
[schedule]
block_minutes = 60
[schedule.strata]
night = ["00:00"]
day = ["12:00"]
"""


def value(day: int, minute: int, number: float, animal: int | None = 1) -> MinuteValue:
    """One minute of one day."""
    return MinuteValue(
        measure="activity_px_per_s" if animal else "ambient_celsius",
        minute_utc_ns=START_UTC_NS + (day * DAY_MINUTES + minute) * MINUTE_NS,
        animal=animal,
        value=number,
        uncertainty=None,
        coverage=1.0,
        samples=60,
    )


def compared(values: list[MinuteValue], days: int) -> list[SamplingError]:
    """By the plan above."""
    settings: Settings = parse_settings(PLAN, origin="test")
    stop_utc_ns = START_UTC_NS + days * DAY_MINUTES * MINUTE_NS
    return list(
        sampling_errors(values, settings.schedule, settings, start_utc_ns=START_UTC_NS, stop_utc_ns=stop_utc_ns)
    )


def test_a_measure_that_never_changes_is_sampled_without_error() -> None:
    [found] = compared([value(0, minute, 4.0) for minute in range(DAY_MINUTES)], 1)
    assert (found.mean, found.bias, found.error, found.spread) == (4.0, 0.0, 0.0, None)


def test_bias_and_error_are_those_of_the_blocks_minutes() -> None:
    # In the blocks of the first day it is 1 more than else, in those of the second 3 less.
    values = [
        value(day, minute, 10.0 + (extra if minute // 60 in (0, 12) else 0.0))
        for day, extra in enumerate((1.0, -3.0))
        for minute in range(DAY_MINUTES)
    ]
    [found] = compared(values, 2)
    off = [1.0 * (1 - 120 / DAY_MINUTES), -3.0 * (1 - 120 / DAY_MINUTES)]
    assert found.days == 2
    assert found.bias == pytest.approx(sum(off) / 2)
    assert found.error == pytest.approx(((off[0] ** 2 + off[1] ** 2) / 2) ** 0.5)


def test_days_of_which_too_little_is_known_are_left_out() -> None:
    half_night = [value(0, minute, 1.0) for minute in range(DAY_MINUTES // 2 - 1)]
    outside_blocks = [value(0, minute, 1.0, None) for minute in range(60, 12 * 60)]
    outside_blocks += [value(0, minute, 1.0, None) for minute in range(13 * 60, DAY_MINUTES)]
    assert compared(half_night + outside_blocks, 1) == []
