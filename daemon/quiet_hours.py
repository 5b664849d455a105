"""Hours in which nobody is to be called by what can wait."""

from datetime import datetime
from zoneinfo import ZoneInfo

from drivers.clock import NS_PER_S


class QuietHours:
    """From one time of day to another, over midnight too; from midnight to midnight there are none.

    Parameters
    ----------
    hours : pair of str, optional
        From and to, local time like 22:00; None for none.
    zone : ZoneInfo
        Of the housing room.
    """

    def __init__(self, hours: tuple[str, str] | None, zone: ZoneInfo) -> None:
        self._zone = zone
        self._from, self._to = (0, 0) if hours is None else map(_minute_of_day, hours)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self._from != self._to

    def at(self, utc_ns: int) -> bool:
        """Whether they are on at this moment."""
        if not self:
            return False
        local = datetime.fromtimestamp(utc_ns // NS_PER_S, self._zone)
        return self.at_minute(60 * local.hour + local.minute)

    def at_minute(self, minute: int) -> bool:
        """Whether they are on in this minute of the local day."""
        if self._from <= self._to:
            return self._from <= minute < self._to
        return minute >= self._from or minute < self._to


def _minute_of_day(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    return hours * 60 + minutes
