"""What a model must beat: bits per sample of predictors that need no training, on the same classes.

- uniform: log2(classes);
- unigram: the frequencies of the training classes, with one count added to each;
- linear prediction: an order-32 predictor fitted to the past of each block (backward-adaptive, as in G.728), its
  error taken to be logistic with a scale that follows the recent errors.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio import functional

from wavenet.data import PreparedClip, PreparedDataset, from_int16
from wavenet.network import Conditioning, PastPredictor, PredictionConfig, decode_mu_law, encode_mu_law, expand

__all__ = ["Baseline", "baselines", "linear_prediction_bits"]

_PREDICTION = PredictionConfig(source="past", order=32, block=40, window=480, noise_floor=1e-4)
_MEMORY = 32
"""Samples over which the scale of the error forgets. These are the best of eight settings tried on 16 kHz speech."""


@dataclass(frozen=True)
class Baseline:
    """Bits per sample of each baseline; unigram is `None` where there is no training split to count in."""

    uniform: float
    unigram: float | None
    linear_prediction: float

    def known(self) -> dict[str, float]:
        """By name, without what is `None`."""
        return {name: bits for name, bits in vars(self).items() if bits is not None}


def baselines(
    dataset: PreparedDataset,
    clips: Sequence[PreparedClip],
    classes: int,
    progress: Callable[[int], None] = lambda samples: None,
) -> Mapping[str | None, Baseline]:
    """Bits per sample by speaker (`None` where the corpus names none), each sample scored once."""
    counted = any(clip.split == "train" for clip in dataset.clips)
    code_lengths = -_unigram(dataset, classes).log2() if counted else torch.zeros(classes, dtype=torch.float64)
    sums: defaultdict[str | None, Tensor] = defaultdict(lambda: torch.zeros(3, dtype=torch.float64))
    for clip in clips:
        symbols = encode_mu_law(from_int16(dataset.read(clip)), classes)
        predicted = linear_prediction_bits(symbols, classes).sum()
        sums[clip.speaker] += torch.stack([torch.tensor(float(len(symbols))), code_lengths[symbols].sum(), predicted])
        progress(clip.samples)
    return {
        speaker: Baseline(math.log2(classes), float(unigram / samples) if counted else None, float(predicted / samples))
        for speaker, (samples, unigram, predicted) in sums.items()
    }


def _unigram(dataset: PreparedDataset, classes: int) -> Tensor:
    """Class probabilities `(classes,)`, float64, of the training split."""
    counts = torch.ones(classes, dtype=torch.float64)
    for clip in dataset.split("train"):
        counts += torch.bincount(encode_mu_law(from_int16(dataset.read(clip)), classes), minlength=classes)
    return counts / counts.sum()


def linear_prediction_bits(symbols: Tensor, classes: int) -> Tensor:
    """Code length of each class given the ones before it, in bits: `(T,)` int64 -> `(T,)` float64."""
    signal = decode_mu_law(symbols, classes).double()
    predictor = PastPredictor(_PREDICTION)
    past = signal.new_zeros(predictor.context)
    predictions = predictor(torch.cat([past, signal])[None], 0, Conditioning()).mean[0, :-1]
    errors = (signal - predictions).abs()
    delayed = torch.cat([errors.new_zeros(1), errors[:-1]])
    forget = 1 / _MEMORY
    mean = functional.lfilter(
        delayed, torch.tensor([1.0, forget - 1]).double(), torch.tensor([forget, 0.0]).double(), clamp=False
    )
    step = 2 / classes * (predictions.abs() + 1 / classes)
    scale = (mean + step / 2) / math.log(4)  # E|x| of a logistic is scale * ln 4
    boundaries = expand((torch.arange(classes + 1).double() - 0.5) / (classes - 1) * 2 - 1, classes)
    boundaries[0], boundaries[-1] = -torch.inf, torch.inf
    below = (boundaries[symbols] - predictions) / scale
    above = (boundaries[symbols + 1] - predictions) / scale
    flip = below > 0  # the far tail is computed on the side where it is not 1 - 1
    below, above = torch.where(flip, -above, below), torch.where(flip, -below, above)
    probability = torch.sigmoid(above) - torch.sigmoid(below)
    floor = 1e-6 / classes
    bits: Tensor = -(probability * (1 - 1e-6) + floor).log2()
    return bits
