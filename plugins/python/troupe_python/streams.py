"""Standard output and error of a program."""

import io
import sys

# The two streams themselves, whatever a program puts in their place.
_own = []


def open_streams():
    """Replaces the runtime's streams. Those have no buffer and lose what WASI does not take in one write."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
        errors = getattr(sys, name).errors
        stream = io.TextIOWrapper(file, "utf-8", errors, line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        _own.append(stream)


def flush():
    """Hands over what was printed, also where the program put something else in the place of the streams."""
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        try:
            getattr(sys, name).flush()
        except BaseException:
            pass  # A stream of the author's own that fails must not hide the program's result.
    for stream in _own:
        try:
            stream.flush()
        except BaseException:
            pass  # The program closed it, and was told so when it printed.
