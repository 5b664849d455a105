"""The curves of a long run."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from itertools import pairwise

import numpy as np
from matplotlib import pyplot as plt

from tests.soak.judgement import RATE_HZ, RATE_TOLERANCE, SETTLED_AFTER_S, slope_per_h
from tests.soak.sampling import Look

_RATE_OVER_LOOKS = 6


def draw(looks: Sequence[Look], path: Path) -> None:
    """Draw memory, frame rate, and open files with threads over hours into a PNG file."""
    hours = np.array([look.elapsed_s for look in looks]) / 3600
    settled = [look for look in looks if look.elapsed_s >= SETTLED_AFTER_S]
    figure, (memory, rate, handles) = plt.subplots(3, 1, figsize=(8, 7), sharex=True, layout="constrained")
    memory.plot(hours, [look.resident_mb for look in looks], lw=1)
    memory.set_ylabel("resident memory, MB")
    if len(settled) > 1:
        memory.set_title(f"{slope_per_h(settled, 'resident_mb'):+.2f} MB/h after the first 15 min", fontsize=10)
    times, rates = _rates(looks)
    rate.plot(times, rates, lw=1)
    for edge in (1 - RATE_TOLERANCE, 1 + RATE_TOLERANCE):
        rate.axhline(RATE_HZ * edge, color="grey", lw=0.8, ls="--")
    rate.set_ylim(RATE_HZ * 0.9, RATE_HZ * 1.1)
    rate.set_ylabel("good frames/s, per minute")
    handles.plot(hours, [look.open_files for look in looks], lw=1, label="open files")
    handles.plot(hours, [look.threads for look in looks], lw=1, label="threads")
    handles.set_ylim(bottom=0)
    handles.legend(loc="center right")
    handles.set_xlabel("hours")
    for axes in (memory, rate, handles):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _rates(looks: Sequence[Look]) -> tuple[list[float], list[float]]:
    minutes = looks[::_RATE_OVER_LOOKS]
    pairs = list(pairwise(minutes))
    times = [(before.elapsed_s + after.elapsed_s) / 7200 for before, after in pairs]
    return times, [(after.frames - before.frames) / (after.elapsed_s - before.elapsed_s) for before, after in pairs]
