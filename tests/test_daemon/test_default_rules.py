"""The shipped rules on a simulated rat: three days to know it, a healthy fourth day, a fever in its evening.

Observations are drawn from the truth, two a minute; collector, rules, evidence, store and commands are the product's.
"""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.default_rules import DEFAULT_RULES
from daemon.events import Event, EventState, Severity
from daemon.rule_state import JOINED, Verdict
from daemon.rules_replay import replay
from daemon.settings import load_settings
from daemon.store.repository import attach_store
from daemon.watching import minute_rules_of
from drivers.clock import NS_PER_S

pytestmark = pytest.mark.timeout(600)  # of a machine that does much else: it takes some 20 s of one core

SEED = 51
FIRST_DAY, DAYS = date(2026, 9, 1), 4
BASELINE_UNTIL = datetime(2026, 9, 4, tzinfo=UTC)
FEVER = datetime(2026, 9, 4, 19, tzinfo=UTC)
FEVER_HOURS = 4
WITHIN_MINUTES = 90
FEVER_ITSELF_WITHIN_MINUTES = 120
LEAST_CORRELATION = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What `vivarium simulate --script` left, and said."""

    folder: Path
    told: str

    @property
    def config(self) -> Path:
        """Of the box."""
        return self.folder / "config.toml"

    def events(self) -> list[Event]:
        """As they are stored, in their order."""
        with attach_store(load_settings(self.config).database_url, outbox_limit=100) as store:
            return [each.event for each in store.events_after(0, limit=1000)]

    def replayed(self, *arguments: str) -> str:
        """Output of `vivarium rules replay`."""
        result = CliRunner().invoke(app, ["rules", "replay", "-c", str(self.config), *arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Box:
    """Simulated once for all tests."""
    folder = tmp_path_factory.mktemp("default_rules")
    script, config = folder / "script.json", folder / "config.toml"
    script.write_text(
        json.dumps([{"kind": "fever", "animal": 1, "start": FEVER.isoformat(), "hours": FEVER_HOURS, "celsius": 1.5}])
    )
    config.write_text('[box]\ntime_zone = "UTC"\n')
    options = {"--script": script, "--days": DAYS, "--from": FIRST_DAY, "--animals": 1, "--seed": SEED}
    options |= {"--config": config, "--output": folder / "week"}
    result = CliRunner().invoke(app, ["simulate", *(str(each) for option in options.items() for each in option)])
    assert result.exit_code == 0, (result.output, result.exception)
    return Box(folder=folder / "week", told=result.output)


def minutes_after(event: Event, moment: datetime) -> float:
    return (event.at_utc_ns / NS_PER_S - moment.timestamp()) / 60


def of_state(events: Sequence[Event], state: EventState) -> list[Event]:
    return [event for event in events if event.state is state]


def test_a_fever_is_told_in_time_with_evidence_and_nothing_else_in_four_days(box: Box) -> None:
    events = box.events()
    [opened] = of_state(events, EventState.OPENED)
    assert (opened.kind.value, opened.severity, opened.animal) == ("fever", Severity.ALERT, 1)
    assert opened.data["rule"] in ("fever", "tail_cold_body_hot")
    assert 0 < minutes_after(opened, FEVER) <= WITHIN_MINUTES
    [joined] = [event for event in events if event.data.get("reason") == JOINED]
    assert (joined.data["rule"], joined.opened_event_id) == ("fever", opened.event_id)
    assert 0 < minutes_after(joined, FEVER) <= FEVER_ITSELF_WITHIN_MINUTES
    value, threshold, usual, z = (float(joined.data[name] or 0) for name in ("value", "threshold", "usual", "z"))
    assert value > threshold >= usual + 0.8  # as docs/rules.md says of it
    assert z >= 3
    assert float(joined.data["coverage"] or 0) >= 0.3
    for event in (opened, joined):
        assert (box.folder / str(event.data["plot"])).read_bytes().startswith(b"\x89PNG")


def test_replay_says_of_the_stored_minutes_what_was_said_then(box: Box) -> None:
    truth = str(box.folder / "truth.json")
    [opened] = of_state(box.events(), EventState.OPENED)
    printed = box.replayed("--truth", truth, "--from", "2026-09-01", "--to", "2026-09-05")
    after = minutes_after(opened, FEVER)
    assert f"caught: fever of animal 1 by {opened.data['rule']} after {after:.0f} min" in printed
    assert "1 caught, 0 missed, 0 false alerts in 3.8 animal-days: 0.00 per 100; 0 notices besides" in printed
    [counts] = re.findall(r"^opened: (.*);", printed, re.MULTILINE)
    found = dict(each.split(" ") for each in counts.split(", "))
    assert found == {rule.name: "1" if rule.name == opened.data["rule"] else "0" for rule in DEFAULT_RULES}


def test_of_a_healthy_day_the_rules_can_tell_and_say_nothing(box: Box) -> None:
    settings = load_settings(box.config)
    rules = minute_rules_of(settings, settings.minute_rules())
    start_utc_ns, end_utc_ns = (round(each.timestamp()) * NS_PER_S for each in (BASELINE_UNTIL, FEVER))
    with attach_store(settings.database_url, outbox_limit=100) as store:
        assert list(replay(rules, store, start_utc_ns, end_utc_ns)) == []
    assert {each.rule for each in rules.standing} == {rule.name for rule in DEFAULT_RULES}
    assert {each.rule for each in rules.standing if each.verdict is not Verdict.BACK} == set()


def test_the_proxy_follows_the_core_of_a_healthy_animal(box: Box) -> None:
    """Within the animal, of the days before its fever; the command's own figure, of all minutes, is the same sum."""
    with (box.folder / "week.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["skin_max_30min_celsius"]]
    at = np.array([datetime.fromisoformat(row["local_time"]) for row in rows])
    core, proxy = (np.array([float(row[name]) for row in rows]) for name in ("core", "skin_max_30min_celsius"))
    healthy = at < FEVER
    assert healthy.sum() > 0.8 * (FEVER - datetime(2026, 9, 1, tzinfo=UTC)) / timedelta(minutes=1)
    assert np.corrcoef(core[healthy], proxy[healthy])[0, 1] >= LEAST_CORRELATION
    [told] = re.findall(
        r"animal 1: correlation of the 30-minute skin maximum with the core ([\d.]+), ([\d.]+)", box.told
    )
    assert float(told[0]) >= LEAST_CORRELATION
    assert float(told[1]) == pytest.approx(np.corrcoef(core, proxy)[0, 1], abs=0.001)
