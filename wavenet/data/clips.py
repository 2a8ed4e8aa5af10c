"""Clips: pieces of audio that read themselves, from memory, disk or elsewhere. Every function for audio takes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from wavenet.data.audio import check_sample_rate, from_int16, warn
from wavenet.data.corpus import find_clips, printable
from wavenet.data.held_out import HeldOut
from wavenet.data.loading import PrepareConfig, Tally, load_clips
from wavenet.network import TimedLabel, Tracks, WaveNetConfig, check_waveform


@runtime_checkable
class Clip(Protocol):
    """One recording, mono: what is known of it, and its samples. Any object with these five members is a clip.

    `name` appears in error messages. `sample_rate` is in Hz, `samples` is the length. `labels` says what is known of
    the clip by kind; a model may be told those kinds that its configuration names.
    """

    @property
    def name(self) -> str: ...

    @property
    def sample_rate(self) -> int: ...

    @property
    def samples(self) -> int: ...

    @property
    def labels(self) -> Mapping[str, str]: ...

    def read(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Samples `start` to `stop` (the end, if not given): `(stop - start,)`, float32 in [-1, 1]."""
        ...


AnyClip = TypeVar("AnyClip", bound=Clip)


@dataclass(frozen=True, eq=False)
class TensorClip:
    """A clip in memory: `waveform` `(T,)` is floating point in [-1, 1].

    Raises `ValueError` if it is something else, empty, not finite or out of range.
    """

    waveform: Tensor
    sample_rate: int
    name: str = "clip"
    labels: Mapping[str, str] = field(default_factory=dict)
    timed_labels: tuple[TimedLabel, ...] = ()
    tracks: Tracks | None = None

    def __post_init__(self) -> None:
        _check_waveform(self.waveform, self.name)
        check_sample_rate(self.sample_rate)
        object.__setattr__(self, "sample_rate", int(self.sample_rate))
        object.__setattr__(self, "waveform", self.waveform.detach().to("cpu", torch.float32))

    @property
    def samples(self) -> int:
        return len(self.waveform)

    def read(self, start: int = 0, stop: int | None = None) -> Tensor:
        return self.waveform[start:stop]


def _check_waveform(waveform: object, name: str) -> None:
    check_waveform(waveform, name)
    assert isinstance(waveform, Tensor)
    if waveform.dim() != 1:
        raise ValueError(
            f"{name} has shape {tuple(waveform.shape)}; expected one channel, (T,): take one, or the mean of several"
        )
    if not len(waveform):
        raise ValueError(f"{name} is empty; expected at least one sample: leave empty waveforms out")
    peak = float(waveform.detach().abs().max())
    if peak > 1:
        raise ValueError(f"{name} has a peak of {peak:.4g}; expected samples in [-1, 1]: scale it down")


def tensor_clips(
    waveforms: Sequence[Tensor], sample_rate: int, *, speakers: Sequence[str] | None = None
) -> tuple[TensorClip, ...]:
    """Clips in memory from waveforms `(T,)`, floating point in [-1, 1]; `speakers` names the speaker of each.

    Raises `ValueError` that names the entry which is no such waveform.

    >>> clips = tensor_clips([torch.zeros(100), torch.rand(50)], sample_rate=16000, speakers=["ann", "bob"])
    >>> clips[1].name, clips[1].samples, clips[1].labels
    ('waveforms[1]', 50, {'speaker': 'bob'})
    """
    if isinstance(speakers, str):
        raise ValueError(f"speakers is {speakers!r}; expected a sequence of names, one for each waveform")
    if speakers is not None and len(speakers) != len(waveforms):
        raise ValueError(f"speakers has {len(speakers)} entries; expected one for each of {len(waveforms)} waveforms")
    labels = [{}] * len(waveforms) if speakers is None else [{"speaker": speaker} for speaker in speakers]
    return tuple(
        TensorClip(waveform, sample_rate, f"waveforms[{index}]", labels[index])
        for index, waveform in enumerate(waveforms)
    )


def load_folder(
    folder: str | Path,
    config: PrepareConfig | None = None,
    *,
    held_out: float | HeldOut = 0.1,
    speakers: bool = False,
    labels: str | None = None,
    metadata: str | Path | None = None,
    timed_labels: str | Path | None = None,
    tier: str | None = None,
    tracks: str | Path | None = None,
    note: Callable[[str], None] = warn,
) -> tuple[tuple[TensorClip, ...], tuple[TensorClip, ...]]:
    """Load a folder of audio into memory: the clips to train on, and those that `held_out` chooses, a share or a rule.

    The clips are those that `prepare_dataset` would write with this `config`, sample for sample. Their labels come from
    `speakers`, `labels`, `metadata`, `timed_labels` and `tracks`, as in `find_clips`. Recordings over 15 seconds are
    cut, unless `config` says otherwise. Raises `ValueError` that names a file which cannot be used.
    """
    config, tally = config or PrepareConfig(), Tally()
    splits: dict[str, list[TensorClip]] = {"train": [], "test": []}
    for recording in find_clips(
        Path(folder),
        "folder",
        held_out=held_out,
        speakers=speakers,
        labels=labels,
        metadata=None if metadata is None else Path(metadata),
        timed_labels=None if timed_labels is None else Path(timed_labels),
        tier=tier,
        tracks=None if tracks is None else Path(tracks),
        note=note,
    ):
        try:
            for loaded in load_clips(recording, config, tally):
                clip, waveform = loaded.of(recording), from_int16(torch.from_numpy(loaded.samples))
                splits[clip.split].append(
                    TensorClip(waveform, config.sample_rate, clip.name, clip.labels, clip.timed_labels, clip.tracks)
                )
        except (ValueError, OSError, MemoryError) as error:
            raise ValueError(f"{printable(str(error))}; remove the file") from error
    for line in tally.lines(config):
        note(line)
    return tuple(splits["train"]), tuple(splits["test"])


def speaker_label(clip: Clip) -> str | None:
    """The speaker of a clip, if its labels name one."""
    return clip.labels.get("speaker")


def timed_labels(clip: Clip, whole_clip: str | None = None) -> tuple[TimedLabel, ...]:
    """What a clip says when: its attribute `timed_labels`, if it has any.

    A clip without them is one label from start to end, its label of the kind `whole_clip`, if that is given. Raises
    `ValueError` if it lacks that label.
    """
    own: tuple[TimedLabel, ...] = tuple(getattr(clip, "timed_labels", ()))
    if own or whole_clip is None:
        return own
    if whole_clip not in clip.labels:
        raise ValueError(f"{clip.name} has no timed labels and no label {whole_clip!r}; prepare it with one of them")
    return (TimedLabel(0.0, clip.samples / clip.sample_rate, clip.labels[whole_clip]),)


def clip_tracks(clip: Clip, model: WaveNetConfig) -> Tensor | None:
    """A clip's attribute `tracks` at the frames of a model, `(tracks, F)`; `None` if the model takes no tracks.

    Raises `ValueError` that names the clip if it lacks one, or they are not of its length.
    """
    if not model.tracks or model.features is None:
        return None
    own, hop = getattr(clip, "tracks", None), model.features.hop
    if own is None:
        raise ValueError(
            f"{clip.name} has no tracks, and the model takes {', '.join(model.tracks)}; prepare it with tracks, or "
            "leave it out"
        )
    try:
        frames: Tensor = own.at(model.tracks, clip.samples // hop + 1, clip.sample_rate / hop)
    except ValueError as error:
        raise ValueError(f"{clip.name}: {error}") from error
    return frames


def check_clips(clips: Sequence[Clip], sample_rate: int, name: str = "clips") -> None:
    """Raise `ValueError` unless `clips`, the argument called `name`, holds clips of one sample rate, at least one."""
    if not isinstance(clips, Sequence):
        raise ValueError(f'{name} is a {type(clips).__name__}; expected clips in a sequence, as dataset.split("test")')
    if not clips:
        raise ValueError(f"{name} is empty; expected at least one clip")
    for index, clip in enumerate(clips):
        if not isinstance(clip, Clip):
            raise ValueError(
                f"{name}[{index}] is a {type(clip).__name__}; expected a Clip, as tensor_clips makes from tensors"
            )
        if clip.sample_rate != sample_rate:
            raise ValueError(
                f"{name}: {clip.name} has {clip.sample_rate} Hz, the model {sample_rate} Hz; resample the audio"
            )


def check_known(clips: Sequence[Clip], known: Mapping[str, Sequence[str]], name: str = "clips") -> None:
    """Raise `ValueError` if a clip's label is none of those `known` of its kind, or if it has none."""
    for clip in clips:
        for kind, names in known.items():
            if clip.labels.get(kind) not in names:
                raise ValueError(
                    f"{name}: the {kind} of {clip.name} is {clip.labels.get(kind)!r}; expected one that the model "
                    f"knows: {', '.join(names)}"
                )


def read_clip(clip: Clip, start: int = 0, stop: int | None = None) -> Tensor:
    """Samples `start` to `stop` of a clip; `ValueError` if it does not read what a `Clip` promises."""
    stop = clip.samples if stop is None else stop
    waveform: object = clip.read(start, stop)
    if not isinstance(waveform, Tensor) or waveform.shape != (stop - start,) or waveform.dtype != torch.float32:
        what = f"{waveform.dtype} {tuple(waveform.shape)}" if isinstance(waveform, Tensor) else type(waveform).__name__
        raise ValueError(f"{clip.name}: read({start}, {stop}) gave {what}; expected torch.float32 {(stop - start,)}")
    if not bool((waveform.abs() <= 1).all()):
        raise ValueError(f"{clip.name}: read({start}, {stop}) gave samples that are not in [-1, 1]; scale them down")
    return waveform


def pick_clips(clips: Sequence[AnyClip], count: int) -> tuple[AnyClip, ...]:
    """At most `count` clips, evenly spaced in the sequence; always the same ones."""
    if count < 1:
        raise ValueError(f"count is {count}; expected at least 1 clip")
    count = min(count, len(clips))
    return tuple(clips[index * len(clips) // count] for index in range(count))


def pick_clips_lasting(clips: Sequence[AnyClip], samples: int) -> tuple[AnyClip, ...]:
    """Clips of about `samples` in all, at least one, evenly spaced in the sequence; always the same ones."""
    total = sum(clip.samples for clip in clips)
    return pick_clips(clips, max(1, round(len(clips) * min(1.0, samples / total))))
