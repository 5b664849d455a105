"""Simulated days as they truly were, healthy and by each script, kept on disk: they take longer to make than to judge.

A script changes some hours of one animal. What comes before and after them, and the ways of the animals unless one
must not move, are those of the healthy box: they are worked out once.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import drivers.scene
import drivers.vivarium
from daemon.illness_script import NONE, script_of
from daemon.settings import Settings
from drivers.clock import NS_PER_S
from drivers.scene import Scene
from drivers.vivarium.anatomy import Species
from drivers.vivarium.figure import ScenePart
from drivers.vivarium.incidents import Incident, IncidentKind
from drivers.vivarium.itinerary import Itinerary
from drivers.vivarium.moment import AnimalMoment, Moment
from drivers.vivarium.posture import Stance
from drivers.vivarium.rhythm import zeitgeber_s

BEFORE_S, AFTER_S = 1200, 10_800
"""Around a script nothing else differs from the healthy box: an animal that will lie still goes home before, and a core
that was ill or rested is as it would have been by then. The tests compare."""

_SPECIES, _STANCES, _PARTS = tuple(Species), tuple(Stance), (ScenePart.HEAD, ScenePart.BODY, ScenePart.TAIL)
_FIELDS = 21

Table = NDArray[np.float64]


class _Box(Scene):
    """A scene whose ways can be lent to another."""

    @property
    def ways(self) -> Itinerary:
        """Of all its animals."""
        return self._itinerary

    def walk(self, ways: Itinerary) -> None:
        """Go as others do who are the same but for their temperature."""
        self._itinerary = ways


class TrueDays:
    """One box, from a local midnight on.

    Parameters
    ----------
    settings : Settings
        Seed, number and kind of the animals, lights, time zone.
    first_day : date
        Begins at its local midnight.
    script_days : int
        Named scripts are about night 6 of so many days, or the last one.
    scripts : sequence of str
        Names of those that are wanted besides the healthy box.
    every_s : int
        Seconds from moment to moment.
    folder : Path
        Keeps what is made.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        first_day: date,
        script_days: int,
        scripts: Sequence[str],
        every_s: int,
        folder: Path,
    ) -> None:
        simulated = settings.camera.simulated
        self.animals = simulated.animals
        self._settings, self._first_day, self._every_s = settings, first_day, every_s
        self._lights_on_utc_s = simulated.lights_on_utc_s
        self.incidents: dict[str, Incident] = {}
        """The incident of each script."""
        for name in scripts:
            if name != NONE:
                (self.incidents[name],) = script_of(
                    name,
                    first_day=first_day,
                    days=script_days,
                    animals=simulated.animals,
                    lights_on_utc_s=simulated.lights_on_utc_s,
                )
        self._folder = folder / "truth" / f"{_sources()}-{simulated.species.value}-{simulated.animals}-{every_s}s"
        self._boxes: dict[str, _Box] | None = None

    def midnight_utc_ns(self, day: int) -> int:
        """When a day begins, from 0."""
        local = datetime.combine(self._first_day + timedelta(days=day), time(), self._settings.zone)
        return round(local.timestamp()) * NS_PER_S

    def window_utc_ns(self, script: str) -> tuple[int, int]:
        """The stretch in which a script may differ from the healthy box."""
        incident = self.incidents[script]
        return round(incident.start_utc_s - BEFORE_S) * NS_PER_S, round(incident.end_utc_s + AFTER_S) * NS_PER_S

    def moments(self, script: str, day: int) -> Iterator[tuple[int, Moment]]:
        """All moments of a day with their wall time (UTC ns)."""
        tables = self._tables(day)
        healthy = tables[NONE]
        ill = tables.get(script)
        begin, end = (0, 0) if script == NONE else self.window_utc_ns(script)
        start_utc_ns, place = self.midnight_utc_ns(day), 0
        for number, row in enumerate(healthy):
            utc_ns = start_utc_ns + number * self._every_s * NS_PER_S
            if ill is not None and begin <= utc_ns < end:
                row, place = ill[place], place + 1
            yield utc_ns, _moment(row, utc_ns / NS_PER_S, self._lights_on_utc_s)

    def make(self, day: int) -> bool:
        """Make a day if it is not there; whether it had to be made."""
        path = self._path(day)
        if path.exists():
            return False
        boxes = self._all_boxes()
        rows: dict[str, list[Table]] = {name: [] for name in boxes}
        for utc_ns in range(self.midnight_utc_ns(day), self.midnight_utc_ns(day + 1), self._every_s * NS_PER_S):
            for name, box in boxes.items():
                begin, end = (utc_ns, utc_ns + 1) if name == NONE else self.window_utc_ns(name)
                if begin <= utc_ns < end:
                    rows[name].append(_row(box.moment(utc_ns / NS_PER_S), self.animals))
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = {name: np.array(of_box) for name, of_box in rows.items() if of_box}
        unfinished = path.with_suffix(".part.npz")
        np.savez_compressed(unfinished, **tables)  # type: ignore[arg-type]  # the stub takes the arrays for a flag
        unfinished.replace(path)
        return True

    def _tables(self, day: int) -> Mapping[str, Table]:
        self.make(day)
        with np.load(self._path(day)) as file:
            return {name: file[name] for name in file.files}

    def _path(self, day: int) -> Path:
        simulated = self._settings.camera.simulated
        told = repr((sorted(self.incidents.items()), simulated.lights_on_utc_s, self.midnight_utc_ns(day)))
        what = hashlib.sha256(told.encode()).hexdigest()[:12]
        return self._folder / f"seed-{simulated.seed}-{what}-{self._first_day + timedelta(days=day)}.npz"

    def _all_boxes(self) -> dict[str, _Box]:
        if self._boxes is None:
            healthy = self._box(())
            self._boxes = {NONE: healthy}
            for name, incident in self.incidents.items():
                self._boxes[name] = self._box((incident,))
                if incident.kind is not IncidentKind.IMMOBILITY:
                    self._boxes[name].walk(healthy.ways)
        return self._boxes

    def _box(self, script: Sequence[Incident]) -> _Box:
        simulated = self._settings.camera.simulated
        return _Box(
            simulated.seed,
            simulated.animals,
            species=simulated.species,
            script=script,
            lights_on_utc_s=simulated.lights_on_utc_s,
        )


def _row(moment: Moment, animals: int) -> Table:
    """Numbers of a moment, shape (animals, fields); NaN for an animal that is not there."""
    table = np.full((animals, _FIELDS), np.nan)
    for each in moment.animals:
        table[each.animal - 1] = (
            _SPECIES.index(each.species),
            _STANCES.index(each.stance),
            each.speed_px_s,
            *each.middle,
            each.heading_rad,
            *each.snout,
            *each.neck,
            *each.tail_base,
            *each.tail_tip,
            each.core_celsius,
            each.skin_celsius,
            *(each.surface_celsius[part] for part in _PARTS),
            each.tail_dilation,
            sum(1 << number for number in each.touching) + (sum(1 << number for number in each.huddle) << 8),
        )
    return table


def _moment(table: Table, utc_s: float, lights_on_utc_s: float) -> Moment:
    """What `_row` was made of."""
    return Moment(
        utc_s=utc_s,
        zeitgeber_s=zeitgeber_s(utc_s, lights_on_utc_s),
        animals=tuple(
            _animal(number, row)
            for number, row in enumerate(table.tolist(), start=1)
            if row[0] == row[0]  # not NaN
        ),
    )


def _animal(number: int, row: list[float]) -> AnimalMoment:
    contacts = int(row[20])
    return AnimalMoment(
        animal=number,
        species=_SPECIES[int(row[0])],
        stance=_STANCES[int(row[1])],
        speed_px_s=row[2],
        middle=(row[3], row[4]),
        heading_rad=row[5],
        snout=(row[6], row[7]),
        neck=(row[8], row[9]),
        tail_base=(row[10], row[11]),
        tail_tip=(row[12], row[13]),
        core_celsius=row[14],
        skin_celsius=row[15],
        surface_celsius=dict(zip(_PARTS, row[16:19], strict=True)),
        tail_dilation=row[19],
        touching=_numbers(contacts & 0xFF),
        huddle=_numbers(contacts >> 8),
    )


def _numbers(bits: int) -> tuple[int, ...]:
    return tuple(number for number in range(1, 8) if bits >> number & 1)


def _sources() -> str:
    """Of what makes the truth: it is made anew when that has changed."""
    digest = hashlib.sha256()
    paths = sorted(Path(drivers.vivarium.__path__[0]).glob("*.py"))
    for path in (Path(drivers.scene.__file__), *paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
