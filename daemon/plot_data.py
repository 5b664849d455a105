"""What a plot of evidence shows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlotData:
    """One quantity over time; arrays are (n,), one for each step of time."""

    title: str
    measure: str
    steps: NDArray[np.int64]
    """Counted from the Unix epoch."""
    step_s: int
    """How long each is."""
    values: NDArray[np.float64]
    """NaN where there is none."""
    coverage: NDArray[np.float64]
    low: NDArray[np.float64]
    """Lower edge of what is usual; NaN where there is no baseline."""
    high: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    at_work: NDArray[np.bool_]
    """Steps of maintenance."""
    since: int | None
    """The step from which on it was wrong."""
    local_s: NDArray[np.int64]
    """Begin of the steps by the local clock, seconds from a local epoch."""
