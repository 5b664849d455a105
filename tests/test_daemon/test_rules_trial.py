"""Rules tried on simulated boxes: the truth that is kept is the scene's, and nothing is counted twice or left out."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.events import Severity
from daemon.illness_script import NONE
from daemon.rules_replay import TrueIllness
from daemon.rules_trial import DAY_NS, Opened, TriedWeek, false_alerts, poisson_upper, tried
from daemon.rules_trial_cli import seeds_of
from daemon.scripted_days import ScriptedSimulation
from daemon.scripted_run import with_animals
from daemon.seen_errors import SHIPPED_ERRORS
from daemon.settings import parse_settings
from daemon.true_days import AFTER_S, BEFORE_S, TrueDays
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError
from drivers.scene import Scene

DAY = date(2026, 9, 1)
EVERY_S = 60
WARM = """
[box]
time_zone = "UTC"

[rules]
defaults = false

[[rule]]
name = "warm"
measure = "skin_max_celsius"
comparison = "above"
value = 35.2
hysteresis = 0.1
for_minutes = 5
clear_minutes = 5
cool_down_minutes = 30
"""


def week(script: str, *false: Opened, seed: int = 1, caught: str | None = None) -> TriedWeek:
    start = datetime(2026, 9, 6, 23, tzinfo=UTC)
    ill = TrueIllness(kind="fever", animal=2, start=start, end=start.replace(day=7, hour=3))
    begin = round(datetime(2026, 9, 1, tzinfo=UTC).timestamp()) * NS_PER_S
    return TriedWeek(
        seed=seed,
        script=script,
        animals=3,
        days=7,
        start_utc_ns=begin,
        from_utc_ns=begin if script == NONE else begin + 5 * DAY_NS,
        truth=() if script == NONE else (ill,),
        opened=false,
        caught_by=caught,
        caught_after_minutes=None if caught is None else 60.0,
        false=false,
        notices=0,
        animal_days=21.0,
    )


def opened(animal: int, day: float, rule: str = "fever", severity: Severity = Severity.ALERT) -> Opened:
    begin = round(datetime(2026, 9, 1, tzinfo=UTC).timestamp()) * NS_PER_S
    return Opened(rule=rule, kind=rule, animal=animal, at_utc_ns=begin + round(day * DAY_NS), severity=severity)


def test_days_of_another_illness_or_another_light_are_not_taken_for_these(tmp_path: Path) -> None:
    settings = with_animals(parse_settings(WARM, origin="test"), seed=3, animals=1)
    simulated = settings.camera.simulated
    later = simulated.model_copy(update={"lights_on_utc": "10:00"})
    relit = settings.model_copy(update={"camera": settings.camera.model_copy(update={"simulated": later})})
    for each, script_days in ((settings, 2), (settings, 3), (relit, 2)):
        made = TrueDays(
            each, first_day=DAY, script_days=script_days, scripts=["fever"], every_s=7200, folder=tmp_path
        ).make(0)
        assert made


@pytest.mark.parametrize(
    ("script", "animals"), [pytest.param("immobility", 2, id="ways"), pytest.param("fever", 1, id="warmth")]
)
def test_kept_days_are_those_of_the_scene(tmp_path: Path, script: str, animals: int) -> None:
    """Around both ends of a script, where healthy and ill days are put together, and after it was read again."""
    settings = with_animals(parse_settings(WARM, origin="test"), seed=3, animals=animals)
    for _ in range(2):
        true = TrueDays(settings, first_day=DAY, script_days=2, scripts=[script], every_s=1200, folder=tmp_path)
        incident = true.incidents[script]
        scene = Scene(3, animals, script=[incident], lights_on_utc_s=settings.camera.simulated.lights_on_utc_s)
        compared = 0
        for day in range(2):
            for utc_ns, moment in true.moments(script, day):
                utc_s = utc_ns / NS_PER_S
                near = (incident.start_utc_s - BEFORE_S, incident.end_utc_s + AFTER_S)
                if min(abs(utc_s - edge) for edge in near) <= 2400:
                    assert moment == scene.moment(utc_s)
                    compared += 1
        assert compared >= 8
        assert not true.make(0)


def test_a_box_that_is_tried_says_what_a_simulation_says(tmp_path: Path) -> None:
    settings = with_animals(parse_settings(WARM, origin="test"), seed=4, animals=1)
    weeks = tried(
        settings, SHIPPED_ERRORS, scripts=["fever"], first_day=DAY, days=1, every_s=EVERY_S, folder=tmp_path / "tried"
    )
    assert [each.script for each in weeks] == [NONE, "fever"]
    rate = {"rate_hz": 1 / EVERY_S}
    simulated = settings.model_copy(
        update={
            "schedule": settings.schedule.model_copy(update=rate),
            "measure": settings.measure.model_copy(update={"outside_rate_hz": 1 / EVERY_S}),
        }
    )
    true = TrueDays(settings, first_day=DAY, script_days=1, scripts=["fever"], every_s=EVERY_S, folder=tmp_path)
    result = ScriptedSimulation(
        simulated,
        script=[true.incidents["fever"]],
        errors=SHIPPED_ERRORS,
        first_day=DAY,
        days=1,
        pictures_day=None,
        segmenter=None,
        output=tmp_path / "simulated",
        version="test",
    ).run(lambda _: None)
    expected = [
        (event.data.get("rule", event.kind.value), event.at_utc_ns)
        for event in result.events
        if event.state.value == "opened"
    ]
    assert [(each.rule, each.at_utc_ns) for each in weeks[1].opened] == expected
    assert len(expected) > 1
    again = tried(
        settings,
        SHIPPED_ERRORS,
        scripts=["fever"],
        first_day=DAY,
        days=1,
        every_s=EVERY_S,
        folder=tmp_path / "tried",
        on_day=lambda script, day: pytest.fail(f"{script} {day} was tried before"),
    )
    assert again == weeks


def test_an_alert_of_the_healthy_box_counts_once_and_one_of_its_own_as_well() -> None:
    shared, own = opened(1, 4.2), opened(2, 5.1)
    found = false_alerts([week(NONE, shared), week("fever", shared, own)], baseline_days=3)
    assert found.alerts == 2
    assert found.animal_days == pytest.approx(21 + 2 - 4 / 24)
    assert found.settled_days == pytest.approx(12 + 2 - 4 / 24)
    assert found.per_hundred == pytest.approx(100 * 2 / (23 - 4 / 24))
    assert found.at_most() == pytest.approx(100 * 6.2958 / (23 - 4 / 24), rel=1e-4)
    none = false_alerts([], baseline_days=3)
    assert (none.per_hundred, none.at_most(), none.at_most(settled=True)) == (None, None, None)


def test_alerts_about_an_illness_are_those_of_its_animal_in_its_time() -> None:
    in_it, other, notice = opened(2, 6.0), opened(1, 6.0), opened(2, 6.0, "drop", Severity.NOTICE)
    of_week = week("fever").model_copy(update={"opened": (in_it, other, notice, opened(2, 3.0))})
    assert of_week.about_illness == (in_it,)


@pytest.mark.parametrize(("count", "expected"), [(0, 2.9957), (1, 4.7439), (5, 10.5130)])
def test_the_upper_bound_is_the_exact_one(count: int, expected: float) -> None:
    """Garwood 1936: Poisson counts, one-sided 95 %."""
    assert poisson_upper(count, 0.95) == pytest.approx(expected, abs=1e-4)


def test_seeds_areseeds_of_and_ranges() -> None:
    assert seeds_of("101-103,7") == [101, 102, 103, 7]
    for wrong in ("", "a", "3-", "-3", "5-4"):
        with pytest.raises(ConfigError, match="--seeds"):
            seeds_of(wrong)


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_worked_out(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    result = CliRunner().invoke(app, ["rules", "judge", "--seeds", "1", "-o", str(file)])
    assert isinstance(result.exception, ConfigError)
    assert f"--output: {file} cannot be written: File exists" in str(result.exception)
    assert "day 1" not in result.output
