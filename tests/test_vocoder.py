"""Copy-synthesis: the references are what they should be, and the scores rank what anyone would rank so."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import small_config, tone
from wavenet import SamplingOptions, WaveNet, generate
from wavenet.data import PreparedDataset, read_audio
from wavenet.evaluation import (
    Opinion,
    compare,
    copy_clips,
    griffin_lim,
    interval,
    measure,
    opinion,
    word_error_rate,
)
from wavenet.network import ConditioningConfig, LogMel, LogMelConfig, decode_mu_law, encode_mu_law

SPEECH = Path(__file__).parent.parent / "samples" / "speech" / "en" / "demo-thanks.flac"


@pytest.fixture
def speech() -> torch.Tensor:
    waveform, rate = read_audio(SPEECH)
    assert rate == 16000
    return waveform[:24000]


def test_griffin_lim_has_the_features_it_was_given(speech: torch.Tensor) -> None:
    log_mel = LogMel(LogMelConfig(), 16000)
    features = log_mel(speech[None])[0]
    copy = griffin_lim(features, log_mel.config, 16000, len(speech))
    assert copy.shape == speech.shape
    loud = features > -4
    assert (log_mel(copy[None])[0] - features)[loud].abs().mean() < 0.8, "within three decibels and a half"


def test_scores_rank_mu_law_over_griffin_lim_over_noise(speech: torch.Tensor) -> None:
    log_mel = LogMel(LogMelConfig(), 16000)
    copies = [
        decode_mu_law(encode_mu_law(speech)),
        griffin_lim(log_mel(speech[None])[0], log_mel.config, 16000, len(speech)),
        torch.randn(len(speech), generator=torch.Generator().manual_seed(0)) * speech.std(),
    ]
    scores = [compare(speech, copy, log_mel, 16000) for copy in copies]
    assert scores[0].pesq > scores[1].pesq > scores[2].pesq
    assert scores[0].stoi > scores[1].stoi > scores[2].stoi
    assert scores[0].log_mel_db < scores[1].log_mel_db < scores[2].log_mel_db
    perfect = compare(speech, speech, log_mel, 16000)
    assert perfect.pesq > 4.6
    assert perfect.stoi == pytest.approx(1, abs=1e-4)
    assert perfect.log_mel_db == 0


def test_copies_do_not_depend_on_the_batch(speech_folder: Path, prepare: Callable[..., PreparedDataset]) -> None:
    dataset = prepare(speech_folder)
    torch.manual_seed(0)
    features = LogMelConfig(bins=20, hop=100, window=256)
    model = WaveNet(small_config(features=features, conditioning=ConditioningConfig(channels=3, scales=(10, 10))))
    clips = dataset.split("test")[:3]
    assert model.log_mel is not None
    for batch in (1, 3):
        made = {c.clip.name: c for c in copy_clips(model, clips, SamplingOptions(), batch=batch, seed=4)}
        assert list(made) == [clip.name for clip in sorted(clips, key=lambda clip: clip.samples)]
        for index, clip in enumerate(clips):
            original = clip.read()
            alone = generate(model, len(original), features=model.log_mel(original[None])[0], seed=4 + index)
            assert torch.equal(made[clip.name].audio["model"], alone[0])
            assert torch.equal(made[clip.name].audio["original"], original)


def test_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0, 4.0, float("nan")])
    assert (found.mean, found.clips) == (2.5, 4)
    assert found.half_width == pytest.approx(3.182 * 1.29099 / 2, rel=1e-3)


@pytest.mark.parametrize("samples", [1, 200, 600, 3999])
def test_what_is_too_short_for_pesq_and_stoi_has_none(samples: int) -> None:
    log_mel = LogMel(LogMelConfig(), 16000)
    clip = torch.from_numpy(tone(0.5))[:samples]
    copy = griffin_lim(log_mel(clip[None])[0], log_mel.config, 16000, samples)
    assert copy.shape == clip.shape
    quality = compare(clip, copy, log_mel, 16000)
    assert math.isnan(quality.pesq)
    assert math.isnan(quality.stoi)
    assert math.isfinite(quality.log_mel_db)


def test_listeners_would_rank_speech_over_griffin_lim_over_noise(speech: torch.Tensor) -> None:
    log_mel = LogMel(LogMelConfig(), 16000)
    clips = [
        speech,
        griffin_lim(log_mel(speech[None])[0], log_mel.config, 16000, len(speech)),
        torch.randn(len(speech), generator=torch.Generator().manual_seed(0)) * speech.std(),
    ]
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    scores = [opinion(clip, 16000) for clip in clips]
    assert scores[0].ovrl > scores[1].ovrl > scores[2].ovrl
    assert scores[0].plcmos > scores[1].plcmos
    assert opinion(speech, 16000) == scores[0], "the imagined raters are the same each time"
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    assert measure(speech, clips[1], log_mel, 16000).ovrl == scores[1].ovrl


@pytest.mark.parametrize(
    "waveform", [torch.zeros(16000), torch.ones(100) / 2, torch.zeros(0)], ids=["silent", "short", "empty"]
)
def test_nobody_has_an_opinion_of_nothing(waveform: torch.Tensor) -> None:
    assert all(math.isnan(score) for score in vars(opinion(waveform, 16000)).values())
    assert all(math.isnan(score) for score in vars(Opinion()).values())


@pytest.mark.parametrize(
    ("text", "heard", "share"),
    [
        ("Seven, eight; nine!", "seven EIGHT nine", 0.0),
        ("one two three four", "one three four", 0.25),
        ("one two", "one or two", 0.5),
        ("don't", "dont", 1.0),
        ("one", "", 1.0),
        ("one", "two three four", 3.0),
    ],
)
def test_word_errors_are_counted_as_everybody_counts_them(text: str, heard: str, share: float) -> None:
    assert word_error_rate(text, heard) == share


def test_no_words_have_no_error_rate() -> None:
    assert math.isnan(word_error_rate(" ... ", "something"))
