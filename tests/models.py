"""Small real models for the tests: the contract's outputs computed from temperatures by hand-set thresholds.

Warmer than 26 °C is body, warmer than 33 °C head, and 24.6 to 26 °C tail. The panoptic one knows one animal: its centre
is the centroid of all that is warm. Faults can be built in.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from daemon.vision.runtime import onnxruntime

HEIGHT, WIDTH = 192, 256
OPSET = 17

CARD: dict[str, Any] = {
    "schema_version": 1,
    "name": "thresholds",
    "kind": "unet",
    "version": "1",
    "labels": ["background", "head", "body", "tail"],
    "input_height": HEIGHT,
    "input_width": WIDTH,
    "input_unit": "celsius",
    "opset": OPSET,
    "precision": "float32",
    "trained_on": {"text": "nothing: its numbers are set by hand", "scenes": 0, "seeds": "", "generator_hash": ""},
    "code_hash": "0" * 64,
    "metrics": {},
    "measured_on": "",
    "limits": ["It knows thresholds only."],
    "licence": "MIT",
}


def card(kind: str = "unet", **changes: Any) -> dict[str, Any]:
    """A card that is right for `write_model`, with changes."""
    return {**CARD, "kind": kind, **({"stride": 4} if kind == "panoptic" else {}), **changes}


def write_model(
    path: Path,
    kind: str = "unet",
    *,
    card_text: str | None = None,
    opset: int = OPSET,
    batch: int | str = "N",
    leave_out: Sequence[str] = (),
    extra: bool = False,
    head_celsius: float = 33.0,
    body_celsius: float = 26.0,
    slow_steps: int = 0,
    fails_above_celsius: float | None = None,
    slow_above_celsius: float = -300.0,
    nan_confidence: bool = False,
    domain: str = "",
    **card_changes: Any,
) -> Path:
    """Write a model.

    Parameters
    ----------
    path : Path
        Where.
    card_text : str, optional
        In place of the card as JSON.
    leave_out : sequence of str
        Outputs that it does not have.
    extra : bool
        Whether it has an output that nobody knows.
    slow_steps : int
        Matrix products in a loop, for each run with a pixel warmer than `slow_above_celsius`.
    fails_above_celsius : float, optional
        A picture with a pixel warmer than this ends in an error of the graph.
    """
    graph = _Graph()
    height, width = card_changes.get("input_height", HEIGHT), card_changes.get("input_width", WIDTH)
    graph.parts(head_celsius, body_celsius)
    if fails_above_celsius is not None:
        graph.failure(fails_above_celsius)
    if slow_steps:
        graph.delay(slow_steps, slow_above_celsius)
    graph.confidence(nan=nan_confidence)
    if kind == "panoptic":
        graph.centres(height, width, stride=4)
    outputs = {
        "parts": (TensorProto.UINT8, [batch, height, width]),
        "confidence": (TensorProto.FLOAT, [batch, height, width]),
    }
    if kind == "panoptic":
        outputs["centre"] = (TensorProto.FLOAT, [batch, 1, height // 4, width // 4])
        outputs["offset"] = (TensorProto.FLOAT, [batch, 2, height // 4, width // 4])
    if extra:
        graph.node("Identity", ["parts"], "more")
        outputs["more"] = (TensorProto.UINT8, [batch, height, width])
    made = helper.make_graph(
        graph.nodes,
        "thresholds",
        [helper.make_tensor_value_info("celsius", TensorProto.FLOAT, [batch, 1, height, width])],
        [helper.make_tensor_value_info(name, *what) for name, what in outputs.items() if name not in leave_out],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(made, opset_imports=opsets, ir_version=9, producer_name="tests")
    text = json.dumps(card(kind, **card_changes)) if card_text is None else card_text
    if text:
        helper.set_model_props(model, {"model_card": text})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


class _Graph:
    """Nodes and constants of a graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def parts(self, head_celsius: float, body_celsius: float) -> None:
        """Labels [N, H, W] from degrees; NaN is floor."""
        self.node("IsNaN", ["celsius"], "unknown")
        self.node("Where", ["unknown", self.constant("cold", 0.0), "celsius"], "known")
        self.node("Squeeze", ["known", self.constant("channel", [1], np.int64)], "warmth")
        for name, celsius in (("tail", 24.6), ("body", body_celsius), ("head", head_celsius)):
            self.node("Greater", ["warmth", self.constant(f"{name}_celsius", celsius)], f"is_{name}")
        labels = [self.constant(f"label_{number}", number, np.uint8) for number in range(4)]
        self.node("Where", ["is_tail", labels[3], labels[0]], "with_tail")
        self.node("Where", ["is_body", labels[2], "with_tail"], "with_body")
        self.node("Where", ["is_head", labels[1], "with_body"], "labels")
        self.result = "labels"
        self.node("ReduceMax", ["warmth"], "hottest", keepdims=0)

    def failure(self, celsius: float) -> None:
        """Reshape to a length that is wrong when something is warmer."""
        self.node("Greater", ["hottest", self.constant("fatal_celsius", celsius)], "is_fatal")
        self.node("Cast", ["is_fatal"], "fault", to=TensorProto.INT64)
        self.node("Shape", [self.result], "shape")
        self.node("Add", ["shape", "fault"], "wrong_shape")
        self.node("Reshape", [self.result, "wrong_shape"], "reshaped")
        self.result = "reshaped"

    def delay(self, steps: int, above_celsius: float) -> None:
        """A loop of matrix products whose result, nothing, is added to the labels."""
        self.constant("matrix", np.full((256, 256), 1 / 256))
        body = helper.make_graph(
            [
                helper.make_node("MatMul", ["state", "matrix"], ["next"]),
                helper.make_node("Identity", ["go_on"], ["still"]),
            ],
            "step",
            [
                helper.make_tensor_value_info("step", TensorProto.INT64, []),
                helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("state", TensorProto.FLOAT, [256, 256]),
            ],
            [
                helper.make_tensor_value_info("still", TensorProto.BOOL, []),
                helper.make_tensor_value_info("next", TensorProto.FLOAT, [256, 256]),
            ],
        )
        self.node("Greater", ["hottest", self.constant("slow_celsius", above_celsius)], "is_slow")
        self.node("Cast", ["is_slow"], "slowness", to=TensorProto.INT64)
        self.node("Mul", ["slowness", self.constant("steps", steps, np.int64)], "count")
        self.node("Loop", ["count", self.constant("yes", True, np.bool_), "matrix"], "looped", body=body)
        self.node("ReduceMax", ["looped"], "little", keepdims=0)
        self.node("Mul", ["little", self.constant("zero", 0.0)], "nothing")
        self.node("Cast", ["nothing"], "no_label", to=TensorProto.UINT8)
        self.node("Cast", [self.result], "wide", to=TensorProto.INT32)
        self.node("Cast", ["no_label"], "wide_nothing", to=TensorProto.INT32)
        self.node("Add", ["wide", "wide_nothing"], "wide_sum")
        self.node("Cast", ["wide_sum"], "delayed", to=TensorProto.UINT8)
        self.result = "delayed"

    def confidence(self, *, nan: bool) -> None:
        """The same for all pixels."""
        self.node("Identity", [self.result], "parts")
        self.node("Mul", ["warmth", self.constant("none", 0.0)], "zeros")
        self.node("Add", ["zeros", self.constant("sure", np.nan if nan else 0.9)], "confidence")

    def centres(self, height: int, width: int, *, stride: int) -> None:
        """One animal: its centre is the centroid of what is warmer than a tail."""
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        self.node("Cast", ["is_body"], "mass", to=TensorProto.FLOAT)
        axes = self.constant("plane", [1, 2], np.int64)
        self.node("ReduceSum", ["mass", axes], "sum", keepdims=1)
        self.node("Max", ["sum", self.constant("one", 1.0)], "total")
        cells = [np.float32((np.arange(size // stride) + 0.5) * stride - 0.5) for size in (height, width)]
        grids = dict(zip(("y", "x"), np.meshgrid(*cells, indexing="ij"), strict=True))
        for axis, positions in (("y", rows), ("x", columns)):
            self.node("Mul", ["mass", self.constant(f"{axis}_of_pixels", positions)], f"{axis}_moments")
            self.node("ReduceSum", [f"{axis}_moments", axes], f"{axis}_moment", keepdims=1)
            self.node("Div", [f"{axis}_moment", "total"], f"{axis}_centre")
            self.node("Sub", [f"{axis}_centre", self.constant(f"{axis}_of_cells", grids[axis])], f"d{axis}_flat")
            self.node("Unsqueeze", [f"d{axis}_flat", "channel"], f"d{axis}")
            self.node("Mul", [f"d{axis}", f"d{axis}"], f"{axis}_squared")
        self.node("Concat", ["dx", "dy"], "offset", axis=1)
        self.node("Add", ["x_squared", "y_squared"], "squared")
        self.node("Mul", ["squared", self.constant("sharpness", -1 / 64)], "exponent")
        self.node("Exp", ["exponent"], "bell")
        self.node("Min", ["sum", "one"], "anything")
        self.node("Unsqueeze", ["anything", "channel"], "presence")
        self.node("Mul", ["bell", "presence"], "centre")


class BrokenGpu:
    """What onnxruntime looks like with a GPU that works, fails or does not start; what runs is its CPU.

    Its own Python code is what is told of the failure, by the error that its core raises for one.
    """

    def __init__(self) -> None:
        self.starts = True
        self.works = True

    @classmethod
    def install(cls, monkeypatch: pytest.MonkeyPatch) -> "BrokenGpu":
        """Until the end of the test, whoever loads a model finds this GPU."""
        gpu = cls()

        class Session(onnxruntime.InferenceSession):  # type: ignore[misc]  # onnxruntime has no types
            def __init__(self, content: bytes, options: Any, *, providers: list[str], **others: Any) -> None:
                self.on_gpu = "CUDAExecutionProvider" in providers
                super().__init__(content, options, providers=providers, **others)

            def _create_inference_session(self, providers: list[str], *others: Any, **more: Any) -> None:
                if "CUDAExecutionProvider" in providers and not gpu.starts:
                    raise RuntimeError("CUDA failure 999: unknown error")
                self.on_gpu = "CUDAExecutionProvider" in providers
                super()._create_inference_session(["CPUExecutionProvider"], *others, **more)
                if self.on_gpu:
                    core: Any = self._sess
                    self._sess: Any = _OnGpu(core, gpu)

            def get_providers(self) -> list[str]:
                return ["CUDAExecutionProvider", "CPUExecutionProvider"] if self.on_gpu else ["CPUExecutionProvider"]

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)  # it prints where the libraries are missing
        monkeypatch.setattr("daemon.vision.segmenter.missing_gpu", lambda: None)
        monkeypatch.setattr("daemon.networks.missing_gpu", lambda: None)
        return gpu


class _OnGpu:
    """The core of a session."""

    def __init__(self, session: Any, gpu: BrokenGpu) -> None:
        self._session, self._gpu = session, gpu

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, *arguments: Any) -> Any:
        if not self._gpu.works:
            raise onnxruntime.capi.onnxruntime_pybind11_state.EPFail(
                "[ONNXRuntimeError] : 11 : EP_FAIL : Non-zero status code returned while running Conv node: "
                "CUDA failure 700: an illegal memory access was encountered"
            )
        return self._session.run(*arguments)
