"""Models as files: what is read from their bytes, and what is refused."""

from pathlib import Path

import onnx
import pytest

from daemon.vision.onnx_file import ModelError, read_onnx
from tests.models import OPSET, write_model


def test_facts_are_those_that_onnx_itself_reads(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx", "panoptic")
    found, graph = read_onnx(path), onnx.load(path)
    assert found.ir_version == graph.ir_version
    assert found.producer == "tests"
    assert found.opsets == {"": OPSET}
    assert found.metadata == {each.key: each.value for each in graph.metadata_props}
    assert sum(found.operators.values()) == len(graph.graph.node)
    assert found.operators["Where"] == sum(node.op_type == "Where" for node in graph.graph.node)
    assert found.parameters == sum(onnx.numpy_helper.to_array(each).size for each in graph.graph.initializer)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"no model, only words", id="words"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(100), id="picture"),
        pytest.param(b"\xff" * 64, id="number without an end"),
        pytest.param(b"\x08\x09", id="no graph"),
    ],
)
def test_what_is_no_model_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: expected an ONNX file, got something else .*export it anew"):
        read_onnx(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx: the model cannot be read: No such file"):
        read_onnx(tmp_path / "absent.onnx")


def test_no_cut_is_taken_for_a_whole_file_nor_ends_in_another_error(tmp_path: Path) -> None:
    whole = write_model(tmp_path / "whole.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for length in range(0, len(whole), max(1, len(whole) // 300)):
        path.write_bytes(whole[:length])
        try:
            metadata = read_onnx(path).metadata
        except ModelError:
            continue
        assert "model_card" not in metadata  # cut between two fields: the card, which comes last, is missing
