"""What stands in an ONNX file, read from its bytes alone: opsets, metadata, operators; no graph is built for it.

Written after onnx/onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (field numbers), and the wire
format of protocol buffers, https://protobuf.dev/programming-guides/encoding/.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from drivers.errors import VivariumError

MOST_BYTES = 1 << 30
"""Of a model file: protocol buffers end at 2 GiB, and nothing for one picture comes near."""

_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5
_FIXED_BYTES = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_MOST_VARINT_BYTES = 10

_IR_VERSION, _PRODUCER, _PRODUCER_VERSION, _GRAPH, _OPSET_IMPORT, _METADATA = 1, 2, 3, 7, 8, 14
"""Fields of ModelProto."""
_NODE, _INITIALIZER = 1, 5
"""Fields of GraphProto."""
_OPERATOR = 4
"""Field of NodeProto."""
_DIMENSIONS = 1
"""Field of TensorProto."""


class ModelError(VivariumError):
    """A model cannot be used: what was expected, what came, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxFile:
    """A model file as it lies on the disk."""

    path: Path
    content: bytes
    """All of it: what is loaded is what was looked at, even if the file is replaced meanwhile."""
    sha256: str
    ir_version: int
    producer: str
    opsets: Mapping[str, int]
    """Version of each set of operators, by its domain; the standard one is ''."""
    metadata: Mapping[str, str]
    operators: Mapping[str, int]
    """How many nodes of each kind the main graph has."""
    parameters: int
    """Numbers in its constants."""


def read_onnx(path: Path) -> OnnxFile:
    """Read a model file.

    Raises
    ------
    ModelError
        If it cannot be read or is no ONNX file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise ModelError(f"{path}: expected a model of at most {MOST_BYTES >> 20} MiB, got more: is it another file?")
    try:
        return _parsed(path, content)
    except (ValueError, IndexError, TypeError) as error:
        raise ModelError(
            f"{path}: expected an ONNX file, got something else ({error}): copy it again, or export it anew"
        ) from error


def _parsed(path: Path, content: bytes) -> OnnxFile:
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    operators: Counter[str] = Counter()
    ir_version, parameters, producer = 0, 0, ["", ""]
    for number, value in _fields(memoryview(content)):
        if number == _IR_VERSION:
            ir_version = _whole(value)
        elif number in (_PRODUCER, _PRODUCER_VERSION):
            producer[number - _PRODUCER] = _text(value)
        elif number == _OPSET_IMPORT:
            fields = dict(_fields(_bytes(value)))
            opsets[_text(fields.get(1, memoryview(b"")))] = _whole(fields.get(2, 0))
        elif number == _METADATA:
            fields = dict(_fields(_bytes(value)))
            metadata[_text(fields[1])] = _text(fields.get(2, memoryview(b"")))
        elif number == _GRAPH:
            operators, parameters = _graph(_bytes(value))
    if not ir_version or not opsets or not operators:
        raise ValueError(f"{len(content)} bytes without a graph")
    return OnnxFile(
        path=path,
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
        ir_version=ir_version,
        producer=" ".join(filter(None, producer)),
        opsets=opsets,
        metadata=metadata,
        operators=dict(sorted(operators.items())),
        parameters=parameters,
    )


def _graph(data: memoryview) -> tuple[Counter[str], int]:
    operators: Counter[str] = Counter()
    parameters = 0
    for number, value in _fields(data):
        if number == _NODE:
            operators.update(_text(inner) for field, inner in _fields(_bytes(value)) if field == _OPERATOR)
        elif number == _INITIALIZER:
            parameters += prod(_dimensions(_bytes(value)))
    return operators, parameters


def _dimensions(tensor: memoryview) -> Iterator[int]:
    for number, value in _fields(tensor):
        if number != _DIMENSIONS:
            continue
        if isinstance(value, int):
            yield value
        else:  # packed: one varint after the other
            position = 0
            while position < len(value):
                dimension, position = _varint(value, position)
                yield dimension


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == _DELIMITED:
            length, position = _varint(data, position)
        elif kind in _FIXED_BYTES:
            length = _FIXED_BYTES[kind]
        else:
            raise ValueError(f"no field begins with kind {kind}")
        end = position + length
        if number == 0 or end > len(data):
            raise ValueError(f"field {number} ends beyond its message")
        yield number, data[position:end]
        position = end


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for step in range(_MOST_VARINT_BYTES):
        byte = data[position + step]
        value |= (byte & 0x7F) << (7 * step)
        if byte < 0x80:
            return value, position + step + 1
    raise ValueError("a number does not end")


def _whole(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("a number is something else")
    return value


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a message is a number")
    return value


def _text(value: int | memoryview) -> str:
    return str(_bytes(value), "utf-8")
