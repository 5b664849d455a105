"""Commands that come by MQTT: each is judged, carried out at most once, and answered or counted.

On `command/<verb>`, as JSON: `{"request_id": "any 64 characters", "issued_utc": "2026-11-26T12:00:00Z"}`. Both may be
left out; who gives a `request_id` finds it in the result and can repeat the command without it being done twice, who
gives `issued_utc` makes sure that it is not done late. Nothing else is allowed unless the verb says so.

Three threads have a part: the publisher's puts what came into the `Inbox` and goes on; that of the `CommandDesk`
judges and answers; whoever can do it does it, when it finds the order. None of them waits for another.
"""

import logging
import queue
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from daemon.messaging import topics
from daemon.messaging.incoming import MOST_PAYLOAD_BYTES, IncomingMessage
from daemon.messaging.pace import Bucket
from daemon.messaging.payloads import CommandResultPayload, iso_utc
from daemon.order import Order, Outcome
from drivers.clock import NS_PER_S, Clock

logger = logging.getLogger(__name__)

MOST_WAITING = 64
"""Messages between the publisher's thread and the desk: a quarter of a megabyte."""

DEEPEST = 8
"""Nesting of a payload."""

MAX_AGE_S = 60.0
"""A command that says when it was issued is carried out so long after that, or before by a clock that differs."""

REMEMBERED_S = 180.0
"""For so long a `request_id` is known, longer than a command may be old on either side of our clock."""

MOST_REMEMBERED = 2048

BURST = 10
"""Commands of one verb that are answered in one moment; beyond `RATE_HZ` they are only counted."""

RATE_HZ = 5.0

POLL_S = 0.1
"""How often the desk looks what became of the orders under way."""

_REQUEST_ID = r"^[\x21-\x7e]{1,64}$"


class CommandPayload(BaseModel):
    """What every command may say."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    request_id: Annotated[str, Field(pattern=_REQUEST_ID)] | None = None
    """Echoed in the result; the same again is answered with the first result and not carried out again."""
    issued_utc: AwareDatetime | None = None
    """When it was given, ISO 8601 with zone: refused when that is more than `MAX_AGE_S` away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One thing that can be commanded."""

    model: type[CommandPayload]
    """Of its payload."""
    carry_out: Callable[[Any, Order], None]
    """Told the payload, an instance of the model; answers the order or leaves it to who can. Must not wait."""
    within_s: float
    """An order that is not answered by then has failed, and is not carried out any more."""


class Refusal(Exception):  # noqa: N818  # an answer, not an error
    """Why a command is not carried out."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class CommandCounts:
    """What became of all that came. May be used from any thread.

    `received` is the sum of `accepted`, `repeated`, every `refused_WHY` (answered) and `dropped_WHY` (not answered).
    Each accepted one ends as `ended_done`, `ended_refused` or `ended_failed`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, *names: str) -> None:
        """Count one more of each."""
        with self._lock:
            self._counts.update(names)

    def __call__(self) -> dict[str, int]:
        """All counts."""
        with self._lock:
            return dict(self._counts)


class Inbox:
    """What waits to be judged, bounded; `put` is called by the publisher's thread and never waits."""

    def __init__(self, counts: CommandCounts) -> None:
        self._counts = counts
        self._waiting: queue.Queue[IncomingMessage] = queue.Queue(MOST_WAITING)

    def put(self, message: IncomingMessage) -> None:
        """Leave a message; beyond the limit it is only counted."""
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._counts.add("received", "dropped_queue_full")
        else:
            self._counts.add("received")

    def get(self, timeout_s: float) -> IncomingMessage | None:
        """The oldest message; None when nothing came in time."""
        try:
            return self._waiting.get(timeout=timeout_s)
        except queue.Empty:
            return None


@dataclass(slots=True)
class _UnderWay:
    verb: str
    request_id: str | None
    correlation: bytes | None
    order: Order
    until_ns: int
    within_s: float


@dataclass(slots=True)
class _Remembered:
    result: CommandResultPayload
    until_ns: int


class CommandDesk:
    """Judges, hands on and answers commands, in a thread of its own.

    Parameters
    ----------
    verbs : mapping of str to Verb
        What can be commanded.
    box : str
        Name of the box.
    inbox : Inbox
        Where messages come from.
    counts : CommandCounts
        Filled.
    publish : callable
        Sends a result: topic below the base topic, payload, correlation data.
    clock : Clock
        Wall time for `issued_utc`, monotonic time for everything else.
    beat : callable
        Told again and again as long as the thread goes on.
    """

    def __init__(
        self,
        verbs: Mapping[str, Verb],
        *,
        box: str,
        inbox: Inbox,
        counts: CommandCounts,
        publish: Callable[[str, bytes, bytes | None], None],
        clock: Clock,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._verbs = verbs
        self._box = box
        self._inbox = inbox
        self._counts = counts
        self._publish = publish
        self._clock = clock
        self._beat = beat
        self._limits = {verb: Bucket(clock, at_once=BURST, per_s=RATE_HZ) for verb in verbs}
        self._limit_of_unknown = Bucket(clock, at_once=BURST, per_s=RATE_HZ)
        self._under_way: list[_UnderWay] = []
        self._remembered: OrderedDict[tuple[str, str], _Remembered] = OrderedDict()
        self._stop = threading.Event()

    def stop(self) -> None:
        """End `run` soon."""
        self._stop.set()

    def run(self) -> None:
        """Handle what comes until stopped; then every order under way is answered."""
        while not self._stop.is_set():
            self._beat()
            message = self._inbox.get(POLL_S)
            if message is not None:
                self.handle(message)
            self.settle()
        for under_way in self._under_way:
            under_way.order.answer(Outcome("failed", "stopped", "the service stopped before it was done"))
        self.settle()

    def handle(self, message: IncomingMessage) -> None:
        """Take one message: answer or count it."""
        verb = None if message.topic is None else topics.command_verb(self._box, message.topic)
        if verb is None:
            self._counts.add("dropped_bad_topic")
        elif not self._limits.get(verb, self._limit_of_unknown).take():
            self._counts.add("dropped_too_many")
        else:
            self._judge(verb, message)

    def _judge(self, verb: str, message: IncomingMessage) -> None:
        request_id = None
        try:
            content = read(message)
            request_id = readable_request_id(content)
            known = self._known(verb)
            payload = checked(known, message.payload)
            self._check_age(payload)
        except Refusal as refusal:
            self._counts.add(f"refused_{refusal.reason}")
            logger.debug("command %s refused: %s", verb, refusal)
            outcome = Outcome("refused", refusal.reason, refusal.message)
            self._answer(self._result(verb, request_id, outcome), message.correlation)
            return
        remembered = self._first_result(verb, request_id)
        if remembered is not None:
            self._counts.add("repeated")
            self._answer(remembered.model_copy(update={"repeated": True}), message.correlation)
            return
        self._carry_out(verb, known, payload, message.correlation)

    def _known(self, verb: str) -> Verb:
        known = self._verbs.get(verb)
        if known is None:
            raise Refusal("unknown_verb", f"expected one of {', '.join(sorted(self._verbs))}, got {verb}")
        return known

    def _check_age(self, payload: CommandPayload) -> None:
        if payload.issued_utc is None:
            return
        now = datetime.fromtimestamp(self._clock.utc_ns() / NS_PER_S, payload.issued_utc.tzinfo)
        away = now - payload.issued_utc
        if abs(away) > timedelta(seconds=MAX_AGE_S):
            side = "ago" if away > timedelta() else "ahead"
            raise Refusal(
                "stale",
                f"issued_utc: {abs(away).total_seconds():.0f} s {side} by the clock of the box, expected at most "
                f"{MAX_AGE_S:g} s; was it under way so long, or do the clocks differ?",
            )

    def _carry_out(self, verb: str, known: Verb, payload: CommandPayload, correlation: bytes | None) -> None:
        order = Order()
        known.carry_out(payload, order)
        outcome, request_id = order.outcome, payload.request_id
        if outcome is not None and outcome.state == "refused":
            self._counts.add(f"refused_{outcome.reason}")
            result = self._result(verb, request_id, outcome)
        else:
            logger.info("command %s accepted%s", verb, _of_request(request_id))
            self._counts.add("accepted")
            until_ns = self._clock.monotonic_ns() + round(known.within_s * NS_PER_S)
            self._under_way.append(_UnderWay(verb, request_id, correlation, order, until_ns, known.within_s))
            result = self._result(verb, request_id, None)
        self._remember(result)
        self._answer(result, correlation)

    def settle(self) -> None:
        """Tell what became of orders that are answered or overdue."""
        now_ns, still_under_way = self._clock.monotonic_ns(), []
        for each in self._under_way:
            if now_ns >= each.until_ns:
                late = f"not done within {each.within_s:g} s; it is not attempted any more"
                each.order.answer(Outcome("failed", "timeout", late))
            outcome = each.order.outcome
            if outcome is None:
                still_under_way.append(each)
                continue
            request = _of_request(each.request_id)
            logger.info("command %s %s%s%s", each.verb, outcome.state, request, _because(outcome))
            self._counts.add(f"ended_{outcome.state}")
            result = self._result(each.verb, each.request_id, outcome)
            self._remember(result)
            self._answer(result, each.correlation)
        self._under_way = still_under_way

    def _result(self, verb: str, request_id: str | None, outcome: Outcome | None) -> CommandResultPayload:
        now_ns = self._clock.utc_ns()
        state: Literal["accepted", "done", "refused", "failed"] = "accepted" if outcome is None else outcome.state
        return CommandResultPayload(
            verb=verb,
            request_id=request_id,
            state=state,
            reason=(outcome and outcome.reason) or None,
            message=(outcome and outcome.message) or None,
            data=dict(outcome.data) if outcome else {},
            repeated=False,
            at=iso_utc(now_ns),
            at_utc_ns=now_ns,
        )

    def _answer(self, result: CommandResultPayload, correlation: bytes | None) -> None:
        self._publish(topics.command_result(result.verb), result.to_json(), correlation)

    def _first_result(self, verb: str, request_id: str | None) -> CommandResultPayload | None:
        """What became of the command of this request, as far as it has come."""
        now_ns = self._clock.monotonic_ns()
        while self._remembered:
            oldest = next(iter(self._remembered.values()))
            if oldest.until_ns > now_ns and len(self._remembered) <= MOST_REMEMBERED:
                break
            self._remembered.popitem(last=False)
        found = None if request_id is None else self._remembered.get((verb, request_id))
        return None if found is None else found.result

    def _remember(self, result: CommandResultPayload) -> None:
        if result.request_id is None:
            return
        key = (result.verb, result.request_id)
        found = self._remembered.get(key)
        if found is not None:
            found.result = result
        else:
            until_ns = self._clock.monotonic_ns() + round(REMEMBERED_S * NS_PER_S)
            self._remembered[key] = _Remembered(result, until_ns)


def _of_request(request_id: str | None) -> str:
    return "" if request_id is None else f", request {request_id}"


def _because(outcome: Outcome) -> str:
    return f": {outcome.message}" if outcome.message else ""


def read(message: IncomingMessage) -> dict[str, Any]:
    """The object that a payload holds.

    Raises
    ------
    Refusal
        If it is retained, too large or too deep, no UTF-8, no JSON, or no object.
    """
    if message.retained:
        raise Refusal(
            "retained", "retained: a command is for now; publish it without the retain flag, and clear this topic"
        )
    if message.size_bytes > MOST_PAYLOAD_BYTES:
        raise Refusal("too_large", f"expected at most {MOST_PAYLOAD_BYTES} bytes, got {message.size_bytes}")
    try:
        message.payload.decode()
    except UnicodeDecodeError as error:
        raise Refusal("not_utf8", f"expected UTF-8, got something else at byte {error.start}") from None
    try:
        content = from_json(message.payload)
    except ValueError as error:
        reason = "too_deep" if "recursion limit" in str(error) else "not_json"
        raise Refusal(reason, f"expected a JSON object: {error}") from None
    if _deeper_than(content, DEEPEST):
        raise Refusal("too_deep", f"expected at most {DEEPEST} levels")
    if not isinstance(content, dict):
        raise Refusal("not_json", f"expected a JSON object like {{}}, got {type(content).__name__}")
    return content


def _deeper_than(content: object, levels: int) -> bool:
    if not isinstance(content, (dict, list)):
        return False
    inner = content.values() if isinstance(content, dict) else content
    return levels == 0 or any(_deeper_than(each, levels - 1) for each in inner)


def readable_request_id(content: Mapping[str, Any]) -> str | None:
    """The request that a refusal is told to, also when the rest is wrong."""
    request_id = content.get("request_id")
    return request_id if isinstance(request_id, str) and re.fullmatch(_REQUEST_ID, request_id) else None


def checked(verb: Verb, payload: bytes) -> CommandPayload:
    """The payload as the verb wants it.

    Raises
    ------
    Refusal
        If a key is unknown or a value wrong; it names every one of them.
    """
    try:
        return verb.model.model_validate_json(payload)
    except ValidationError as error:
        known = f"unknown key; known here: {', '.join(sorted(verb.model.model_fields))}"
        problems = [
            f"{'.'.join(str(step) for step in each['loc'])[:80]}: "
            + (known if each["type"] == "extra_forbidden" else each["msg"])
            for each in error.errors()[:10]
        ]
        raise Refusal("invalid", "; ".join(problems)) from None
