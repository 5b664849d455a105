"""The life of one installed box: what is done to it in its first boot, its power cuts, and what it is like then."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.recording import Recording
from tests.hil.guest.box import Box, Powered
from tests.hil.guest.machine import Job, Results

_RECORDING_S = 900.0
_AFTER_S = (2.0, 7.0)
"""When the plug is pulled, after the service has begun to record."""
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One power cut and what was there after the next start."""

    acknowledged: frozenset[str]
    """Events that the broker had delivered, in all boots up to the cut."""
    alive_ns: int
    """The last sign of life before it, time of day."""
    ready_s: float
    """From the power's return to READY."""
    recording_s: float
    """From the power's return to frames."""
    findings: dict[str, Any]
    last_frame_ns: int
    """The newest frame before the cut that a whole recording holds."""
    recorded: int
    """Frames of that recording."""
    rate_hz: float
    """Frames a second that were planned for it."""

    @property
    def lost_events(self) -> set[str]:
        """Acknowledged and not in the database."""
        return set(self.acknowledged) - set(self.findings["events"])

    @property
    def lost_frames_s(self) -> float:
        """How much of what was seen before the cut is in no recording."""
        return max(0.0, (self.alive_ns - self.last_frame_ns) / _NS_PER_S)


@dataclass(slots=True)
class Life:
    """What was found."""

    jobs: Results
    cuts: list[Cut] = field(default_factory=list)


def live(
    box: Box, *, first: Sequence[Job], cuts: int, last: Sequence[Job], alert_celsius: float, seed: int = 1
) -> Life:
    """Boot for the first jobs, cut the power so many times while the service records, boot for the last jobs.

    Parameters
    ----------
    box : Box
        A new one.
    first, last : sequence of Job
        Done before the first power cut and after the last.
    cuts : int
        At least one.
    alert_celsius : float
        What the animals reach now and then: an alert on it gives events all the time.
    """
    rng = random.Random(seed)
    acknowledged: set[str] = set()
    unfinished: list[tuple[frozenset[str], int]] = []
    life = Life(jobs=Results(box.share, {}))
    for number in range(cuts):
        jobs = [*(first if number == 0 else ()), _power(number, "stay", alert_celsius)]
        with box.switched_on(jobs) as powered:
            powered.await_word("RECORDING", _RECORDING_S + sum(job.limit_s for job in jobs[:-1]))
            time.sleep(rng.uniform(*_AFTER_S))
        if number == 0:
            life.jobs = box.results(first)
        else:
            life.cuts.append(_cut(box, number, unfinished.pop(), powered))
        acknowledged |= set(powered.said("EVENT"))
        unfinished.append((frozenset(acknowledged), int(powered.said("ALIVE")[-1])))
    jobs = [_power(cuts, "go", alert_celsius), *last]
    with box.switched_on(jobs) as powered:
        powered.await_end(_RECORDING_S + sum(job.limit_s for job in jobs))
    life.cuts.append(_cut(box, cuts, unfinished.pop(), powered))
    life.jobs = life.jobs.with_others(box.results(last))
    return life


def _power(number: int, then: str, alert_celsius: float) -> Job:
    return Job(
        name=f"boot-{number}",
        module="service_power",
        options="--coarse-packets",
        arguments=(f"boot-{number}", then, f"{alert_celsius:.3f}"),
        limit_s=_RECORDING_S,
    )


def _cut(box: Box, number: int, before: tuple[frozenset[str], int], powered: Powered) -> Cut:
    """What the boot of this number found of the cut before it."""
    acknowledged, alive_ns = before
    folder = box.share / f"boot-{number}"
    last_frame_ns, recorded, rate_hz = _newest(folder)
    return Cut(
        acknowledged=acknowledged,
        alive_ns=alive_ns,
        ready_s=powered.when("READY"),
        recording_s=powered.when("RECORDING"),
        findings=json.loads((folder / "findings.json").read_text(encoding="utf-8")),
        last_frame_ns=last_frame_ns,
        recorded=recorded,
        rate_hz=rate_hz,
    )


def _newest(folder: Path) -> tuple[int, int, float]:
    """Time of the last frame among the recordings that this boot has closed, each proved against its sums."""
    newest = (0, 0, 0.0)
    for path in folder.glob("*.mkv"):
        with Recording(path) as recording:
            recording.verify()
            for frame in recording:  # every one decodes
                rate_hz = _NS_PER_S / recording.header.period_ns
                newest = max(newest, (frame.raw.captured_utc_ns, len(recording), rate_hz))
    return newest
