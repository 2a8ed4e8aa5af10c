"""Are the streams of Ogg, MPEG and FLAC whole? Their pages and frames are followed; nothing is decoded."""

import functools
import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Note = Callable[[str], None]

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_crc(page: bytes) -> int:
    """The checksum of a page (RFC 3533): the polynomial of zlib's, with the bits the other way round."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def check_ogg(file: BinaryIO, note: Note) -> None:
    """Raise `ValueError` unless an Ogg file holds one stream, whole, or several side by side."""
    file.seek(0)
    numbers: dict[bytes, int] = {}
    ended, begun, place = False, False, 0
    while (head := file.read(27))[:4] == b"OggS":
        sizes = file.read(head[26]) if len(head) == 27 else b""
        body = file.read(sum(sizes))
        if len(head) < 27 or len(sizes) < head[26] or len(body) < sum(sizes):
            raise ValueError(f"is truncated: its last page is cut at byte {place + len(head) + len(sizes) + len(body)}")
        if _ogg_crc(head[:22] + bytes(4) + head[26:] + sizes + body) != int.from_bytes(head[22:26], "little"):
            raise ValueError(f"is damaged: the page at byte {place} does not have its checksum")
        kind, serial, number = head[5], head[14:18], int.from_bytes(head[18:22], "little")
        if kind & 2 and begun:
            raise ValueError(f"holds more than one stream of audio: another begins at byte {place}; split it")
        if not kind & 2 and number != numbers.get(serial, number - 1) + 1:
            raise ValueError(f"is damaged: pages are missing before byte {place}")
        numbers[serial] = number
        begun, ended = begun or not kind & 2, ended or bool(kind & 4)
        place += len(head) + len(sizes) + len(body)
    if not ended:
        raise ValueError(f"is truncated: its {place} bytes hold no last page")
    if head.strip(b"\0"):
        note(f"{file.seek(0, 2) - place} bytes after its {place} bytes of Ogg are not read")


_ANOTHER_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_FLAC_TAIL = 1 << 18
"""The longest frame is shorter: 65,535 samples of at most 8 channels are, as far as they are compressed."""


def check_flac(file: BinaryIO, size: int, note: Note) -> int | None:
    """The samples of a FLAC file whose header does not say how many it has; `None` if it does.

    Raises `ValueError` if it promises another number, or if another FLAC file follows, which libFLAC does not read.
    (libFLAC itself notices if frames are cut or damaged.)
    """
    tail, place = b"", 4
    file.seek(place)
    while block := file.read(1 << 20):
        if match := _ANOTHER_FLAC.search(tail + block):
            begin = place - len(tail) + match.start()
            raise ValueError(
                f"holds more than one stream of audio: the first has {begin} bytes, and {size - begin} follow; split it"
            )
        tail, place = block[-7:], place + len(block)
    file.seek(0)
    head = file.read(26)
    promised = int.from_bytes(head[21:26], "big") & (1 << 36) - 1
    file.seek(max(0, size - _FLAC_TAIL))
    found = _flac_samples(file.read(), int.from_bytes(head[8:10], "big"), promised)
    if promised == 0:
        if found is None:
            raise ValueError("is truncated or damaged: its header does not say how long it is, and its end is no frame")
        return found
    if found is None:
        note(f"it does not end with a frame of FLAC; {promised} samples are read, as its header promises")
    elif found != promised:
        raise ValueError(f"has a wrong header: it promises {promised} samples, and {found} are there")
    return None


def flac_checksum(file: BinaryIO) -> Callable[[NDArray[np.float32]], bool] | None:
    """Takes a FLAC file's samples, a block at a time, and tells whether those so far are the ones that were encoded.

    libFLAC fills in silence for frames that are missing. `None` if the file has no checksum (MD5) to compare with.
    """
    head = _at(file, 0, 42)
    bits = (int.from_bytes(head[20:22], "big") >> 4 & 31) + 1
    if head[:4] != b"fLaC" or bits not in (8, 16, 24) or not any(head[26:]):
        return None
    found = hashlib.md5(usedforsecurity=False)

    def add(block: NDArray[np.float32]) -> bool:
        integers = (block * 2 ** (bits - 1)).astype("<i4")
        found.update(integers.view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes())
        return found.digest() == head[26:]

    return add


def _flac_samples(tail: bytes, block: int, promised: int) -> int | None:
    """The samples of a stream that ends with `tail`, by the header of its last frame; `None` if it ends otherwise.

    The checksum of that frame, which takes time, is left to libFLAC if these are the samples promised.
    """
    place = len(tail)
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        if tail[place + 1 : place + 2] not in (b"\xf8", b"\xf9") or (header := _flac_header(tail[place:])) is None:
            continue
        number, length = header
        samples = (number if tail[place + 1] & 1 else number * block) + length
        if samples == promised or _crc(tail[place:], 0x8005, 16) == 0:  # of a frame and its own checksum
            return samples
    return None


def _flac_header(data: bytes) -> tuple[int, int] | None:
    """The number of a frame, or of its first sample, and its length;
    `None` if no header begins here (RFC 9639, 9.1)."""
    if len(data) < 16:
        return None
    ones = 8 - (data[4] ^ 0xFF).bit_length()  # as in UTF-8
    after = 4 + max(1, ones)
    number = data[4] & 0x7F >> ones
    for byte in data[5:after]:
        number = number << 6 | byte & 0x3F
    code, rate = data[2] >> 4, data[2] & 15
    extra = {6: 1, 7: 2}.get(code, 0)
    given = int.from_bytes(data[after : after + extra], "big") + 1
    after += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if code == 0 or _crc(data[: after + 1], 0x07, 8):
        return None
    return number, given if extra else 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    remainder, mask, table = 0, (1 << bits) - 1, _crc_table(polynomial, bits)
    for byte in data:
        remainder = (remainder << 8 & mask) ^ table[remainder >> bits - 8 ^ byte]
    return remainder


@functools.cache
def _crc_table(polynomial: int, bits: int) -> list[int]:
    table = [byte << bits - 8 for byte in range(256)]
    for _ in range(8):
        table = [(value << 1 ^ polynomial * (value >> bits - 1)) & (1 << bits) - 1 for value in table]
    return table


_RATES = ((11025, 12000, 8000), (0, 0, 0), (22050, 24000, 16000), (44100, 48000, 32000))
"""Samples per second by version (2.5, none, 2, 1) and index."""
_KILOBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""By version (1, or 2 and 2.5) and layer."""


def _mpeg_frame(head: bytes) -> int:
    """The bytes of the MPEG frame that this header begins; 0 if it is none (or of a free bit rate)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate_index, kilobit_index, padding = head[2] >> 2 & 3, head[2] >> 4, head[2] >> 1 & 1
    if version == 1 or layer == 4 or rate_index == 3 or kilobit_index in (0, 15):
        return 0
    bits, rate = _KILOBITS[1 if version == 3 else 2, layer][kilobit_index - 1] * 1000, _RATES[version][rate_index]
    if layer == 1:
        return (12 * bits // rate + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // rate + padding


def _past_tags(file: BinaryIO, place: int) -> int:
    """The place behind the ID3 tags that begin here."""
    while (head := _at(file, place, 10))[:3] == b"ID3" and len(head) == 10:
        place += 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    return place


def _mpeg_frames(file: BinaryIO, place: int) -> Iterator[tuple[int, int, bytes]]:
    """The place, size and header of each frame from `place` on, up to what is none; tags between them are passed."""
    place = _past_tags(file, place)
    while length := _mpeg_frame(head := _at(file, place, 4)):
        yield place, length, head
        place = _past_tags(file, place + length)


def _find_mpeg(file: BinaryIO, place: int, most: int) -> int | None:
    """Where three frames follow each other, at most so many bytes behind `place` and the tags there."""
    place = _past_tags(file, place)
    for junk in re.finditer(rb"\xff", _at(file, place, most)):
        if len(list(islice(_mpeg_frames(file, place + junk.start()), 3))) > 2:
            return place + junk.start()
    return None


def check_mpeg(file: BinaryIO, size: int, note: Note) -> tuple[bytes, int] | None:
    """Compare an MPEG file with the count of frames in its first one (a Xing, Info or VBRI header), if it has one.

    Without a Xing or Info header the decoder estimates the length, and may end early: gives such a header that counts
    the frames, and the place from which on they follow it. Raises `ValueError` if frames are missing, or if others
    follow, which would not be decoded.
    """
    begin = _find_mpeg(file, 0, 4096)
    if begin is None:
        return None  # not MPEG, or of a free bit rate: for libsndfile to tell
    places, end, head = [begin, begin], begin, b""
    count, promised = 0, _promised_frames(_at(file, begin, 200))
    for place, length, header in _mpeg_frames(file, begin):
        count, end = count + 1, place + length
        if count == 2:
            places[1] = place
        if count > 1 and _mpeg_kind(header) != _mpeg_kind(head := head or header):
            raise ValueError(
                f"holds more than one stream of audio: one of another rate or channels begins at byte {place}; split it"
            )
    found = count - (promised is not None) - (end > size)
    if promised == found + 1 and end == size:
        note(f"its header promises {promised} frames, {found} are there")  # some writers count the header's own
    elif promised is not None and found < promised:
        raise ValueError(f"is truncated or damaged: its header promises {promised} frames, {found} are there")
    if promised is not None and found > promised + 1:
        raise ValueError(
            f"holds more than one stream of audio: the first has {promised} frames, and {found - promised} follow; "
            "split it"
        )
    if end > size:
        note(f"its last frame is cut, {end - size} bytes before its end; the audio ends with the frame before")
    if _has_rest(file, end):
        if (again := _find_mpeg(file, end, 1 << 20)) is not None:
            raise ValueError(f"is damaged: its bytes {end} to {again} are not MPEG, and more frames follow")
        note(f"{size - end} bytes after its first {found} frames are not MPEG; what is among them may not be read")
    if head[1] >> 1 & 3 != 1 or (promised is not None and _at(file, begin + 36, 4) != b"VBRI"):
        return None
    return _xing_frame(head, found), places[promised is not None]


def _mpeg_kind(header: bytes) -> tuple[int, int, bool]:
    """Version and layer, rate, and whether it is mono."""
    return header[1] >> 1 & 15, header[2] >> 2 & 3, header[3] >> 6 == 3


def _xing_frame(header: bytes, frames: int) -> bytes:
    """A frame before others like this one, of layer III, that says how many follow."""
    version, _, mono = _mpeg_kind(header)
    head = bytes([255, header[1] | 1, 14 << 4 | header[2] & 12, header[3]])
    side = (17 if mono else 32) if version >> 2 == 3 else (9 if mono else 17)
    return (head + bytes(side) + b"Xing" + struct.pack(">II", 1, frames)).ljust(_mpeg_frame(head), b"\0")


def _has_rest(file: BinaryIO, place: int) -> bool:
    """Whether anything but tags and zeros lies behind the frames."""
    file.seek(place)
    kept = b""
    while block := file.read(1 << 20):
        before, *tag = re.split(rb"APETAGEX|TAG|LYRICSBEGIN|ID3", kept + block, maxsplit=1)
        if tag or before[:-11].strip(b"\0"):
            return bool(before.strip(b"\0"))
        kept = before[-11:]
    return bool(kept.strip(b"\0"))


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


def _promised_frames(first: bytes) -> int | None:
    """The frames that the first one says follow it."""
    match = re.search(rb"(?s)(?:Xing|Info)(....)(....)", first[:200])
    if match and match[1][3] & 1:
        return int(struct.unpack(">I", match[2])[0])
    if first[36:40] == b"VBRI":
        return int(struct.unpack(">I", first[50:54])[0])
    return None
