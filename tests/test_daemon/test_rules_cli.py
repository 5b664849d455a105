"""`vivarium rules`, the config of rules, and the document that describes them."""

import json
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Self

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from daemon.default_rules import DEFAULT_RULES, FRAME_RULES, SERVICE_EVENTS
from daemon.event_rules import KEYS, NAMES, EventRule
from daemon.events import Event, EventKind, EventState, Severity
from daemon.minute_series import DAY_MINUTES, MINUTE_NS
from daemon.minute_value import MinuteValue
from daemon.rule import rules_in_force
from daemon.rules_cli import described
from daemon.settings import load_settings, parse_settings
from daemon.store.repository import attach_store, open_store
from drivers.errors import ConfigError

DOCUMENT = Path(__file__).parents[2] / "docs" / "rules.md"
FIRST = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) // 60
FEVER = range(5 * DAY_MINUTES + 60, 5 * DAY_MINUTES + 300)
HEADING = "| rule | of | severity | opens when the | for | closes after | escalates |"


def markdown() -> str:
    rows = [f"| `{name}` | {' | '.join(rest)} |" for name, *rest in map(described, DEFAULT_RULES)]
    return "\n".join([HEADING, "|---|---|---|---|---|---|---|", *rows])


def test_the_document_has_the_rules_of_the_code() -> None:
    text = DOCUMENT.read_text()
    table = text.partition("<!-- rules -->\n")[2].partition("\n<!-- /rules -->")[0]
    assert table == markdown()
    for other in (*FRAME_RULES, *SERVICE_EVENTS):
        assert f"`{other.kind.value}`" in text


def test_the_document_says_which_keys_apply_to_which_event() -> None:
    lines = DOCUMENT.read_text().splitlines()
    [heading] = [line for line in lines if line.startswith("| `[[rule]]` named")]
    keys = [cell.strip(" `") for cell in heading.strip("|").split("|")][1:5]
    said: dict[str, tuple[str, ...]] = {}
    for line in lines[lines.index(heading) + 3 :]:
        if not line.startswith("|"):
            break
        names, *cells = line.strip("|").split("|")
        applying = tuple(key for key, cell in zip(keys, cells, strict=False) if cell.strip().startswith("yes"))
        said |= {name.strip(" `"): applying for name in names.split(",")}
    assert {name: set(applying) for name, applying in said.items()} == {
        kind.value: set(applying) for kind, applying in KEYS.items()
    }


def test_the_config_in_the_document_is_a_config() -> None:
    text = DOCUMENT.read_text().partition("```toml\n")[2].partition("```")[0]
    settings = parse_settings(text, origin="docs/rules.md")
    names = [rule.name for rule in rules_in_force(settings.rule, DEFAULT_RULES, elsewhere=NAMES)]
    assert settings.event_rules[EventKind.CAMERA_LOST] == EventRule(escalate_after_minutes=30, quiet=False)
    assert "activity_drop" not in names
    assert names[-1] == "tail_hot"


def test_a_rule_of_the_config_changes_what_it_says_and_no_more() -> None:
    settings = parse_settings('[[rule]]\nname = "fever"\nfor_minutes = 45\nvalue = 39', origin="t")
    [fever] = [rule for rule in rules_in_force(settings.rule, DEFAULT_RULES) if rule.name == "fever"]
    shipped = DEFAULT_RULES[0]
    assert (fever.for_minutes, fever.conditions[0].value, fever.conditions[0].baseline) == (45, 39, None)
    assert (fever.kind, fever.severity, fever.clear_minutes) == (shipped.kind, shipped.severity, shipped.clear_minutes)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param('[[rule]]\nname = "mine"', "needs measure and comparison", id="incomplete"),
        pytest.param('[[rule]]\nname = "fevr"\nfor_minutes = 45', r"did you mean 'fever'\?", id="mistyped"),
        pytest.param(
            '[[rule]]\nname = "animal_to_hot"\nvalue = 38', r"did you mean 'animal_too_hot'\?", id="mistyped frame rule"
        ),
        pytest.param(
            '[[rule]]\nname = "mine"\nmeasure = "ambient_celcius"\ncomparison = "above"\nvalue = 3\nsubject = "cage"',
            r"rule mine: no measure ambient_celcius; did you mean 'ambient_celsius'\?",
            id="mistyped measure",
        ),
        pytest.param(
            '[[rule]]\nname = "fever"\njoins = ["tail_colt"]',
            r"no rule tail_colt; did you mean 'tail_cold'\?",
            id="joins",
        ),
        pytest.param('[[rule]]\nname = "fever"\n[[rule]]\nname = "fever"', "comes twice", id="twice"),
        pytest.param(
            '[[rule]]\nname = "mine"\nmeasure = "curl"\ncomparison = "above"', "value or baseline", id="no threshold"
        ),
        pytest.param(
            '[[rule]]\nname = "fever"\nbaseline = { days = 2, least_days = 3 }', "more than the 2 days", id="days"
        ),
        pytest.param(
            '[alerts]\nnot_seen_after_s = 9\n[[rule]]\nname = "animal_not_seen"\nfor_minutes = 1',
            "alerts.not_seen_after_s say the same",
            id="said twice",
        ),
        pytest.param(
            '[[rule]]\nname = "animal_too_hot"\nclear_minutes = 3',
            "animal_too_hot is judged on each frame and takes cool_down_minutes, escalate_after_minutes, for_minutes, "
            "hysteresis, quiet, severity, value only, got clear_minutes",
            id="frame rule",
        ),
        pytest.param(
            '[[rule]]\nname = "animal_not_seen"\nvalue = 3',
            "takes cool_down_minutes, escalate_after_minutes, for_minutes, quiet, severity only, got value",
            id="frame rule without a value",
        ),
        pytest.param(
            '[[rule]]\nname = "camera_lost"\ncool_down_minutes = 3\nvalue = 1',
            "rule camera_lost is what the service says of itself and takes escalate_after_minutes, quiet, severity "
            r"only, got cool_down_minutes, value \(cool_down_minutes: the service tells it each time\)",
            id="device",
        ),
        pytest.param(
            '[[rule]]\nname = "clock_stepped"\nescalate_after_minutes = 3',
            r"takes quiet, severity only, got escalate_after_minutes \(.*: it is over when it is told\)",
            id="what occurs",
        ),
        pytest.param(
            '[[rule]]\nname = "disk_ok"\nseverity = "alert"', "only ends disk_low, whose severity is told", id="end"
        ),
        pytest.param(
            '[[rule]]\nname = "disk_low"\n[[rule]]\nname = "disk_low"',
            "disk_low: the name comes twice",
            id="device twice",
        ),
        pytest.param(
            '[[rule]]\nname = "camera_lots"\nseverity = "notice"', r"did you mean 'camera_lost'\?", id="mistyped device"
        ),
        pytest.param(
            '[[rule]]\nname = "disk_low"\n[[rule]]\nname = "fever"\njoins = ["disk_low"]',
            "no rule disk_low",
            id="joins disk",
        ),
        pytest.param(
            '[[rule]]\nname = "animal_not_seen"\nfor_minutes = 2000',
            "rule animal_not_seen: alerts.not_seen_after_s would be 120000: Input should be less",
            id="frame rule's value",
        ),
        pytest.param(
            "[alerts.too_hot]\ncelsius = 25",
            "expected alerts.too_hot.celsius above alerts.too_cold.celsius, got 25 and 26: every animal",
            id="all too hot",
        ),
        pytest.param("[alerts.too_cold]\ncelsius = 39", "got 39 and 39", id="none well"),
        pytest.param('[[rule]]\nname = "animal_too_cold"\nvalue = 40', "got 39 and 40", id="all too cold by a rule"),
        pytest.param(
            '[rules]\nquiet_hours = "22:00-06:00"',
            r"""quiet_hours: expected two times of day like \["22:00", "06:00"\], got '22:00-06:00'""",
            id="quiet hours as one text",
        ),
        pytest.param('[rules]\nquiet_hours = ["22:00"]', "expected two times of day", id="half of the quiet hours"),
        pytest.param('[[rule]]\nname = "fever"\njoins = "tail_cold"', "joins: expected a list in brackets", id="list"),
        pytest.param('[rules]\nquiet_hours = ["22:00", "22:00"]', "the same", id="quiet"),
        pytest.param('[[maintenance]]\nreason = "dosing"\nat = "9:00"\nminutes = 5', "maintenance", id="time of day"),
    ],
)
def test_what_is_wrong_in_the_config_is_said(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse_settings(text, origin="t")


def test_a_rule_named_as_what_is_judged_on_each_frame_sets_it() -> None:
    settings = parse_settings('[[rule]]\nname = "animal_too_hot"\nvalue = 38\nfor_minutes = 0.5', origin="t")
    assert (settings.frame_alerts.too_hot.celsius, settings.frame_alerts.too_hot.duration_s) == (38, 30)
    assert settings.frame_alerts.too_cold == settings.alerts.too_cold


def test_how_soon_somebody_should_look_is_said_beside_alerts_and_not_against_them() -> None:
    settings = parse_settings(
        '[alerts.too_hot]\ncelsius = 38.5\n[[rule]]\nname = "animal_too_hot"\nseverity = "emergency"\nquiet = false\n'
        '[[rule]]\nname = "camera_lost"\nescalate_after_minutes = 20',
        origin="t",
    )
    assert settings.frame_alerts == settings.alerts
    hot, lost = (settings.event_rules[kind] for kind in (EventKind.ANIMAL_TOO_HOT, EventKind.CAMERA_LOST))
    assert (hot.severity, hot.quiet, hot.escalate_after_minutes, hot.cool_down_minutes) == ("emergency", False, 0, 0)
    assert (lost.severity, lost.quiet, lost.escalate_after_minutes) == (None, True, 20)
    assert settings.event_rules[EventKind.DISK_LOW] == EventRule()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A box with six days of two animals' skin; animal 2 has a fever in the last night."""
    path = tmp_path / "config.toml"
    path.write_text('[box]\ntime_zone = "UTC"\n[measure]\nanimals = 2\n')
    values = [
        MinuteValue(
            measure="skin_max_30min_celsius",
            minute_utc_ns=(FIRST + minute) * MINUTE_NS,
            animal=animal,
            value=36.0 + 0.01 * (minute % 7) + (1.5 if animal == 2 and minute in FEVER else 0.0),
            uncertainty=None,
            coverage=1.0,
            samples=60,
        )
        for minute in range(6 * DAY_MINUTES)
        for animal in (1, 2)
    ]
    with open_store(f"sqlite:///{tmp_path / 'var' / 'vivarium.db'}", outbox_limit=100) as store:
        run_id = store.start_run(
            version="1",
            config_hash="h",
            config_json="{}",
            segmenter="s",
            host="box",
            boot_id="b",
            started_utc_ns=FIRST * MINUTE_NS,
        )
        store.add([], run_id=run_id, camera_id=None, minute_values=values)
    return path


def test_replay_tells_what_was_caught_missed_and_false(config: Path, tmp_path: Path) -> None:
    illness = {"kind": "fever", "animal": 2, "start": "2026-03-07T01:00:00Z", "end": "2026-03-07T05:00:00Z"}
    truth = tmp_path / "truth.json"
    arguments = [
        "rules",
        "replay",
        "--from",
        "2026-03-07",
        "--to",
        "2026-03-08",
        "-c",
        str(config),
        "--truth",
        str(truth),
    ]
    truth.write_text(json.dumps([illness]))
    caught = CliRunner().invoke(app, arguments)
    assert caught.exit_code == 0, caught.output
    assert "caught: fever of animal 2 by fever after 30 min" in caught.output
    assert "1 caught, 0 missed, 0 false alerts in 1.8 animal-days: 0.00 per 100; 0 notices besides" in caught.output
    truth.write_text(json.dumps([illness | {"animal": 1}]))
    missed = CliRunner().invoke(app, arguments)
    assert missed.exit_code == 1
    assert "missed: fever of animal 1" in missed.output
    assert "0 caught, 1 missed, 1 false alerts in 1.8 animal-days: 54.55 per 100" in missed.output


def test_replay_prints_lines_for_programs(config: Path) -> None:
    arguments = ["rules", "replay", "--from", "2026-03-07", "--to", "2026-03-08", "-c", str(config), "--json"]
    lines = [json.loads(line) for line in CliRunner().invoke(app, arguments).output.splitlines()]
    assert [(line["state"], line["animal"], line["data"]["rule"]) for line in lines] == [
        ("opened", 2, "fever"),
        ("closed", 2, "fever"),
    ]


def test_replay_says_nothing_of_minutes_that_are_still_to_come(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SixthEvening(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp((FIRST + 6 * DAY_MINUTES) * 60, tz)

    monkeypatch.setattr("daemon.rules_cli.datetime", SixthEvening)
    rule = (
        '[[rule]]\nname = "skin"\nmeasure = "skin_max_30min_celsius"\ncomparison = "above"\nvalue = 30\nfor_minutes = 1'
    )
    config.write_text(f"{config.read_text()}{rule}")
    told = [
        [
            json.loads(line)["state"]
            for line in CliRunner()
            .invoke(app, ["rules", "replay", "--from", "2026-03-07", "--to", day, "-c", str(config), "--json"])
            .output.splitlines()
        ]
        for day in ("2026-03-08", "2026-03-09")
    ]
    assert told[0]
    assert told[0] == told[1]


def test_a_truth_that_is_none_is_refused(config: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    truth.write_text(
        '[{"kind": "boredom", "animal": 1, "start": "2026-03-07T01:00:00Z", "end": "2026-03-07T05:00:00Z"}]'
    )
    result = CliRunner().invoke(app, ["rules", "replay", "-c", str(config), "--truth", str(truth)])
    assert isinstance(result.exception, ConfigError)
    assert "needs rules" in str(result.exception)


def test_rules_are_listed(config: Path) -> None:
    result = CliRunner().invoke(app, ["rules", "list", "-c", str(config)])
    for name in [rule.name for rule in DEFAULT_RULES] + [other.kind.value for other in (*FRAME_RULES, *SERVICE_EVENTS)]:
        assert name in result.output


def test_what_the_config_says_of_events_without_a_rule_of_minutes_is_listed(config: Path) -> None:
    config.write_text(
        config.read_text() + '[[rule]]\nname = "camera_lost"\nseverity = "emergency"\n'
        '[[rule]]\nname = "animal_too_hot"\nseverity = "notice"\nescalate_after_minutes = 15\n'
    )
    lines = CliRunner().invoke(app, ["rules", "list", "-c", str(config)]).output.splitlines()
    of = {line.split()[0]: line.split() for line in lines}
    assert of["camera_lost"][1:3] == ["service", "emergency"]
    assert of["camera_lost"][-1] == of["disk_low"][-1] == "never"
    assert of["animal_too_hot"][1:3] == ["animal", "notice"]
    assert of["animal_too_hot"][-2:] == ["15", "min"]
    assert of["clock_stepped"][1:3] == ["service", "notice"]


def test_what_is_open_is_listed_by_rule_and_name_of_the_animal(config: Path) -> None:
    config.write_text(config.read_text().partition("[measure]")[0] + '[[animal]]\nname = "anna"\n')
    event = Event(
        kind=EventKind.RULE,
        state=EventState.OPENED,
        severity=Severity.ALERT,
        at_utc_ns=FIRST * MINUTE_NS,
        animal=1,
        data={"rule": "tail_hot"},
    )
    with attach_store(load_settings(config).database_url, outbox_limit=100) as store:
        store.add([], run_id=1, camera_id=None, events=[event])
    [_, line] = CliRunner().invoke(app, ["acknowledge", "-c", str(config)]).output.splitlines()
    assert line.split()[:4] == [event.event_id, "tail_hot", "1", "anna"]
