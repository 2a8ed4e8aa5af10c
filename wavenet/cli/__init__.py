"""The `wavenet` command: a module for each command, which imports what it needs when the command runs.

Errors are one line on standard error and exit status 2.
"""

import os

TYPE_CHECKING = False  # as in the package's __init__
if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]


def main() -> None:
    """Entry point of the `wavenet` command. Ctrl-C ends it with one line and status 130, from here on."""
    import atexit
    import signal

    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)

        from wavenet.cli.app import run

        run()
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")
        raise SystemExit(130) from None
    finally:
        # Python takes seconds to end with torch, and Ctrl-C would then kill a process whose work is done. What is
        # registered last runs first.
        atexit.unregister(_ignore_interrupts)
        atexit.register(_ignore_interrupts)


def _ignore_interrupts() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(signum: int, frame: "FrameType | None") -> None:
    """End at once during an import: an exception there makes torch and numpy abort, recurse or carry on."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            os.write(2, b"interrupted\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt
