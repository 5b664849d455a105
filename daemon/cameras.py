"""From settings to a camera that can be opened again and again."""

from collections.abc import Callable

from daemon.settings import CameraSettings, ReplaySettings
from drivers.camera import ThermalCamera
from drivers.clock import Clock
from drivers.errors import ConfigError, MaterialError
from drivers.material import FalseColourScale, Reading, open_material
from drivers.replay import ReplayCamera
from drivers.simulated import SimulatedCamera, SimulatedDevice


def camera_opener(settings: CameraSettings, clock: Clock) -> Callable[[], ThermalCamera]:
    """What makes a closed camera; each call stands for one connection to the same device or material.

    Raises
    ------
    ConfigError
        If the material to be replayed is not there or not what it should be.
    """
    overrides = settings.environment.overrides()
    if settings.kind == "simulated":
        simulated = settings.simulated
        device = SimulatedDevice(seed=simulated.seed, animals=simulated.animals, warm=simulated.warm, clock=clock)
        return lambda: SimulatedCamera(device, clock=clock, overrides=overrides)
    replay = settings.replay
    path = replay.path
    if path is None:
        raise ConfigError("camera.replay.path: replay needs the path of recorded material")
    try:
        scale = false_colour_scale(replay)
        open_material(path, scale=scale, rate_hz=replay.rate_hz)
    except MaterialError as error:
        raise ConfigError(f"camera.replay: {error}") from error
    return lambda: ReplayCamera(
        path, clock=clock, loop=replay.loop, scale=scale, rate_hz=replay.rate_hz, overrides=overrides
    )


def false_colour_scale(replay: ReplaySettings) -> FalseColourScale | None:
    """How colours become degrees, if the user has said so."""
    if replay.range_celsius is None and not replay.readings:
        return None
    return FalseColourScale(
        range_celsius=replay.range_celsius,
        palette=replay.palette,
        readings=tuple(Reading(x=point.x, y=point.y, celsius=point.celsius) for point in replay.readings),
    )
