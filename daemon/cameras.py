"""From settings to a camera that can be opened again and again."""

from collections.abc import Callable

from drivers.material import FalseColourScale, Reading
from drivers.replay import ReplayCamera

from daemon.settings import CameraSettings, ReplaySettings
from drivers.camera import ThermalCamera
from drivers.clock import Clock
from drivers.errors import ConfigError
from drivers.simulated import SimulatedCamera, SimulatedDevice


def camera_opener(settings: CameraSettings, clock: Clock) -> Callable[[], ThermalCamera]:
    """What makes a closed camera; each call stands for one connection to the same device or material."""
    overrides = settings.environment.overrides()
    if settings.kind == "simulated":
        simulated = settings.simulated
        device = SimulatedDevice(seed=simulated.seed, animals=simulated.animals, warm=simulated.warm, clock=clock)
        return lambda: SimulatedCamera(device, clock=clock, overrides=overrides)
    replay = settings.replay
    path = replay.path
    if path is None:
        raise ConfigError("camera.replay.path: replay needs the path of recorded material")
    scale = false_colour_scale(replay)
    return lambda: ReplayCamera(
        path, clock=clock, loop=replay.loop, scale=scale, rate_hz=replay.rate_hz, overrides=overrides
    )


def false_colour_scale(replay: ReplaySettings) -> FalseColourScale | None:
    """How colours become degrees, if the user has said so."""
    if replay.range_celsius is None and not replay.readings:
        return None
    return FalseColourScale(
        range_celsius=replay.range_celsius,
        readings=tuple(Reading(x=point.x, y=point.y, celsius=point.celsius) for point in replay.readings),
    )
