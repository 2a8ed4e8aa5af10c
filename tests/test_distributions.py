"""Probabilities sum to one, draws follow them, gradients stay finite, and a prediction shifts what it should."""

import pytest
import torch

from wavenet import Categorical, SamplingOptions, encode_mu_law
from wavenet.network import Distribution, GaussianMixture, LogisticMixture, Prediction

SMALL = [Categorical(64), LogisticMixture(components=3, levels=64), GaussianMixture(components=3, levels=64)]
FULL = [Categorical(), LogisticMixture(), GaussianMixture()]
PREDICTED = Prediction(torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[0.02]], dtype=torch.float64))


def parameters_of(distribution: Distribution, seed: int, prediction: Prediction | None = None) -> torch.Tensor:
    """Random parameters `(1, parameters, 1)`, scales of mixtures about a few levels wide."""
    outputs = distribution.outputs(prediction is not None)
    values = torch.randn(1, outputs, 1, generator=torch.Generator().manual_seed(seed)).double()
    if not isinstance(distribution, Categorical):
        values[:, -distribution.components :] -= 2 if prediction is None else 0
    return distribution.place(values, prediction)


@pytest.mark.parametrize("prediction", [None, PREDICTED], ids=["plain", "predicted"])
@pytest.mark.parametrize("distribution", SMALL + FULL, ids=lambda d: f"{d.kind}")
def test_probabilities_sum_to_one_at_the_resolution(distribution: Distribution, prediction: Prediction | None) -> None:
    symbols = torch.arange(getattr(distribution, "levels", None) or distribution.classes)[None]
    for seed in range(3):
        parameters = parameters_of(distribution, seed, prediction).expand(-1, -1, symbols.shape[1])
        total = distribution.log_prob(parameters, symbols).exp().sum()
        torch.testing.assert_close(total, torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("distribution", SMALL, ids=lambda d: d.kind)
def test_histogram_of_draws_matches_log_prob(distribution: Distribution) -> None:
    draws, levels = 100_000, 64
    parameters = parameters_of(distribution, 1)
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(0))
    symbols = distribution.sample(parameters[:, :, 0].expand(draws, -1), uniforms, SamplingOptions())
    expected = distribution.log_prob(parameters.expand(-1, -1, levels), torch.arange(levels)[None]).exp()[0]
    deviation = (expected * (1 - expected) / draws).sqrt() + 3e-6  # tails beyond 2^-20 are not drawn
    assert ((torch.bincount(symbols, minlength=levels) / draws - expected).abs() < 5 * deviation).all()


@pytest.mark.parametrize("distribution", FULL[1:], ids=lambda d: d.kind)
@pytest.mark.parametrize("output", [-1e4, -60.0, 0.0, 60.0, 1e4])
def test_probabilities_sum_to_one_whatever_the_network_says(distribution: Distribution, output: float) -> None:
    outputs = torch.full((1, distribution.outputs(False), 1), output, dtype=torch.float64)
    symbols = torch.arange(distribution.levels)[None]
    parameters = distribution.place(outputs, None).expand(-1, -1, distribution.levels)
    total = distribution.log_prob(parameters, symbols).exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("scale", [-1e4, -60.0, -12.0, 0.0, 60.0, 1e4])
@pytest.mark.parametrize("predicted", [False, True])
@pytest.mark.parametrize("distribution", FULL, ids=lambda d: d.kind)
def test_gradients_are_finite_at_the_extremes(
    distribution: Distribution, predicted: bool, scale: float, value: float
) -> None:
    outputs = torch.full((1, distribution.outputs(predicted), 1), scale, requires_grad=True)
    quiet = Prediction(torch.tensor([[0.9]]), torch.tensor([[1e-5]])) if predicted else None
    symbols = distribution.encode(torch.tensor([[value]]))
    log_prob = distribution.log_prob(distribution.place(outputs, quiet), symbols)
    (gradient,) = torch.autograd.grad(log_prob.sum(), outputs)
    assert bool(log_prob.isfinite().all())
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("distribution", FULL, ids=lambda d: d.kind)
@pytest.mark.parametrize("classes", [16, 256])
def test_class_probability_is_the_sum_over_its_symbols(distribution: Distribution, classes: int) -> None:
    parameters = parameters_of(distribution, 2)
    levels = getattr(distribution, "levels", None) or distribution.classes
    symbols = torch.arange(levels)[None]
    single = distribution.log_prob(parameters.expand(-1, -1, levels), symbols).exp()[0]
    coarse = distribution.class_log_prob(parameters.expand(-1, -1, levels), symbols, classes).exp()[0]
    of_symbols = encode_mu_law(distribution.decode(symbols[0]), classes)
    sums = torch.zeros(classes, dtype=torch.float64).index_add_(0, of_symbols, single)
    torch.testing.assert_close(coarse, sums[of_symbols])


def test_categorical_outputs_are_distances_from_the_predicted_class() -> None:
    distribution = Categorical(256)
    outputs = torch.zeros(1, 511, 1)
    outputs[0, 255 + 3] = 50.0  # three classes above
    for mean in (-0.9, 0.0, 0.5):
        prediction = Prediction(torch.tensor([[mean]]), torch.tensor([[0.1]]))
        expected = int(distribution.encode(torch.tensor(mean))) + 3
        assert int(distribution.mode(distribution.place(outputs, prediction))) == expected


@pytest.mark.parametrize("distribution", FULL[1:], ids=lambda d: d.kind)
def test_mixture_outputs_are_in_units_of_the_expected_error(distribution: Distribution) -> None:
    outputs = torch.tensor([5.0, 0.0, 0.0, 2.0, 0.0, 0.0, -9.0, 0.0, 0.0])[None, :, None]
    placed = distribution.place(outputs, Prediction(torch.tensor([[0.25]]), torch.tensor([[0.01]])))
    assert distribution.decode(distribution.mode(placed)).item() == pytest.approx(0.27, abs=2**-15)


@pytest.mark.parametrize("distribution", FULL, ids=lambda d: d.kind)
def test_symbols_round_trip_and_silence_is_zero(distribution: Distribution) -> None:
    levels = getattr(distribution, "levels", None) or distribution.classes
    symbols = torch.arange(levels)
    assert torch.equal(distribution.encode(distribution.decode(symbols)), symbols)
    assert int(distribution.encode(torch.zeros(()))) == distribution.silence


def test_temperature_zero_of_a_mixture_is_the_mean_of_the_heaviest_component() -> None:
    distribution = LogisticMixture(components=2)
    parameters = torch.tensor([[1.0, 2.0, -0.5, 0.25, -3.0, -3.0]])
    for uniform in (0.0, 0.5, 1 - 2**-24):
        symbol = distribution.sample(parameters, torch.tensor([uniform]), SamplingOptions(temperature=0))
        assert distribution.decode(symbol).item() == 0.25
        assert torch.equal(symbol, distribution.mode(parameters[:, :, None])[:, 0])


def test_temperature_narrows_a_mixture() -> None:
    distribution = GaussianMixture(components=1)
    parameters = torch.tensor([[0.0, 0.0, -3.0]]).expand(20_000, -1)
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    spreads = [
        float(distribution.decode(distribution.sample(parameters, uniforms, SamplingOptions(temperature=t))).std())
        for t in (1.0, 0.5)
    ]
    assert spreads[0] == pytest.approx(torch.tensor(-3.0).exp().item(), rel=0.03)
    assert spreads[1] == pytest.approx(spreads[0] / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Categorical(200), "classes is 200; expected a power of two"),
        (lambda: LogisticMixture(components=0), "components is 0; expected 1 to 1024"),
        (lambda: GaussianMixture(levels=1000), "1000; expected a power of two"),
    ],
)
def test_impossible_distributions_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
