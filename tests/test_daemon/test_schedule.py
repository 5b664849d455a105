"""The plan of a day, on ordinary days and on those that the clock disturbs."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from daemon.schedule import (
    PlannedBlock,
    StratifiedDay,
    block_at,
    blocks_between,
    check_plan,
    describe_day,
    due,
    next_block,
)
from daemon.settings import ScheduleSettings
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError

HOUR_NS = 3_600 * NS_PER_S
BERLIN = ZoneInfo("Europe/Berlin")
UTC_ZONE = ZoneInfo("UTC")
DEFAULT = ScheduleSettings()


def utc_ns(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S


def utc_text(moment_ns: int) -> str:
    return (datetime(1970, 1, 1) + timedelta(microseconds=moment_ns // 1000)).isoformat()


def plan(*times: str, minutes: float = 30, **more: object) -> ScheduleSettings:
    return ScheduleSettings.model_validate({"strata": {"s": times}, "block_minutes": minutes, **more})


def starts(day: StratifiedDay) -> list[str]:
    return [row.start_local.isoformat() for row in describe_day(day)]


# The default plan


def test_an_ordinary_day_has_the_eight_blocks_of_the_protocol() -> None:
    day = StratifiedDay.of(date(2026, 11, 23), DEFAULT, ZoneInfo("America/Sao_Paulo"))
    assert [(block.key, utc_text(block.start_utc_ns)) for block in day] == [
        ("2026-11-23/night-1", "2026-11-23T03:30:00"),
        ("2026-11-23/night-2", "2026-11-23T06:00:00"),
        ("2026-11-23/morning-1", "2026-11-23T10:00:00"),
        ("2026-11-23/morning-2", "2026-11-23T12:30:00"),
        ("2026-11-23/afternoon-1", "2026-11-23T16:00:00"),
        ("2026-11-23/afternoon-2", "2026-11-23T18:30:00"),
        ("2026-11-23/evening-1", "2026-11-23T22:00:00"),
        ("2026-11-23/evening-2", "2026-11-24T01:00:00"),
    ]
    assert day.frames == 14_400
    assert len(day) == 8
    assert {(block.duration_s, block.frames) for block in day} == {(1800.0, 1800)}


def test_a_plan_is_a_value() -> None:
    day = StratifiedDay.of(date(2026, 11, 23), DEFAULT, BERLIN)
    assert day == StratifiedDay.of(date(2026, 11, 23), ScheduleSettings(), BERLIN)
    with pytest.raises(AttributeError):
        day.blocks = ()  # type: ignore[misc]  # that is what must fail


def test_numbers_follow_the_time_and_not_the_order_in_the_config() -> None:
    day = StratifiedDay.of(date(2026, 1, 5), plan("22:00", "03:00"), BERLIN)
    assert [(block.number, row.start_local.hour) for block, row in zip(day, describe_day(day), strict=True)] == [
        (1, 3),
        (2, 22),
    ]


def test_half_hour_offsets_are_kept() -> None:
    day = StratifiedDay.of(date(2026, 6, 1), plan("00:30"), ZoneInfo("Asia/Kathmandu"))
    assert [utc_text(block.start_utc_ns) for block in day] == ["2026-05-31T18:45:00"]
    assert day.blocks[0].key == "2026-06-01/s-1"


def test_a_date_that_nanoseconds_cannot_name_is_refused() -> None:
    with pytest.raises(ValueError, match="1678 to 2261, got 0001-01-01"):
        StratifiedDay.of(date.min, DEFAULT, BERLIN)


# Planned moments


def a_block(duration_ns: int = 10 * NS_PER_S, period_ns: int = 3 * NS_PER_S) -> PlannedBlock:
    return PlannedBlock(
        day=date(2026, 1, 5), stratum="s", number=1, start_utc_ns=1_000, duration_ns=duration_ns, period_ns=period_ns
    )


def test_planned_moments_are_evenly_spaced_and_lie_within_the_block() -> None:
    block = a_block()
    assert list(block.planned_utc_ns) == [1_000 + k * 3 * NS_PER_S for k in range(4)]
    assert block.frames == len(block.planned_utc_ns) == 4


@pytest.mark.parametrize(
    ("after_start_ns", "index"),
    [
        pytest.param(-1, None, id="before"),
        pytest.param(0, 0, id="first"),
        pytest.param(3 * NS_PER_S - 1, 0, id="end of the first window"),
        pytest.param(3 * NS_PER_S, 1, id="second"),
        pytest.param(10 * NS_PER_S - 1, 3, id="end of the short last window"),
        pytest.param(10 * NS_PER_S, None, id="end"),
    ],
)
def test_a_moment_belongs_to_the_planned_one_before_it(after_start_ns: int, index: int | None) -> None:
    block = a_block()
    planned = None if index is None else block.planned_utc_ns[index]
    assert block.planned_at(block.start_utc_ns + after_start_ns) == planned


@pytest.mark.parametrize(
    ("rate_hz", "frames"), [(1.0, 1800), (3.0, 5400), (0.7, 1260), (0.3, 540), (25.0, 45_000), (0.0001, 1)]
)
def test_the_rate_gives_the_number_of_frames_even_where_its_period_is_no_whole_nanosecond(
    rate_hz: float, frames: int
) -> None:
    day = StratifiedDay.of(date(2026, 1, 5), plan("12:00", rate_hz=rate_hz), BERLIN)
    assert day.frames == frames
    assert day.blocks[0].planned_at(day.blocks[0].end_utc_ns - 1) == day.blocks[0].planned_utc_ns[-1]


@pytest.mark.parametrize(("number", "duration_ns", "period_ns"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_block_without_extent_is_refused(number: int, duration_ns: int, period_ns: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        PlannedBlock(
            day=date(2026, 1, 5),
            stratum="s",
            number=number,
            start_utc_ns=0,
            duration_ns=duration_ns,
            period_ns=period_ns,
        )


# Zeitgeber time


def test_zeitgeber_times_count_from_lights_on_and_the_day_ends_with_the_next_one() -> None:
    settings = plan("00:00", "12:00", "18:30", times="zeitgeber", lights_on="07:15")
    day = StratifiedDay.of(date(2026, 1, 5), settings, BERLIN)
    assert [(row.start_local.isoformat(), row.zeitgeber) for row in describe_day(day)] == [
        ("2026-01-05T07:15:00+01:00", "ZT00:00"),
        ("2026-01-05T19:15:00+01:00", "ZT12:00"),
        ("2026-01-06T01:45:00+01:00", "ZT18:30"),
    ]
    assert {block.day for block in day} == {date(2026, 1, 5)}


def test_zeitgeber_times_follow_the_clock_over_a_change() -> None:
    settings = plan("00:00", "19:30", "21:00", times="zeitgeber")
    day = StratifiedDay.of(date(2026, 3, 28), settings, BERLIN)
    assert starts(day) == ["2026-03-28T07:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"]


# Days that the clock disturbs


@pytest.mark.parametrize(
    ("zone", "day", "hours", "first", "second"),
    [
        pytest.param("Europe/Berlin", date(2026, 3, 29), 23, "00:30:00+01:00", "03:00:00+02:00", id="Berlin spring"),
        pytest.param("Europe/Berlin", date(2026, 10, 25), 25, "00:30:00+02:00", "03:00:00+01:00", id="Berlin autumn"),
        pytest.param("America/New_York", date(2026, 3, 8), 23, "00:30:00-05:00", "03:00:00-04:00", id="NY spring"),
        pytest.param("America/New_York", date(2026, 11, 1), 25, "00:30:00-04:00", "03:00:00-05:00", id="NY autumn"),
        pytest.param("America/Sao_Paulo", date(2018, 11, 4), 23, "01:00:00-02:00", "03:00:00-02:00", id="SP spring"),
        pytest.param("America/Sao_Paulo", date(2018, 2, 17), 25, "00:30:00-02:00", "03:00:00-02:00", id="SP autumn"),
        pytest.param("Australia/Lord_Howe", date(2026, 10, 4), 23.5, "00:30:00+10:30", "03:00:00+11:00", id="Howe +"),
        pytest.param("Australia/Lord_Howe", date(2026, 4, 5), 24.5, "00:30:00+11:00", "03:00:00+10:30", id="Howe -"),
        pytest.param("America/St_Johns", date(2010, 11, 6), 24, "00:30:00-02:30", "03:00:00-02:30", id="St Johns"),
        pytest.param("Antarctica/Troll", date(2026, 3, 29), 22, "00:30:00+00:00", "03:00:00+02:00", id="two hours"),
        pytest.param("Asia/Kathmandu", date(2026, 3, 29), 24, "00:30:00+05:45", "03:00:00+05:45", id="Kathmandu"),
    ],
)
def test_short_and_long_days_have_all_their_frames(zone: str, day: date, hours: float, first: str, second: str) -> None:
    planned = StratifiedDay.of(day, DEFAULT, ZoneInfo(zone))
    assert planned.frames == 14_400
    assert starts(planned)[:2] == [f"{day}T{first}", f"{day}T{second}"]
    moments = [moment for block in planned for moment in block.planned_utc_ns]
    assert all(earlier < later for earlier, later in pairwise(moments))

    midnights = plan("00:00", minutes=1)
    [this], [following] = (StratifiedDay.of(each, midnights, ZoneInfo(zone)) for each in (day, day + timedelta(days=1)))
    assert following.start_utc_ns - this.start_utc_ns == hours * HOUR_NS


@pytest.mark.parametrize(
    ("time", "day", "start", "end"),
    [
        pytest.param("02:30", date(2026, 3, 29), "03:00:00+02:00", "03:30:00+02:00", id="missing: after the gap"),
        pytest.param("02:00", date(2026, 3, 29), "03:00:00+02:00", "03:30:00+02:00", id="first missing"),
        pytest.param("01:45", date(2026, 3, 29), "01:45:00+01:00", "03:15:00+02:00", id="across the gap"),
        pytest.param("03:00", date(2026, 3, 29), "03:00:00+02:00", "03:30:00+02:00", id="first after the gap"),
        pytest.param("02:30", date(2026, 10, 25), "02:30:00+02:00", "02:00:00+01:00", id="repeated: the first"),
        pytest.param("02:45", date(2026, 10, 25), "02:45:00+02:00", "02:15:00+01:00", id="across the change"),
        pytest.param("03:00", date(2026, 10, 25), "03:00:00+01:00", "03:30:00+01:00", id="after the repeated hour"),
    ],
)
def test_a_block_in_a_change_begins_by_the_rule_of_cron_and_lasts_its_real_time(
    time: str, day: date, start: str, end: str
) -> None:
    planned = StratifiedDay.of(day, plan(time), BERLIN)
    [row] = describe_day(planned)
    assert (row.start_local.isoformat(), row.end_local.isoformat()) == (f"{day}T{start}", f"{day}T{end}")
    assert planned.frames == 1800


def test_blocks_that_a_change_pushes_together_follow_each_other_at_full_length() -> None:
    day = StratifiedDay.of(date(2026, 3, 29), plan("01:50", "02:20", "02:50", "03:20", "05:00"), BERLIN)
    assert [text[11:16] for text in starts(day)] == ["01:50", "03:20", "03:50", "04:20", "05:00"]
    assert day.frames == 5 * 1800


def test_a_gap_at_midnight_pushes_the_first_block_behind_the_last_of_the_day_before() -> None:
    zone, settings = ZoneInfo("America/Sao_Paulo"), plan("00:30", "23:45")
    before, after = (StratifiedDay.of(date(2018, 11, each), settings, zone) for each in (3, 4))
    assert before.blocks[-1].end_utc_ns == after.blocks[0].start_utc_ns == utc_ns("2018-11-04T03:15")
    assert before.frames == after.frames == 3600


def test_a_plan_without_free_time_stays_late_for_a_day_and_is_then_cut() -> None:
    settings = plan("00:00", minutes=1440)
    spring = [StratifiedDay.of(date(2026, 3, each), settings, BERLIN) for each in (28, 29, 30, 31)]
    assert [day.frames for day in spring] == [86_400, 86_400, 82_800, 86_400]
    assert [text[11:16] for day in spring for text in starts(day)] == ["00:00", "00:00", "01:00", "00:00"]
    [autumn] = StratifiedDay.of(date(2026, 10, 25), settings, BERLIN)
    assert autumn.frames == 86_400


def test_what_does_not_fit_at_all_is_left_out() -> None:
    half_hours = plan(*(f"{hour:02d}:{minute:02d}" for hour in range(24) for minute in (0, 30)))
    days = [StratifiedDay.of(date(2026, 3, each), half_hours, BERLIN) for each in (28, 29, 30, 31)]
    assert [len(day) for day in days] == [48, 48, 46, 48]


@pytest.mark.parametrize("times", ["local", "zeitgeber"])
def test_a_date_that_a_place_never_had_has_no_blocks(times: str) -> None:
    zone, settings = ZoneInfo("Pacific/Apia"), DEFAULT.model_copy(update={"times": times})
    days = [StratifiedDay.of(date(2011, 12, each), settings, zone) for each in (29, 30, 31)]
    assert [day.frames for day in days] == [14_400, 0, 14_400]
    assert list(days[1]) == []
    assert days[0].blocks[-1].end_utc_ns < days[2].blocks[0].start_utc_ns
    # lights on at 07:00: 17 h later is 00:00, of the date that followed
    if times == "zeitgeber":
        assert starts(days[0])[-2:] == ["2011-12-31T02:00:00+14:00", "2011-12-31T05:00:00+14:00"]


def test_a_day_that_begins_twice_is_planned_once() -> None:
    zone = ZoneInfo("America/St_Johns")  # at 00:01 back to 23:01 of the day before, until 2010
    [block] = StratifiedDay.of(date(2010, 11, 7), plan("00:00"), zone)
    assert utc_text(block.start_utc_ns) == "2010-11-07T02:30:00"
    assert block_at(utc_ns("2010-11-07T02:45"), plan("00:00"), zone) == block
    assert block_at(utc_ns("2010-11-07T03:45"), plan("00:00"), zone) is None


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param(
            {"strata": {"night": ["00:30"], "late": ["00:50"]}},
            r"night-1 at 00:30 and late-1 at 00:50 overlap: blocks last 30 min and these begin 20 min apart",
            id="two strata",
        ),
        pytest.param({"strata": {"night": ["23:45", "00:10"]}}, "night-2 at 23:45 and night-1 at 00:10", id="midnight"),
        pytest.param({"strata": {"a": ["07:00"], "b": ["07:00"]}}, "begin 0 min apart", id="the same time"),
        pytest.param(
            {"strata": {"a": ["23:50", "00:05"]}, "times": "zeitgeber"}, "a-2 at 23:50 and a-1 at 00:05", id="zeitgeber"
        ),
        pytest.param({"strata": {"a/b": ["07:00"]}}, "'a/b' names files", id="a name with a slash"),
        pytest.param({"strata": {"": ["07:00"]}}, "'' names files", id="no name"),
        pytest.param({"strata": {"night": []}}, "schedule.strata.night: expected at least one time", id="no times"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_plan(ScheduleSettings.model_validate(settings))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(DEFAULT, id="default"),
        pytest.param(plan("00:00", minutes=1440), id="the whole day"),
        pytest.param(plan("07:00", "07:30", "08:00"), id="back to back"),
        pytest.param(ScheduleSettings(strata={"manhã": ("07:00",)}), id="a name with an accent"),
        pytest.param(ScheduleSettings(strata={}), id="no blocks at all"),
    ],
)
def test_a_plan_that_can_be_carried_out_is_accepted(settings: ScheduleSettings) -> None:
    check_plan(settings)
    assert all(
        day_block.stratum in settings.strata for day_block in StratifiedDay.of(date(2026, 1, 5), settings, UTC_ZONE)
    )


# Looking up


def test_a_block_is_found_from_its_first_to_its_last_nanosecond() -> None:
    [block] = StratifiedDay.of(date(2026, 1, 5), plan("12:00"), UTC_ZONE)
    found = [
        block_at(moment, plan("12:00"), UTC_ZONE)
        for moment in (block.start_utc_ns - 1, block.start_utc_ns, block.end_utc_ns - 1, block.end_utc_ns)
    ]
    assert found == [None, block, block, None]


def test_the_next_block_starts_later_than_now() -> None:
    first, second = StratifiedDay.of(date(2026, 1, 5), plan("12:00", "20:00"), UTC_ZONE)
    assert next_block(first.start_utc_ns - 1, plan("12:00", "20:00"), UTC_ZONE) == first
    assert next_block(first.start_utc_ns, plan("12:00", "20:00"), UTC_ZONE) == second
    following = next_block(second.start_utc_ns, plan("12:00", "20:00"), UTC_ZONE)
    assert following is not None
    assert following.key == "2026-01-06/s-1"
    assert next_block(0, ScheduleSettings(strata={}), UTC_ZONE) is None


def test_the_next_block_is_found_over_a_date_that_never_was() -> None:
    following = next_block(utc_ns("2011-12-30T09:59"), plan("00:30"), ZoneInfo("Pacific/Apia"))
    assert following is not None
    assert following.key == "2011-12-31/s-1"


def test_blocks_between_share_a_moment_with_the_stretch() -> None:
    first, second = StratifiedDay.of(date(2026, 1, 5), plan("12:00", "20:00"), UTC_ZONE)
    settings = plan("12:00", "20:00")
    assert blocks_between(first.end_utc_ns, second.start_utc_ns, settings, UTC_ZONE) == ()
    assert blocks_between(first.end_utc_ns - 1, second.start_utc_ns + 1, settings, UTC_ZONE) == (first, second)


def test_a_stretch_asks_for_what_passed_and_for_what_is_on() -> None:
    night_1, night_2, morning_1, *_ = StratifiedDay.of(date(2026, 1, 5), DEFAULT, UTC_ZONE)
    asked = due(night_1.start_utc_ns + 1, morning_1.start_utc_ns, DEFAULT, UTC_ZONE)
    assert asked.passed == (night_1, night_2)
    assert asked.current == morning_1


def test_a_clock_that_went_back_has_passed_nothing() -> None:
    night_1, night_2, *_ = StratifiedDay.of(date(2026, 1, 5), DEFAULT, UTC_ZONE)
    asked = due(night_2.end_utc_ns, night_1.start_utc_ns, DEFAULT, UTC_ZONE)
    assert asked.passed == ()
    assert asked.current == night_1


def test_rows_show_local_time_with_offset_and_zeitgeber() -> None:
    row = describe_day(StratifiedDay.of(date(2026, 11, 23), DEFAULT, ZoneInfo("America/Sao_Paulo")))[-1]
    assert (row.key, row.stratum, row.zeitgeber, row.frames) == ("2026-11-23/evening-2", "evening", "ZT15:00", 1800)
    assert (row.start_local.isoformat(), row.end_local.isoformat()) == (
        "2026-11-23T22:00:00-03:00",
        "2026-11-23T22:30:00-03:00",
    )


# Whatever the plan, the place and the date


DISTURBED = (
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/Sao_Paulo", date(2018, 11, 4)),
    ("America/Sao_Paulo", date(2018, 2, 18)),
    ("America/St_Johns", date(2010, 11, 7)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Antarctica/Troll", date(2026, 3, 29)),
    ("Africa/Casablanca", date(2026, 2, 15)),
    ("Pacific/Apia", date(2011, 12, 30)),
    ("Pacific/Kwajalein", date(1993, 8, 21)),
    ("Asia/Kathmandu", date(2026, 6, 1)),
)


@st.composite
def plans(draw: st.DrawFn) -> ScheduleSettings:
    minutes = draw(st.integers(1, 240))
    free = draw(st.lists(st.integers(0, 300), min_size=1, max_size=10))
    at = draw(st.integers(0, 1439))
    times, first = [], at
    for pause in free:
        if at + minutes > first + 1440:
            break
        times.append(f"{at // 60 % 24:02d}:{at % 60:02d}")
        at += minutes + pause
    names = draw(st.lists(st.sampled_from(["a", "b", "a-1"]), min_size=len(times), max_size=len(times)))
    return ScheduleSettings.model_validate(
        {
            "strata": {name: [t for t, n in zip(times, names, strict=True) if n == name] for name in set(names)},
            "block_minutes": minutes,
            "times": draw(st.sampled_from(["local", "zeitgeber"])),
            "lights_on": f"{draw(st.integers(0, 23)):02d}:00",
        }
    )


@hypothesis_settings(max_examples=150, deadline=None, database=None)
@given(settings=plans(), place=st.sampled_from(DISTURBED))
def test_blocks_never_overlap_and_keys_never_repeat(settings: ScheduleSettings, place: tuple[str, date]) -> None:
    zone = ZoneInfo(place[0])
    days = [StratifiedDay.of(place[1] + timedelta(days=k), settings, zone) for k in range(-3, 4)]
    blocks = [block for day in days for block in day]
    assert all(earlier.end_utc_ns <= later.start_utc_ns for earlier, later in pairwise(blocks))
    assert len({block.key for block in blocks}) == len(blocks)
    assert blocks_between(blocks[0].start_utc_ns, blocks[-1].end_utc_ns, settings, zone) == tuple(blocks)
    for block, following in pairwise(blocks):
        assert block_at(block.start_utc_ns, settings, zone) == block
        assert block_at(block.end_utc_ns - 1, settings, zone) == block
        assert next_block(block.start_utc_ns, settings, zone) == following


@hypothesis_settings(max_examples=150, deadline=None, database=None)
@given(settings=plans(), place=st.sampled_from(DISTURBED))
def test_a_plan_with_three_hours_to_spare_loses_nothing_to_the_clock(
    settings: ScheduleSettings, place: tuple[str, date]
) -> None:
    count = sum(len(times) for times in settings.strata.values())
    spare = settings.model_copy(update={"block_minutes": min(settings.block_minutes, 21 * 60 / count)})
    for k in range(-3, 4):
        day = StratifiedDay.of(place[1] + timedelta(days=k), spare, ZoneInfo(place[0]))
        if day.day not in (date(2011, 12, 30), date(1993, 8, 21)):
            assert len(day) == count
            assert {block.duration_ns for block in day} == {round(spare.block_minutes * 60 * NS_PER_S)}
