"""Whether a long run was one that could go on for months. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.soak.sampling import Look

SETTLED_AFTER_S = 900.0
"""Caches, pools and the first segments fill up for so long; growth is judged after that."""

MAX_GROWTH_MB_PER_H = 1.0
RATE_HZ = 25.0
RATE_TOLERANCE = 0.01
_S_PER_H = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One promise and what was seen of it."""

    promise: str
    found: str
    kept: bool


def slope_per_h(looks: Sequence[Look], field: str) -> float:
    """Slope of a straight line through the values of a field, least squares, per hour."""
    times_h = np.array([look.elapsed_s for look in looks]) / _S_PER_H
    values = np.array([getattr(look, field) for look in looks], dtype=np.float64)
    return float(np.polyfit(times_h, values, 1)[0])


def judge(looks: Sequence[Look]) -> tuple[Finding, ...]:
    """What the promises of RELIABILITY's soak row came to.

    Parameters
    ----------
    looks : sequence of Look
        Oldest first, over more than `SETTLED_AFTER_S`.

    Raises
    ------
    ValueError
        If the run was too short to be judged.
    """
    settled = [look for look in looks if look.elapsed_s >= SETTLED_AFTER_S]
    if len(settled) < 2 or settled[-1].elapsed_s - settled[0].elapsed_s < SETTLED_AFTER_S:
        raise ValueError(f"expected a run of more than {2 * SETTLED_AFTER_S:g} s, got {looks[-1].elapsed_s:g} s")
    first, last = settled[0], settled[-1]
    span_s = last.elapsed_s - first.elapsed_s
    growth = slope_per_h(settled, "resident_mb")
    rate_hz = (last.frames - first.frames) / span_s
    missed = (last.expected - first.expected) - (last.captured - first.captured)
    halves = settled[: len(settled) // 2], settled[len(settled) // 2 :]
    # Medians: a connection or a segment that is just changing hands is no growth.
    files = [float(np.median([look.open_files for look in half])) for half in halves]
    threads = [float(np.median([look.threads for look in half])) for half in halves]
    return (
        Finding(
            promise=f"resident memory grows by less than {MAX_GROWTH_MB_PER_H:g} MB an hour",
            found=f"{growth:+.2f} MB/h, from {first.resident_mb:.0f} to {last.resident_mb:.0f} MB",
            kept=growth < MAX_GROWTH_MB_PER_H,
        ),
        Finding(
            promise="no more open files in the second half than in the first",
            found=f"{files[0]:g}, then {files[1]:g}",
            kept=files[1] <= files[0],
        ),
        Finding(
            promise="no more threads in the second half than in the first",
            found=f"{threads[0]:g}, then {threads[1]:g}",
            kept=threads[1] <= threads[0],
        ),
        Finding(
            promise=f"{RATE_HZ:g} frames a second within {RATE_TOLERANCE:.0%}",
            found=f"{rate_hz:.3f} frames/s",
            kept=abs(rate_hz - RATE_HZ) <= RATE_TOLERANCE * RATE_HZ,
        ),
        Finding(
            promise=f"at most {RATE_TOLERANCE:.0%} of the planned moments are missing",
            found=f"{missed:.0f} of {last.expected - first.expected:.0f}",
            kept=missed <= RATE_TOLERANCE * (last.expected - first.expected),
        ),
    )
