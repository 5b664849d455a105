"""Nothing is told to the makers of what the program uses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN_A_MODEL = """
import {first}
import onnxruntime
onnxruntime.InferenceSession("export/models/unet.onnx", providers=["CPUExecutionProvider"])
"""


@pytest.mark.parametrize("first", ["daemon.cli", "daemon.vision.segmenter", "export.quantize"])
def test_onnxruntime_keeps_no_record_of_what_it_did(tmp_path: Path, first: str) -> None:
    """It has a number for each machine and a database of what it has yet to report, unless it is told not to."""
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment = kept | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = RUN_A_MODEL.format(first=first)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name] == []
