"""config.toml as frozen models: every key is documented here, once, and printed by `vivarium config --explain`."""

import difflib
import hashlib
import os
import tomllib
from collections.abc import Iterator, Mapping
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from drivers.errors import ConfigError
from drivers.thermometry import EnvironmentOverrides

MQTT_PASSWORD_VARIABLE = "VIVARIUM_MQTT_PASSWORD"  # noqa: S105 - the name of a variable, not a password


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def _known_zone(name: str) -> str:
    if name and name not in available_timezones():
        nearest = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ValueError(f"{name!r} is no IANA time zone{hint}")
    return name


class BoxSettings(_Section):
    """The machine beside the housing box."""

    name: str = Field("box1", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Name of the box: part of every MQTT topic and of every file name."""
    data_dir: Path = Path("var")
    """Database, recordings and state; a relative path counts from the directory of the config file."""
    time_zone: Annotated[str, AfterValidator(_known_zone)] = ""
    """IANA zone of the housing room, for instance America/Sao_Paulo; empty takes the machine's own."""


class SimulatedSettings(_Section):
    """The simulated camera: one rat in a box, sent as the bytes of a T2S+."""

    seed: int = Field(1, ge=0)
    """The same seed gives the same rat, box and noise."""
    animals: int = Field(1, ge=0, le=1)
    """How many rats are in the box."""
    warm: bool = True
    """Start as a camera that has been on for an hour; false starts cold, with power-up shutter cycles and drift."""


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

    path: Path | None = None
    """Recording, .npy, .npz, .csv, picture, video, or a directory of them."""
    loop: bool = True
    """Start again at the end; false ends the service when the material is over."""
    range_celsius: tuple[float, float] | None = None
    """False-colour material: temperatures of the coldest and the hottest colour of its palette."""
    readings: tuple[ReadingSettings, ...] = ()
    """False-colour material: at least two readings, in place of the range."""
    rate_hz: float = Field(25.0, gt=0, le=25)
    """Frames per second for material without times of its own."""


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

    kind: Literal["simulated", "replay"] = "simulated"
    """simulated needs no hardware; replay plays recorded material."""
    frame_timeout_s: float = Field(2.0, gt=0.1, le=30)
    """Without a good, changing frame for so long the camera counts as lost and is opened anew."""
    retry_max_s: float = Field(30.0, ge=1, le=300)
    """Longest pause between two attempts to open a lost camera."""
    recalibrate_after_s: float = Field(380.0, ge=15, le=3600)
    """Age of a shutter calibration after which the next one is asked for."""
    simulated: SimulatedSettings = SimulatedSettings()
    replay: ReplaySettings = ReplaySettings()
    environment: EnvironmentSettings = EnvironmentSettings()

    @model_validator(mode="after")
    def _replay_needs_a_path(self) -> "CameraSettings":
        if self.kind == "replay" and self.replay.path is None:
            raise ValueError("kind = 'replay' needs camera.replay.path")
        return self


def _clock_time(text: str) -> str:
    try:
        moment = time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected a time of day like 07:30, got {text!r}") from None
    if moment.tzinfo is not None:
        raise ValueError(f"expected a time of day without zone, got {text!r}")
    return text


ClockTime = Annotated[str, AfterValidator(_clock_time)]

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
    block_minutes: float = Field(30.0, gt=0, le=1440)
    """Length of a block."""
    rate_hz: float = Field(1.0, gt=0, le=25)
    """Frames per second sampled in a block."""
    strata: dict[str, tuple[ClockTime, ...]] = Field(default_factory=lambda: dict(DEFAULT_STRATA))
    """Start times of the blocks by the name of their stratum."""


class MeasureSettings(_Section):
    """From degrees to positions and temperatures."""

    outside_rate_hz: float = Field(0.2, ge=0, le=25)
    """Frames per second measured outside blocks, for alerts; 0 measures in blocks only."""
    animals: int = Field(1, ge=1, le=6)
    """How many animals live in the box: never more are reported."""
    mm_per_px: float | None = Field(None, gt=0, le=10)
    """Size of a pixel at the animals' distance; without it positions are in pixels only."""
    min_area_px: int = Field(150, ge=10)
    """Smaller warm areas are no animals."""


class RecordingSettings(_Section):
    """Lossless raw recordings of the sampled frames."""

    enabled: bool = True
    """Whether blocks are recorded."""


class DatabaseSettings(_Section):
    """Where measurements go."""

    url: str = ""
    """SQLAlchemy URL; empty is vivarium.db in the data directory."""
    commit_interval_s: float = Field(0.2, gt=0, le=5)
    """Measurements are committed together at this interval."""


class MqttSettings(_Section):
    """The way to other programs."""

    enabled: bool = True
    """Whether to publish at all; the service is whole without."""
    broker: Literal["embedded", "external"] = "embedded"
    """embedded starts a small broker inside the service; use external with Mosquitto in production."""
    host: str = "127.0.0.1"
    """Address of the broker (embedded: address to listen on)."""
    port: int = Field(1883, ge=1, le=65535)
    """Port of the broker."""
    username: str | None = None
    """User name; the password is taken from the environment variable VIVARIUM_MQTT_PASSWORD."""
    tls: bool = False
    """Whether to use TLS."""
    ca_file: Path | None = None
    """Certificate authority that signed the broker's certificate; the system's when left out."""
    certificate_file: Path | None = None
    """Client certificate."""
    key_file: Path | None = None
    """Key of the client certificate."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """auto speaks MQTT 5 and falls back to 3.1.1 with a broker that does not know it."""
    keep_alive_s: int = Field(20, ge=5, le=600)
    """A silent connection is given up after one and a half times so long."""
    outbox_limit: int = Field(100_000, ge=100)
    """Events kept for a broker that is away; the oldest of the lowest priority give way, counted."""


class LimitSettings(_Section):
    """A threshold with the patience it needs."""

    celsius: float = Field(ge=-20, le=120)
    """The threshold."""
    hysteresis_celsius: float = Field(0.3, ge=0, le=10)
    """How far back the value must come before the alert closes."""
    duration_s: float = Field(60.0, ge=0, le=86_400)
    """How long the value must stay beyond the threshold."""


class AlertSettings(_Section):
    """When somebody is told."""

    too_hot: LimitSettings = LimitSettings(celsius=39.0)
    """95th percentile of head and body above this."""
    too_cold: LimitSettings = LimitSettings(celsius=26.0)
    """95th percentile of head and body below this."""
    not_seen_after_s: float = Field(300.0, ge=1, le=86_400)
    """An animal that no good frame has shown for so long."""


class WebSettings(_Section):
    """The status page."""

    enabled: bool = True
    """Whether to serve it."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 makes it reachable from other machines."""
    port: int = Field(8080, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""


class LogSettings(_Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe lines that are written."""
    format: Literal["text", "json"] = "text"
    """json writes one object a line."""


class Settings(_Section):
    """The whole of config.toml."""

    box: BoxSettings = BoxSettings()
    camera: CameraSettings = CameraSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    measure: MeasureSettings = MeasureSettings()
    recording: RecordingSettings = RecordingSettings()
    database: DatabaseSettings = DatabaseSettings()
    mqtt: MqttSettings = MqttSettings()
    alerts: AlertSettings = AlertSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
