"""Linear prediction: the recursion against a solver, what it predicts, and that it never sees the future."""

import math
from pathlib import Path

import pytest
import torch

from tests.conftest import conditioning_of, model_of_kind, small_config, tone
from wavenet import Categorical, LogisticMixture, WaveNet, load_folder
from wavenet.data import PrepareConfig
from wavenet.evaluation import Score, evaluate, score_baselines
from wavenet.network import (
    Conditioning,
    ConditioningConfig,
    Distribution,
    FeaturePredictor,
    GaussianMixture,
    LogMel,
    LogMelConfig,
    PastPredictor,
    PredictionConfig,
)
from wavenet.network.prediction import levinson, predict


def test_levinson_solves_the_normal_equations() -> None:
    signal = torch.randn(4, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).cumsum(1)
    correlation = torch.fft.irfft(torch.fft.rfft(signal, 800).abs().square())[:, :13]
    coefficients, power = levinson(correlation)
    lags = torch.arange(12)
    toeplitz = correlation[:, (lags[:, None] - lags).abs()]
    torch.testing.assert_close(coefficients, torch.linalg.solve(toeplitz, correlation[:, 1:]))
    torch.testing.assert_close(power, correlation[:, 0] - (coefficients * correlation[:, 1:]).sum(1))


def test_predict_weighs_the_samples_before_each_one() -> None:
    samples = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5]])
    coefficients = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]]])  # oldest first
    torch.testing.assert_close(predict(samples, coefficients), torch.tensor([[0.2, 0.2, 0.8, 0.1]]))


@pytest.mark.parametrize("source", ["features", "past"])
def test_a_tone_is_predicted_and_the_error_expected(source: str) -> None:
    config = LogMelConfig()
    waveform = torch.from_numpy(tone(1.0)).double()[None]
    if source == "features":
        predictor = FeaturePredictor(PredictionConfig(source="features", order=128, block=50), config, 16000, 0.0)
    else:
        predictor = PastPredictor(PredictionConfig(source="past"))
    conditioning = Conditioning(features=LogMel(config, 16000)(waveform.float()), silence=config.silence)
    silence = torch.zeros(1, predictor.context, dtype=torch.float64)
    found = predictor(torch.cat([silence, waveform], dim=1), 0, conditioning)
    middle = slice(4000, 12000)
    error = (waveform - found.mean[:, :-1])[:, middle]
    gain = 10 * torch.log10(waveform[:, middle].square().mean() / error.square().mean())
    assert gain > 15, f"a gain of {gain:.1f} dB"
    ratio = error.square().mean().sqrt() / found.scale[:, middle].mean()
    assert 0.4 < ratio < 2, f"the error is {ratio:.2f} times what was expected"


def test_pre_emphasis_changes_the_spectrum_that_is_fitted() -> None:
    """White features, pre-emphasised by c: the one-step predictor of x[t] - c x[t - 1] is -c / (1 + c^2)."""
    features = Conditioning(features=torch.zeros(1, 80, 9, dtype=torch.float64))
    flat = FeaturePredictor(PredictionConfig(source="features", order=1, block=50), LogMelConfig(), 16000, 0.0)
    tilted = FeaturePredictor(PredictionConfig(source="features", order=1, block=50), LogMelConfig(), 16000, 0.5)
    both = [p.fit(torch.zeros(1, 1, dtype=torch.float64), 0, 20, 1, features)[0].item() for p in (flat, tilted)]
    white = torch.zeros(1, 80, 9, dtype=torch.float64) + torch.log(
        LogMel(LogMelConfig(), 16000).bands.sum(dim=1)[None, :, None].double().clamp(min=1e-12)
    )
    even = Conditioning(features=white)
    assert flat.fit(torch.zeros(1, 1).double(), 0, 20, 1, even)[0].item() == pytest.approx(0.0, abs=1e-6)
    assert tilted.fit(torch.zeros(1, 1).double(), 0, 20, 1, even)[0].item() == pytest.approx(-0.5 / 1.25, abs=1e-3)
    assert both[0] != both[1]


@pytest.mark.parametrize(
    ("rate", "bins", "window"), [(16000, 80, 256), (22050, 80, 512), (44100, 128, 1024), (16000, 1, 64)]
)
def test_bands_that_are_empty_or_share_a_centre_do_no_harm(rate: int, bins: int, window: int) -> None:
    features = LogMelConfig(bins=bins, window=window, hop=50)
    predictor = FeaturePredictor(PredictionConfig(source="features", order=16, block=50), features, rate, 0.0)
    waveform = torch.from_numpy(tone(0.2, rate=rate)).double()[None]
    conditioning = Conditioning(features=LogMel(features, rate)(waveform.float()))
    found = predictor(torch.cat([waveform.new_zeros(1, 16), waveform], dim=1), 0, conditioning)
    assert bool(found.mean.isfinite().all())
    if bins > 1:  # one band is a flat spectrum, and predicts nothing
        assert (waveform - found.mean[:, :-1]).square().mean() < waveform.square().mean() / 2


@pytest.mark.parametrize("source", ["features", "past"])
def test_prediction_does_not_see_the_future(source: str) -> None:
    model = model_of_kind((Categorical(), False, True, source, "transposed"))
    assert model.predictor is not None
    conditioning = conditioning_of(model, 1)
    samples = torch.rand(1, model.history + 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    changed = samples.clone()
    changed[:, model.history + 30 :] = 0.9
    one, other = (model.predictor(x, 3, conditioning) for x in (samples, changed))
    assert torch.equal(one.mean[:, :31], other.mean[:, :31])
    assert torch.equal(one.scale[:, :31], other.scale[:, :31])
    assert not torch.equal(one.mean[:, 31:], other.mean[:, 31:])


@pytest.mark.parametrize("source", ["features", "past"])
def test_predictions_do_not_depend_on_the_chunk(source: str) -> None:
    model = model_of_kind((Categorical(), False, True, source, "transposed"))
    assert model.predictor is not None
    conditioning, history = conditioning_of(model, 1), model.history
    samples = torch.rand(1, history + 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    whole = model.predictor(samples, 5, conditioning)
    for first, last in ((0, 1), (13, 14), (20, 60)):
        piece = model.predictor(samples[:, first : history + last], 5 + first, conditioning)
        torch.testing.assert_close(piece.mean, whole.mean[:, first : last + 1])
        torch.testing.assert_close(piece.scale, whole.scale[:, first : last + 1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"order": 0}, "order is 0"),
        ({"order": 32, "window": 32}, "expected a window longer than that"),
        ({"noise_floor": 0.0}, "noise_floor is 0.0"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictionConfig(source="past", **values)


SPEECH = Path(__file__).parent.parent / "samples" / "speech" / "en"


@pytest.mark.parametrize("source", ["features", "past"])
@pytest.mark.parametrize(
    "distribution",
    [LogisticMixture(4), GaussianMixture(4), GaussianMixture(1), Categorical()],
    ids=["logistic", "gaussian", "one-gaussian", "classes"],
)
def test_a_fresh_model_begins_near_the_linear_predictor(distribution: Distribution, source: str) -> None:
    """On speech at 8 kHz that begins out of digital silence, where a predictor from the past expects no error.

    A mixture is within a bit of the linear predictor, whose scale follows the errors. A single Gaussian, which cannot
    be narrow and wide at once, begins like a uniform guess; classes do no worse.
    """
    _, held_out = load_folder(SPEECH, PrepareConfig(sample_rate=8000, level_db=26.0))
    clips = sorted(held_out, key=lambda clip: clip.samples)[:3]
    features = {
        "features": LogMelConfig(bins=60, hop=80, window=256),
        "conditioning": ConditioningConfig(scales=(8, 10)),
    }
    config = small_config(
        sample_rate=8000,
        distribution=distribution,
        prediction=PredictionConfig(source=source),
        **(features if source == "features" else {}),
    )
    torch.manual_seed(0)
    scores = [Score.pooled(list(evaluate(WaveNet(config).eval(), [clip]).values())) for clip in clips]
    linear = score_baselines(clips, 256)[None].linear_prediction
    total = Score.pooled(scores)
    if getattr(distribution, "components", 1) > 1:
        assert total.mu_law_bits < linear + 1
    assert total.bits < math.log2(distribution.symbols) + 0.2
    assert max(score.bits for score in scores) < math.log2(distribution.symbols) + 1
