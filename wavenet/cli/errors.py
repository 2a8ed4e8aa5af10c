"""Errors as people see them: one line on standard error, and an exit status."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def errors_in_one_line(program: str) -> Iterator[None]:
    """End the program in one line: status 2 for errors of the user or the system, 130 for Ctrl-C.

    A broken pipe ends it silently, with status 141. Errors of the program itself keep their traceback.
    """
    try:
        yield
    except BrokenPipeError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # the reader has enough: what is left in Python's buffers is no error
            os.dup2(nothing, stream)
        sys.exit(141)
    except OSError as error:
        _fail(program, str(error) if error.filename is None else f"{error.filename}: {error.strerror}")
    except (ValueError, FloatingPointError) as error:
        _fail(program, str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        _fail(program, "not enough memory for this; try a smaller model, window, batch or count")


def _fail(program: str, message: str) -> None:
    message = message.replace("prepare_dataset", f"`{program} prepare`")  # the library names its function
    with suppress(OSError):  # standard error may be full, too
        print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
