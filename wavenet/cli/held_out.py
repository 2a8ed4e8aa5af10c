"""The clips that `wavenet evaluate` and `wavenet copy` score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wavenet.data import PreparedClip, PreparedDataset, pick_clips
from wavenet.evaluation import labels_of
from wavenet.network import WaveNet


def open_clips(
    model: Path, dataset: Path, split: str, speakers: list[str] | None, limit: int | None, as_speaker: str | None
) -> tuple[WaveNet, PreparedDataset, tuple[PreparedClip, ...]]:
    """The model, the dataset, and the clips chosen from it."""
    network, prepared = WaveNet.from_pretrained(model), PreparedDataset(dataset)
    clips = prepared.split(split, speakers or [])
    if limit is not None:
        clips = pick_clips(clips, limit)
    try:
        for clip in clips:
            labels_of(network, clip, as_speaker)
    except ValueError as error:
        hint = "choose clips with --speaker, or name a known speaker with --as-speaker"
        raise ValueError(f"{error}; {hint}" if as_speaker is None else f"--as-speaker: {error}") from error
    return network, prepared, clips


def sample_progress(clips: Sequence[PreparedClip]) -> Any:
    """A progress bar over the samples of all clips."""
    return tqdm(total=sum(clip.samples for clip in clips), unit="sample", unit_scale=True, disable=None)
