"""Rules over minute values: each minute, once, in order; live, and from the database."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from daemon.events import JUDGED_ON_FRAMES, OF_THE_DEVICE, Event, EventState, Scalar, Severity
from daemon.maintenance import Maintenance, in_minute, overlapping
from daemon.minute_series import DAY_MINUTES, MINUTE_NS, Band, LocalTime, MinuteSeries, band_of, running_means
from daemon.minute_value import MinuteValue, Scope
from daemon.plot_data import PlotData
from daemon.quiet_hours import QuietHours
from daemon.rule import Condition, Rule
from daemon.rule_settings import RulesSettings
from daemon.rule_state import JOINED, LEFT, NOT_WATCHED, Look, RuleState, Verdict
from daemon.settings import ScheduleSettings
from daemon.urgency import QUIET_OVER, loudest

RAW_MINUTES = 1440
"""Minutes that are kept as they came: for means, and for the plot."""

BAND_MINUTES = 10
"""What is usual changes slowly: it is looked up anew after so long."""

LATE_MINUTES = 5
"""A minute that brought no values by then is judged without: nothing can be told."""

HOLD_BACK_MINUTES = 720
"""Minutes before a start that durations may have begun in."""

MOST_MISSING_MINUTES = 2 * DAY_MINUTES
"""More minutes than these at once are passed over: the service was away, or the clock was set."""

MOST_LIVE_MINUTES = HOLD_BACK_MINUTES
"""The same where frames wait meanwhile: a minute takes a third of a millisecond with four animals."""

MARGIN_DAYS = 1
"""A baseline of n days reaches a little further back than n days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStanding:
    """How a rule stands."""

    rule: str
    animal: int | None
    verdict: Verdict
    open_event_id: str | None
    severity: Severity


@dataclass(frozen=True, slots=True)
class _Judged:
    """One condition in one minute."""

    verdict: Verdict
    value: float | None = None
    threshold: float | None = None
    excess: float = 0.0
    coverage: float = 0.0
    band: Band | None = None
    why: str | None = None


class _Subject:
    """A rule of one animal or of the cage, with the past of what it judges."""

    def __init__(self, rule: Rule, animal: int | None) -> None:
        self.rule, self.animal = rule, animal
        self.state = RuleState(rule, animal)
        self.left_out_days: set[int] = set()
        """Local days on which it was open: no example of what is usual."""
        self.bands: dict[int, tuple[int, Band | None]] = {}
        self.newest: tuple[_Judged, ...] = ()

    def forget_bands(self) -> None:
        """What is usual has changed."""
        self.bands.clear()


class MinuteRules:
    """Judges minutes in their order; belongs to one thread.

    Parameters
    ----------
    rules : sequence of Rule
        In force.
    animals : int
        How many live in the box.
    schedule : ScheduleSettings
        Its strata divide the day.
    zone : ZoneInfo
        Of the housing room.
    settings : RulesSettings
        Quiet hours.
    most_at_once : int
        Of more missing minutes than these only the last are judged.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        animals: int,
        schedule: ScheduleSettings,
        zone: ZoneInfo,
        settings: RulesSettings,
        most_at_once: int = MOST_MISSING_MINUTES,
    ) -> None:
        self.rules = tuple(rules)
        self._most_at_once = most_at_once
        self._zone = zone
        self._local = LocalTime(zone, schedule)
        self._quiet = QuietHours(settings.quiet_hours, zone)
        self._subjects = [
            _Subject(rule, animal)
            for rule in rules
            for animal in (range(1, animals + 1) if rule.subject is Scope.ANIMAL else (None,))
        ]
        self._raw: dict[tuple[str, int | None], MinuteSeries] = {}
        self._means: dict[tuple[str, int | None, int], MinuteSeries] = {}
        for subject in self._subjects:
            for condition in subject.rule.conditions:
                self._raw.setdefault((condition.measure, subject.animal), MinuteSeries(RAW_MINUTES))
                key = (condition.measure, subject.animal, condition.over_minutes)
                days = 0 if condition.baseline is None else condition.baseline.days + MARGIN_DAYS + 1
                needed = max(days * DAY_MINUTES, RAW_MINUTES)
                if key not in self._means or len(self._means[key]) < needed:
                    self._means[key] = MinuteSeries(needed)
        self._weighted = {
            (condition.measure, subject.animal, condition.over_minutes): condition.required_coverage > 0
            for subject in self._subjects
            for condition in subject.rule.conditions
        }
        self._maintenance: list[Maintenance] = []
        self._waiting: dict[int, list[MinuteValue]] = defaultdict(list)
        self._last: int | None = None
        self._orphans: list[Event] = []
        self._standing: tuple[RuleStanding, ...] = ()

    @property
    def standing(self) -> tuple[RuleStanding, ...]:
        """How each rule stands; may be read from any thread."""
        return self._standing

    @property
    def history_minutes(self) -> int:
        """So many minutes before the first are needed to know what is usual."""
        days = max((rule.look_back_days for rule in self.rules), default=0)
        return (days + MARGIN_DAYS) * DAY_MINUTES if days else HOLD_BACK_MINUTES

    @property
    def measures(self) -> frozenset[str]:
        """Names of those that are judged."""
        return frozenset(condition.measure for rule in self.rules for condition in rule.conditions)

    def set_maintenance(self, stretches: Iterable[Maintenance]) -> None:
        """All stretches of maintenance that are known, those that go on too."""
        self._maintenance = list(stretches)
        for subject in self._subjects:
            subject.forget_bands()

    def restore(self, events: Iterable[Event]) -> None:
        """Take up events from before a restart, in their order; those of rules that are gone are to be closed."""
        by_key = {(each.rule.name, each.animal): each for each in self._subjects}
        opened: dict[str, Event] = {}
        for event in events:
            if event.kind in (*JUDGED_ON_FRAMES, *OF_THE_DEVICE):
                continue  # of no rule of minutes
            name = event.data.get("rule")
            owner = by_key.get((name, event.animal)) if isinstance(name, str) else None
            about = event.opened_event_id
            holders = [] if about is None else [each for each in self._subjects if each.state.open_event_id == about]
            told_to = holders if event.state in (EventState.ACKNOWLEDGED, EventState.CLOSED) else [owner]
            if event.state is EventState.OPENED and isinstance(name, str):
                opened[event.event_id] = event
            elif event.state is EventState.CLOSED:
                opened.pop(about or "", None)
            elif event.state is EventState.UPDATED:
                if about not in opened:
                    continue
                reason = event.data.get("reason")
                if reason == JOINED:
                    event = replace(event, state=EventState.OPENED, event_id=about)
                elif reason == LEFT:
                    event = replace(event, state=EventState.CLOSED)
                elif owner not in holders:
                    continue
            for each in told_to:
                if each is not None:
                    self._restore(each, event)
                    if any(other.state.acknowledged for other in holders):
                        each.state.acknowledge()
        held = {subject.state.open_event_id for subject in self._subjects}
        self._orphans = [event for event in opened.values() if event.event_id not in held]
        for subject in self._subjects:
            since = subject.state.since_minute
            if since is not None and subject.state.open_event_id is not None:
                subject.left_out_days.add(self._local(since) // DAY_MINUTES)

    def _restore(self, subject: _Subject, event: Event) -> None:
        since = subject.state.since_minute
        was_open = subject.state.open_event_id is not None
        subject.state.restore(event)
        if event.state is EventState.CLOSED and was_open and since is not None:
            self._leave_out(subject, since, event.at_utc_ns // MINUTE_NS - 1)

    def orphans(self, at_utc_ns: int) -> list[Event]:
        """Events that close what was open by rules that are not in force any more; to be stored once, at a start."""
        orphans, self._orphans = self._orphans, []
        return [
            Event(
                kind=event.kind,
                state=EventState.CLOSED,
                severity=event.severity,
                at_utc_ns=at_utc_ns,
                animal=event.animal,
                data={"rule": event.data.get("rule"), "reason": NOT_WATCHED},
                opened_event_id=event.event_id,
            )
            for event in orphans
        ]

    def load(self, values: Iterable[MinuteValue]) -> None:
        """Take the past, in the order of its minutes, without telling of it; before the first `update`."""
        gathered: dict[tuple[str, int | None], list[MinuteValue]] = {key: [] for key in self._raw}
        for value in values:
            if (value.measure, value.animal) in gathered:
                gathered[value.measure, value.animal].append(value)
        minutes = [value.minute_utc_ns // MINUTE_NS for found in gathered.values() for value in found]
        if not minutes:
            return
        first, last = min(minutes), max(minutes)
        shown = np.arange(first, last + 1)
        at_work = overlapping(self._maintenance, shown)
        dense = {key: _dense(found, first, last, at_work) for key, found in gathered.items()}
        for key, (numbers, coverage) in dense.items():
            self._raw[key].fill(first, numbers, coverage)
        for (measure, animal, over), means in self._means.items():
            smooth, covered = running_means(
                *dense[measure, animal], over, weighted=self._weighted[measure, animal, over]
            )
            means.fill(first, np.where(at_work, np.nan, smooth), covered)
        for minute in range(max(first, last - HOLD_BACK_MINUTES), last + 1):
            self._judge_minute(minute, rehearsal=True)

    def update(self, values: Sequence[MinuteValue]) -> list[Event]:
        """Judge the minutes of these values; those of one minute come together, or in one call after the other.

        A minute is judged when a later one comes, or by `advance`.
        """
        events = []
        for value in values:
            minute = value.minute_utc_ns // MINUTE_NS
            if self._waiting and minute > (newest := max(self._waiting)):
                events += self._judge_until(newest)
            if self._last is not None and minute <= self._last:
                if minute > self._last - LATE_MINUTES:
                    continue  # judged without it
                self._begin_again(minute)
            self._waiting[minute].append(value)
        return events

    def update_live(self, values: Sequence[MinuteValue]) -> list[Event]:
        """`update` where the clock may have leapt: the minutes of a leap come at once, before or after `advance`.

        Those that are too many, and those that `advance` has judged without values, are noted and not judged.
        """
        minutes = [value.minute_utc_ns // MINUTE_NS for value in values]
        newest = max(minutes, default=0)
        first = newest - self._most_at_once
        if self._last is not None and newest > self._last - LATE_MINUTES:
            first = max(first, self._last - LATE_MINUTES + 1)
        older: dict[int, list[MinuteValue]] = defaultdict(list)
        for minute, value in zip(minutes, values, strict=True):
            if minute < first:
                older[minute].append(value)
        if not older:
            return self.update(values)
        events = self._judge_until(max(self._waiting)) if self._waiting and max(self._waiting) < first else []
        for minute in sorted(older):
            if minute > newest - RAW_MINUTES:
                self._note(minute, older[minute], at_work=self._is_at_work(minute))
        self._last = first - 1 if self._last is None else max(self._last, first - 1)
        return events + self.update([value for minute, value in zip(minutes, values, strict=True) if minute >= first])

    def advance(self, now_utc_ns: int) -> list[Event]:
        """Judge minutes that are over, also those that brought nothing."""
        last = now_utc_ns // MINUTE_NS - 1
        events = self._judge_until(min(max(self._waiting), last)) if self._waiting else []
        if self._last is None:
            self._last = last
        elif last - self._last > LATE_MINUTES:
            events += self._judge_until(last - LATE_MINUTES)
        elif last < self._last - LATE_MINUTES:
            self._begin_again(last + 1)
        return events

    def acknowledge(self, event_id: str) -> None:
        """Somebody has seen an event."""
        for subject in self._subjects:
            if subject.state.open_event_id == event_id:
                subject.state.acknowledge()

    def plot_data(self, rule: str, animal: int | None, minutes: int) -> PlotData | None:
        """What the newest minutes of a rule look like; None for one that is not watched here."""
        for subject in self._subjects:
            if subject.rule.name == rule and subject.animal == animal and self._last is not None:
                return self._plot_data(subject, self._last, minutes)
        return None

    def _begin_again(self, minute: int) -> None:
        """The clock was set back: minutes come again, and what lasted so far has lasted for nothing."""
        self._last = minute - 1
        self._waiting.clear()
        for subject in self._subjects:
            subject.state.forget_suspicion()
            subject.forget_bands()

    def _judge_until(self, last: int) -> list[Event]:
        first = min(self._waiting, default=last) if self._last is None else self._last + 1
        first = max(first, last - self._most_at_once + 1)
        events = []
        for minute in range(first, last + 1):
            events += self._take(minute, self._waiting.pop(minute, []))
        for minute in [each for each in self._waiting if each <= last]:
            del self._waiting[minute]
        return events

    def _take(self, minute: int, values: Sequence[MinuteValue]) -> list[Event]:
        at_work = self._is_at_work(minute)
        self._note(minute, values, at_work=at_work)
        for (measure, animal, over), means in self._means.items():
            mean, coverage = self._raw[measure, animal].mean(
                minute, over, weighted=self._weighted[measure, animal, over]
            )
            means.put(minute, None if at_work else mean, coverage)
        return self._judge_minute(minute, rehearsal=False)

    def _note(self, minute: int, values: Sequence[MinuteValue], *, at_work: bool) -> None:
        found = {(value.measure, value.animal): value for value in values}
        for key, series in self._raw.items():
            value = found.get(key)
            if value is None or at_work:
                series.put(minute, None, 0.0)
            else:
                series.put(minute, value.value, value.coverage)

    def _judge_minute(self, minute: int, *, rehearsal: bool) -> list[Event]:
        self._last = minute
        at_work = self._is_at_work(minute)
        quiet = self._is_quiet(minute)
        events: list[Event] = []
        for subject in self._subjects:
            look = self._look(subject, minute, at_work=at_work)
            before = subject.state.open_event_id
            since = subject.state.since_minute
            events += self._together(subject, subject.state.look(look, quiet=quiet, rehearsal=rehearsal), minute)
            if before is not None and subject.state.open_event_id is None and since is not None:
                self._leave_out(subject, since, minute)
        if not rehearsal:
            self._standing = tuple(
                RuleStanding(
                    rule=each.rule.name,
                    animal=each.animal,
                    verdict=each.state.verdict,
                    open_event_id=each.state.open_event_id,
                    severity=each.state.severity,
                )
                for each in self._subjects
            )
        return events

    def _together(self, subject: _Subject, told: Sequence[Event], minute: int) -> Iterator[Event]:
        """What one rule tells, where several tell of one illness: it opens once, and closes when all of it is over."""
        for event in told:
            if event.state is EventState.OPENED:
                host = self._host(subject)
                if host is not None:
                    event = subject.state.join(event, host.state)
            others = [
                each
                for each in self._subjects
                if each is not subject and each.state.open_event_id == (event.opened_event_id or event.event_id)
            ]
            if event.state is EventState.CLOSED and others:
                event = subject.state.leave(event, [each.state for each in others])
            elif event.state is EventState.CLOSED:
                self._cool(subject, minute)
            if others:
                most = loudest(each.state.severity for each in others)
                louder = event.severity is not most and loudest((event.severity, most)) is event.severity
                if event.data.get("reason") == QUIET_OVER and not louder:
                    continue  # told by another rule
                event = event if louder else replace(event, severity=most)
            yield event

    def _host(self, subject: _Subject) -> _Subject | None:
        """A rule with an open event that this one joins."""
        for each in self._subjects:
            if (
                each.animal == subject.animal
                and each.rule.name in subject.rule.joins
                and each.state.open_event_id is not None
            ):
                return each
        return None

    def _cool(self, closed: _Subject, minute: int) -> None:
        for each in self._subjects:
            if each.animal == closed.animal and closed.rule.name in each.rule.joins:
                each.state.cool(minute)

    def _leave_out(self, subject: _Subject, first: int, last: int) -> None:
        subject.left_out_days |= set(range(self._local(first) // DAY_MINUTES, self._local(last) // DAY_MINUTES + 1))
        subject.forget_bands()

    def _look(self, subject: _Subject, minute: int, *, at_work: bool) -> Look:
        if at_work:
            subject.newest = ()
            return Look(minute=minute, verdict=Verdict.MAINTENANCE)
        judged = tuple(
            self._judge(subject, place, condition, minute) for place, condition in enumerate(subject.rule.conditions)
        )
        subject.newest = judged
        first, verdicts = judged[0], [each.verdict for each in judged]
        verdict = next(
            (each for each in (Verdict.BACK, Verdict.CANNOT_TELL, Verdict.BETWEEN) if each in verdicts), Verdict.BEYOND
        )
        return Look(
            minute=minute,
            verdict=verdict,
            value=first.value,
            threshold=first.threshold,
            excess=first.excess,
            data=_evidence(subject.rule, judged),
        )

    def _judge(self, subject: _Subject, place: int, condition: Condition, minute: int) -> _Judged:
        means = self._means[condition.measure, subject.animal, condition.over_minutes]
        value, coverage = means.get(minute)
        if value is None:
            return _Judged(Verdict.CANNOT_TELL, why="no_value")
        if coverage < condition.required_coverage:
            return _Judged(Verdict.CANNOT_TELL, value=value, coverage=coverage, why="low_coverage")
        band, threshold = None, condition.value
        if condition.baseline is not None:
            band = self._band(subject, place, condition, minute)
            if band is None:
                return _Judged(Verdict.CANNOT_TELL, value=value, coverage=coverage, why="no_baseline")
            threshold = band.threshold(condition.baseline, condition.sign)
        assert threshold is not None  # a condition has a value or a baseline
        excess = condition.sign * (value - threshold)
        verdict = Verdict.BEYOND if excess > 0 else Verdict.BACK if excess <= -condition.hysteresis else Verdict.BETWEEN
        return _Judged(verdict, value=value, threshold=threshold, excess=excess, coverage=coverage, band=band)

    def _band(self, subject: _Subject, place: int, condition: Condition, minute: int) -> Band | None:
        known = subject.bands.get(place)
        if known is None or known[0] != minute // BAND_MINUTES:
            known = (minute // BAND_MINUTES, self._usual(subject, condition, minute))
            subject.bands[place] = known
        return known[1]

    def _usual(self, subject: _Subject, condition: Condition, minute: int) -> Band | None:
        assert condition.baseline is not None  # asked of those only
        left_out = subject.left_out_days
        if subject.state.open_event_id is not None and subject.state.since_minute is not None:
            today = self._local(minute) // DAY_MINUTES
            left_out = left_out | set(range(self._local(subject.state.since_minute) // DAY_MINUTES, today + 1))
        return band_of(
            self._means[condition.measure, subject.animal, condition.over_minutes],
            minute,
            condition.baseline,
            local=self._local,
            required_coverage=condition.required_coverage,
            left_out_days=left_out,
            left_out=self._at_work if self._maintenance else None,
        )

    def _is_at_work(self, minute: int) -> bool:
        return in_minute(self._maintenance, minute * MINUTE_NS) is not None

    def _at_work(self, minutes: NDArray[np.int64]) -> NDArray[np.bool_]:
        return overlapping(self._maintenance, minutes)

    def _is_quiet(self, minute: int) -> bool:
        return bool(self._quiet) and self._quiet.at_minute(self._local(minute) % DAY_MINUTES)

    def _plot_data(self, subject: _Subject, last: int, minutes: int) -> PlotData:
        condition = subject.rule.conditions[0]
        shown = np.arange(last - minutes + 1, last + 1)
        values, coverage = self._means[condition.measure, subject.animal, condition.over_minutes].at(shown)
        thresholds, low, high = (np.full(minutes, np.nan) for _ in range(3))
        for begin in range(0, minutes, BAND_MINUTES):
            part = slice(begin, begin + BAND_MINUTES)
            if condition.baseline is None:
                thresholds[part] = condition.value
                continue
            band = self._usual(subject, condition, int(shown[begin]))
            if band is not None:
                thresholds[part] = band.threshold(condition.baseline, condition.sign)
                reach = condition.baseline.z * band.spread
                low[part], high[part] = band.median - reach, band.median + reach
        since = subject.state.since_minute
        return PlotData(
            title=f"{subject.rule.name}" + ("" if subject.animal is None else f", animal {subject.animal}"),
            measure=condition.measure,
            steps=shown,
            step_s=60,
            values=values,
            coverage=coverage,
            low=low,
            high=high,
            thresholds=thresholds,
            at_work=overlapping(self._maintenance, shown),
            since=since,
            local_s=np.array([self._local(int(minute)) * 60 for minute in shown]),
        )


def _dense(
    found: Sequence[MinuteValue], first: int, last: int, at_work: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Value and coverage of each minute of a stretch; NaN and 0 where there is none, or maintenance."""
    numbers, coverage = np.full(last - first + 1, np.nan), np.zeros(last - first + 1)
    for value in found:
        place = value.minute_utc_ns // MINUTE_NS - first
        numbers[place] = np.nan if value.value is None else value.value
        coverage[place] = value.coverage
    numbers[at_work] = np.nan
    coverage[~np.isfinite(numbers)] = 0.0
    return numbers, coverage


def _evidence(rule: Rule, judged: Sequence[_Judged]) -> dict[str, Scalar]:
    data: dict[str, Scalar] = {"coverage": round(judged[0].coverage, 3)}
    band = judged[0].band
    if band is not None and judged[0].value is not None:
        z = band.z(judged[0].value)
        data |= {
            "usual": round(band.median, 4),
            "usual_spread": round(band.spread, 4),
            "usual_days": band.days,
            "z": None if z is None else round(z, 2),
        }
    if why := next((each.why for each in judged if each.why is not None), None):
        data["why_not"] = why
    for condition, each in zip(rule.conditions[1:], judged[1:], strict=True):
        data[f"also_{condition.measure}"] = None if each.value is None else round(each.value, 4)
        data[f"also_{condition.measure}_threshold"] = None if each.threshold is None else round(each.threshold, 4)
    return data
