"""What a checkpoint says about itself, as the card of a model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from daemon.vision.model_card import LABELS, ModelCard, TrainedOn
from daemon.vision.onnx_file import ModelError
from export.onnx import OPSET
from training.checkpoints import history_of
from training.deployed import Deployed, DeployedPublished
from training.history import UNKNOWN, History, Stretch, version_of
from training.material import FRESH_SCENES
from training.recipe import Kind
from training.source_spec import SourceSpec

LICENCE = "MIT"
"""Of networks that learned from scenes of this project alone."""
SYNTHETIC_LIMIT = "Trained on synthetic pictures alone: how it does on a real box must be looked at there."
LIMITS = (
    "Rats and mice seen from above, about 40 to 160 pixels from nose to tail base at 256 x 192 pixels.",
    "It knows nothing of hands, other animals, and young that still lie in the nest.",
    "Where animals lie on one another their outlines are guesses; whose a covered tail is cannot be seen.",
    "A tail as cold as the floor is not in the picture, and not found.",
    "It names parts, not animals: which animal is which is not its business.",
)
PUBLISHED_LIMITS = (
    "A network of the published system, trained on false-colour pictures of one animal; only converted here.",
    "It sees colours relative to the coldest and the hottest point of each picture.",
)


def card_of_network(
    network: Deployed | DeployedPublished, checkpoint: Path, *, epochs: int | None, licence: str | None = None
) -> ModelCard:
    """A card for the ONNX file that a checkpoint becomes.

    Parameters
    ----------
    network : Deployed or DeployedPublished
        What `training.checkpoints.load` made of the checkpoint.
    checkpoint : Path
        Its file: the first letters of its SHA-256 are the model's version, and what it went through is read from it.
    epochs : int or None
        How many it was trained for, by the checkpoint; None where that is not known.
    licence : str or None
        Of the model. None takes that of the project where everything was learned from its scenes, and else "unknown".

    Raises
    ------
    ModelError
        If the checkpoint cannot be read.
    """
    try:
        version = version_of(checkpoint)
    except OSError as error:
        raise ModelError(f"{checkpoint}: cannot be read: {error.strerror}") from error
    height, width = network.input_size
    history = None if network.recipe is None else history_of(checkpoint)
    stretches = () if history is None else tuple(history.whole())
    synthetic = bool(stretches) and all(_is_synthetic(stretch) for stretch in stretches)
    limits = PUBLISHED_LIMITS if history is None else (SYNTHETIC_LIMIT, *LIMITS) if synthetic else LIMITS
    return ModelCard(
        name="published-unet" if history is None else f"vivarium-{network.kind}",
        kind="unet" if network.kind is Kind.UNET else "panoptic",
        version=version,
        labels=LABELS,
        input_height=height,
        input_width=width,
        input_unit="celsius",
        stride=network.stride,
        opset=OPSET,
        precision="float32",
        trained_on=_trained_on(history, network, epochs),
        code_hash=_told(stretch.code_hash for stretch in stretches) or UNKNOWN,
        metrics={},
        measured_on="",
        limits=limits,
        licence=licence or (LICENCE if synthetic else UNKNOWN),
    )


def _trained_on(history: History | None, network: Deployed | DeployedPublished, epochs: int | None) -> TrainedOn:
    if history is None or network.recipe is None:
        return TrainedOn(text="the published system's own pictures", scenes=0, seeds="", generator_hash="")
    done = network.recipe.epochs if epochs is None else epochs
    counted = list(_counted(history, done))
    return TrainedOn(
        text=_in_words(history, done, network.recipe.epochs),
        scenes=sum(round(stretch.scenes_share * count * stretch.numbers_per_epoch) for stretch, count in counted),
        seeds=", ".join(
            f"{stretch.seed + stretch.first_epoch * stretch.numbers_per_epoch} to "
            f"{stretch.seed + (stretch.first_epoch + count) * stretch.numbers_per_epoch - 1}"
            for stretch, count in counted
            if count and stretch.scenes_share
        ),
        generator_hash=_told(stretch.generator_hash for stretch, _ in counted if _has_scenes(stretch)),
    )


def _counted(history: History, epochs: int | None) -> Iterator[tuple[Stretch, int]]:
    """Each stretch, those of what it began as first, and how many epochs it had; 0 where that is not known."""
    if history.origin is not None:
        yield from _counted(history.origin.history, history.origin.epochs)
    firsts = [stretch.first_epoch for stretch in history.stretches]
    for stretch, end in zip(history.stretches, (*firsts[1:], firsts[-1] if epochs is None else epochs), strict=True):
        yield stretch, max(end - stretch.first_epoch, 0)


def _in_words(history: History, done: int | None, planned: int | None) -> str:
    first, *others = history.stretches
    number = "some" if done is None else str(done)
    of = "" if planned is None else f" of {planned}"
    said = f"{_material(first.data)}, {number}{of} epochs of {first.pictures_per_epoch} augmented pictures"
    for stretch in others:
        said += f"; from epoch {stretch.first_epoch + 1} on"
        if stretch.data == first.data and stretch.pictures_per_epoch == first.pictures_per_epoch:
            said += " the same by another state of the program"
        else:
            said += f" {_material(stretch.data)}, {stretch.pictures_per_epoch} pictures an epoch"
    if history.origin is None and first.code_hash == UNKNOWN:
        said += "; what its weights were before is unknown"
    if history.origin is not None:
        origin = history.origin
        before = _in_words(origin.history, origin.epochs, None)
        said += f"; begun with the weights of a {origin.kind} network ({origin.version}: {before})"
    return said


def _material(data: Sequence[str]) -> str:
    """Names of the sources with their shares; of files only the last part of the path."""
    specs = [SourceSpec.parse(text) for text in data]
    total = sum(spec.weight for spec in specs)
    names = [_name(spec) for spec in specs]
    if len(names) == 1:
        return names[0]
    return ", ".join(f"{name} ({spec.weight / total:.0%})" for name, spec in zip(names, specs, strict=True))


def _name(spec: SourceSpec) -> str:
    if spec.place == FRESH_SCENES:
        return "synthetic scenes"
    if spec.scene_numbers is not None:
        first, count = spec.scene_numbers
        return f"the synthetic scenes {first} to {first + count - 1}"
    return Path(spec.place).name


def _has_scenes(stretch: Stretch) -> bool:
    return any(_is_of_scenes(text) for text in stretch.data)


def _is_synthetic(stretch: Stretch) -> bool:
    return all(_is_of_scenes(text) for text in stretch.data)


def _is_of_scenes(text: str) -> bool:
    spec = SourceSpec.parse(text)
    return spec.place == FRESH_SCENES or spec.scene_numbers is not None


def _told(hashes: Iterable[str]) -> str:
    """Each once, the earliest first."""
    return ", ".join(dict.fromkeys(hashes))


def measured(card: ModelCard, metrics: Mapping[str, float], measured_on: str) -> ModelCard:
    """The card with what was measured of the file."""
    return card.model_copy(update={"metrics": dict(metrics), "measured_on": measured_on})
