"""The guest for tests: built if needed, booted once for each kind of camera and for the life of a box."""

import os
import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import URL

from daemon.store.upgrade import MIGRATIONS, upgrade
from drivers.virtual.reel import Reel
from tests.hil.guest.box import Box
from tests.hil.guest.image import CannotBuildError, Image, build, missing
from tests.hil.guest.life import Life, live
from tests.hil.guest.machine import Job, Machine, NotDoneError, Results


class Boot(Protocol):
    """Boots the guest with a list of jobs."""

    def __call__(self, name: str, jobs: list[Job], *, exact: bool = False) -> Results:
        """Their results; `exact` as in `Machine`."""


Watch = Callable[[str, list[Job]], Results]
LiveIn = Callable[[str, list[Job], int, list[Job], float, Path | None], Life]

SHORT = os.environ.get("VIVARIUM_HIL") == "short"
_IN_SHORT = {"smoke", "unplug_service"}
"""Jobs of `make test-hil-short`; tests of others are skipped."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """A test of a job that this run leaves out is skipped."""
    try:
        return (yield)
    except NotDoneError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def image() -> Image:
    """What the guest boots."""
    if os.environ.get("VIVARIUM_HIL") not in ("1", "short"):
        pytest.skip("takes minutes and builds an image: run `make test-hil`")
    reason = missing()
    if reason:
        pytest.skip(reason)
    try:
        return build()
    except (CannotBuildError, subprocess.CalledProcessError) as error:
        if not SHORT:
            raise
        pytest.skip(f"the guest cannot be built here: {error}")


@pytest.fixture(scope="session")
def boot(image: Image, reel: Reel, tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """Boots the guest with a list of jobs and gives their results."""

    def run(name: str, jobs: list[Job], *, exact: bool = False) -> Results:
        share: Path = tmp_path_factory.mktemp(name)
        reel.save(share / "reel.npz")
        wanted = _wanted(jobs)
        return Machine(image, share, exact=exact).run(wanted) if wanted else Results(share, {})

    return run


@pytest.fixture(scope="session")
def watch(image: Image, reel: Reel, tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """Boots the whole of systemd on a processor of known speed, with a list of jobs, and gives their results."""

    def run(name: str, jobs: list[Job]) -> Results:
        folder: Path = tmp_path_factory.mktemp(name)
        share = folder / "share"
        share.mkdir()
        reel.save(share / "reel.npz")
        try:
            return Box(image, share, folder / "disk.img", exact=True).run(_wanted(jobs))
        finally:
            (folder / "disk.img").unlink(missing_ok=True)

    return run


@pytest.fixture(scope="session")
def live_in(image: Image, reel: Reel, tmp_path_factory: pytest.TempPathFactory) -> LiveIn:
    """Lets a box live: jobs, power cuts, jobs; with a Debian package and the database of an older program at hand."""

    def run(
        name: str, first: list[Job], cuts: int, last: list[Job], alert_celsius: float, package: Path | None
    ) -> Life:
        folder: Path = tmp_path_factory.mktemp(name)
        share = folder / "share"
        share.mkdir()
        reel.save(share / "reel.npz")
        if package is not None:
            shutil.copyfile(package, share / "package.deb")
            _make_older_database(share / "older.db", folder / "revisions")
        box = Box(image, share, folder / "disk.img")
        try:
            return live(box, first=_wanted(first), cuts=cuts, last=_wanted(last), alert_celsius=alert_celsius)
        finally:
            (folder / "disk.img").unlink(missing_ok=True)

    return run


def _make_older_database(path: Path, revisions: Path) -> None:
    """As the first program of all made it."""
    shutil.copytree(MIGRATIONS, revisions, ignore=shutil.ignore_patterns("__pycache__"))
    for revision in sorted((revisions / "versions").glob("r*.py"))[1:]:
        revision.unlink()
    upgrade(URL.create("sqlite", database=str(path)), utc_ns=0, location=revisions)


def _wanted(jobs: list[Job]) -> list[Job]:
    return [job for job in jobs if not SHORT or job.name in _IN_SHORT]
