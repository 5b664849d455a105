"""What the frames of a few seconds showed."""

import math
from dataclasses import dataclass, field


@dataclass(slots=True)
class AnimalStep:
    """One animal in one step."""

    seen: int = 0
    """Frames that show it."""
    warm: int = 0
    """Frames that say how warm it is."""
    hottest_celsius: float = -math.inf
    coldest_celsius: float = math.inf


@dataclass(slots=True)
class FrameStep:
    """All frames of one step."""

    number: int
    """Counted from the Unix epoch."""
    frames: int = 0
    measured: int = 0
    by_networks: int = 0
    animals: dict[int, AnimalStep] = field(default_factory=dict)
    """By number."""
