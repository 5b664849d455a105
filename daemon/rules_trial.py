"""Rules tried on simulated boxes that nobody chose thresholds on: what they catch, and how often they are wrong."""

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter
from scipy.special import gammaincinv

from daemon.drawn_eyes import DrawnEyes
from daemon.events import Event, EventState, Severity
from daemon.illness_script import NONE, truth_json
from daemon.minute_rules import MinuteRules
from daemon.minute_values import collector_of
from daemon.rules import AlertRules
from daemon.rules_replay import TrueIllness, score
from daemon.scripted_days import there
from daemon.seen_errors import SeenErrors
from daemon.settings import Settings
from daemon.true_days import TrueDays
from daemon.watching import minute_rules_of
from drivers.clock import NS_PER_S
from drivers.vivarium.moment import Moment

DAY_NS = 86_400 * NS_PER_S
CONFIDENCE = 0.95


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Opened(_Record):
    """An event that opened."""

    rule: str
    kind: str
    animal: int | None
    at_utc_ns: int
    severity: Severity
    """The greatest it came to."""


class TriedWeek(_Record):
    """What the rules said of one box by one script."""

    seed: int
    script: str
    animals: int
    days: int
    start_utc_ns: int
    from_utc_ns: int
    """Before this nothing differs from the healthy box of the same seed."""
    truth: tuple[TrueIllness, ...]
    opened: tuple[Opened, ...]
    caught_by: str | None
    """Rule of the first event that caught the illness."""
    caught_after_minutes: float | None
    false: tuple[Opened, ...]
    """Alerts about an animal that was well."""
    notices: int
    """Notices about an animal that was well."""
    animal_days: float
    """Without illness."""

    @property
    def about_illness(self) -> tuple[Opened, ...]:
        """Alerts about the animal that was ill, during its illness and the two hours after it."""
        return tuple(
            each
            for each in self.opened
            if each.severity is not Severity.NOTICE
            and any(ill.animal == each.animal and ill.covers(each.at_utc_ns) for ill in self.truth)
        )


_WEEKS = TypeAdapter(tuple[TriedWeek, ...])


class _Watch:
    """Eyes, measures and rules of one box."""

    def __init__(self, settings: Settings, errors: SeenErrors, every_s: int) -> None:
        self._settings = settings
        self._eyes = DrawnEyes(errors, seed=settings.camera.simulated.seed, mm_per_px=settings.measure.mm_per_px)
        self._collector = collector_of(lambda: settings)
        self._minutes: MinuteRules = minute_rules_of(settings, settings.minute_rules())
        self._frames = AlertRules(
            settings.frame_alerts, animals=settings.animal_count, sample_interval_s=float(every_s)
        )
        self._seen = 0
        self.events: list[Event] = []

    def see(self, utc_ns: int, moment: Moment) -> None:
        observation = self._eyes.look(moment, utc_ns, self._seen, block_key=None, planned_utc_ns=None)
        self._seen += 1
        self.events += self._minutes.update(self._collector.add(observation))
        self.events += self._frames.update(there(observation, moment))

    def finish(self, utc_ns: int) -> None:
        self.events += self._minutes.update(self._collector.finish())
        self.events += self._minutes.advance(utc_ns)


def tried(
    settings: Settings,
    errors: SeenErrors,
    *,
    scripts: Sequence[str],
    first_day: date,
    days: int,
    every_s: int,
    folder: Path,
    on_day: Callable[[str, int], None] = lambda script, day: None,
) -> tuple[TriedWeek, ...]:
    """The healthy box of a seed, and the same box by each script; one that was tried before is read.

    The same observations, measures and rules as of `vivarium simulate --script` with this seed; evidence and database
    are left out. Kept are the true days, and the result as long as no source, setting or error has changed.

    Parameters
    ----------
    settings : Settings
        Seed, animals, rules.
    errors : SeenErrors
        By which observations are drawn.
    scripts : sequence of str
        Names of scripts; the healthy box is always tried.
    first_day : date
        Begins at its local midnight.
    days : int
        How many.
    every_s : int
        Seconds between observations.
    folder : Path
        Keeps what is made.
    on_day : callable
        Is told the script and the day, from 0, that is begun.
    """
    rate_hz = 1 / every_s
    settings = settings.model_copy(
        update={
            "box": settings.box.model_copy(update={"time_zone": settings.zone.key}),
            "schedule": settings.schedule.model_copy(update={"rate_hz": rate_hz}),
            "measure": settings.measure.model_copy(update={"outside_rate_hz": rate_hz}),
        }
    )
    seed = settings.camera.simulated.seed
    stamp = _stamp(settings, errors, scripts, first_day, days)
    path = folder / "tried" / f"seed-{seed}-{stamp}.json"
    if path.exists():
        return _WEEKS.validate_json(path.read_bytes())
    true = TrueDays(settings, first_day=first_day, script_days=days, scripts=scripts, every_s=every_s, folder=folder)
    weeks = tuple(_weeks(settings, errors, true, days, every_s, on_day))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(_WEEKS.dump_json(weeks, indent=1))
    unfinished.replace(path)
    return weeks


def _weeks(
    settings: Settings,
    errors: SeenErrors,
    true: TrueDays,
    days: int,
    every_s: int,
    on_day: Callable[[str, int], None],
) -> Iterator[TriedWeek]:
    healthy, ill = _Watch(settings, errors, every_s), dict[str, _Watch]()
    begins = {script: true.window_utc_ns(script)[0] for script in true.incidents}
    for day in range(days):
        on_day(NONE, day)
        for utc_ns, moment in true.moments(NONE, day):
            for script, begin in begins.items():
                if script not in ill and utc_ns >= begin:
                    ill[script] = copy.deepcopy(healthy)
            healthy.see(utc_ns, moment)
    healthy.finish(true.midnight_utc_ns(days))
    yield _judged(settings, true, NONE, days, healthy.events)
    for script, watch in ill.items():
        for day in range(days):
            if true.midnight_utc_ns(day + 1) > begins[script]:
                on_day(script, day)
                for utc_ns, moment in true.moments(script, day):
                    if utc_ns >= begins[script]:
                        watch.see(utc_ns, moment)
        watch.finish(true.midnight_utc_ns(days))
        yield _judged(settings, true, script, days, watch.events)


def _judged(settings: Settings, true: TrueDays, script: str, days: int, events: Sequence[Event]) -> TriedWeek:
    start_utc_ns, end_utc_ns = true.midnight_utc_ns(0), true.midnight_utc_ns(days)
    incidents = [] if script == NONE else [true.incidents[script]]
    truth = TypeAdapter(tuple[TrueIllness, ...]).validate_json(truth_json(incidents))
    found = score(events, truth, animals=settings.animal_count, start_utc_ns=start_utc_ns, end_utc_ns=end_utc_ns)
    first = found.caught[0][1] if found.caught else None
    return TriedWeek(
        seed=settings.camera.simulated.seed,
        script=script,
        animals=settings.animal_count,
        days=days,
        start_utc_ns=start_utc_ns,
        from_utc_ns=start_utc_ns if script == NONE else true.window_utc_ns(script)[0],
        truth=truth,
        opened=tuple(_opened(events)),
        caught_by=None if first is None else str(first.data.get("rule")),
        caught_after_minutes=None
        if first is None
        else round((first.at_utc_ns / NS_PER_S - truth[0].start.timestamp()) / 60, 1),
        false=tuple(_opened(events, only={each.event_id for each in found.false})),
        notices=len(found.notices),
        animal_days=found.animal_days,
    )


def _opened(events: Sequence[Event], only: set[str] | None = None) -> Iterator[Opened]:
    for event in events:
        if event.state is not EventState.OPENED or (only is not None and event.event_id not in only):
            continue
        told = [each.severity for each in events if event.event_id in (each.event_id, each.opened_event_id)]
        yield Opened(
            rule=str(event.data.get("rule", event.kind.value)),
            kind=event.kind.value,
            animal=event.animal,
            at_utc_ns=event.at_utc_ns,
            severity=max(told, key=list(Severity).index),
        )


class FalseAlerts(_Record):
    """How often the rules were wrong, over days of animals of which none is counted twice."""

    alerts: int
    animal_days: float
    settled_days: float
    """Of these the days with enough days before them for a baseline."""

    @property
    def per_hundred(self) -> float | None:
        """Per 100 animal-days; None where there are none."""
        return 100 * self.alerts / self.animal_days if self.animal_days > 0 else None

    def at_most(self, *, settled: bool = False) -> float | None:
        """Upper end of what per 100 animal-days is compatible with so few (95 %, one-sided, exact)."""
        days = self.settled_days if settled else self.animal_days
        return 100 * poisson_upper(self.alerts, CONFIDENCE) / days if days > 0 else None


def poisson_upper(count: int, confidence: float) -> float:
    """Greatest expected number with which so few events still have a probability of 1 - confidence.

    Notes
    -----
    Exact: half the quantile of chi squared with 2 (count + 1) degrees of freedom (Garwood 1936, Biometrika 28:437).
    """
    return float(gammaincinv(count + 1, confidence))


def false_alerts(weeks: Iterable[TriedWeek], *, baseline_days: int) -> FalseAlerts:
    """Of all boxes: the healthy ones, and of those with a script the ill animal from where they differ.

    The other animals of a box with a script are those of the healthy one, so their days are counted with it; an alert
    about them that it does not have counts all the same.

    Parameters
    ----------
    weeks : iterable of TriedWeek
        With the healthy box of each seed.
    baseline_days : int
        Days before the rules can tell.
    """
    weeks = list(weeks)
    alerts = 0
    animal_days = settled = 0.0
    healthy = {
        (week.seed, each.rule, each.animal, each.at_utc_ns)
        for week in weeks
        if week.script == NONE
        for each in week.false
    }
    alerts = len(healthy)
    for week in weeks:
        if week.script == NONE:
            animal_days += week.animals * week.days
            settled += week.animals * max(week.days - baseline_days, 0)
            continue
        alerts += sum((week.seed, each.rule, each.animal, each.at_utc_ns) not in healthy for each in week.false)
        end_utc_ns = week.start_utc_ns + week.days * DAY_NS
        ill_ns = sum((each.end - each.start).total_seconds() * NS_PER_S for each in week.truth)
        own = (end_utc_ns - week.from_utc_ns - ill_ns) / DAY_NS
        animal_days += own
        settled += own
    return FalseAlerts(alerts=alerts, animal_days=animal_days, settled_days=settled)


def _stamp(settings: Settings, errors: SeenErrors, scripts: Sequence[str], first_day: date, days: int) -> str:
    """Of all that a result hangs on."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted((*here.glob("*.py"), *(here.parent / "drivers").rglob("*.py"))):
        digest.update(path.read_bytes())
    for text in (settings.to_json(), errors.model_dump_json(), ",".join(scripts), str(first_day), str(days)):
        digest.update(text.encode())
    return digest.hexdigest()[:12]
