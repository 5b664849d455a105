"""How the C library keeps memory, for a process that makes and drops pictures for months."""

import ctypes

MMAP_THRESHOLD_BYTES = 128 * 1024
"""Larger pieces are given back to the system as soon as they are dropped.

This is glibc's own start value. Left alone it grows with the largest piece ever dropped, and from then on pictures of
100 to 300 kB are cut out of the heap, which gets holes.
"""

ARENAS = 2
"""Heaps among which threads are divided; glibc's own limit is eight for each processor, each with holes of its own."""

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Parameters of `mallopt` (man 3 mallopt)."""


def keep_heap_small() -> bool:
    """Ask the C library not to hoard memory; False where it cannot be asked. Call before any thread is started."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library than glibc
        return False
    taken = [
        bool(mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)),
        bool(mallopt(_M_ARENA_MAX, ARENAS)),
    ]
    return all(taken)


def give_back_memory() -> bool:
    """Give what was dropped and lies between pieces in use back to the system; whether there was any.

    Each segment of a recording takes some megabytes for its encoder, and leaves a hole when it is closed. Takes
    milliseconds, in which other threads wait that want memory.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))
