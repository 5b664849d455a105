"""The small plot that comes with an event: the measure, what is usual, the threshold, and how much was seen."""

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.plot_data import PlotData

WIDTH_PX, HEIGHT_PX = 640, 360

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 30, 62
_COVERAGE_PX = 18
"""Height of the strip that shows how much was seen."""

_WHITE, _INK, _GRID = (255, 255, 255), (40, 40, 40), (225, 225, 225)
_BAND, _LINE, _LIMIT, _WRONG, _WORK, _SEEN = (
    (235, 220, 200),
    (150, 80, 20),
    (40, 40, 200),
    (215, 225, 255),
    (200, 200, 200),
    (90, 160, 90),
)
"""BGR."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SMALL = 0.4
_CLOCK_STEPS_S = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
_MOST_TIMES_SHOWN = 9
_DAY_S = 86_400


class _Axes:
    """From steps and values to pixels."""

    def __init__(self, data: PlotData) -> None:
        self.first, self.last = int(data.steps[0]), int(data.steps[-1])
        shown = np.concatenate([data.values, data.thresholds, data.low, data.high])
        shown = shown[np.isfinite(shown)]
        low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
        margin = max(0.08 * (high - low), 0.05)
        self.low, self.high = low - margin, high + margin
        self.bottom = HEIGHT_PX - _BOTTOM

    def x(self, step: float) -> int:
        """Column of a step."""
        share = (step - self.first) / max(self.last - self.first, 1)
        return round(_LEFT + share * (WIDTH_PX - _LEFT - _RIGHT))

    def y(self, value: float) -> int:
        """Row of a value."""
        return round(self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - _TOP))


def plot(data: PlotData) -> NDArray[np.uint8]:
    """Draw it.

    Blue is the measure, the light blue band what is usual (the median and z spreads to both sides), red the threshold,
    reddish the time since it is wrong, grey maintenance; the green strip is as high as the share of samples that were
    seen.

    Returns
    -------
    (360, 640, 3) uint8, BGR
    """
    picture = np.full((HEIGHT_PX, WIDTH_PX, 3), 255, np.uint8)
    axes = _Axes(data)
    if data.since is not None:
        begin = max(data.since, axes.first)
        cv2.rectangle(picture, (axes.x(begin), _TOP), (axes.x(axes.last), axes.bottom), _WRONG, cv2.FILLED)
    for first, last in _stretches(data.at_work):
        corner = (axes.x(axes.first + last), axes.bottom)
        cv2.rectangle(picture, (axes.x(axes.first + first), _TOP), corner, _WORK, cv2.FILLED)
    _band(picture, axes, data)
    _grid(picture, axes, data)
    _curve(picture, axes, data.thresholds, _LIMIT, 1)
    _curve(picture, axes, data.values, _LINE, 2)
    _coverage(picture, axes, data)
    _text(picture, f"{data.title}: {data.measure}", (_LEFT, 19), 0.5)
    return picture


def _stretches(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last place of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(first), int(end) - 1) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def _band(picture: NDArray[np.uint8], axes: _Axes, data: PlotData) -> None:
    for first, last in _stretches(np.isfinite(data.low)):
        places = range(first, last + 1)
        above = [(axes.x(axes.first + place), axes.y(data.high[place])) for place in places]
        below = [(axes.x(axes.first + place), axes.y(data.low[place])) for place in reversed(places)]
        cv2.fillPoly(picture, [np.array(above + below, np.int32)], _BAND)


def _curve(
    picture: NDArray[np.uint8], axes: _Axes, values: NDArray[np.float64], colour: tuple[int, int, int], width: int
) -> None:
    """A line that is broken where there is no value; one value alone is a dot."""
    for first, last in _stretches(np.isfinite(values)):
        points = [(axes.x(axes.first + place), axes.y(values[place])) for place in range(first, last + 1)]
        if len(points) == 1:
            cv2.circle(picture, points[0], width, colour, cv2.FILLED, cv2.LINE_AA)
        kind = cv2.LINE_AA if width > 1 else cv2.LINE_8
        cv2.polylines(picture, [np.array(points, np.int32)], False, colour, width, kind)


def _grid(picture: NDArray[np.uint8], axes: _Axes, data: PlotData) -> None:
    step = _nice_step((axes.high - axes.low) / 5)
    for number in range(int(np.ceil(axes.low / step)), int(np.floor(axes.high / step)) + 1):
        row = axes.y(number * step)
        cv2.line(picture, (_LEFT, row), (WIDTH_PX - _RIGHT, row), _GRID, 1)
        _text(picture, f"{number * step:.4g}", (6, row + 4), _SMALL)
    shown_s = len(data.steps) * data.step_s
    every_s = next((each for each in _CLOCK_STEPS_S if shown_s / each <= _MOST_TIMES_SHOWN), _CLOCK_STEPS_S[-1])
    for place in np.flatnonzero(np.diff(data.local_s // every_s, prepend=(data.local_s[0] - 1) // every_s)):
        column, clock_s = axes.x(int(data.steps[place])), int(data.local_s[place]) // every_s * every_s % _DAY_S
        cv2.line(picture, (column, _TOP), (column, axes.bottom), _GRID, 1)
        text = f"{clock_s // 3600:02d}:{clock_s // 60 % 60:02d}"
        _text(picture, text, (column - 16, axes.bottom + 15), _SMALL)
    cv2.rectangle(picture, (_LEFT, _TOP), (WIDTH_PX - _RIGHT, axes.bottom), _INK, 1)


def _coverage(picture: NDArray[np.uint8], axes: _Axes, data: PlotData) -> None:
    bottom = HEIGHT_PX - 12
    cv2.rectangle(picture, (_LEFT, bottom - _COVERAGE_PX), (WIDTH_PX - _RIGHT, bottom), _GRID, cv2.FILLED)
    for column in range(_LEFT, WIDTH_PX - _RIGHT):
        place = round((column - _LEFT) / (WIDTH_PX - _LEFT - _RIGHT) * (len(data.steps) - 1))
        height = round(_COVERAGE_PX * min(float(data.coverage[place]), 1.0))
        if height:
            cv2.line(picture, (column, bottom), (column, bottom - height + 1), _SEEN, 1)
    _text(picture, "seen", (8, bottom - 4), _SMALL)


def _nice_step(raw: float) -> float:
    power = 10.0 ** np.floor(np.log10(max(raw, 1e-6)))
    return float(next((factor * power for factor in (1, 2, 5) if factor * power >= raw), 10 * power))


def _text(picture: NDArray[np.uint8], text: str, place: tuple[int, int], scale: float) -> None:
    cv2.putText(picture, text, place, _FONT, scale, _INK, 1, cv2.LINE_AA)
