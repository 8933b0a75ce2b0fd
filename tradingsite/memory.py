"""What a long-running process keeps of the memory that it once used.

The C library gives each thread an arena of its own, and keeps in it what was freed: a worker of
four threads held 60 MB that nobody used. With two arenas, and with arrays mapped by themselves and
so given back when they are freed, it does not. Elsewhere than under glibc nothing happens.
"""

import ctypes

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
ARENAS = 2
LARGE_BYTES = 128 * 1024


def give_back() -> None:
    """Have what is freed go back to the machine; for services that live long and compute little."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, value in (
        (_M_ARENA_MAX, ARENAS),
        (_M_MMAP_THRESHOLD, LARGE_BYTES),
        (_M_TRIM_THRESHOLD, LARGE_BYTES),
    ):
        set_option(option, value)
