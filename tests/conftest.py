"""Small models and sounds that the tests share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavenet import WaveNet, WaveNetConfig
from wavenet.corpus import find_clips
from wavenet.dataset import PreparedDataset
from wavenet.prepare import PrepareConfig, prepare_dataset


def small_config(**changes: object) -> WaveNetConfig:
    """Odd sizes, so that nothing fits by luck."""
    sizes = {"residual_channels": 6, "gate_channels": 10, "skip_channels": 7, "head_channels": 9}
    return WaveNetConfig(**{"dilations": (1, 2, 4), **sizes, **changes})


def small_model(seed: int = 0, **changes: object) -> WaveNet:
    """A float64 model with all weights at random and opinions of its own: a fresh one is close to uniform."""
    torch.manual_seed(seed)
    model = WaveNet(small_config(**changes)).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model.eval()


def tone(seconds: float = 0.5, rate: int = 16000, hertz: float = 220.0, seed: int = 0) -> np.ndarray:
    """A decaying harmonic tone with a little noise, float32 in [-1, 1]."""
    t = np.arange(int(seconds * rate)) / rate
    harmonics = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in (1, 2, 3))
    noise = np.random.default_rng(seed).normal(size=len(t)) * 0.01
    return (0.3 * harmonics * np.exp(-t) + noise).astype(np.float32)


@pytest.fixture
def speech_folder(tmp_path: Path) -> Path:
    """Twelve clips of two speakers, in folders by speaker."""
    for speaker in ("ann", "bob"):
        for index in range(6):
            path = tmp_path / "speech" / speaker / f"{speaker}{index}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(0.3, hertz=150 + 40 * index, seed=index), 16000)
    return tmp_path / "speech"


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., PreparedDataset]:
    """Prepare a folder into a dataset and open it."""

    def run(source: Path, name: str = "dataset", **settings: object) -> PreparedDataset:
        clips = find_clips(source, "folder", held_out=0.3, speakers=True)
        prepare_dataset(clips, tmp_path / name, PrepareConfig(**settings))
        return PreparedDataset(tmp_path / name)

    return run
