"""How warm each place of an animal's surface is."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.vivarium.anatomy import Span
from drivers.vivarium.dice import Axis, generator
from drivers.vivarium.shapes import cloud

# From nose to tail base, as shares of the head's rise above the back: the nose is cool and wet, the face is thinly
# haired, the rump thickly.
_PLACES = np.array((0.0, 0.03, 0.08, 0.17, 0.27, 0.36, 0.55, 0.8, 1.0))
_FACE = np.array((-0.9, -0.1, 0.8, 1.15, 0.8, 0.45, 0.1, -0.1, -0.2))
_RUMP = np.clip((_PLACES - 0.6) / 0.4, 0, 1)
_TAIL_PLACES = np.linspace(0.001, 1.0, 16)
_ALL_PLACES = np.concatenate((_PLACES, 1 + _TAIL_PLACES))

_INJURY_WIDTH = 0.12
_BEYOND_INJURY = 0.35
"""Less blood comes to what lies beyond an injured place of the tail: it is that much colder as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A place of the back that is unlike the rest: shaved and warm, or wet and cold."""

    along: float
    side: float
    """In half widths beside the spine."""
    radius: float
    """Share of the animal's length."""
    rise_celsius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmth:
    """An animal's temperatures at a moment."""

    core_celsius: float
    """Inside, as a transponder would measure it; nothing of it is seen."""
    fur_celsius: float
    """Of the back, away from the rim."""
    head_rise_celsius: float
    """The face above the back."""
    rump_drop_celsius: float
    eye_celsius: float
    ear_celsius: float
    foot_celsius: float
    rim_drop_celsius: float
    """The flank seen at a grazing angle, with long hair, below the back."""
    rim_px: float
    """How far the cool rim reaches inwards."""
    tail_base_celsius: float
    tail_tip_celsius: float
    tail_fall: float
    """How the tail cools towards its tip: 1 evenly, below 1 early, above 1 late."""
    lean_celsius: float = 0.0
    """The right flank above the left one."""
    tail_root: float = 0.0
    """Over so much of the tail its temperature goes over from the rump's to its own."""
    tail_edge: float = 0.0
    """How far towards the air's temperature the edges of a thick tail read."""
    air_celsius: float = 23.0
    texture_celsius: float = 0.15
    """Unevenness of the fur from pixel to pixel, rms."""
    blotch_celsius: float = 0.25
    """Unevenness over larger places, rms."""
    texture_at: tuple[int, int] = (0, 0)
    """Which piece of the fur this animal wears."""
    patches: tuple[Patch, ...] = ()
    injury_at: float = 0.5
    """Where on the tail an injured place is, 0 at its base, 1 at its tip."""
    injury_celsius: float = 0.0
    """That place against the healthy tail."""

    def along(self, along: NDArray[np.float32]) -> NDArray[np.float32]:
        """Temperature at places of head, body and tail (0 nose, 1 tail base, 2 tip), without eyes, ears and fur."""
        rise, tail_places = _FACE * self.head_rise_celsius - self.rump_drop_celsius * _RUMP, _TAIL_PLACES
        span = self.tail_tip_celsius - self.tail_base_celsius
        tail = self.tail_base_celsius + span * tail_places**self.tail_fall
        if self.tail_root:
            rump = self.fur_celsius + rise[-1]
            tail += 0.8 * (rump - self.tail_base_celsius) * np.exp(-tail_places / self.tail_root)
        if self.injury_celsius:
            beyond = np.where(tail_places > self.injury_at, _BEYOND_INJURY, 0.0)
            spot = np.exp(-(((tail_places - self.injury_at) / _INJURY_WIDTH) ** 2))
            tail += self.injury_celsius * np.maximum(spot, beyond)
        celsius = np.concatenate((self.fur_celsius + rise, tail))
        return np.asarray(np.interp(along, _ALL_PLACES, celsius), np.float32)


_TYPICAL_FLOOR = Span(low=22.0, high=24.0)
_UNUSUAL_FLOOR = Span(low=16.5, high=31.0)
_UNUSUAL_SHARE = 0.24
_DULL_SHARE = 0.17
"""So many litters hardly stand out: a thick coat, a low emissivity, a warm room."""
_BRIGHT_SHARE = 0.12
_HAIRED_SHARE = 0.3
"""So many animals show neither ears nor eyes."""
_WARMEST_FUR_CELSIUS = 35.5
_WARMEST_FACE_CELSIUS = 37.5
_WARMEST_TAIL_CELSIUS = 36.5


def floor_celsius(rng: np.random.Generator) -> float:
    """How warm the box is: mostly a housing room's 22 to 24 °C."""
    return (_UNUSUAL_FLOOR if rng.random() < _UNUSUAL_SHARE else _TYPICAL_FLOOR).draw(rng)


@dataclass(frozen=True, slots=True, kw_only=True)
class Litter:
    """What the animals of one picture have in common: they live in one room and are of one kind."""

    above_celsius: float
    """The back above the floor."""
    dilation: float
    """How much blood warms tail, ears and feet, 0..1."""
    spread: float = 1.0
    """How far one animal differs from another; small in a huddle."""


def litter(rng: np.random.Generator, floor: float, *, spread: float = 1.0) -> Litter:
    """Any animals over a floor: typical ones, ones that hardly stand out from it, and ones that stand out a lot.

    Parameters
    ----------
    floor : float
        °C; typical fur follows it by about a third.
    spread : float
        How far one animal differs from another.
    """
    kind = rng.random()
    if kind < _DULL_SHARE:
        above = rng.uniform(1.2, 3.5)
    elif kind < _DULL_SHARE + _BRIGHT_SHARE:
        above = rng.uniform(8.0, 13.0)
    else:
        above = 31.1 + 0.36 * (floor - 23.0) - floor + float(np.clip(rng.normal(0, 0.9), -2.5, 2.2))
    state = rng.random()
    dilation = (
        rng.uniform(0.0, 0.15) if state < 0.23 else rng.uniform(0.15, 0.7) if state < 0.5 else rng.uniform(0.7, 1.0)
    )
    return Litter(above_celsius=max(above, 1.2), dilation=dilation, spread=spread)


def warmth(
    rng: np.random.Generator, floor: float, *, youth: float = 0.0, asleep: bool = False, mates: Litter | None = None
) -> Warmth:
    """A random animal's temperatures over a floor.

    Parameters
    ----------
    floor : float
        °C.
    youth : float
        0 adult, 1 just weaned: warmer, as the coat is thin.
    asleep : bool
        Less blood in tail, ears and feet, a duller face.
    mates : Litter, optional
        What it has in common with the others of the picture; without, it is any animal.
    """
    mates = litter(rng, floor) if mates is None else mates
    own = rng.normal(0, 0.1 * mates.spread) + 0.06 * youth
    fur = min(floor + mates.above_celsius * (1 + float(np.clip(own, -0.25, 0.25))), _WARMEST_FUR_CELSIUS)
    above = fur - floor
    clear = min(above / 6, 1.0) ** 0.5
    face = min(rng.uniform(0.0, 3.7) * clear * (0.75 if asleep else 1.0), _WARMEST_FACE_CELSIUS - fur)
    dilation = float(np.clip(mates.dilation + rng.normal(0, 0.12 * mates.spread), 0, 1)) * (0.85 if asleep else 1.0)
    base = min(floor + above * (0.12 + 1.02 * dilation * rng.uniform(0.85, 1.15)), _WARMEST_TAIL_CELSIUS)
    tip = floor + (base - floor) * (0.04 + dilation * rng.uniform(0.3, 0.95))
    bare = clear * (0.0 if rng.random() < _HAIRED_SHARE else rng.uniform(0.3, 1.0))
    ear = fur + face * rng.uniform(0.4, 1.1) + bare * (rng.uniform(-1.5, 1.5) + 3.0 * dilation)
    return Warmth(
        core_celsius=37.4 + 0.4 * youth + float(np.clip(rng.normal(0, 0.45), -1.2, 1.2)),
        fur_celsius=fur,
        head_rise_celsius=face,
        rump_drop_celsius=clear * rng.uniform(-0.2, 1.0),
        eye_celsius=min(fur + face + (0.2 + bare * rng.uniform(0.6, 5.0)) * (0.4 if asleep else 1.0), 38.3),
        ear_celsius=min(ear, 38.0),
        foot_celsius=floor + above * (0.3 + 0.7 * dilation * rng.uniform(0.6, 1.1)),
        rim_drop_celsius=(0.25 + 0.75 * rng.beta(1.8, 1.0)) * above,
        rim_px=rng.uniform(0.8, 4.0),
        tail_base_celsius=base,
        tail_tip_celsius=tip,
        tail_fall=rng.uniform(0.5, 1.2 + 1.8 * dilation),
        lean_celsius=clear * rng.normal(0, 0.7),
        tail_root=rng.uniform(0.01, 0.12),
        tail_edge=rng.uniform(0.0, 0.9),
        air_celsius=floor,
        texture_celsius=clear * rng.uniform(0.03, 0.2),
        blotch_celsius=clear * rng.uniform(0.1, 0.6),
        texture_at=(int(rng.integers(_TILE_PX)), int(rng.integers(_TILE_PX))),
        patches=_patches(rng),
    )


def _patches(rng: np.random.Generator) -> tuple[Patch, ...]:
    """Most animals have none; some are wet somewhere, some shaved."""
    patches: list[Patch] = []
    while rng.random() < 0.16 and len(patches) < 3:
        wet = rng.random() < 0.6
        patches.append(
            Patch(
                along=rng.uniform(0.3, 0.95),
                side=rng.uniform(-0.7, 0.7),
                radius=rng.uniform(0.02, 0.09),
                rise_celsius=float(rng.uniform(-3.5, -0.8) if wet else rng.uniform(0.8, 2.6)),
            )
        )
    return tuple(patches)


_TILE_PX = 256
_FUR_SEED = 20_250_524
"""Any; all animals wear pieces of the same fur."""


@cache
def _tiles() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fur as unevenness of rms 1, fine and coarse, twice the size of a tile so that any window fits."""
    rng = generator(_FUR_SEED, Axis.INDIVIDUALS)
    white = rng.standard_normal((_TILE_PX, _TILE_PX), dtype=np.float32)
    # Hair lies along the body; a little longer than wide.
    fine = np.asarray(cv2.GaussianBlur(white, (0, 0), 1.2, sigmaY=0.8, borderType=cv2.BORDER_REFLECT), np.float32)
    coarse = np.asarray(cloud(rng, 13.0)[:, :_TILE_PX], np.float32)
    coarse = np.concatenate((coarse, coarse[::-1]))[:_TILE_PX]
    return tuple(np.tile(tile / tile.std(), (2, 2)) for tile in (fine, coarse))  # type: ignore[return-value]  # two


def fur(warmth: Warmth, shape: tuple[int, int], moved_px: tuple[int, int] = (0, 0)) -> NDArray[np.float32]:
    """Unevenness of an animal's coat over a window of at most 256 x 256 pixels, °C.

    Parameters
    ----------
    moved_px : (x, y)
        Where the window is against the animal, so that the fur moves with it.
    """
    column, row = ((at + moved) % _TILE_PX for at, moved in zip(warmth.texture_at, moved_px, strict=True))
    window = slice(row, row + shape[0]), slice(column, column + shape[1])
    fine, coarse = _tiles()
    return np.asarray(
        np.float32(warmth.texture_celsius) * fine[window] + np.float32(warmth.blotch_celsius) * coarse[window]
    )
