"""The container of recordings: whole transfers as FFV1 pictures of 256 x 196 words of 16 bits, in Matroska.

Every frame is a key frame of four slices with a checksum each, so that any frame can be read alone and a damaged one
is known. Each is also a cluster of its own, and a file cut anywhere is readable up to its last complete cluster. FFmpeg
hands a cluster to the kernel when the next frame comes, which at one frame a second is a second later; `sync` puts the
newest one there before, where FFmpeg will write the same bytes again.
"""

import errno
import logging
import os
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from drivers.cluster import HEAD_BYTES, cluster_of, length_of
from drivers.errors import RecordingError
from drivers.t2s_protocol import IMAGE_WIDTH, TRANSFER_ROWS

logger = logging.getLogger(__name__)

CODEC: Final = "ffv1"
PIXEL_FORMAT = "gray16le"
TIME_BASE = Fraction(1, 1000)
"""Matroska counts milliseconds."""

HEADER_TAG = "VIVARIUM_RECORDING"
"""Tag of the file that holds its header as JSON: a file without its sidecar still says what it is."""

# Version 3 is the one with slices and checksums; a group of one picture makes each a key frame.
_CODEC_OPTIONS = {"level": "3", "g": "1", "slices": "4", "slicecrc": "1"}
# A cluster holds more than one frame only while it is small, as flat pictures are; the size limit of a byte forbids it.
_CONTAINER_OPTIONS = {"flush_packets": "1", "cluster_time_limit": "1000", "cluster_size_limit": "1"}

_SLOWEST_RATE = Fraction(1, 1000)
"""Frames per second; the container's default duration of a frame must be a sensible ratio of integers."""

# RFC 9043, 4.9: a slice ends with its size (3 bytes, without this footer), an error status (1) and a checksum (4).
_SLICE_SIZE_BYTES = 3
_SLICE_FOOTER_BYTES = 8
_CRC_START = 0xFFFFFFFF
_BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def slices_are_intact(picture: bytes) -> bool:
    """Whether all slices of an encoded picture agree with their checksums.

    FFmpeg's decoder logs a checksum that does not agree, fills the slice from the picture before, and reports success
    whatever `err_detect` says, so the checksums are tested here, before decoding.

    Notes
    -----
    The checksum is a CRC-32 with the polynomial 0x04C11DB7, most significant bit first, starting from 0, and over a
    slice with its footer it comes to 0 (RFC 9043, 4.9.3). zlib has the same polynomial least significant bit first:
    on bytes with their bits reversed it gives the same remainder, reversed, and inverted before and after.
    """
    end = len(picture)
    while end > 0:
        footer = end - _SLICE_FOOTER_BYTES
        if footer < 0:
            return False
        start = footer - int.from_bytes(picture[footer : footer + _SLICE_SIZE_BYTES], "big")
        if start < 0 or zlib.crc32(picture[start:end].translate(_BITS_REVERSED), _CRC_START) != _CRC_START:
            return False
        end = start
    return bool(picture)


@contextmanager
def as_recording_error(path: Path, doing: str) -> Iterator[None]:
    """Translate what the system and FFmpeg raise."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise RecordingError(f"{path}: cannot {doing}: {error.strerror or error}") from error


_OF_THE_DISK = frozenset(
    (
        errno.EACCES, errno.EBUSY, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENODEV,
        errno.ENOMEM, errno.ENOSPC, errno.EPERM, errno.EROFS, errno.ESTALE, errno.ETIMEDOUT,
    )
)  # fmt: skip


def is_of_the_disk(error: RecordingError) -> bool:
    """Whether the disk refused, and may not the next time; anything else is a file that will never be better."""
    cause = error.__cause__
    return isinstance(cause, (OSError, av.FFmpegError)) and cause.errno in _OF_THE_DISK


def _open(path: Path) -> InputContainer:
    return av.open(_located(path), metadata_errors="replace")  # damaged text is no reason to end the program


def _located(path: Path) -> str:
    return str(path.absolute())  # a relative name with a colon would be taken for a protocol


class TransferWriter:
    """Encodes transfers into a new file.

    Parameters
    ----------
    path : Path
        Overwritten if it is there.
    header_json : str
        Kept in the file's tags.
    frame_rate_hz : Fraction
        Nominal; the presentation times are what counts.

    Raises
    ------
    RecordingError
        From any method when the disk does not take what is written.
    """

    def __init__(self, path: Path, *, header_json: str, frame_rate_hz: Fraction) -> None:
        self._path = path
        self._newest: tuple[bytes, int] | None = None
        self._ahead_at: int | None = None
        with as_recording_error(path, "begin the recording"), ExitStack() as undo:
            self._container = undo.enter_context(_output(path, header_json))
            self._stream = self._container.add_stream(
                CODEC,
                rate=max(_SLOWEST_RATE, frame_rate_hz.limit_denominator(_SLOWEST_RATE.denominator)),
                options=_CODEC_OPTIONS,
            )
            self._stream.width, self._stream.height = IMAGE_WIDTH, TRANSFER_ROWS
            self._stream.pix_fmt = PIXEL_FORMAT
            self._stream.time_base = self._stream.codec_context.time_base = TIME_BASE
            self._stream.codec_context.thread_count = 1
            self._container.start_encoding()
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            undo.callback(os.close, self._descriptor)
            self._held = undo.pop_all()

    def write(self, transfer: NDArray[np.uint16], pts_ms: int) -> None:
        """Append one transfer, shape (196, 256); presentation times must rise."""
        frame = av.VideoFrame.from_ndarray(transfer, format=PIXEL_FORMAT)
        frame.pts, frame.time_base = pts_ms, TIME_BASE
        with as_recording_error(self._path, "write a frame"):
            (packet,) = self._stream.encode(frame)
            self._newest = None
            self._container.mux_one(packet)
        self._newest = bytes(packet), pts_ms

    def sync(self) -> None:
        """Wait until all frames are on the disk."""
        with as_recording_error(self._path, "bring it to the disk"):
            if self._newest is not None:
                self._write_ahead(*self._newest)
                self._newest = None
            os.fdatasync(self._descriptor)

    def finish(self) -> None:
        """Write the index and the duration, and let go of the file; it is let go even if that fails."""
        with as_recording_error(self._path, "finish the recording"), self._held:
            self._container.mux(self._stream.encode(None))

    def _write_ahead(self, picture: bytes, pts_ms: int) -> None:
        """Put the newest frame where FFmpeg, which holds it back, is going to write it."""
        self._ahead_at = place = self._end_of_what_is_written()
        rest = memoryview(cluster_of(picture, pts_ms))
        while rest:
            written = os.pwrite(self._descriptor, rest, place)
            place, rest = place + written, rest[written:]

    def _end_of_what_is_written(self) -> int:
        """Where FFmpeg goes on: after its last cluster, whatever had been put there ahead."""
        size = os.fstat(self._descriptor).st_size
        if self._ahead_at is None:
            return size
        place = self._ahead_at
        while place < size and (length := length_of(os.pread(self._descriptor, HEAD_BYTES, place))) is not None:
            place += length
        return place


def _output(path: Path, header_json: str) -> OutputContainer:
    container = av.open(_located(path), "w", format="matroska", container_options=_CONTAINER_OPTIONS)
    container.metadata[HEADER_TAG] = header_json
    return container


class TransferReader:
    """Decodes transfers, each by its presentation time.

    Raises
    ------
    RecordingError
        If the file does not hold transfers as this program records them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with as_recording_error(path, "open it as a recording"):
            self._container: InputContainer = _open(path)
        try:
            self._stream = self._video_stream()
        except RecordingError:
            self._container.close()
            raise
        self._packets = self._container.demux(self._stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _video_stream(self) -> VideoStream:
        streams = self._container.streams.video
        found = [_kind_of(stream) for stream in streams]
        if found != [(CODEC, IMAGE_WIDTH, TRANSFER_ROWS)] or streams[0].time_base != TIME_BASE:
            raise RecordingError(
                f"{self._path}: expected one {CODEC} stream of {IMAGE_WIDTH} x {TRANSFER_ROWS} in Matroska, got {found}"
            )
        streams[0].codec_context.thread_count = 1
        return streams[0]

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def header_json(self) -> str | None:
        """The header as the writer put it into the tags."""
        return self._container.metadata.get(HEADER_TAG)

    @property
    def stream(self) -> VideoStream:
        """The only stream, as a template for a copy."""
        return self._stream

    def packets(self) -> Iterator["tuple[int, Packet[VideoStream]]"]:
        """All complete frames from the start, encoded, with their presentation times in milliseconds.

        What a crash or damage has left behind the last readable cluster is passed over.
        """
        newest = -1
        with as_recording_error(self._path, "open it again"):
            container = _open(self._path)
        with container:
            packets = container.demux(container.streams.video[0])
            while (packet := self._next_of(packets)) is not None:
                if packet.pts is not None and packet.pts > newest:
                    newest = packet.pts
                    yield newest, packet

    def read(self, pts_ms: int) -> NDArray[np.uint16]:
        """The transfer with this presentation time, shape (196, 256).

        Raises
        ------
        RecordingError
            If there is none, or it is damaged.
        """
        packet = self._find(pts_ms)
        if packet is None:
            raise RecordingError(f"{self._path}: the frame at {pts_ms} ms is gone")
        if not slices_are_intact(bytes(packet)):
            raise RecordingError(f"{self._path}: the frame at {pts_ms} ms is damaged: a slice checksum does not agree")
        with as_recording_error(self._path, f"decode the frame at {pts_ms} ms"):
            frames = self._stream.codec_context.decode(packet)
        if len(frames) != 1 or frames[0].format.name != PIXEL_FORMAT:
            raise RecordingError(f"{self._path}: expected one {PIXEL_FORMAT} picture at {pts_ms} ms, got {frames}")
        return frames[0].to_ndarray().astype(np.uint16, copy=False)

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def _find(self, pts_ms: int) -> "Packet[VideoStream] | None":
        packet = self._next_of(self._packets)
        if packet is None or packet.pts != pts_ms:
            packet = self._sought(pts_ms)
        if packet is None or packet.pts != pts_ms:
            # FFmpeg cannot seek in some torn files that it can read from the start.
            packet = next((packet for found_ms, packet in self.packets() if found_ms == pts_ms), None)
        return packet

    def _sought(self, pts_ms: int) -> "Packet[VideoStream] | None":
        try:
            self._container.seek(pts_ms, stream=self._stream)
        except av.FFmpegError:
            return None
        self._packets = self._container.demux(self._stream)
        return self._next_of(self._packets)

    def _next_of(self, packets: "Iterator[Packet[VideoStream]]") -> "Packet[VideoStream] | None":
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            logger.warning("%s: unreadable from here: %s", self._path, error)
            return None
        return packet if packet is not None and packet.size else None  # the last one is empty: flush


def _kind_of(stream: VideoStream) -> tuple[str, int, int] | None:
    """Codec and size; None where damage has left no codec that FFmpeg knows, which the types do not say."""
    context = getattr(stream, "codec_context", None)
    return None if context is None else (context.name, context.width, context.height)


def copy_frames(source: Path, target: Path, *, header_json: str, wanted: Collection[int] | None = None) -> set[int]:
    """Copy undamaged frames without decoding, which gives a torn file an index and a duration.

    Parameters
    ----------
    source, target : Path
        The target is overwritten.
    header_json : str
        For the target's tags.
    wanted : collection of int, optional
        Presentation times; all when left out.

    Returns
    -------
    set of int
        Presentation times of the frames in the target; it is of no use when there are none.

    Raises
    ------
    RecordingError
        If the source is no recording or the target cannot be written.
    """
    kept: set[int] = set()
    with TransferReader(source) as reader, as_recording_error(target, "write a copy"):
        container = _output(target, header_json)
        try:
            stream = container.add_stream_from_template(reader.stream)
            stream.time_base = TIME_BASE
            container.start_encoding()
            for pts_ms, packet in reader.packets():
                if (wanted is None or pts_ms in wanted) and slices_are_intact(bytes(packet)):
                    packet.stream = stream
                    container.mux_one(packet)
                    kept.add(pts_ms)
        finally:
            container.close()
    return kept
