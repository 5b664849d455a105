"""Degrees that somebody else has measured or guessed, as the bytes a camera would have sent for them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from drivers.errors import MaterialError
from drivers.sensor_model import CONSTANTS
from drivers.t2s_protocol import (
    KELVIN,
    Environment,
    Metadata,
    Statistics,
    Variant,
    build_transfer,
    fpa_raw,
    picture_statistics,
)
from drivers.thermometry import OVER_RANGE_COUNT, calibration_of, counts_from_celsius, temperature_table

SERIAL = "ESTIMATED"
"""In place of a serial number: there was no camera."""

_INSIDE_CELSIUS = 25.0
"""Shutter, detector and housing of the camera that never was. About 15 mK a count at the temperatures of animals."""

_ENVIRONMENT = Environment(emissivity=1.0)
"""The degrees are surface temperatures already: nothing is left to be corrected."""

_INSIDE_RAW = round((_INSIDE_CELSIUS + KELVIN) * 10)

_METADATA = Metadata(
    variant=Variant.V1,
    fpa_average=0,
    fpa_raw=fpa_raw(_INSIDE_CELSIUS),
    statistics=Statistics(),
    row0_word16=0,
    shutter_raw=_INSIDE_RAW,
    shutter_trim=0,
    core_raw=_INSIDE_RAW,
    constants=CONSTANTS,
    environment=_ENVIRONMENT,
    factory_environment=_ENVIRONMENT,
    firmware="estimated",
    serial=SERIAL,
    product="T2S+",
)

CALIBRATION = calibration_of(_METADATA)
"""What turns the counts of `transfer_of` back into the degrees they were made from."""

_TABLE = temperature_table(CALIBRATION)
MIN_CELSIUS = float(np.nanmin(_TABLE))
MAX_CELSIUS = float(_TABLE[OVER_RANGE_COUNT - 1])
"""Counts above it would be flagged as saturated."""


def transfer_of(celsius: NDArray[np.floating], source: str) -> bytes:
    """The transfer for a picture of degrees.

    Parameters
    ----------
    celsius : (192, 256) float
        °C; NaN becomes count 0, which has no temperature.
    source : str
        For the error message.

    Raises
    ------
    MaterialError
        If there are temperatures that no count stands for.
    """
    if np.isinf(celsius).any():
        raise MaterialError(f"{source}: expected degrees C or NaN, got infinite values")
    if not np.isnan(celsius).all():
        lowest, highest = float(np.nanmin(celsius)), float(np.nanmax(celsius))
        if lowest < MIN_CELSIUS or highest > MAX_CELSIUS:
            raise MaterialError(
                f"{source}: expected degrees C in {MIN_CELSIUS:.0f}..{MAX_CELSIUS:.0f}, "
                f"got {lowest:.1f}..{highest:.1f}; convert kelvin, centikelvin or sensor counts to degrees C first"
            )
    counts = counts_from_celsius(celsius, _TABLE)
    metadata = replace(_METADATA, statistics=picture_statistics(counts))
    return build_transfer(counts, metadata).tobytes()
