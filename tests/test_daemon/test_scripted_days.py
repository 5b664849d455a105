"""Scripted days: what is drawn follows the truth by its stated errors, and the rules get it as in the field."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from daemon.drawn_eyes import DRAWN, DrawnEyes, true_places
from daemon.illness_script import NAMES, NONE, script_of, truth_json
from daemon.minute_value import MinuteValue
from daemon.picture_eyes import numbers_by_truth
from daemon.rules_replay import read_truth
from daemon.scripted_run import run_script, with_animals
from daemon.seen_errors import SHIPPED_ERRORS, Error, SeenErrors, read_errors
from daemon.settings import parse_settings
from daemon.simulation_report import agreement, correlation, trailing_mean
from daemon.vision.parts import BodyPart, Segmentation
from drivers.clock import NS_PER_S
from drivers.errors import ConfigError
from drivers.scene import Scene
from drivers.vivarium.figure import ScenePart
from drivers.vivarium.incidents import IncidentKind
from drivers.vivarium.posture import Stance

DAY = date(2026, 9, 1)
LIGHTS_ON_UTC_S = 9 * 3600.0
NO_NETWORKS = '[vision]\nunet = "off"\npanoptic = "off"\n'
NOON_UTC_NS = 1_788_264_000 * NS_PER_S


def exact(**shares: float) -> SeenErrors:
    """Eyes that err in nothing; of what is hidden by contact they see all, or the shares given."""
    none = Error(bias=0, slow=0, quick=0)
    part = {"mean_celsius": none, "place_px": none}
    return SHIPPED_ERRORS.model_copy(
        update={
            "head": SHIPPED_ERRORS.head.model_copy(update=part),
            "body": SHIPPED_ERRORS.body.model_copy(update=part),
            "tail": SHIPPED_ERRORS.tail.model_copy(update=part),
            "skin_celsius": none,
            "seen_apart": 1.0,
            "seen_touching": 1.0,
            "seen_huddled": 1.0,
            "head_apart": 1.0,
            "head_touching": 1.0,
            "head_huddled": 1.0,
            **shares,
        }
    )


def test_a_head_that_is_covered_stays_so_for_minutes_and_as_often_as_stated() -> None:
    moment = Scene(5, 1).moment(NOON_UTC_NS / NS_PER_S)
    eyes = DrawnEyes(exact(head_apart=0.7), seed=1, mm_per_px=None)
    shown = []
    for number in range(2400):  # 10 days
        utc_ns = NOON_UTC_NS + number * 360 * NS_PER_S
        observation = eyes.look(moment, utc_ns, number, block_key=None, planned_utc_ns=None)
        [seen] = observation.animals
        shown.append(observation.skin_max_celsius(seen) is not None)
        assert [part.part for part in seen.parts if part.part is not BodyPart.HEAD] == [BodyPart.BODY, BodyPart.TAIL]
    assert np.mean(shown) == pytest.approx(0.7, abs=0.04)
    changes = np.count_nonzero(np.diff(np.array(shown, int)))
    assert changes < 0.6 * 2 * 0.7 * 0.3 * len(shown)  # fewer than if each were drawn anew


def test_eyes_without_errors_see_the_truth() -> None:
    moment = Scene(5, 3).moment(NOON_UTC_NS / NS_PER_S)
    eyes = DrawnEyes(exact(), seed=1, mm_per_px=2.0)
    observation = eyes.look(moment, NOON_UTC_NS, 0, block_key=None, planned_utc_ns=None)
    assert [each.animal for each in observation.animals] == [1, 2, 3]
    for seen, true in zip(observation.animals, moment.animals, strict=True):
        assert max(part.max_celsius or 0 for part in seen.parts) == pytest.approx(true.skin_celsius)
        for part in seen.parts:
            assert part.mean_celsius == pytest.approx(true.surface_celsius[ScenePart(part.part)])
            assert part.x_mm == pytest.approx(2 * part.x_px)


@pytest.mark.parametrize(("curled", "away_px"), [(False, 5.0), (True, 9.0)])  # of bodies some 30 pixels wide
def test_a_body_is_drawn_where_its_mask_lies(*, curled: bool, away_px: float) -> None:
    scene, away = Scene(7, 3), []
    for utc_s in range(NOON_UTC_NS // NS_PER_S, NOON_UTC_NS // NS_PER_S + 40 * 1300, 1300):
        picture = scene.at(utc_s)
        for true in scene.moment(utc_s).animals:
            rows, columns = np.nonzero((picture.instances == true.animal) & (picture.parts == BodyPart.BODY))
            if len(rows) > 500 and (true.stance is Stance.CURLED) == curled:  # most of it is not covered
                x, y = true_places(true)[BodyPart.BODY]
                away.append(np.hypot(x - columns.mean(), y - rows.mean()))
    assert len(away) > 20
    assert np.mean(away) < away_px


def test_eyes_see_the_same_when_asked_again_and_err_as_stated() -> None:
    scene, wrong = Scene(5, 1), Error(bias=-0.5, slow=0.3, quick=0.2)
    errors = exact().model_copy(update={"skin_celsius": wrong})
    off = []
    for number in range(400):
        utc_ns = NOON_UTC_NS + number * 601 * NS_PER_S
        moment = scene.moment(utc_ns / NS_PER_S)
        looks = [
            DrawnEyes(errors, seed=1, mm_per_px=None).look(moment, utc_ns, number, block_key=None, planned_utc_ns=None)
            for _ in range(2)
        ]
        assert looks[0] == looks[1]
        head = looks[0].animals[0].parts[0]
        assert head.max_celsius is not None
        off.append(head.max_celsius - moment.animals[0].skin_celsius)
    assert np.mean(off) == pytest.approx(-0.5, abs=0.06)
    assert np.std(off) == pytest.approx(np.hypot(0.3, 0.2), abs=0.05)


def test_animals_that_touch_are_seen_as_rarely_as_stated() -> None:
    scene = Scene(5, 3)
    moments = [scene.moment(NOON_UTC_NS / NS_PER_S + 900 * number) for number in range(60)]
    eyes = DrawnEyes(exact(seen_touching=0.0, seen_huddled=0.0), seed=1, mm_per_px=None)
    for moment in moments:
        utc_ns = round(moment.utc_s) * NS_PER_S
        seen = eyes.look(moment, utc_ns, 0, block_key=None, planned_utc_ns=None).animals
        assert {each.animal for each in seen} == {each.animal for each in moment.animals if not each.touching}
    assert any(each.touching for moment in moments for each in moment.animals)


@pytest.mark.parametrize("name", [name for name in NAMES if name != NONE])
def test_a_named_script_falls_ill_in_night_six_and_its_truth_can_be_replayed(name: str, tmp_path: Path) -> None:
    [incident] = script_of(name, first_day=DAY, days=7, animals=3, lights_on_utc_s=LIGHTS_ON_UTC_S)
    dark = datetime(2026, 9, 6, 21, tzinfo=UTC).timestamp()
    assert incident.kind == IncidentKind(name)
    assert dark < incident.start_utc_s < incident.end_utc_s < dark + 12 * 3600
    (tmp_path / "truth.json").write_text(truth_json([incident]))
    [illness] = read_truth(tmp_path / "truth.json")
    assert illness.start.timestamp() == incident.start_utc_s
    assert illness.caught_by


def test_a_file_of_incidents_is_a_script_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps([{"kind": "fever", "animal": 3, "start": "2026-09-02T01:00:00Z", "hours": 2}]))

    def read(animals: int) -> None:
        [incident] = script_of(str(path), first_day=DAY, days=7, animals=animals, lights_on_utc_s=LIGHTS_ON_UTC_S)
        assert (incident.animal, incident.duration_s) == (3, 7200)

    read(3)
    with pytest.raises(ConfigError, match="animals 1 to 2"):
        read(2)
    with pytest.raises(ConfigError, match="tail_injury"):
        script_of("plague", first_day=DAY, days=7, animals=3, lights_on_utc_s=LIGHTS_ON_UTC_S)


def test_an_instance_that_shows_two_animals_has_no_number() -> None:
    true, instances = np.zeros((192, 256), np.uint8), np.zeros((192, 256), np.uint8)
    true[10:30, 10:30], true[10:30, 30:50], true[60:80, 10:30] = 1, 2, 3
    instances[10:30, 10:50], instances[60:80, 12:32] = 1, 2
    assert numbers_by_truth(Segmentation(parts=np.minimum(instances, 1), instances=instances), true) == {2: 3}


def test_means_and_correlations_leave_out_what_is_not_known() -> None:
    core = np.sin(np.arange(200) / 20)
    proxy = core + 3
    proxy[50:90] = np.nan
    assert correlation(proxy, core) == pytest.approx(1)
    assert correlation(proxy[:60], core[:60] * np.nan) is None
    assert trailing_mean(np.arange(5.0), 3).tolist()[2:] == [1, 2, 3]


def test_errors_that_are_no_errors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "errors.json"
    path.write_text(SHIPPED_ERRORS.model_dump_json())
    assert read_errors(path) == SHIPPED_ERRORS
    path.write_text("{}")
    with pytest.raises(ConfigError, match="seen-errors"):
        read_errors(path)


def simulated(output: Path, *, every_s: int, pictures_day: int | None = None, errors: SeenErrors | None = None) -> str:
    """What is told of a day of one rat, of which pictures show no more than its first six hours."""
    path = output.with_suffix(".json")
    if errors is not None:
        path.write_text(errors.model_dump_json())
    told = run_script(
        with_animals(parse_settings(NO_NETWORKS, origin="test"), seed=3, animals=1),
        NONE,
        first_day=DAY,
        days=1,
        every_s=every_s,
        pictures_day=pictures_day,
        pictures_hours=6,
        errors=None if errors is None else path,
        output=output,
        version="test",
        on_progress=lambda _seconds: None,
    )
    return "\n".join(told)


def test_a_day_goes_through_collector_rules_and_store(tmp_path: Path) -> None:
    text = simulated(tmp_path / "day", every_s=30)
    assert "2880 observations, one in 30 s, drawn from the truth without pictures" in text
    assert SHIPPED_ERRORS.source in text
    assert "0 caught, 0 missed" in text
    assert len((tmp_path / "day" / "week.csv").read_text().splitlines()) > 1400
    with pytest.raises(ConfigError, match="earlier simulation"):
        simulated(tmp_path / "day", every_s=30)


def test_a_day_can_be_seen_through_pictures(tmp_path: Path) -> None:
    # One picture an hour: too few for values of minutes, but all are measured and stored.
    text = simulated(tmp_path / "day", every_s=3600, pictures_day=1)
    assert "but for the first 6 h of day 1, seen through pictures by classical-1" in text
    assert "cannot agree" not in text
    with closing(sqlite3.connect(tmp_path / "day" / "vivarium.db")) as connection:
        segmenters = connection.execute("SELECT segmenter, count(*) FROM frame GROUP BY segmenter").fetchall()
        parts = connection.execute("SELECT count(*) FROM part_observation WHERE animal = 1").fetchone()
    assert sorted(segmenters) == [("classical-1", 6), (DRAWN, 18)]
    assert parts[0] > 24
    of_others = SHIPPED_ERRORS.model_copy(update={"source": "others, 9 times apart: by hand"})
    again = simulated(tmp_path / "again", every_s=6 * 3600, pictures_day=1, errors=of_others)
    assert "these are not the errors of classical-1: pictures and drawing cannot agree" in again


def test_pictures_are_compared_with_what_would_have_been_drawn() -> None:
    drawn = [
        MinuteValue(
            measure="body_mean_celsius",
            minute_utc_ns=minute * 60 * NS_PER_S,
            animal=1,
            value=30 + minute / 100,
            uncertainty=None,
            coverage=1.0,
            samples=2,
        )
        for minute in range(60)
    ]
    pictured = [replace(each, value=(each.value or 0) + 0.25) for each in drawn]
    _, line = agreement(pictured, drawn)
    measure, minutes, _, _, difference, spread, related = line.split()
    assert (measure, minutes, difference, spread, related) == ("body_mean_celsius", "60", "0.250", "0.000", "1.000")
