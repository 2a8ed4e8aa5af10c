"""Write a file whole or not at all, at a path that can be written."""

import contextlib
import functools
import os
import tempfile
from pathlib import Path

_MARK = ".wavenet-partial"


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write to a temporary file beside `path`, sync it and rename it to `path`. A symbolic link is followed.

    On any failure, such as a full disk, the temporary file is removed, a file at `path` stays as it was, and the
    `OSError` names `path`. Raises `ValueError` if `path` is something else than a file, which a rename would replace.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a folder or device, which is not replaced; choose another path")
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=_MARK)
        with open(handle, "wb") as file:
            os.fchmod(handle, 0o666 & ~_umask())
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write ({error.strerror}); what was there is unchanged", str(path)
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def check_writable(path: str | os.PathLike[str], size: int = 0) -> None:
    """Raise what `write_atomically` would raise at `path`, by making its temporary file and removing it.

    So many bytes must have room there. Folders on the way that do not exist yet are taken as made.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a folder or device, which is not replaced; choose another path")
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # a name may be too long
        folder = next(parent for parent in path.parents if os.path.lexists(parent))
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{path.name[:40]}.", suffix=_MARK)
        try:
            if size:
                os.posix_fallocate(handle, 0, size)
        finally:
            os.close(handle)
            os.unlink(temporary)
    except OSError as error:
        of_size = f" {size:,} bytes" if size else ""
        raise OSError(error.errno, f"cannot write{of_size} ({error.strerror})", str(path)) from error


def check_utf8(path: Path, library: str) -> None:
    """Raise `ValueError` if a path is no text in UTF-8, which the library needs."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path} is not UTF-8 text, and {library} needs such a path; choose another") from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed. No writer may be at work in the folder."""
    for path in folder.glob(f".*{_MARK}"):
        path.unlink()


@functools.cache  # the umask can only be read by setting it, which no other thread should see
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
