"""The judge of gaps: what it holds against the service and what against the machine."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.conftest import JudgeGaps

MS = 1_000_000
EVEN = [number * 40 * MS for number in range(100)]
LATE = [at for at in EVEN if not 1000 * MS < at < 1200 * MS]
"""Nothing between 1.0 and 1.2 s."""


@pytest.mark.parametrize(
    ("frames", "stalls", "held", "excused", "longest_held_s"),
    [
        pytest.param(EVEN, [], 0, 0, 0.04, id="even"),
        pytest.param(LATE, [], 1, 0, 0.2, id="held up"),
        pytest.param(LATE, [(1010 * MS, 1190 * MS)], 0, 1, 0.04, id="the machine stood still"),
        pytest.param(LATE, [(1010 * MS, 1050 * MS)], 1, 0, 0.2, id="it stood still for less"),
        pytest.param(LATE, [(0, 900 * MS), (1300 * MS, 2000 * MS)], 1, 0, 0.2, id="it stood still at other times"),
        pytest.param(EVEN[:50], [], 1, 0, 2.0, id="none until the end"),
        pytest.param([], [], 1, 0, 3.96, id="none at all"),
    ],
)
def test_a_gap_is_excused_only_by_a_machine_that_stood_still_meanwhile(
    gaps_between: "JudgeGaps",
    frames: list[int],
    stalls: list[tuple[int, int]],
    held: int,
    excused: int,
    longest_held_s: float,
) -> None:
    gaps = gaps_between(frames, stalls, 0, EVEN[-1])
    assert (gaps.held, gaps.excused) == (held, excused)
    assert gaps.longest_held_s == pytest.approx(longest_held_s)
