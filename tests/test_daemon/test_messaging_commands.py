"""What becomes of a command, judged without a broker and by simulated time."""

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from daemon.messaging import commands
from daemon.messaging.commands import (
    BURST,
    DEEPEST,
    MAX_AGE_S,
    MOST_WAITING,
    RATE_HZ,
    REMEMBERED_S,
    CommandCounts,
    CommandDesk,
    CommandPayload,
    Inbox,
    Verb,
)
from daemon.messaging.incoming import MOST_PAYLOAD_BYTES, IncomingMessage
from daemon.messaging.payloads import iso_utc
from daemon.order import Order, Outcome
from drivers.clock import NS_PER_S, SimulatedClock

NOW_UTC_NS = 1_795_000_000 * NS_PER_S
WITHIN_S = 5.0


class Bench:
    """A desk with one verb, `act`, whose orders are kept for the test to answer."""

    def __init__(self, carry_out: Callable[[Any, Order], None] | None = None) -> None:
        self.clock = SimulatedClock(NOW_UTC_NS)
        self.counts = CommandCounts()
        self.inbox = Inbox(self.counts)
        self.orders: list[Order] = []
        self.results: list[tuple[str, dict[str, Any], bytes | None]] = []
        self.desk = CommandDesk(
            {
                "act": Verb(
                    model=CommandPayload,
                    carry_out=carry_out or (lambda _payload, order: self.orders.append(order)),
                    within_s=WITHIN_S,
                )
            },
            box="box1",
            inbox=self.inbox,
            counts=self.counts,
            publish=lambda topic, payload, correlation: self.results.append((topic, json.loads(payload), correlation)),
            clock=self.clock,
        )

    def give(self, payload: bytes | dict[str, Any], *, topic: str | None = "act", **more: Any) -> None:
        """A message as the publisher's thread makes one."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.desk.handle(
            IncomingMessage(
                topic=None if topic is None else f"vivarium/box1/command/{topic}",
                payload=data if len(data) <= MOST_PAYLOAD_BYTES else b"",
                size_bytes=len(data),
                **{"retained": False, **more},
            )
        )

    @property
    def states(self) -> list[tuple[str, str | None]]:
        """State and reason of all results."""
        return [(result["state"], result["reason"]) for _, result, _ in self.results]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_command_is_accepted_carried_out_and_its_end_told(bench: Bench) -> None:
    bench.give({"request_id": "r1"}, correlation=b"c1")
    bench.desk.settle()
    assert bench.states == [("accepted", None)]
    bench.orders[0].answer(Outcome("done"))
    bench.desk.settle()
    bench.desk.settle()
    assert bench.states == [("accepted", None), ("done", None)]
    topic, result, correlation = bench.results[1]
    assert (topic, correlation) == ("command/act/result", b"c1")
    assert result == {
        "schema": 1,
        "verb": "act",
        "request_id": "r1",
        "state": "done",
        "reason": None,
        "message": None,
        "data": {},
        "repeated": False,
        "at": iso_utc(NOW_UTC_NS),
        "at_utc_ns": NOW_UTC_NS,
    }
    assert bench.counts() == {"accepted": 1, "ended_done": 1}


def test_nothing_but_an_empty_object_is_needed(bench: Bench) -> None:
    bench.give(b"{}")
    assert bench.states == [("accepted", None)]
    assert bench.results[0][1]["request_id"] is None


@pytest.mark.parametrize(
    ("payload", "request_words"),
    [pytest.param({"request_id": "r-1"}, ", request r-1", id="named"), pytest.param({}, "", id="not named")],
)
def test_the_log_names_the_request_where_there_is_a_name(
    bench: Bench, caplog: pytest.LogCaptureFixture, payload: dict[str, Any], request_words: str
) -> None:
    caplog.set_level(logging.INFO, commands.__name__)
    bench.give(payload)
    bench.orders[0].answer(Outcome("done"))
    bench.desk.settle()
    assert [each.getMessage() for each in caplog.records] == [
        f"command act accepted{request_words}",
        f"command act done{request_words}",
    ]


def test_what_cannot_be_done_is_refused_at_once_and_with_its_reason() -> None:
    bench = Bench(lambda _payload, order: void(order.answer(Outcome("refused", "camera_lost", "there is no camera"))))
    bench.give({"request_id": "r1"})
    bench.desk.settle()
    assert bench.states == [("refused", "camera_lost")]
    assert bench.results[0][1]["message"] == "there is no camera"
    assert bench.counts() == {"refused_camera_lost": 1}


def void(_value: object) -> None:
    """Nothing."""


def test_what_is_not_done_in_time_has_failed_and_is_not_done_later(bench: Bench) -> None:
    bench.give({"request_id": "r1"})
    bench.clock.wait(WITHIN_S)
    bench.desk.settle()
    assert bench.states[-1] == ("failed", "timeout")
    assert bench.orders[0].answer(Outcome("done")) is False


NESTED = b'{"request_id": ' + b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1) + b"}"


@pytest.mark.parametrize(
    ("payload", "more", "reason", "says"),
    [
        pytest.param(b"", {}, "not_json", "expected a JSON object", id="empty"),
        pytest.param(b"PRESS", {}, "not_json", "expected a JSON object", id="a word"),
        pytest.param(b"[]", {}, "not_json", "got list", id="a list"),
        pytest.param(b"null", {}, "not_json", "got NoneType", id="null"),
        pytest.param(b'{"a": 1', {}, "not_json", "EOF", id="cut off"),
        pytest.param(b'{"request_id": "\xff"}', {}, "not_utf8", "at byte 16", id="no UTF-8"),
        pytest.param(b"\xff\xfe{\x00}\x00", {}, "not_utf8", "at byte 0", id="UTF-16"),
        pytest.param(NESTED, {}, "too_deep", "8 levels", id="nested"),
        pytest.param(b"[" * 2000, {}, "too_deep", "recursion", id="nested without end"),
        pytest.param(b" " * (MOST_PAYLOAD_BYTES + 1), {}, "too_large", "got 4097", id="too large"),
        pytest.param(b"{}", {"retained": True}, "retained", "without the retain flag", id="retained"),
        pytest.param(b"{}", {"topic": "fly"}, "unknown_verb", "expected one of act, got fly", id="unknown"),
        pytest.param(
            b'{"now": true}', {}, "invalid", "now: unknown key; known here: issued_utc, request_id", id="unknown key"
        ),
        pytest.param(b'{"request_id": 5}', {}, "invalid", "request_id: Input should be a valid string", id="number"),
        pytest.param(b'{"request_id": ""}', {}, "invalid", "request_id", id="no characters"),
        pytest.param(b'{"request_id": "a b"}', {}, "invalid", "request_id", id="a blank"),
        pytest.param(b'{"issued_utc": "yesterday"}', {}, "invalid", "issued_utc", id="no time"),
        pytest.param(b'{"issued_utc": "2026-11-18T11:06:40"}', {}, "invalid", "issued_utc.*timezone", id="no zone"),
        pytest.param(b'{"issued_utc": 1795000000}', {}, "invalid", "issued_utc", id="a number of seconds"),
        pytest.param(b'{"issued_utc": "0001-01-01T00:00:00+23:59"}', {}, "stale", "s ago", id="the first year"),
        pytest.param(b'{"issued_utc": "9999-12-31T23:59:59-23:59"}', {}, "stale", "s ahead", id="the last year"),
    ],
)
def test_what_is_no_command_is_refused_with_its_reason(
    bench: Bench, payload: bytes, more: dict[str, Any], reason: str, says: str
) -> None:
    bench.give(payload, **more)
    assert bench.states == [("refused", reason)]
    assert re.search(says, bench.results[0][1]["message"])
    assert bench.orders == []
    assert bench.counts() == {f"refused_{reason}": 1}


def test_a_refusal_names_the_request_when_that_can_be_read(bench: Bench) -> None:
    bench.give({"request_id": "r1", "now": True})
    bench.give({"request_id": "r2"}, topic="fly")
    assert [result["request_id"] for _, result, _ in bench.results] == ["r1", "r2"]


@pytest.mark.parametrize("topic", [None, "", "Act", "act/now", "act\n", "é", "a" * 33, "1act"])
def test_what_has_no_topic_to_answer_on_is_counted(bench: Bench, topic: str | None) -> None:
    bench.give(b"{}", topic=topic)
    assert bench.results == []
    assert bench.counts() == {"dropped_bad_topic": 1}


@pytest.mark.parametrize(
    ("away_s", "accepted"),
    [
        pytest.param(-MAX_AGE_S - 1, False, id="old"),
        pytest.param(-MAX_AGE_S + 1, True, id="not too old"),
        pytest.param(MAX_AGE_S - 1, True, id="clocks differ a little"),
        pytest.param(MAX_AGE_S + 1, False, id="clocks differ"),
    ],
)
def test_a_command_that_says_when_it_was_issued_is_not_done_late(bench: Bench, away_s: float, accepted: bool) -> None:
    bench.give({"issued_utc": iso_utc(NOW_UTC_NS + round(away_s * NS_PER_S))})
    assert bench.states == [("accepted", None) if accepted else ("refused", "stale")]


def test_the_same_request_is_answered_with_the_first_result_and_not_done_again(bench: Bench) -> None:
    for _ in range(2):
        bench.give({"request_id": "r1"})
    bench.orders[0].answer(Outcome("failed", "camera_lost", "gone"))
    bench.desk.settle()
    bench.clock.wait(REMEMBERED_S - 1)
    bench.give({"request_id": "r1"})
    assert len(bench.orders) == 1
    assert bench.states == [
        ("accepted", None),
        ("accepted", None),
        ("failed", "camera_lost"),
        ("failed", "camera_lost"),
    ]
    assert [result["repeated"] for _, result, _ in bench.results] == [False, True, False, True]
    assert bench.counts() == {"accepted": 1, "repeated": 2, "ended_failed": 1}


def test_a_request_is_forgotten_only_when_its_command_is_too_old_by_any_clock(bench: Bench) -> None:
    assert REMEMBERED_S > 2 * MAX_AGE_S
    payload = {"request_id": "r1", "issued_utc": iso_utc(NOW_UTC_NS + round((MAX_AGE_S - 1) * NS_PER_S))}
    bench.give(payload)
    bench.clock.wait(REMEMBERED_S)
    bench.give(payload)
    assert bench.states == [("accepted", None), ("refused", "stale")]


def test_requests_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MOST_REMEMBERED", 3)
    bench = Bench()
    for number in (0, 1, 2, 3, 4, 4, 0):
        bench.give({"request_id": f"r{number}"})
    assert [result["repeated"] for _, result, _ in bench.results] == [False, False, False, False, False, True, False]


def test_more_commands_than_can_be_answered_are_counted_and_soon_answered_again(bench: Bench) -> None:
    for _ in range(BURST + 5):
        bench.give(b"{}")
    assert len(bench.results) == BURST
    assert bench.counts() == {"accepted": BURST, "dropped_too_many": 5}
    bench.give(b"{}", topic="fly")  # another verb has its own limit
    assert bench.states[-1] == ("refused", "unknown_verb")
    bench.clock.wait(1 / RATE_HZ)
    bench.give(b"{}")
    bench.give(b"{}")
    assert bench.counts()["accepted"] == BURST + 1


def test_verbs_that_do_not_exist_share_one_limit(bench: Bench) -> None:
    for number in range(BURST + 5):
        bench.give(b"{}", topic=f"fly{number}")
    assert bench.counts() == {"refused_unknown_verb": BURST, "dropped_too_many": 5}


def test_what_finds_no_room_is_counted(bench: Bench) -> None:
    message = IncomingMessage(topic="vivarium/box1/command/act", payload=b"{}", size_bytes=2, retained=False)
    for _ in range(MOST_WAITING + 3):
        bench.inbox.put(message)
    assert bench.counts() == {"received": MOST_WAITING + 3, "dropped_queue_full": 3}
    assert bench.inbox.get(0) == message


def test_orders_under_way_are_answered_when_the_desk_closes(bench: Bench) -> None:
    bench.give({"request_id": "r1"})
    bench.desk.stop()
    bench.desk.run()
    assert bench.states == [("accepted", None), ("failed", "stopped")]
