"""The few settings that may be changed by command, and how that is done.

A change holds until the config is read again or the service starts: config.toml stays the one place that says how a
box is set up. What is stored after a change belongs to a new run, whose config says it.

Not among them, on purpose: whatever deletes (`disk`), what makes a study what it is (`schedule`, `measure`, `camera`),
what runs or reads files (`vision`), and what decides who may command (`mqtt`, `web`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from daemon.order import Order, Outcome
from daemon.settings import Settings
from drivers.errors import ConfigError

SETTABLE: Final = (
    "alerts.not_seen_after_s",
    "alerts.too_cold.celsius",
    "alerts.too_cold.duration_s",
    "alerts.too_cold.hysteresis_celsius",
    "alerts.too_hot.celsius",
    "alerts.too_hot.duration_s",
    "alerts.too_hot.hysteresis_celsius",
    "log.level",
)
"""Keys of config.toml, all of sections that take effect without interrupting capture."""

UNTIL = "until the config is read again or the service starts; to keep it, write it into config.toml"

Value = str | int | float | bool
Section = TypeVar("Section", bound=BaseModel)


def value_of(settings: Settings, key: str) -> Value:
    """What a key says now."""
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    if not isinstance(value, Value):
        raise TypeError(f"{key} is no single value: {value!r}")
    return value


def changed(settings: Settings, key: str, value: Value) -> Settings:
    """The settings with another value for a key.

    Raises
    ------
    ConfigError
        If the key may not be changed by command, or not to this value.
    """
    if key not in SETTABLE:
        raise ConfigError(f"{key} cannot be set by command; these can: {', '.join(SETTABLE)}")
    try:
        return _with(settings, key.split("."), value)
    except ValidationError as error:
        problems = "; ".join(each["msg"].removeprefix("Value error, ") for each in error.errors())
        raise ConfigError(f"{key}: {problems}; got {value!r}") from error


def _with(section: Section, path: Sequence[str], value: Value) -> Section:
    """The same with another value somewhere in it, judged anew on each level from there up."""
    name, *deeper = path
    inner = _with(getattr(section, name), deeper, value) if deeper else value
    same = {each: getattr(section, each) for each in section.model_fields_set}  # what nobody has set stays so
    return type(section).model_validate({**same, name: inner}, by_name=True)


class SettingOrder(Order):
    """An order to set one key. When it is done it says what is in force and what was.

    Parameters
    ----------
    order : Order
        Of whoever commanded it; answered by this one.
    """

    def __init__(self, order: Order, *, key: str, value: Value) -> None:
        super().__init__()
        self.key = key
        self.value = value
        self._order = order
        self._data: Mapping[str, Value] = {}

    def apply(self, settings: Settings) -> Settings:
        """The settings as they are to be.

        Raises
        ------
        ConfigError
            If they cannot be so.
        """
        new = changed(settings, self.key, self.value)
        self._data = {"key": self.key, "value": value_of(new, self.key), "before": value_of(settings, self.key)}
        return new

    @property
    def outcome(self) -> Outcome | None:
        """See `Order`."""
        return self._order.outcome

    def answer(self, outcome: Outcome) -> bool:
        """See `Order`."""
        if outcome.state == "done":
            outcome = replace(outcome, message=UNTIL, data=self._data)
        return self._order.answer(outcome)
