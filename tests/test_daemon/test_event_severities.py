"""Events of frames and of the device by `[[rule]]`: quiet hours, escalation, cool-down, through worker and database."""

import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from daemon.event_commands import Acknowledgement, MaintenanceChange
from daemon.events import Event, EventKind, EventState, Severity
from daemon.messaging.payloads import alert_payload
from daemon.open_events import open_now, opened_now
from daemon.order import Order, Outcome
from daemon.sampling import CameraAway, CameraFound, CameraLost, CameraTrouble
from daemon.settings import Settings, parse_settings
from daemon.store.repository import Store, open_store
from daemon.vision.resilient import Mode, VisionState
from drivers.clock import NS_PER_S
from drivers.frame import ThermalFrame
from tests.databases import ON_BOTH
from tests.worker_bench import CAMERA, THINNED, WELL, WorkerBench, frame_of

ZONE = ZoneInfo("America/Sao_Paulo")
EVENING = datetime(2026, 11, 18, 21, 0, tzinfo=ZONE)
CONFIG = """
[box]
time_zone = "America/Sao_Paulo"
[measure]
outside_rate_hz = 0.0033
[alerts]
not_seen_after_s = 3600
[alerts.too_hot]
celsius = 38
hysteresis_celsius = 0.3
duration_s = 0
[rules]
defaults = false
quiet_hours = ["22:00", "06:00"]
"""
AWAY = VisionState(mode=Mode.CLASSICAL, every=1, reason="they fail", degraded=True)
HOT, COLD, UNSEEN, LOST, FOUND, STEPPED, DEGRADED = (
    EventKind.ANIMAL_TOO_HOT,
    EventKind.ANIMAL_TOO_COLD,
    EventKind.ANIMAL_NOT_SEEN,
    EventKind.CAMERA_LOST,
    EventKind.CAMERA_FOUND,
    EventKind.CLOCK_STEPPED,
    EventKind.VISION_DEGRADED,
)
Told = tuple[str, str, str, str | None]
"""Local time, state, severity, reason."""


class Bench(WorkerBench):
    """From nine in the evening; `again` is a restart, also with another config."""

    def __init__(self, store: Store, directory: Path, template: ThermalFrame) -> None:
        self._directory, self._lost = directory, False
        super().__init__(store, self._settings(""), template, utc_ns=round(EVENING.timestamp()) * NS_PER_S)
        self.find()

    def again(self, rules: str | None = None) -> None:
        """Stop, and start anew with what is stored; with these rules in the config, or those of before."""
        self.start(self.settings if rules is None else self._settings(rules))
        if not self._lost:
            self.find()

    def _settings(self, rules: str) -> Settings:
        return parse_settings(CONFIG + rules, origin="test").resolved(self._directory)

    def until(self, local: str, celsius: float | None = None, *, frames: bool = True) -> None:
        """Go on to this time of day, with a frame every five minutes: of a rat so warm, of none, or no frame at all."""
        hours, minutes = map(int, local.split(":"))
        while True:
            now = self._now()
            if (now.hour, now.minute) == (hours, minutes):
                break
            if frames and now.minute % 5 == 0:
                self.show(celsius)
            self.clock.advance(60)
            self.worker.tick()
            self.worker.write()

    def show(self, celsius: float | None) -> None:
        """One frame, now."""
        self.show_one(celsius)
        self.worker.write()

    def lose(self, *, frame_age_s: float = 10.0) -> None:
        """The camera is lost."""
        self._lost = True
        self.worker.handle(CameraLost(at_utc_ns=self.clock.utc_ns(), reason="camera_lost", trouble=gone(frame_age_s)))
        self.worker.write()

    def find(self) -> None:
        """It is back, or there from the start."""
        self._lost = False
        self.worker.handle(CameraFound(at_utc_ns=self.clock.utc_ns(), info=CAMERA, variant="v1", away_s=1.0))
        self.worker.write()

    def acknowledge(self, event: Event) -> Outcome | None:
        """What becomes of the command."""
        order = Order()
        self.commands.acknowledge(Acknowledgement(event_id=event.event_id, by="Ana"), order)
        self.worker.tick()
        self.worker.write()
        return order.outcome

    def told(self, *kinds: EventKind) -> list[Told]:
        """The same in short."""
        return [
            (
                f"{datetime.fromtimestamp(event.at_utc_ns / NS_PER_S, ZONE):%H:%M}",
                event.state.value,
                event.severity.value,
                reason if isinstance(reason := event.data.get("reason"), str) else None,
            )
            for event in self.events(*kinds)
        ]

    def alert(self) -> list[tuple[str, str]]:
        """Kind and severity of what the retained message `alert` has."""
        payload = json.loads(alert_payload(opened_now(self.store.event_histories())))
        return [(each["kind"], each["severity"]) for each in payload["open"]]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.utc_ns() // NS_PER_S, ZONE)


def gone(frame_age_s: float) -> CameraTrouble:
    return CameraTrouble(why="no good frame", frame_age_s=frame_age_s, patience_s=2.0, good_frames=60, refused=0)


@pytest.fixture
def bench(database_url: str, tmp_path: Path, golden: Path) -> Iterator[Bench]:
    with open_store(database_url, outbox_limit=1000) as store:
        yield Bench(store, tmp_path, frame_of(golden))


@ON_BOTH
def test_what_is_too_hot_at_night_is_a_notice_and_told_at_its_severity_in_the_morning(bench: Bench) -> None:
    bench.until("23:00", 36.5)
    bench.until("23:30", 38.2)
    [opened] = bench.events(HOT)
    assert bench.told(HOT) == [("23:00", "opened", "notice", None)]
    assert opened.data["quiet_severity"] == "alert"
    assert bench.alert() == [("animal_too_hot", "notice")]
    bench.until("02:00", 38.2)
    bench.again()
    bench.until("07:00", 38.4)
    assert bench.told(HOT)[1:] == [("06:00", "updated", "alert", "quiet_hours_over")]
    updated = bench.events(HOT)[1]
    assert updated.opened_event_id == opened.event_id
    assert updated.data["value"] == pytest.approx(38.4, abs=0.05), "as it is then"
    assert updated.data["since_utc_ns"] == opened.at_utc_ns
    assert {"plot", "frame_1"} <= updated.data.keys()
    assert "quiet_severity" not in updated.data
    assert bench.alert() == [("animal_too_hot", "alert")]
    bench.until("07:05", 36.5)
    assert bench.told(HOT)[2:] == [("07:00", "closed", "alert", None)]


def test_before_quiet_hours_it_is_an_alert_and_stays_one(bench: Bench) -> None:
    bench.until("07:00", 38.2)
    assert bench.told(HOT) == [("21:00", "opened", "alert", None)]


@pytest.mark.parametrize(
    ("keys", "severity"),
    [
        pytest.param('severity = "emergency"', "emergency", id="emergency"),
        pytest.param("quiet = false", "alert", id="not heeded"),
        pytest.param('severity = "notice"', "notice", id="notice"),
    ],
)
def test_what_quiet_hours_do_not_hold_for_is_told_at_once_and_not_again(bench: Bench, keys: str, severity: str) -> None:
    bench.again(f'[[rule]]\nname = "animal_too_hot"\n{keys}\n[[rule]]\nname = "camera_lost"\n{keys}')
    bench.until("23:00", 36.5)
    bench.show(38.2)
    bench.lose()
    bench.until("07:00", frames=False)
    assert bench.told(HOT, LOST) == [
        ("23:00", "opened", severity, None),
        ("23:00", "opened", severity, "camera_lost"),
    ]


@ON_BOTH
def test_what_came_and_went_at_night_is_told_once_in_the_morning_over_restarts(bench: Bench) -> None:
    bench.until("23:00", 36.5)
    bench.until("23:30", 38.2)
    bench.until("01:00", 36.5)
    bench.again()
    bench.until("01:30", 38.2)
    bench.until("05:00", 36.5)
    bench.again()
    bench.until("07:00", 36.5)
    bench.again()
    bench.until("08:00", 36.5)
    assert bench.told(HOT) == [
        ("23:00", "opened", "notice", None),
        ("23:30", "closed", "notice", None),
        ("01:00", "opened", "notice", None),
        ("01:30", "closed", "notice", None),
        ("06:00", "occurred", "alert", "quiet_hours_over"),
    ]
    first, _, _, last, late = bench.events(HOT)
    assert {
        "rule": "animal_too_hot",
        "opened_event": first.event_id,
        "since_utc_ns": first.at_utc_ns,
        "until_utc_ns": last.at_utc_ns,
        "times": 2,
    }.items() <= late.data.items()
    assert late.animal == 1


def test_a_camera_that_is_lost_at_night_is_told_when_the_service_is_there_again_in_the_morning(bench: Bench) -> None:
    bench.until("01:00", 36.5)
    bench.lose(frame_age_s=60.0)
    bench.until("03:00", frames=False)
    bench.worker.handle(CameraAway(at_utc_ns=bench.clock.utc_ns(), away_s=7200.0, trouble=gone(7260.0)))
    bench.until("03:30", frames=False)
    bench.clock.advance(timedelta(hours=4).total_seconds())  # the box is switched off until half past seven
    bench.again()
    bench.until("08:00", frames=False)
    assert bench.told(LOST) == [
        ("01:00", "opened", "notice", "camera_lost"),
        ("03:00", "updated", "notice", "worse"),
        ("07:31", "updated", "alert", "quiet_hours_over"),
    ]
    updated = bench.events(LOST)[-1]
    assert updated.data["why"] == "no good frame"
    assert updated.data["value"] == 6.5 * 3600 + 60 + 60, "seconds since the last good frame"
    bench.find()
    assert bench.told(FOUND)[-1] == ("08:00", "closed", "notice", None)
    assert bench.alert() == []


@ON_BOTH
def test_nobody_who_acknowledges_makes_it_more_severe_once_over_restarts(bench: Bench) -> None:
    bench.again('[[rule]]\nname = "camera_lost"\nescalate_after_minutes = 45')
    bench.until("07:00", 36.5)
    bench.lose()
    bench.until("07:30", frames=False)
    bench.again()
    bench.until("08:00", frames=False)
    bench.again()
    bench.until("12:00", frames=False)
    assert bench.told(LOST) == [
        ("07:00", "opened", "alert", "camera_lost"),
        ("07:45", "updated", "emergency", "escalated"),
    ]
    assert bench.alert() == [("camera_lost", "emergency")]
    [found] = open_now(bench.store.event_histories())
    assert found.severity is Severity.EMERGENCY, "as page and terminal show it"


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restart"])
def test_what_is_acknowledged_is_not_made_more_severe(bench: Bench, restart: bool) -> None:
    bench.again(
        '[[rule]]\nname = "camera_lost"\nescalate_after_minutes = 45\n'
        '[[rule]]\nname = "animal_too_hot"\nescalate_after_minutes = 45\n'
    )
    bench.until("07:00", 36.5)
    bench.show(38.2)
    bench.lose()
    bench.until("07:30", frames=False)
    for event in bench.events(HOT, LOST):
        assert bench.acknowledge(event) == Outcome("done")
    if restart:
        bench.again()
    bench.until("12:00", frames=False)
    assert [state for _, state, _, _ in bench.told(HOT, LOST)] == ["opened", "opened", "acknowledged", "acknowledged"]
    bench.find()
    bench.lose()
    bench.until("13:00", frames=False)
    assert bench.told(LOST)[2:] == [
        ("12:00", "opened", "alert", "camera_lost"),
        ("12:45", "updated", "emergency", "escalated"),
    ], "the next one nobody has seen"


def test_an_alert_becomes_an_emergency_at_night_and_a_notice_no_alert_before_the_morning(bench: Bench) -> None:
    bench.again(
        '[[rule]]\nname = "camera_lost"\nescalate_after_minutes = 60\n'
        '[[rule]]\nname = "animal_too_hot"\nseverity = "notice"\nescalate_after_minutes = 60\n'
    )
    bench.until("21:30", 36.5)
    bench.show(38.2)
    bench.until("23:00", 38.2)
    bench.lose()
    bench.until("23:30", frames=False)
    bench.again()
    bench.until("07:00", frames=False)
    assert bench.told(LOST) == [
        ("23:00", "opened", "notice", "camera_lost"),
        ("00:00", "updated", "emergency", "escalated"),
    ]
    assert bench.told(HOT) == [("21:30", "opened", "notice", None), ("06:00", "updated", "alert", "escalated")]


def test_a_changed_config_holds_for_what_is_open(bench: Bench) -> None:
    bench.until("23:00", 36.5)
    bench.show(38.2)
    bench.lose()
    bench.until("00:00", frames=False)
    bench.again(
        '[[rule]]\nname = "animal_too_hot"\nquiet = false\n[[rule]]\nname = "camera_lost"\nescalate_after_minutes = 90'
    )
    bench.until("07:00", frames=False)
    assert bench.told(HOT)[1:] == [("00:01", "updated", "alert", "quiet_hours_over")]
    assert bench.told(LOST)[1:] == [("00:30", "updated", "emergency", "escalated")]


def test_what_was_hushed_is_told_with_the_severity_that_it_had_whatever_the_config_says_by_then(bench: Bench) -> None:
    bench.until("23:00", 36.5)
    bench.until("23:10", 38.2)
    bench.until("23:30", 36.5)
    bench.again('[[rule]]\nname = "animal_too_hot"\nseverity = "notice"\nquiet = false')
    bench.until("23:35", 36.5)
    assert bench.told(HOT)[2:] == [("23:31", "occurred", "alert", "quiet_hours_over")]


@pytest.mark.parametrize("off", [False, True], ids=["running", "off"])
def test_a_notice_that_is_over_by_the_morning_is_told_as_the_alert_that_it_would_have_become(
    bench: Bench, off: bool
) -> None:
    bench.again('[[rule]]\nname = "animal_too_hot"\nseverity = "notice"\nescalate_after_minutes = 60')
    bench.until("21:30", 36.5)
    bench.until("23:00", 38.2)
    if off:  # from the night on until it is over, and it is well by then
        bench.clock.advance(timedelta(hours=7, minutes=1).total_seconds())
        bench.again()
    bench.show(36.5)
    if not off:
        bench.again()
    bench.until("06:10", frames=False)
    assert bench.told(HOT) == [
        ("21:30", "opened", "notice", None),
        ("06:01" if off else "23:00", "closed", "notice", None),
        ("06:02" if off else "06:00", "occurred", "alert", "quiet_hours_over"),
    ]


def test_what_came_and_went_at_night_is_told_after_a_week_in_which_the_box_was_off(bench: Bench) -> None:
    bench.until("23:00", 36.5)
    bench.until("23:10", 38.2)
    bench.show(36.5)
    bench.clock.advance(timedelta(days=7, hours=9).total_seconds())
    bench.again()
    bench.until("08:15", frames=False)
    assert bench.told(HOT)[2:] == [("08:11", "occurred", "alert", "quiet_hours_over")]


def test_a_clock_that_was_set_at_night_is_told_again_in_the_morning_where_it_is_an_alert(bench: Bench) -> None:
    bench.again('[[rule]]\nname = "clock_stepped"\nseverity = "alert"')
    bench.until("01:00", 36.5)
    bench.clock.step_wall(90)
    bench.show(36.5)
    assert bench.told(STEPPED) == [("01:01", "occurred", "notice", None)]
    bench.again()
    bench.until("07:00", 36.5)
    bench.again()
    bench.until("08:00", 36.5)
    assert bench.told(STEPPED)[1:] == [("06:00", "occurred", "alert", "quiet_hours_over")]


def test_a_clock_that_was_set_is_a_notice_by_itself(bench: Bench) -> None:
    bench.until("01:00", 36.5)
    bench.clock.step_wall(90)
    bench.until("07:00", 36.5)
    assert [each[1:3] for each in bench.told(STEPPED)] == [("occurred", "notice")]


def test_networks_that_give_way_have_the_severity_of_what_is_left_or_that_of_the_config(bench: Bench) -> None:
    def give_way() -> list[Told]:
        before = len(bench.events(DEGRADED))
        for state in (THINNED, AWAY, WELL):
            bench.state = state
            bench.show(36.5)
        return bench.told(DEGRADED)[before:]

    bench.show(36.5)
    slow, fails, well = "they take 99 ms", "they fail", None
    assert give_way() == [
        ("21:00", "opened", "notice", slow),
        ("21:00", "closed", "notice", fails),
        ("21:00", "opened", "alert", fails),
        ("21:00", "closed", "notice", well),
    ]
    bench.again('[[rule]]\nname = "vision_degraded"\nseverity = "emergency"')
    bench.show(36.5)
    assert [each[2] for each in give_way() if each[1] == "opened"] == ["emergency", "emergency"]
    bench.again("")
    bench.show(36.5)
    bench.until("23:00", 36.5)
    bench.state = AWAY
    bench.until("07:00", 36.5)
    night = bench.events(DEGRADED)[-2:]
    assert [(each.severity, each.data["reason"], each.data.get("why")) for each in night] == [
        (Severity.NOTICE, fails, None),
        (Severity.ALERT, "quiet_hours_over", fails),
    ]


def test_networks_that_were_slow_and_fail_after_a_restart_are_an_alert(bench: Bench) -> None:
    bench.state = THINNED
    bench.show(36.5)
    bench.again()
    bench.show(36.5)
    bench.state = AWAY
    bench.again()
    bench.show(36.5)
    assert bench.told(DEGRADED) == [
        ("21:00", "opened", "notice", "they take 99 ms"),
        ("21:00", "closed", "notice", "they fail"),
        ("21:00", "opened", "alert", "they fail"),
    ]


def test_networks_that_give_way_further_become_more_severe_with_the_newest_reason(bench: Bench) -> None:
    bench.again('[[rule]]\nname = "vision_degraded"\nescalate_after_minutes = 20')
    bench.state = THINNED
    bench.show(36.5)
    bench.state = dataclasses.replace(THINNED, every=5, reason="they take 200 ms")
    bench.show(36.5)
    bench.again()
    bench.until("21:30", 36.5)
    last = bench.events(DEGRADED)[-1]
    assert (last.severity, last.data["reason"], last.data["why"], last.data["one_frame_of"]) == (
        Severity.ALERT,
        "escalated",
        "they take 200 ms",
        5,
    )


def test_what_was_too_hot_cools_down_before_it_opens_again_over_a_restart(bench: Bench) -> None:
    bench.again('[[rule]]\nname = "animal_too_hot"\ncool_down_minutes = 60')
    bench.until("07:00", 36.5)
    bench.until("07:30", 38.2)
    bench.until("07:45", 36.5)
    bench.until("08:00", 38.2)
    bench.again()
    bench.until("09:00", 38.4)
    assert bench.told(HOT) == [
        ("07:00", "opened", "alert", None),
        ("07:30", "closed", "alert", None),
        ("08:30", "opened", "alert", None),
    ]
    opened = bench.events(HOT)[-1]
    assert opened.data["value"] == pytest.approx(38.4, abs=0.05)
    assert opened.data["held_s"] == 30 * 60, "since the restart"


def test_a_clock_that_is_set_back_ends_a_cool_down(bench: Bench) -> None:
    bench.again('[[rule]]\nname = "animal_too_hot"\ncool_down_minutes = 10000')
    bench.until("07:00", 36.5)
    bench.until("07:30", 38.2)
    bench.until("07:45", 36.5)
    bench.clock.step_wall(-86_400)
    bench.show(38.2)
    assert [state for _, state, _, _ in bench.told(HOT)] == ["opened", "closed", "opened"]


def test_a_clock_that_is_set_back_by_less_than_a_cool_down_does_not_begin_it_again(bench: Bench) -> None:
    bench.again('[[rule]]\nname = "animal_too_hot"\ncool_down_minutes = 60')
    bench.show(38.2)
    bench.until("21:30", 38.2)
    bench.until("21:40", 36.5)
    bench.clock.step_wall(-1800)
    bench.until("21:35", 36.5)
    bench.until("21:40", 38.2)
    assert [each[:2] for each in bench.told(HOT)] == [("21:00", "opened"), ("21:30", "closed"), ("21:35", "opened")]


def test_a_clock_that_is_set_back_puts_off_no_escalation(bench: Bench) -> None:
    bench.again('[[rule]]\nname = "camera_lost"\nescalate_after_minutes = 45')
    bench.lose()
    bench.until("21:30", frames=False)
    bench.clock.step_wall(-86_400)
    bench.until("22:30", frames=False)
    assert bench.told(LOST)[1:] == [("21:46", "updated", "emergency", "escalated")], "a minute went by as it was set"


def test_maintenance_opens_nothing_and_keeps_nothing_from_being_made_more_severe(bench: Bench) -> None:
    bench.again('[[rule]]\nname = "animal_too_hot"\nescalate_after_minutes = 60')
    bench.until("07:00", 36.5)
    bench.show(38.2)
    order = Order()
    begin = MaintenanceChange.model_validate({"action": "begin", "by": "Ana", "reason": "weighing", "minutes": 240})
    bench.commands.maintenance(begin, order)
    bench.until("09:00", None)
    assert bench.told(HOT, COLD, UNSEEN) == [
        ("07:00", "opened", "alert", None),
        ("08:00", "updated", "emergency", "escalated"),
    ]


def test_that_nobody_can_tell_is_known_after_it_became_more_severe_and_a_restart(bench: Bench) -> None:
    bench.again('[[rule]]\nname = "animal_too_hot"\nescalate_after_minutes = 60')
    bench.until("07:00", 36.5)
    bench.show(38.2)
    bench.until("08:30", None)
    bench.again()
    bench.until("10:00", None)
    assert bench.told(HOT) == [
        ("07:00", "opened", "alert", None),
        ("07:30", "updated", "alert", "cannot_tell"),
        ("08:00", "updated", "emergency", "escalated"),
    ]
    assert bench.events(HOT)[-1].data["value"] is None


def test_an_animal_that_is_not_expected_any_more_is_closed_as_it_was_last_told(bench: Bench) -> None:
    orphan = Event(kind=HOT, state=EventState.OPENED, severity=Severity.ALERT, at_utc_ns=bench.clock.utc_ns(), animal=4)
    bench.store.add([], run_id=1, camera_id=None, events=[orphan])
    bench.again()
    bench.until("07:00", 36.5)
    assert bench.told(HOT) == [("21:00", "opened", "alert", None), ("21:00", "closed", "alert", "not_watched")]


def test_the_messages_that_are_sent_have_the_severity_that_was_told(bench: Bench) -> None:
    bench.until("23:00", 36.5)
    bench.until("07:00", 38.2)
    sent = [json.loads(each.payload) for each in bench.store.queued_messages(after_id=0, limit=1000)]
    assert [(each["state"], each["severity"]) for each in sent if each.get("kind") == "animal_too_hot"] == [
        ("opened", "notice"),
        ("updated", "alert"),
    ]
