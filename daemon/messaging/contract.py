"""What is said on which topic and how: the one list that publisher, JSON Schemas and AsyncAPI document go by."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

from pydantic import BaseModel

from daemon.messaging import topics
from daemon.messaging.payloads import (
    AlertPayload,
    AnimalPayload,
    BlockPayload,
    CagePayload,
    CommandResultPayload,
    EventPayload,
    HealthPayload,
    InfoPayload,
    ObservationPayload,
    StatusPayload,
)

CONTENT_TYPE: Final = "application/json"

SCHEMA_PROPERTY: Final = "schema"
"""User property of MQTT 5 that carries what `schema` in the payload says, for whoever routes without reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One topic, or all topics of one kind, that the box publishes on."""

    name: str
    address: str
    """Below `vivarium/<box>/`, with `{parameters}`."""
    message: type[BaseModel]
    """Shape of its payload."""
    summary: str
    qos: Literal[0, 1] = 1
    retained: bool = False
    expiry_s: int | None = None
    """Message expiry of MQTT 5: the broker forgets it after so long; None for never."""
    least_interval_s: float = 0.0
    """Rate limit: not published more often, only the newest counts; 0 for no limit."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What the names in braces stand for."""

    def matches(self, topic: str) -> bool:
        """Whether a topic below the base is one of this channel."""
        pattern = re.sub(r"\{\w+\}", _one_level_or_more, self.address)
        return re.fullmatch(pattern, topic) is not None


def _one_level_or_more(parameter: re.Match[str]) -> str:
    return ".+" if parameter[0] == "{verb}" else "[^/]+"


MINUTE_S = 60
DAY_S = 86_400

OBSERVATIONS_PER_S: Final = 25.0
"""Rate limit of observations: the camera's full rate. They wait, and the oldest give way, when more come for long."""

OBSERVATIONS_AT_ONCE: Final = 250
"""So many may go out in one moment, for instance those that waited for a commit."""

CHANNELS: Final = (
    Channel(
        name="status",
        address=topics.STATUS,
        message=StatusPayload,
        summary="Whether the service is connected. The broker itself says offline when it vanishes (last will).",
        retained=True,
    ),
    Channel(
        name="info",
        address=topics.INFO,
        message=InfoPayload,
        summary="Who publishes here: versions, camera, run, config.",
        retained=True,
        least_interval_s=1,
    ),
    Channel(
        name="observation",
        address=topics.OBSERVATION,
        message=ObservationPayload,
        summary="Every measured frame with all animals and parts.",
        qos=0,
        expiry_s=MINUTE_S,
        least_interval_s=1 / OBSERVATIONS_PER_S,
    ),
    Channel(
        name="animal",
        address="animal/{animal}",
        message=AnimalPayload,
        summary="The newest reading of one animal, and its measures of the newest minute.",
        retained=True,
        expiry_s=DAY_S,
        least_interval_s=1,
        parameters={"animal": "Number of the animal, from 1."},
    ),
    Channel(
        name="cage",
        address=topics.CAGE,
        message=CagePayload,
        summary="What the newest minute says of the cage as a whole.",
        retained=True,
        expiry_s=DAY_S,
        least_interval_s=1,
    ),
    Channel(
        name="block",
        address=topics.BLOCK,
        message=BlockPayload,
        summary="The current or last block of the schedule, or recording by command, and its coverage.",
        retained=True,
        least_interval_s=0.5,
    ),
    Channel(
        name="health",
        address=topics.HEALTH,
        message=HealthPayload,
        summary="How the service does; with the age of the last good frame it is the dead-man topic.",
        retained=True,
        expiry_s=MINUTE_S,
        least_interval_s=1,
    ),
    Channel(
        name="alert",
        address=topics.ALERT,
        message=AlertPayload,
        summary="All conditions that are open now.",
        retained=True,
        least_interval_s=0.5,
    ),
    Channel(
        name="event",
        address="event/{kind}",
        message=EventPayload,
        summary="What happened. It waits in the database until the broker has acknowledged it, and never expires.",
        parameters={"kind": "What kind of event."},
    ),
    Channel(
        name="command_result",
        address="command/{verb}/result",
        message=CommandResultPayload,
        summary="What became of a command, and the state that it led to; or why not.",
        expiry_s=5 * MINUTE_S,
        parameters={"verb": "Of the command; `set/<key>` for a setting."},
    ),
)


@lru_cache(maxsize=256)
def channel_of(topic: str) -> Channel | None:
    """The channel of a topic below the base; None for one that is not in the contract."""
    return next((channel for channel in CHANNELS if channel.matches(topic)), None)
