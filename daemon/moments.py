"""Moments as people write them on the command line."""

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
