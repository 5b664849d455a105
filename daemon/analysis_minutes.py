"""Values of minutes from recorded material: collected as the service collects them, written as a table."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from daemon.measures_list import measures_of
from daemon.messaging.payloads import iso_utc
from daemon.minute_tables import figure, unit_of
from daemon.minute_value import MinuteValue
from daemon.minute_values import MINUTE_NS, MinuteCollector
from daemon.observation import FrameObservation
from daemon.settings import ZoneSettings
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag
from drivers.material import Material

MINUTES_NAME = "minutes.csv"

_COLUMNS = (
    "minute_utc", "minute_utc_ns", "time_s", "animal", "measure", "unit", "value", "uncertainty", "coverage", "samples",
)  # fmt: skip


class Plan:
    """When frames of a material were due.

    Of recordings that is the plan of their blocks, so that what is missing lowers the coverage; of a video it is as
    long as it plays.

    Parameters
    ----------
    material : Material
        With times of its own.
    """

    def __init__(self, material: Material) -> None:
        self._spans: dict[tuple[int, int, int], int] = {}
        """(start, end, period) of a block, and from when on the material accounts for it."""
        for each in material.plans:
            block = each.start_utc_ns, each.end_utc_ns, each.period_ns
            self._spans[block] = min(each.accounted_from_utc_ns, self._spans.get(block, each.end_utc_ns))
        if not material.plans:
            period_ns = round(NS_PER_S / material.rate_hz)
            self._spans[0, len(material) * period_ns, period_ns] = 0

    def due(self, minute_utc_ns: int) -> float:
        """Samples due in a minute: one a second, or one each period where that is longer."""
        due = 0.0
        for (_, end_ns, period_ns), begin_ns in self._spans.items():
            within_ns = min(end_ns, minute_utc_ns + MINUTE_NS) - max(begin_ns, minute_utc_ns)
            due += max(0, within_ns) / max(NS_PER_S, period_ns)
        return due


class MinuteTable:
    """`minutes.csv`: a row for each minute, animal and measure.

    Parameters
    ----------
    folder : Path
        Where it is written.
    material : Material
        With times of its own; of recordings they are those of the capture, of a video they count from its start.
    animals : int
        How many there are at most.
    zones : sequence of ZoneSettings
        What is watched.
    mm_per_px : float or None
        Size of a pixel.
    """

    def __init__(
        self, folder: Path, material: Material, *, animals: int, zones: Sequence[ZoneSettings], mm_per_px: float | None
    ) -> None:
        self._path = folder / MINUTES_NAME
        self._recorded = bool(material.plans)
        self._collector = MinuteCollector(animals=animals, zones=zones, mm_per_px=mm_per_px, due=Plan(material).due)
        self._units = measures_of((zone.name for zone in zones), mm_per_px)
        self._estimated: dict[int, bool] = defaultdict(bool)
        self.rows = 0

    def __enter__(self) -> Self:
        self._file = self._path.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, _COLUMNS)
        self._writer.writeheader()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        with self._file:
            if kind is None:
                self._write(self._collector.finish())

    def add(self, observation: FrameObservation) -> None:
        """One frame."""
        minute_utc_ns = observation.captured_utc_ns // MINUTE_NS * MINUTE_NS
        self._estimated[minute_utc_ns] |= bool(observation.flags & FrameFlag.ESTIMATED)
        self._write(self._collector.add(observation))

    def _write(self, values: Iterable[MinuteValue]) -> None:
        for each in values:
            if self._estimated.get(each.minute_utc_ns, False):
                each = replace(each, uncertainty=None)  # it would be that of a camera
            self._writer.writerow(self._row(each))
            self.rows += 1

    def _row(self, value: MinuteValue) -> dict[str, object]:
        moment = {"minute_utc": iso_utc(value.minute_utc_ns), "minute_utc_ns": value.minute_utc_ns}
        return {
            **(moment if self._recorded else {"time_s": value.minute_utc_ns // NS_PER_S}),
            "animal": value.animal or "",
            "measure": value.measure,
            "unit": unit_of(value.measure, self._units),
            "value": figure(value.value),
            "uncertainty": figure(value.uncertainty),
            "coverage": figure(value.coverage),
            "samples": value.samples,
        }
