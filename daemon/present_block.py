"""What there was of the present block before a restart, for what is counted from its start."""

from collections.abc import Iterator, Sequence

from daemon.minute_values import MinuteCollector
from daemon.observation import FrameObservation
from daemon.store.corrections import CorrectionRows
from daemon.store.repository import Store

MOST_SAMPLES = 7200
"""More are not read at a start, which they would hold up: two hours at one frame a second."""

SAMPLES_A_READ = 500
"""So many are in memory at a time."""


def go_on_with_block(collector: MinuteCollector, store: Store, *, animals: int, numbers_go_on: bool) -> None:
    """Have a new collector know who has been in which zone in a block that is open.

    Where that is not known it tells no latency in this block: where the numbers began anew, be it at an earlier start
    within the block, or too much would have to be read.

    Parameters
    ----------
    collector : MinuteCollector
        Has seen no frame yet.
    store : Store
        Has the frames.
    animals : int
        How many live in the box; one alone is always the same.
    numbers_go_on : bool
        Whether each animal has the number that it had before.
    """
    blocks = store.open_blocks()
    if not blocks:
        return
    with store.correction_rows() as rows:
        ids = rows.samples_of_block(blocks[-1].key)
        if not ids:
            return
        runs = rows.runs_of(ids[0], rows.last_frame_id())
        one_life = runs <= {each.run_id for each in rows.life(max(runs))}
        known = len(ids) <= MOST_SAMPLES and (animals == 1 or (numbers_go_on and one_life))
        collector.resume(blocks[-1].key, _observations(rows, ids) if known else None)


def _observations(rows: CorrectionRows, ids: Sequence[int]) -> Iterator[FrameObservation]:
    for first in range(0, len(ids), SAMPLES_A_READ):
        yield from rows.observations(ids[first : first + SAMPLES_A_READ]).values()
