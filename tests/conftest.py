"""What every test shares."""

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from daemon.opencv import one_thread
from daemon.vision.segmenter import THREAD_NAME
from drivers.virtual.reel import Reel, render
from tests.databases import Server, why_none

GOLDEN = Path(__file__).parent / "data" / "golden"


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread running; a network's own one lives as long as who holds the network."""
    before = set(threading.enumerate())
    yield
    left = [
        thread for thread in threading.enumerate() if thread not in before and not thread.name.startswith(THREAD_NAME)
    ]
    for thread in left:
        thread.join(timeout=5)
    alive = [thread.name for thread in left if thread.is_alive()]
    assert not alive, f"threads left behind: {alive}"


@pytest.fixture(scope="session", autouse=True)
def no_threads_for_small_matrices() -> Iterator[None]:
    """As the command and the service have it: more threads wait for each other, which takes two thirds of the time."""
    with threadpool_limits(limits=1, user_api="blas"), one_thread():
        yield


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden vectors."""
    return GOLDEN


@pytest.fixture(scope="session")
def real_material() -> Path:
    """Folder of real pictures and transfers whose licences forbid shipping them; tests skip where it is absent.

    It is VIVARIUM_REAL_MATERIAL, or the folder `shared` beside the checkout, with `real/` and `camera/real/` in it.
    """
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("VIVARIUM_REAL_MATERIAL", default))
    if not (folder / "real").is_dir():
        pytest.skip(f"real material is not present in {folder}")
    return folder


@pytest.fixture(scope="session")
def reel() -> Reel:
    """The pictures of every virtual camera."""
    return render()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server, running."""
    why = why_none()
    if why is not None:
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="vivarium-pg-") as folder:  # pytest's own are closed to other users
        server = Server(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def kind_of_database() -> str:
    """A file; `tests.databases.ON_BOTH` has a test run on a server as well."""
    return "sqlite"


@pytest.fixture
def database_url(kind_of_database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database: of `vivarium.db` in the test's folder, or with tables in a server."""
    if kind_of_database == "sqlite":
        yield f"sqlite:///{tmp_path / 'vivarium.db'}"
        return
    server: Server = request.getfixturevalue("postgresql")
    with server.database() as url:
        yield url
