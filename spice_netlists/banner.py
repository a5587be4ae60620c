"""Script: load the ngspice shared library that is named and print what it says of its version and build.

Run as a file, in a process of its own: a library that crashes or ends its process harms nobody, and nothing
of the package is imported. Exit status 1 if the library cannot be loaded.
"""

import ctypes
import sys


def banner(name: str) -> str:
    """Return the answer of ``version -f``; raises OSError or AttributeError if the library is not ngspice."""
    lines: list[str] = []
    listener = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p)

    @listener
    def hear(text: bytes, _number: int, _data: int) -> int:
        lines.append(text.decode(errors="replace"))
        return 0

    library = ctypes.CDLL(name)
    library.ngSpice_Init(hear, None, None, None, None, None, None)
    library.ngSpice_Command(b"version -f")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.stdout.write(banner(sys.argv[1]))
    except (OSError, AttributeError) as error:
        sys.exit(str(error))
