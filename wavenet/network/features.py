"""Log-mel features, and what a log-mel frame says about the power spectrum.

`alignment.py` says where frames lie; samples beyond a clip's ends are zeros. `torchaudio.transforms.MelSpectrogram`
gives the same frames with its defaults (its padding differs at the ends).
"""

import math
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torchaudio import functional

from wavenet.network.quantize import check_waveform
from wavenet.network.settings import STRICT, check_whole


@dataclass(frozen=True, kw_only=True)
class LogMelConfig:
    """Natural log of the mel power spectrum (HTK scale, unnormalised triangles, Hann window), no less than log `floor`.

    `hop` and `window` are in samples, `low_hertz` and `high_hertz` bound the bands; no `high_hertz` means half the
    sample rate.
    """

    __pydantic_config__ = STRICT

    bins: int = 80
    hop: int = 200
    window: int = 1024
    low_hertz: float = 0.0
    high_hertz: float | None = None
    floor: float = 1e-6

    def __post_init__(self) -> None:
        check_whole(self, bins=(1, 1024), hop=(1, 65536), window=(4, 65536))
        if self.window % 2:
            raise ValueError(f"window is {self.window}; expected an even number of samples")
        if self.window < self.hop:
            raise ValueError(f"window is {self.window} samples, hop {self.hop}; expected a window as long, or longer")
        if not 1e-30 <= self.floor < 1:
            raise ValueError(f"floor is {self.floor}; expected a power from 1e-30 to below 1")
        high = self.low_hertz + 1 if self.high_hertz is None else self.high_hertz
        if not 0 <= self.low_hertz < high < math.inf:
            raise ValueError(f"low_hertz is {self.low_hertz}, high_hertz {self.high_hertz}; expected 0 <= low < high")

    @property
    def fft(self) -> int:
        """Points of the Fourier transform: the window, up to a power of two."""
        return 1 << (self.window - 1).bit_length()

    @property
    def silence(self) -> float:
        """The value of every bin in digital silence."""
        return math.log(self.floor)


def mel_bands(config: LogMelConfig, sample_rate: int) -> Tensor:
    """The triangles, `(fft / 2 + 1, bins)`. Bands narrower than the transform resolves may be empty."""
    high = config.high_hertz or sample_rate / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about empty bands
        bands: Tensor = functional.melscale_fbanks(
            config.fft // 2 + 1, config.low_hertz, high, config.bins, sample_rate
        )
    if not bool(bands.any()):
        raise ValueError(
            f"no point of a transform of {config.fft} samples falls into the mel bands from {config.low_hertz} to "
            f"{high} Hz; widen them, or lengthen the window"
        )
    return bands


class LogMel(nn.Module):
    """Waveforms to log-mel features: `(B, T)` -> `(B, bins, T // hop + 1)`.

    >>> LogMel(LogMelConfig(bins=80, hop=200), sample_rate=16000)(torch.zeros(1, 16000)).shape
    torch.Size([1, 80, 81])
    """

    bands: Tensor
    window: Tensor

    def __init__(self, config: LogMelConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.window), persistent=False)
        self.register_buffer("bands", mel_bands(config, sample_rate).T, persistent=False)

    def extra_repr(self) -> str:
        return f"{self.config.bins} bins, hop={self.config.hop}, window={self.config.window}"

    def _checked(self, waveform: Tensor) -> Tensor:
        """The waveform in the precision of the window; `ValueError` if it is no floating-point tensor."""
        if not isinstance(waveform, Tensor) or not waveform.is_floating_point():
            check_waveform(waveform)
        return waveform.to(self.window.dtype)

    def forward(self, waveform: Tensor) -> Tensor:
        half_window, waveform = self.config.fft // 2, self._checked(waveform)
        return self.inside(nn.functional.pad(waveform, (half_window, half_window)))

    def inside(self, waveform: Tensor) -> Tensor:
        """Only frames whose whole transform lies in the waveform; the first is centred on sample fft / 2."""
        config, waveform = self.config, self._checked(waveform)
        spectrum = functional.spectrogram(
            waveform, 0, self.window, config.fft, config.hop, config.window, 2.0, normalized=False, center=False
        )
        return torch.log((self.bands @ spectrum).clamp(min=config.floor))

    def around(self, waveform: Tensor, margin: int, times: Tensor, samples: Tensor) -> tuple[Tensor, int]:
        """The frames of windows of clips, and the index of the first, counted from the sample after `margin`.

        Shape: `(B, margin + T + margin)` -> `(B, bins, F)`. The sample after `margin` is sample `times` `(B,)` of a
        clip of `samples` `(B,)`; `margin` and `times` are multiples of the hop. Frames beyond the clip are silence.
        """
        skipped, first = self._first_whole(margin)
        features = self.inside(waveform[:, skipped:])
        own = self.own_frames(range(first, first + features.shape[2]), times, samples)
        return features.where(own[:, None], self.config.silence), first

    def own_frames(self, frames: range, times: Tensor, samples: Tensor) -> Tensor:
        """Which of the `frames` that `around` gives lie within their clips: `(B, F)`."""
        hop = self.config.hop
        index = torch.arange(frames.start, frames.stop, device=times.device) + (times // hop)[:, None]
        return (index >= 0) & (index <= (samples // hop)[:, None])

    def frames_around(self, length: int, margin: int) -> range:
        """The indices of the frames that `around` gives for waveforms of `length` samples."""
        skipped, first = self._first_whole(margin)
        return range(first, first + (length - skipped - self.config.fft) // self.config.hop + 1)

    def _first_whole(self, margin: int) -> tuple[int, int]:
        """The first frame whose transform lies in a waveform: what to skip before it, and its index after `margin`."""
        half_window, hop = self.config.fft // 2, self.config.hop
        skipped = -half_window % hop
        return skipped, (skipped + half_window - margin) // hop


SPREAD = 4.0
"""Log-mel features of speech have a mean near -4 and a spread near 4; `features / SPREAD + 1` normalises them."""

_QUIETEST, _LOUDEST = -70.0, 25.0
"""No log power of a waveform in [-1, 1] comes near the upper bound and no usual floor below the lower; decibels may."""


def log_mel_refusal(features: Tensor) -> str | None:
    """Why these values cannot be log-mel features; `None` if they can."""
    if not features.is_floating_point():
        return f"values of {features.dtype}; expected floating-point numbers"
    if not bool(features.isfinite().all()):
        return "values that are not finite (NaN or infinity)"
    for value, wild in ((features.min(), features.min() < _QUIETEST), (features.max(), features.max() > _LOUDEST)):
        if wild:
            return f"a value of {float(value):.4g}; expected natural logs of mel power, about -14 to 12"
    return None


def read_features(path: Path, config: LogMelConfig, sample_rate: int) -> Tensor:
    """Features made elsewhere, `(bins, frames)`: a `.npy` file, or a safetensors file with one tensor.

    A safetensors file may state `hop` and `sample_rate` in its metadata; they must be the model's. Values below the
    floor are raised to it. Raises `ValueError` if something does not fit.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such feature file")
    if not path.is_file():
        raise ValueError(f"{path} is a folder or device; expected a feature file (.npy or .safetensors)")
    try:
        features, said = _read_npy(path) if path.suffix == ".npy" else _read_safetensors(path)
    except (SafetensorError, ValueError, EOFError, OSError, SyntaxError, MemoryError, tokenize.TokenError) as error:
        raise ValueError(f"{path} is not a feature file ({error}); expected .npy or .safetensors") from error
    for key, expected in (("hop", config.hop), ("sample_rate", sample_rate)):
        if key in said and said[key] != str(expected):
            raise ValueError(f"{path}: its {key} is {said[key]}; the model's is {expected}")
    if features.dim() != 2 or features.shape[0] != config.bins or features.shape[1] == 0:
        hint = "; transpose it" if features.dim() == 2 and features.shape[1] == config.bins else ""
        raise ValueError(f"{path}: its shape is {tuple(features.shape)}; the model needs ({config.bins}, frames){hint}")
    wrong = log_mel_refusal(features)
    if wrong is not None:
        raise ValueError(f"{path}: it has {wrong}")
    return features.clamp(min=config.silence)


def _read_npy(path: Path) -> tuple[Tensor, dict[str, str]]:
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError("it does not begin as an array of NumPy does")
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.floating):
        found = array.dtype if isinstance(array, np.ndarray) else "an archive"
        raise ValueError(f"it holds {found}, not an array of floating-point numbers")
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)), {}


def _read_safetensors(path: Path) -> tuple[Tensor, dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        if len(names) != 1:
            raise ValueError(f"it holds {len(names)} tensors, expected one")
        features = file.get_tensor(names[0])
        if not features.is_floating_point():
            raise ValueError(f"it holds {features.dtype}, not floating-point numbers")
        return features.to(torch.float32), file.metadata() or {}
