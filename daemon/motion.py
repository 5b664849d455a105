"""Where an animal will be: a Kalman filter whose speed is kept for a moment and then forgotten."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

SPEED_SD_PX_S = 30.0
"""Spread of each component of an animal's velocity in a picture of a housing box."""
KEEPS_S = 0.6
"""An animal keeps its velocity for about so long."""
PLACE_SD_PX = 2.0
"""The centre of a trunk moves by so much as the animal bends and stretches."""
RESTS_SHARE = 0.5
"""So likely an animal is still where it was: rats lie or sit most of the time."""
RESTS_S = 1800.0
"""After so long that is less likely."""
RESTING_SD_PX = 4.0
"""An animal that stays turns and stretches by so much."""
_STAYING = math.log(2 * math.pi * RESTING_SD_PX**2)

GOES_PX_S = 1.5
"""An animal whose centre moves faster goes about; at rest it moves by 0.2 px in a second (median, networks' masks)."""
_STEP_S = 0.9
"""Whether it does is seen over about a second, ..."""
_MOST_STEP_S = 5.0
"""... and unknown after longer."""


@dataclass(slots=True)
class Motion:
    """Position and velocity of one animal; both axes share one covariance.

    Notes
    -----
    The velocity is an Ornstein-Uhlenbeck process with time constant T and spread S, its integral the position. With
    e = exp(-dt / T): x' = x + T (1 - e) v, v' = e v, and the noise of the step has var(x) = S² T² (2 dt / T - 3 + 4 e
    - e²), cov(x, v) = S² T (1 - e)², var(v) = S² (1 - e²). For dt far below T this is the filter of constant velocity,
    far above it a random walk: so one filter serves 25 frames a second and one. Source: D. T. Gillespie, Exact
    numerical simulation of the Ornstein-Uhlenbeck process and its integral, Phys. Rev. E 54 (1996) 2084.
    """

    x_px: float
    y_px: float
    x_px_s: float = 0.0
    y_px_s: float = 0.0
    place: float = PLACE_SD_PX**2
    """Variance of each coordinate, px²."""
    cross: float = 0.0
    """Covariance of coordinate and speed, px²/s."""
    speed: float = SPEED_SD_PX_S**2
    """Variance of each component of the velocity, px²/s²."""
    seen_x_px: float = math.nan
    """Where it was seen last."""
    seen_y_px: float = math.nan
    unseen_s: float = 0.0
    """Since then."""

    def __post_init__(self) -> None:
        if math.isnan(self.seen_x_px):
            self.seen_x_px, self.seen_y_px = self.x_px, self.y_px

    def predict(self, elapsed_s: float) -> None:
        """Go on for so long without having seen it."""
        if elapsed_s <= 0:
            return
        self.unseen_s += elapsed_s
        kept = math.exp(-elapsed_s / KEEPS_S)
        reach, spread = KEEPS_S * (1 - kept), SPEED_SD_PX_S**2
        self.x_px += reach * self.x_px_s
        self.y_px += reach * self.y_px_s
        self.x_px_s *= kept
        self.y_px_s *= kept
        wander = spread * KEEPS_S**2 * (2 * elapsed_s / KEEPS_S - 3 + 4 * kept - kept**2)
        self.place += 2 * reach * self.cross + reach**2 * self.speed + max(wander, 0.0)
        self.cross = kept * (self.cross + reach * self.speed) + spread * KEEPS_S * (1 - kept) ** 2
        self.speed = kept**2 * self.speed + spread * (1 - kept**2)

    def update(self, x_px: float, y_px: float) -> None:
        """It was seen here."""
        self.seen_x_px, self.seen_y_px, self.unseen_s = x_px, y_px, 0.0
        total = self.variance
        gain, gain_speed = self.place / total, self.cross / total
        dx, dy = x_px - self.x_px, y_px - self.y_px
        self.x_px += gain * dx
        self.y_px += gain * dy
        self.x_px_s += gain_speed * dx
        self.y_px_s += gain_speed * dy
        self.speed -= gain_speed * self.cross
        self.cross -= gain * self.cross
        self.place -= gain * self.place

    @property
    def variance(self) -> float:
        """Of each coordinate of the place where it would be seen, px²."""
        return self.place + PLACE_SD_PX**2

    def squared_distance(self, x_px: float, y_px: float) -> float:
        """Of a place from the expected one, in variances."""
        return ((x_px - self.x_px) ** 2 + (y_px - self.y_px) ** 2) / self.variance

    def log_density(self, x_px: float, y_px: float) -> float:
        """Natural logarithm of the density at a place, 1/px²: it moved as expected, or stayed where it was."""
        return self.log_densities([(x_px, y_px)])[0]

    def log_densities(self, places: Iterable[tuple[float, float]]) -> list[float]:
        """The same for several places, (x, y)."""
        moving = math.log(2 * math.pi * self.variance)
        share = max(RESTS_SHARE * math.exp(-self.unseen_s / RESTS_S), 1e-9)
        moves, stays = math.log(1 - share), math.log(share)
        found = []
        for x_px, y_px in places:
            away = ((x_px - self.seen_x_px) ** 2 + (y_px - self.seen_y_px) ** 2) / RESTING_SD_PX**2
            likelier = moves + (-self.squared_distance(x_px, y_px) / 2 - moving)
            other = stays + (-away / 2 - _STAYING)
            if other > likelier:
                likelier, other = other, likelier
            found.append(likelier + math.log1p(math.exp(other - likelier)))
        return found


@dataclass(slots=True)
class Gait:
    """Whether an animal goes about, in which case it changes its posture all the time, or how long it has rested."""

    goes: bool = False
    """As of the last time it was seen; False where it is not known."""
    rested_s: float = 0.0
    """Since it went about, or was first seen."""
    _x_px: float = math.nan
    _y_px: float = math.nan
    _at_s: float = -math.inf

    def see(self, x_px: float, y_px: float, at_s: float) -> None:
        """Its centre is here now."""
        step_s = at_s - self._at_s
        if step_s < _STEP_S:
            return
        known = step_s <= _MOST_STEP_S
        self.goes = known and math.hypot(x_px - self._x_px, y_px - self._y_px) > GOES_PX_S * step_s
        self.rested_s = self.rested_s + step_s if known and not self.goes else 0.0
        self._x_px, self._y_px, self._at_s = x_px, y_px, at_s
