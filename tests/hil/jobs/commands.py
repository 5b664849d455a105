"""Commands that a v1 answers by its metadata: range, user area, output mode."""

import struct
import time
from collections.abc import Callable
from typing import Any

from drivers.t2s_protocol import (
    COUNT_LEVELS,
    IMAGE_HEIGHT,
    Metadata,
    UserField,
    parse_metadata,
    transfer_from_bytes,
    user_area_words,
)
from tests.hil.jobs.plain_reader import FRAME_BYTES, PlainReader, await_node

_LIMIT_S = 5.0
_EMISSIVITY = 0.95


def run() -> dict[str, Any]:
    """Seconds until each command showed in the stream."""
    took = {}
    with PlainReader(await_node()) as reader:
        took["yuv_at_first"] = _await(reader, lambda _meta, highest: highest >= COUNT_LEVELS)
        reader.send(0x8004)
        took["radiometric"] = _await(reader, lambda _meta, highest: highest < COUNT_LEVELS)
        for word in user_area_words(UserField.EMISSIVITY, _EMISSIVITY):
            reader.send(word)
        (wanted,) = struct.unpack("<f", struct.pack("<f", _EMISSIVITY))
        took["emissivity"] = _await(reader, lambda meta, _: meta.environment.emissivity == wanted)
        reader.send(0x8021)
        took["high_range"] = _await(reader, lambda meta, _: meta.constants.high_range)
        reader.send(0x8020)
        took["zeros_after_high_range"] = _await(reader, lambda _meta, highest: highest == 0)
        reader.send(0x8000)
        reader.send(0x8004)
        took["normal_range"] = _await(reader, lambda meta, highest: highest > 0 and not meta.constants.high_range)
    return took


def _await(reader: PlainReader, seen: Callable[[Metadata, int], bool]) -> float:
    since_s = time.monotonic()
    while time.monotonic() - since_s < _LIMIT_S:
        data = reader.read(5.0).data
        if len(data) == FRAME_BYTES:
            transfer = transfer_from_bytes(data)
            if seen(parse_metadata(transfer), int(transfer[:IMAGE_HEIGHT].max())):
                return round(time.monotonic() - since_s, 3)
    raise TimeoutError(f"not seen within {_LIMIT_S:g} s")
