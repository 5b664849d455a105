"""The networks and all that lies around them, on one frame: the shipped models, or untrained ones of their form.

Limits: 20 ms for both networks on two cores, and 1.15 times that from raw transfer to stored observation. They are
printed (`pytest -s`), and not asserted: a busy machine is no fault of the program. What is asserted is that the work
was done.
"""

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.messaging.announcer import Silence
from daemon.networks import SHIPPED_DIR
from daemon.opencv import one_thread
from daemon.pipeline import Pipeline
from daemon.rules import AlertRules
from daemon.sampling import CameraFound, Sample
from daemon.settings import AlertSettings
from daemon.store.repository import Store, open_store
from daemon.vision.classical import ClassicalSegmenter
from daemon.vision.model_card import INPUT_NAME
from daemon.vision.model_check import scenes
from daemon.vision.resilient import ResilientSegmenter
from daemon.vision.runtime import onnxruntime
from daemon.vision.segmenter import Hardware, Model, NetworkSegmenter, load_model
from daemon.worker import Worker
from drivers.camera import CameraInfo
from drivers.clock import NS_PER_S, SimulatedClock, SystemClock
from drivers.decoder import FrameDecoder
from drivers.frame import RawFrame
from drivers.simulated import SimulatedCamera
from tests.bench.limits import beside_limit

ROUNDS = 60
FRAMES_PER_COMMIT = 5
"""As at 25 frames a second with a commit every 0.2 s."""
LIMIT_MS = 20.0
LIMIT_RATIO = 1.15


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The shipped models; untrained ones in eight bits where there are none."""
    shipped = {kind: SHIPPED_DIR / f"{kind}.onnx" for kind in ("unet", "panoptic")}
    if all(path.exists() for path in shipped.values()):
        return shipped
    if importlib.util.find_spec("torch") is None:
        pytest.skip("no models are shipped, and without torch none can be made: pip install '.[training,export]'")
    return _untrained(tmp_path_factory.mktemp("models"))


def _untrained(folder: Path) -> dict[str, Path]:
    import torch

    from export.checkpoint_card import card_of_network
    from export.onnx import export_onnx
    from export.quantize import quantize
    from training.checkpoints import load, untrained
    from training.recipe import Kind, Preset, preset, recipe_to_json

    torch.manual_seed(0)
    some, made = scenes(4, 0), {}
    for kind in Kind:
        recipe, checkpoint = preset(Preset.FULL, kind), folder / f"{kind}.ckpt"
        weights = {f"network.{name}": value for name, value in untrained(recipe).state_dict().items()}
        torch.save({"recipe": recipe_to_json(recipe), "state_dict": weights, "epoch": 0}, checkpoint)
        network = load(checkpoint)
        export_onnx(network, card_of_network(network, checkpoint, epochs=1), folder / f"{kind}-float.onnx")
        made[str(kind)] = folder / f"{kind}.onnx"
        quantize(
            folder / f"{kind}-float.onnx", made[str(kind)], calibration=[each.celsius for each in some], validation=some
        )
    return made


@pytest.fixture(scope="module")
def networks(files: dict[str, Path]) -> NetworkSegmenter:
    """As the service has them on two cores: a thread for each."""
    hardware = Hardware(provider="cpu", threads=1)
    return NetworkSegmenter(unet=load_model(files["unet"], hardware), panoptic=load_model(files["panoptic"], hardware))


@pytest.fixture(scope="module")
def two_threads(files: dict[str, Path]) -> list[Model]:
    """Both on two threads, to be run one after the other."""
    return [load_model(path, Hardware(provider="cpu", threads=2)) for path in files.values()]


@pytest.fixture(scope="module")
def raws() -> list[RawFrame]:
    """Transfers of one rat, a frame apart."""
    clock = SimulatedClock(1_790_000_000 * NS_PER_S)
    found = []
    with SimulatedCamera.create(clock=clock) as camera:
        for _ in range(ROUNDS + FRAMES_PER_COMMIT):
            found.append(camera.read_raw(1))
            clock.advance(0.04)
    return found


class Bench:
    """Everything between a transfer and the database."""

    def __init__(self, segmenter: ResilientSegmenter, store: Store) -> None:
        self._decoder = FrameDecoder()
        self.store = store
        run_id = store.start_run(
            version="1",
            config_hash="h",
            config_json="{}",
            segmenter=segmenter.name,
            host="box",
            boot_id="b",
            started_utc_ns=0,
        )
        self._worker = Worker(
            pipeline=Pipeline(segmenter, animals=6, mm_per_px=1.0, left_out=lambda _frame: None),
            rules=AlertRules(AlertSettings(), animals=6),
            store=store,
            run_id=run_id,
            clock=SystemClock(),
            announcer=Silence(),
            commit_interval_s=1.0,
            on_measured=lambda _frame, _measured: None,
            beat=lambda: None,
        )
        info = CameraInfo(kind="simulated", product="", serial="", firmware="", location="", frame_rate_hz=25.0)
        self._worker.handle(CameraFound(at_utc_ns=0, info=info, variant="v1", away_s=0.0))

    def step(self, raw: RawFrame) -> None:
        """One frame to one stored observation; every fifth commits, as in the service."""
        sample = Sample(frame=self._decoder.decode(raw), block_key=None, planned_utc_ns=None)
        self._worker.handle(sample)
        if self._worker.waiting == FRAMES_PER_COMMIT:
            self._worker.write()


@pytest.fixture
def bench(networks: NetworkSegmenter, tmp_path: Path) -> Iterator[Bench]:
    """On a database of its own."""
    with ExitStack() as stack:
        fallback = ClassicalSegmenter(animals=6, min_area_px=150)
        segmenter = stack.enter_context(ResilientSegmenter(networks, fallback, clock=SystemClock()))
        store = stack.enter_context(open_store(f"sqlite:///{tmp_path / 'vivarium.db'}", outbox_limit=1000))
        yield Bench(segmenter, store)


def timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def test_from_raw_transfer_to_stored_observation(
    bench: Bench, networks: NetworkSegmenter, two_threads: list[Model], raws: list[RawFrame]
) -> None:
    picture = FrameDecoder().decode(raws[0]).celsius[np.newaxis]
    calls = [one_call(model, picture) for model in two_threads]
    for raw in raws[:FRAMES_PER_COMMIT]:
        bench.step(raw)
    bare, at_once, step = [], [], []
    with one_thread():  # as the service does
        for raw in raws[FRAMES_PER_COMMIT:]:  # in turn, so that whatever else the machine does meets all alike
            bare.append(timed(lambda: [call() for call in calls]))
            at_once.append(timed(lambda: networks.outputs(picture)))
            step.append(timed(partial(bench.step, raw)))
    assert bench.store.counts().frames == len(raws)
    ratio = median(step) / median(bare)
    print(  # noqa: T201
        f"\n{networks.name}: both networks {median(bare):.1f} ms one after the other on two threads; "
        f"at once on one each, as in the service, {beside_limit(median(at_once), LIMIT_MS, 'ms')}; "
        f"from transfer to stored observation {median(step):.1f} ms, "
        f"{beside_limit(ratio, LIMIT_RATIO)} of one after the other"
    )


def one_call(model: Model, picture: NDArray[np.float32]) -> Callable[[], object]:
    """A bare `session.run` of the file, with the options of the service."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {INPUT_NAME: picture[:, np.newaxis]})


def test_the_published_network_on_the_same_frame(two_threads: list[Model], raws: list[RawFrame]) -> None:
    torch = pytest.importorskip("torch", reason="the published network runs in torch: pip install '.[training]'")
    from training.unet import PUBLISHED, UNet

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(0)
        network = UNet(PUBLISHED).eval()
        picture = FrameDecoder().decode(raws[0]).celsius[np.newaxis]
        large = torch.nn.functional.interpolate(torch.from_numpy(picture.copy())[:, None], (512, 512)).repeat(
            1, 3, 1, 1
        )
        with torch.inference_mode():
            network(large)
            published = min(timed(lambda: network(large)) for _ in range(3))
    finally:
        torch.set_num_threads(before)
    ours = min(timed(lambda: [model.run(picture) for model in two_threads]) for _ in range(10))
    assert ours < published
    print(  # noqa: T201
        f"\nthe published U-Net in torch: {published:.0f} ms on two threads, {published / ours:.0f} times both of ours"
    )
