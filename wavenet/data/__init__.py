"""Audio files, corpora, prepared datasets, and random windows of them."""

from wavenet.data.audio import encode_audio, from_int16, read_audio, resample, to_int16, trim_silence, write_audio
from wavenet.data.corpus import Clip, find_clips, stable_split
from wavenet.data.dataset import Batch, PreparedClip, PreparedDataset, Source, WindowSampler, checksum
from wavenet.data.prepare import PrepareConfig, load_clip, prepare_dataset

__all__ = [
    "Batch",
    "Clip",
    "PrepareConfig",
    "PreparedClip",
    "PreparedDataset",
    "Source",
    "WindowSampler",
    "checksum",
    "encode_audio",
    "find_clips",
    "from_int16",
    "load_clip",
    "prepare_dataset",
    "read_audio",
    "resample",
    "stable_split",
    "to_int16",
    "trim_silence",
    "write_audio",
]
