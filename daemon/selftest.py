"""What the self-test expects of a T2S+, and how what was seen compares with it: pure judgements.

Expectations are those of the measurements on a sibling of the T2S+ (zzh315/ThermalView) with a margin, or of the
service's own promises; each check says which numbers it was held against.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag
from drivers.sensor_model import DRIFT_CELSIUS_PER_CELSIUS
from drivers.t2s_protocol import FRAME_RATE_HZ, Variant
from drivers.usb import UsbCamera
from drivers.usb_dump import EVERY_WORD, ControlRange

RATE_LIMITS_HZ = (24.5, 25.6)
"""A sibling sends 25.15 frames a second."""
LONGEST_GAP_S = 0.06
READY_WITHIN_S = 15.0
"""A cold v1 calibrates itself for nine seconds after the plug-in."""
FREEZE_LIMITS_S = (1.0, 1.6)
"""A sibling freezes for 1.23 to 1.27 s."""
FREEZE_DELAY_LIMITS_S = (0.0, 0.5)
BLADE_LIMITS_S = (0.3, 1.2)
"""How long the closed shutter of a v2 shows: it opens by itself after 0.8 to 1 s."""
NOISE_LIMIT_MK = 100.0
PATTERN_LIMIT_MK = 250.0
AVERAGE_LIMIT_COUNTS = 10.0
DRIFT_LIMITS = (-3.0, 1.0)
"""Change of a reading per degree of the detector since the last shutter cycle."""
DRIFT_NEEDS_CELSIUS = 0.15
NOTICED_WITHIN_S = 0.5
BACK_WITHIN_S = 5.0
COLD_BACK_WITHIN_S = 20.0
"""After a real loss of power a v1 calibrates itself first."""
_SEEN_BLADE_SHARE = 0.5
_EVEN_SCENE_CELSIUS = 0.15
"""A scene with less contrast cannot be told from the shutter's blade."""


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"
    FAIL = "fail"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    expected: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameNote:
    """What is kept of one good frame."""

    at_ns: int
    """Monotonic."""
    sequence: int
    flags: FrameFlag
    fpa_celsius: float
    shutter_celsius: float
    median_celsius: float
    spread_celsius: float
    """Between the 10th and the 90th percentile of the picture."""
    average_off_counts: float | None
    """v1: the average of row 0 minus that of the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a camera was seen to send in a while."""

    notes: tuple[FrameNote, ...]
    rejected: Mapping[str, int]
    timeouts: int


def judged(name: str, *, passed: bool, expected: str, found: str) -> Check:
    """A check that was made."""
    return Check(name=name, verdict=Verdict.PASS if passed else Verdict.FAIL, expected=expected, found=found)


def untested(name: str, *, expected: str, why: str) -> Check:
    """A check that could not be made, or was not wanted."""
    return Check(name=name, verdict=Verdict.NOT_TESTED, expected=expected, found=why)


def judge_identity(camera: UsbCamera) -> Check:
    """Who it is on the bus, and whether its descriptors are those of a camera that can be used."""
    description = camera.description
    sizes = [] if description is None else [f"{size.width}x{size.height}" for size in description.sizes]
    stream = "no description" if description is None else f"{description.transfer} {', '.join(sizes)}"
    return judged(
        "USB identity",
        passed=camera.fault is None,
        expected="256x196 YUY2 and a camera terminal with Zoom (Absolute)",
        found=f"{camera.vendor_id:04x}:{camera.product_id:04x} {camera.manufacturer!r} {camera.product!r}, "
        f"serial {camera.serial or '(none)'}, {stream}" + (f": {camera.fault}" if camera.fault else ""),
    )


def judge_control_range(taken: ControlRange) -> Check:
    """Whether command words pass the kernel as they are."""
    return judged(
        "control range",
        passed=taken.passes_every_word,
        expected=f"{EVERY_WORD.minimum} to {EVERY_WORD.maximum:#x} in steps of {EVERY_WORD.step}",
        found=f"{taken.minimum} to {taken.maximum:#x} in steps of {taken.step}, default {taken.default}",
    )


def judge_variant(expected: Variant, found: Variant | None) -> Check:
    """Whether the frames say the same as the identity."""
    return judged(
        "variant",
        passed=found is expected,
        expected=f"{expected}, as the USB identity says",
        found="no good frame" if found is None else f"{found}, as the frames say",
    )


def judge_start_up(ready_s: float | None, rejected: Mapping[str, int]) -> Check:
    """Whether the camera came to send degrees."""
    refused = ", ".join(f"{count} {reason}" for reason, count in rejected.items()) or "none"
    return judged(
        "start-up",
        passed=ready_s is not None and ready_s <= READY_WITHIN_S,
        expected=f"ready within {READY_WITHIN_S:g} s",
        found=f"{'never ready' if ready_s is None else f'ready after {ready_s:.1f} s'}, refused meanwhile: {refused}",
    )


def judge_commands(sent: int, failed: int, last_error: str | None) -> Check:
    """Whether the camera takes its commands."""
    return judged(
        "commands",
        passed=sent > 0 and failed == 0,
        expected="every command is taken",
        found=f"{sent} taken, {failed} failed" + (f", at last: {last_error}" if last_error else ""),
    )


def judge_stream(seen: Seen) -> list[Check]:
    """Rate, gaps, lost and refused frames of a stream in which no shutter cycle was asked for."""
    notes = seen.notes
    expected_rate = f"{RATE_LIMITS_HZ[0]:g} to {RATE_LIMITS_HZ[1]:g} frames/s"
    if len(notes) < 2:
        return [judged("frame rate", passed=False, expected=expected_rate, found=f"{len(notes)} frames")]
    span_s = (notes[-1].at_ns - notes[0].at_ns) / NS_PER_S
    rate_hz = (len(notes) - 1) / max(span_s, 1e-9)
    gaps_s = [(after.at_ns - before.at_ns) / NS_PER_S for before, after in pairwise(notes)]
    refused = sum(seen.rejected.values())
    missing = notes[-1].sequence - notes[0].sequence + 1 - len(notes) - refused
    longest_s, late = max(gaps_s), sum(gap_s > LONGEST_GAP_S for gap_s in gaps_s)
    reasons = ", ".join(f"{count} {reason}" for reason, count in seen.rejected.items()) or "none"
    return [
        judged(
            "frame rate",
            passed=RATE_LIMITS_HZ[0] <= rate_hz <= RATE_LIMITS_HZ[1],
            expected=expected_rate,
            found=f"{rate_hz:.2f} frames/s over {span_s:.1f} s",
        ),
        judged(
            "gaps",
            passed=longest_s <= LONGEST_GAP_S,
            expected=f"at most {LONGEST_GAP_S * 1000:g} ms between two frames",
            found=f"longest {longest_s * 1000:.0f} ms, {late} of {len(gaps_s)} longer; "
            f"median {float(np.median(gaps_s)) * 1000:.1f} ms",
        ),
        judged(
            "lost frames",
            passed=missing <= 0,
            expected="none by the kernel's numbers",
            found=f"{max(missing, 0)} of {len(notes) + max(missing, 0)}",
        ),
        judged("refused frames", passed=refused == 0, expected="none", found=reasons),
    ]


def judge_statistics(seen: Seen, variant: Variant | None) -> Check:
    """Whether row 0 of a v1 describes its own picture; the driver refuses a frame whose extremes disagree."""
    expected = f"row 0 has the picture's own extremes, and its average within {AVERAGE_LIMIT_COUNTS:g} counts"
    if variant is not Variant.V1:
        return untested("row-0 statistics", expected=expected, why="a v2 leaves row 0 empty")
    off = [abs(note.average_off_counts) for note in seen.notes if note.average_off_counts is not None]
    disagreed = seen.rejected.get("statistics", 0)
    return judged(
        "row-0 statistics",
        passed=bool(off) and disagreed == 0 and max(off) <= AVERAGE_LIMIT_COUNTS,
        expected=expected,
        found=f"extremes exact in {len(off)} frames, wrong in {disagreed}; average off by up to "
        f"{max(off, default=float('nan')):.1f} counts",
    )


def judge_noise(temporal_mk: float | None, pattern_mk: float | None) -> list[Check]:
    """Noise of a pixel from frame to frame, and the pattern that stays."""
    checks = []
    for name, value, limit in (
        ("temporal noise", temporal_mk, NOISE_LIMIT_MK),
        ("fixed pattern", pattern_mk, PATTERN_LIMIT_MK),
    ):
        expected = f"at most {limit:g} mK rms"
        if value is None:
            checks.append(untested(name, expected=expected, why="too few frames"))
        else:
            checks.append(judged(name, passed=0 < value <= limit, expected=expected, found=f"{value:.1f} mK rms"))
    return checks


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutterTimes:
    """Of one shutter cycle."""

    delay_s: float
    """From the command to the first frame of it."""
    length_s: float
    frames: int


def freeze_times(notes: Sequence[FrameNote], commanded_ns: int) -> ShutterTimes | None:
    """Of a v1: its picture stood still. The frame before the first repeated one is the first of the freeze."""
    after = [note for note in notes if note.at_ns >= commanded_ns]
    repeated = [index for index, note in enumerate(after) if FrameFlag.SHUTTER in note.flags]
    if not repeated or repeated[0] == 0:
        return None
    first, last = repeated[0] - 1, repeated[-1]
    ends_ns = after[last + 1].at_ns if last + 1 < len(after) else after[last].at_ns
    return ShutterTimes(
        delay_s=(after[first].at_ns - commanded_ns) / NS_PER_S,
        length_s=(ends_ns - after[first].at_ns) / NS_PER_S,
        frames=last - first + 1,
    )


def blade_times(notes: Sequence[FrameNote], commanded_ns: int) -> ShutterTimes | None:
    """Of a v2: its closed shutter was to be seen, a picture without contrast."""
    before = [note.spread_celsius for note in notes if note.at_ns < commanded_ns]
    after = [note for note in notes if note.at_ns >= commanded_ns]
    if not before or not after:
        return None
    limit = _SEEN_BLADE_SHARE * float(np.median(before))
    blade = [note for note in after if note.spread_celsius < limit]
    if not blade:
        return None
    return ShutterTimes(
        delay_s=(blade[0].at_ns - commanded_ns) / NS_PER_S,
        length_s=(blade[-1].at_ns - blade[0].at_ns) / NS_PER_S + 1 / FRAME_RATE_HZ,
        frames=len(blade),
    )


def judge_shutter(notes: Sequence[FrameNote], commanded_ns: int, variant: Variant | None) -> Check:
    """How long the shutter takes, and how soon it begins."""
    processed = variant is Variant.V1
    limits, what = (FREEZE_LIMITS_S, "freeze") if processed else (BLADE_LIMITS_S, "closed shutter")
    expected = f"{what} of {limits[0]:g} to {limits[1]:g} s, within {FREEZE_DELAY_LIMITS_S[1]:g} s of the command"
    if not processed:
        before = [note.spread_celsius for note in notes if note.at_ns < commanded_ns]
        if not before or float(np.median(before)) < _EVEN_SCENE_CELSIUS:
            why = "the scene is as even as the shutter: point the camera at something with contrast"
            return untested("shutter", expected=expected, why=why)
    times = freeze_times(notes, commanded_ns) if processed else blade_times(notes, commanded_ns)
    if times is None:
        return judged("shutter", passed=False, expected=expected, found=f"no {what} after the command")
    return judged(
        "shutter",
        passed=limits[0] <= times.length_s <= limits[1]
        and FREEZE_DELAY_LIMITS_S[0] <= times.delay_s <= FREEZE_DELAY_LIMITS_S[1],
        expected=expected,
        found=f"{what} of {times.length_s:.2f} s ({times.frames} frames), {times.delay_s:.2f} s after the command",
    )


def judge_drift(notes: Sequence[FrameNote]) -> Check:
    """How the median of the picture moves with the detector while nothing is calibrated."""
    expected = (
        f"about {DRIFT_CELSIUS_PER_CELSIUS:g} °C per °C of the detector, {DRIFT_LIMITS[0]:g} to {DRIFT_LIMITS[1]:g}"
    )
    fpa = np.array([note.fpa_celsius for note in notes])
    moved = float(np.ptp(fpa)) if fpa.size else 0.0
    if moved < DRIFT_NEEDS_CELSIUS:
        why = f"the detector moved by {moved:.2f} °C only; start with a cold camera or watch longer"
        return untested("drift", expected=expected, why=why)
    readings = np.array([note.median_celsius for note in notes])
    slope = float(np.polyfit(fpa, readings, 1)[0])
    return judged(
        "drift",
        passed=DRIFT_LIMITS[0] <= slope <= DRIFT_LIMITS[1],
        expected=expected,
        found=f"{slope:.2f} °C per °C while the detector moved by {moved:.2f} °C "
        f"(median of the picture {readings[0]:.2f} to {readings[-1]:.2f} °C)",
    )


def judge_range_switch(references: Sequence[int], variant: Variant | None) -> Check:
    """Whether the constants change with the range and come back: cal_00 before, in the high range, and after."""
    expected = "cal_00 of the frames changes with the range and comes back"
    found = " -> ".join(map(str, references)) or "no good frame"
    back = len(references) == 3 and references[0] == references[2]
    if variant is not Variant.V1 and len(set(references)) == 1:
        return untested("range switch", expected=expected, why=f"{found}: a v2 may have no other constants")
    return judged("range switch", passed=back and references[1] != references[0], expected=expected, found=found)


def judge_unplugging(
    noticed_s: Sequence[float], back_s: Sequence[float], wanted: int, *, by_hand: bool
) -> tuple[Check, Check]:
    """How soon a loss is noticed, and how soon frames come again after the plug-in."""
    back_limit_s = COLD_BACK_WITHIN_S if by_hand else BACK_WITHIN_S
    since = "last frame" if by_hand else "unplugging"
    return (
        judged(
            "unplugging noticed",
            passed=len(noticed_s) == wanted and max(noticed_s) < NOTICED_WITHIN_S,
            expected=f"{wanted} times within {NOTICED_WITHIN_S:g} s of the {since}",
            found=_spread(noticed_s),
        ),
        judged(
            "frames after plug-in",
            passed=len(back_s) == wanted and max(back_s) < back_limit_s,
            expected=f"{wanted} times within {back_limit_s:g} s",
            found=_spread(back_s),
        ),
    )


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "never"
    return f"{len(values)} times, median {float(np.median(values)):.2f} s, longest {max(values):.2f} s"
