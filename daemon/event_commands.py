"""`acknowledge` and `maintenance`: what people tell the service about its events, by MQTT, HTTP and terminal alike."""

import re
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from daemon.events import Event, EventKind, EventState
from daemon.maintenance import Reason, begun, ended
from daemon.messaging.commands import CommandPayload
from daemon.minute_series import MINUTE_NS
from daemon.open_events import open_now
from daemon.order import Order, Outcome
from daemon.rule_settings import LONGEST_MAINTENANCE_MINUTES, MaintenanceReason
from daemon.store.repository import Store
from daemon.watching import Watching
from daemon.worker import Worker
from drivers.clock import Clock
from drivers.errors import StoreError

EVENT_ID = r"^[0-9a-f]{32}$"
WITHIN_S = 8.0
"""The worker looks between two frames; the rest of it is for a slow disk."""

USUAL_MINUTES = 30

_SOMEBODY = r"^[^\x00-\x1f\x7f]{1,64}$"
_TEXT = r"^[^\x00-\x1f\x7f]{0,200}$"

PERSON_PATTERN = re.compile(_SOMEBODY)
NOTE_PATTERN = re.compile(_TEXT)

Person = Annotated[str, Field(pattern=_SOMEBODY)]
Note = Annotated[str, Field(pattern=_TEXT)]


def _whole(value: object) -> object:
    """To JSON 30.0 is a whole number as well."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Words(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Acknowledgement(_Words):
    """Somebody has seen an event."""

    event_id: Annotated[str, Field(pattern=EVENT_ID)]
    """Of the event that opened it."""
    by: Person
    """Who it is."""
    note: Note = ""
    """What they say to it."""


class AcknowledgePayload(Acknowledgement, CommandPayload):
    """The same as a command by MQTT."""


_EITHER: dict[str, Any] = {
    "oneOf": [
        {"properties": {"action": {"const": "begin"}, "reason": {"type": "string"}}, "required": ["action", "reason"]},
        {"properties": {"action": {"const": "end"}, "reason": {"type": "null"}, "minutes": {"type": "null"}}},
    ]
}
"""`_what_for` as JSON Schema, for whoever reads the description of the interface."""


class MaintenanceChange(_Words):
    """People begin or end work at the cage."""

    model_config = ConfigDict(json_schema_extra=_EITHER)

    action: Literal["begin", "end"]
    """Begin, or end before its time all that goes on."""
    by: Person
    """Who it is."""
    reason: MaintenanceReason | None = None
    """What is done; needed to begin."""
    minutes: Annotated[int, Field(ge=1, le=LONGEST_MAINTENANCE_MINUTES), BeforeValidator(_whole)] | None = None
    """After so long it ends by itself; 30 when left out."""
    note: Note = ""
    """What they say to it."""

    @model_validator(mode="after")
    def _what_for(self) -> "MaintenanceChange":
        if self.action == "begin" and self.reason is None:
            raise ValueError("reason is needed to begin")
        if self.action == "end" and (self.reason is not None or self.minutes is not None):
            raise ValueError("reason and minutes are for begin")
        return self


class MaintenancePayload(MaintenanceChange, CommandPayload):
    """The same as a command by MQTT."""


class EventCommands:
    """Each order is carried out by the worker's thread, and answered once it is stored."""

    def __init__(self, *, worker: Worker, watching: Watching, store: Store, clock: Clock) -> None:
        self._worker = worker
        self._watching = watching
        self._store = store
        self._clock = clock

    def acknowledge(self, payload: Acknowledgement, order: Order) -> None:
        """Note who has seen an event. Does not wait."""
        self._worker.soon(partial(self._acknowledge, payload, order))

    def maintenance(self, payload: MaintenanceChange, order: Order) -> None:
        """Begin or end maintenance. Does not wait."""
        self._worker.soon(partial(self._begin if payload.action == "begin" else self._end, payload, order))

    def _acknowledge(self, payload: Acknowledgement, order: Order) -> None:
        if order.outcome is not None:
            return
        try:
            known = {each.opened.event_id: each for each in open_now(self._store.event_histories())}
        except StoreError as error:
            order.answer(Outcome("failed", "not_stored", str(error)))
            return
        found = known.get(payload.event_id)
        if found is None or found.opened.kind is EventKind.MAINTENANCE:
            order.answer(Outcome("refused", "not_open", f"there is no open event {payload.event_id}"))
            return
        if found.acknowledged_by is not None:
            by = found.acknowledged_by
            order.answer(Outcome("refused", "acknowledged", f"{by} has acknowledged it already"))
            return
        self._watching.acknowledge(payload.event_id)
        event = Event(
            kind=found.opened.kind,
            state=EventState.ACKNOWLEDGED,
            severity=found.severity,
            at_utc_ns=self._clock.utc_ns(),
            animal=found.opened.animal,
            data={"by": payload.by, "note": payload.note, "rule": found.opened.data.get("rule")},
            opened_event_id=payload.event_id,
        )
        self._worker.tell_and_then(event, partial(order.answer, Outcome("done")))

    def _begin(self, payload: MaintenanceChange, order: Order) -> None:
        if order.outcome is not None:
            return
        if self._watching.maintenance:
            reasons = ", ".join(each.reason for each in self._watching.maintenance)
            order.answer(Outcome("refused", "going_on", f"{reasons} goes on; end it first"))
            return
        now_ns = self._clock.utc_ns()
        stretch, event = begun(
            Reason(payload.reason or Reason.OTHER),
            at_utc_ns=now_ns,
            end_utc_ns=now_ns + (payload.minutes or USUAL_MINUTES) * MINUTE_NS,
            by=payload.by,
            note=payload.note,
        )
        self._watching.begin(stretch)
        self._worker.keep_maintenance(stretch, event, partial(order.answer, Outcome("done")))

    def _end(self, payload: MaintenanceChange, order: Order) -> None:
        if order.outcome is not None:
            return
        going_on = self._watching.maintenance
        if not going_on:
            order.answer(Outcome("refused", "none", "no maintenance goes on"))
            return
        for stretch in going_on:
            changed, event = ended(stretch, at_utc_ns=self._clock.utc_ns(), by=payload.by)
            self._watching.end(changed)
            last = stretch is going_on[-1]
            then = partial(order.answer, Outcome("done")) if last else lambda: None
            self._worker.keep_maintenance(changed, event, then)
