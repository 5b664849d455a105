"""`[camera]` of the config."""

from datetime import time
from typing import Literal

from pydantic import Field, model_validator

from daemon.section import Section
from daemon.setting_kinds import ClockTime, FilePath
from drivers.thermometry import EnvironmentOverrides
from drivers.vivarium.anatomy import Species
from drivers.vivarium.rhythm import MAX_RESIDENTS


class SimulatedSettings(Section):
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


class ReadingSettings(Section):
    """One temperature that the user reads off a false-colour picture."""

    x: float = Field(ge=0)
    """Column of the point, in pixels of the picture."""
    y: float = Field(ge=0)
    """Row of the point, in pixels of the picture."""
    celsius: float = Field(ge=-40, le=400)
    """The temperature written there."""


class ReplaySettings(Section):
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


class T2SPlusSettings(Section):
    """A T2S+ camera on USB, v1 or v2."""

    port: str = Field("", pattern=r"^(\d+-\d+(\.\d+)*)?$")
    """USB port, for instance 1-2.3, as `vivarium camera list` prints it; empty takes the only camera."""
    serial: str = ""
    """Serial number of its USB descriptors, as `vivarium camera list` prints it; empty takes any."""
    range: Literal["normal", "high"] = "normal"
    """normal measures -20 to 120 °C, high up to 400 °C with less resolution."""


class EnvironmentSettings(Section):
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


class CameraSettings(Section):
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
