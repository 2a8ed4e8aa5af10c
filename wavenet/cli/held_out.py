"""The clips that `wavenet evaluate` and `wavenet copy` score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wavenet.data import PreparedClip, PreparedDataset, pick_clips
from wavenet.network import WaveNet

__all__ = ["open_clips", "sample_progress"]


def open_clips(
    model: Path, dataset: Path, split: str, speakers: list[str] | None, limit: int | None, as_speaker: str | None
) -> tuple[WaveNet, PreparedDataset, tuple[PreparedClip, ...]]:
    """The model, the dataset, and the clips chosen from it."""
    network, prepared = WaveNet.from_pretrained(model), PreparedDataset(dataset)
    clips = prepared.split(split, speakers or [])
    if limit is not None:
        clips = pick_clips(clips, limit)
    _check_speakers(network.config.speakers, clips, as_speaker)
    return network, prepared, clips


def sample_progress(clips: Sequence[PreparedClip]) -> Any:
    """A progress bar over the samples of all clips."""
    return tqdm(total=sum(clip.samples for clip in clips), unit="sample", unit_scale=True, disable=None)


def _check_speakers(known: Sequence[str], clips: Sequence[PreparedClip], as_speaker: str | None) -> None:
    if as_speaker is not None:
        if not known:
            raise ValueError("the model knows no speakers; leave --as-speaker out")
        if as_speaker not in known:
            raise ValueError(f"--as-speaker is {as_speaker!r}; the model knows {', '.join(known)}")
    elif known:
        for clip in clips:
            if clip.speaker not in known:
                raise ValueError(
                    f"clip {clip.name} has speaker {clip.speaker!r}; the model knows {', '.join(known)}; "
                    "choose clips with --speaker, or name one of these with --as-speaker"
                )
