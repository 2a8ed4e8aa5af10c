"""Writes the audio of `wavenet generate`: files, or a WAV stream on standard output."""

import io
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from wavenet.atomic import write_atomically
from wavenet.data import to_int16, write_audio
from wavenet.generation import Generated

_MOST_BYTES = 2**32 - 2**24
"""A WAV file counts its bytes in 32 bits."""


def with_progress(pieces: Iterator[Generated], samples: int, streams: int, rate: int) -> Iterator[Generated]:
    """The pieces, shown by a progress bar as they are made."""
    begun = time.perf_counter()
    with tqdm(total=samples, unit="sample", desc="generate", disable=None) as bar:
        for piece in pieces:
            yield piece
            bar.update(piece.audio.shape[1])
            bar.set_postfix_str(f"{streams * bar.n / rate / (time.perf_counter() - begun):.3f} x real time")


def write_files(
    pieces: Iterator[Generated],
    names: list[Path],
    lengths: list[int],
    beginning: Tensor | None,
    rate: int,
    log_probs: Path | None,
) -> float:
    """Write each stream, cut to its length, once all are made. Returns a sample's mean log-probability, in nats."""
    made = list(pieces)
    scores = torch.cat([piece.log_probs for piece in made], dim=1)
    for path, waveform, length in zip(names, torch.cat([piece.audio for piece in made], dim=1), lengths, strict=True):
        whole = waveform[:length] if beginning is None else torch.cat([beginning, waveform[:length]])
        write_audio(path, whole, rate)
    if log_probs is not None:
        within = torch.arange(scores.shape[1]) < torch.tensor(lengths)[:, None]
        encoded = io.BytesIO()
        np.save(encoded, scores.where(within, torch.nan).numpy())
        write_atomically(log_probs, encoded.getvalue())
    scored = torch.cat([row[:length] for row, length in zip(scores, lengths, strict=True)])
    return float(scored.double().mean())


def stream_wav(pieces: Iterator[Generated], rate: int, samples: int, beginning: Tensor | None) -> float:
    """Write 16-bit WAV to standard output, piece by piece. Returns a sample's mean log-probability, in nats."""
    total, nats = samples + (0 if beginning is None else len(beginning)), 0.0
    if 2 * total >= _MOST_BYTES:
        raise ValueError(f"{total} samples are more than a WAV file holds; take fewer --seconds")
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as pipe:
        pipe.write(_wav_header(rate, total))  # the header holds the length of the whole
        if beginning is not None:
            pipe.write(_pcm(beginning))
        for piece in pieces:
            pipe.write(_pcm(piece.audio[0]))
            pipe.flush()
            nats += float(piece.log_probs.double().sum())
    return nats / samples


def _wav_header(rate: int, samples: int) -> bytes:
    """The header of a WAV file of 16-bit samples, mono. (The `wave` module writes one only to a file that can seek.)"""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 36 + 2 * samples, b"WAVE") + form + struct.pack("<4sI", b"data", 2 * samples)


def _pcm(waveform: Tensor) -> bytes:
    return to_int16(waveform).numpy().astype("<i2").tobytes()
