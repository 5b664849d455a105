"""What the tests of the export share."""

import pytest


@pytest.fixture(autouse=True, scope="package")
def _bars_without_a_thread() -> None:
    """A library that torch exports with watches its progress bars from a thread that never ends."""
    pytest.importorskip("tqdm").tqdm.monitor_interval = 0
