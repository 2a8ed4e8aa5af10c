"""Is a file of audio whole? What its header promises is compared with what is there, which libsndfile rarely does."""

import re
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from wavenet.data.packets import check_flac, check_mpeg, check_ogg

Note = Callable[[str], None]

_STREAMED = 0x7FFF0000
"""Programs that write WAV to a pipe put a length of this or more into the header, which then says nothing."""


STREAMED_RIFF = 0xFFFFFFFF
"""The length of a whole WAV file that is written to a pipe: whatever its header plans, it may end early."""


@dataclass(frozen=True)
class _Layout:
    """How a container places its chunks: each an id, a size, and the body, on multiples of `align` bytes.

    `inclusive` sizes count the id and the size too. `audio` begins the id of the chunk that holds the samples.
    """

    start: int
    size: str
    audio: tuple[bytes, ...]
    id_bytes: int = 4
    inclusive: bool = False
    align: int = 2


_LAYOUTS = {
    b"RIFF": _Layout(12, "<I", (b"data",)),
    b"RF64": _Layout(12, "<I", (b"data",)),
    b"RIFX": _Layout(12, ">I", (b"data",)),
    b"FORM": _Layout(12, ">I", (b"SSND", b"BODY")),
    b"riff": _Layout(40, "<Q", (b"data",), id_bytes=16, inclusive=True, align=8),
    b"caff": _Layout(8, ">q", (b"data",), align=1),
}


@dataclass(frozen=True)
class _Extent:
    """Where the audio begins, the bytes that the header promises, and those that nothing in the file explains.

    `size_at` is the place of the promise. `again` says that there is more audio behind the first.
    """

    begin: int
    promised: int
    rest: int
    size_at: tuple[int, str]
    again: bool = False


def whole(file: BinaryIO, note: Note) -> BinaryIO:
    """The file, or a corrected copy of a WAV file whose header was never finished.

    `note` is told what is not read, or read against the header. Raises `ValueError` if audio is missing, or if it
    cannot be told how much of the file is audio.
    """
    size, head = file.seek(0, 2), _at(file, 0, 64)
    if (layout := _LAYOUTS.get(head[:4])) is not None:
        extent = _chunks(file, layout, size)
        return file if extent is None else _checked(file, extent, size, head[:4], note)
    if head[:4] in (b".snd", b"dns."):
        order = ">" if head[:4] == b".snd" else "<"
        begin, promised = struct.unpack(order + "II", head[4:12])
        if promised != 0xFFFFFFFF:
            _compare(promised, size - begin, size - begin - promised, _at(file, begin + promised, 4) == head[:4], note)
    elif head[:7] == b"NIST_1A":
        _check_nist(file, size, note)
    elif head[:4] == b"OggS":
        check_ogg(file, note)
    elif head[:4] == b"fLaC":
        samples = check_flac(file, size, note)
        if samples is not None:
            note(f"its header does not say how long it is; the {samples} samples that are there are read")
            start = int.from_bytes(_at(file, 18, 8), "big")
            return _with_bytes(file, 18, (start | samples).to_bytes(8, "big"))
    elif (counted := check_mpeg(file, size, note)) is not None:
        return _with_head(file, *counted)
    return file


def _checked(file: BinaryIO, extent: _Extent, size: int, magic: bytes, note: Note) -> BinaryIO:
    there = size - extent.begin
    if magic == b"RIFF" and _at(file, 4, 4) == STREAMED_RIFF.to_bytes(4, "little") and extent.promised > there:
        if extent.promised < _STREAMED:
            note(f"it was streamed and ended early: {extent.promised} bytes of audio were planned, {there} are there")
        return file
    if extent.promised < 0 or (magic in (b"RIFF", b"RIFX") and extent.promised >= _STREAMED):
        return file  # streamed: the audio goes on to the end
    never_finished = extent.promised == 0 and extent.rest > 0 and magic in (b"RIFF", b"RF64")
    if never_finished:
        note(f"its header promises 0 bytes of audio; the {there} that are there are read")
        place, kind = extent.size_at
        return _with_bytes(file, place, struct.pack(kind, there if kind == "<Q" else min(there, 0xFFFFFFFF)))
    _compare(extent.promised, there, extent.rest, extent.again, note)
    return file


def _compare(promised: int, there: int, rest: int, again: bool, note: Note) -> None:
    """Raise `ValueError`, or tell `note`, if the bytes `there` are not the `promised` ones; `rest` is unexplained."""
    if promised > there:
        raise ValueError(f"is truncated: its header promises {promised} bytes of audio, {there} are there")
    if again:
        raise ValueError(
            f"holds more than one stream of audio: the first has {promised} bytes, and {there - promised} follow; "
            "split it"
        )
    if rest * 100 >= max(promised, 1):
        raise ValueError(
            f"has a wrong header: it promises {promised} bytes of audio, and {there} are there; write the file anew"
        )
    if rest > 0:
        note(f"its header promises {promised} bytes of audio, and {there} are there")


def _chunks(file: BinaryIO, layout: _Layout, size: int) -> _Extent | None:
    """Follow the chunks to the end of the file; `None` without one of audio, which libsndfile refuses itself."""
    header, long = layout.id_bytes + struct.calcsize(layout.size), b""
    place, audio, again = layout.start, None, False
    while place + header <= size:
        name = _at(file, place, layout.id_bytes)
        (length,) = struct.unpack(layout.size, _at(file, place + layout.id_bytes, header - layout.id_bytes))
        body, size_at = place + header, (place + layout.id_bytes, layout.size)
        length -= header if layout.inclusive else 0
        again = again or (audio is not None and name[:4] in _LAYOUTS)
        if not re.match(rb"[A-Za-z0-9 ._-]{4}", name) or (audio and (length > size - body or again)):
            break
        if name[:4] == b"ds64":
            long, long_at = _at(file, body, 16), (body + 8, "<Q")
        if name[:4] in layout.audio:
            if long and length == 0xFFFFFFFF:
                (length,), size_at = struct.unpack("<Q", long[8:16]), long_at
            if name[:4] == b"SSND":
                skipped = 8 + int.from_bytes(_at(file, body, 4), "big") if length else 0
                body, length = body + skipped, length - skipped
            again = audio is not None
            audio = audio or (body, length, size_at)
            if length < 0 or length > size - body:
                return _Extent(body, length, 0, size_at)
        place = body + length
        if not _is_chunk(file, place) and not _at(file, place, -place % layout.align).strip(b"\0"):
            place += -place % layout.align
    if audio is None:
        return None
    return _Extent(audio[0], audio[1], max(0, size - place), audio[2], again)


def _is_chunk(file: BinaryIO, place: int) -> bool:
    """Whether a chunk seems to begin there, as some writers leave out the padding before it."""
    return re.fullmatch(rb"[A-Za-z0-9 ._-]{4}", _at(file, place, 4)) is not None


def _with_bytes(file: BinaryIO, place: int, data: bytes) -> BinaryIO:
    """A copy of the file with these bytes at a place in its header."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (its user closes it)
    file.seek(0)
    shutil.copyfileobj(file, copy)
    copy.seek(place)
    copy.write(data)
    copy.flush()
    return copy


def _with_head(file: BinaryIO, head: bytes, begin: int) -> BinaryIO:
    """A copy of the file from `begin` on, behind another head."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (its user closes it)
    copy.write(head)
    file.seek(begin)
    shutil.copyfileobj(file, copy)
    copy.flush()
    return copy


def _check_nist(file: BinaryIO, size: int, note: Note) -> None:
    """SPHERE files say in text how many samples they have; compressed ones are left to libsndfile, which refuses."""
    begin = int(_at(file, 8, 8).decode("ascii", "replace").strip() or 1024)
    header = _at(file, 0, begin).decode("ascii", "replace")
    fields = dict(re.findall(r"^(\w+) -(?:i|s\d+) (\d+)\s*$", header, re.MULTILINE))
    try:
        counts = (int(fields[name]) for name in ("sample_count", "sample_n_bytes"))
        promised = next(counts) * next(counts) * int(fields.get("channel_count", 1))
    except KeyError:
        note("whether it is whole cannot be told, because its header does not say how many samples it has")
        return
    _compare(promised, size - begin, size - begin - promised, _at(file, begin + promised, 7) == b"NIST_1A", note)


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)
