"""A store in a file, and small things to put into it."""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from daemon.observation import AnimalObservation, FrameObservation, PartObservation
from daemon.schedule import PlannedBlock
from daemon.store.repository import Store, open_store
from daemon.vision.parts import BodyPart
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S
from drivers.frame import FrameFlag
from drivers.t2s_protocol import Constants, Environment
from drivers.thermometry import Calibration
from tests.databases import KINDS, Server

START_UTC_NS = 1_795_000_000 * NS_PER_S
"""18 November 2026, 05:06:40 UTC."""

CALIBRATION = Calibration(
    constants=Constants(reference_count=6000, a=0.0125, b=1.5, ka=1e-3, kb=-2e-4, kc=0.97),
    shutter_celsius=27.125,
    fpa_celsius=31.5,
    environment=Environment(emissivity=0.98, humidity=0.45),
)

CAMERA = CameraInfo(
    kind="simulated", product="T2S+", serial="S1", firmware="1.0", location="seed 1", frame_rate_hz=25.0
)

PART = PartObservation(
    part=BodyPart.HEAD,
    x_px=100.25,
    y_px=80.5,
    x_mm=None,
    y_mm=None,
    area_px=120,
    area_mm2=None,
    valid_px=118,
    mean_celsius=33.1,
    median_celsius=33.0,
    p95_celsius=34.9,
    min_celsius=30.2,
    max_celsius=35.0,
)

RAT = AnimalObservation(animal=1, parts=(PART,))


def _observation(
    second: int = 0,
    *,
    block_key: str | None = None,
    animals: tuple[AnimalObservation, ...] = (RAT,),
    calibration: Calibration = CALIBRATION,
) -> FrameObservation:
    """The frame of a second after the start, of a block if one is named."""
    captured_utc_ns = START_UTC_NS + second * NS_PER_S
    return FrameObservation(
        sequence=second,
        captured_utc_ns=captured_utc_ns + 7_000_000,
        captured_monotonic_ns=second * NS_PER_S,
        flags=FrameFlag.SETTLING,
        calibration=calibration,
        fpa_celsius=31.6,
        shutter_celsius=27.2,
        background_celsius=24.5,
        animals=animals,
        not_measured=None,
        block_key=block_key,
        planned_utc_ns=None if block_key is None else captured_utc_ns,
    )


def _planned_block(*, number: int = 1, start_second: int = 0, seconds: int = 10, period_s: float = 1.0) -> PlannedBlock:
    """A block of ten seconds at one frame a second."""
    return PlannedBlock(
        day=date(2026, 11, 18),
        stratum="night",
        number=number,
        start_utc_ns=START_UTC_NS + start_second * NS_PER_S,
        duration_ns=seconds * NS_PER_S,
        period_ns=round(period_s * NS_PER_S),
    )


def _begin_run(store: Store) -> tuple[int, int]:
    """Ids of a run and its camera."""
    run_id = store.start_run(
        version="0.1.0",
        config_hash="abc",
        config_json="{}",
        segmenter="classical 1",
        host="box",
        boot_id="boot",
        started_utc_ns=START_UTC_NS,
    )
    return run_id, store.register_camera(CAMERA, "v1")


@pytest.fixture
def observation() -> Callable[..., FrameObservation]:
    """Makes the frame of a second after the start, of a block if one is named."""
    return _observation


@pytest.fixture
def planned_block() -> Callable[..., PlannedBlock]:
    """Makes a block; by default ten seconds at one frame a second."""
    return _planned_block


@pytest.fixture
def begin_run() -> Callable[[Store], tuple[int, int]]:
    """Starts a run in a store and registers a camera: their ids."""
    return _begin_run


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    """Where the database is; who asks for it, has one that is a file."""
    return tmp_path / "vivarium.db"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have a test that does not ask for the database's file run on every kind of database."""
    if "kind_of_database" in metafunc.fixturenames and "database_path" not in metafunc.fixturenames:
        metafunc.parametrize("kind_of_database", KINDS)


@pytest.fixture
def url(database_url: str) -> str:
    """URL of a database: of the file, or with tables in a server."""
    return database_url


@pytest.fixture
def bare_url(kind_of_database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without tables, or of a file that is not there yet."""
    if kind_of_database == "sqlite":
        yield f"sqlite:///{tmp_path / 'bare.db'}"
        return
    server: Server = request.getfixturevalue("postgresql")
    with server.database(tables=False) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An open store in a new file."""
    with open_store(url, outbox_limit=100) as store:
        yield store


@pytest.fixture
def ids(store: Store) -> tuple[int, int]:
    """Run and camera of the store."""
    return _begin_run(store)


@pytest.fixture
def add(store: Store, ids: tuple[int, int]) -> Callable[..., list[int]]:
    """`Store.add` for that run and camera."""
    run_id, camera_id = ids

    def add(*observations: FrameObservation) -> list[int]:
        return store.add(observations, run_id=run_id, camera_id=camera_id)

    return add
