"""Memory that is dropped goes back to the system."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from daemon.heap import keep_heap_small
if sys.argv[1] == "kept":
    print(keep_heap_small())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def mapped():
    class Info(ctypes.Structure):
        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
        _fields_ = [(name, ctypes.c_size_t) for name in names]
    libc.mallinfo2.restype = Info
    return libc.mallinfo2().hblks

libc.free(libc.malloc(4 << 20))  # a large piece that was dropped
before = mapped()
libc.malloc(300_000)  # a picture
print(mapped() - before)
"""


@pytest.mark.parametrize(("how", "said"), [("kept", ["True", "1"]), ("left alone", ["0"])])
def test_pictures_are_kept_outside_the_heap_also_after_a_large_piece_was_dropped(how: str, said: list[str]) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("of glibc")
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == said
