"""A measured figure beside its limit, in words; nothing fails by the clock: a busy machine is no fault of ours."""

from pytest_benchmark.fixture import BenchmarkFixture


def beside_limit(figure: float, limit: float, unit: str = "", *, at_least: bool = False) -> str:
    """For instance `12.3 ms (limit 20 ms: held)`; a limit that is a least figure is told as such."""
    held = figure >= limit if at_least else figure <= limit
    behind = f" {unit}" if unit else ""
    kind = "at least" if at_least else "limit"
    return f"{figure:,.4g}{behind} ({kind} {limit:,g}{behind}: {'held' if held else 'MISSED'})"


def told_beside_limit(benchmark: BenchmarkFixture, limit_ms: float) -> None:
    """Print the median of what was timed; nothing under --benchmark-disable."""
    if benchmark.stats is not None:
        median_ms = 1e3 * benchmark.stats.stats.median
        print(f"\nmedian {beside_limit(median_ms, limit_ms, 'ms')}")  # noqa: T201 - the figure
