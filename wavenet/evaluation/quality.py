"""How a copy sounds: scores against its original, against its text, and alone.

- against the original: wide-band PESQ (ITU-T P.862.2, 1 to 4.64), STOI (Taal et al. 2011, 0 to 1), and the log-mel
  distance in dB;
- alone: DNSMOS (Reddy et al. 2022) and PLCMOS (Diener et al. 2023), networks that predict what listeners would say on
  average, 1 to 5;
- against the clip's text: the share of its words that a recogniser gets wrong.

PESQ and STOI compare magnitudes, so they rank Griffin-Lim high; listeners, and the networks, rank it low.
"""

import contextlib
import importlib.util
import math
import re
import statistics
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torchaudio.functional import edit_distance

from wavenet.data import resample
from wavenet.network import LogMel

_SCORED_RATE = 16000
_SHORTEST = 0.4
"""In seconds. STOI correlates envelopes over segments of 384 ms."""


@dataclass(frozen=True)
class Opinion:
    """Predicted mean opinion scores: DNSMOS overall, of the speech, of the background, by P.808; and PLCMOS."""

    ovrl: float = math.nan
    sig: float = math.nan
    bak: float = math.nan
    p808: float = math.nan
    plcmos: float = math.nan


@dataclass(frozen=True)
class Fidelity:
    """Scores of a copy against its original; PESQ and STOI are NaN if there is too little speech."""

    pesq: float = math.nan
    stoi: float = math.nan
    log_mel_db: float = math.nan


@dataclass(frozen=True)
class Quality(Fidelity, Opinion):
    """All scores of a copy; NaN for too little speech, or if there is no text to compare with."""

    wer: float = math.nan


@dataclass(frozen=True)
class Interval:
    """A mean over clips and the half-width of its 95% confidence interval (Student's t); `None` if too few."""

    mean: float | None
    half_width: float | None
    clips: int


_PACKAGES = ("pesq", "pystoi", "scipy", "speechmos", "librosa", "onnxruntime", "requests")


def missing_packages() -> list[str]:
    """Those packages that measure speech, the `scores` extra, which are not installed."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


def check_installed() -> None:
    """Raise `ValueError` unless the packages that measure speech are installed."""
    if missing := missing_packages():
        raise ValueError(f"{missing[0]} is not installed; pip install 'wavenet-toolkit[scores]'")


def measure(
    original: Tensor,
    copy: Tensor,
    log_mel: LogMel,
    sample_rate: int,
    *,
    text: str | None = None,
    heard: str | None = None,
) -> Quality:
    """All scores of a copy, both `(T,)`; `heard` is what a recogniser hears in it, `text` what is said.

    Raises `ValueError` if the `scores` extra is not installed.
    """
    wrong = math.nan if text is None or heard is None else word_error_rate(text, heard)
    against, alone = compare(original, copy, log_mel, sample_rate), opinion(copy, sample_rate)
    return Quality(**vars(against), **vars(alone), wer=wrong)


def compare(original: Tensor, copy: Tensor, log_mel: LogMel, sample_rate: int) -> Fidelity:
    """Score a copy against its original, both `(T,)`. `ValueError` if the `scores` extra is not installed."""
    check_installed()
    from pesq import PesqError, pesq
    from pystoi import stoi

    reference, degraded = (resample(x, sample_rate, _SCORED_RATE).numpy() for x in (original, copy))
    try:
        quality = float(pesq(_SCORED_RATE, reference, degraded, "wb"))
    except (PesqError, ValueError):  # no speech in one of the two, or less than a quarter of a second
        quality = math.nan
    intelligibility = math.nan
    if len(reference) >= _SHORTEST * _SCORED_RATE:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            with contextlib.suppress(RuntimeWarning):  # too little speech
                intelligibility = float(stoi(reference, degraded, _SCORED_RATE))
    difference = (log_mel(original[None]) - log_mel(copy[None]))[0] * (log_mel.config.natural * 10 / math.log(10))
    distance = float(difference.square().mean(dim=0).sqrt().mean())
    return Fidelity(quality, intelligibility, distance)


def opinion(waveform: Tensor, sample_rate: int) -> Opinion:
    """Predict what listeners would say of a waveform `(T,)`, by the models of the package `speechmos`.

    Less than 0.4 seconds, or silence, has no scores. Both models hear 16 kHz. Raises `ValueError` if the `scores` extra
    is not installed.
    """
    check_installed()
    from speechmos import dnsmos, plcmos

    samples = resample(waveform, sample_rate, _SCORED_RATE).clamp(-1, 1).numpy()
    if len(samples) < _SHORTEST * _SCORED_RATE or not samples.any():
        return Opinion()
    with warnings.catch_warnings(), _numpy_seeded(0):  # PLCMOS draws imagined raters
        warnings.simplefilter("ignore", UserWarning)  # empty mel bands
        listeners = dnsmos.run(samples, _SCORED_RATE)
        concealment = plcmos.run(samples, _SCORED_RATE)
    scores = {name: float(listeners[f"{name}_mos"]) for name in ("ovrl", "sig", "bak", "p808")}
    return Opinion(**scores, plcmos=float(concealment["plcmos"]))


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, and put its state back afterwards."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def word_error_rate(text: str, heard: str) -> float:
    """Substituted, missing and additional words, relative to the words of `text`; case and punctuation do not count.

    NaN if `text` has no words.

    >>> word_error_rate("The seven seas.", "the seven cs are")
    0.6666666666666666
    """
    expected, found = (re.findall(r"[^\W_]+(?:'[^\W_]+)*", words.lower()) for words in (text, heard))
    return edit_distance(expected, found) / len(expected) if expected else math.nan


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95% confidence interval of the values that are not NaN."""
    from scipy import stats

    values = [value for value in values if not math.isnan(value)]
    if len(values) < 2:
        return Interval(values[0] if values else None, None, len(values))
    error = statistics.stdev(values) / math.sqrt(len(values))
    return Interval(statistics.fmean(values), float(stats.t.ppf(0.975, len(values) - 1)) * error, len(values))
