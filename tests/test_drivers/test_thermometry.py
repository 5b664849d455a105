"""Counts to degrees, against what five public implementations and the vendor's library computed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.errors import FrameRejectedError
from drivers.t2s_protocol import COUNT_LEVELS, Constants, Environment, RejectReason, Variant, parse_metadata
from drivers.thermometry import (
    Calibration,
    EnvironmentOverrides,
    atmospheric_transmission,
    calibration_of,
    counts_from_celsius,
    temperature_table,
)

GOLDEN_NAMES = ("g1_eps100_d1", "g2_eps095_d1", "g3_eps098_d0", "g4_corr_hum70", "g5_cold_d3", "g6_high_range")
TOLERANCE_CELSIUS = 5e-4

# Constants read from a v1 camera of the family; see tests/data/golden/README.md.
SIBLING = Constants(reference_count=6000, a=0.2333, b=27.867, ka=4e-5, kb=0.0053, kc=0.5351)
CALIBRATION = Calibration(
    constants=SIBLING, shutter_celsius=30.0, fpa_celsius=36.0, environment=Environment(emissivity=0.95)
)


@pytest.fixture(params=GOLDEN_NAMES)
def vector(request: pytest.FixtureRequest, golden: Path) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """One golden vector: what is expected, and the transfer."""
    expected = json.loads((golden / f"{request.param}.json").read_text())
    return expected, np.load(golden / f"{request.param}.npz")["frame"]


def assert_table_agrees(table: np.ndarray[Any, Any], expected: dict[str, Any]) -> None:
    """NaN where null is expected, and otherwise within the tolerance."""
    truth = np.array([np.nan if value is None else value for value in expected["celsius"]])
    assert truth.size > 20
    np.testing.assert_allclose(table[expected["counts"]], truth, rtol=0, atol=TOLERANCE_CELSIUS, equal_nan=True)


def test_the_table_agrees_with_the_golden_vectors(vector: tuple[dict[str, Any], np.ndarray[Any, Any]]) -> None:
    expected, transfer = vector
    table = temperature_table(calibration_of(parse_metadata(transfer)))
    assert_table_agrees(table, expected["expected"])
    assert table.shape == (COUNT_LEVELS,)
    assert table.dtype == np.float32


def test_the_first_valid_count_and_the_transmission_are_the_golden_ones(
    vector: tuple[dict[str, Any], np.ndarray[Any, Any]],
) -> None:
    expected, transfer = vector
    calibration = calibration_of(parse_metadata(transfer))
    table = temperature_table(calibration)
    first = expected["derived"]["first_valid_count"]
    assert np.isnan(table[:first]).all()
    assert np.isfinite(table[first:]).all()
    assert atmospheric_transmission(calibration.environment) == pytest.approx(
        expected["derived"]["atmospheric_transmission"], abs=1e-12
    )


def test_the_reference_count_reads_the_shutters_temperature_before_emissivity_and_air(
    vector: tuple[dict[str, Any], np.ndarray[Any, Any]],
) -> None:
    expected, transfer = vector
    calibration = calibration_of(parse_metadata(transfer))
    # A black body at the air's temperature leaves nothing to correct but the lens term, which vanishes there.
    shutter = calibration.shutter_celsius
    black = Environment(emissivity=1.0, air_celsius=shutter, reflected_celsius=shutter, distance_m=0.0)
    table = temperature_table(replace(calibration, environment=black))
    assert table[expected["derived"]["reference_count"]] == pytest.approx(shutter, abs=1e-4)


def test_pixels_of_the_golden_pictures_have_their_temperatures(
    vector: tuple[dict[str, Any], np.ndarray[Any, Any]],
) -> None:
    expected, transfer = vector
    celsius = temperature_table(calibration_of(parse_metadata(transfer)))[transfer[:192]]
    for pixel in expected["expected"]["pixels"]:
        assert transfer[pixel["y"], pixel["x"]] == pixel["raw"]
        assert celsius[pixel["y"], pixel["x"]] == pytest.approx(pixel["c"], abs=TOLERANCE_CELSIUS)
    summary = expected["expected"]["summary_c"]
    assert celsius.min() == pytest.approx(summary["min"], abs=TOLERANCE_CELSIUS)
    assert celsius.max() == pytest.approx(summary["max"], abs=TOLERANCE_CELSIUS)
    assert celsius.mean(dtype=np.float64) == pytest.approx(summary["image_mean_c"], abs=TOLERANCE_CELSIUS)


def test_a_distance_of_the_host_replaces_the_cameras(golden: Path) -> None:
    expected = json.loads((golden / "g3_eps098_d0.json").read_text())["host_distance_override"]
    metadata = parse_metadata(np.load(golden / "g3_eps098_d0.npz")["frame"])
    calibration = calibration_of(metadata, EnvironmentOverrides(distance_m=expected["distance_m"]))
    assert metadata.environment.distance_m == 0
    assert calibration.environment.distance_m == 0.3
    assert atmospheric_transmission(calibration.environment) == pytest.approx(
        expected["atmospheric_transmission"], abs=1e-12
    )
    assert_table_agrees(temperature_table(calibration), expected)


def test_the_table_of_the_real_v2_transfer_agrees(golden: Path, real_material: Path) -> None:
    file = real_material / "camera" / "real" / "t2s_v2_2024-06-21_frame.npy"
    if not file.is_file():
        pytest.skip(f"the real v2 transfer is not present: {file}")
    expected = json.loads((golden / "v2_real_frame.json").read_text())["expected"]
    metadata = parse_metadata(np.load(file))
    table = temperature_table(calibration_of(metadata))
    assert metadata.variant is Variant.V2
    assert_table_agrees(table, expected)
    assert np.flatnonzero(np.isfinite(table))[0] == expected["first_valid_count"]


def test_the_table_of_the_v2_correction_vector_agrees(golden: Path) -> None:
    expected = json.loads((golden / "v2_nuc.json").read_text())["table"]
    metadata = parse_metadata(np.load(golden / "v2_nuc.npz")["scene_frame"])
    truth = {"counts": expected["counts"], "celsius": expected["celsius_range120"]}
    assert_table_agrees(temperature_table(calibration_of(metadata)), truth)


def test_overrides_replace_only_what_they_name() -> None:
    camera = Environment(correction_celsius=1.0, humidity=0.7, distance_m=3.0)
    assert EnvironmentOverrides(emissivity=0.5, distance_m=0.0).apply(camera) == replace(
        camera, emissivity=0.5, distance_m=0.0
    )
    assert EnvironmentOverrides().apply(camera) is camera


def test_nothing_is_lost_in_the_air_at_distance_zero() -> None:
    assert atmospheric_transmission(Environment(distance_m=0.0, humidity=1.0)) == pytest.approx(1.0)


def test_the_air_takes_more_the_longer_the_way() -> None:
    shares = [atmospheric_transmission(Environment(distance_m=metres)) for metres in (0.1, 0.3, 1.0, 3.0, 20.0)]
    assert shares == sorted(shares, reverse=True)
    assert 0.9 < shares[-1] < shares[0] < 1


def test_the_table_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        temperature_table(CALIBRATION)[0] = 37.0


@pytest.mark.parametrize(
    "calibration",
    [
        pytest.param(
            replace(CALIBRATION, environment=Environment(air_celsius=400.0, humidity=1.0, distance_m=65535.0)),
            id="air beyond the model of its transmission",
        ),
        pytest.param(
            replace(CALIBRATION, environment=Environment(air_celsius=400.0)), id="air that overflows an exponential"
        ),
        pytest.param(
            replace(CALIBRATION, environment=Environment(emissivity=0.01, reflected_celsius=400.0)),
            id="reflection outshines every count",
        ),
        pytest.param(replace(CALIBRATION, environment=Environment(emissivity=0.0)), id="emissivity zero"),
        pytest.param(
            replace(CALIBRATION, environment=Environment(correction_celsius=float("nan"))), id="correction not a number"
        ),
        pytest.param(
            replace(CALIBRATION, environment=Environment(correction_celsius=1e39)), id="correction beyond float32"
        ),
        pytest.param(replace(CALIBRATION, constants=replace(SIBLING, kc=-5.0)), id="gain negative: the table falls"),
        pytest.param(
            replace(CALIBRATION, constants=replace(SIBLING, b=500.0, kc=50.0)), id="apparent below absolute zero"
        ),
        pytest.param(replace(CALIBRATION, constants=replace(SIBLING, a=1e-45, kc=3e38)), id="degrees beyond float32"),
        pytest.param(replace(CALIBRATION, fpa_celsius=float("nan")), id="detector temperature not a number"),
    ],
)
def test_an_impossible_calibration_gives_no_table(calibration: Calibration) -> None:
    with pytest.raises(FrameRejectedError) as caught:
        temperature_table(calibration)
    assert caught.value.reason == RejectReason.TABLE


def test_counts_from_celsius_is_the_inverse_of_the_table() -> None:
    table = temperature_table(CALIBRATION)
    counts = np.arange(int(np.argmax(np.isfinite(table))), COUNT_LEVELS, dtype=np.uint16)
    assert np.array_equal(counts_from_celsius(table[counts], table), counts)


def test_counts_from_celsius_takes_the_nearest_count_and_the_ends() -> None:
    table = np.full(COUNT_LEVELS, np.nan, dtype=np.float32)
    table[100:] = np.arange(COUNT_LEVELS - 100)
    celsius = np.array([[np.nan, -50.0, 0.0], [4.4, 4.6, 1e9]])
    assert counts_from_celsius(celsius, table).tolist() == [[0, 100, 100], [104, 105, COUNT_LEVELS - 1]]
