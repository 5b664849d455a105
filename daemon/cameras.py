"""From settings to a camera that can be opened again and again."""

from collections.abc import Callable
from pathlib import Path

from daemon.settings import CameraSettings, ReplaySettings, T2SPlusSettings
from drivers.camera import ThermalCamera
from drivers.clock import Clock
from drivers.errors import ConfigError, MaterialError
from drivers.gain_map import GainMaps
from drivers.libusb import reset_device
from drivers.material import FalseColourScale, Reading, open_material
from drivers.replay import ReplayCamera
from drivers.scene import Scene
from drivers.simulated import SimulatedCamera, SimulatedDevice
from drivers.t2s_plus import T2SPlusCamera
from drivers.usb import UsbBus, UsbCameraDevice


def camera_device(settings: CameraSettings) -> UsbCameraDevice | None:
    """The camera as a device on its bus; None for what is none."""
    return usb_camera_device(settings.t2s_plus) if settings.kind == "t2s_plus" else None


def usb_camera_device(settings: T2SPlusSettings) -> UsbCameraDevice:
    """The T2S+ that the settings name."""
    return UsbCameraDevice(UsbBus(), reset=reset_device, port=settings.port, serial=settings.serial)


def camera_opener(
    settings: CameraSettings, clock: Clock, *, state_dir: Path | None = None
) -> Callable[[], ThermalCamera]:
    """What makes a closed camera; each call stands for one connection to the same device or material.

    Parameters
    ----------
    settings : CameraSettings
        Which camera.
    clock : Clock
        What it runs on.
    state_dir : Path, optional
        Keeps what belongs to a real camera, its gain map, from one start to the next.

    Raises
    ------
    ConfigError
        If the material to be replayed is not there or not what it should be.
    """
    overrides = settings.environment.overrides()
    if settings.kind == "simulated":
        simulated = settings.simulated
        scene = Scene(
            simulated.seed, simulated.animals, species=simulated.species, lights_on_utc_s=simulated.lights_on_utc_s
        )
        device = SimulatedDevice(seed=simulated.seed, scene=scene, warm=simulated.warm, clock=clock)
        return lambda: SimulatedCamera(device, clock=clock, overrides=overrides)
    if settings.kind == "t2s_plus":
        usb_device, gain_maps = usb_camera_device(settings.t2s_plus), GainMaps(state_dir)
        high_range = settings.t2s_plus.range == "high"
        return lambda: T2SPlusCamera(
            usb_device, clock=clock, high_range=high_range, overrides=overrides, gain_maps=gain_maps
        )
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
