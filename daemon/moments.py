"""Moments as people write and read them on the command line."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from drivers.clock import NS_PER_S
from drivers.errors import ConfigError


def moment_of(option: str, text: str, zone: ZoneInfo) -> int:
    """A time in ISO 8601 as UTC ns; one without a zone is of the box's.

    Raises
    ------
    ConfigError
        If it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option}: expected a time like 2026-11-26T07:00, got {text!r}") from None
    local = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
    return round(local.astimezone(UTC).timestamp()) * NS_PER_S


def local_text(utc_ns: int, zone: ZoneInfo, *, with_seconds: bool = False) -> str:
    """A moment as the clocks of the box showed it, such as `2026-11-27 07:00+01:00`."""
    local = datetime.fromtimestamp(utc_ns / NS_PER_S, zone)
    return local.isoformat(sep=" ", timespec="seconds" if with_seconds else "minutes")


def with_local_time(name: str, value: object, zone: ZoneInfo) -> str:
    """A named value; one in UTC ns with its local time."""
    if not name.endswith("_utc_ns") or not isinstance(value, int):
        return f"{name} {value}"
    return f"{name} {value} ({local_text(value, zone, with_seconds=True)})"
