"""Writes a run's curves, audio and spectrograms for TensorBoard (the `plots` extra)."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchaudio import transforms

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardWriter:
    """Writes below `folder`. Raises `ValueError` if TensorBoard is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "tensorboard is set, and TensorBoard is not installed; pip install 'wavenet-toolkit[plots]'"
            ) from error
        self._open: Callable[[int], SummaryWriter] = lambda step: SummaryWriter(str(folder), purge_step=step)
        self._writer: SummaryWriter | None = None

    def _at(self, step: int) -> "SummaryWriter":
        """The writer, opened when it is first needed, so that a refused run leaves no folder.

        It hides what a killed run wrote for this step and later ones.
        """
        if self._writer is None:
            self._writer = self._open(step)
        return self._writer

    def logged(self, record: dict[str, float]) -> None:
        step = int(record["step"])
        for name in record.keys() - {"step", "seconds"}:
            self._at(step).add_scalar(name, record[name], step)

    def on_audio(self, step: int, audio: Tensor, sample_rate: int) -> None:
        """Write audio `(T,)` that the model generated at a step, and its spectrogram."""
        power = transforms.Spectrogram(n_fft=512, hop_length=128)(audio)
        decibels = transforms.AmplitudeToDB(top_db=80)(power).flip(0)
        image = (decibels - decibels.min()) / (decibels.max() - decibels.min()).clamp(min=1e-9)
        self._at(step).add_audio("sample", audio[None], step, sample_rate=sample_rate)
        self._at(step).add_image("spectrogram", image[None].to(torch.float32), step)

    def close(self) -> None:
        """Write the rest to disk."""
        if self._writer is not None:
            self._writer.close()
