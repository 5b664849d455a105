"""`vivarium export`: trained networks as ONNX files (extra `export`)."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daemon.vision.model_check import part_iou, scenes
from daemon.vision.onnx_file import ModelError
from daemon.vision.segmenter import Hardware, NetworkSegmenter, load_model
from drivers.vivarium.dice import FIRST_TEST_SEED

from export.onnx import MOST_DIFFERENT, PARITY_FRAMES, export_onnx, parity
from export.quantize import quantize

CALIBRATION_SEED = 930_000
"""First of the scenes that set the scales of eight bits; these are neither trained nor judged on."""
CALIBRATION_SCENES = 64
VALIDATION_SEED = 940_000
VALIDATION_SCENES = 200
PARITY_SEED = 950_000
