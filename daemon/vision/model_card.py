"""The contract of the models: what an ONNX file takes, gives and says about itself. Changed here and nowhere else.

Input `celsius` float32 [N, 1, H, W]: degrees C, NaN where there is none; N is dynamic, H and W are the card's. What is
done to the degrees before the first layer, and the choice of the label after the last one, lies inside the graph.

Outputs of both kinds: `parts` uint8 [N, H, W], a `BodyPart` or 0, and `confidence` float32 [N, H, W], the probability
of that label. A panoptic model also gives `centre` float32 [N, 1, H/s, W/s], 0 to 1, highest at the centre of each
animal (the middle of what is seen of its body, or of its head or tail where no more is seen), and `offset` float32
[N, 2, H/s, W/s]: (dx, dy) in pixels of the input from the middle of each cell to the centre of the animal it belongs
to, from head and tail too. s is the card's `stride`; cell (i, j) has its middle at y = (i + 0.5) s - 0.5,
x = (j + 0.5) s - 0.5.

The card is JSON in the file's metadata under `model_card`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from daemon.vision.onnx_file import ModelError
from daemon.vision.parts import BodyPart

CARD_KEY = "model_card"
INPUT_NAME = "celsius"
LABELS = ("background", *(part.name.lower() for part in BodyPart))
OLDEST_OPSET = 13
"""Per-channel quantization needs it."""
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Sets of operators that every onnxruntime brings along; others would need a library of their own."""

_EXPORT_ANEW = "export the model anew with `vivarium export onnx`"

Text = Annotated[str, Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class TrainedOn(_Frozen):
    """The material of the training."""

    text: Text
    """In words, for people."""
    scenes: int = Field(ge=0)
    """Pictures that were shown, each counted once for every time it was newly made."""
    seeds: str
    """Of the synthetic scenes: first and last, or a list; empty without such."""
    generator_hash: str
    """SHA-256 over the sources of the scene generator at the time; several with commas between where it changed on
    the way, "unknown" where nobody wrote it down, empty without synthetic scenes."""


class ModelCard(_Frozen):
    """What a model says about itself."""

    schema_version: Literal[1] = 1
    name: Text
    kind: Literal["unet", "panoptic"]
    version: Text
    labels: tuple[str, ...]
    """Names of the numbers in `parts`, from 0."""
    input_height: int = Field(ge=32, le=4096)
    input_width: int = Field(ge=32, le=4096)
    input_unit: str
    """Of `celsius`; degrees C and nothing else."""
    stride: Literal[1, 2, 4] | None = None
    """Of `centre` and `offset`; None for a kind without them."""
    opset: int = Field(ge=1)
    """Version of the standard operators."""
    precision: Literal["float32", "int8"]
    trained_on: TrainedOn
    code_hash: Text
    """SHA-256 over the sources that made and trained the network, at that time; several, or "unknown", likewise."""
    metrics: Mapping[str, float]
    """What was measured of this very file."""
    measured_on: str
    """On which pictures; empty as long as nothing was measured."""
    limits: tuple[Text, ...]
    """What it cannot do, in sentences."""
    licence: Text

    @field_validator("labels")
    @classmethod
    def _order_of_labels(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if labels != LABELS:
            raise ValueError(
                f"expected the order {', '.join(LABELS)}, got {', '.join(labels)}: other numbers would make a tail of "
                "a head; put the model's outputs into this order before the arg-max"
            )
        return labels

    @field_validator("input_unit")
    @classmethod
    def _unit_of_the_input(cls, unit: str) -> str:
        if unit != "celsius":
            raise ValueError(f"expected celsius, got {unit!r}: convert inside the graph")
        return unit

    @model_validator(mode="after")
    def _stride_of_the_kind(self) -> Self:
        if (self.kind == "panoptic") != (self.stride is not None):
            raise ValueError(f"a panoptic model has a stride and a unet has none, got {self.kind} with {self.stride}")
        if self.stride is not None and (self.input_height % self.stride or self.input_width % self.stride):
            raise ValueError(f"stride {self.stride} does not divide {self.input_height} x {self.input_width}")
        return self

    @property
    def title(self) -> str:
        """Name and version in one word."""
        return f"{self.name}-{self.version}"

    def to_json(self) -> str:
        """As it stands in the metadata."""
        return self.model_dump_json()


def card_of(metadata: Mapping[str, str], origin: str) -> ModelCard:
    """The card in a file's metadata.

    Raises
    ------
    ModelError
        If there is none, or a field of it is refused; every such field is named.
    """
    text = metadata.get(CARD_KEY)
    if text is None:
        raise ModelError(f"{origin}: expected a model card in the metadata ({CARD_KEY}), got none: {_EXPORT_ANEW}")
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'card'}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()
        )
        raise ModelError(f"{origin}: the model card is refused: {problems}") from error


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as the graph declares it."""

    kind: str
    """As onnxruntime says it, for instance tensor(float)."""
    shape: tuple[int | str | None, ...]
    """A name or None stands for a size that is not fixed."""


def expected_outputs(card: ModelCard) -> dict[str, Tensor]:
    """What a model with this card gives."""
    height, width = card.input_height, card.input_width
    outputs = {
        "parts": Tensor("tensor(uint8)", (None, height, width)),
        "confidence": Tensor("tensor(float)", (None, height, width)),
    }
    if card.stride is not None:
        cells = (height // card.stride, width // card.stride)
        outputs["centre"] = Tensor("tensor(float)", (None, 1, *cells))
        outputs["offset"] = Tensor("tensor(float)", (None, 2, *cells))
    return outputs


def check_graph(
    card: ModelCard,
    *,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    opsets: Mapping[str, int],
    origin: str,
) -> None:
    """Compare what a graph declares with its card and the contract.

    Raises
    ------
    ModelError
        Naming everything that differs.
    """
    opset = opsets.get("", opsets.get("ai.onnx", 0))
    problems = []
    if opset != card.opset:
        problems.append(f"opset: the card says {card.opset}, the graph has {opset}")
    if opset < OLDEST_OPSET:
        problems.append(f"opset: expected at least {OLDEST_OPSET}, got {opset}")
    foreign = sorted(set(opsets) - _DOMAINS)
    if foreign:
        problems.append(f"operators: expected standard ones, got also those of {', '.join(foreign)}")
    wanted = {INPUT_NAME: Tensor("tensor(float)", (None, 1, card.input_height, card.input_width))}
    problems += _differences("input", wanted, inputs)
    problems += _differences("output", expected_outputs(card), outputs)
    if problems:
        raise ModelError(f"{origin}: the graph is refused: {'; '.join(problems)}: {_EXPORT_ANEW}")


def _differences(role: str, wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> list[str]:
    problems = [f"{role} {name}: missing" for name in wanted if name not in got]
    problems += [f"{role} {name}: not known here" for name in got if name not in wanted]
    for name in wanted.keys() & got.keys():
        there, here = wanted[name], got[name]
        if here.kind != there.kind:
            problems.append(f"{role} {name}: expected {there.kind}, got {here.kind}")
        if not _fits(here.shape, there.shape, is_input=role == "input"):
            problems.append(f"{role} {name}: expected {_words(there.shape)}, got {_words(here.shape)}")
    return sorted(problems)


def _fits(shape: Sequence[int | str | None], wanted: Sequence[int | str | None], *, is_input: bool) -> bool:
    """Sizes agree where both are fixed; the number of pictures never is, and an input must say all the others."""
    if len(shape) != len(wanted) or isinstance(shape[0], int):
        return False
    return all(
        size == want or (not is_input and not isinstance(size, int))
        for size, want in zip(shape[1:], wanted[1:], strict=True)
    )


def _words(shape: Sequence[int | str | None]) -> str:
    return f"[{', '.join('N' if size is None else str(size) for size in shape)}]"
