"""Read, write, resample and trim audio. Waveforms are float32 in [-1, 1], shape `(T,)`, mono."""

import io
import math
import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
from torch import Tensor
from torchaudio import functional

from wavenet.atomic import write_atomically
from wavenet.network import check_waveform

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3")

_LARGEST_RATIO = 10_000_000
"""The size of the filter bank is the product of the two sides of the ratio: 441 x 160 for 44.1 to 16 kHz."""

_STREAMED = 0x7FFF0000
"""Programs that write WAV to a pipe put a length of this or more into the header, which then says nothing."""


def read_audio(path: str | os.PathLike[str]) -> tuple[Tensor, int]:
    """Read an audio file, mixed down to one channel: `(T,)` float32 and its sample rate in Hz.

    Raises `FileNotFoundError`, or `ValueError` if the file is not audio, truncated, empty or not finite.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such audio file")
    if not path.is_file():
        raise ValueError(f"{path} is a folder or device; expected an audio file ({', '.join(AUDIO_SUFFIXES)})")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    try:
        with open(path, "rb") as file:  # opened here, since soundfile refuses names that are not UTF-8
            _refuse_truncated(path, file)
            samples, sample_rate = soundfile.read(_beginning(file), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        reason = str(error).rpartition(": ")[2].rstrip(".")
        raise ValueError(f"{path} is not readable audio ({reason}); expected {', '.join(AUDIO_SUFFIXES)}") from error
    if not 1000 <= sample_rate <= 768000:
        raise ValueError(f"{path}: its sample rate is {sample_rate} Hz; expected 1000 to 768000")
    if len(samples) == 0:
        raise ValueError(f"{path}: the clip has no samples")
    wrong = int(np.count_nonzero(~np.isfinite(samples)))
    if wrong:
        raise ValueError(f"{path}: {wrong} of {samples.size} samples are not finite (NaN or infinity)")
    return torch.from_numpy(samples.mean(axis=1)), int(sample_rate)


def _beginning(file: BinaryIO) -> int:
    """A descriptor for soundfile to read and close. (It would read a Python file by callbacks, which lose Ctrl-C.)"""
    file.seek(0)
    return os.dup(file.fileno())


def _refuse_truncated(path: Path, file: BinaryIO) -> None:
    """Raise `ValueError` if a RIFF file is shorter than its header says, which libsndfile does not report."""
    log = str(soundfile.info(_beginning(file), verbose=True).extra_info)
    match = re.search(r"^\s*data\s*: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if match and int(match[2]) < int(match[1]) < _STREAMED:
        raise ValueError(f"{path} is truncated: its header promises {match[1]} bytes of audio, {match[2]} are there")


def write_audio(path: str | os.PathLike[str], waveform: Tensor, sample_rate: int) -> None:
    """Write a waveform, `(T,)` or `(1, T)`, as 16-bit WAV or FLAC, after the suffix of `path`.

    Values outside [-1, 1] are clipped. Raises `ValueError` if the waveform is not finite floating point,
    or `sample_rate`, in Hz, is not a usual one.
    """
    container = Path(path).suffix[1:].upper()
    if container not in ("WAV", "FLAC"):
        raise ValueError(f"{path}: audio is written as .wav or .flac, not as {Path(path).suffix!r}")
    write_atomically(path, encode_audio(waveform, sample_rate, container))


def encode_audio(waveform: Tensor, sample_rate: int, container: str) -> bytes:
    """The bytes of a file of 16-bit audio, as `write_audio` writes it; `container` is "WAV" or "FLAC"."""
    check_waveform(waveform)
    check_sample_rate(sample_rate)
    if waveform.dim() != 1 and (waveform.dim() != 2 or len(waveform) != 1):
        raise ValueError(f"waveform has shape {tuple(waveform.shape)}; expected one channel, (T,) or (1, T)")
    encoded = io.BytesIO()
    samples = to_int16(waveform.detach().flatten()).cpu().numpy()
    soundfile.write(encoded, samples, sample_rate, format=container, subtype="PCM_16")
    return encoded.getvalue()


def check_sample_rate(sample_rate: int) -> None:
    """Raise `ValueError` unless this is a usual sample rate, in Hz."""
    if not isinstance(sample_rate, int) or not 1000 <= sample_rate <= 768000:
        raise ValueError(f"sample_rate is {sample_rate!r} Hz; expected 1000 to 768000")


def to_int16(waveform: Tensor) -> Tensor:
    """[-1, 1] -> 16-bit integers, rounded to nearest and clipped; any shape."""
    return (waveform * 32768).round().clamp(-32768, 32767).to(torch.int16)


def from_int16(samples: Tensor) -> Tensor:
    """16-bit integers -> float32 in [-1, 1); any shape."""
    return samples.to(torch.float32) / 32768


def resample(waveform: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """Band-limited resampling (windowed sinc), `(T,)` -> `(ceil(T * target / source),)`.

    Raises `ValueError` if the rates are not in a small ratio, such as 44101 to 16000.
    """
    if source_rate == target_rate:
        return waveform
    common = math.gcd(source_rate, target_rate)
    if source_rate * target_rate / common**2 > _LARGEST_RATIO:
        raise ValueError(
            f"{source_rate} Hz to {target_rate} Hz has no small ratio ({source_rate // common} to "
            f"{target_rate // common}), and would need a huge filter; convert the audio to a usual rate first"
        )
    resampled: Tensor = functional.resample(waveform, source_rate, target_rate, lowpass_filter_width=32)
    return resampled


def scale_to_level(waveform: Tensor, level_db: float) -> Tensor:
    """Scale a waveform to a root mean square of `level_db` decibels below full scale, or to the peak nearest to it."""
    gain = 10 ** (-level_db / 20) / waveform.square().mean().sqrt()
    return waveform * torch.minimum(gain, 1 / waveform.abs().max())


def trim_silence(waveform: Tensor, sample_rate: int, trim_db: float) -> Tensor:
    """Cut leading and trailing audio that stays `trim_db` decibels below the clip's peak, keeping a margin of 50 ms.

    The threshold is relative, so a quiet recording keeps the same samples as a loud one. A clip of zeros is returned
    whole. Shape: `(T,)` -> `(T',)`.
    """
    loud = waveform.abs() >= waveform.abs().max() * 10 ** (-trim_db / 20)
    (positions,) = torch.nonzero(loud, as_tuple=True)
    margin = math.ceil(0.05 * sample_rate)
    return waveform[max(0, int(positions[0]) - margin) : int(positions[-1]) + 1 + margin]
