"""The guest for tests: built if needed, booted once for each kind of camera."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.virtual.reel import Reel
from tests.hil.guest.image import build, missing
from tests.hil.guest.machine import Job, Machine, Results

Boot = Callable[[str, list[Job]], Results]


@pytest.fixture(scope="session")
def boot(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Boot:
    """Boots the guest with a list of jobs and gives their results."""
    if os.environ.get("VIVARIUM_HIL") != "1":
        pytest.skip("takes minutes and builds an image: run `make test-hil`")
    reason = missing()
    if reason:
        pytest.skip(reason)
    reel: Reel = request.getfixturevalue("reel")
    image = build()

    def run(name: str, jobs: list[Job]) -> Results:
        share: Path = tmp_path_factory.mktemp(name)
        reel.save(share / "reel.npz")
        return Machine(image, share).run(jobs)

    return run
