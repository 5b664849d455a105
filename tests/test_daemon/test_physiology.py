"""Thermal physiology: numbers worked out by hand, the lens simulated for itself, properties by Hypothesis."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.physiology import (
    LENS_SIGMA_PX,
    TemperatureUncertainty,
    Vasomotion,
    cooling,
    drift_celsius,
    emissivity_celsius,
    fever_signature,
    heat_loss_index,
    heat_loss_index_uncertainty,
    mixed_share,
    noise_celsius,
    size_celsius,
    skin_max_30min,
    tail_change,
    width_px,
)
from drivers.vivarium.lens import through_lens

CELSIUS = st.floats(15, 45)


def test_noise_of_a_single_pixel_is_that_of_pixel_and_picture() -> None:
    assert noise_celsius(1, 1) == pytest.approx(math.sqrt(0.025**2 + 0.010**2))


def test_noise_falls_with_pixels_and_frames() -> None:
    """400 pixels count as 100: 0.0025; with the picture's 0.010 together 0.010308; over 25 frames a fifth of it."""
    assert noise_celsius(400, 25) == pytest.approx(0.010308 / 5, rel=1e-4)


def test_noise_of_nothing_is_refused() -> None:
    for pixels, frames in ((0, 1), (5, 0)):
        with pytest.raises(ValueError, match="pixels must be above 0"):
            noise_celsius(pixels, frames)


def test_half_a_degree_of_the_detector_is_a_third_of_a_degree_of_uncertainty() -> None:
    """0.6 / 1.732."""
    assert drift_celsius(34.5, 34.0) == drift_celsius(33.5, 34.0) == pytest.approx(0.3464, abs=1e-4)
    assert drift_celsius(34.0, 34.0) == 0


@given(surface=CELSIUS, reflected=CELSIUS, emissivity=st.floats(0.8, 1.0))
def test_uncertainty_by_emissivity_is_the_slope_of_the_balance(
    surface: float, reflected: float, emissivity: float
) -> None:
    """Against a finite difference of T = ((A - (1 - e) R^4) / e)^(1/4) for the signal A that the surface gives."""
    kelvin, mirrored = surface + 273.15, (reflected + 273.15) ** 4
    signal = emissivity * kelvin**4 + (1 - emissivity) * mirrored

    def seen_with(assumed: float) -> float:
        return float(((signal - (1 - assumed) * mirrored) / assumed) ** 0.25)

    slope = (seen_with(emissivity + 1e-5) - seen_with(emissivity - 1e-5)) / 2e-5
    found = emissivity_celsius(surface, emissivity=emissivity, reflected_celsius=reflected)
    assert found == pytest.approx(abs(slope) * 0.015, abs=1e-4)


def test_emissivity_must_be_one() -> None:
    with pytest.raises(ValueError, match="emissivity must be in"):
        emissivity_celsius(30, emissivity=0, reflected_celsius=22)


@pytest.mark.parametrize("width", [2, 3, 4, 7])
def test_width_of_a_strip_follows_from_area_and_outline(width: int) -> None:
    assert width_px(width * 40, 2 * 40) == width


def test_a_part_without_an_outline_is_wide() -> None:
    assert width_px(500, 0) == math.inf
    assert mixed_share(math.inf) == 0


@pytest.mark.parametrize("width", [2, 3, 4, 6])
def test_mixed_share_is_what_the_lens_takes_from_the_middle_of_a_strip(width: int) -> None:
    """A strip drawn sixteen times finer, averaged over a pixel and blurred as the lens of the simulator does."""
    fine = 16
    line = np.zeros((64 * fine, 64 * fine), np.float32)
    middle, half = 32 * fine, width * fine // 2
    line[:, middle - half : middle + half] = 1.0
    blurred = through_lens(line, LENS_SIGMA_PX * fine)
    pixel = blurred[middle, middle - fine // 2 : middle + fine // 2].mean()
    assert mixed_share(width) == pytest.approx(1 - pixel, abs=0.006)


@given(width=st.floats(0.5, 30), wider=st.floats(0.1, 10), contrast=st.floats(-20, 20))
def test_a_wider_part_is_less_uncertain(width: float, wider: float, contrast: float) -> None:
    assert size_celsius(width + wider, contrast) <= size_celsius(width, contrast)
    assert 0 <= size_celsius(width, contrast) <= abs(contrast)


def test_a_tail_of_three_pixels_five_degrees_above_the_floor_by_hand() -> None:
    """7.78 % of 5 °C are 0.389 °C, half of it 0.1945; times the root of 4/3."""
    assert size_celsius(3, 5) == pytest.approx(0.2245, abs=1e-3)


def test_drift_cancels_within_a_frame() -> None:
    parts = TemperatureUncertainty(noise=0.03, drift=1.2, emissivity=0.04, size=0.0)
    assert parts.within_frame == pytest.approx(0.05)
    assert parts.total == pytest.approx(math.sqrt(0.05**2 + 1.2**2))


def test_heat_loss_index_by_hand() -> None:
    assert heat_loss_index(27, 32, 22) == 0.5
    assert heat_loss_index(22, 32, 22) == 0
    assert heat_loss_index(27, 23.5, 22) is None


@given(tail=CELSIUS, body=CELSIUS, ambient=CELSIUS, shift=st.floats(-5, 5))
def test_an_offset_of_the_camera_does_not_change_the_index(
    tail: float, body: float, ambient: float, shift: float
) -> None:
    first, shifted = heat_loss_index(tail, body, ambient), heat_loss_index(tail + shift, body + shift, ambient + shift)
    if first is not None and shifted is not None:
        assert shifted == pytest.approx(first, abs=1e-9)


def test_uncertainty_of_the_index_by_hand() -> None:
    """(0.3 and 0.5 * 0.8) are 0.5 together, over 10 °C."""
    assert heat_loss_index_uncertainty(0.5, 10, tail=0.3, body=0.8) == pytest.approx(0.05)


def test_proxy_is_the_mean_of_thirty_minutes_and_nothing_with_fewer_than_twenty() -> None:
    maxima = {minute: 34.0 + minute for minute in range(100, 130)}
    assert skin_max_30min(maxima, 129) == pytest.approx(34 + 114.5)
    assert skin_max_30min({minute: 34.0 for minute in range(110, 130)}, 129) == 34.0
    assert skin_max_30min({minute: 34.0 for minute in range(111, 130)}, 129) is None
    assert skin_max_30min(maxima, 145) is None


def steps(before: float, after: float, at: int) -> dict[int, float]:
    return {minute: before if minute < at else after for minute in range(200)}


def test_change_of_the_tail_is_over_ten_minutes() -> None:
    series = steps(3.0, 8.0, at=100)
    assert tail_change(series, 99) == 0
    assert tail_change(series, 101) == 5
    assert tail_change(series, 120) == 0
    assert tail_change({minute: value for minute, value in series.items() if minute < 95}, 101) is None


def test_one_onset_for_each_change_of_the_tail() -> None:
    series = {**steps(3.0, 8.0, at=60), **{minute: 3.5 for minute in range(120, 200)}}
    vasomotion = Vasomotion()
    onsets = {minute: vasomotion.onset(tail_change(series, minute)) for minute in range(20, 190)}
    assert [minute for minute, onset in onsets.items() if onset == 1] == [61]
    assert [minute for minute, onset in onsets.items() if onset == -1] == [121]
    assert vasomotion.onset(None) is None


def test_a_drifting_tail_has_no_onset() -> None:
    series = {minute: 3 + 0.1 * minute for minute in range(200)}
    vasomotion = Vasomotion()
    assert {vasomotion.onset(tail_change(series, minute)) for minute in range(20, 190)} == {0}


def test_fever_is_a_rise_with_a_closed_tail_and_exercise_is_not() -> None:
    proxy = {minute: 35.0 + 0.02 * minute for minute in range(200)}
    closed, opening = dict.fromkeys(range(200), 2.0), {minute: 2 + 0.05 * minute for minute in range(200)}
    assert fever_signature(proxy, closed, 150) == pytest.approx(1.2)
    assert fever_signature(proxy, opening, 150) == 0
    falling = {minute: -value for minute, value in proxy.items()}
    assert fever_signature(falling, closed, 150) == 0
    assert fever_signature(proxy, {}, 150) is None
    assert fever_signature({150: 36.0}, closed, 150) is None


def test_cooling_after_wetting_by_hand() -> None:
    body = {**dict.fromkeys(range(100), 32.0), 100: 30.0}
    assert cooling(body, 100) == 2.0
    assert cooling(body, 99) == 0
    assert cooling({**body, 100: 33.0}, 100) == 0
    assert cooling({100: 30.0, 97: 32.0, 96: 32.0}, 100) is None
