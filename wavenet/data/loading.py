"""From a recording to clips of 16 bits: decoded, resampled, cut where it is long, trimmed, and brought to a level."""

import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.data.audio import check_ratio, check_sample_rate, read_blocks, resample, resample_blocks, to_int16
from wavenet.data.corpus import Recording
from wavenet.data.levels import amplify, fit_full_scale, full_scale_divisor, high_pass, level_gain, loudness_gain
from wavenet.data.pauses import cut_at_pauses, find_sound, frame_samples, silence_level
from wavenet.data.spool import Spool
from wavenet.network import TimedLabel, Tracks, cut_timed_labels, plain_numbers


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Settings of preparation.

    Recordings longer than `max_seconds` are cut at pauses into clips that are no longer; `None` cuts none, and reads
    each whole. `high_pass` removes what lies below so many hertz, an offset too. The ends of a clip that stay `trim_db`
    below its peak are cut; `None` keeps them. With `level_db` each clip is then scaled to this level in decibels below
    full scale (root mean square), with `loudness` to this loudness in LUFS, or as near as its peak allows; `None` keeps
    its own.
    """

    sample_rate: int = 16000
    max_seconds: float | None = 15.0
    high_pass: float | None = None
    trim_db: float | None = 40.0
    level_db: float | None = None
    loudness: float | None = None

    def __post_init__(self) -> None:
        plain_numbers(self)
        check_sample_rate(self.sample_rate)
        if self.max_seconds is not None and not 1 <= self.max_seconds <= 3600:
            raise ValueError(f"max_seconds is {self.max_seconds}; expected 1 to 3600 seconds, or None to cut nothing")
        if self.high_pass is not None and not 5 <= self.high_pass <= self.sample_rate / 4:
            raise ValueError(
                f"high_pass is {self.high_pass}; expected 5 to {self.sample_rate / 4:g} Hz, a quarter of the sample "
                "rate, or None to switch off"
            )
        if self.trim_db is not None and not self.trim_db > 0:
            raise ValueError(
                f"trim_db is {self.trim_db}; expected a positive number of decibels, or None to switch off"
            )
        if self.level_db is not None and not 0 < self.level_db < 100:
            raise ValueError(f"level_db is {self.level_db}; expected 0 to 100 decibels below full scale, such as 26")
        if self.loudness is not None and not -70 < self.loudness < 0:
            raise ValueError(f"loudness is {self.loudness}; expected -70 to 0 LUFS, such as -23")
        if self.loudness is not None and self.level_db is not None:
            raise ValueError(
                f"level_db is {self.level_db} and loudness is {self.loudness}; expected one of them, since each sets "
                "the level of all clips"
            )
        if self.loudness is not None and self.sample_rate < 8000:
            raise ValueError(f"loudness needs a sample_rate of 8000 Hz or more, not {self.sample_rate}; use level_db")


@dataclass(frozen=True)
class Piece:
    """A clip of a recording: int16 samples `(T,)`, and timed labels and tracks by its own clock.

    `start` is the second where it begins in a recording that was cut.
    """

    samples: NDArray[np.int16]
    timed_labels: tuple[TimedLabel, ...] = ()
    start: float | None = None
    tracks: Tracks | None = None

    def of(self, recording: Recording) -> Recording:
        """The clip's metadata, taken from its recording."""
        clip = recording if self.start is None else recording.piece(self.start)
        return replace(clip, timed_labels=self.timed_labels, tracks=self.tracks)


@dataclass
class Tally:
    """Counts of what was done to recordings, reported in a line for all of them."""

    cut: int = 0
    pieces: int = 0
    without_pause: int = 0
    seconds: float = 0.0
    kept: float = 0.0
    texts: int = 0
    limited: int = 0
    unmeasured: int = 0
    labels_cut: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)

    def lines(self, config: PrepareConfig) -> Iterator[str]:
        if self.cut:
            yield (
                f"recordings longer than {config.max_seconds:g} s: {self.cut}, cut into {self.pieces} clips "
                f"({self.without_pause} cuts where there is no pause); {self.kept / 60:.1f} of "
                f"{self.seconds / 60:.1f} minutes are kept, the rest is silence"
            )
        if self.texts:
            yield f"recordings that were cut and have a text: {self.texts}; their clips have none, as it has no times"
        if self.labels_cut:
            first = self.labels_cut[0]
            yield f"clips whose timed labels trimming cut: {len(self.labels_cut)} (the first: {first})"
        if self.limited:
            yield f"clips that would clip at the level asked for: {self.limited}; they are amplified to full scale only"
        if self.unmeasured:
            yield f"clips shorter than 0.4 s or too quiet to have a loudness: {self.unmeasured}; they keep their level"


def load_clips(
    recording: Recording, config: PrepareConfig, tally: Tally | None = None, folder: Path | None = None
) -> Iterator[Piece]:
    """Decode, resample, filter and trim a recording and round it to int16; a long one is cut into pieces.

    A long recording is read in blocks, and lies in a file in `folder` while it is cut, so that memory stays bounded.
    `tally` counts what was done. Raises `ValueError` or `OSError`, before the first piece, if the file is broken.
    """
    path, blocks, tally = recording.path, read_blocks(recording.path), tally or Tally()
    head, samples, rate = list[Tensor](), 0, 0
    for block, rate in blocks:
        if not head:
            _check_ratio(path, rate, config)
        head.append(block)
        samples += len(block)
        if config.max_seconds is not None and samples > config.max_seconds * rate:
            tally.texts += recording.text is not None
            mono = itertools.chain(head, (block for block, _ in blocks))
            yield from _cut(mono, rate, recording, config, tally, folder)
            return
    yield _whole(torch.cat(head), rate, recording, config, tally)


def _check_ratio(path: Path, rate: int, config: PrepareConfig) -> None:
    try:
        check_ratio(rate, config.sample_rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _whole(waveform: Tensor, rate: int, recording: Recording, config: PrepareConfig, tally: Tally) -> Piece:
    path = recording.path
    waveform = resample(waveform, rate, config.sample_rate)
    if config.high_pass is not None:
        waveform = torch.cat(list(high_pass([waveform], config.sample_rate, config.high_pass)))
    if not waveform.any():
        raise ValueError(f"{path}: nothing but digital silence")
    kept, seconds = slice(0, len(waveform)), len(waveform) / config.sample_rate
    if config.trim_db is not None:
        kept = find_sound(waveform, config.sample_rate, config.trim_db)
        _warn_if_short((kept.stop - kept.start) / config.sample_rate, seconds, path)
    spans = [(kept.start / config.sample_rate, kept.stop / config.sample_rate)]
    _check_annotations(recording, seconds, spans, tally)
    waveform = waveform[kept]
    waveform = fit_full_scale(waveform, path) if _keeps_level(config) else _levelled(waveform, config, tally)
    samples = to_int16(waveform).numpy()
    if not samples.any():
        _refuse_silence(path, float(waveform.abs().max()))
    return _piece(samples, recording, spans[0])


def _piece(
    samples: NDArray[np.int16], recording: Recording, span: tuple[float, float], start: float | None = None
) -> Piece:
    """The clip of these samples, with what is known of its `span` of the recording, in seconds."""
    tracks = None if recording.tracks is None else recording.tracks.cut(*span)
    return Piece(samples, cut_timed_labels(recording.timed_labels, *span), start, tracks)


_ROUNDED = 0.02
"""Aligners count in frames: labels may reach so much beyond what they label, in seconds."""


def _check_annotations(
    recording: Recording, seconds: float, spans: Sequence[tuple[float, float]], tally: Tally
) -> None:
    """Count a recording whose timed labels do not lie in the `spans` that are kept.

    Raises `ValueError` if its labels or tracks are not of its length.
    """
    labels = recording.timed_labels
    if recording.tracks is not None:
        try:
            recording.tracks.check_end(seconds)
        except ValueError as error:
            raise ValueError(f"{recording.path}: {error}") from error
    if labels and labels[-1].end > seconds + _ROUNDED:
        raise ValueError(
            f"{recording.path} lasts {seconds:g} s, and its timed label {labels[-1].name!r} ends at "
            f"{labels[-1].end:g} s; expected the labels of this recording"
        )
    inside = (
        start - _ROUNDED <= label.start and label.end <= end + _ROUNDED for start, end in spans for label in labels
    )
    if sum(inside) < len(labels):
        tally.labels_cut.append(recording.name)


def _cut(
    blocks: Iterable[Tensor],
    rate: int,
    recording: Recording,
    config: PrepareConfig,
    tally: Tally,
    folder: Path | None,
) -> Iterator[Piece]:
    """The pieces of a long recording."""
    path = recording.path
    waveforms = resample_blocks(blocks, rate, config.sample_rate)
    if config.high_pass is not None:
        waveforms = high_pass(waveforms, config.sample_rate, config.high_pass)
    with Spool(waveforms, folder) as spool:
        if not spool.peak:
            raise ValueError(f"{path}: nothing but digital silence")
        divisor = 1.0
        if _keeps_level(config):
            divisor = full_scale_divisor(spool.peak, spool.over, spool.samples, path)
        frame, levels = frame_samples(config.sample_rate), spool.levels(config.sample_rate)
        silence = None if config.trim_db is None else silence_level(levels, config.trim_db)
        assert config.max_seconds is not None
        ranges, without_pause = cut_at_pauses(levels, int(config.max_seconds * config.sample_rate) // frame, silence)
        done = Tally(cut=1, without_pause=without_pause, seconds=spool.samples / config.sample_rate)
        ends = [(piece.start * frame, min(piece.stop * frame, spool.samples)) for piece in ranges]
        spans = [(start / config.sample_rate, stop / config.sample_rate) for start, stop in ends]
        _check_annotations(recording, done.seconds, spans, tally)
        for (start, stop), span in zip(ends, spans, strict=True):
            waveform = spool.read(start, stop)
            if _keeps_level(config):
                waveform = (waveform / divisor).clamp(-1, 1)
            elif waveform.any():
                waveform = _levelled(waveform, config, done)
            samples = to_int16(waveform).numpy()
            if samples.any():
                done.pieces += 1
                done.kept += len(samples) / config.sample_rate
                yield _piece(samples, recording, span, span[0])
        if not done.pieces:
            _refuse_silence(path, spool.peak)
        _warn_if_short(done.kept, done.seconds, path)
        tally.add(done)


def _keeps_level(config: PrepareConfig) -> bool:
    return config.level_db is None and config.loudness is None


def _levelled(waveform: Tensor, config: PrepareConfig, tally: Tally) -> Tensor:
    """The waveform at the level or the loudness that the settings ask for, as near as its peak allows."""
    if config.level_db is not None:
        gain: Tensor | None = level_gain(waveform, config.level_db)
    else:
        assert config.loudness is not None
        gain = loudness_gain(waveform, config.sample_rate, config.loudness)
    if gain is None:
        tally.unmeasured += 1
        gain = waveform.new_ones(())
    amplified, limited = amplify(waveform, gain)
    tally.limited += limited
    return amplified


def _refuse_silence(path: Path, peak: float) -> None:
    raise ValueError(f"{path}: its peak of {peak:.2g} rounds to silence in 16 bits; make it louder")


def _warn_if_short(kept: float, seconds: float, path: Path) -> None:
    if 2 * kept < seconds:
        warnings.warn(f"{path}: trimming keeps {kept:.2f} of {seconds:.2f} s", stacklevel=4)
