"""Small models and sounds that the tests share."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.browser import started_browser
from wavenet import Categorical, WaveNet, WaveNetConfig
from wavenet.cli import main
from wavenet.data import PrepareConfig, PreparedDataset, find_clips, prepare_dataset
from wavenet.engines.native import native_module
from wavenet.network import (
    Conditioning,
    ConditioningConfig,
    GaussianMixture,
    LogisticMixture,
    LogMelConfig,
    PredictionConfig,
)


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


KINDS = [
    (distribution, speakers, features, prediction, upsampler)
    for distribution in (Categorical(), LogisticMixture(), GaussianMixture(components=2, levels=4096))
    for speakers in (False, True)
    for features in (False, True)
    for prediction in (None, "past", *(("features",) if features else ()))
    for upsampler in ("transposed", *(("interpolation", "frames") if features else ()))
]
"""Every kind of model there is: each distribution, with and without speakers, features and linear prediction.

The biases are of samples, or of `frames` and upsampled by a learned kernel.
"""

CONDITIONINGS = {
    "transposed": {"upsampler": "transposed", "scales": (3, 4)},
    "interpolation": {"upsampler": "interpolation", "scales": (3, 4)},
    "frames": {"projection": "frames", "upsampler": "transposed"},
    "linear": {"projection": "frames", "upsampler": "linear"},
}
"""Each kind of upsampler, for a hop of 12."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, so that at the end no process waits for another."""
    long = ("test_survival.py", "test_pages.py", "test_export.py", "test_triton.py")
    items.sort(key=lambda item: item.path.name not in long)


def _has_native() -> bool:
    try:
        native_module()
    except ImportError:
        return False
    return True


needs_native = pytest.mark.skipif(not _has_native(), reason="the native engine is not built, or WAVENET_NATIVE=0")


def kind_name(kind: tuple[object, ...]) -> str:
    distribution, speakers, features, prediction, upsampler = kind
    parts = [distribution.kind, speakers and "speakers", features and upsampler, prediction and f"lp-{prediction}"]
    return "-".join(part for part in parts if part)


def model_of_kind(kind: tuple[object, ...], **changes: object) -> WaveNet:
    """A float64 model of one of `KINDS`, all weights at random: hop 12, blocks of 4 in it, or of 7 across it."""
    distribution, speakers, features, prediction, upsampler = kind
    blocks = {"past": {"order": 4, "block": 7, "window": 20}, "features": {"order": 9, "block": 4}}
    model = small_model(
        distribution=distribution,
        speakers=("ann", "bob", "eve") if speakers else (),
        speaker_channels=2 if speakers else None,
        features=LogMelConfig(bins=5, hop=12, window=64) if features else None,
        conditioning=ConditioningConfig(channels=3, context_channels=4, context_frames=1, **CONDITIONINGS[upsampler])
        if features
        else ConditioningConfig(),
        prediction=PredictionConfig(source=prediction, **blocks[prediction]) if prediction else None,
        **changes,
    )
    if not isinstance(distribution, Categorical):
        torch.nn.init.normal_(model.output.weight, std=0.3)  # wider, and every sample would be clipped
    return model


def conditioning_of(model: WaveNet, batch: int = 2) -> Conditioning:
    """Speakers and features for a batch, the rows' features of different lengths."""
    generator = torch.Generator().manual_seed(8)
    frames = [torch.randn(5, 8 - row, generator=generator) - 3 for row in range(batch)]
    return model.condition(
        batch,
        speaker=["eve", "ann", "bob"][:batch] if model.config.speakers else None,
        features=frames if model.config.features else None,
    )


def tone(seconds: float = 0.5, rate: int = 16000, hertz: float = 220.0, seed: int = 0) -> np.ndarray:
    """A decaying harmonic tone with a little noise, float32 in [-1, 1]."""
    t = np.arange(int(seconds * rate)) / rate
    harmonics = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in (1, 2, 3))
    noise = np.random.default_rng(seed).normal(size=len(t)) * 0.01
    return (0.3 * harmonics * np.exp(-t) + noise).astype(np.float32)


browser = pytest.fixture(scope="module")(started_browser)


def write_speech(folder: Path) -> Path:
    """Twelve clips of two speakers, in folders by speaker."""
    for speaker in ("ann", "bob"):
        for index in range(6):
            path = folder / "speech" / speaker / f"{speaker}{index}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(0.3, hertz=150 + 40 * index, seed=index), 16000)
    return folder / "speech"


@pytest.fixture
def speech_folder(tmp_path: Path) -> Path:
    return write_speech(tmp_path)


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., PreparedDataset]:
    """Prepare a folder into a dataset and open it."""

    def run(source: Path, name: str = "dataset", **settings: object) -> PreparedDataset:
        clips = find_clips(source, "folder", held_out=0.3, speakers=True)
        prepare_dataset(clips, tmp_path / name, PrepareConfig(**settings))
        return PreparedDataset(tmp_path / name)

    return run


class Result:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    def fails_with(self, *parts: str) -> None:
        assert self.status == 2, self.err or self.out
        error = self.err.strip().splitlines()[-1]
        assert error.startswith("wavenet: error: "), self.err
        assert sum(line.startswith("wavenet: error") for line in self.err.splitlines()) == 1
        assert "Traceback" not in self.err
        for part in parts:
            assert part in error


def command(*arguments: object) -> int:
    """Run the command in this process; its exit status."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["wavenet", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return 0


@pytest.fixture
def wavenet(capsys: pytest.CaptureFixture[str]):
    """Run the command in this process, and keep what it prints."""

    def run(*arguments: object) -> Result:
        status = command(*arguments)
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run
