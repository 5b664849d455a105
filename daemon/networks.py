"""Which networks the service uses: those of the config, or those that come with the package."""

import hashlib
import importlib.metadata
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from daemon.settings import NO_MODEL, SHIPPED_MODEL, VisionSettings
from daemon.vision.onnx_file import ModelError
from daemon.vision.segmenter import (
    Hardware,
    Model,
    NetworkSegmenter,
    be_nice,
    load_model,
    missing_gpu,
    thread_count,
)

logger = logging.getLogger(__name__)

Kind = Literal["unet", "panoptic"]

_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")

SHIPPED_DIR = Path(__file__).resolve().parents[1] / "export" / "models"
"""Part of the package, in a checkout as well as where it is installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """What was found."""

    segmenter: NetworkSegmenter | None
    why_none: str | None
    """Why there is none."""
    problem: str | None = None
    """Why it is less than what was asked for; None when all of that is there."""
    refused: str | None = None
    """Why it is not what the config names but what was in force before."""


def _choices(vision: VisionSettings) -> dict[Kind, str]:
    return {"unet": vision.unet, "panoptic": vision.panoptic}


def model_path(kind: str, choice: str, shipped_dir: Path = SHIPPED_DIR) -> Path | None:
    """The file that a setting means; None when it is off, or a shipped one that is not there."""
    if choice == NO_MODEL:
        return None
    if choice != SHIPPED_MODEL:
        return Path(choice)
    path = shipped_dir / f"{kind}.onnx"
    return path if path.exists() else None


def file_hashes(vision: VisionSettings, shipped_dir: Path = SHIPPED_DIR) -> dict[str, str]:
    """SHA-256 of the file of each network that the settings mean, by its kind; where it cannot be read, why."""
    hashes: dict[str, str] = {}
    for kind, choice in _choices(vision).items():
        path = model_path(kind, choice, shipped_dir)
        try:
            hashes |= {} if path is None else {kind: hashlib.sha256(path.read_bytes()).hexdigest()}
        except OSError as error:
            hashes[kind] = str(error)
    return hashes


def open_networks(vision: VisionSettings, *, most: int, shipped_dir: Path = SHIPPED_DIR) -> Networks:
    """Load, check and try the networks.

    Parameters
    ----------
    vision : VisionSettings
        Which ones, and on what they run.
    most : int
        How many animals there are at most.

    Raises
    ------
    ModelError
        If one that is there, or was named, cannot be used.
    """
    found = find_networks(vision, most=most, shipped_dir=shipped_dir)
    if found.problem is not None:
        raise ModelError(found.problem)
    return found


def find_networks(
    vision: VisionSettings, *, most: int, shipped_dir: Path = SHIPPED_DIR, given_up: threading.Event | None = None
) -> Networks:
    """The same with what can be used, and with what is wrong with the rest as its `problem`.

    Parameters
    ----------
    given_up : threading.Event, optional
        Ends it soon, with a problem.
    """
    choices = {kind: choice for kind, choice in _choices(vision).items() if choice != NO_MODEL}
    none_shipped = not any(shipped_dir.glob("*.onnx"))
    wanted = {kind: choice for kind, choice in choices.items() if choice != SHIPPED_MODEL or not none_shipped}
    if not wanted:
        why = "the networks are switched off" if not choices else _none_shipped(shipped_dir)
        return Networks(segmenter=None, why_none=why)
    hardware = Hardware(provider=vision.provider, threads=thread_count(vision.threads, networks=len(wanted)))
    models: dict[Kind, Model] = {}
    problems = []
    for kind, choice in wanted.items():
        try:
            models[kind] = _open(kind, choice, hardware, shipped_dir, given_up)
        except ModelError as error:
            problems.append(f"vision.{kind}: {error}")
    segmenter = None
    if models:
        try:
            segmenter = NetworkSegmenter(unet=models.get("unet"), panoptic=models.get("panoptic"), most=most)
        except ModelError as error:
            problems.append(str(error))
    problem = "; ".join(problems) or None
    if segmenter is not None:
        _tell(segmenter, vision)
    return Networks(segmenter=segmenter, why_none=problem if segmenter is None else None, problem=problem)


def _none_shipped(shipped_dir: Path) -> str:
    return f"this installation brings no networks ({shipped_dir} is empty)"


def _open(kind: Kind, choice: str, hardware: Hardware, shipped_dir: Path, given_up: threading.Event | None) -> Model:
    path = model_path(kind, choice, shipped_dir)
    if path is None:
        raise ModelError(
            f"{shipped_dir / kind}.onnx is missing from this installation: install it again, or set it to {NO_MODEL!r}"
        )
    return load_model(path, hardware, kind=kind, given_up=given_up)


def on_cpu(networks: NetworkSegmenter, vision: VisionSettings, *, given_up: threading.Event | None = None) -> Networks:
    """The same networks on the CPU, where a GPU does not do.

    Raises
    ------
    ModelError
        If a file is not any more what it was.
    """
    hardware = Hardware(provider="cpu", threads=thread_count(vision.threads, networks=len(networks.models)))
    models: dict[str, Model] = {}
    for model in networks.models:
        loaded = load_model(model.path, hardware, kind=model.card.kind, given_up=given_up)
        if loaded.sha256 != model.sha256:
            raise ModelError(f"{model.path}: expected the file with the SHA-256 {model.sha256}, got {loaded.sha256}")
        models[model.card.kind] = loaded
    segmenter = NetworkSegmenter(unet=models.get("unet"), panoptic=models.get("panoptic"), most=networks.most)
    return Networks(segmenter=segmenter, why_none=None)


class Preparation:
    """Networks that are being loaded and tried, in a nice thread of their own; nobody has to wait for it.

    Parameters
    ----------
    work : callable
        Makes them; told an event that is set when nobody wants them any more.
    """

    def __init__(self, work: Callable[[threading.Event], Networks]) -> None:
        self._done, self._given_up = threading.Event(), threading.Event()
        self._networks: Networks | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="networks", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[threading.Event], Networks]) -> None:
        be_nice()
        try:
            self._networks = work(self._given_up)
        except Exception as error:  # whatever a file makes onnxruntime do: the service goes on
            if not isinstance(error, ModelError):
                logger.exception("the networks could not be loaded")
            problem = str(error) or type(error).__name__
            self._networks = Networks(segmenter=None, why_none=problem, problem=problem)
        finally:
            self._done.set()
            if self._given_up.is_set():
                self._networks = None

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return self._done.is_set()

    def take(self, timeout_s: float) -> Networks | None:
        """What came of it, once: it holds no networks that are exchanged later. None when it is not over in time."""
        if not self._done.wait(timeout_s):
            return None
        networks, self._networks = self._networks, None
        return networks

    def give_up(self) -> None:
        """Nobody wants them any more: it ends soon."""
        self._given_up.set()
        self._networks = None

    def end(self, timeout_s: float) -> None:
        """Give up, and wait for its thread."""
        self.give_up()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.error("the networks are still being loaded")


def _tell(segmenter: NetworkSegmenter, vision: VisionSettings) -> None:
    for model in segmenter.models:
        logger.info(
            "network %s: %s, SHA-256 %s, on %s", model.card.title, model.path, model.sha256[:12], running_on(model)
        )
    missing = missing_gpu() if vision.provider != "cpu" else None
    if missing is not None:
        logger.log(
            logging.WARNING if vision.provider == "cuda" else logging.INFO, "the networks run on the CPU: %s", missing
        )
    elif vision.provider != "cpu" and any(model.provider == "cpu" for model in segmenter.models):
        logger.warning("the networks run on the CPU: onnxruntime could not use the GPU; see docs/models.md")


def running_on(model: Model) -> str:
    """What a network runs on, in words."""
    return (
        "the GPU (CUDA)" if model.provider == "cuda" else f"the CPU, {model.threads} thread{'s' * (model.threads > 1)}"
    )


def both_runtimes_installed() -> bool:
    """Whether onnxruntime is there twice: the packages for CPU and GPU write the same files."""
    return all(_is_installed(name) for name in _RUNTIMES)


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
