"""What a scripted simulation shows: tables, plots, how the proxy follows the core, how pictures agree with drawing."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from daemon.evidence_plot import plot
from daemon.minute_series import MINUTE_NS
from daemon.minute_value import MinuteValue
from daemon.moments import local_text
from daemon.overlay import to_png
from daemon.plot_data import PlotData
from daemon.scripted_days import ScriptedResult
from daemon.settings import Settings
from daemon.store.repository import Store
from drivers.clock import NS_PER_S
from drivers.vivarium.incidents import Incident

PROXY = "skin_max_30min_celsius"
BODY_MINUS_TAIL = "body_minus_tail_celsius"
TABLE_NAME = "week.csv"

_MEASURES = (PROXY, BODY_MINUS_TAIL, "tail_minus_ambient_celsius", "reach_px", "reach_mm")
_BEFORE_MINUTES, _AFTER_MINUTES = 8 * 60, 8 * 60
_LEAST_MINUTES = 30
"""With fewer minutes in common nothing is said of two series."""

Numbers = NDArray[np.float64]


class Series:
    """Values of a simulation by minute, from the database and from the truth; NaN where there is none."""

    def __init__(self, store: Store, result: ScriptedResult, *, start_utc_ns: int, stop_utc_ns: int) -> None:
        self.first = start_utc_ns // MINUTE_NS
        self.count = stop_utc_ns // MINUTE_NS - self.first
        self._values: dict[tuple[int, str], Numbers] = defaultdict(lambda: np.full(self.count, np.nan))
        self._coverage: dict[tuple[int, str], Numbers] = defaultdict(lambda: np.zeros(self.count))
        for value in store.minute_values(since_utc_ns=start_utc_ns, until_utc_ns=stop_utc_ns, measures=_MEASURES):
            if value.animal is not None and value.value is not None:
                place = value.minute_utc_ns // MINUTE_NS - self.first
                self._values[value.animal, value.measure][place] = value.value
                self._coverage[value.animal, value.measure][place] = value.coverage
        for true in result.truth:
            place = true.minute_utc_ns // MINUTE_NS - self.first
            self._values[true.animal, "core"][place] = true.core_celsius
            self._values[true.animal, "true tail minus body"][place] = true.tail_minus_body_celsius

    def of(self, animal: int, name: str) -> Numbers:
        """All minutes."""
        return self._values[animal, name]

    def coverage(self, animal: int, name: str) -> Numbers:
        """The same for how much was seen."""
        return self._coverage[animal, name]


def correlation(one: Numbers, other: Numbers) -> float | None:
    """Pearson's, over the minutes that both have; None where these are few, or one does not vary."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < _LEAST_MINUTES or one[both].std() == 0 or other[both].std() == 0:
        return None
    return float(np.corrcoef(one[both], other[both])[0, 1])


def trailing_mean(values: Numbers, minutes: int) -> Numbers:
    """Of a minute and those before it; NaN where one is missing."""
    means = np.full(len(values), np.nan)
    if len(values) >= minutes:
        means[minutes - 1 :] = np.lib.stride_tricks.sliding_window_view(values, minutes).mean(axis=-1)
    return means


def correlations(series: Series, animals: Iterable[int]) -> Iterator[str]:
    """One line for each animal: the proxy against the core, the mean of the same 30 minutes and that of the moment."""
    for animal in animals:
        proxy, core = series.of(animal, PROXY), series.of(animal, "core")
        over = correlation(proxy, trailing_mean(core, 30))
        now = correlation(proxy, core)
        known = np.isfinite(proxy).mean()
        told = ", ".join("-" if each is None else f"{each:.3f}" for each in (over, now))
        yield (
            f"animal {animal}: correlation of the 30-minute skin maximum with the core {told} "
            f"(mean of the same 30 minutes, the moment), known in {known:.0%} of the minutes"
        )


def write_table(path: Path, series: Series, animals: Iterable[int], settings: Settings) -> None:
    """A row for each animal and minute."""
    names = ("core", "true tail minus body", *_MEASURES)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["local_time", "animal", *(name.replace(" ", "_") for name in names)])
        for animal in animals:
            columns = [series.of(animal, name) for name in names]
            for place in range(series.count):
                numbers = [column[place] for column in columns]
                if np.isfinite(numbers).any():
                    at = local_text((series.first + place) * MINUTE_NS, settings.zone)
                    rows.writerow([at, animal, *("" if np.isnan(each) else f"{each:.3f}" for each in numbers)])


def hours_around(series: Series, incident: Incident, settings: Settings) -> Iterator[str]:
    """A line for each hour from before an incident until after it: medians of proxy, core and tail minus body."""
    first = int(incident.start_utc_s // 60) - series.first
    last = int(incident.end_utc_s // 60) - series.first
    yield "hour              core  proxy  tail-body  true"
    for start in range(max(first - 120, 0), min(last + 180, series.count), 60):
        here = slice(start, start + 60)
        core, proxy, apart, true = (
            _middle(series.of(incident.animal, name)[here])
            for name in ("core", PROXY, BODY_MINUS_TAIL, "true tail minus body")
        )
        at = local_text((series.first + start) * MINUTE_NS, settings.zone)[:16]
        ill = " *" if first <= start < last else ""
        yield f"{at}  {core:5.2f}  {proxy:5.2f}  {-apart:9.2f}  {true:5.2f}{ill}"


def _middle(values: Numbers) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def draw_plots(output: Path, series: Series, incident: Incident, settings: Settings) -> list[Path]:
    """Proxy against core, and tail minus body against the truth, around an incident; blue is measured, red is true."""
    ill = slice(int(incident.start_utc_s // 60) - series.first, int(incident.end_utc_s // 60) - series.first)
    here = slice(max(ill.start - _BEFORE_MINUTES, 0), min(ill.stop + _AFTER_MINUTES, series.count))
    animal, paths = incident.animal, []
    for name, measured, true, file in (
        (PROXY, series.of(animal, PROXY), series.of(animal, "core"), "proxy"),
        (
            "tail minus body, C (blue measured, red true)",
            -series.of(animal, BODY_MINUS_TAIL),
            series.of(animal, "true tail minus body"),
            "tail_minus_body",
        ),
    ):
        minutes = np.arange(series.first + here.start, series.first + here.stop)
        none = np.full(len(minutes), np.nan)
        at_ill = np.zeros(len(minutes), np.bool_)
        at_ill[ill.start - here.start : ill.stop - here.start] = True
        offset = datetime.fromtimestamp(incident.start_utc_s, settings.zone).utcoffset() or timedelta()
        data = PlotData(
            title=f"{incident.kind.value} of animal {animal}",
            measure=name if file != "proxy" else f"{name} (blue), core (red)",
            steps=minutes,
            step_s=60,
            values=measured[here],
            coverage=series.coverage(animal, PROXY if file == "proxy" else BODY_MINUS_TAIL)[here],
            low=none,
            high=none,
            thresholds=true[here],
            at_work=at_ill,
            since=None,
            local_s=minutes * 60 + round(offset.total_seconds()),
        )
        path = output / f"{file}.png"
        path.write_bytes(to_png(plot(data)))
        paths.append(path)
    return paths


def agreement(pictured: Sequence[MinuteValue], drawn: Sequence[MinuteValue]) -> Iterator[str]:
    """A line for each measure of the animals: bias and spread of pictures minus drawing, and their correlation."""
    by_pictures, by_drawing = _by_measure(pictured), _by_measure(drawn)
    yield "measure                         minutes  of pictures  of drawing  difference  spread  correlation"
    for measure in sorted(by_pictures.keys() & by_drawing.keys()):
        one, other = by_pictures[measure], by_drawing[measure]
        keys = one.keys() & other.keys()
        if len(keys) < _LEAST_MINUTES:
            continue
        seen, made = (np.array([each[key] for key in sorted(keys)]) for each in (one, other))
        off, related = seen - made, correlation(seen, made)
        yield (
            f"{measure:30}  {len(keys):7}  {seen.mean():11.3f}  {made.mean():10.3f}  {off.mean():10.3f}  "
            f"{1.4826 * median(np.abs(off - np.median(off)).tolist()):6.3f}  "
            + ("          -" if related is None else f"{related:11.3f}")
        )


def _by_measure(values: Iterable[MinuteValue]) -> Mapping[str, dict[tuple[int, int], float]]:
    found: dict[str, dict[tuple[int, int], float]] = defaultdict(dict)
    for each in values:
        if each.animal is not None and each.value is not None:
            found[each.measure][each.animal, each.minute_utc_ns // (60 * NS_PER_S)] = each.value
    return found
