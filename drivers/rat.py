"""How a simulated rat moves, what shape it has, and how warm each spot of it is: pure functions of time.

Lengths are pixels of the 256 x 192 picture; a rat of 110 px stands for about 200 mm of head and body.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400

ACROPHASE_UTC_S = 3 * 3600
"""Time of day of the highest activity and temperature: midnight in eastern Brazil, in the dark of a 12 h cycle."""

HEAD_SHARE = 0.27
"""Share of the length from nose to tail base that is head."""

_PATH_LOW = np.array((28.0, 28.0))
_PATH_HIGH = np.array((228.0, 164.0))
_PATH_CORNERS = 24
_PATH_MIN_LEG_PX = 70.0
_PATH_SMOOTHING_PX = 36.0
"""With turns of at most 90° no bend is then tighter than about 26 px, which the body can follow."""
_PATH_STEP_PX = 2.0
_PATH_CANDIDATES = 200

_BOUT_S = 12.0
_BOUTS_PER_DAY = round(DAY_S / _BOUT_S)
_SPEED_RANGE_PX_S = (12.0, 45.0)
_MOVING_SHARE_RANGE = (0.35, 1.0)
_WALKING_PX_S = 25.0
"""Speed at which a rat is stretched half-way between its shortest and its longest."""

_BODY_POINTS = 48
_TAIL_POINTS = 32
_HEAD_SWAY_PX = 6.0
_TAIL_SWAY_PX = 9.0
_TAIL_WAVE_PX = 130.0
_TAIL_HALF_WIDTH_PX = (2.5, 1.1)

# Outline seen from above: share of the length from the nose, half width as a share of the length.
_OUTLINE_SHARE = (0.0, 0.015, 0.05, 0.1, 0.15, 0.2, 0.26, 0.32, 0.42, 0.55, 0.68, 0.8, 0.89, 0.95, 0.985, 1.0)
_OUTLINE_HALF_WIDTH = (
    0.006, 0.022, 0.040, 0.058, 0.074, 0.086, 0.090, 0.096, 0.118, 0.145, 0.158, 0.154, 0.132, 0.096, 0.055, 0.018,
)  # fmt: skip

# Skin and coat from nose to tail base, °C. Rodent infrared thermography finds the dorsal coat at 29..32 °C in rooms
# of 22..24 °C, the head warmer, eyes and inner ears warmest, the nose tip cool.
_COAT_SHARE = (0.0, 0.04, 0.1, 0.18, 0.27, 0.36, 0.6, 0.85, 1.0)
_COAT_CELSIUS = (29.6, 30.9, 32.0, 32.4, 31.9, 31.6, 31.2, 30.7, 30.2)
_RIM_DROP_CELSIUS = 2.0
_RIM_WIDTH_PX = 2.0
_TAIL_BASE_CELSIUS = 28.0
_TAIL_TIP_CELSIUS = 25.2
_TAIL_DILATION_CELSIUS = 1.5
_CIRCADIAN_CELSIUS = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmSpot:
    """A bare, warm place of the head: an eye or an ear."""

    share: float
    """Where along the animal, share of its length from the nose."""
    side: float
    """How far to the side, as a share of the half width there; negative is left."""
    radius_px: float
    rise_celsius: float
    """Above the coat around it, in the middle of the spot."""


WARM_SPOTS = tuple(
    WarmSpot(share=share, side=side * reach, radius_px=radius_px, rise_celsius=rise)
    for share, reach, radius_px, rise in ((0.105, 0.72, 1.8, 6.2), (0.215, 1.05, 4.2, 3.8))
    for side in (-1, 1)
)
"""Eyes, then ears; the ears stand out beyond the outline of the head."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ribbon:
    """A bent strip: a spine with a half width at each of its points."""

    spine: NDArray[np.float64]
    """(n, 2) points (x, y) in pixels."""
    normals: NDArray[np.float64]
    """(n, 2) unit vectors to the right of the way from tail to nose."""
    half_width_px: NDArray[np.float64]
    """(n,)"""
    along: NDArray[np.float64]
    """(n,) place on the animal: 0 nose, 1 tail base, 2 tip of the tail."""

    def at(self, along: float, side: float) -> tuple[float, float]:
        """The point (x, y) at a place of the spine, `side` half widths beside it."""
        index = int(np.argmin(np.abs(self.along - along)))
        x, y = self.spine[index] + side * self.half_width_px[index] * self.normals[index]
        return float(x), float(y)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Where a rat is at one moment."""

    tail: Ribbon
    body: Ribbon
    """Head and body, from nose to tail base; it lies on top of the tail."""


class Rat:
    """One animal: its way through the box, its size and its temperature, all following from a seed.

    The rat walks a closed, smooth tour again and again, in bouts with rests between them. Its body and tail lie on
    the way it has come, so heading, bending and trailing follow from the way alone.
    """

    def __init__(self, seed: int, number: int) -> None:
        rng = np.random.default_rng((seed, number))
        self._tour = _tour(rng)
        self._tour_px = (len(self._tour) - 1) * _PATH_STEP_PX
        self._length_px = rng.uniform(104.0, 116.0)
        self._tail_px = rng.uniform(78.0, 92.0)
        self._phase = rng.uniform(0.0, 2 * math.pi, size=6)
        self._bout_px, self._bout_moving_s = _bouts(rng)
        self._bout_start_px = np.concatenate(((0.0,), np.cumsum(self._bout_px)))

    def travelled(self, utc_s: float) -> tuple[float, float]:
        """Way in pixels since the epoch (rising, continuous) and speed in px/s."""
        day, second = divmod(utc_s, DAY_S)
        bout = min(int(second // _BOUT_S), _BOUTS_PER_DAY - 1)
        moving_s, distance = float(self._bout_moving_s[bout]), float(self._bout_px[bout])
        progress = min((second - bout * _BOUT_S) / moving_s, 1.0)
        way = day * float(self._bout_start_px[-1]) + float(self._bout_start_px[bout])
        way += distance * progress**2 * (3 - 2 * progress)
        return way, 6 * distance * progress * (1 - progress) / moving_s

    def pose(self, utc_s: float) -> Pose:
        """Spine, outline and tail at a moment."""
        way, speed = self.travelled(utc_s)
        length = self._length_px * (0.9 + 0.2 * speed / (speed + _WALKING_PX_S))
        share = np.linspace(0.0, 1.0, _BODY_POINTS)
        tail_share = np.linspace(0.0, 1.0, _TAIL_POINTS)
        sway = np.clip(1 - share / 0.45, 0.0, None) ** 2 * self._head_sway(utc_s)
        wave = np.sin((way + tail_share * self._tail_px) * 2 * math.pi / _TAIL_WAVE_PX + self._phase[4])
        base = way - length / 2
        return Pose(
            body=_ribbon(
                self._on_tour(way + length * (0.5 - share)),
                sway,
                length * np.interp(share, _OUTLINE_SHARE, _OUTLINE_HALF_WIDTH),
                share,
            ),
            tail=_ribbon(
                # The tail begins under the rump, where the outline has closed.
                self._on_tour(base + 0.04 * length - tail_share * self._tail_px),
                _TAIL_SWAY_PX * tail_share * wave,
                np.interp(tail_share, (0.0, 1.0), _TAIL_HALF_WIDTH_PX),
                1 + tail_share,
            ),
        )

    def surface_celsius(
        self, utc_s: float, along: NDArray[np.float32], rim_px: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Temperature of spots on the animal, without its eyes and ears.

        Parameters
        ----------
        utc_s : float
            Moment, seconds since the Unix epoch.
        along : (n,) float32
            Place on the animal: 0 nose, 1 tail base, 2 tip of the tail.
        rim_px : (n,) float32
            Distance to the outline of head and body; the coat's edge is cool. Without effect on the tail.

        Returns
        -------
        (n,) float32
            °C.
        """
        dilation = _TAIL_DILATION_CELSIUS * self._dilation(utc_s)
        tail = (1 + 1e-3, _TAIL_BASE_CELSIUS + dilation), (2.0, _TAIL_TIP_CELSIUS + 0.6 * dilation)
        celsius = np.interp(
            along, (*_COAT_SHARE, tail[0][0], tail[1][0]), (*_COAT_CELSIUS, tail[0][1], tail[1][1])
        ).astype(np.float32)
        rim = np.float32(_RIM_DROP_CELSIUS) * np.exp(rim_px * np.float32(-1 / _RIM_WIDTH_PX))
        celsius -= np.where(along <= 1, rim, np.float32(0))
        return celsius + np.float32(_CIRCADIAN_CELSIUS * circadian(utc_s))

    def _on_tour(self, way_px: NDArray[np.float64]) -> NDArray[np.float64]:
        index = np.mod(way_px, self._tour_px) / _PATH_STEP_PX
        before = index.astype(np.intp)
        share = (index - before)[:, None]
        return (1 - share) * self._tour[before] + share * self._tour[before + 1]

    def _head_sway(self, utc_s: float) -> float:
        """Sideways movement of the nose, px: sniffing about."""
        first, second = self._phase[:2]
        return _HEAD_SWAY_PX * (
            0.6 * math.sin(2 * math.pi * 0.31 * utc_s + first) + 0.4 * math.sin(2 * math.pi * 0.137 * utc_s + second)
        )

    def _dilation(self, utc_s: float) -> float:
        """How open the tail's vessels are, 0..1, wandering within tens of minutes."""
        first, second = self._phase[2:4]
        wander = math.sin(2 * math.pi * utc_s / 1150 + first) + 0.7 * math.sin(2 * math.pi * utc_s / 2690 + second)
        return 0.5 + wander / 3.4


def circadian(utc_s: float) -> float:
    """Phase of the day as a number: 1 at the acrophase, -1 twelve hours later."""
    return math.cos(2 * math.pi * (utc_s - ACROPHASE_UTC_S) / DAY_S)


def _ribbon(
    spine: NDArray[np.float64],
    aside_px: NDArray[np.float64],
    half_width_px: NDArray[np.float64],
    along: NDArray[np.float64],
) -> Ribbon:
    """A strip along a spine that is first moved sideways."""
    spine = spine + aside_px[:, None] * _normals(spine)
    return Ribbon(spine=spine, normals=_normals(spine), half_width_px=half_width_px, along=along)


def _normals(spine: NDArray[np.float64]) -> NDArray[np.float64]:
    backwards = np.gradient(spine, axis=0)
    normals = np.stack((backwards[:, 1], -backwards[:, 0]), axis=1)
    return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True), dtype=np.float64)


def _bouts(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One day of bouts: how far each goes (px; most are rests by day) and for how long it moves (s)."""
    starts = np.arange(_BOUTS_PER_DAY) * _BOUT_S
    active_share = 0.5 + 0.3 * np.cos(2 * math.pi * (starts - ACROPHASE_UTC_S) / DAY_S)
    moving_s = _BOUT_S * rng.uniform(*_MOVING_SHARE_RANGE, size=_BOUTS_PER_DAY)
    distance = moving_s * rng.uniform(*_SPEED_RANGE_PX_S, size=_BOUTS_PER_DAY)
    distance[rng.random(_BOUTS_PER_DAY) > active_share] = 0.0
    return distance, moving_s


def _tour(rng: np.random.Generator) -> NDArray[np.float64]:
    """A closed way without sharp bends: points `_PATH_STEP_PX` apart, the first repeated at the end."""
    corners = _corners(rng)
    legs = [
        np.linspace(start, end, round(float(np.linalg.norm(end - start))), endpoint=False)
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    smooth = _smooth_closed(np.concatenate(legs), _PATH_SMOOTHING_PX)
    closed = np.concatenate((smooth, smooth[:1]))
    way = np.concatenate(((0.0,), np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))))
    wanted = np.linspace(0.0, way[-1], round(way[-1] / _PATH_STEP_PX) + 1)
    return np.stack([np.interp(wanted, way, closed[:, axis]) for axis in (0, 1)], axis=1)


def _smooth_closed(points: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian smoothing along a closed line, `sigma` in points."""
    frequencies = np.fft.rfftfreq(len(points))[:, None]
    damping = np.exp(-2 * (math.pi * sigma * frequencies) ** 2)
    return np.fft.irfft(np.fft.rfft(points, axis=0) * damping, n=len(points), axis=0)


def _corners(rng: np.random.Generator) -> NDArray[np.float64]:
    """Random corners of a closed way, shape (n, 2); each dead end takes back one step more than the one before."""
    corners: list[NDArray[np.float64]] = []
    dead_ends = 0
    while len(corners) < _PATH_CORNERS:
        candidates = rng.uniform(_PATH_LOW, _PATH_HIGH, size=(_PATH_CANDIDATES, 2))
        possible = _leads_on(corners[-2:], candidates)
        if len(corners) == _PATH_CORNERS - 1:  # the last one must also lead back to the start, and on from there
            possible &= _leads_on([corners[1], corners[0]], candidates)
            possible &= _bends_gently(candidates - corners[-1], corners[0] - candidates)
        chosen = np.flatnonzero(possible)
        if chosen.size:
            corners.append(candidates[chosen[0]])
        else:
            dead_ends += 1
            del corners[-dead_ends:]
            dead_ends = dead_ends if corners else 0
    return np.array(corners)


def _leads_on(last: list[NDArray[np.float64]], candidates: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which candidates can follow the last (at most two) corners: far enough away, and no sharp turn before."""
    possible = np.ones(len(candidates), np.bool_)
    if last:
        possible &= np.linalg.norm(candidates - last[-1], axis=1) >= _PATH_MIN_LEG_PX
    if len(last) > 1:
        possible &= _bends_gently(last[-1] - last[-2], candidates - last[-1])
    return possible


def _bends_gently(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the turn between two legs is no sharper than a right angle."""
    gentle: NDArray[np.bool_] = (first * second).sum(axis=-1) >= 0
    return gentle
