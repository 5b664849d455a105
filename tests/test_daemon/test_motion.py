"""The filter behind the tracks, against its limits in closed form."""

import math

import numpy as np
import pytest

from daemon.motion import KEEPS_S, PLACE_SD_PX, RESTING_SD_PX, SPEED_SD_PX_S, Gait, Motion


def moving() -> Motion:
    return Motion(100.0, 50.0, x_px_s=40.0, y_px_s=-10.0, place=0.0, speed=0.0)


def test_for_a_moment_speed_is_kept() -> None:
    motion = moving()
    motion.predict(0.01)
    assert (motion.x_px, motion.y_px) == pytest.approx((100.4, 49.9), abs=0.01)
    assert motion.place < 0.01


def test_after_long_it_is_a_random_walk_from_where_speed_has_led() -> None:
    motion = moving()
    motion.predict(600.0)
    assert (motion.x_px, motion.y_px) == pytest.approx((100 + KEEPS_S * 40, 50 - KEEPS_S * 10))
    assert motion.place == pytest.approx(SPEED_SD_PX_S**2 * KEEPS_S**2 * (2 * 600 / KEEPS_S - 3))
    assert motion.speed == pytest.approx(SPEED_SD_PX_S**2)


@pytest.mark.parametrize("steps", [2, 25])
def test_many_short_steps_lead_where_one_long_one_does(steps: int) -> None:
    once, often = moving(), moving()
    once.predict(1.0)
    for _ in range(steps):
        often.predict(1.0 / steps)
    for name in ("x_px", "y_px", "x_px_s", "y_px_s", "place", "cross", "speed"):
        assert getattr(often, name) == pytest.approx(getattr(once, name))


def test_a_walk_is_learnt_from_places() -> None:
    motion = Motion(10.0, 80.0)
    for step in range(1, 50):
        motion.predict(0.04)
        motion.update(10.0 + 30 * 0.04 * step, 80.0)
    assert motion.x_px_s == pytest.approx(30, abs=5)
    assert motion.y_px_s == pytest.approx(0, abs=1e-9)


def test_an_animal_is_where_it_was_or_where_it_went() -> None:
    motion = Motion(100.0, 100.0)
    motion.predict(30.0)
    stayed = math.exp(-30 / 1800) / 2 / (2 * math.pi * RESTING_SD_PX**2)
    went = (1 - math.exp(-30 / 1800) / 2) / (2 * math.pi * motion.variance)
    assert motion.log_density(100.0, 100.0) == pytest.approx(math.log(stayed + went))
    assert motion.variance == pytest.approx(motion.place + PLACE_SD_PX**2)


@pytest.mark.parametrize("period_s", [0.04, 1.0], ids=["25 fps", "1 fps"])
@pytest.mark.parametrize(("speed_px_s", "goes"), [(0.2, False), (1.0, False), (2.0, True), (30.0, True)])
def test_an_animal_goes_about_that_is_elsewhere_a_second_later(
    period_s: float, speed_px_s: float, *, goes: bool
) -> None:
    gait, dice = Gait(), np.random.default_rng(1)
    for step in range(1 + round(5 / period_s)):
        at_s = step * period_s
        gait.see(100 + speed_px_s * at_s + dice.normal(0, 0.05), 80, at_s)
    assert gait.goes == goes
    assert gait.rested_s == pytest.approx(0 if goes else 5, abs=0.5)


def test_whether_one_goes_about_that_was_not_seen_for_long_is_not_known() -> None:
    gait = Gait()
    for second, x_px in ((0, 10.0), (1, 40.0)):
        gait.see(x_px, 80, second)
    assert gait.goes
    gait.see(40, 80, 30)
    assert (gait.goes, gait.rested_s) == (False, 0)
