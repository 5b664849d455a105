"""The structures and request numbers of linux/videodev2.h that video capture by memory mapping needs.

The native sizes of `ctypes` follow the kernel's on every machine that Python runs on. Source: linux/videodev2.h and
asm-generic/ioctl.h (user-space API of the kernel); the names are those of the headers.
"""

import ctypes

BUF_TYPE_VIDEO_CAPTURE = 1
MEMORY_MMAP = 1
FIELD_NONE = 1
PIX_FMT_YUYV = int.from_bytes(b"YUYV", "little")
FRMSIZE_TYPE_DISCRETE = 1

CAP_VIDEO_CAPTURE = 0x0000_0001
CAP_STREAMING = 0x0400_0000
CAP_DEVICE_CAPS = 0x8000_0000

BUF_FLAG_ERROR = 0x0000_0040
BUF_FLAG_TIMESTAMP_MASK = 0x0000_E000
BUF_FLAG_TIMESTAMP_MONOTONIC = 0x0000_2000

CID_ZOOM_ABSOLUTE = 0x009A_090D
CTRL_FLAG_DISABLED = 0x0001


class Capability(ctypes.Structure):
    """v4l2_capability: what an opened node is."""

    driver: bytes
    card: bytes
    bus_info: bytes
    capabilities: int
    device_caps: int
    _fields_ = [
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("device_caps", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    ]


class FrameSize(ctypes.Structure):
    """v4l2_frmsizeenum, of which the discrete form is used."""

    index: int
    pixel_format: int
    type: int
    width: int
    height: int
    _fields_ = [
        ("index", ctypes.c_uint32),
        ("pixel_format", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("_stepwise", ctypes.c_uint32 * 4),
        ("_reserved", ctypes.c_uint32 * 2),
    ]


class PixelFormat(ctypes.Structure):
    """v4l2_pix_format."""

    width: int
    height: int
    pixelformat: int
    field: int
    bytesperline: int
    sizeimage: int
    _fields_ = [
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("pixelformat", ctypes.c_uint32),
        ("field", ctypes.c_uint32),
        ("bytesperline", ctypes.c_uint32),
        ("sizeimage", ctypes.c_uint32),
        ("colorspace", ctypes.c_uint32),
        ("priv", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("ycbcr_enc", ctypes.c_uint32),
        ("quantization", ctypes.c_uint32),
        ("xfer_func", ctypes.c_uint32),
    ]


class _FormatUnion(ctypes.Union):
    pix: PixelFormat
    _fields_ = [
        ("pix", PixelFormat),
        ("_window", ctypes.c_void_p),  # v4l2_window holds pointers: the union is aligned as one
        ("_raw_data", ctypes.c_uint8 * 200),
    ]


class Format(ctypes.Structure):
    """v4l2_format."""

    type: int
    fmt: _FormatUnion
    _fields_ = [("type", ctypes.c_uint32), ("fmt", _FormatUnion)]


class RequestBuffers(ctypes.Structure):
    """v4l2_requestbuffers."""

    count: int
    type: int
    memory: int
    _fields_ = [
        ("count", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("flags", ctypes.c_uint8),
        ("_reserved", ctypes.c_uint8 * 3),
    ]


class TimeVal(ctypes.Structure):
    """timeval."""

    tv_sec: int
    tv_usec: int
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_usec", ctypes.c_long)]


class _BufferLocation(ctypes.Union):
    offset: int
    _fields_ = [("offset", ctypes.c_uint32), ("_userptr", ctypes.c_ulong), ("_planes", ctypes.c_void_p)]


class Buffer(ctypes.Structure):
    """v4l2_buffer."""

    index: int
    type: int
    bytesused: int
    flags: int
    timestamp: TimeVal
    sequence: int
    memory: int
    m: _BufferLocation
    length: int
    _fields_ = [
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("bytesused", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("field", ctypes.c_uint32),
        ("timestamp", TimeVal),
        ("_timecode", ctypes.c_uint32 * 4),
        ("sequence", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("m", _BufferLocation),
        ("length", ctypes.c_uint32),
        ("_reserved2", ctypes.c_uint32),
        ("_request_fd", ctypes.c_int32),
    ]


class QueryControl(ctypes.Structure):
    """v4l2_queryctrl: the range of a control."""

    id: int
    name: bytes
    minimum: int
    maximum: int
    step: int
    default_value: int
    flags: int
    _fields_ = [
        ("id", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("name", ctypes.c_char * 32),
        ("minimum", ctypes.c_int32),
        ("maximum", ctypes.c_int32),
        ("step", ctypes.c_int32),
        ("default_value", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("_reserved", ctypes.c_uint32 * 2),
    ]


class Control(ctypes.Structure):
    """v4l2_control."""

    id: int
    value: int
    _fields_ = [("id", ctypes.c_uint32), ("value", ctypes.c_int32)]


_WRITE, _READ = 1, 2


def _request(direction: int, number: int, structure: type) -> int:
    return direction << 30 | ctypes.sizeof(structure) << 16 | ord("V") << 8 | number


VIDIOC_QUERYCAP = _request(_READ, 0, Capability)
VIDIOC_S_FMT = _request(_READ | _WRITE, 5, Format)
VIDIOC_REQBUFS = _request(_READ | _WRITE, 8, RequestBuffers)
VIDIOC_QUERYBUF = _request(_READ | _WRITE, 9, Buffer)
VIDIOC_QBUF = _request(_READ | _WRITE, 15, Buffer)
VIDIOC_DQBUF = _request(_READ | _WRITE, 17, Buffer)
VIDIOC_STREAMON = _request(_WRITE, 18, ctypes.c_int)
VIDIOC_STREAMOFF = _request(_WRITE, 19, ctypes.c_int)
VIDIOC_S_CTRL = _request(_READ | _WRITE, 28, Control)
VIDIOC_QUERYCTRL = _request(_READ | _WRITE, 36, QueryControl)
VIDIOC_ENUM_FRAMESIZES = _request(_READ | _WRITE, 74, FrameSize)
