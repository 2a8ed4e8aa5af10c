"""A distribution that the package does not have: a discretised mixture of Laplace distributions, in one file.

    python recipes/research/distribution.py [--steps N] [--seed N] [--without-prediction]

It is checked, trained beside the package's own at equal cost, sampled from, and saved. The networks contain linear
prediction, so the distributions are of its error; with --without-prediction they are of the sample.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor

from wavenet import (
    Categorical,
    Distribution,
    GaussianMixture,
    LogisticMixture,
    Mixture,
    PredictionConfig,
    SamplingOptions,
    TrainConfig,
    Trainer,
    WaveNet,
    WaveNetConfig,
    decode_mu_law,
    encode_mu_law,
    evaluate,
    generate,
    load_folder,
    multiply_adds,
)
from wavenet.cli.errors import errors_in_one_line
from wavenet.machine import workers

SPEECH = Path(__file__).parents[2] / "samples" / "speech"
COMPONENTS = 4
AS_IT_IS = SamplingOptions()


@dataclass(frozen=True)
class LaplaceMixture(Mixture):
    """Discretised mixture of Laplace distributions: the standard component's density is exp(-|x|) / 2."""

    kind: Literal["laplace_mixture", "coarse_laplace_mixture"] = "laplace_mixture"

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Beside the peak, a difference of two tails; across it, what both tails leave. Neither loses digits."""
        beside = torch.minimum(upper, -lower) + torch.log(-torch.expm1(lower - upper) / 2)
        across = torch.log(-(torch.expm1(lower.clamp(max=0)) + torch.expm1(-upper.clamp(min=0))) / 2)
        return torch.where((lower < 0) & (upper > 0), across, beside)

    def quantile(self, share: Tensor) -> Tensor:
        return (share - 0.5).sign() * -torch.log1p(-2 * (share - 0.5).abs())


@dataclass(frozen=True)
class CoarseLaplaceMixture(LaplaceMixture):
    """The same mixture over the 256 classes of `Categorical`, so that it sees no more of the past than 8 bits."""

    kind: Literal["coarse_laplace_mixture"] = "coarse_laplace_mixture"

    def encode(self, waveform: Tensor) -> Tensor:
        return super().encode(decode_mu_law(encode_mu_law(waveform)))

    def log_prob(self, parameters: Tensor, symbols: Tensor) -> Tensor:
        return self.class_log_prob(parameters, symbols, classes=256)


DISTRIBUTIONS: dict[str, Distribution] = {
    "categorical, 256 classes": Categorical(),
    "Laplaces, 256 classes": CoarseLaplaceMixture(components=COMPONENTS),
    "mixture of Gaussians": GaussianMixture(components=COMPONENTS),
    "mixture of logistics": LogisticMixture(components=COMPONENTS),
    "mixture of Laplaces": LaplaceMixture(components=COMPONENTS),
}


def check(distribution: Distribution, parameters: Tensor, samples: int = 2**16) -> tuple[float, float]:
    """Check a distribution for each row of parameters `(B, parameters)`, float64.

    Returns two errors, the largest of all rows: the distance from one of the sum of all symbols' probabilities; and
    the distance of a count of samples, in 256 µ-law classes, from its expectation, in standard deviations.
    """
    symbols, generator = torch.arange(distribution.symbols), torch.Generator().manual_seed(0)
    symbols = torch.unique(distribution.encode(distribution.decode(symbols)))  # the symbols that occur
    classes = encode_mu_law(distribution.decode(symbols))
    error = distance = 0.0
    for row in parameters[:, :, None]:
        probabilities = distribution.log_prob(row.T[:, :, None].expand(-1, -1, len(symbols)), symbols[None])[0].exp()
        error = max(error, float((probabilities.sum() - 1).abs()))
        drawn = distribution.sample(row.T.expand(samples, -1), torch.rand(samples, generator=generator), AS_IT_IS)
        counts = torch.bincount(encode_mu_law(distribution.decode(drawn)), minlength=256)
        shares = torch.zeros(256, dtype=torch.float64).index_add_(0, classes, probabilities)
        deviations = (samples * shares * (1 - shares)).sqrt().clamp(min=1)
        distance = max(distance, float(((counts - samples * shares) / deviations).abs().max()))
    assert error < 1e-9, f"the probabilities sum to one, but for {error:.1g}"
    assert distance < 6, f"a count of samples is {distance:.1f} standard deviations from its expectation"
    return error, distance


def random_parameters(rows: int = 4) -> Tensor:
    """Parameters of mixtures: weights of all sizes, means all over, scales from under a step to the whole range."""
    torch.manual_seed(0)
    weights, means = torch.randn(2, rows, COMPONENTS, dtype=torch.float64)
    return torch.cat([weights, means / 3, torch.rand(rows, COMPONENTS, dtype=torch.float64) * -12], dim=1)


def network(distribution: Distribution, predicted: bool) -> WaveNetConfig:
    """A network whose head is wide enough to make all distributions cost as much as `Categorical`."""
    skip = 64
    budget = skip * skip + skip * Categorical().outputs(predicted)
    return WaveNetConfig(
        cycles=1,
        layers_per_cycle=10,
        residual_channels=32,
        gate_channels=64,
        skip_channels=skip,
        head_channels=round(budget / (skip + distribution.outputs(predicted))),
        distribution=distribution,
        prediction=PredictionConfig(source="past") if predicted else None,
    )


def check_model_file(model: WaveNet, path: Path) -> None:
    """Save a model, read it back, and compare the audio."""
    model.save_pretrained(path)
    copy = WaveNet.from_pretrained(path, distributions=[LaplaceMixture, CoarseLaplaceMixture])
    assert torch.equal(generate(copy, 100, seed=1), generate(model, 100, seed=1))


@dataclass(frozen=True)
class Result:
    """Held-out bits per sample, for 256 µ-law classes and for the distribution's own symbols, and the cost."""

    name: str
    mu_law_bits: float
    bits: float
    multiply_adds: int
    seconds: float


def train_and_score(name: str, speech: Path, training: TrainConfig, predicted: bool) -> Result:
    torch.manual_seed(training.seed)
    model = WaveNet(network(DISTRIBUTIONS[name], predicted))
    train, held_out = load_folder(speech)
    trainer = Trainer(model, train, held_out, training)
    trainer.run()
    score = evaluate(trainer.average, trainer.held_out[0].clips)[None]  # the clips have no speakers
    with TemporaryDirectory() as folder:
        check_model_file(trainer.average, Path(folder) / "model.safetensors")
    return Result(name, score.mu_law_bits, score.bits, multiply_adds(model), trainer.progress.seconds)


def main(arguments: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description="Compare output distributions at equal cost.")
    parser.add_argument("--steps", type=int, default=200, help="of training, for each distribution")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the windows")
    parser.add_argument("--without-prediction", action="store_true", help="no linear prediction inside the networks")
    options = parser.parse_args(arguments)
    training = TrainConfig(
        steps=options.steps,
        seed=options.seed,
        batch_size=1,
        window=1500,
        learning_rate=4e-3,
        muon_learning_rate=0.04,
        precision="float32",  # on every machine, so that figures differ only by rounding
    )
    for distribution in (LaplaceMixture(COMPONENTS), CoarseLaplaceMixture(COMPONENTS)):
        error, distance = check(distribution, random_parameters())
        print(f"{distribution.kind}: the probabilities sum to one, but for {error:.0e}; ", end="")
        print(f"counts of samples lie within {distance:.1f} standard deviations")
    results = []
    print(f"{training.steps} steps of {training.window} samples, seed {training.seed}")
    print(f"{'distribution':26}{'bits of 256 classes':>20}{'of its own':>12}{'multiply-adds':>15}{'seconds':>9}")
    with workers(2) as pool:  # a core for each network
        predicted = not options.without_prediction
        score = partial(train_and_score, speech=SPEECH, training=training, predicted=predicted)
        for one in pool.map(score, DISTRIBUTIONS):
            results.append(one)
            cells = f"{one.mu_law_bits:20.3f}{one.bits:12.3f}{one.multiply_adds:15,}{one.seconds:9.1f}"
            print(f"{one.name:26}{cells}", flush=True)
    return results


if __name__ == "__main__":
    with errors_in_one_line("distribution.py"):
        main()
