"""Read, write and resample audio, whole or in blocks. Waveforms are float32 in [-1, 1], shape `(T,)`, mono."""

import io
import math
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
from torch import Tensor
from torchaudio import functional

from wavenet.atomic import write_atomically
from wavenet.data.containers import Note, whole
from wavenet.data.mixing import Mixer
from wavenet.data.packets import flac_checksum
from wavenet.network import check_level, check_waveform, full_precision

AUDIO_SUFFIXES = tuple(
    f".{suffix}"
    for suffix in "wav wave bwf rf64 w64 aif aiff aifc au snd caf flac ogg oga opus mp3 sph nist".split()  # noqa: SIM905
)
"""The usual suffixes of what libsndfile reads."""
FFMPEG_SUFFIXES = (".m4a", ".mp4", ".aac", ".wma", ".amr", ".webm", ".mka", ".ac3", ".ape", ".wv")
"""Suffixes that are read where there is a program `ffmpeg`."""


def audio_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of the files that can be read here."""
    return frozenset(AUDIO_SUFFIXES + (FFMPEG_SUFFIXES if shutil.which("ffmpeg") else ()))


_EXPECTED = "WAV, FLAC, Ogg, MP3, AIFF or another format of libsndfile"
_UNCHECKED = ("AVR", "IRCAM", "MAT4", "MAT5", "MPC2K", "PAF", "PVF", "SD2", "SDS", "VOC", "WVE", "XI")
_LARGEST_RATIO = 10_000_000
"""The size of the filter bank is the product of the two sides of the ratio: 441 x 160 for 44.1 to 16 kHz."""
_BLOCK = 1 << 18
"""Samples of a block, in all channels."""
_FILTER_WIDTH = 32
"""Zero crossings of the resampling filter on each side."""
_VECTORISED = 1 << 15
"""torch convolves 20,480 samples and more by vectorised code."""
_LARGEST = 1e12
"""Larger samples than these are in no unit, and the sum of their squares overflows."""


def warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


def read_audio(path: str | os.PathLike[str], *, note: Note = warn) -> tuple[Tensor, int]:
    """Read an audio file, mixed down to one channel: `(T,)` float32 and its sample rate in Hz.

    `note` is told in one line what of the file is not read, or read against its header; by default that is a warning.
    Raises `FileNotFoundError`, or `ValueError` if the file is not audio, truncated, empty or not finite, if it holds
    several streams one after the other, or if its channels cancel each other.
    """
    blocks, rates = zip(*read_blocks(path, note=note), strict=True)
    return torch.cat(blocks), rates[0]


def read_blocks(path: str | os.PathLike[str], *, note: Note = warn) -> Iterator[tuple[Tensor, int]]:
    """`read_audio` in blocks, each with the sample rate, in bounded memory.

    What is wrong with the samples of the file is known, and raised, only after its last block, and `note` told.
    """
    path, said = Path(path), list[str]()
    _check_readable(path)
    try:
        with _open(path) as file, whole(file, said.append) as checked:
            yield from _mono_blocks(checked, said.append)
    except soundfile.SoundFileError as error:
        reason = str(error).rpartition(": ")[2].rstrip(".")
        raise ValueError(f"{path} is not readable audio ({reason}); expected {_EXPECTED}") from error
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    for message in said:  # of a file that is refused, the error says enough
        note(f"{path}: {message}")


def _check_readable(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"{path} is a link to {os.readlink(path)}, which is not there")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such audio file")
    if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        raise ValueError(f"{path} is a folder that may not be read, with all that is in it")
    if not path.is_file():
        raise ValueError(f"{path} is a folder or device; expected an audio file: {_EXPECTED}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")


def _open(path: Path) -> BinaryIO:
    """The file, opened here since soundfile refuses names that are not UTF-8, or what ffmpeg makes of it."""
    if path.suffix.lower() not in FFMPEG_SUFFIXES:
        return open(path, "rb")
    if shutil.which("ffmpeg") is None:
        raise ValueError("needs the program ffmpeg, which is not installed; convert the file to FLAC")
    decoded = tempfile.TemporaryFile()  # noqa: SIM115 (the reader closes it)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", f"file:{path}", "-vn", "-f", "wav", "-c:a", "pcm_f32le", "-"]
    done = subprocess.run(command, stdout=decoded, stderr=subprocess.PIPE, check=False)
    if done.returncode or done.stderr.strip():
        decoded.close()
        reason = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"is not read whole by ffmpeg ({reason})")
    return decoded


def _mono_blocks(file: BinaryIO, note: Note) -> Iterator[tuple[Tensor, int]]:
    """All that libsndfile reads of the file, the mean of its channels, in blocks `(T,)` with the sample rate."""
    wrong, read = 0, 0
    checksum, same = flac_checksum(file), True
    # a descriptor for soundfile to close; it would read a Python file by callbacks, which lose Ctrl-C
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    with soundfile.SoundFile(os.dup(file.fileno())) as audio:
        sample_rate, channels = audio.samplerate, audio.channels
        mixer = Mixer(channels, sample_rate)
        if audio.format in _UNCHECKED:
            note(f"whether it is whole cannot be told, because a file of the kind {audio.format} does not say")
        if not 1000 <= sample_rate <= 768000:
            raise ValueError(f"has a sample rate of {sample_rate} Hz; expected 1000 to 768000")
        while len(block := audio.read(max(1, _BLOCK // channels), dtype="float32", always_2d=True)):
            wrong, read = wrong + int(np.count_nonzero(~(np.abs(block) < _LARGEST))), read + block.size
            if wrong:
                continue  # counting them is all that is left to do
            same = checksum is None or checksum(block)
            yield torch.from_numpy(mixer.mix(block)), sample_rate
    if not read:
        raise ValueError("has no samples")
    if wrong:
        raise ValueError(f"is no audio: {wrong} of {read} samples are not finite (NaN, infinity, or over {_LARGEST:g})")
    if not same:
        raise ValueError("is damaged: its samples do not have the checksum (MD5) in its header")
    mixer.check(note)


def write_audio(path: str | os.PathLike[str], waveform: Tensor, sample_rate: int) -> None:
    """Write a waveform, `(T,)` or `(1, T)`, as 16-bit WAV or FLAC, after the suffix of `path`.

    Values outside [-1, 1] are clipped. Raises `ValueError` if the waveform is not finite floating point, has a peak
    over 2, as in another unit, or `sample_rate`, in Hz, is not a usual one.
    """
    container = Path(path).suffix[1:].upper()
    if container not in ("WAV", "FLAC"):
        raise ValueError(f"{path}: audio is written as .wav or .flac, not as {Path(path).suffix!r}")
    write_atomically(path, encode_audio(waveform, sample_rate, container))


def encode_audio(waveform: Tensor, sample_rate: int, container: str) -> bytes:
    """The bytes of a file of 16-bit audio, as `write_audio` writes it; `container` is "WAV" or "FLAC"."""
    check_waveform(waveform)
    check_level(waveform)
    check_sample_rate(sample_rate)
    if waveform.dim() != 1 and (waveform.dim() != 2 or len(waveform) != 1):
        raise ValueError(f"waveform has shape {tuple(waveform.shape)}; expected one channel, (T,) or (1, T)")
    if not waveform.numel():
        raise ValueError("waveform has no samples; expected at least one")
    encoded = io.BytesIO()
    samples = to_int16(waveform.detach().flatten()).cpu().numpy()
    soundfile.write(encoded, samples, int(sample_rate), format=container, subtype="PCM_16")
    return encoded.getvalue()


def check_sample_rate(sample_rate: int) -> None:
    """Raise `ValueError` unless this is a usual sample rate, in Hz."""
    if not hasattr(sample_rate, "__index__") or not 1000 <= sample_rate <= 768000:
        raise ValueError(f"sample_rate is {sample_rate!r} Hz; expected 1000 to 768000")


def to_int16(waveform: Tensor) -> Tensor:
    """[-1, 1] -> 16-bit integers, rounded to nearest and clipped; any shape."""
    return (full_precision(waveform) * 32768).round().clamp(-32768, 32767).to(torch.int16)


def from_int16(samples: Tensor) -> Tensor:
    """16-bit integers -> float32 in [-1, 1); any shape."""
    return samples.to(torch.float32) / 32768


def resample(waveform: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """Band-limited resampling (windowed sinc), `(T,)` -> `(ceil(T * target / source),)`.

    Raises `ValueError` if the rates are not in a small ratio, such as 44101 to 16000.
    """
    if source_rate == target_rate:
        return waveform
    check_ratio(source_rate, target_rate)
    resampled: Tensor = functional.resample(waveform, source_rate, target_rate, lowpass_filter_width=_FILTER_WIDTH)
    return resampled


def check_ratio(source_rate: int, target_rate: int) -> None:
    """Raise `ValueError` if resampling between these rates, in Hz, would need a huge filter."""
    common = math.gcd(source_rate, target_rate)
    if source_rate != target_rate and source_rate * target_rate / common**2 > _LARGEST_RATIO:
        raise ValueError(
            f"{source_rate} Hz to {target_rate} Hz has no small ratio ({source_rate // common} to "
            f"{target_rate // common}), and would need a huge filter; convert the audio to a usual rate first"
        )


def resample_blocks(blocks: Iterable[Tensor], source_rate: int, target_rate: int) -> Iterator[Tensor]:
    """`resample` in blocks, in bounded memory: together they are what it makes of the whole, to the bit.

    Each block is resampled between samples to either side that the filter reaches, and begins where the phase of the
    filter is that of the first sample. No part is so short that torch would convolve it by other, scalar code, which
    rounds otherwise, unless the whole is.
    """
    if source_rate == target_rate:
        yield from blocks
        return
    common = math.gcd(source_rate, target_rate)
    source, target = source_rate // common, target_rate // common
    edge = source * max(
        2 + 2 * _FILTER_WIDTH // min(source, target), -(-_VECTORISED // source)
    )  # over the filter's reach
    held, begun = torch.zeros(0), 0  # samples that are still needed, of which so many have been resampled
    for block in blocks:
        held = torch.cat([held, block])
        ready = (len(held) - edge) // source * source
        if ready - begun >= _BLOCK // 2:
            resampled = resample(held, source_rate, target_rate)
            yield resampled[begun // source * target : ready // source * target]
            kept = max(0, ready - edge)
            held, begun = held[kept:].clone(), ready - kept
    if len(held):
        yield resample(held, source_rate, target_rate)[begun // source * target :]
