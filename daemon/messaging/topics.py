"""Names of topics. All but `absolute` are relative to the base topic of the box, `vivarium/<box>/`."""

import re

from daemon.events import EventKind

STATUS = "status"
"""Whether the service is connected; retained, and the last will."""
INFO = "info"
"""Who publishes here: versions, camera, run; retained."""
OBSERVATION = "observation"
"""Every measured frame; QoS 0, not retained."""
CAGE = "cage"
"""What the newest minute says of the cage as a whole; retained."""
ALERT = "alert"
"""All conditions that are open now; retained."""
BLOCK = "block"
"""The current or last block of the schedule; retained."""
HEALTH = "health"
"""How the service does; retained."""

COMMANDS = ("command/+", "command/set/+")
"""Where commands are listened for: `command/<verb>`, each answered on `command/<verb>/result`."""

SET = "set/"
"""Verbs that begin so end in the key of a setting: `set/alerts.not_seen_after_s`."""

_ROOT = "vivarium"

_VERB = re.compile(r"(?!set$)[a-z][a-z0-9_-]{0,31}|set/[a-z0-9_]{1,32}(\.[a-z0-9_]{1,32}){1,3}")
"""`set` alone is none, and `set/result` neither: an answer to the first would itself arrive as the second."""


def absolute(box: str, topic: str) -> str:
    """The full topic for a relative one."""
    return f"{_ROOT}/{box}/{topic}"


def animal(number: int) -> str:
    """The newest reading of one animal; retained.

    Raises
    ------
    ValueError
        If the number is below 1.
    """
    if number < 1:
        raise ValueError(f"animals are numbered from 1, got {number}")
    return f"animal/{number}"


def command(verb: str) -> str:
    """Where a command is given. QoS 1, never retained: the payload is JSON, see `daemon.messaging.commands`."""
    return f"command/{verb}"


def command_result(verb: str) -> str:
    """What became of a command; QoS 1, never retained."""
    return f"command/{verb}/result"


def command_verb(box: str, topic: str) -> str | None:
    """The verb in a full topic; None when there is none that could be answered on a topic of its own."""
    verb = topic.removeprefix(absolute(box, command("")))
    return verb if verb != topic and _VERB.fullmatch(verb) else None


def event(kind: EventKind) -> str:
    """What happened; QoS 1 through the outbox, so that nothing is lost."""
    return f"event/{kind.value}"
