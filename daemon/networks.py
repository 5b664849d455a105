"""Which networks the service uses: those of the config, or those that come with the package."""

import hashlib
import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from daemon.settings import NO_MODEL, SHIPPED_MODEL, VisionSettings
from daemon.vision.onnx_file import ModelError
from daemon.vision.segmenter import Hardware, Model, NetworkSegmenter, load_model, missing_gpu, thread_count

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
    count = sum(model_path(kind, choice, shipped_dir) is not None for kind, choice in _choices(vision).items())
    hardware = Hardware(provider=vision.provider, threads=thread_count(vision.threads, networks=max(1, count)))
    unet = _open("unet", vision.unet, hardware, shipped_dir)
    panoptic = _open("panoptic", vision.panoptic, hardware, shipped_dir)
    if unet is None and panoptic is None:
        off = vision.unet == vision.panoptic == NO_MODEL
        why = (
            "the networks are switched off" if off else f"this installation brings no networks ({shipped_dir} is empty)"
        )
        return Networks(segmenter=None, why_none=why)
    segmenter = NetworkSegmenter(unet=unet, panoptic=panoptic, most=most)
    _tell(segmenter, vision)
    return Networks(segmenter=segmenter, why_none=None)


def _open(kind: Kind, choice: str, hardware: Hardware, shipped_dir: Path) -> Model | None:
    path = model_path(kind, choice, shipped_dir)
    if path is None:
        return None
    try:
        return load_model(path, hardware, kind=kind)
    except ModelError as error:
        raise ModelError(f"vision.{kind}: {error}") from error


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
