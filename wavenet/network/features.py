"""Log-mel features, and what a log-mel frame says about the power spectrum.

`alignment.py` says where frames lie; samples beyond a clip's ends are zeros. `torchaudio.transforms.MelSpectrogram`
gives the same frames with its defaults (its padding differs at the ends).
"""

import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchaudio import functional

from wavenet.network.array_files import read_array
from wavenet.network.quantize import check_waveform
from wavenet.network.settings import STRICT, check_whole


@dataclass(frozen=True, kw_only=True)
class LogMelConfig:
    """Natural log of the mel power spectrum (HTK scale, unnormalised triangles, Hann window), no less than log `floor`.

    `hop` and `window` are in samples, `low_hertz` and `high_hertz` bound the bands; no `high_hertz` means half the
    sample rate.

    The rest are the conventions of other systems: a `spectrum` of magnitudes, another `logarithm`, the mel `scale` of
    Slaney's toolbox, triangles of equal area (`area_norm`), and frames that are not `centred` on the first sample of
    their hop, but on its middle. `floor` is a power, or a magnitude. docs/python.md says which are whose.
    """

    __pydantic_config__ = STRICT

    bins: int = 80
    hop: int = 200
    window: int = 1024
    low_hertz: float = 0.0
    high_hertz: float | None = None
    floor: float = 1e-6
    spectrum: Literal["power", "magnitude"] = "power"
    logarithm: Literal["natural", "log10", "decibels"] = "natural"
    scale: Literal["htk", "slaney"] = "htk"
    area_norm: bool = False
    centred: bool = True

    def __post_init__(self) -> None:
        check_whole(self, bins=(1, 1024), hop=(1, 65536), window=(4, 65536))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(map(str, choices))}")
        if not self.centred and self.hop % 2:
            raise ValueError(f"hop is {self.hop}; expected an even number of samples if frames are not centred")
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
    def norm(self) -> str | None:
        """The normalisation of the triangles, as torchaudio names it."""
        return "slaney" if self.area_norm else None

    @property
    def lead(self) -> int:
        """Samples of the transform before the sample f * hop of frame f."""
        return self.fft // 2 if self.centred else (self.fft - self.hop) // 2

    @property
    def half_window(self) -> int:
        """The most samples of the transform on either side of the sample f * hop of frame f."""
        return self.fft - self.lead

    @property
    def natural(self) -> float:
        """What features are multiplied with to be natural logs of power."""
        if self.logarithm == "decibels":
            return math.log(10) / 10
        return (2.0 if self.spectrum == "magnitude" else 1.0) * (math.log(10) if self.logarithm == "log10" else 1.0)

    @property
    def spread(self) -> float:
        """The spread of speech, whose mean is near `-spread`: `features / spread + 1` normalises features."""
        return 4.0 / self.natural

    @property
    def kind(self) -> str:
        """Which values the features have, in words."""
        logs = {"natural": "natural logs", "log10": "log10", "decibels": "decibels"}[self.logarithm]
        return f"{logs} of mel {self.spectrum}"

    def log(self, values: Tensor) -> Tensor:
        """The features of mel powers, or magnitudes."""
        logs = torch.log(values.clamp(min=self.floor))
        factor = (2.0 if self.spectrum == "magnitude" else 1.0) / self.natural
        return logs if factor == 1 else logs * factor

    @property
    def silence(self) -> float:
        """The value of every bin in digital silence."""
        return math.log(self.floor) * ((2.0 if self.spectrum == "magnitude" else 1.0) / self.natural)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; conventions that are the default are left out, as they are in files of earlier versions."""
        return {
            name: value for name, value in asdict(self).items() if name not in _CHOICES or value != _CHOICES[name][0]
        }


_CHOICES: dict[str, tuple[object, ...]] = {
    "spectrum": ("power", "magnitude"),
    "logarithm": ("natural", "log10", "decibels"),
    "scale": ("htk", "slaney"),
    "area_norm": (False, True),
    "centred": (True, False),
}
"""The defaults come first."""


def mel_bands(config: LogMelConfig, sample_rate: int) -> Tensor:
    """The triangles, `(fft / 2 + 1, bins)`. Bands narrower than the transform resolves may be empty."""
    high = config.high_hertz or sample_rate / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about empty bands
        bands: Tensor = functional.melscale_fbanks(
            config.fft // 2 + 1, config.low_hertz, high, config.bins, sample_rate, config.norm, config.scale
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
        lead, waveform = self.config.lead, self._checked(waveform)
        return self.inside(nn.functional.pad(waveform, (lead, self.config.fft - lead)))

    def inside(self, waveform: Tensor) -> Tensor:
        """Only frames whose whole transform lies in the waveform; the first belongs to sample `lead`."""
        config, waveform = self.config, self._checked(waveform)
        spectrum = functional.spectrogram(
            waveform, 0, self.window, config.fft, config.hop, config.window, 2.0, normalized=False, center=False
        )
        return config.log(self.bands @ (spectrum.sqrt() if config.spectrum == "magnitude" else spectrum))

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
        lead, hop = self.config.lead, self.config.hop
        skipped = -lead % hop
        return skipped, (skipped + lead - margin) // hop


_QUIETEST, _LOUDEST = -70.0, 25.0
"""No log power of a waveform in [-1, 1] comes near the upper bound and no usual floor below the lower; decibels may."""


_MOST_DECIBELS = 200.0


def log_mel_refusal(features: Tensor, config: LogMelConfig) -> str | None:
    """Why these values cannot be log-mel features; `None` if they can."""
    if not features.is_floating_point():
        return f"values of {features.dtype}; expected floating-point numbers"
    if features.is_meta or features.layout != torch.strided:
        return "no values (they are sparse, or on the meta device); expected a dense tensor"
    if not bool(features.isfinite().all()):
        return "values that are not finite (NaN or infinity)"
    for value in features.detach().aminmax():
        if not _QUIETEST <= value * config.natural <= _LOUDEST:
            low, high = (bound / config.natural for bound in (-14, 12))
            hint = ""
            if config.logarithm != "decibels" and bool((features.abs() <= _MOST_DECIBELS).all()):
                factor = math.log(10) / 10 / config.natural
                hint = f"; if these are decibels of power, multiply them by {factor:.4g}, after adding their reference"
            return f"a value of {value:.4g}; expected {config.kind}, about {low:.0f} to {high:.0f}{hint}"
    return None


def read_features(path: Path, config: LogMelConfig, sample_rate: int) -> Tensor:
    """Features made elsewhere, `(bins, frames)` or `(1, bins, frames)`, from a file with one array (see `read_array`).

    A safetensors file may state `hop` and `sample_rate` in its metadata; they must be the model's. Values below the
    floor are raised to it. Raises `ValueError` if something does not fit.
    """
    features, said = read_array(path, "feature")
    for key, expected in (("hop", config.hop), ("sample_rate", sample_rate)):
        if key in said and said[key] != str(expected):
            raise ValueError(f"{path}: its {key} is {said[key]}; the model's is {expected}")
    if features.dim() != 2 or features.shape[0] != config.bins or features.shape[1] == 0:
        hint = "; transpose it" if features.dim() == 2 and features.shape[1] == config.bins else ""
        raise ValueError(f"{path}: its shape is {tuple(features.shape)}; the model needs ({config.bins}, frames){hint}")
    wrong = log_mel_refusal(features, config)
    if wrong is not None:
        raise ValueError(f"{path}: it has {wrong}")
    return features.clamp(min=config.silence)
