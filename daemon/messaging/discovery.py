"""How a box announces itself to Home Assistant: one device, with its animals, its alerts and how it does."""

from collections.abc import Iterator

from daemon.events import EventKind
from daemon.messaging import topics
from daemon.messaging.home_assistant import (
    Availability,
    BinarySensor,
    Device,
    DeviceDiscovery,
    Gone,
    Origin,
    Sensor,
)
from daemon.settings import MqttSettings, Settings
from daemon.vision.panoptic import MOST_ANIMALS
from drivers.camera import CameraInfo

BLIND_AFTER_S = 120
"""Temperatures are unavailable when the last good frame is older."""

EXPIRES_S = 300
"""A reading of an animal is unavailable after so long without a message about it, as between two blocks."""

PARTS = ("head", "body", "tail")

ANIMAL_CONDITIONS = {
    EventKind.ANIMAL_TOO_HOT: "too hot",
    EventKind.ANIMAL_TOO_COLD: "too cold",
    EventKind.ANIMAL_NOT_SEEN: "not seen",
    EventKind.FEVER: "fever",
    EventKind.HYPOTHERMIA: "hypothermia",
    EventKind.INACTIVITY: "inactive",
    EventKind.ACTIVITY_DROP: "activity drop",
    EventKind.TAIL_COLD: "tail cold",
}

BOX_CONDITIONS = {
    EventKind.CAMERA_LOST: "Camera lost",
    EventKind.CAGE_TOO_HOT: "Cage too hot",
    EventKind.CAGE_TOO_COLD: "Cage too cold",
    EventKind.COVERAGE_LOW: "Coverage low",
    EventKind.DISK_LOW: "Disk low",
    EventKind.VISION_DEGRADED: "Networks degraded",
}

_SEEN_LATELY = "value_json.captured_utc_ns >= (value_json.measures_minute_utc_ns or 0)"
"""The message is told again after each minute: who was not known in that minute has no temperature of now."""


def birth_topic(settings: MqttSettings) -> str:
    """Where Home Assistant says that it has come."""
    return f"{settings.discovery_prefix}/status"


def discovery_topic(settings: Settings) -> str:
    """Where the announcement stands, in full."""
    return f"{settings.mqtt.discovery_prefix}/device/{_device_id(settings)}/config"


def discovery_payload(settings: Settings, *, version: str, camera: CameraInfo | None = None) -> bytes:
    """The announcement; of animals that are not expected any more it takes back what was said before."""
    count, names = settings.animal_count, settings.animal_names
    device_id = _device_id(settings)
    box = settings.box.name
    components: dict[str, Sensor | BinarySensor | Gone] = dict(_of_box(box, device_id))
    for number in range(1, MOST_ANIMALS + 1):
        name = f"{names[number]} ({number})" if number in names else f"Animal {number}"
        entities = _of_animal(box, device_id, number, name, in_mm=settings.measure.mm_per_px is not None)
        components |= {key: entity if number <= count else Gone(platform=entity.platform) for key, entity in entities}
    return DeviceDiscovery(
        device=Device(
            identifiers=(device_id,),
            name=f"Vivarium {box}",
            manufacturer="Strong Vivarium",
            model=camera.product if camera else None,
            serial_number=(camera.serial or None) if camera else None,
            hw_version=(camera.firmware or None) if camera else None,
            sw_version=version,
        ),
        origin=Origin(name="strong-vivarium", sw_version=version),
        components=components,
        availability=(_connected(box),),
        qos=1,
    ).to_json()


def _device_id(settings: Settings) -> str:
    return f"strong_vivarium_{settings.box.name}"


def _connected(box: str) -> Availability:
    return Availability(topic=topics.absolute(box, topics.STATUS), value_template="{{ value_json.state }}")


def _sees(box: str) -> tuple[Availability, ...]:
    """Connected, and with a camera that sees: together they say whether a temperature is of now."""
    age = "value_json.last_frame_age_s"
    fresh = f"{{{{ 'online' if {age} is not none and {age} < {BLIND_AFTER_S} else 'offline' }}}}"
    return _connected(box), Availability(topic=topics.absolute(box, topics.HEALTH), value_template=fresh)


def _of_animal(
    box: str, device_id: str, number: int, name: str, *, in_mm: bool
) -> Iterator[tuple[str, Sensor | BinarySensor]]:
    topic = topics.absolute(box, topics.animal(number))
    for part in PARTS:
        of_part = f"value_json.parts | selectattr('part', 'eq', '{part}') | map(attribute='mean_celsius')"
        yield (
            f"animal_{number}_{part}",
            Sensor(
                unique_id=f"{device_id}_animal_{number}_{part}",
                name=f"{name} {part} temperature",
                state_topic=topic,
                value_template=f"{{{{ {of_part} | first | default(none) if {_SEEN_LATELY} else none }}}}",
                expire_after=EXPIRES_S,
                availability=_sees(box),
                availability_mode="all",
                device_class="temperature",
                state_class="measurement",
                unit_of_measurement="°C",
                suggested_display_precision=1,
            ),
        )
    yield (
        f"animal_{number}_skin_max_30min",
        Sensor(
            unique_id=f"{device_id}_animal_{number}_skin_max_30min",
            name=f"{name} skin maximum, mean of 30 minutes",
            state_topic=topic,
            value_template=_measure("skin_max_30min_celsius"),
            expire_after=EXPIRES_S,
            availability=_sees(box),
            availability_mode="all",
            device_class="temperature",
            state_class="measurement",
            unit_of_measurement="°C",
            suggested_display_precision=2,
        ),
    )
    unit = "mm/s" if in_mm else "px/s"
    yield (
        f"animal_{number}_activity",
        Sensor(
            unique_id=f"{device_id}_animal_{number}_activity",
            name=f"{name} activity",
            state_topic=topic,
            value_template=_measure("activity_mm_per_s" if in_mm else "activity_px_per_s"),
            expire_after=EXPIRES_S,
            availability=_sees(box),
            availability_mode="all",
            device_class="speed" if in_mm else None,
            state_class="measurement",
            unit_of_measurement=unit,
            suggested_display_precision=1,
            icon="mdi:run",
        ),
    )
    for kind, words in ANIMAL_CONDITIONS.items():
        yield (
            f"animal_{number}_{kind.value}",
            _condition(box, device_id, f"animal_{number}_{kind.value}", f"{name} {words}", kind=kind, animal=number),
        )


def _of_box(box: str, device_id: str) -> Iterator[tuple[str, Sensor | BinarySensor]]:
    yield "alert", _condition(box, device_id, "alert", "Alert")
    for kind, words in BOX_CONDITIONS.items():
        yield kind.value, _condition(box, device_id, kind.value, words, kind=kind)
    health = topics.absolute(box, topics.HEALTH)
    yield (
        "last_frame_age",
        Sensor(
            unique_id=f"{device_id}_last_frame_age",
            name="Age of the last good frame",
            state_topic=health,
            value_template="{{ value_json.last_frame_age_s | default(none) }}",
            device_class="duration",
            state_class="measurement",
            unit_of_measurement="s",
            suggested_display_precision=0,
            entity_category="diagnostic",
        ),
    )
    yield (
        "coverage",
        Sensor(
            unique_id=f"{device_id}_coverage",
            name="Coverage of the last day",
            state_topic=health,
            value_template="{{ (100 * value_json.coverage) | round(1) if value_json.coverage is not none else none }}",
            state_class="measurement",
            unit_of_measurement="%",
            entity_category="diagnostic",
            icon="mdi:percent",
        ),
    )
    yield (
        "block",
        Sensor(
            unique_id=f"{device_id}_block",
            name="Block",
            state_topic=topics.absolute(box, topics.BLOCK),
            value_template="{{ value_json.block if value_json.state == 'open' else 'none' }}",
            entity_category="diagnostic",
            icon="mdi:record-rec",
        ),
    )


def _condition(
    box: str, device_id: str, key: str, name: str, *, kind: EventKind | None = None, animal: int | None = None
) -> BinarySensor:
    """On while such a condition is open; without a kind while any is that is more than a notice."""
    chosen = "value_json.open"
    if kind is None:
        chosen += " | rejectattr('severity', 'eq', 'notice')"
    else:
        chosen += f" | selectattr('kind', 'eq', '{kind.value}')"
    if animal is not None:
        chosen += f" | selectattr('animal', 'eq', {animal})"
    topic = topics.absolute(box, topics.ALERT)
    return BinarySensor(
        unique_id=f"{device_id}_{key}",
        name=name,
        state_topic=topic,
        value_template=f"{{{{ 'ON' if {chosen} | list else 'OFF' }}}}",
        json_attributes_topic=topic,
        json_attributes_template=f"{{{{ {{'open': {chosen} | list}} | tojson }}}}",
        device_class="problem",
    )


def _measure(name: str) -> str:
    return f"{{{{ value_json.measures.{name} | default(none) if value_json.measures else none }}}}"
