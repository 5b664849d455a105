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


HOLES = """
import ctypes, sys
from daemon.heap import give_back_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def resident_mb():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 1e6

pieces = [libc.malloc(100_000) for _ in range(1000)]
for piece in pieces:
    libc.memset(piece, 1, 100_000)
full = resident_mb()
for number, piece in enumerate(pieces):
    if number % 10:
        libc.free(piece)
given = sys.argv[1] == "given" and give_back_memory()
print(given, full - resident_mb() > 50)
"""


@pytest.mark.parametrize(("how", "said"), [("given", ["True", "True"]), ("left alone", ["False", "False"])])
def test_memory_between_pieces_in_use_is_given_back(how: str, said: list[str]) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("of glibc")
    done = subprocess.run([sys.executable, "-c", HOLES, how], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == said
