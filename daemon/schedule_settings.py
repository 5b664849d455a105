"""`[schedule]` of the config."""

from typing import Literal

from pydantic import Field

from daemon.section import Section
from daemon.setting_kinds import ClockTime

DEFAULT_STRATA: dict[str, tuple[str, ...]] = {
    "night": ("00:30", "03:00"),
    "morning": ("07:00", "09:30"),
    "afternoon": ("13:00", "15:30"),
    "evening": ("19:00", "22:00"),
}


class ScheduleSettings(Section):
    """Which minutes of a day are sampled."""

    times: Literal["local", "zeitgeber"] = "local"
    """Whether the times below are local clock time or zeitgeber time (ZT0 = lights on)."""
    lights_on: ClockTime = "07:00"
    """Local clock time of ZT0."""
    light_hours: float = Field(12.0, ge=0, le=24)
    """How long the lights are on; tells day from night in measures of the rhythm."""
    block_minutes: float = Field(30.0, gt=0, le=1440)
    """Length of a block."""
    rate_hz: float = Field(1.0, gt=0, le=25)
    """Frames per second sampled in a block."""
    strata: dict[str, tuple[ClockTime, ...]] = Field(default_factory=lambda: dict(DEFAULT_STRATA))
    """Start times of the blocks by the name of their stratum."""
