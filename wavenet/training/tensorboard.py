"""Write a run's curves, audio and spectrograms for TensorBoard (the `plots` extra)."""

from collections.abc import Callable
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
        self._open: Callable[[int], SummaryWriter] = lambda step: SummaryWriter(str(folder), purge_step=step)
        self._writer: SummaryWriter | None = None

    def _at(self, step: int) -> "SummaryWriter":
        """Opened when there is something to write: a run that is refused leaves no folder.

        What a killed run wrote of this step and later ones is not shown.
        """
        if self._writer is None:
            self._writer = self._open(step)
        return self._writer

    def logged(self, record: dict[str, float]) -> None:
        step = int(record["step"])
        for name in record.keys() - {"step", "seconds"}:
            self._at(step).add_scalar(name, record[name], step)

    def heard(self, step: int, audio: Tensor, sample_rate: int) -> None:
        """Audio `(T,)` that the model made at a step, and its spectrogram."""
        power = transforms.Spectrogram(n_fft=512, hop_length=128)(audio)
        decibels = transforms.AmplitudeToDB(top_db=80)(power).flip(0)
        image = (decibels - decibels.min()) / (decibels.max() - decibels.min()).clamp(min=1e-9)
        self._at(step).add_audio("sample", audio[None], step, sample_rate=sample_rate)
        self._at(step).add_image("spectrogram", image[None].to(torch.float32), step)

    def close(self) -> None:
        """Write what is not yet on disk."""
        if self._writer is not None:
            self._writer.close()
