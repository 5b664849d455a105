"""What a long run is judged by."""

from dataclasses import replace

import pytest

from tests.soak.judgement import judge, slope_per_h
from tests.soak.sampling import Look


def looks_of(hours: float = 2.0, *, rate_hz: float = 25.0, growth_mb_per_h: float = 0.0) -> list[Look]:
    times_s = [10.0 * step for step in range(round(hours * 360) + 1)]
    return [
        Look(
            elapsed_s=time_s,
            resident_mb=200 + growth_mb_per_h * time_s / 3600,
            open_files=30,
            threads=14,
            processor_s=time_s / 3,
            frames=rate_hz * time_s,
            captured=25 * time_s,
            expected=25 * time_s,
            stored=25 * time_s,
            waiting=0,
            outbox=0,
        )
        for time_s in times_s
    ]


def broken(looks: list[Look]) -> list[str]:
    return [finding.promise.split()[0] for finding in judge(looks) if not finding.kept]


def test_a_steady_run_keeps_every_promise() -> None:
    assert broken(looks_of()) == []


def test_growth_is_the_slope_of_a_line_per_hour() -> None:
    assert slope_per_h(looks_of(growth_mb_per_h=3.5), "resident_mb") == pytest.approx(3.5)


def test_memory_that_grows_by_two_megabytes_an_hour_breaks_the_promise() -> None:
    assert broken(looks_of(growth_mb_per_h=2)) == ["resident"]


def test_growth_while_the_service_settles_does_not_count() -> None:
    looks = [replace(look, resident_mb=min(look.elapsed_s, 900.0)) for look in looks_of()]
    assert broken(looks) == []


def test_a_rate_of_two_percent_below_breaks_the_promise() -> None:
    assert broken(looks_of(rate_hz=24.5)) == ["25"]


def test_one_file_and_thread_more_in_the_second_half_breaks_the_promise() -> None:
    looks = looks_of()
    late = [replace(look, open_files=31, threads=15) for look in looks[len(looks) // 2 :]]
    assert broken([*looks[: len(looks) // 2], *late]) == ["no", "no"]


def test_a_file_that_is_open_for_a_moment_is_no_growth() -> None:
    looks = looks_of()
    looks[-1] = replace(looks[-1], open_files=33)
    assert broken(looks) == []


def test_missing_moments_break_the_promise() -> None:
    looks = [replace(look, captured=0.98 * look.captured) for look in looks_of()]
    assert broken(looks) == ["at"]


def test_a_run_that_has_not_settled_is_not_judged() -> None:
    with pytest.raises(ValueError, match="more than 1800 s"):
        judge(looks_of(hours=0.4))
