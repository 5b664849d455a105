"""Sampling error: what blocks miss of days that are known whole."""

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import fmean, stdev

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.minute_series import DAY_MINUTES, MINUTE_NS
from daemon.minute_value import MinuteValue
from daemon.sampling_error import Compared, sampling_errors
from daemon.scripted_run import run_script, with_animals
from daemon.settings import Settings, parse_settings
from drivers.errors import ConfigError

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


def compared(values: list[MinuteValue], days: int) -> Compared:
    """By the plan above."""
    settings: Settings = parse_settings(PLAN, origin="test")
    stop_utc_ns = START_UTC_NS + days * DAY_MINUTES * MINUTE_NS
    return sampling_errors(values, settings.schedule, settings, start_utc_ns=START_UTC_NS, stop_utc_ns=stop_utc_ns)


def test_a_measure_that_never_changes_is_sampled_without_error() -> None:
    [found] = compared([value(0, minute, 4.0) for minute in range(DAY_MINUTES)], 1).errors
    assert (found.mean, found.bias, found.error, found.spread) == (4.0, 0.0, 0.0, None)


def test_bias_and_error_are_those_of_the_blocks_minutes() -> None:
    # In the blocks of the first day it is 1 more than else, in those of the second 3 less.
    values = [
        value(day, minute, 10.0 + (extra if minute // 60 in (0, 12) else 0.0))
        for day, extra in enumerate((1.0, -3.0))
        for minute in range(DAY_MINUTES)
    ]
    [found] = compared(values, 2).errors
    off = [1.0 * (1 - 120 / DAY_MINUTES), -3.0 * (1 - 120 / DAY_MINUTES)]
    assert (found.days, found.of_days) == (2, 2)
    assert found.bias == pytest.approx(sum(off) / 2)
    assert found.error == pytest.approx(((off[0] ** 2 + off[1] ** 2) / 2) ** 0.5)


def test_days_of_which_too_little_is_known_are_left_out_and_it_is_said_what_they_lack() -> None:
    half_night = [value(0, minute, 1.0) for minute in range(DAY_MINUTES // 2 - 1)]
    outside_blocks = [value(0, minute, 1.0, None) for minute in range(60, 12 * 60)]
    outside_blocks += [value(0, minute, 1.0, None) for minute in range(13 * 60, DAY_MINUTES)]
    found = compared(half_night + outside_blocks, 1)
    assert found.errors == ()
    why = {each.measure: each.why for each in found.too_little}
    assert why["activity_px_per_s"] == "719 min of a day have a value at most, 720 are needed"
    assert why["ambient_celsius"] == "0 min in a day's blocks have a value at most, 30 are needed"
    assert why["curl"] == "no minute has a value"
    assert "distance_px" in why
    assert "distance_mm" not in why  # of another box


def test_a_day_that_is_left_out_is_counted_among_those_that_are_stored() -> None:
    whole = [value(0, minute, 2.0) for minute in range(DAY_MINUTES)]
    hardly, unknown, of_cage = value(1, 70, 3.0), replace(value(2, 70, 3.0), value=None), value(3, 70, 3.0, None)
    [found] = compared([*whole, hardly, unknown, of_cage], 4).errors
    assert (found.days, found.of_days, found.mean) == (1, 3, 2.0)


def test_what_is_enough_to_the_minute_is_compared() -> None:
    # 720 minutes of the day, 30 of them in the first block: one less of either is too little.
    just = [value(0, minute, 2.0) for minute in (*range(30, 720), *range(780, 810))]
    assert [each.measure for each in compared(just, 1).errors] == ["activity_px_per_s"]
    [lacking] = [each for each in compared(just[1:], 1).too_little if each.measure == "activity_px_per_s"]
    assert (lacking.minutes, lacking.in_blocks) == (719, None)
    late = [value(0, minute, 2.0) for minute in (*range(31, 720), *range(780, 811))]
    [lacking] = [each for each in compared(late, 1).too_little if each.measure == "activity_px_per_s"]
    assert (lacking.minutes, lacking.in_blocks) == (720, 29)


# The command, on two days of a simulated rat in a box four hours west of Greenwich.

BOX = """
[box]
time_zone = "Etc/GMT+4"
"""
LOCAL_MIDNIGHT_UTC_MINUTE = 1_788_235_200 // 60  # 2026-09-01, 04:00 UTC
SHIPPED_BLOCKS = ("00:30", "03:00", "07:00", "09:30", "13:00", "15:30", "19:00", "22:00")
OTHER_PLAN = """
[schedule]
block_minutes = 45
[schedule.strata]
night = ["02:15"]
day = ["11:00", "20:10"]
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the box, with its config and database; one observation a minute, so no ways, speeds and rests."""
    folder = tmp_path_factory.mktemp("sampling_error") / "box"
    run_script(
        with_animals(parse_settings(BOX, origin="test"), seed=61, animals=1),
        "none",
        first_day=date(2026, 9, 1),
        days=2,
        every_s=60,
        pictures_day=None,
        pictures_hours=24,
        errors=None,
        output=folder,
        version="test",
        on_progress=lambda _seconds: None,
    )
    return folder


def printed(box: Path, *arguments: str) -> str:
    """By `vivarium sampling-error` of both days."""
    command = ["sampling-error", "--from", "2026-09-01", "--days", "2", "-c", str(box / "config.toml"), *arguments]
    result = CliRunner().invoke(app, command)
    if result.exception is not None:
        raise result.exception
    return result.output


def table(text: str) -> dict[str, list[str]]:
    """The printed columns by measure."""
    lines = text.partition("not compared")[0].splitlines()
    return {
        line.split()[0]: line.split()[1:] for line in lines if re.match(r"\w+  ", line) and "between days" not in line
    }


def block_minutes(starts: Iterable[str], length: int) -> set[int]:
    """Minutes of the local day, by their numbers."""
    firsts = [60 * int(start[:2]) + int(start[3:]) for start in starts]
    return {minute for first in firsts for minute in range(first, first + length)}


def by_hand(box: Path, measure: str, blocks: set[int]) -> tuple[int, list[float]]:
    """Days, and mean, bias, error and spread, straight from the rows of the database."""
    with closing(sqlite3.connect(box / "vivarium.db")) as connection:
        rows = connection.execute(
            "SELECT minute_utc_ns / 60000000000, value FROM minute_value WHERE measure = ? AND value IS NOT NULL",
            (measure,),
        ).fetchall()
    whole: list[list[float]] = [[], []]
    part: list[list[float]] = [[], []]
    for utc_minute, number in rows:
        day, minute = divmod(utc_minute - LOCAL_MIDNIGHT_UTC_MINUTE, 1440)
        whole[day].append(number)
        if minute in blocks:
            part[day].append(number)
    days = [day for day in (0, 1) if len(whole[day]) >= 720 and len(part[day]) >= 30]
    true, off = [fmean(whole[day]) for day in days], [fmean(part[day]) - fmean(whole[day]) for day in days]
    return len(days), [fmean(true), fmean(off), (sum(each**2 for each in off) / len(off)) ** 0.5, stdev(true)]


@pytest.mark.parametrize("other", [pytest.param(False, id="of the box"), pytest.param(True, id="another")])
def test_the_command_prints_what_the_blocks_of_a_plan_miss(box: Path, tmp_path: Path, *, other: bool) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(OTHER_PLAN)
    text = printed(box, *(("--plan", str(plan)) if other else ()))
    assert text.startswith(f"{'3 blocks of 45' if other else '8 blocks of 30'} min against all minutes")
    blocks = block_minutes(("02:15", "11:00", "20:10"), 45) if other else block_minutes(SHIPPED_BLOCKS, 30)
    found = table(text)
    temperatures = {"skin_max_celsius", "skin_max_30min_celsius", "tail_minus_ambient_celsius", "body_mean_celsius"}
    assert temperatures | {"ambient_celsius", "seen_share", "curl"} <= found.keys()
    biases = []
    for measure, (days, of_days, *numbers) in found.items():
        expected_days, expected = by_hand(box, measure, blocks)
        assert (int(days), int(of_days)) == (expected_days, 2)
        for number, exact, decimals in zip(numbers, expected, (3, 4, 4, 4), strict=True):
            assert float(number) == pytest.approx(exact, abs=0.51 * 10**-decimals), measure
        biases.append(abs(expected[1]))
    assert max(biases) > 0.1


def test_the_command_names_what_it_cannot_compare_and_what_that_lacks(box: Path, tmp_path: Path) -> None:
    text = printed(box)
    lacking = dict(line.split(maxsplit=1) for line in text.partition("not compared")[2].splitlines()[1:])
    assert lacking["distance_px"] == lacking["nest_celsius"] == "no minute has a value"
    assert not lacking.keys() & table(text).keys()
    # Of a copy the curl of what is left of each local day after 700 minutes is taken away.
    with closing(sqlite3.connect(box / "vivarium.db")) as connection:
        copy = tmp_path / "vivarium.db"
        with closing(sqlite3.connect(copy)) as copied:
            connection.backup(copied)
            copied.execute(
                "UPDATE minute_value SET value = NULL "
                "WHERE measure = 'curl' AND (minute_utc_ns / 60000000000 - ?) % 1440 >= 700",
                (LOCAL_MIDNIGHT_UTC_MINUTE,),
            )
            copied.commit()
            most = copied.execute(
                "SELECT max(n) FROM (SELECT count(value) AS n FROM minute_value WHERE measure = 'curl' "
                "GROUP BY (minute_utc_ns / 60000000000 - ?) / 1440)",
                (LOCAL_MIDNIGHT_UTC_MINUTE,),
            ).fetchone()[0]
    assert 0 < most <= 700
    (tmp_path / "config.toml").write_text((box / "config.toml").read_text())
    assert re.search(
        rf"^curl +{most} min of a day have a value at most, 720 are needed$", printed(tmp_path), re.MULTILINE
    )


def test_a_plan_with_too_few_minutes_is_refused_with_what_every_measure_lacks(box: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('[schedule]\nblock_minutes = 20\n[schedule.strata]\nnight = ["02:00"]\n')
    with pytest.raises(ConfigError, match="no measure has values in 50% of the minutes of a day") as refused:
        printed(box, "--plan", str(plan))
    assert "seen_share                      20 min in a day's blocks have a value at most, 30 are needed" in str(
        refused.value
    )
    assert "distance_px                     no minute has a value" in str(refused.value)
