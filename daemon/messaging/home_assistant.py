"""The rules of Home Assistant for a device that announces itself by MQTT, as far as we use them.

Source: Home Assistant Core 2026.11.0 (Apache-2.0), `homeassistant/components/mqtt/`: `schemas.py`
(DEVICE_DISCOVERY_SCHEMA, availability, device, origin, the `unique_id` of every entity), `sensor.py`,
`binary_sensor.py`, `discovery.py` (TOPIC_MATCHER), `util.py` (valid_topic), and `components/sensor/const.py`
(DEVICE_CLASS_UNITS, DEVICE_CLASS_STATE_CLASSES); documented at https://www.home-assistant.io/integrations/mqtt/.

Home Assistant drops keys of an entity that it does not know and refuses those of a device; here both are refused.
What came only lately (child devices) is not used: devices have been announced in this form since 2024.11.
"""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

TOPIC: Final = re.compile(r"device/(?:(?P<node_id>[a-zA-Z0-9_-]+)/)?(?P<object_id>[a-zA-Z0-9_-]+)/config")
"""Below the prefix."""

UNITS: Final[dict[str, frozenset[str]]] = {
    "temperature": frozenset({"°C", "°F", "K"}),
    "temperature_delta": frozenset({"°C", "°F", "K"}),
    "speed": frozenset({"mm/s", "mm/d", "mm/h", "m/s", "m/min", "km/h", "ft/s", "in/d", "in/h", "in/s", "kn", "mph"}),
    "duration": frozenset({"s", "min", "h", "d", "ms", "μs"}),
}
"""Of the device classes that we use; the others of a class are refused."""

_LONGEST_TOPIC_BYTES = 65_535


def _subscribable(topic: str) -> str:
    if not topic or len(topic.encode()) > _LONGEST_TOPIC_BYTES or re.search("[\0-\x1f\x7f-\x9f#+]", topic):
        raise ValueError(f"expected a topic without wildcards and control characters, got {topic!r}")
    return topic


def _template(text: str) -> str:
    if not re.search(r"{{.*}}|{%.*%}", text, re.DOTALL):
        raise ValueError(f"expected a template, got {text!r}")
    return text


Topic = Annotated[str, AfterValidator(_subscribable)]
Template = Annotated[str, AfterValidator(_template)]
Icon = Annotated[str, Field(pattern=r"^[a-z0-9]+:[a-z0-9-]+$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Availability(_Part):
    """One topic that says whether an entity is to be believed."""

    topic: Topic
    value_template: Template | None = None
    payload_available: str = "online"
    payload_not_available: str = "offline"


class Device(_Part):
    """What all entities belong to."""

    identifiers: Annotated[tuple[str, ...], Field(min_length=1)]
    """Or `connections`, which we have none of."""
    name: str
    manufacturer: str | None = None
    model: str | None = None
    serial_number: str | None = None
    sw_version: str | None = None
    hw_version: str | None = None


class Origin(_Part):
    """Which program says so."""

    name: Annotated[str, Field(min_length=1)]
    sw_version: str | None = None


class _Entity(_Part):
    unique_id: Annotated[str, Field(min_length=1)]
    """Required of every entity in a device's announcement."""
    name: str | None
    state_topic: Topic
    value_template: Template | None = None
    availability: Annotated[tuple[Availability, ...], Field(min_length=1)] | None = None
    """Its own list takes the place of the device's."""
    availability_mode: Literal["all", "any", "latest"] | None = None
    json_attributes_topic: Topic | None = None
    json_attributes_template: Template | None = None
    entity_category: Literal["diagnostic"] | None = None
    """A sensor may not be of the category `config`."""
    icon: Icon | None = None
    enabled_by_default: bool | None = None
    expire_after: Annotated[int, Field(ge=0)] | None = None


class Sensor(_Entity):
    """A number or a word."""

    platform: Literal["sensor"] = "sensor"
    device_class: Literal["temperature", "temperature_delta", "speed", "duration"] | None = None
    state_class: Literal["measurement"] | None = None
    unit_of_measurement: str | None = None
    suggested_display_precision: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _unit_fits(self) -> Self:
        if self.device_class is not None and self.unit_of_measurement not in UNITS[self.device_class]:
            raise ValueError(f"unit {self.unit_of_measurement!r} does not fit device class {self.device_class}")
        return self


class BinarySensor(_Entity):
    """Something that is on or off."""

    platform: Literal["binary_sensor"] = "binary_sensor"
    device_class: Literal["problem", "connectivity", "running"] | None = None
    payload_on: str = "ON"
    payload_off: str = "OFF"


class Gone(_Part):
    """An entity that was there and is not any more: a component with nothing but its platform is removed."""

    platform: Literal["sensor", "binary_sensor"]


class DeviceDiscovery(_Part):
    """The announcement of one device."""

    device: Device
    origin: Origin
    components: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$")], Sensor | BinarySensor | Gone], Field(min_length=1)
    ]
    availability: Annotated[tuple[Availability, ...], Field(min_length=1)] | None = None
    availability_mode: Literal["all", "any", "latest"] | None = None
    qos: Literal[0, 1, 2] | None = None

    @model_validator(mode="after")
    def _unique_ids_differ(self) -> Self:
        ids = [each.unique_id for each in self.components.values() if not isinstance(each, Gone)]
        if len(set(ids)) != len(ids):
            raise ValueError("expected a unique_id of its own for each component")
        return self

    def to_json(self) -> bytes:
        """The bytes to publish: without what is not said, since null is no topic."""
        return self.model_dump_json(exclude_none=True).encode()
