"""From frame after frame to the values of whole minutes: what `daemon.measures_list` defines, collected."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from zoneinfo import ZoneInfo

from daemon.behaviour import Point, Step, Visits, Way, WithinBlock, inside, nearest_px, reach_px, touching
from daemon.maintenance import Maintenance, any_between, in_minute
from daemon.measures_list import LEAST_COVERAGE, LEAST_TEMPERATURE_COVERAGE, in_units_of_box, zone_measure
from daemon.minute_value import MinuteValue
from daemon.observation import AnimalObservation, FrameObservation, PartObservation
from daemon.part_uncertainty import frame_drift_celsius
from daemon.physiology import (
    LEAST_TAIL_PX,
    TemperatureUncertainty,
    Vasomotion,
    cooling,
    emissivity_celsius,
    fever_signature,
    heat_loss_index,
    heat_loss_index_uncertainty,
    noise_celsius,
    size_celsius,
    skin_max_30min,
    tail_change,
    width_px,
)
from daemon.schedule import blocks_between
from daemon.settings import ScheduleSettings, Settings, ZoneSettings
from daemon.vision.parts import BodyPart
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag

MINUTE_S = 60
MINUTE_NS = MINUTE_S * NS_PER_S

REMEMBERED_MINUTES = 100
"""What the measures of several minutes look back on, with some to spare; a new collector is told of so many."""

MOST_EMPTY_MINUTES = 24 * 60
"""After a gap the minutes without frames are told one by one, but no more than a day of them."""

_BY_NOSE = ("food", "water")

_HISTORY = ("skin_max_celsius", "skin_max_30min_celsius", "tail_minus_ambient_celsius", "body_mean_celsius")


def samples_due(minute_utc_ns: int, schedule: ScheduleSettings, zone: ZoneInfo, outside_rate_hz: float) -> float:
    """How many samples a plan wants in a minute: one a second, or one each interval where that is longer."""
    end_utc_ns = minute_utc_ns + MINUTE_NS
    due, outside_s = 0.0, float(MINUTE_S)
    for block in blocks_between(minute_utc_ns, end_utc_ns, schedule, zone):
        within_s = (min(block.end_utc_ns, end_utc_ns) - max(block.start_utc_ns, minute_utc_ns)) / NS_PER_S
        if within_s > 0:
            due += within_s * min(1.0, NS_PER_S / block.period_ns)
            outside_s -= within_s
    return due + max(outside_s, 0.0) * min(1.0, outside_rate_hz)


def collector_of(
    settings: Callable[[], Settings],
    *,
    earlier: Iterable[MinuteValue] = (),
    maintenance: Callable[[], Sequence[Maintenance]] = tuple,
) -> "MinuteCollector":
    """What a box collects.

    Parameters
    ----------
    settings : callable
        Those in force: the schedule may change while the box goes on.
    earlier : iterable of MinuteValue
        Of the minutes before.
    maintenance : callable
        All that is known, also what is over.
    """

    def due(minute_utc_ns: int) -> float:
        now = settings()
        return samples_due(minute_utc_ns, now.schedule, now.zone, now.measure.outside_rate_hz)

    first = settings()
    collector = MinuteCollector(
        animals=first.animal_count,
        zones=first.zones,
        mm_per_px=first.measure.mm_per_px,
        due=due,
        maintenance=maintenance,
    )
    collector.remember(earlier)
    return collector


@dataclass(slots=True)
class _Part:
    """Samples of the temperature of one part in one minute."""

    means: list[float] = field(default_factory=list)
    pixels: int = 0
    area_px: int = 0
    outline_px: int = 0
    ambient: list[float] = field(default_factory=list)
    drift: list[float] = field(default_factory=list)
    emissivity: float = 1.0
    reflected_celsius: float = 0.0

    def add(self, part: PartObservation, celsius: float, observation: FrameObservation) -> None:
        self.means.append(celsius)
        self.pixels += part.valid_px
        self.area_px += part.area_px
        self.outline_px += part.outline_px or 0
        if observation.background_celsius is not None:
            self.ambient.append(observation.background_celsius)
        self.drift.append(frame_drift_celsius(observation))
        environment = observation.calibration.environment
        self.emissivity, self.reflected_celsius = environment.emissivity, environment.reflected_celsius

    def uncertainty(self) -> TemperatureUncertainty:
        """Of the mean of all samples, at least one."""
        celsius = fmean(self.means)
        contrast = celsius - fmean(self.ambient) if self.ambient else 0.0
        return TemperatureUncertainty(
            noise=noise_celsius(self.pixels / len(self.means), len(self.means)),
            drift=fmean(self.drift),
            emissivity=emissivity_celsius(
                celsius, emissivity=self.emissivity, reflected_celsius=self.reflected_celsius
            ),
            size=size_celsius(width_px(self.area_px, self.outline_px), contrast),
        )


@dataclass(slots=True)
class _Zone:
    within: int = 0
    entries: int = 0
    dwell_s: float = 0.0
    latency_s: float | None = None


@dataclass(slots=True)
class _AnimalMinute:
    """What is gathered of one animal in one minute."""

    seen: int = 0
    warm: int = 0
    """Samples with a temperature of the skin."""
    skin_max: float = -math.inf
    skin_drift: list[float] = field(default_factory=list)
    head_samples: int = 0
    head_max: float = -math.inf
    head: _Part = field(default_factory=_Part)
    body: _Part = field(default_factory=_Part)
    tail: _Part = field(default_factory=_Part)
    tail_excess: list[float] = field(default_factory=list)
    body_minus_tail: list[float] = field(default_factory=list)
    indices: list[float] = field(default_factory=list)
    body_excess: list[float] = field(default_factory=list)
    places: list[Point] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    curls: list[float] = field(default_factory=list)
    nearest: list[float] = field(default_factory=list)
    social: int = 0
    """Samples that say whether it huddles."""
    huddling: int = 0
    zones: dict[str, _Zone] = field(default_factory=dict)


@dataclass(slots=True)
class _CageMinute:
    samples: int = 0
    animals: int = 0
    ambient: list[float] = field(default_factory=list)
    nest: list[float] = field(default_factory=list)
    nest_excess: list[float] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)


class _Animal:
    """What of one animal goes on from minute to minute."""

    def __init__(self, zones: Iterable[str]) -> None:
        self.way = Way()
        self.visits = {zone: Visits() for zone in zones}
        self.vasomotion = Vasomotion()
        self.history: dict[str, dict[int, float]] = {name: {} for name in _HISTORY}

    def remember(self, name: str, minute: int, value: float | None) -> None:
        values = self.history[name]
        if value is not None:
            values[minute] = value
        for old in [known for known in values if not minute - REMEMBERED_MINUTES <= known <= minute]:
            del values[old]  # also what lies ahead: the clock was set back


class MinuteCollector:
    """Takes the measured frames in their order and gives the values of each minute when it is over.

    A sample is the first measured frame of a whole second; the others of that second are passed over, so that all
    rates give the same. Frames that could not be measured are no samples; those that settle after a shutter show where
    an animal is, but not how warm. Of an animal that is not resolved nothing is counted.

    While people work at the cage no frame is a sample, and a minute in which they do, be it for a moment, has no value
    of anything: its coverage is 0, and nothing that looks back on it counts it.

    Values of a measure that not one sample bears on are left out, but for `seen_share`, `animals_seen` and
    `frames_coverage`; too few samples give a value of None.

    Parameters
    ----------
    animals : int
        How many live in the box, numbered from 1.
    zones : sequence of ZoneSettings
        What is watched.
    mm_per_px : float or None
        Size of a pixel; without it lengths are in pixels.
    due : callable
        Samples due in the minute that begins at a time (UTC ns); of a minute with less than one nothing is told.
    maintenance : callable
        All that is known, also what is over.
    """

    def __init__(
        self,
        *,
        animals: int,
        zones: Sequence[ZoneSettings] = (),
        mm_per_px: float | None,
        due: Callable[[int], float],
        maintenance: Callable[[], Sequence[Maintenance]] = tuple,
    ) -> None:
        self._maintenance = maintenance
        self._zones = zones
        self._mm_per_px = mm_per_px
        self._due = due
        self._animals = {number: _Animal(zone.name for zone in zones) for number in range(1, animals + 1)}
        self._minute: int | None = None
        self._second: int | None = None
        self._block: WithinBlock | None = None
        self._resumed_since_utc_ns: int | None = None
        """When the present block began, where no frame has come since a restart within it."""
        self._without_latency: str | None = None
        """Block of which it is not known who was where before."""
        self._begin()

    def _begin(self) -> None:
        self._of_animal = {number: _AnimalMinute() for number in self._animals}
        self._of_cage = _CageMinute()

    def remember(self, values: Iterable[MinuteValue]) -> None:
        """Go on from minutes that were collected before; those of the last `REMEMBERED_MINUTES` are of use."""
        for each in values:
            if each.animal in self._animals and each.measure in _HISTORY:
                animal = self._animals[each.animal]
                animal.remember(each.measure, each.minute_utc_ns // MINUTE_NS, each.value)

    def resume(self, block_key: str, samples: Iterable[FrameObservation] | None) -> None:
        """Go on within a block after a restart: who has been in which zone, and when it began. Told no frame before.

        Parameters
        ----------
        block_key : str
            Of the block.
        samples : iterable of FrameObservation or None
            The first measured frame of each second of it, in their order. None where they do not say who was where:
            then nobody has a latency in this block.
        """
        if samples is None:
            self._without_latency = block_key
            return
        since_utc_ns = None
        for each in samples:
            if any_between(self._maintenance(), each.captured_utc_ns, each.captured_utc_ns + 1) is not None:
                continue
            since_utc_ns = since_utc_ns or each.captured_utc_ns
            within_block = self._in_block(each)
            for animal in each.animals:
                place = trunk_centre(animal.parts)
                if animal.animal in self._animals and place is not None:
                    visits = self._animals[animal.animal].visits
                    for zone in self._zones:
                        within = _is_in(zone, animal, place)
                        visits[zone.name].latency_s(each.captured_monotonic_ns, within, within_block)
            self._second = each.captured_utc_ns // NS_PER_S
        self._resumed_since_utc_ns = since_utc_ns

    def add(self, observation: FrameObservation) -> list[MinuteValue]:
        """Take a frame; the values of the minutes that are over with it, in order."""
        over = self._turn_to(observation.captured_utc_ns // MINUTE_NS)
        utc_ns = observation.captured_utc_ns
        second = utc_ns // NS_PER_S
        at_work = any_between(self._maintenance(), utc_ns, utc_ns + 1)
        if observation.not_measured is None and second != self._second and at_work is None:
            self._second = second
            self._sample(observation)
        return over

    def close_until(self, utc_ns: int) -> list[MinuteValue]:
        """The values of the minutes that are over at this time, when no frame is to come that lies before it."""
        return [] if self._minute is None or utc_ns // MINUTE_NS < self._minute else self._turn_to(utc_ns // MINUTE_NS)

    def catch_up(self, utc_ns: int) -> list[MinuteValue]:
        """The values of the minutes that are over before the one of this time, told minute by minute as they pass."""
        if self._minute is None:
            return []
        return [value for minute in range(self._minute + 1, utc_ns // MINUTE_NS) for value in self._turn_to(minute)]

    def finish(self) -> list[MinuteValue]:
        """The values of what there is of the present minute, when nothing more is to come."""
        minute, self._minute = self._minute, None
        return [] if minute is None else list(self._close(minute))

    def _turn_to(self, minute: int) -> list[MinuteValue]:
        present = self._minute
        if minute == present:
            return []
        self._minute = minute
        if present is None:
            return []
        over = list(self._close(present))
        for empty in range(max(present + 1, minute - MOST_EMPTY_MINUTES), minute):
            over += self._close(empty)
        return over

    # One sample

    def _sample(self, observation: FrameObservation) -> None:
        cage = self._of_cage
        cage.samples += 1
        if not observation.flags & FrameFlag.SETTLING:
            _sample_cage(cage, observation)
        within_block = self._in_block(observation)
        places: dict[int, Point] = {}
        lengths: dict[int, float] = {}
        for each in observation.animals:
            if each.animal is None or each.animal not in self._animals:
                continue
            minute = self._of_animal[each.animal]
            minute.seen += 1
            cage.animals += 1
            if not observation.flags & FrameFlag.SETTLING:
                _sample_temperatures(minute, each, observation)
            if each.posture is not None:
                minute.lengths.append(each.posture.length_px)
                minute.curls.append(each.posture.curl)
                lengths[each.animal] = each.posture.length_px
            place = trunk_centre(each.parts)
            if place is not None:
                places[each.animal] = place
                self._sample_place(each, each.animal, place, observation, within_block)
        self._sample_company(observation, places, lengths)

    def _in_block(self, observation: FrameObservation) -> WithinBlock | None:
        """The present block, this sample counted; None outside blocks, and where nobody has a latency."""
        key = observation.block_key
        if key is None or key == self._without_latency:
            return None
        if self._block is None or self._block.key != key:
            self._block = WithinBlock(key=key, since_ns=observation.captured_monotonic_ns)
        elif self._resumed_since_utc_ns is not None:  # the monotonic clock may have begun anew meanwhile
            gone_ns = observation.captured_utc_ns - self._resumed_since_utc_ns
            self._block.since_ns = observation.captured_monotonic_ns - gone_ns
        self._resumed_since_utc_ns = None
        self._block.samples += 1
        return self._block

    def _sample_place(
        self,
        each: AnimalObservation,
        number: int,
        place: Point,
        observation: FrameObservation,
        within_block: WithinBlock | None,
    ) -> None:
        minute, animal, at_ns = (
            self._of_animal[number],
            self._animals[number],
            observation.captured_monotonic_ns,
        )
        minute.places.append(place)
        step = animal.way.add(at_ns, place)
        if step is not None:
            minute.steps.append(step)
        for zone in self._zones:
            within = _is_in(zone, each, place)
            visits, counted = animal.visits[zone.name], minute.zones.setdefault(zone.name, _Zone())
            counted.within += within
            entered, stayed_s = visits.add(at_ns, within)
            counted.entries += entered
            counted.dwell_s += stayed_s
            latency_s = visits.latency_s(at_ns, within, within_block)
            if latency_s is not None:
                counted.latency_s = latency_s

    def _sample_company(
        self, observation: FrameObservation, places: Mapping[int, Point], lengths: Mapping[int, float]
    ) -> None:
        nearest = nearest_px(places)
        members = _in_groups(observation)
        for number, minute in self._of_animal.items():
            if number in members:
                minute.social += 1
                minute.huddling += 1
            elif number in places:
                minute.social += 1
                if number in nearest:
                    other, distance = nearest[number]
                    minute.nearest.append(distance)
                    minute.huddling += touching(distance, lengths.get(number, 0.0), lengths.get(other, 0.0))

    # One minute

    def _close(self, minute: int) -> Iterator[MinuteValue]:
        of_animal, of_cage = self._of_animal, self._of_cage
        self._begin()
        due = self._due(minute * MINUTE_NS)
        if due < 1:
            return
        at_work = in_minute(self._maintenance(), minute * MINUTE_NS) is not None
        if at_work:
            of_animal, of_cage = {number: _AnimalMinute() for number in of_animal}, _CageMinute()
        yield from _cage_values(_Teller(minute, due, self._mm_per_px, None), of_cage, at_work=at_work)
        for number, gathered in of_animal.items():
            told = _Teller(minute, due, self._mm_per_px, number)
            coverage = min(1.0, of_cage.samples / due)
            seen = gathered.seen / of_cage.samples if coverage >= LEAST_COVERAGE else None
            yield told.always("seen_share", seen, of_cage.samples)
            yield from _temperature_values(told, gathered)
            yield from _history_values(told, gathered, self._animals[number])
            yield from _behaviour_values(told, gathered)
            yield from _zone_values(told, gathered)


def _is_in(zone: ZoneSettings, animal: AnimalObservation, place: Point) -> bool:
    """Whether an animal, whose trunk is at a place, is in a zone."""
    posture = animal.posture
    by_nose = zone.kind in _BY_NOSE and posture is not None
    return inside(zone.polygon, (posture.nose_x_px, posture.nose_y_px) if by_nose and posture else place)


def _sample_cage(cage: _CageMinute, observation: FrameObservation) -> None:
    ambient, nest = observation.background_celsius, observation.nest_celsius
    if ambient is not None:
        cage.ambient.append(ambient)
    if nest is not None:
        cage.nest.append(nest)
    if nest is not None and ambient is not None:
        cage.nest_excess.append(nest - ambient)
    if observation.reference_offset_celsius is not None:
        cage.offsets.append(observation.reference_offset_celsius)


def _cage_values(told: "_Teller", cage: _CageMinute, *, at_work: bool) -> Iterator[MinuteValue]:
    measured = None if at_work else min(1.0, cage.samples / told.due)
    yield told.always("frames_coverage", measured, cage.samples)
    enough = cage.samples / told.due >= LEAST_COVERAGE
    yield told.always("animals_seen", cage.animals / cage.samples if enough else None, cage.samples)
    for name, values, typical in (
        ("ambient_celsius", cage.ambient, median),
        ("nest_celsius", cage.nest, median),
        ("nest_minus_ambient_celsius", cage.nest_excess, fmean),
        ("reference_offset_celsius", cage.offsets, median),
    ):
        if values:
            yield told.tell(name, typical(values), len(values), least=LEAST_TEMPERATURE_COVERAGE)


def _history_values(told: "_Teller", gathered: _AnimalMinute, animal: _Animal) -> Iterator[MinuteValue]:
    """Measures that look back on earlier minutes; they rest on the samples of this one."""
    minute, history = told.minute, animal.history
    for name in ("skin_max_celsius", "tail_minus_ambient_celsius", "body_mean_celsius"):
        animal.remember(name, minute, told.value(name))
    proxy = skin_max_30min(history["skin_max_celsius"], minute)
    animal.remember("skin_max_30min_celsius", minute, proxy)
    if gathered.warm:
        yield told.tell("skin_max_30min_celsius", proxy, gathered.warm, uncertainty=told.doubt("skin_max_celsius"))
        signature = fever_signature(history["skin_max_30min_celsius"], history["tail_minus_ambient_celsius"], minute)
        yield told.tell("fever_signature_celsius", signature, gathered.warm)
    onset = animal.vasomotion.onset(tail_change(history["tail_minus_ambient_celsius"], minute))
    if gathered.tail_excess:
        for name, sign in (("vasodilation_onset", 1), ("vasoconstriction_onset", -1)):
            yield told.tell(name, None if onset is None else float(onset == sign), len(gathered.tail_excess))
    if gathered.body.means:
        yield told.tell("cooling_celsius", cooling(history["body_mean_celsius"], minute), len(gathered.body.means))


def _zone_values(told: "_Teller", gathered: _AnimalMinute) -> Iterator[MinuteValue]:
    samples, steps = len(gathered.places), len(gathered.steps)
    for name, zone in gathered.zones.items():
        yield told.tell(zone_measure(name, "share"), zone.within / samples, samples, least=LEAST_COVERAGE)
        if steps:
            yield told.tell(zone_measure(name, "entries"), float(zone.entries), steps, least=LEAST_COVERAGE)
            yield told.tell(zone_measure(name, "dwell_s"), zone.dwell_s, steps, least=LEAST_COVERAGE)
        if zone.latency_s is not None:
            yield told.tell(zone_measure(name, "latency_s"), zone.latency_s, samples)


@dataclass(slots=True)
class _Teller:
    """Makes the values of one animal, or the cage, in one minute."""

    minute: int
    due: float
    mm_per_px: float | None
    animal: int | None
    given: dict[str, MinuteValue] = field(default_factory=dict)
    """What was told already."""

    def always(self, name: str, value: float | None, samples: int) -> MinuteValue:
        """A value that is told also where there is no sample."""
        return self.tell(name, value, samples)

    def tell(
        self, name: str, value: float | None, samples: int, *, least: float = 0.0, uncertainty: float | None = None
    ) -> MinuteValue:
        """A value that rests on these samples; None where they are less than this share of those due."""
        coverage = min(1.0, samples / self.due)
        known = value is not None and coverage >= least
        told = MinuteValue(
            measure=name,
            minute_utc_ns=self.minute * MINUTE_NS,
            animal=self.animal,
            value=value if known else None,
            uncertainty=uncertainty if known else None,
            coverage=coverage,
            samples=samples,
        )
        self.given[name] = told
        return told

    def length(self, name: str, px: float, samples: int, *, least: float) -> MinuteValue:
        """The same for a length or speed in pixels, under its name in millimetres."""
        scaled = px if self.mm_per_px is None else px * self.mm_per_px
        return self.tell(in_units_of_box(name, self.mm_per_px), scaled, samples, least=least)

    def value(self, name: str) -> float | None:
        """What was told."""
        told = self.given.get(name)
        return None if told is None else told.value

    def doubt(self, name: str) -> float | None:
        """The uncertainty that was told."""
        told = self.given.get(name)
        return None if told is None else told.uncertainty


def _in_groups(observation: FrameObservation) -> set[int]:
    """Animals that are, or may be, in a group whose members cannot be told apart."""
    return {member for group in observation.groups for member in group.members}


def trunk_centre(parts: Iterable[PartObservation]) -> Point | None:
    """Centre of head and body by area, pixels; where the neck is drawn does not matter. None without a body."""
    area = x = y = 0.0
    has_body = False
    for part in parts:
        if part.part is BodyPart.TAIL:
            continue
        has_body |= part.part is BodyPart.BODY
        area += part.area_px
        x += part.area_px * part.x_px
        y += part.area_px * part.y_px
    return (x / area, y / area) if has_body and area else None


def _sample_temperatures(minute: _AnimalMinute, animal: AnimalObservation, observation: FrameObservation) -> None:
    known = [part for part in animal.parts if part.max_celsius is not None]
    if not known:
        return
    skin = observation.skin_max_celsius(animal)
    if skin is not None:
        minute.warm += 1
        minute.skin_drift.append(frame_drift_celsius(observation))
        minute.skin_max = max(minute.skin_max, skin)
    body = tail = None
    for part in known:
        if part.max_celsius is None or part.mean_celsius is None:
            continue
        if part.part is BodyPart.HEAD:
            minute.head_samples += skin is not None
            if skin is not None:
                minute.head_max = max(minute.head_max, part.max_celsius)
                minute.head.add(part, part.mean_celsius, observation)
        elif part.part is BodyPart.BODY:
            body = part.mean_celsius
            minute.body.add(part, body, observation)
        elif part.valid_px >= LEAST_TAIL_PX:
            tail = part.mean_celsius
            minute.tail.add(part, tail, observation)
    if body is not None and tail is not None:
        minute.body_minus_tail.append(body - tail)
    ambient = observation.background_celsius
    if tail is None or ambient is None:
        return
    minute.tail_excess.append(tail - ambient)
    index = None if body is None else heat_loss_index(tail, body, ambient)
    if body is not None and index is not None:
        minute.indices.append(index)
        minute.body_excess.append(body - ambient)


def _temperature_values(told: _Teller, gathered: _AnimalMinute) -> Iterator[MinuteValue]:
    least = LEAST_TEMPERATURE_COVERAGE
    environment = gathered.body if gathered.body.means else gathered.tail
    for name, value, samples in (
        ("skin_max_celsius", gathered.skin_max, gathered.warm),
        ("head_max_celsius", gathered.head_max, gathered.head_samples),
    ):
        if samples:
            doubt = TemperatureUncertainty(
                noise=noise_celsius(1, 1),
                drift=fmean(gathered.skin_drift),
                emissivity=emissivity_celsius(
                    value, emissivity=environment.emissivity, reflected_celsius=environment.reflected_celsius
                ),
                size=0.0,
            )
            yield told.tell(name, value, samples, least=LEAST_COVERAGE, uncertainty=doubt.total)
    if means := gathered.head.means:
        head = gathered.head.uncertainty().total
        yield told.tell("head_mean_celsius", fmean(means), len(means), least=least, uncertainty=head)
    body = gathered.body.uncertainty() if gathered.body.means else None
    tail = gathered.tail.uncertainty() if gathered.tail.means else None
    if body is not None:
        means = gathered.body.means
        yield told.tell("body_mean_celsius", fmean(means), len(means), least=least, uncertainty=body.total)
    if tail is not None:
        means = gathered.tail.means
        yield told.tell("tail_mean_celsius", fmean(means), len(means), least=least, uncertainty=tail.total)
        if excess := gathered.tail_excess:
            yield told.tell(
                "tail_minus_ambient_celsius", fmean(excess), len(excess), least=least, uncertainty=tail.within_frame
            )
    if body is not None and tail is not None and gathered.body_minus_tail:
        means = gathered.body_minus_tail
        doubt_of_both = math.hypot(body.within_frame, tail.within_frame)
        yield told.tell("body_minus_tail_celsius", fmean(means), len(means), least=least, uncertainty=doubt_of_both)
        if indices := gathered.indices:
            index = fmean(indices)
            doubt_of_index = heat_loss_index_uncertainty(
                index, fmean(gathered.body_excess), tail=tail.within_frame, body=body.within_frame
            )
            yield told.tell("heat_loss_index", index, len(indices), least=least, uncertainty=doubt_of_index)


def _behaviour_values(told: _Teller, gathered: _AnimalMinute) -> Iterator[MinuteValue]:
    if gathered.steps:
        yield from _step_values(told, gathered.steps)
    if gathered.places:
        yield told.length("reach_mm", reach_px(gathered.places), len(gathered.places), least=LEAST_COVERAGE)
    if gathered.lengths:
        samples = len(gathered.lengths)
        yield told.length("length_mm", median(gathered.lengths), samples, least=LEAST_TEMPERATURE_COVERAGE)
        yield told.tell("curl", median(gathered.curls), samples, least=LEAST_TEMPERATURE_COVERAGE)
    if gathered.social:
        share = gathered.huddling / gathered.social
        yield told.tell("huddling_share", share, gathered.social, least=LEAST_COVERAGE)
    if gathered.nearest:
        yield told.length("nearest_mm", median(gathered.nearest), len(gathered.nearest), least=LEAST_COVERAGE)


def _step_values(told: _Teller, steps: Sequence[Step]) -> Iterator[MinuteValue]:
    samples, least = len(steps), LEAST_COVERAGE
    followed_s = sum(step.seconds for step in steps)
    way = sum(step.way_px for step in steps)
    immobile_s = sum(step.seconds for step in steps if step.immobile)
    yield told.length("distance_mm", way, samples, least=least)
    yield told.length("activity_mm_per_s", way / followed_s, samples, least=least)
    yield told.length("speed_max_mm_per_s", max(step.speed_px_per_s for step in steps), samples, least=least)
    yield told.tell("immobile_share", immobile_s / followed_s, samples, least=least)
    resting_s = sum(step.resting_s for step in steps)
    yield told.tell("rest_share", resting_s / followed_s, samples, least=least)
    yield told.tell("immobile_bout_s", max(step.bout_s for step in steps), samples, least=least)
    yield told.tell("rest_endings", float(sum(step.rest_ended for step in steps)), samples, least=least)
