"""Damaged frames of every kind: what the kernel lets through, and what the checks of the product say of that."""

from collections import Counter
from typing import Any

from drivers.decoder import FrameDecoder
from drivers.errors import FrameRejectedError
from drivers.frame import RawFrame
from drivers.virtual.camera import PictureFault
from drivers.virtual.control_socket import Operator
from drivers.virtual.payloads import WireFault
from tests.hil.jobs.pictures import Pictures
from tests.hil.jobs.plain_reader import FRAME_BYTES, PlainReader, await_node

_DAMAGED = 20
_READ = 50
_SETTLE_FRAMES = 12


def run() -> dict[str, Any]:
    """For each fault: frames that came, good ones, refused ones by reason, and good ones that are not of the reel."""
    operator, pictures = Operator(), Pictures()
    found = {}
    with PlainReader(await_node()) as reader:
        reader.send(0x8004)
        for _ in range(_SETTLE_FRAMES):
            reader.read(5.0)
        for fault in (*WireFault, *PictureFault):
            operator(f"{fault} {_DAMAGED}")
            found[fault.value] = _read(reader, pictures)
    return found


def _read(reader: PlainReader, pictures: Pictures) -> dict[str, Any]:
    decoder, counts = FrameDecoder(), Counter[str]()
    for sequence in range(_READ):
        buffer = reader.read()
        counts["wrong_size"] += len(buffer.data) != FRAME_BYTES
        raw = RawFrame(
            sequence=sequence,
            captured_utc_ns=buffer.taken_ns,
            captured_monotonic_ns=buffer.taken_ns,
            payload=buffer.data,
        )
        try:
            decoder.decode(raw)
        except FrameRejectedError:
            counts["refused"] += 1
        else:
            counts["good"] += 1
            counts["false_good"] += pictures.number(buffer.data) is None
    return {**counts, "reasons": dict(decoder.rejected)}
