"""Errors as people meet them: one line on standard error, and an exit status."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["errors_in_one_line"]


@contextmanager
def errors_in_one_line(program: str) -> Iterator[None]:
    """What the user or the system can cause ends the program in one line and status 2, Ctrl-C in status 130.

    Errors of the program itself go on as they are.
    """
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: no reason to complain
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
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
