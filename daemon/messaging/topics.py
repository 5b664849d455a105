"""Names of topics. All but `absolute` are relative to the base topic of the box, `vivarium/<box>/`."""

from daemon.events import EventKind

STATUS = "status"
"""Whether the service is connected; retained, and the last will."""
INFO = "info"
"""Who publishes here: versions, camera, run; retained."""
OBSERVATION = "observation"
"""Every measured frame; QoS 0, not retained."""
BLOCK = "block"
"""The current or last block of the schedule; retained."""
HEALTH = "health"
"""How the service does; retained."""

_ROOT = "vivarium"


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


def event(kind: EventKind) -> str:
    """What happened; QoS 1 through the outbox, so that nothing is lost."""
    return f"event/{kind.value}"
