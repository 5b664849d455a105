"""The status page and the JSON behind it."""

import threading
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict

from daemon.event_commands import EVENT_ID, WITHIN_S, Acknowledgement, EventCommands, MaintenanceChange
from daemon.events import NumberedEvent
from daemon.messaging.payloads import NO_NAMES, AnimalNames, EventPayload, event_payload
from daemon.order import Order, Outcome
from daemon.status import Status, Verdict
from drivers.clock import NS_PER_S, Clock
from drivers.errors import VivariumError

STATUS_AGE_S = 0.5
"""A status is read once for all who ask within so long: the database is not asked more often than twice a second."""

MOST_EVENTS = 1000
"""In one answer: half a megabyte."""

_POLL_S = 0.05
"""How often a request looks what became of its order."""

_LARGEST_SEQ = 2**63 - 1


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Health(_Answer):
    """What a monitor needs to know."""

    verdict: Verdict


class Unavailable(_Answer):
    """Why there is no answer at present."""

    error: str


class Events(_Answer):
    """Events in the order of their numbers."""

    events: tuple[EventPayload, ...]
    """Each as it was published."""
    more: bool
    """Whether there are more: ask again after the last of these."""


class Done(_Answer):
    """What became of a command."""

    state: Literal["done", "refused", "failed"]
    reason: str
    """Why not, in one word for programs; empty when it is done."""
    message: str
    """Why not, in a sentence for people."""


class SharedStatus:
    """One reading of the status for all who ask at about the same time; from any thread.

    Parameters
    ----------
    read : callable
        Reads the state of the service; raises `VivariumError` when it cannot be said.
    clock : Clock
        Its monotonic time counts.
    """

    def __init__(self, read: Callable[[], Status], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._newest: tuple[int, Status] | None = None

    def __call__(self) -> Status:
        """The state, at most `STATUS_AGE_S` old."""
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            if self._newest is None or now_ns - self._newest[0] > STATUS_AGE_S * NS_PER_S:
                self._newest = now_ns, self._read()
            return self._newest[1]


def create_api(
    read_status: Callable[[], Status],
    live_picture: Callable[[], bytes | None],
    events_after: Callable[[int, int], Sequence[NumberedEvent]],
    *,
    evidence: Callable[[str, str], bytes | None] = lambda _event_id, _name: None,
    commands: EventCommands | None = None,
    names: AnimalNames = NO_NAMES,
) -> FastAPI:
    """The web application.

    Parameters
    ----------
    read_status : callable
        The state of the service now; called from any thread, by each request.
    live_picture : callable
        The newest frame as a PNG file; None before the first.
    events_after : callable
        Stored events with a number above the first argument, at most so many as the second says.
    evidence : callable
        The PNG file of an event, by its id and the file's name; None where there is none.
    commands : EventCommands, optional
        Carries out what the page may ask for; without it nothing.
    names : mapping
        Of the animals.
    """
    page = files("daemon.web").joinpath("status.html").read_text(encoding="utf-8")
    unavailable = {503: {"model": Unavailable, "description": "The state cannot be read, or too many are asking"}}
    api = FastAPI(
        title="Strong Vivarium",
        summary="State, newest picture and events of one box.",
        docs_url=None,
        redoc_url=None,
        responses={503: unavailable[503]},
    )

    @api.exception_handler(VivariumError)
    def say_why_not(_request: Request, error: VivariumError) -> JSONResponse:
        """The state cannot be said at present, for instance because the database cannot be read."""
        return JSONResponse({"error": str(error)}, status_code=503)

    @api.get("/", response_class=HTMLResponse, include_in_schema=False)
    def status_page() -> str:
        return page

    @api.get("/api/status")
    def status() -> Status:
        """Everything the page shows."""
        return read_status()

    @api.get(
        "/api/live.png",
        response_class=Response,
        responses={
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            204: {"description": "No frame so far"},
        },
    )
    def live() -> Response:
        """The newest measured frame with its parts."""
        picture = live_picture()
        if picture is None:
            return Response(status_code=204)
        return Response(picture, media_type="image/png", headers={"Cache-Control": "no-store"})

    @api.get("/api/events")
    def events(
        after: Annotated[int, Query(ge=0, le=_LARGEST_SEQ, description="Number of the last event you know.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_EVENTS, description="Most events in the answer.")] = 100,
    ) -> Events:
        """What a listener has missed: events with a greater number, oldest first.

        Each message on `event/<kind>` carries its number as `seq`. They rise by one from event to event, so a jump is
        something that was not heard; it is found here. A jump that this has no events for is a database that was lost.
        """
        found = events_after(after, limit + 1)
        return Events(events=tuple(event_payload(each, names) for each in found[:limit]), more=len(found) > limit)

    @api.get(
        "/api/evidence/{event_id}/{name}",
        response_class=Response,
        responses={
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            404: {"model": Unavailable, "description": "There is none, or it gave way to newer ones"},
        },
    )
    def event_evidence(
        event_id: Annotated[str, PathParameter(pattern=EVENT_ID, description="Id of the event.")],
        name: Literal["plot", "frame_1", "frame_2", "frame_3"],
    ) -> Response:
        """What an event shows for itself: the plot of its measure, and up to three frames."""
        picture = evidence(event_id, name)
        if picture is None:
            return JSONResponse({"error": "there is no such evidence, or not any more"}, status_code=404)
        return Response(picture, media_type="image/png", headers={"Cache-Control": "max-age=86400"})

    if commands is not None:
        _add_commands(api, commands)

    @api.get("/healthz", responses={503: {"model": Health | Unavailable, "description": "Somebody has to act"}})
    def healthz(response: Response) -> Health:
        """For monitors: 200 while nobody has to act, else 503."""
        verdict = read_status().verdict
        response.status_code = 503 if verdict is Verdict.ACT else 200
        return Health(verdict=verdict)

    return api


_COMMAND_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body is no text"},
    409: {"model": Done, "description": "Refused"},
    503: {"model": Done | Unavailable, "description": "Failed, or too many are asking"},
}


def _add_commands(api: FastAPI, commands: EventCommands) -> None:
    """What changes something takes JSON only: no page of another site can send that without being asked first."""

    @api.post("/api/acknowledge", responses=_COMMAND_ANSWERS)
    def acknowledge(payload: Acknowledgement, response: Response) -> Done:
        """Somebody has seen an event: it stays open, and is not made more severe any more."""
        return _carry_out(lambda order: commands.acknowledge(payload, order), response)

    @api.post("/api/maintenance", responses=_COMMAND_ANSWERS)
    def maintenance(payload: MaintenanceChange, response: Response) -> Done:
        """People begin or end work at the cage: its minutes count for no rule."""
        return _carry_out(lambda order: commands.maintenance(payload, order), response)


def _carry_out(give: Callable[[Order], None], response: Response) -> Done:
    order = Order()
    give(order)
    deadline_s = time.monotonic() + WITHIN_S
    while order.outcome is None and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    order.answer(Outcome("failed", "timeout", f"not done within {WITHIN_S:g} s; it is not attempted any more"))
    outcome = order.outcome
    assert outcome is not None  # it was answered just now, if not before
    response.status_code = {"done": 200, "refused": 409, "failed": 503}[outcome.state]
    return Done(state=outcome.state, reason=outcome.reason, message=outcome.message)
