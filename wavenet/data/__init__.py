"""Audio files, corpora, clips, prepared datasets, and random windows for training."""

from wavenet.data.audio import encode_audio, from_int16, read_audio, resample, to_int16, write_audio
from wavenet.data.augmentation import Augmentation
from wavenet.data.clips import (
    Clip,
    TensorClip,
    check_clips,
    check_known,
    clip_tracks,
    load_folder,
    pick_clips,
    pick_clips_lasting,
    read_clip,
    speaker_label,
    tensor_clips,
    timed_labels,
)
from wavenet.data.containers import STREAMED_RIFF
from wavenet.data.corpus import Recording, find_clips
from wavenet.data.dataset import PreparedClip, PreparedDataset
from wavenet.data.held_out import HeldOut, stable_split
from wavenet.data.label_files import read_timed_labels
from wavenet.data.levels import fit_full_scale
from wavenet.data.loading import PrepareConfig
from wavenet.data.prepare import prepare_dataset
from wavenet.data.reader import BatchReader
from wavenet.data.track_files import read_tracks
from wavenet.data.windows import Batch, Source, WindowSampler, as_sources

__all__ = [
    "STREAMED_RIFF",
    "Augmentation",
    "Batch",
    "BatchReader",
    "Clip",
    "HeldOut",
    "PrepareConfig",
    "PreparedClip",
    "PreparedDataset",
    "Recording",
    "Source",
    "TensorClip",
    "WindowSampler",
    "as_sources",
    "check_clips",
    "check_known",
    "clip_tracks",
    "encode_audio",
    "find_clips",
    "fit_full_scale",
    "from_int16",
    "load_folder",
    "pick_clips",
    "pick_clips_lasting",
    "prepare_dataset",
    "read_audio",
    "read_clip",
    "read_timed_labels",
    "read_tracks",
    "resample",
    "speaker_label",
    "stable_split",
    "tensor_clips",
    "timed_labels",
    "to_int16",
    "write_audio",
]
