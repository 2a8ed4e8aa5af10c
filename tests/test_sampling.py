import pytest
import torch

from wavenet import Categorical, SamplingOptions
from wavenet.network.sampling import choose

LARGEST_UNIFORM = 1 - 2**-24


def histogram(logits: torch.Tensor, draws: int, **options: float) -> torch.Tensor:
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(0))
    classes, _ = choose(logits.expand(draws, -1), uniforms, SamplingOptions(**options))
    return torch.bincount(classes, minlength=logits.shape[-1]) / draws


def test_histogram_of_draws_matches_log_prob() -> None:
    logits = torch.randn(16, generator=torch.Generator().manual_seed(1)) * 2
    draws = 100_000
    expected = Categorical(16).log_prob(logits[None, :, None].expand(16, -1, 1), torch.arange(16)[:, None]).exp()[:, 0]
    deviation = (expected * (1 - expected) / draws).sqrt()
    assert ((histogram(logits, draws) - expected).abs() < 5 * deviation).all()


def test_probabilities_sum_to_one() -> None:
    parameters = torch.randn(1, 256, 1, dtype=torch.float64) * 5
    symbols = torch.arange(256)[:, None]
    total = Categorical(256).log_prob(parameters.expand(256, -1, -1), symbols).exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64))


def test_temperature_divides_the_logits() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    frequencies = histogram(logits, 100_000, temperature=0.5)
    torch.testing.assert_close(frequencies, torch.softmax(2 * logits, 0), atol=0.01, rtol=0)  # 6 sigma


def test_temperature_zero_takes_the_likeliest_class_whatever_the_uniform() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.0]]).expand(2, -1)
    classes, _ = choose(logits, torch.tensor([0.0, LARGEST_UNIFORM]), SamplingOptions(temperature=0))
    assert classes.tolist() == [1, 1]


def test_top_k_keeps_the_k_likeliest_in_their_proportion() -> None:
    frequencies = histogram(torch.tensor([0.5, 0.1, 0.3, 0.1]).log(), 50_000, top_k=2)
    torch.testing.assert_close(frequencies, torch.tensor([0.625, 0.0, 0.375, 0.0]), atol=0.015, rtol=0)


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    frequencies = histogram(torch.tensor([0.5, 0.1, 0.3, 0.1]).log(), 50_000, top_p=0.6)
    torch.testing.assert_close(frequencies, torch.tensor([0.625, 0.0, 0.375, 0.0]), atol=0.015, rtol=0)
    assert histogram(torch.tensor([0.5, 0.1, 0.3, 0.1]).log(), 1000, top_p=0.01).tolist() == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("uniform", [0.0, LARGEST_UNIFORM])
def test_impossible_classes_are_never_drawn(uniform: float) -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]])
    assert int(choose(logits, torch.tensor([uniform]), SamplingOptions())[0]) in (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingOptions(**options)
