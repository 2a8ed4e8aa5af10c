"""Writes the audio of `wavenet generate`: files, or a WAV stream on standard output."""

import fcntl
import io
import os
import signal
import stat
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from wavenet.atomic import check_writable, write_atomically
from wavenet.data import STREAMED_RIFF, to_int16, write_audio
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


@dataclass(frozen=True)
class Written:
    """What was written: the samples of the longest stream, a sample's mean log-probability, in nats, and whether
    Ctrl-C or SIGTERM ended it early."""

    samples: int
    nats: float
    interrupted: bool


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[threading.Event]:
    """Let a first SIGTERM end the work as Ctrl-C does, and set the event. Nothing made: exits with status 143."""
    terminated = threading.Event()

    def end(signum: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        terminated.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield terminated
    except KeyboardInterrupt:
        if not terminated.is_set():
            raise
        print("interrupted", file=sys.stderr)
        raise SystemExit(143) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def check_length(names: list[Path], samples: int) -> None:
    """Raise `ValueError` if a WAV file cannot hold that many samples."""
    if 2 * samples >= _MOST_BYTES and any(name.suffix.lower() != ".flac" for name in names):
        raise ValueError(f"{samples} samples are more than a WAV file holds; take fewer --seconds, or write FLAC")


def check_room(names: list[Path], samples: int, log_probs: Path | None) -> None:
    """Raise `OSError` if the disk has no room for files of that many samples, and for their log-probabilities."""
    check_writable(names[0], (44 + 2 * samples) * len(names))
    if log_probs is not None:
        check_writable(log_probs, 128 + 4 * samples * len(names))


def write_files(
    pieces: Iterator[Generated],
    names: list[Path],
    lengths: list[int],
    beginnings: list[Tensor] | None,
    rate: int,
    log_probs: Path | None,
) -> Written:
    """Write each stream after its beginning, cut to its length; at Ctrl-C or SIGTERM, as far as it was made."""
    made: list[Generated] = []
    interrupted = False
    try:
        made.extend(pieces)
    except KeyboardInterrupt:
        if not made:
            raise
        interrupted = True
    scores = torch.cat([piece.log_probs for piece in made], dim=1)
    lengths = [min(length, scores.shape[1]) for length in lengths]
    audio = torch.cat([piece.audio for piece in made], dim=1)
    for row, (path, length) in enumerate(zip(names, lengths, strict=True)):
        parts = [audio[row, :length]] if beginnings is None else [beginnings[row], audio[row, :length]]
        write_audio(path, torch.cat(parts), rate)
    if log_probs is not None:
        within = torch.arange(scores.shape[1]) < torch.tensor(lengths)[:, None]
        encoded = io.BytesIO()
        np.save(encoded, scores.where(within, torch.nan).numpy())
        write_atomically(log_probs, encoded.getvalue())
    scored = torch.cat([row[:length] for row, length in zip(scores, lengths, strict=True)])
    return Written(max(lengths), float(scored.double().mean()), interrupted)


def stream_wav(pieces: Iterator[Generated], rate: int, samples: int, beginning: Tensor | None) -> Written:
    """Write 16-bit WAV to standard output, piece by piece, up to Ctrl-C or SIGTERM.

    Until all is written the header says that the file is streamed, so that what is left of it can be read; in the end
    it says how long the audio is, unless the output is a pipe.
    """
    try:
        return _stream_wav(pieces, rate, samples, beginning)
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = f"cannot write ({error.strerror}); what was written before is kept"
        raise OSError(error.errno, reason, "standard output") from error


def _stream_wav(pieces: Iterator[Generated], rate: int, samples: int, beginning: Tensor | None) -> Written:
    before, made, nats, interrupted = 0 if beginning is None else len(beginning), 0, 0.0, False
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as pipe:
        status = os.fstat(pipe.fileno())
        begin = os.lseek(pipe.fileno(), 0, os.SEEK_CUR) if stat.S_ISREG(status.st_mode) else None
        pipe.write(_wav_header(rate, before + samples, streamed=True))
        try:
            if beginning is not None:
                pipe.write(_pcm(beginning))
            for piece in pieces:
                pipe.write(_pcm(piece.audio[0]))
                pipe.flush()
                made, nats = made + piece.audio.shape[1], nats + float(piece.log_probs.double().sum())
        except KeyboardInterrupt:
            interrupted = True
        pipe.flush()
        if begin is not None and not fcntl.fcntl(pipe.fileno(), fcntl.F_GETFL) & os.O_APPEND:
            os.pwrite(pipe.fileno(), _wav_header(rate, before + made, streamed=False), begin)
    if not made:
        raise KeyboardInterrupt
    return Written(made, nats / made, interrupted)


def _wav_header(rate: int, samples: int, *, streamed: bool) -> bytes:
    """The header of a WAV file of 16-bit samples, mono. (The `wave` module writes one only to a file that can seek.)

    The length of the whole file is unknown if it is `streamed`; that of the audio is then what is planned.
    """
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    riff = STREAMED_RIFF if streamed else 36 + 2 * samples
    return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + form + struct.pack("<4sI", b"data", 2 * samples)


def _pcm(waveform: Tensor) -> bytes:
    return to_int16(waveform).numpy().astype("<i2").tobytes()
