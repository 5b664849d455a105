"""config.toml as frozen models: every key is documented here, once, and printed by `vivarium config --explain`.

Tables with much in them have modules of their own; all are to be had from here.
"""

import difflib
import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import tzlocal
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from daemon.alert_settings import AlertSettings, LimitSettings, TooColdSettings, TooHotSettings, with_frame_rules
from daemon.camera_settings import CameraSettings, EnvironmentSettings, ReadingSettings, ReplaySettings, T2SPlusSettings
from daemon.config_problem import in_words
from daemon.default_rules import in_force
from daemon.event_rules import EventRule, event_rules
from daemon.events import EventKind
from daemon.mqtt_settings import MqttSettings
from daemon.place_settings import ReferenceSettings, ZoneSettings
from daemon.rule import Rule
from daemon.rule_settings import MaintenanceSettings, RuleSettings, RulesSettings
from daemon.schedule_settings import ScheduleSettings
from daemon.section import Section as _Section
from daemon.setting_kinds import NO_MODEL, SHIPPED_MODEL, Address, FilePath, ModelChoice, written_as
from drivers.errors import ConfigError

__all__ = (
    "MOST_BYTES",
    "MQTT_PASSWORD_VARIABLE",
    "NOBODY",
    "NO_MODEL",
    "SHIPPED_MODEL",
    "AlertSettings",
    "AnimalSettings",
    "BoxSettings",
    "CameraSettings",
    "DatabaseSettings",
    "DiskSettings",
    "EnvironmentSettings",
    "LimitSettings",
    "LogSettings",
    "MeasureSettings",
    "MqttSettings",
    "ReadingSettings",
    "RecordingSettings",
    "ReferenceSettings",
    "ReplaySettings",
    "ScheduleSettings",
    "Settings",
    "T2SPlusSettings",
    "TooColdSettings",
    "TooHotSettings",
    "VisionSettings",
    "WebSettings",
    "ZoneSettings",
    "load_settings",
    "machine_zone_name",
    "parse_settings",
)

MQTT_PASSWORD_VARIABLE = "VIVARIUM_MQTT_PASSWORD"


NOBODY = "unknown"
"""In place of an animal's name: it is not known who it is."""

MOST_BYTES = 256 * 1024
"""Of a config file; the time to read nested values grows with the square of their number."""

_URL_PASSWORD = re.compile(r"(://[^:/@]*):[^@/]*@")


_Word = Annotated[str, written_as(r"[A-Za-z0-9_-]{1,64}", "1 to 64 letters (A to Z), digits, _ and -")]


def _known_zone(name: str) -> str:
    if name and name not in available_timezones():
        nearest = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ValueError(f"{name!r} is no IANA time zone{hint}")
    return name


class BoxSettings(_Section):
    """The machine beside the housing box."""

    name: _Word = "box1"
    """Name of the box: part of every MQTT topic and of every file name."""
    data_dir: FilePath = Path("var")
    """Database, recordings and state; a relative path counts from the directory of the config file."""
    time_zone: Annotated[str, AfterValidator(_known_zone)] = ""
    """IANA zone of the housing room, for instance America/Sao_Paulo; empty takes the machine's own when the config is
    read."""


class AnimalSettings(_Section):
    """One animal of the box; its number is its place among these tables, from 1."""

    name: _Word
    """How people call it."""
    sex: Literal["female", "male"] | None = None
    """Its sex; left out where nobody has told."""
    weight_g: float | None = Field(None, ge=1, le=5000)
    """What it weighs, in grams."""
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

    @property
    def outside_interval_s(self) -> float:
        """Time between two frames outside blocks; 0 where there are none."""
        return 1 / self.outside_rate_hz if self.outside_rate_hz else 0.0


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
        others = {str(number): number for number in range(1, len(animals) + 1)}
        for number, name in enumerate(names, start=1):
            if others.get(name, number) != number:
                raise ValueError(f"animal {number} is called {name!r}, which is the number of another; rename it")
            if name == NOBODY:
                raise ValueError(
                    f"animal {number} is called {name!r}, which says that nobody knows who it is; rename it"
                )
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

    @property
    def event_rules(self) -> dict[EventKind, EventRule]:
        """How soon somebody should look at events that no rule of minutes tells."""
        return event_rules(self.rule)

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
        event_rules(self.rule)
        with_frame_rules(self.alerts, self.rule)
        try:
            self.minute_rules()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def to_json(self) -> str:
        """All values but the password in the database's URL, also those that were left out, with sorted keys."""
        return json.dumps(_without_password(self.model_dump(mode="json")), sort_keys=True)

    def printed(self) -> str:
        """What is in force, for people: by the keys of the config file, without the password in the database's URL."""
        values = _without_password(self.model_dump(mode="json", by_alias=True))
        values["measure"]["animals"] = self.animal_count
        return json.dumps(values, indent=2, ensure_ascii=False)

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


def _without_password(values: dict[str, Any]) -> dict[str, Any]:
    values["database"]["url"] = _URL_PASSWORD.sub(r"\1:***@", values["database"]["url"])
    return values


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
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `vivarium config --example > {path}` writes one") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{path}: expected a config of at most {MOST_BYTES} bytes, got more: is it another file?")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}: line {line}: expected UTF-8, got the byte 0x{data[error.start]:02x}; save the file as UTF-8"
        ) from error
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
        problems = [in_words(details, Settings) for details in error.errors()]
        raise ConfigError(f"{origin}:\n  " + "\n  ".join(problems)) from error
    return settings
