"""Bits per sample of simple predictors, on the same classes, which a model must beat.

- uniform: log2(classes);
- unigram: the frequencies of the classes in the training clips, with one count added to each;
- linear prediction: an order-32 predictor fitted to the past of each block (backward-adaptive, as in G.728). Its error
  is modelled as logistic, with a scale that follows the recent errors.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchaudio import functional

from wavenet.data import Clip, read_clip, speaker_label
from wavenet.evaluation.likelihood import Score
from wavenet.network import Conditioning, PastPredictor, PredictionConfig, decode_mu_law, encode_mu_law, expand

_PREDICTION = PredictionConfig(source="past", order=32, block=40, window=480, noise_floor=1e-4)
_MEMORY = 32
"""The memory of the error's scale, in samples. The best of eight settings tried on 16 kHz speech."""


@dataclass(frozen=True)
class Baseline:
    """Bits per sample of each baseline; unigram is `None` without training clips to count in."""

    uniform: float
    unigram: float | None
    linear_prediction: float

    def known(self) -> dict[str, float]:
        """The baselines that are not `None`, by name."""
        return {name: bits for name, bits in vars(self).items() if bits is not None}


def score_baselines(
    clips: Sequence[Clip],
    classes: int,
    *,
    train: Sequence[Clip] = (),
    progress: Callable[[int], None] = lambda samples: None,
) -> Mapping[str | None, Baseline]:
    """Bits per sample for each speaker label (`None` for clips without one), each sample scored once.

    The unigram counts the classes of `train`.
    """
    code_lengths = -_unigram(train, classes).log2()
    sums: defaultdict[str | None, Tensor] = defaultdict(lambda: torch.zeros(3, dtype=torch.float64))
    for clip in clips:
        symbols = encode_mu_law(read_clip(clip), classes)
        samples, predicted = torch.tensor(float(len(symbols))), linear_prediction_bits(symbols, classes)
        sums[speaker_label(clip)] += torch.stack([samples, code_lengths[symbols].sum(), predicted.sum()])
        progress(clip.samples)
    return {
        speaker: Baseline(math.log2(classes), float(unigram / samples) if train else None, float(predicted / samples))
        for speaker, (samples, unigram, predicted) in sums.items()
    }


def score_rows(scores: Mapping[str | None, Score], references: Mapping[str | None, Baseline]) -> list[dict[str, Any]]:
    """A row for each speaker label: its score, and its baselines if there are `references`."""
    return [
        {"speaker": name, **vars(scores[name]), **(references[name].known() if references else {})}
        for name in sorted(scores, key=str)
    ]


def _unigram(clips: Sequence[Clip], classes: int) -> Tensor:
    """The probabilities of the classes in these clips: `(classes,)` float64."""
    counts = torch.ones(classes, dtype=torch.float64)
    for clip in clips:
        counts += torch.bincount(encode_mu_law(read_clip(clip), classes), minlength=classes)
    return counts / counts.sum()


def linear_prediction_bits(symbols: Tensor, classes: int) -> Tensor:
    """Code length in bits of each class given the ones before it: `(T,)` int64 -> `(T,)` float64."""
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
    flip = below > 0  # compute the far tail on the side where it is not a difference of two numbers near 1
    below, above = torch.where(flip, -above, below), torch.where(flip, -below, above)
    probability = torch.sigmoid(above) - torch.sigmoid(below)
    floor = 1e-6 / classes
    bits: Tensor = -(probability * (1 - 1e-6) + floor).log2()
    return bits
