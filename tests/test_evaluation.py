import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import KINDS, conditioning_of, kind_name, model_of_kind, small_config, small_model
from wavenet import WaveNet
from wavenet.data import PreparedDataset, pick_clips_lasting
from wavenet.evaluation import Score, evaluate, linear_prediction_bits, score_baselines, score_symbols
from wavenet.network import encode_mu_law

Prepare = Callable[..., PreparedDataset]


@pytest.mark.parametrize("kernel_size", [2, 3])
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunked_scoring_equals_whole_scoring(chunk: int, kernel_size: int) -> None:
    model = small_model(kernel_size=kernel_size)
    symbols = torch.randint(256, (2, 100), generator=torch.Generator().manual_seed(0))
    whole, pieces = score_symbols(model, symbols, chunk=100), score_symbols(model, symbols, chunk=chunk)
    torch.testing.assert_close(pieces.log_probs, whole.log_probs)
    torch.testing.assert_close(pieces.class_log_probs, whole.class_log_probs)
    assert torch.equal(pieces.right, whole.right)


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_chunked_scoring_equals_the_whole_forward_for_every_kind_of_model(kind: tuple[object, ...]) -> None:
    model = model_of_kind(kind)
    conditioning = conditioning_of(model)
    symbols = model.encode(torch.rand(2, 70, generator=torch.Generator().manual_seed(0)) - 0.5)
    lead = (model.context // model.alignment.grid + 12) * model.alignment.grid  # as far back as anything reaches
    silence = torch.full((2, lead), model.distribution.silence)
    parameters = model(torch.cat([silence, symbols], dim=1)[:, :-1], conditioning, start=-lead)[:, :, -70:]
    expected = model.distribution.log_prob(parameters, symbols)
    for chunk in (1, 9, 70):
        torch.testing.assert_close(score_symbols(model, symbols, conditioning, chunk=chunk).log_probs, expected)


def test_scoring_is_the_plain_forward_pass_after_silence() -> None:
    model = small_model()
    symbols = torch.randint(256, (1, 50), generator=torch.Generator().manual_seed(0))
    silence = torch.full((1, model.config.receptive_field), model.distribution.silence)
    parameters = model(torch.cat([silence, symbols], dim=1)[:, :-1])
    expected = torch.log_softmax(parameters, dim=1).gather(1, symbols[:, None]).squeeze(1)
    torch.testing.assert_close(score_symbols(model, symbols).log_probs, expected)


def test_every_sample_is_scored_once_and_speakers_add_up(speech_folder: Path, prepare: Prepare) -> None:
    dataset = prepare(speech_folder)
    model = WaveNet(small_config())
    scores = evaluate(model, dataset.clips)
    assert set(scores) == {"ann", "bob"}
    assert sum(score.samples for score in scores.values()) == sum(clip.samples for clip in dataset.clips)
    bits = [
        -float(score_symbols(model, encode_mu_law(clip.read())[None]).log_probs.sum()) / math.log(2)
        for clip in dataset.clips
    ]
    samples = sum(clip.samples for clip in dataset.clips)
    assert Score.pooled(scores.values()).bits == pytest.approx(sum(bits) / samples, rel=1e-5)


def test_another_sample_rate_is_refused(speech_folder: Path, prepare: Prepare) -> None:
    with pytest.raises(ValueError, match="has 8000 Hz, the model 16000 Hz"):
        evaluate(WaveNet(small_config()), prepare(speech_folder, sample_rate=8000).clips)


def test_linear_prediction_is_a_code() -> None:
    """For one past, the probabilities of all classes of the next sample sum to one."""
    past = encode_mu_law(0.3 * torch.sin(torch.arange(300) * 0.1), 256)
    bits = [float(linear_prediction_bits(torch.cat([past, torch.tensor([c])]), 256)[-1]) for c in range(256)]
    assert sum(2.0**-b for b in bits) == pytest.approx(1, abs=1e-9)


def test_linear_prediction_is_causal() -> None:
    symbols = torch.randint(256, (400,), generator=torch.Generator().manual_seed(0))
    changed = symbols.clone()
    changed[250:] = 128
    torch.testing.assert_close(linear_prediction_bits(symbols, 256)[:250], linear_prediction_bits(changed, 256)[:250])


def test_baselines_rank_as_they_must_on_a_tone(speech_folder: Path, prepare: Prepare) -> None:
    dataset = prepare(speech_folder)
    for baseline in score_baselines(dataset.split("test"), 256, train=dataset.split("train")).values():
        assert baseline.uniform == 8
        assert baseline.linear_prediction < baseline.unigram < 8
    assert score_baselines(dataset.split("test"), 256)["ann"].unigram is None, "nothing to count in"


def test_picked_clips_last_about_as_long_as_asked_for(speech_folder: Path, prepare: Prepare) -> None:
    clips = prepare(speech_folder).clips
    assert len(pick_clips_lasting(clips, 1)) == 1
    assert len(pick_clips_lasting(clips, clips[0].samples * 4)) in (3, 4, 5)
    assert pick_clips_lasting(clips, 10**9) == clips


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        (torch.tensor([[0, 999]]), "symbols are 0 to 999; the model's are 0 to 255"),
        (torch.zeros(1, 0, dtype=torch.int64), r"symbols have shape \(1, 0\); expected at least one sample"),
        ([[1, 2]], "symbols are a list; expected a tensor"),
    ],
)
def test_symbols_that_are_not_the_model_s_are_refused(symbols: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_symbols(small_model(), symbols)


def test_clips_that_are_no_sequence_are_refused() -> None:
    with pytest.raises(ValueError, match=r"clips is a Tensor; expected clips in a sequence, as dataset.split"):
        evaluate(small_model(), torch.zeros(5))
