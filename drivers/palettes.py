"""The colours in which thermal pictures are painted, from cold to hot."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

STEPS = 1024
"""Colours sampled along each palette: finer than any 8-bit picture can tell apart."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Palette:
    """A curve through the colours."""

    name: str
    colours: NDArray[np.float32]
    """RGB 0..255 at equally spaced positions from the coldest to the hottest, shape (1024, 3)."""
    position_sigma: float
    """How well the positions between both ends are known; 0 where the palette is published as a table."""


Stop = tuple[float, int, int, int]
"""Position 0..1 and RGB; in between the colour is linear."""

# The rainbow of the vendor's phone app. Colours: medians over the pixels of a real picture of that app (the frame
# published with the dataset "Thermal Images of Rattus norvegicus Wistar for Segmentation", R. B. Peres, 2025), as the
# app's video and the JPEG left them: between blue and green both channels sag, and the corners are a little round.
# Positions: how long the four parts are cannot be read off the colours. It follows from the picture because a
# temperature is smooth: its slope is the same just before and just after each corner of the curve. Along 147 to 515
# profiles across each corner the colour moves 0.57..0.89 times as fast after yellow as before, 0.80 after green and
# 1.24..1.39 after blue (spread over lengths of profile). The same measurement on a field rendered with parts of
# 0.69 : 1 : 1 : 1.15 (dark blue to blue : green : yellow : red) gives 0.71..0.80, 0.75 and 1.11..1.18, with
# 0.8 : 1 : 1 : 1.25 0.67..0.80, 0.75 and 1.11..1.31: the corners are known to about 0.03.
_XINFRARED_RAINBOW: tuple[Stop, ...] = (
    (0.000, 0, 0, 96),
    (0.180, 0, 0, 253),
    (0.192, 0, 12, 230),
    (0.211, 0, 30, 208),
    (0.241, 0, 60, 160),
    (0.276, 0, 94, 110),
    (0.290, 0, 108, 89),
    (0.315, 1, 132, 66),
    (0.339, 2, 156, 48),
    (0.364, 3, 180, 34),
    (0.388, 5, 204, 21),
    (0.412, 10, 227, 10),
    (0.440, 20, 240, 5),
    (0.473, 32, 246, 4),
    (0.505, 64, 250, 3),
    (0.570, 128, 252, 2),
    (0.635, 192, 252, 1),
    (0.680, 236, 250, 1),
    (0.700, 252, 250, 1),
    (1.000, 252, 0, 0),
)

# The usual "iron" of thermal cameras; makers differ in detail, so its stops are ours.
_IRON: tuple[Stop, ...] = (
    (0.00, 0, 0, 10),
    (0.15, 35, 0, 125),
    (0.35, 140, 0, 155),
    (0.55, 215, 60, 60),
    (0.75, 250, 150, 0),
    (0.90, 255, 220, 60),
    (1.00, 255, 255, 245),
)

_WHITE_HOT: tuple[Stop, ...] = ((0.0, 0, 0, 0), (1.0, 255, 255, 255))
_BLACK_HOT: tuple[Stop, ...] = ((0.0, 255, 255, 255), (1.0, 0, 0, 0))

WHITE_HOT = "white_hot"
BLACK_HOT = "black_hot"

_POSITION_SIGMA = {"xinfrared_rainbow": 0.03, "iron": 0.03}

_STOPS = {"xinfrared_rainbow": _XINFRARED_RAINBOW, "iron": _IRON, WHITE_HOT: _WHITE_HOT, BLACK_HOT: _BLACK_HOT}

_OPENCV = {
    "jet": cv2.COLORMAP_JET,
    "inferno": cv2.COLORMAP_INFERNO,
    "hot": cv2.COLORMAP_HOT,
    "turbo": cv2.COLORMAP_TURBO,
    "plasma": cv2.COLORMAP_PLASMA,
    "magma": cv2.COLORMAP_MAGMA,
    "viridis": cv2.COLORMAP_VIRIDIS,
}


@cache
def known_palettes() -> dict[str, Palette]:
    """All palettes that can be recognised, by name."""
    tables = {name: _from_stops(stops) for name, stops in _STOPS.items()}
    tables |= {name: _from_opencv(colormap) for name, colormap in _OPENCV.items()}
    for table in tables.values():
        table.setflags(write=False)
    return {
        name: Palette(name=name, colours=table, position_sigma=_POSITION_SIGMA.get(name, 0.0))
        for name, table in tables.items()
    }


def _from_stops(stops: tuple[Stop, ...]) -> NDArray[np.float32]:
    position, *channels = np.array(stops, np.float64).T
    wanted = np.linspace(0, 1, STEPS)
    return np.stack([np.interp(wanted, position, channel) for channel in channels], axis=1).astype(np.float32)


def _from_opencv(colormap: int) -> NDArray[np.float32]:
    levels = np.arange(256, dtype=np.uint8)[:, np.newaxis]
    rgb = cv2.applyColorMap(levels, colormap)[:, 0, ::-1].astype(np.float64)
    wanted = np.linspace(0, 255, STEPS)
    return np.stack([np.interp(wanted, np.arange(256), channel) for channel in rgb.T], axis=1).astype(np.float32)
