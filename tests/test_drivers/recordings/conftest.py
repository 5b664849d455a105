"""A short block and its frames."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drivers.clock import NS_PER_S
from drivers.decoder import FrameDecoder
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.recording import RecordingHeader
from drivers.t2s_protocol import (
    IMAGE_HEIGHT,
    build_transfer,
    parse_metadata,
    picture_statistics,
)
from tests.test_drivers.recordings.blocks import START_UTC_NS, planned

NOISE_COUNTS = 1.25  # 25 mK
FIXED_PATTERN_COUNTS = 1.5


@pytest.fixture(scope="module")
def frames(golden: Path) -> list[ThermalFrame]:
    """Twelve frames, one a second, of one scene with a sensor's noise; from the seventh on a new calibration."""
    transfer = np.load(golden / "g2_eps095_d1.npz")["frame"]
    metadata = parse_metadata(transfer)
    noise = np.random.default_rng(7)
    scene = transfer[:IMAGE_HEIGHT] + noise.normal(0, FIXED_PATTERN_COUNTS, transfer[:IMAGE_HEIGHT].shape)
    decoder = FrameDecoder()
    made = []
    for second in range(12):
        image = np.rint(scene + noise.normal(0, NOISE_COUNTS, scene.shape)).astype(np.uint16)
        noisy = build_transfer(image, replace(metadata, statistics=picture_statistics(image)))
        raw = RawFrame(
            sequence=100 + second,
            captured_utc_ns=START_UTC_NS + second * NS_PER_S + 40_000_123,
            captured_monotonic_ns=5_000_000_001 + second * NS_PER_S,
            payload=noisy.tobytes(),
        )
        frame = decoder.decode(raw)
        calibration = frame.calibration
        if second >= 6:
            calibration = replace(calibration, shutter_celsius=calibration.shutter_celsius + 0.1)
        made.append(replace(frame, calibration=calibration, flags=frame.flags | FrameFlag(second % 8)))
    return made


@pytest.fixture
def header() -> RecordingHeader:
    """Of a block of twelve seconds, one frame each."""
    return RecordingHeader(
        box="box1",
        block_key="2023-11-14/night/1",
        start_utc_ns=START_UTC_NS,
        period_ns=NS_PER_S,
        accounted_from_utc_ns=START_UTC_NS,
        end_utc_ns=planned(12),
        product="T2S+",
        serial="KA0000",
        firmware="1.00.201203",
        variant="v1",
        software_version="0.1.0",
        provenance={"host": "rato", "boot_id": "7c9e"},
    )
