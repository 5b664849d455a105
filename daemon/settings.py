"""config.toml as frozen models: every key is documented here, once, and printed by `vivarium config --explain`."""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import time
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import tzlocal
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from daemon.default_rules import in_force
from daemon.rule import Rule
from daemon.rule_settings import MaintenanceSettings, RuleSettings, RulesSettings
from daemon.section import Section as _Section
from drivers.errors import ConfigError
from drivers.t2s_protocol import IMAGE_HEIGHT, IMAGE_WIDTH
from drivers.thermometry import EnvironmentOverrides
from drivers.vivarium.anatomy import Species
from drivers.vivarium.rhythm import MAX_RESIDENTS

MQTT_PASSWORD_VARIABLE = "VIVARIUM_MQTT_PASSWORD"

SHIPPED_MODEL = "shipped"
NO_MODEL = "off"


MOST_BYTES = 256 * 1024
"""Of a config file; the time to read nested values grows with the square of their number."""

_LONGEST_VALUE = 200

_URL_PASSWORD = re.compile(r"(://[^:/@]*):[^@/]*@")


def _known_zone(name: str) -> str:
    if name and name not in available_timezones():
        nearest = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ValueError(f"{name!r} is no IANA time zone{hint}")
    return name


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"expected printable characters, got {text[:_LONGEST_VALUE]!r}")
    return text


def _usable_path(path: Path) -> Path:
    _printable(str(path))
    try:
        path.expanduser()
    except RuntimeError:
        raise ValueError(f"there is no user {path.parts[0][1:]!r} on this machine, as {path} says") from None
    return path


def _model_choice(choice: str) -> str:
    if not choice:
        raise ValueError(f"expected {SHIPPED_MODEL}, {NO_MODEL} or the path of an ONNX file, got nothing")
    return choice if choice in (SHIPPED_MODEL, NO_MODEL) else str(_usable_path(Path(choice)))


def _clock_time(text: str) -> str:
    try:
        moment = time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected a time of day like 07:30, got {text!r}") from None
    if moment.tzinfo is not None:
        raise ValueError(f"expected a time of day without zone, got {text!r}")
    return text


Address = Annotated[str, AfterValidator(_printable)]
FilePath = Annotated[Path, AfterValidator(_usable_path)]
ModelChoice = Annotated[str, AfterValidator(_model_choice)]
ClockTime = Annotated[str, AfterValidator(_clock_time)]


class BoxSettings(_Section):
    """The machine beside the housing box."""

    name: str = Field("box1", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Name of the box: part of every MQTT topic and of every file name."""
    data_dir: FilePath = Path("var")
    """Database, recordings and state; a relative path counts from the directory of the config file."""
    time_zone: Annotated[str, AfterValidator(_known_zone)] = ""
    """IANA zone of the housing room, for instance America/Sao_Paulo; empty takes the machine's own when the config is
    read."""


class SimulatedSettings(_Section):
    """The simulated camera: animals that live in a box, sent as the bytes of a T2S+."""

    seed: int = Field(1, ge=0)
    """The same seed gives the same animals, ways, box and noise."""
    animals: int = Field(1, ge=0, le=MAX_RESIDENTS)
    """How many are in the box."""
    species: Species = Species.RAT
    """rat or mouse."""
    lights_on_utc: ClockTime = "09:00"
    """When the lights of the box go on, UTC, for twelve hours; the animals are more active in the dark."""
    warm: bool = True
    """Start as a camera that has been on for an hour; false starts cold, with power-up shutter cycles and drift."""

    @property
    def lights_on_utc_s(self) -> float:
        """The same as seconds after midnight."""
        clock = time.fromisoformat(self.lights_on_utc)
        return 3600.0 * clock.hour + 60.0 * clock.minute + clock.second


class ReadingSettings(_Section):
    """One temperature that the user reads off a false-colour picture."""

    x: float = Field(ge=0)
    """Column of the point, in pixels of the picture."""
    y: float = Field(ge=0)
    """Row of the point, in pixels of the picture."""
    celsius: float = Field(ge=-40, le=400)
    """The temperature written there."""


class ReplaySettings(_Section):
    """Recorded material in place of a camera."""

    path: FilePath | None = None
    """Recording, .npy, .npz, .csv, picture, video, or a directory of them."""
    loop: bool = True
    """Start again at the end; false ends the service when the material is over."""
    range_celsius: tuple[float, float] | None = None
    """False-colour material: temperatures of the coldest and the hottest colour of its palette."""
    readings: tuple[ReadingSettings, ...] = ()
    """False-colour material: at least two readings, in place of the range."""
    palette: str | None = None
    """False-colour material: name of its palette, where it shall not be recognised."""
    rate_hz: float = Field(25.0, ge=0.7, le=25)
    """Frames per second for material without times of its own."""


class T2SPlusSettings(_Section):
    """A T2S+ camera on USB, v1 or v2."""

    port: str = Field("", pattern=r"^(\d+-\d+(\.\d+)*)?$")
    """USB port, for instance 1-2.3, as `vivarium camera list` prints it; empty takes the only camera."""
    serial: str = ""
    """Serial number of its USB descriptors, as `vivarium camera list` prints it; empty takes any."""
    range: Literal["normal", "high"] = "normal"
    """normal measures -20 to 120 °C, high up to 400 °C with less resolution."""


class EnvironmentSettings(_Section):
    """What the host knows better than the camera; what is left out is taken from the camera."""

    emissivity: float | None = Field(None, gt=0, le=1)
    """Of what is watched; fur and skin are near 0.98."""
    reflected_celsius: float | None = Field(None, ge=-50, le=400)
    """Mean temperature of what the animals mirror, usually the room."""
    air_celsius: float | None = Field(None, ge=-50, le=400)
    """Temperature of the air between animal and camera."""
    humidity: float | None = Field(None, ge=0, le=1)
    """Relative humidity of that air, 0 to 1."""
    distance_m: float | None = Field(None, ge=0, le=20)
    """Distance from lens to animal."""
    correction_celsius: float | None = Field(None, ge=-20, le=20)
    """Added to every reading, from a comparison with a surface of known temperature."""

    def overrides(self) -> EnvironmentOverrides:
        """As the drivers take it."""
        return EnvironmentOverrides(**self.model_dump())


class CameraSettings(_Section):
    """Where frames come from."""

    kind: Literal["simulated", "replay", "t2s_plus"] = "simulated"
    """simulated needs no hardware; replay plays recorded material; t2s_plus is the real camera."""
    frame_timeout_s: float = Field(2.0, gt=0.1, le=30)
    """Without a good frame for so long the camera counts as lost and is opened anew; a picture that only repeats is
    given five seconds, since a closed shutter looks the same."""
    retry_max_s: float = Field(5.0, ge=1, le=300)
    """Longest pause between two attempts to open lost material; a real camera is opened as soon as it is plugged in."""
    recalibrate_after_s: float = Field(380.0, ge=15, le=3600)
    """Age of a shutter calibration after which the next one is asked for."""
    simulated: SimulatedSettings = SimulatedSettings()
    replay: ReplaySettings = ReplaySettings()
    t2s_plus: T2SPlusSettings = T2SPlusSettings()
    environment: EnvironmentSettings = EnvironmentSettings()

    @model_validator(mode="after")
    def _replay_needs_a_path(self) -> "CameraSettings":
        if self.kind == "replay" and self.replay.path is None:
            raise ValueError("kind = 'replay' needs camera.replay.path")
        return self


DEFAULT_STRATA: dict[str, tuple[str, ...]] = {
    "night": ("00:30", "03:00"),
    "morning": ("07:00", "09:30"),
    "afternoon": ("13:00", "15:30"),
    "evening": ("19:00", "22:00"),
}


class ScheduleSettings(_Section):
    """Which minutes of a day are sampled."""

    times: Literal["local", "zeitgeber"] = "local"
    """Whether the times below are local clock time or zeitgeber time (ZT0 = lights on)."""
    lights_on: ClockTime = "07:00"
    """Local clock time of ZT0."""
    light_hours: float = Field(12.0, ge=0, le=24)
    """How long the lights are on; tells day from night in measures of the rhythm."""
    block_minutes: float = Field(30.0, gt=0, le=1440)
    """Length of a block."""
    rate_hz: float = Field(1.0, gt=0, le=25)
    """Frames per second sampled in a block."""
    strata: dict[str, tuple[ClockTime, ...]] = Field(default_factory=lambda: dict(DEFAULT_STRATA))
    """Start times of the blocks by the name of their stratum."""


class AnimalSettings(_Section):
    """One animal of the box; its number is its place among these tables, from 1."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64)
    """How people call it."""
    sex: Literal["female", "male"] | None = None
    """Its sex; left out where nobody has told."""
    weight_g: float | None = Field(None, gt=0, le=5000)
    """What it weighs."""
    marks: Address = ""
    """What people know it by."""


class MeasureSettings(_Section):
    """From degrees to positions and temperatures."""

    outside_rate_hz: float = Field(0.2, ge=0, le=25)
    """Frames per second measured outside blocks, for alerts; 0 measures in blocks only."""
    animals: int = Field(1, ge=1, le=6)
    """How many animals live in the box: never more are reported; with [[animal]] tables, their number."""
    mm_per_px: float | None = Field(None, gt=0, le=10)
    """Size of a pixel at the animals' distance; without it positions are in pixels only."""
    min_area_px: int = Field(150, ge=10)
    """Smaller warm areas are no animals."""


class VisionSettings(_Section):
    """The networks that find the animals; without them they are found by their warmth alone."""

    unet: ModelChoice = SHIPPED_MODEL
    """The network for parts: shipped (the package's own), off, or the path of an ONNX file."""
    panoptic: ModelChoice = SHIPPED_MODEL
    """The network that tells touching animals apart: shipped, off, or the path of an ONNX file."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """auto and cuda use an NVIDIA GPU where there is one, and the CPU where not; with cuda that is a warning."""
    threads: int = Field(0, ge=0, le=64)
    """CPU threads of each network; 0 shares the cores between them, at most four, and leaves one of three or more."""


class RecordingSettings(_Section):
    """Lossless raw recordings of the sampled frames."""

    enabled: bool = True
    """Whether blocks are recorded."""


class DiskSettings(_Section):
    """How much of the disk is used, and what gives way: docs/disk.md has the order. A GB is 1,000,000,000 bytes."""

    min_free_gb: float = Field(2.0, gt=0, le=100_000)
    """Below this recordings give way, the oldest first; on a small disk a quarter of it counts."""
    budget_gb: float | None = Field(None, gt=0, le=1_000_000)
    """Recordings take no more than this, pinned ones included; left out, what the disk has."""
    keep_days: int | None = Field(None, ge=1, le=36_500)
    """Recordings of days before that give way even if there is room; left out, they are kept as long as there is."""
    ballast_mb: int = Field(64, ge=0, le=10_000)
    """A file that is given up when the disk is full, so that database and sidecars can go on; 0 for none."""


class DatabaseSettings(_Section):
    """Where measurements go."""

    url: Address = ""
    """SQLAlchemy URL; empty is vivarium.db in the data directory."""
    commit_interval_s: float = Field(0.2, gt=0, le=5)
    """Measurements are committed together at this interval."""


class MqttSettings(_Section):
    """The way to other programs."""

    enabled: bool = True
    """Whether to publish at all; the service is whole without."""
    broker: Literal["embedded", "external"] = "embedded"
    """embedded starts a small broker inside the service; use external with Mosquitto in production."""
    host: Address = "127.0.0.1"
    """Address of the broker (embedded: address to listen on)."""
    port: int = Field(1883, ge=1, le=65535)
    """Port of the broker."""
    username: str | None = None
    """User name; the password is taken from the environment variable VIVARIUM_MQTT_PASSWORD, or from the credential
    mqtt_password of the installed service."""
    tls: bool = False
    """Whether to use TLS."""
    ca_file: FilePath | None = None
    """Certificate authority that signed the broker's certificate; the system's when left out."""
    certificate_file: FilePath | None = None
    """Client certificate."""
    key_file: FilePath | None = None
    """Key of the client certificate."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """auto speaks MQTT 5 and falls back to 3.1.1 with a broker that does not know it."""
    keep_alive_s: int = Field(20, ge=5, le=600)
    """A silent connection is given up after one and a half times so long."""
    outbox_limit: int = Field(100_000, ge=100)
    """Events kept for a broker that is away; the oldest of the lowest priority give way, counted."""
    commands: bool = True
    """Whether to take commands: whoever may publish below vivarium/<box>/command/ can close the shutter, record, change
    thresholds for a while and have this file read again."""
    home_assistant: bool = True
    """Whether to announce the box to Home Assistant, as one device."""
    discovery_prefix: str = Field("homeassistant", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """The topic that Home Assistant looks below, as it is set up there."""


class LimitSettings(_Section):
    """A threshold with the patience it needs."""

    celsius: float = Field(ge=-20, le=120)
    """The threshold."""
    hysteresis_celsius: float = Field(0.3, ge=0, le=10)
    """How far back the value must come before the alert closes."""
    duration_s: float = Field(60.0, ge=0, le=86_400)
    """How long the value must stay beyond the threshold."""


class TooHotSettings(LimitSettings):
    """When an animal is too hot: by the 95th percentile of head or body, whichever is warmer."""

    celsius: float = Field(39.0, ge=-20, le=120)
    """Above this."""


class TooColdSettings(LimitSettings):
    """When an animal is too cold: by the 95th percentile of head or body, whichever is warmer."""

    celsius: float = Field(26.0, ge=-20, le=120)
    """Below this."""


Coordinates = tuple[tuple[float, float], ...]


def _polygon(points: Coordinates) -> Coordinates:
    if len(points) < 3:
        raise ValueError(f"expected at least three corners [x, y], got {len(points)}")
    for x, y in points:
        if not (0 <= x <= IMAGE_WIDTH - 1 and 0 <= y <= IMAGE_HEIGHT - 1):
            raise ValueError(f"expected corners from [0, 0] to [{IMAGE_WIDTH - 1}, {IMAGE_HEIGHT - 1}], got [{x}, {y}]")
    twice_area = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(points, (*points[1:], points[0]), strict=True))
    if twice_area == 0:
        raise ValueError("expected corners around an area, got a line")
    return points


PolygonSetting = Annotated[Coordinates, AfterValidator(_polygon)]


class ZoneSettings(_Section):
    """A part of the box that is watched: time in it, entries, latency; its polygon is in pixels of the camera."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    """Small letters, digits and _: part of the names of its measures, as in zone_NAME_share."""
    kind: Literal["nest", "food", "water", "other"] = "other"
    """food and water are entered by the nose, the others by the trunk; of a nest the warmth is measured."""
    polygon: PolygonSetting
    """Corners [x, y] in pixels, x from 0 to 255, y down from 0 to 191."""


class ReferenceSettings(_Section):
    """A patch of known temperature in the picture; it takes the camera's drift out of every degree."""

    polygon: PolygonSetting
    """Corners [x, y] in pixels, well inside the patch; matt, and not where animals lie."""
    celsius: float | None = Field(None, ge=-20, le=120)
    """Its temperature, where that is fixed; otherwise give topic."""
    topic: str | None = Field(None, min_length=1, max_length=200, pattern=r"^[^#+\x00]+$")
    """MQTT topic on which a contact probe publishes its temperature: a number, or JSON with temperature or value."""
    uncertainty_celsius: float = Field(0.3, gt=0, le=5)
    """Standard uncertainty of that temperature."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "ReferenceSettings":
        if (self.celsius is None) == (self.topic is None):
            raise ValueError("a reference needs either celsius or topic")
        return self


class AlertSettings(_Section):
    """When somebody is told."""

    too_hot: TooHotSettings = TooHotSettings()
    too_cold: TooColdSettings = TooColdSettings()
    not_seen_after_s: float = Field(300.0, ge=1, le=86_400)
    """An animal that no good frame has shown for so long."""


_FRAME_RULES = {
    "animal_too_hot": "too_hot",
    "animal_too_cold": "too_cold",
    "animal_not_seen": "not_seen_after_s",
}
"""Rules that are judged on each frame, and their keys in `[alerts]`."""

_KEYS_OF_FRAME_RULES = {"name", "value", "hysteresis", "for_minutes"}


def with_frame_rules(alerts: AlertSettings, rules: Iterable[RuleSettings]) -> AlertSettings:
    """The settings of what is judged on each frame, with what `[[rule]]` says of it.

    Raises
    ------
    ValueError
        If both say something of the same, or a rule has keys that do not apply to each frame.
    """
    changed: dict[str, object] = {}
    for rule in rules:
        key = _FRAME_RULES.get(rule.name)
        if key is None:
            continue
        given = rule.model_fields_set - {"name"}
        allowed = {"for_minutes"} if key == "not_seen_after_s" else _KEYS_OF_FRAME_RULES
        if wrong := sorted(given - allowed):
            raise ValueError(
                f"rule {rule.name} is judged on each frame and takes {', '.join(sorted(allowed - {'name'}))} only, "
                f"got {', '.join(wrong)}"
            )
        if key in alerts.model_fields_set or key in changed:
            raise ValueError(f"rule {rule.name} and alerts.{key} say the same: leave alerts.{key} out")
        minutes = rule.for_minutes
        if key == "not_seen_after_s":
            changed[key] = alerts.not_seen_after_s if minutes is None else minutes * 60
            continue
        new = {"celsius": rule.value, "hysteresis_celsius": rule.hysteresis}
        new["duration_s"] = None if minutes is None else minutes * 60
        changed[key] = getattr(alerts, key).model_dump() | {
            name: value for name, value in new.items() if value is not None
        }
    return AlertSettings.model_validate(alerts.model_dump() | changed) if changed else alerts


class WebSettings(_Section):
    """The status page."""

    enabled: bool = True
    """Whether to serve it."""
    host: Address = "127.0.0.1"
    """Address to listen on; 0.0.0.0 makes it reachable from other machines."""
    port: int = Field(8080, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    commands: bool = True
    """Whether who opens the page may acknowledge events and begin maintenance."""


class LogSettings(_Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe lines that are written."""
    format: Literal["text", "json"] = "text"
    """json writes one object a line."""


class Settings(_Section):
    """The whole of config.toml."""

    animal: tuple[AnimalSettings, ...] = Field((), max_length=6)
    """Those that live in the box, up to 6; without any, measure.animals says how many there are."""
    box: BoxSettings = BoxSettings()
    camera: CameraSettings = CameraSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    measure: MeasureSettings = MeasureSettings()
    vision: VisionSettings = VisionSettings()
    recording: RecordingSettings = RecordingSettings()
    disk: DiskSettings = DiskSettings()
    database: DatabaseSettings = DatabaseSettings()
    mqtt: MqttSettings = MqttSettings()
    zones: tuple[ZoneSettings, ...] = Field((), alias="zone")
    """Parts of the box; none by default."""
    reference: tuple[ReferenceSettings, ...] = ()
    """Patches of known temperature; none by default."""
    alerts: AlertSettings = AlertSettings()
    rules: RulesSettings = RulesSettings()
    rule: tuple[RuleSettings, ...] = ()
    """Rules, or changes to those that are shipped: docs/rules.md."""
    maintenance: tuple[MaintenanceSettings, ...] = ()
    """Work at the cage at fixed times, in which no rule is judged and no measure counts."""
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()

    @field_validator("zones")
    @classmethod
    def _zones_have_names_of_their_own(cls, zones: tuple[ZoneSettings, ...]) -> tuple[ZoneSettings, ...]:
        names = [each.name for each in zones]
        if len(set(names)) != len(names):
            raise ValueError(f"each zone needs a name of its own, got {', '.join(names)}")
        return zones

    @field_validator("animal")
    @classmethod
    def _animals_have_names_of_their_own(cls, animals: tuple[AnimalSettings, ...]) -> tuple[AnimalSettings, ...]:
        names = [each.name for each in animals]
        if len(set(names)) != len(names):
            raise ValueError(f"each animal needs a name of its own, got {', '.join(names)}")
        return animals

    @model_validator(mode="after")
    def _animals_are_counted_once(self) -> "Settings":
        counted = "animals" in self.measure.model_fields_set
        if self.animal and counted and len(self.animal) != self.measure.animals:
            raise ValueError(
                f"measure.animals says {self.measure.animals}, but there are {len(self.animal)} [[animal]] tables: "
                "leave measure.animals out"
            )
        return self

    @property
    def animal_count(self) -> int:
        """How many animals live in the box."""
        return len(self.animal) or self.measure.animals

    @property
    def animal_names(self) -> dict[int, str]:
        """Names of the animals by their numbers; empty where the config has none."""
        return {number: each.name for number, each in enumerate(self.animal, start=1)}

    def resolved(self, directory: Path) -> "Settings":
        """The same as it holds on this machine now: relative paths count from `directory`, the zone has a name.

        Raises
        ------
        ConfigError
            If the machine does not say which time zone it is in.
        """

        def absolute(path: Path | None) -> Path | None:
            return None if path is None else directory / path.expanduser()

        def model(choice: str) -> str:
            return choice if choice in (SHIPPED_MODEL, NO_MODEL) else str(absolute(Path(choice)))

        return self.model_copy(
            update={
                "vision": self.vision.model_copy(
                    update={name: model(getattr(self.vision, name)) for name in ("unet", "panoptic")}
                ),
                "box": self.box.model_copy(
                    update={
                        "data_dir": absolute(self.box.data_dir),
                        "time_zone": self.box.time_zone or machine_zone_name(),
                    }
                ),
                "database": self.database.model_copy(update={"url": _absolute_url(self.database.url, directory)}),
                "camera": self.camera.model_copy(
                    update={"replay": self.camera.replay.model_copy(update={"path": absolute(self.camera.replay.path)})}
                ),
                "mqtt": self.mqtt.model_copy(
                    update={
                        name: absolute(getattr(self.mqtt, name)) for name in ("ca_file", "certificate_file", "key_file")
                    }
                ),
            }
        )

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the housing room."""
        return ZoneInfo(self.box.time_zone or machine_zone_name())

    @property
    def database_url(self) -> str:
        """The configured database, or the file in the data directory."""
        return self.database.url or f"sqlite:///{self.box.data_dir / 'vivarium.db'}"

    @property
    def camera_dir(self) -> Path:
        """Where what belongs to a real camera is kept."""
        return self.box.data_dir / "camera"

    @property
    def recordings_dir(self) -> Path:
        """Where recordings are."""
        return self.box.data_dir / "recordings"

    @property
    def frame_alerts(self) -> AlertSettings:
        """What is judged on each frame: `[alerts]`, or the rule of the same meaning where there is one."""
        return with_frame_rules(self.alerts, self.rule)

    def minute_rules(self) -> tuple[Rule, ...]:
        """The rules over minute values that are in force in this box.

        Raises
        ------
        ConfigError
            If one is not complete; checked when the settings are made.
        """
        return in_force(
            self.rule,
            defaults=self.rules.defaults,
            zones=[zone.name for zone in self.zones],
            mm_per_px=self.measure.mm_per_px,
        )

    @model_validator(mode="after")
    def _rules_are_complete(self) -> "Settings":
        with_frame_rules(self.alerts, self.rule)
        try:
            self.minute_rules()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def to_json(self) -> str:
        """All values but the password in the database's URL, also those that were left out, with sorted keys."""
        values = self.model_dump(mode="json")
        values["database"]["url"] = _URL_PASSWORD.sub(r"\1:***@", values["database"]["url"])
        return json.dumps(values, sort_keys=True)

    def config_hash(self) -> str:
        """SHA-256 of `to_json`: two runs with the same hash were set up alike."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def machine_zone_name() -> str:
    """IANA name of the zone that this machine is set to, as it is now.

    Raises
    ------
    ConfigError
        If the machine does not say, or says two things.
    """
    try:
        tzlocal.reload_localzone()
        return ZoneInfo(tzlocal.get_localzone_name()).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"box.time_zone: the machine's own zone is not known ({error}); set it here, for instance Europe/Berlin"
        ) from error


def _absolute_url(url: str, directory: Path) -> str:
    """A SQLite URL with its path counted from the directory; any other as it is."""
    prefix, path = "sqlite:///", url.removeprefix("sqlite:///")
    return f"{prefix}{directory / path}" if url.startswith(prefix) and path not in ("", ":memory:") else url


def load_settings(path: Path) -> Settings:
    """Read config.toml.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no TOML, or holds a key or value that is refused; it names every one of them.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `vivarium config --example > {path}` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{path}: expected a config of at most {MOST_BYTES} bytes, got more: is it another file?")
    return parse_settings(text, origin=str(path)).resolved(path.resolve().parent)


def parse_settings(text: str, *, origin: str) -> Settings:
    """The settings in a TOML text; `origin` stands in the messages of errors.

    Raises
    ------
    ConfigError
        See `load_settings`.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a ValueError of its own, or of int() for thousands of digits
        raise ConfigError(f"{origin}: not valid TOML: {error}") from error
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        problems = [_problem(details["loc"], details) for details in error.errors()]
        raise ConfigError(f"{origin}:\n  " + "\n  ".join(problems)) from error
    return settings


def _problem(location: tuple[int | str, ...], details: Mapping[str, Any]) -> str:
    key = ".".join(str(step) for step in location) or "the whole file"
    if details["type"] != "extra_forbidden":
        came = "" if details["type"] in ("missing", "value_error") else f", got {_shorten(details['input'])}"
        return f"{key}: {details['msg'].removeprefix('Value error, ')}{came}"
    known = _known_keys(location[:-1])
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known here: {', '.join(sorted(known))}"
    return f"{key}: unknown key; {hint}"


def _shorten(value: object) -> str:
    """A value as it stands in a message: never longer than a few lines."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}... ({len(text)} characters)"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Settings
    for step in location:
        if isinstance(step, int):
            continue
        found = _section_of(_fields(model)[step].annotation)
        if found is None:
            return []
        model = found
    return list(_fields(model))


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by the name of their key."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section_of(inner))), None)


def _is_list(annotation: Any) -> bool:
    """Whether there may be several, and not just one or none."""
    return get_origin(annotation) is tuple or any(map(_is_list, get_args(annotation)))


class KeyDescription(BaseModel):
    """One key of config.toml, for `vivarium config --explain`."""

    model_config = ConfigDict(frozen=True)

    key: str
    kind: str
    default: str
    description: str


def describe_keys() -> Iterator[KeyDescription]:
    """Every key of config.toml with its type, default and meaning, in the order of the models."""
    yield from _describe(Settings, "")


def _describe(model: type[BaseModel], prefix: str) -> Iterator[KeyDescription]:
    for name, field in _fields(model).items():
        key = f"{prefix}{name}"
        section = _section_of(field.annotation)
        if section is not None:
            many = _is_list(field.annotation)
            yield KeyDescription(
                key=f"[[{key}]]" if many else f"[{key}]",
                kind="list of tables" if many else "table",
                default="",
                description=_meaning(field) or (section.__doc__ or "").strip(),
            )
            yield from _describe(section, f"{key}.")
            continue
        default = field.get_default(call_default_factory=True)
        yield KeyDescription(
            key=key,
            kind=_kind(field.annotation),
            default="required" if field.is_required() else json.dumps(default, default=str),
            description=_meaning(field),
        )


def _meaning(field: FieldInfo) -> str:
    """What a key means, on one line."""
    return " ".join((field.description or "").split())


def _kind(annotation: Any) -> str:
    """What may stand there, as it is written in Python; bounds and patterns are left out."""
    inner = get_args(annotation)
    match get_origin(annotation):
        case None:
            return {NoneType: "None", Ellipsis: "..."}.get(annotation) or str(annotation.__name__)
        case origin if origin is Annotated:
            return _kind(inner[0])
        case origin if origin is Literal:
            return f"Literal[{', '.join(map(repr, inner))}]"
        case origin if origin in (Union, UnionType):
            return " | ".join(map(_kind, inner))
        case origin:
            return f"{origin.__name__}[{', '.join(map(_kind, inner))}]"


def example_toml() -> str:
    """A config file with every key at its default, each with its meaning; optional keys are commented out."""
    lines = ["# Strong Vivarium: every key with its default. A key that is left out has the same effect."]
    _example(Settings, "", lines)
    return "\n".join(lines) + "\n"


def _example(model: type[BaseModel], prefix: str, lines: list[str]) -> None:
    sections: list[tuple[str, type[BaseModel]]] = []
    for name, field in _fields(model).items():
        section = _section_of(field.annotation)
        if section is not None and not get_args(field.annotation):
            sections.append((name, section))
            continue
        description = _meaning(field)
        default = field.get_default(call_default_factory=True)
        if section is not None:
            keys = ", ".join(f"{key} = ..." for key in _fields(section))
            lines.append(f"# {name} = [{{ {keys} }}]  # {description}")
        elif field.is_required() or default is None:
            lines.append(f"# {name} =  # {description}")
        else:
            lines.append(f"{name} = {_toml_value(default)}  # {description}")
    for name, section in sections:
        key = f"{prefix}{name}"
        lines += ["", f"# {(section.__doc__ or '').strip()}", f"[{key}]"]
        _example(section, f"{key}.", lines)


def _toml_value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, default=str)
