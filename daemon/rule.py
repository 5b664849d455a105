"""A rule as it is in force: what the config says, or what is shipped, with nothing left open."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from daemon.events import EventKind, Severity
from daemon.minute_value import Measure, Scope
from daemon.rule_settings import BaselineSettings, ConditionSettings, RuleSettings
from daemon.spelling import did_you_mean
from drivers.errors import ConfigError

Comparison = Literal["above", "below"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison of one measure."""

    measure: str
    comparison: Comparison
    value: float | None = None
    """The threshold, in the unit of the measure; None with a baseline."""
    baseline: BaselineSettings | None = None
    hysteresis: float = 0.0
    over_minutes: int = 1
    required_coverage: float = 0.5

    def __post_init__(self) -> None:
        if (self.value is None) == (self.baseline is None):
            raise ValueError(f"{self.measure}: expected either value or baseline")

    @property
    def sign(self) -> float:
        """1 where more is wrong, -1 where less is."""
        return 1.0 if self.comparison == "above" else -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When an event opens and closes."""

    name: str
    kind: EventKind
    """Of its events; `RULE` for those that are not shipped."""
    subject: Scope
    conditions: tuple[Condition, ...]
    """All must hold; the first is the one that is drawn."""
    meaning: str = ""
    """In words, for people."""
    for_minutes: float = 10.0
    clear_minutes: float = 10.0
    severity: Severity = Severity.ALERT
    escalate_after_minutes: int = 0
    cool_down_minutes: int = 60
    quiet: bool = True
    joins: tuple[str, ...] = ()
    """Names of rules that may tell of the same illness: while an event of one of them is open about the same animal,
    this rule adds its evidence to it and opens none of its own."""

    def __post_init__(self) -> None:
        if not self.conditions:
            raise ValueError(f"{self.name}: expected a condition")
        if self.name in self.joins:
            raise ValueError(f"{self.name}: a rule cannot join itself")

    @property
    def look_back_days(self) -> int:
        """Days of minute values that it needs."""
        return max((each.baseline.days for each in self.conditions if each.baseline), default=0)


_OF_CONDITION = ("measure", "comparison", "value", "baseline", "hysteresis", "over_minutes", "required_coverage")
_OF_RULE = ("for_minutes", "clear_minutes", "escalate_after_minutes", "cool_down_minutes", "quiet", "joins")


def changed(shipped: Rule, settings: RuleSettings) -> Rule:
    """A shipped rule with what the config changes of it."""
    first = shipped.conditions[0]
    condition = {name: getattr(first, name) for name in _OF_CONDITION} | _given(settings, _OF_CONDITION)
    if settings.value is not None:
        condition["baseline"] = settings.baseline
    elif settings.baseline is not None:
        condition["value"] = None
    others = shipped.conditions[1:] if settings.also is None else tuple(map(_condition, settings.also))
    return Rule(
        name=shipped.name,
        kind=shipped.kind,
        meaning=shipped.meaning,
        subject=shipped.subject if settings.subject is None else Scope(settings.subject),
        conditions=(Condition(**condition), *others),
        severity=shipped.severity if settings.severity is None else Severity(settings.severity),
        **{name: getattr(shipped, name) for name in _OF_RULE} | _given(settings, _OF_RULE),
    )


def made(settings: RuleSettings, shipped: Iterable[str]) -> Rule:
    """A rule of the config's own; of `shipped` names one may have been meant."""
    missing = [name for name in ("measure", "comparison") if getattr(settings, name) is None]
    if missing:
        meant = did_you_mean(settings.name, shipped)
        raise ValueError(
            f"no rule of this name is shipped, so it needs {' and '.join(missing)}" + (f"; {meant}" if meant else "")
        )
    return Rule(
        name=settings.name,
        kind=EventKind.RULE,
        subject=Scope(settings.subject or "animal"),
        conditions=(Condition(**_given(settings, _OF_CONDITION)), *map(_condition, settings.also or ())),
        severity=Severity(settings.severity or "alert"),
        **_given(settings, _OF_RULE),
    )


def _given(settings: RuleSettings | ConditionSettings, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(settings, name)) is not None}


def _condition(settings: ConditionSettings) -> Condition:
    return Condition(**_given(settings, _OF_CONDITION))


def rules_in_force(
    settings: Iterable[RuleSettings], shipped: Iterable[Rule], *, elsewhere: Iterable[str] = ()
) -> tuple[Rule, ...]:
    """The shipped rules as the config changes them, then the config's own.

    Parameters
    ----------
    settings : iterable of RuleSettings
        Of the config.
    shipped : iterable of Rule
        None of them where the config wants none.
    elsewhere : iterable of str
        Names that are not for these rules.

    Raises
    ------
    ConfigError
        If a name comes twice, or a rule is not complete; it names every one of them.
    """
    settings, elsewhere = list(settings), tuple(elsewhere)
    by_name = {rule.name: rule for rule in shipped}
    names = {*by_name, *(each.name for each in settings if each.name not in elsewhere)}
    own: dict[str, Rule] = {}
    problems: list[str] = []
    seen: set[str] = set()
    for number, each in enumerate(settings, start=1):
        if each.name in elsewhere:
            continue
        try:
            if each.name in seen:
                raise ValueError("the name comes twice")
            seen.add(each.name)
            rule = changed(by_name[each.name], each) if each.name in by_name else made(each, (*by_name, *elsewhere))
            if each.joins and (missing := [name for name in each.joins if name not in names]):
                raise ValueError("; ".join(f"joins: {_there_is_no('rule', name, names)}" for name in missing))
        except ValueError as error:
            problems.append(f"rule number {number} ({each.name}): {error}")
            continue
        (by_name if each.name in by_name else own)[each.name] = rule
        if each.enabled is False:
            by_name.pop(each.name, None)
            own.pop(each.name, None)
    if problems:
        raise ConfigError("\n  ".join(problems))
    return (*by_name.values(), *own.values())


def _there_is_no(what: str, name: str, known: Iterable[str]) -> str:
    return f"no {what} {name}; " + (did_you_mean(name, known) or f"there are {', '.join(known)}")


def check_measures(rules: Iterable[Rule], measures: Mapping[str, Measure]) -> None:
    """Refuse rules of what is not measured.

    Raises
    ------
    ConfigError
        If a measure is not known, or is not of the animal or the cage that the rule judges.
    """
    problems = []
    for rule in rules:
        for condition in rule.conditions:
            measure = measures.get(condition.measure)
            if measure is None:
                problems.append(f"rule {rule.name}: {_there_is_no('measure', condition.measure, measures)}")
            elif measure.scope is not rule.subject:
                problems.append(
                    f"rule {rule.name}: {condition.measure} is of the {measure.scope.value}, not of the "
                    f"{rule.subject.value}; set subject"
                )
    if problems:
        raise ConfigError("\n  ".join(problems))
