"""How uncertain the mean temperature of a part in one frame is. Pure; the formulas are those of `daemon.physiology`."""

from daemon.observation import FrameObservation, PartObservation
from daemon.physiology import (
    TemperatureUncertainty,
    drift_celsius,
    emissivity_celsius,
    noise_celsius,
    size_celsius,
    width_px,
)
from drivers.frame import FrameFlag


def part_uncertainty(part: PartObservation, observation: FrameObservation) -> TemperatureUncertainty | None:
    """Standard uncertainty of a part's mean, °C, by its causes.

    Parameters
    ----------
    part : PartObservation
        Of an animal of this frame.
    observation : FrameObservation
        The frame: its calibration, its surroundings, and how far its detector has drifted.

    Returns
    -------
    TemperatureUncertainty or None
        None where the part has no temperature, and for material whose degrees no camera has measured. A part whose
        outline was not counted, as in what was stored by early versions, counts as broad.
    """
    if part.mean_celsius is None or observation.flags & FrameFlag.ESTIMATED:
        return None
    environment = observation.calibration.environment
    background = observation.background_celsius
    return TemperatureUncertainty(
        noise=noise_celsius(part.valid_px, 1),
        drift=frame_drift_celsius(observation),
        emissivity=emissivity_celsius(
            part.mean_celsius, emissivity=environment.emissivity, reflected_celsius=environment.reflected_celsius
        ),
        size=size_celsius(
            width_px(part.area_px, part.outline_px or 0), 0.0 if background is None else part.mean_celsius - background
        ),
    )


def frame_drift_celsius(observation: FrameObservation) -> float:
    """Of all temperatures of a frame: by drift since the calibration, or of the reference that takes its place, °C."""
    if observation.reference_uncertainty_celsius is not None:
        return observation.reference_uncertainty_celsius
    return drift_celsius(observation.fpa_celsius, observation.calibration.fpa_celsius)
