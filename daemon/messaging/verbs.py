"""What can be commanded: the one list that the desk and the AsyncAPI document go by.

A verb has its payload here and whoever carries it out in `daemon/app.py`; one without the other stops the start.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field

from daemon.ad_hoc import LONGEST_S
from daemon.correction_commands import WITHIN_S as CORRECTION_WITHIN_S
from daemon.correction_commands import CorrectionPayload
from daemon.event_commands import WITHIN_S as EVENT_WITHIN_S
from daemon.event_commands import AcknowledgePayload, MaintenancePayload
from daemon.messaging import topics
from daemon.messaging.commands import CommandPayload, Verb
from daemon.order import Order
from daemon.remote_settings import SETTABLE
from drivers.t2s_protocol import FRAME_RATE_HZ


class RecordPayload(CommandPayload):
    """Record now, outside the blocks of the schedule."""

    duration_s: Annotated[float, Field(ge=1, le=LONGEST_S)] = 60.0
    """So long, or until the next block of the schedule begins."""
    rate_hz: Annotated[float, Field(gt=0, le=FRAME_RATE_HZ)] | None = None
    """Frames per second; that of the schedule when left out."""


class SetPayload(CommandPayload):
    """Change one setting, named by the topic, until the config is read again or the service starts."""

    value: Annotated[str, Field(max_length=200)] | int | float | bool
    """Judged by the same rules as in config.toml."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbTerms:
    """What whoever commands must know."""

    model: type[CommandPayload] = CommandPayload
    """Of the payload."""
    within_s: float
    """Told as failed when it is not done by then."""
    summary: str


VERBS: Final[Mapping[str, VerbTerms]] = {
    # A shutter cycle takes 1.3 s; a control that hangs takes 5 s to say so, and who commanded it hears within 8 s.
    "calibrate": VerbTerms(within_s=7.0, summary="Close the shutter once."),
    # The main loop looks each second, and a new config is read in less.
    "reload": VerbTerms(within_s=10.0, summary="Read the config file again."),
    "record": VerbTerms(
        model=RecordPayload, within_s=10.0, summary="Record now, outside the blocks of the schedule, for a while."
    ),
    "stop": VerbTerms(within_s=10.0, summary="End the recording that was begun by `record`."),
    # The next frame at the least rate, measured and written to a slow disk.
    "snapshot": VerbTerms(within_s=10.0, summary="Keep one frame: picture, degrees and what was measured."),
    "acknowledge": VerbTerms(
        model=AcknowledgePayload, within_s=EVENT_WITHIN_S, summary="Say that somebody sees to an event."
    ),
    "maintenance": VerbTerms(
        model=MaintenancePayload, within_s=EVENT_WITHIN_S, summary="Begin or end work at the cage: rules keep silent."
    ),
    "correction": VerbTerms(
        model=CorrectionPayload,
        within_s=CORRECTION_WITHIN_S,
        summary="Go on with what a correction of identities in the database says, or without one that was undone.",
    ),
}
"""By the verb in the topic."""

SET_TERMS: Final = VerbTerms(model=SetPayload, within_s=10.0, summary="Change one setting for now.")
"""Of each verb `set/<key>`."""

Doer = Callable[[Any, Order], None]


def make_verbs(doers: Mapping[str, Doer], set_value: Callable[[str, SetPayload, Order], None]) -> dict[str, Verb]:
    """The verbs for the desk.

    Parameters
    ----------
    doers : mapping of str to callable
        Who carries out each verb of `VERBS`: told the payload, and the order to be answered.
    set_value : callable
        Told key, payload and order of `set/<key>`.

    Raises
    ------
    ValueError
        If a verb has nobody, or somebody has no verb.
    """
    if set(doers) != set(VERBS):
        raise ValueError(f"expected somebody for each of {sorted(VERBS)}, got {sorted(doers)}")
    verbs = {
        verb: Verb(model=terms.model, carry_out=doers[verb], within_s=terms.within_s) for verb, terms in VERBS.items()
    }
    return verbs | {f"{topics.SET}{key}": _setter(key, set_value) for key in SETTABLE}


def _setter(key: str, set_value: Callable[[str, SetPayload, Order], None]) -> Verb:
    def carry_out(payload: SetPayload, order: Order) -> None:
        set_value(key, payload, order)

    return Verb(model=SET_TERMS.model, carry_out=carry_out, within_s=SET_TERMS.within_s)
