"""Write a run's curves, audio and spectrograms for TensorBoard (the `tensorboard` extra)."""

from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchaudio import transforms

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardWriter"]


class TensorBoardWriter:
    """Watches a run and writes below `folder`; `ValueError` where TensorBoard is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "train.tensorboard is true, and TensorBoard is not installed; pip install 'wavenet-toolkit[plots]'"
            ) from error
        self._open = partial(SummaryWriter, str(folder))

    @cached_property
    def writer(self) -> "SummaryWriter":
        """Opened when there is something to write: a run that is refused leaves no folder."""
        return self._open()

    def logged(self, record: dict[str, float]) -> None:
        for name in record.keys() - {"step", "seconds"}:
            self.writer.add_scalar(name, record[name], int(record["step"]))

    def heard(self, step: int, audio: Tensor, sample_rate: int) -> None:
        """Audio `(T,)` that the model made at a step, and its spectrogram."""
        power = transforms.Spectrogram(n_fft=512, hop_length=128)(audio)
        decibels = transforms.AmplitudeToDB(top_db=80)(power).flip(0)
        image = (decibels - decibels.min()) / (decibels.max() - decibels.min()).clamp(min=1e-9)
        self.writer.add_audio("sample", audio[None], step, sample_rate=sample_rate)
        self.writer.add_image("spectrogram", image[None].to(torch.float32), step)
