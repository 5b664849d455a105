"""How long one transfer takes to become degrees; the limit is 0.3 ms in the median, and 0.8 ms for a v2."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from drivers.decoder import FrameDecoder
from drivers.frame import FrameFlag, RawFrame, ThermalFrame
from drivers.nuc import HostCorrection
from drivers.t2s_protocol import IMAGE_HEIGHT, build_transfer, parse_metadata, picture_statistics
from drivers.thermometry import calibration_of, temperature_table
from tests.bench.limits import told_beside_limit

DISTINCT_FRAMES = 64
FRAME_NS = 40_000_000
LIMIT_MS = 0.3
V2_LIMIT_MS = 0.8


def distinct_transfers(transfer: np.ndarray[tuple[int, ...], np.dtype[np.uint16]], *, statistics: bool) -> list[bytes]:
    """Good transfers that differ by their noise, so that none repeats the one before."""
    rng, metadata = np.random.default_rng(3), parse_metadata(transfer)
    payloads = []
    for _ in range(DISTINCT_FRAMES):
        image = transfer[:IMAGE_HEIGHT] + rng.integers(0, 5, transfer[:IMAGE_HEIGHT].shape, np.uint16)
        stated = picture_statistics(image) if statistics else metadata.statistics
        payloads.append(build_transfer(image, replace(metadata, statistics=stated)).tobytes())
    return payloads


def raw_frames(payloads: list[bytes]) -> Iterator[RawFrame]:
    """The transfers for ever, 25 a second."""
    for sequence, payload in enumerate(cycle(payloads)):
        now_ns = sequence * FRAME_NS
        yield RawFrame(sequence=sequence, captured_utc_ns=now_ns, captured_monotonic_ns=now_ns, payload=payload)


def test_decode_and_table_look_up(benchmark: BenchmarkFixture, golden: Path) -> None:
    decoder = FrameDecoder()
    frames = raw_frames(distinct_transfers(np.load(golden / "g2_eps095_d1.npz")["frame"], statistics=True))

    def decode_the_next() -> ThermalFrame:
        return decoder.decode(next(frames))

    frame = benchmark(decode_the_next)
    assert frame.flags == FrameFlag.NONE  # every picture was a fresh one
    assert decoder.rejected.total() == 0
    told_beside_limit(benchmark, LIMIT_MS)


def test_building_the_table(benchmark: BenchmarkFixture, golden: Path) -> None:
    calibration = calibration_of(parse_metadata(np.load(golden / "g2_eps095_d1.npz")["frame"]))
    table = benchmark(temperature_table, calibration)
    assert np.isfinite(table[-1])


def test_decode_with_the_host_correction_of_a_v2(benchmark: BenchmarkFixture, golden: Path) -> None:
    decoder = FrameDecoder()
    with np.load(golden / "v2_nuc.npz") as vectors:
        decoder.correction = HostCorrection(offset=vectors["offset_b"], gain=vectors["gain_k"])
        frames = raw_frames(distinct_transfers(vectors["scene_frame"], statistics=False))

    def decode_the_next() -> ThermalFrame:
        return decoder.decode(next(frames))

    frame = benchmark(decode_the_next)
    assert FrameFlag.UNCERTAIN not in frame.flags
    told_beside_limit(benchmark, V2_LIMIT_MS)
