"""What a rat or a mouse is built like: lengths as shares of the way from nose to tail base."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

SPINE_POINTS = 40
TAIL_POINTS = 28

SPINE_SHARE = np.linspace(0.0, 1.0, SPINE_POINTS)
TAIL_SHARE = np.linspace(0.0, 1.0, TAIL_POINTS)


class Species(StrEnum):
    """What kind of animal."""

    RAT = "rat"
    MOUSE = "mouse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From where to where a number varies between individuals."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator, spread: float = 1.0) -> float:
        """One number of it, or of a narrower span (`spread` below 1) around its middle."""
        return self.middle + spread * (rng.uniform(self.low, self.high) - self.middle)

    @property
    def middle(self) -> float:
        """The usual one."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """What the individuals of a species have in common."""

    share: tuple[float, ...]
    half_width: tuple[float, ...]
    """Outline seen from above, as shares of the length."""
    head: Span
    tail: Span
    tail_base: Span
    """Half width of the tail where it begins."""
    tail_tip: Span
    ear: Span
    """Radius."""
    eye: float


# The rat's outline is that of an adult Wistar rat walking, the mouse's of a C57BL/6: a more pointed face, larger ears,
# a rounder rump.
_BUILDS = {
    Species.RAT: _Build(
        share=(0.0, 0.015, 0.05, 0.1, 0.15, 0.2, 0.26, 0.32, 0.42, 0.55, 0.68, 0.8, 0.89, 0.95, 0.985, 1.0),
        half_width=(
            0.014, 0.028, 0.045, 0.063, 0.078, 0.088, 0.091, 0.100, 0.122, 0.145, 0.158, 0.154, 0.130, 0.092, 0.055,
            0.026,
        ),
        head=Span(low=0.25, high=0.31),
        tail=Span(low=0.70, high=1.06),
        tail_base=Span(low=0.021, high=0.045),
        tail_tip=Span(low=0.007, high=0.025),
        ear=Span(low=0.030, high=0.044),
        eye=0.015,
    ),
    Species.MOUSE: _Build(
        share=(0.0, 0.02, 0.06, 0.11, 0.16, 0.22, 0.28, 0.35, 0.45, 0.58, 0.70, 0.8, 0.88, 0.94, 0.98, 1.0),
        half_width=(
            0.006, 0.018, 0.036, 0.060, 0.080, 0.094, 0.098, 0.112, 0.142, 0.172, 0.184, 0.172, 0.140, 0.100, 0.056,
            0.022,
        ),
        head=Span(low=0.27, high=0.33),
        tail=Span(low=0.84, high=1.14),
        tail_base=Span(low=0.018, high=0.038),
        tail_tip=Span(low=0.006, high=0.020),
        ear=Span(low=0.050, high=0.066),
        eye=0.016,
    ),
}  # fmt: skip

_YOUNG_HEAD = 0.035
"""By so much more of the length is head in a weanling."""
_NECK_AT, _SHOULDER_AT, _WAIST_AT, _HAUNCH_AT = 0.25, 0.34, 0.48, 0.72
_ROOT = 0.14
"""So much of the tail is its cone-shaped root."""
_NO_EARS_SHARE = 0.35
"""In so many pictures ears lie flat, or are not told from the head."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rodent:
    """One animal's build. Only `length_px` is in pixels; other lengths are shares of it."""

    species: Species
    length_px: float
    """From nose to tail base, at ease."""
    half_width: NDArray[np.float64]
    """Of the outline at `SPINE_SHARE`."""
    head: float
    """So much of the length is head."""
    tail: float
    tail_half_width: NDArray[np.float64]
    """At `TAIL_SHARE`."""
    ear: float
    """Radius."""
    ear_at: float
    """Place along the spine."""
    ear_side: float
    """Its centre lies so many half widths beside the spine."""
    eye: float
    eye_at: float
    foot: float
    """Length of a hind foot."""
    thigh: float
    """So far a bent hind leg stands out from the flank."""
    elbow: float
    """The same of a fore leg."""
    neck_bow: float
    """Curvature of the line between head and body, by that of a circle as wide as the neck: 0 is straight, positive
    reaches back in the middle."""


def rodent(
    rng: np.random.Generator, species: Species, length_px: float, *, youth: float = 0.0, spread: float = 1.0
) -> Rodent:
    """An individual.

    Parameters
    ----------
    species : Species
        Of which kind.
    length_px : float
        From nose to tail base, at ease.
    youth : float
        0 adult, 1 just weaned: a larger head, a shorter and thinner tail, a slimmer body.
    spread : float
        How far head, tail and ears may be from those of the typical animal; 1 is any animal.
    """
    build = _BUILDS[species]
    head = build.head.draw(rng, spread) + _YOUNG_HEAD * youth
    half_width = np.interp(SPINE_SHARE, build.share, build.half_width)
    half_width = half_width * _bumps(rng, spread) * (1.03 + spread * rng.uniform(-0.15, 0.15) - 0.08 * youth)
    half_width[head > SPINE_SHARE] *= 1.04 + spread * rng.uniform(-0.11, 0.12) + 0.1 * youth
    half_width += rng.uniform(0.0, 0.035) * np.exp(-(((SPINE_SHARE - 0.04) / 0.07) ** 2))  # a blunter muzzle
    half_width = np.convolve(np.pad(half_width, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")
    base, tip = build.tail_base.draw(rng, spread), build.tail_tip.draw(rng, spread)
    root = rng.uniform(0.0, 0.7) * np.clip(1 - TAIL_SHARE / _ROOT, 0, 1)
    return Rodent(
        species=species,
        length_px=length_px,
        half_width=half_width,
        head=head,
        tail=build.tail.draw(rng, spread) * (1 - 0.2 * youth),
        tail_half_width=(tip + (base * (1 - 0.2 * youth) - tip) * (1 - TAIL_SHARE) ** rng.uniform(0.6, 1.4))
        * (1 + root),
        ear=build.ear.draw(rng, spread) * (1 + 0.15 * youth),
        ear_at=head * rng.uniform(0.74, 0.86),
        ear_side=rng.uniform(0.45, 0.7) if rng.random() < _NO_EARS_SHARE * spread else rng.uniform(0.8, 1.05),
        eye=build.eye,
        eye_at=head * rng.uniform(0.38, 0.46),
        foot=rng.uniform(0.10, 0.16),
        thigh=spread * rng.uniform(-0.03, 0.06),
        elbow=spread * rng.uniform(-0.02, 0.035),
        neck_bow=rng.uniform(-0.4, 0.9),
    )


def _bumps(rng: np.random.Generator, spread: float) -> NDArray[np.float64]:
    """Neck, shoulders, waist and haunches are narrower or wider; a fat or crouching animal has no neck."""
    factor = np.ones(SPINE_POINTS)
    for at, low, high in (
        (_NECK_AT, -0.12, 0.30), (_SHOULDER_AT, -0.05, 0.16), (_WAIST_AT, -0.18, 0.10), (_HAUNCH_AT, -0.08, 0.18),
    ):  # fmt: skip
        factor += Span(low=low, high=high).draw(rng, spread) * np.exp(-(((SPINE_SHARE - at) / 0.08) ** 2))
    return factor
