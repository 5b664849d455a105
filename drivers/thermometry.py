"""Counts to degrees."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from drivers.errors import FrameRejectedError
from drivers.t2s_protocol import COUNT_LEVELS, KELVIN, Constants, Environment, Metadata, RejectReason, gain

OVER_RANGE_COUNT = 13_700
"""In the normal range a pixel saturates somewhere in 13835..14192, depending on the detector's temperature."""

_NORMAL_RANGE_OFFSET = 170
"""Distance of the reference count from cal_00 on the 256-wide sensor, normal range only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """All that fixes the table from counts to degrees; two equal calibrations give equal tables."""

    constants: Constants
    shutter_celsius: float
    """Shutter temperature at the last shutter event, °C."""
    fpa_celsius: float
    """Detector temperature at the last shutter event, °C."""
    environment: Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentOverrides:
    """What the host knows better than the camera's user area; None leaves the camera's value."""

    correction_celsius: float | None = None
    reflected_celsius: float | None = None
    air_celsius: float | None = None
    humidity: float | None = None
    emissivity: float | None = None
    distance_m: float | None = None

    def apply(self, environment: Environment) -> Environment:
        """The environment with the host's values in place."""
        if self == _NO_OVERRIDES:
            return environment
        return replace(
            environment,
            **{name: value for name in self.__slots__ if (value := getattr(self, name)) is not None},
        )


_NO_OVERRIDES = EnvironmentOverrides()


def calibration_of(metadata: Metadata, overrides: EnvironmentOverrides = _NO_OVERRIDES) -> Calibration:
    """The calibration that holds from this frame on."""
    return Calibration(
        constants=metadata.constants,
        shutter_celsius=metadata.shutter_celsius,
        fpa_celsius=metadata.fpa_celsius,
        environment=overrides.apply(metadata.environment),
    )


def atmospheric_transmission(environment: Environment) -> float:
    """Share of the radiation that passes the air between surface and camera, 1 at distance 0.

    Far outside its validity (steam, hundreds of metres) the model leaves 0..1 or is NaN.
    Source: the model of doi 10.3390/s17081718 with the constants of the vendor's library.
    """
    air, path = np.float64(environment.air_celsius), np.sqrt(np.float64(environment.distance_m))
    with np.errstate(over="ignore", invalid="ignore"):  # NumPy gives inf or NaN where math.exp would raise
        water = environment.humidity * np.exp(1.5587 + 0.06939 * air - 2.7816e-4 * air**2 + 6.8455e-7 * air**3)
        transmission = 1.9 * np.exp(-path * (0.006569 - 0.002276 * np.sqrt(water))) - 0.9 * np.exp(
            -path * (0.01262 - 0.00667 * np.sqrt(water))
        )
    return float(transmission)


def temperature_table(calibration: Calibration) -> NDArray[np.float32]:
    """Surface temperature for each of the 16,384 counts.

    Returns
    -------
    (16384,) float32
        °C, rising; NaN for the counts below the first that has a temperature. Read-only.

    Raises
    ------
    FrameRejectedError
        With reason `TABLE` if no usable table follows from the calibration.

    Notes
    -----
    With x0 the reference count, G the gain at T_fpa, T_sh the shutter's temperature and a, b the constants:
    A = ((x - x0)*G + a*T_sh^2 + b*T_sh)/a + (b/2a)^2 and T_app = sqrt(A) - b/2a, in °C. Then, in kelvin,
    T_obj^4 = (T_app^4 - (1 - e)*tau*T_refl^4 - (1 - tau)*T_air^4) / (e*tau), and last the empirical lens and
    distance term T = T_obj + (0.85*min(d, 20) - 1.125)/100 * (T_obj - T_air) + correction.
    Where A or the balance is negative there is no temperature; implementations that take the absolute value there
    fold the curve, so that cold pixels come out warm. Source: the vendor's library and the public drivers named in
    `drivers.t2s_protocol`, which agree within 1e-4 °C (tests/data/golden).
    """
    constants, environment = calibration.constants, calibration.environment
    shutter, distance = calibration.shutter_celsius, environment.distance_m
    reference = constants.reference_count - (0 if constants.high_range else _NORMAL_RANGE_OFFSET)
    half = constants.b / (2 * constants.a)
    transmission = atmospheric_transmission(environment)
    if not 0 < transmission <= 1:  # true for NaN too
        raise FrameRejectedError(
            RejectReason.TABLE, f"air must let through a share in (0, 1], got {transmission:g} from {environment}"
        )
    counts = np.arange(COUNT_LEVELS, dtype=np.float64)
    with np.errstate(all="ignore"):  # what overflows or is negative becomes NaN, and is judged below
        signal = (counts - reference) * gain(constants, calibration.fpa_celsius)
        apparent = np.sqrt((signal + constants.a * shutter**2 + constants.b * shutter) / constants.a + half**2) - half
        stray = (1 - environment.emissivity) * transmission * (environment.reflected_celsius + KELVIN) ** 4
        stray += (1 - transmission) * (environment.air_celsius + KELVIN) ** 4
        balance = ((apparent + KELVIN) ** 4 - stray) / (environment.emissivity * transmission)
        celsius = np.sqrt(np.sqrt(np.where(balance > 0, balance, np.nan))) - KELVIN
        lens_term = (0.85 * min(distance, 20.0) - 1.125) / 100
        celsius += lens_term * (celsius - environment.air_celsius) + environment.correction_celsius
        table = celsius.astype(np.float32)
        valid = np.flatnonzero(np.isfinite(table))
        usable = valid.size >= 2 and bool(np.all(np.diff(table[valid[0] :]) > 0)) and np.isfinite(table[-1])
    if not usable:
        raise FrameRejectedError(RejectReason.TABLE, f"no rising table of temperatures follows from {calibration}")
    table.setflags(write=False)
    return table


def counts_from_celsius(celsius: NDArray[np.floating], table: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The nearest count for each temperature: the inverse of the table.

    Parameters
    ----------
    celsius : any shape
        °C; NaN becomes count 0, which has no temperature.
    table : (16384,) float32
        From `temperature_table`.

    Returns
    -------
    same shape, uint16
        Temperatures beyond either end of the table become its first valid or its last count.
    """
    first = int(np.argmax(np.isfinite(table)))
    valid = table[first:].astype(np.float64)
    middles = (valid[1:] + valid[:-1]) / 2
    counts = np.searchsorted(middles, celsius) + first
    return np.where(np.isnan(celsius), 0, counts).astype(np.uint16)
