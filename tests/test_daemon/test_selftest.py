"""The self-test's judgements: what passes, what fails, and what is said of it."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from daemon.selftest import (
    Check,
    FrameNote,
    Seen,
    Verdict,
    blade_times,
    freeze_times,
    judge_commands,
    judge_control_range,
    judge_drift,
    judge_noise,
    judge_range_switch,
    judge_shutter,
    judge_start_up,
    judge_statistics,
    judge_stream,
    judge_unplugging,
    judge_variant,
)
from daemon.selftest_report import summary_lines
from daemon.selftest_watch import PixelStatistics
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag
from drivers.t2s_protocol import Variant
from drivers.usb_dump import EVERY_WORD, ControlRange

PERIOD_NS = NS_PER_S // 25
PASS, FAIL, NOT_TESTED = Verdict.PASS, Verdict.FAIL, Verdict.NOT_TESTED


def notes_of(
    count: int,
    *,
    frozen: range = range(0),
    blade: range = range(0),
    fpa_step: float = 0.0,
    slope: float = 0.0,
    spread: float = 5.0,
) -> tuple[FrameNote, ...]:
    """Frames of 25 Hz; the readings follow the detector with this slope."""
    return tuple(
        FrameNote(
            at_ns=number * PERIOD_NS,
            sequence=number,
            flags=FrameFlag.SHUTTER if number in frozen else FrameFlag.NONE,
            fpa_celsius=30 + fpa_step * number,
            shutter_celsius=28.0,
            median_celsius=25 + slope * fpa_step * number,
            spread_celsius=0.1 if number in blade else spread,
            average_off_counts=0.4,
        )
        for number in range(count)
    )


def seen(notes: Sequence[FrameNote], **rejected: int) -> Seen:
    return Seen(notes=tuple(notes), rejected=rejected, timeouts=0)


def verdicts(checks: Sequence[Check]) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in checks}


def test_a_steady_stream_passes_everything() -> None:
    checks = judge_stream(seen(notes_of(250)))
    assert set(verdicts(checks).values()) == {PASS}
    assert checks[0].found == "25.00 frames/s over 10.0 s"
    assert checks[1].found == "longest 40 ms, 0 of 249 longer; median 40.0 ms"


def test_a_slow_stream_with_holes_fails_by_what_is_wrong() -> None:
    notes = [note for note in notes_of(250) if note.sequence % 10]
    checks = judge_stream(seen(notes))
    assert verdicts(checks) == {"frame rate": FAIL, "gaps": FAIL, "lost frames": FAIL, "refused frames": PASS}
    assert checks[2].found == "24 of 249"


def test_a_refused_frame_is_no_lost_one_and_is_named() -> None:
    notes = [note for note in notes_of(250) if note.sequence != 100]
    checks = judge_stream(seen(notes, statistics=1))
    assert verdicts(checks)["lost frames"] is PASS
    assert verdicts(checks)["refused frames"] is FAIL
    assert checks[3].found == "1 statistics"


@pytest.mark.parametrize("count", [0, 1])
def test_a_silent_camera_fails(count: int) -> None:
    (check,) = judge_stream(seen(notes_of(count)))
    assert (check.verdict, check.found) == (FAIL, f"{count} frames")


def test_a_freeze_is_timed_from_the_command_to_the_next_fresh_frame() -> None:
    notes = notes_of(100, frozen=range(29, 59))  # the first of the 31 is frame 28, which is new
    times = freeze_times(notes, 25 * PERIOD_NS)
    assert times is not None
    assert (times.delay_s, times.length_s, times.frames) == pytest.approx((0.12, 1.24, 31))
    assert judge_shutter(notes, 25 * PERIOD_NS, Variant.V1).verdict is PASS


@pytest.mark.parametrize(
    ("frozen", "found"),
    [
        pytest.param(range(0), "no freeze after the command", id="none"),
        pytest.param(range(29, 40), "freeze of 0.48 s (12 frames), 0.12 s after the command", id="short"),
        pytest.param(range(50, 80), "freeze of 1.24 s (31 frames), 0.96 s after the command", id="late"),
        pytest.param(range(29, 99), "freeze of 2.84 s (71 frames), 0.12 s after the command", id="long"),
    ],
)
def test_a_shutter_that_is_not_that_of_a_v1_fails(frozen: range, found: str) -> None:
    check = judge_shutter(notes_of(120, frozen=frozen), 25 * PERIOD_NS, Variant.V1)
    assert (check.verdict, check.found) == (FAIL, found)


def test_the_blade_of_a_v2_is_seen_by_its_lack_of_contrast() -> None:
    notes = notes_of(100, blade=range(33, 48))
    times = blade_times(notes, 25 * PERIOD_NS)
    assert times is not None
    assert (times.delay_s, times.length_s, times.frames) == pytest.approx((0.32, 0.6, 15))
    assert judge_shutter(notes, 25 * PERIOD_NS, Variant.V2).verdict is PASS
    assert judge_shutter(notes_of(100), 25 * PERIOD_NS, Variant.V2).verdict is FAIL


def test_before_an_even_wall_the_blade_cannot_be_seen() -> None:
    check = judge_shutter(notes_of(100, spread=0.1), 25 * PERIOD_NS, Variant.V2)
    assert check.verdict is NOT_TESTED
    assert "as even as the shutter" in check.found


@pytest.mark.parametrize(
    ("step", "slope", "verdict"),
    [(0.001, -1.2, PASS), (0.001, -8.0, FAIL), (0.0001, -1.2, NOT_TESTED)],
    ids=["as measured on a sibling", "far more", "the detector stands"],
)
def test_drift_is_the_slope_of_readings_over_the_detector(step: float, slope: float, verdict: Verdict) -> None:
    check = judge_drift(notes_of(500, fpa_step=step, slope=slope))
    assert check.verdict is verdict
    if verdict is not NOT_TESTED:
        assert check.found.startswith(f"{slope:.2f} °C per °C while the detector moved by 0.50 °C")


def test_row_0_is_judged_on_a_v1_only() -> None:
    notes = notes_of(10)
    assert judge_statistics(seen(notes), Variant.V1).verdict is PASS
    assert judge_statistics(seen(notes, statistics=1), Variant.V1).verdict is FAIL
    assert judge_statistics(seen(()), Variant.V1).verdict is FAIL
    off = dataclasses.replace(notes[0], average_off_counts=-11.0)
    assert judge_statistics(seen((off,)), Variant.V1).verdict is FAIL
    assert judge_statistics(seen(notes), Variant.V2).verdict is NOT_TESTED


@pytest.mark.parametrize(
    ("taken", "verdict"),
    [(EVERY_WORD, PASS), (ControlRange(0, 100, 1, 0), FAIL), (ControlRange(0, 0xFFFF, 5, 0), FAIL)],
)
def test_a_control_that_clamps_or_rounds_fails(taken: ControlRange, verdict: Verdict) -> None:
    assert judge_control_range(taken).verdict is verdict


def test_start_up_variant_and_commands() -> None:
    assert judge_start_up(1.5, {}).verdict is PASS
    assert judge_start_up(None, {"image_range": 3}).found == "never ready, refused meanwhile: 3 image_range"
    assert judge_variant(Variant.V1, Variant.V1).verdict is PASS
    assert judge_variant(Variant.V1, Variant.V2).verdict is FAIL
    assert judge_variant(Variant.V1, None).verdict is FAIL
    assert judge_commands(5, 0, None).verdict is PASS
    assert judge_commands(5, 1, "timed out").found == "5 taken, 1 failed, at last: timed out"
    assert judge_commands(0, 0, None).verdict is FAIL


@pytest.mark.parametrize(
    ("references", "variant", "verdict"),
    [
        ([6000, 2000, 6000], Variant.V1, PASS),
        ([6000, 6000, 6000], Variant.V1, FAIL),
        ([6000, 2000, 2000], Variant.V1, FAIL),
        ([], Variant.V1, FAIL),
        ([6000, 6000, 6000], Variant.V2, NOT_TESTED),
        ([6000, 2000, 6000], Variant.V2, PASS),
    ],
)
def test_a_range_switch_shows_in_the_constants(references: list[int], variant: Variant, verdict: Verdict) -> None:
    assert judge_range_switch(references, variant).verdict is verdict


def test_unplugging_is_held_against_the_promises_of_the_service() -> None:
    noticed, back = judge_unplugging([0.02, 0.1], [0.8, 1.2], 2, by_hand=False)
    assert (noticed.verdict, back.verdict) == (PASS, PASS)
    assert noticed.found == "2 times, median 0.06 s, longest 0.10 s"
    noticed, back = judge_unplugging([0.6], [9.5], 1, by_hand=False)
    assert (noticed.verdict, back.verdict) == (FAIL, FAIL)
    assert judge_unplugging([0.1], [9.5], 1, by_hand=True)[1].verdict is PASS  # it calibrates itself first
    assert judge_unplugging([0.1], [], 1, by_hand=False)[1].found == "never"


def test_noise_and_pattern_of_known_pictures_are_found() -> None:
    rng, pixels = np.random.default_rng(1), PixelStatistics()
    pattern = rng.normal(25, 0.080, (192, 256))
    for _ in range(40):
        picture = (pattern + rng.normal(0, 0.025, pattern.shape)).astype(np.float32)
        picture[50:60, 50:60] = rng.uniform(30, 40)  # an animal moves
        pixels.add(picture)
    assert pixels.temporal_mk == pytest.approx(25, rel=0.05)
    assert pixels.pattern_mk == pytest.approx(80, rel=0.15)
    assert set(verdicts(judge_noise(pixels.temporal_mk, pixels.pattern_mk)).values()) == {PASS}
    assert set(verdicts(judge_noise(150.0, 900.0)).values()) == {FAIL}


def test_too_few_pictures_have_no_noise() -> None:
    pixels = PixelStatistics()
    pixels.add(np.zeros((192, 256), np.float32))
    assert set(verdicts(judge_noise(pixels.temporal_mk, pixels.pattern_mk)).values()) == {NOT_TESTED}
    assert judge_noise(0.0, 0.0)[0].verdict is FAIL  # a camera without noise sends no measurement


def test_the_summary_counts_and_names() -> None:
    lines = summary_lines([judge_commands(5, 0, None), *judge_noise(None, 900.0)])
    assert lines[0] == "self-test of a T2S+: 1 pass, 1 fail, 1 not tested"
    assert lines[3] == "FAIL       fixed pattern   900.0 mK rms  (expected: at most 250 mK rms)"
