"""What was set aside, and what gave way, as events."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from daemon.events import Event, EventKind, EventState, Severity
from daemon.store.retention import Sacrifice


def set_aside_event(what: str, at_utc_ns: int, **data: str | int) -> Event:
    """Something was damaged and is kept under another name."""
    return Event(
        kind=EventKind.SET_ASIDE,
        state=EventState.OCCURRED,
        severity=Severity.ALERT,
        at_utc_ns=at_utc_ns,
        data={"rule": EventKind.SET_ASIDE.value, "what": what, **data},
    )


def facts_of(path: Path) -> dict[str, int]:
    """Size of a file, and when it was written last; nothing of one that is gone."""
    try:
        found = path.stat()
    except OSError:
        return {}
    return {"size_bytes": found.st_size, "modified_utc_ns": found.st_mtime_ns}


def in_short(set_aside: Event) -> str:
    """What an event of the start tells of, in a few words."""
    return " ".join(str(value) for name, value in set_aside.data.items() if name != "rule")


def freed_event(gone: Sequence[Sacrifice], at_utc_ns: int, space: Mapping[str, int | None]) -> Event:
    """Recordings gave way; `space` has the free bytes and their limits."""
    return Event(
        kind=EventKind.RECORDINGS_FREED,
        state=EventState.OCCURRED,
        severity=Severity.NOTICE,
        at_utc_ns=at_utc_ns,
        data={
            "rule": EventKind.RECORDINGS_FREED.value,
            "recordings": len(gone),
            "size_bytes": sum(each.candidate.size_bytes for each in gone),
            "why": ", ".join(sorted({each.why.value for each in gone})),
            "oldest": gone[0].candidate.path.stem,
            "newest": gone[-1].candidate.path.stem,
            **space,
        },
    )


def free_bytes_of(event: Event) -> int:
    """What an event about the free space has told."""
    free_bytes = event.data.get("free_bytes")
    return free_bytes if isinstance(free_bytes, int) else 0
