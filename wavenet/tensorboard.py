"""Write a run's curves, audio and spectrograms for TensorBoard (the `tensorboard` extra)."""

from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torchaudio import transforms

from wavenet.conditioning import Conditioning
from wavenet.generation import generate_scored
from wavenet.model import WaveNet
from wavenet.sampling import SamplingOptions

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardWriter"]


class TensorBoardWriter:
    """Watches a run and writes below `folder`; `ValueError` where TensorBoard is not installed."""

    def __init__(self, folder: Path, audio_seconds: float) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "train.tensorboard is true, and TensorBoard is not installed; pip install 'wavenet-toolkit[plots]'"
            ) from error
        self._open = partial(SummaryWriter, str(folder))
        self.audio_seconds = audio_seconds

    @cached_property
    def writer(self) -> "SummaryWriter":
        """Opened when there is something to write: a run that is refused leaves no folder."""
        return self._open()

    def logged(self, record: dict[str, float]) -> None:
        for name in record.keys() - {"step", "seconds"}:
            self.writer.add_scalar(name, record[name], int(record["step"]))

    def evaluated(self, step: int, model: WaveNet, example: Conditioning) -> None:
        """A sample generated under the example's conditioning, always from the same uniforms, and its spectrogram."""
        rate, samples = model.config.sample_rate, max(1024, int(self.audio_seconds * model.config.sample_rate))
        if example.features is not None and model.config.features is not None:
            samples = min(samples, example.features.shape[2] * model.config.features.hop)
        audio = generate_scored(model, samples, SamplingOptions(), example).audio[0].cpu()
        power = transforms.Spectrogram(n_fft=512, hop_length=128)(audio)
        decibels = transforms.AmplitudeToDB(top_db=80)(power).flip(0)
        image = (decibels - decibels.min()) / (decibels.max() - decibels.min()).clamp(min=1e-9)
        self.writer.add_audio("sample", audio[None], step, sample_rate=rate)
        self.writer.add_image("spectrogram", image[None].to(torch.float32), step)
