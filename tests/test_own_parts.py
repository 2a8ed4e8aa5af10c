"""Blocks, conditioners and distributions of somebody else's, in a model of ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import conditioning_of, small_config
from wavenet import (
    CausalConv1d,
    Mixture,
    ResidualBlock,
    TrainConfig,
    Trainer,
    WaveNet,
    WaveNetConfig,
    generate,
    tensor_clips,
)
from wavenet.engines import NaiveEngine, StepwiseEngine
from wavenet.network import Alignment, BlockFactory, Conditioning, ConditioningConfig, LogMelConfig, SamplingOptions
from wavenet.training import train


class TwoDilations(nn.Module):
    """A gate over two dilations at once, with a norm over channels."""

    def __init__(self, config: WaveNetConfig, dilation: int, *, last: bool) -> None:
        super().__init__()
        half = config.gate_channels // 2
        self.near = CausalConv1d(config.residual_channels, half, 1)
        self.far = CausalConv1d(config.residual_channels, half, 3, dilation)
        self.norm = nn.LayerNorm(half)
        self.back = nn.Linear(half, config.residual_channels)
        self.context = self.far.context

    def forward(self, x: Tensor, biases: Tensor | None = None) -> tuple[Tensor, Tensor]:
        newest = x[:, self.context :]
        gated = self.norm(self.far(x)) * torch.sigmoid(self.near(newest))
        if biases is not None:
            gated = gated + biases[:, :, : gated.shape[2]]
        return newest + self.back(gated), gated


class Pulses(nn.Module):
    """Biases that tell the place within a frame, and the frame's loudness: no speaker, no upsampler."""

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        assert config.features is not None
        self.alignment = Alignment(hop=config.features.hop, reach=0)
        self.weight = nn.Parameter(torch.randn(2, len(config.dilations) * config.gate_channels))

    def forward(self, conditioning: Conditioning, start: int, stop: int) -> Tensor:
        first, last = self.alignment.frames_around(start, stop)
        times = torch.arange(start, stop)
        loudness = conditioning.frames(first, last).mean(dim=1)[:, times // self.alignment.hop - first]
        place = (times % self.alignment.hop / self.alignment.hop).to(loudness)
        return torch.stack([loudness, place.expand_as(loudness)], dim=2) @ self.weight


@dataclass(frozen=True)
class Laplaces(Mixture):
    kind: Literal["laplaces"] = "laplaces"

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        beside = torch.minimum(upper, -lower) + torch.log(-torch.expm1(lower - upper) / 2)
        across = torch.log(-(torch.expm1(lower.clamp(max=0)) + torch.expm1(-upper.clamp(min=0))) / 2)
        return torch.where((lower < 0) & (upper > 0), across, beside)

    def quantile(self, share: Tensor) -> Tensor:
        return (share - 0.5).sign() * -torch.log1p(-2 * (share - 0.5).abs())


FEATURES = {
    "features": LogMelConfig(bins=5, hop=12, window=64),
    "conditioning": ConditioningConfig(channels=3, context_channels=4, context_frames=1, scales=(3, 4)),
}
PARTS = {
    "block": ({}, {"block": TwoDilations}),
    "block, features": (FEATURES, {"block": TwoDilations}),
    "conditioner": (FEATURES, {"conditioner": Pulses}),
    "block, conditioner, distribution": (
        {**FEATURES, "distribution": Laplaces(components=2, levels=4096)},
        {"block": TwoDilations, "conditioner": Pulses},
    ),
}


def built(name: str) -> WaveNet:
    settings, parts = PARTS[name]
    torch.manual_seed(0)
    model = WaveNet(small_config(**settings), **parts).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.mark.parametrize("name", PARTS)
def test_stepwise_equals_naive_with_parts_of_ones_own(name: str) -> None:
    model = built(name)
    conditioning, uniforms = conditioning_of(model), torch.rand(2, 60, generator=torch.Generator().manual_seed(3))
    symbols, log_probs = NaiveEngine(model, 2, conditioning).run(uniforms, SamplingOptions())
    engine = StepwiseEngine(model, 2, conditioning)
    engine.prime(symbols[:, :20])
    stepped, stepped_log_probs = engine.run(uniforms[:, 20:], SamplingOptions())
    assert torch.equal(stepped, symbols[:, 20:])
    torch.testing.assert_close(stepped_log_probs, log_probs[:, 20:])


@pytest.mark.parametrize("name", PARTS)
def test_no_output_depends_on_a_later_input(name: str) -> None:
    model = built(name)
    symbols = torch.randint(model.distribution.symbols, (2, model.context + 10))
    conditioning = conditioning_of(model)
    before = model(symbols, conditioning)
    symbols[:, -4:] = 0
    changed = (model(symbols, conditioning) - before).abs().amax(dim=(0, 1)) > 0
    assert not changed[:-4].any()
    assert changed[-4:].all()


@pytest.mark.parametrize("name", PARTS)
def test_a_model_file_gives_parts_of_ones_own_back(name: str, tmp_path: Path) -> None:
    model = built(name).float()
    model.save_pretrained(tmp_path / "model.safetensors")
    loaded = WaveNet.from_pretrained(tmp_path / "model.safetensors", distributions=[Laplaces], **PARTS[name][1])
    symbols = torch.randint(model.distribution.symbols, (2, model.context + 10))
    conditioning = conditioning_of(model)
    assert torch.equal(loaded(symbols, conditioning), model(symbols, conditioning))
    assert loaded.config == model.config


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    built("block, conditioner, distribution").save_pretrained(path)
    with pytest.raises(ValueError, match="has a custom block, TwoDilations; pass block=TwoDilations to from_pr"):
        WaveNet.from_pretrained(path)
    with pytest.raises(ValueError, match="has a custom conditioner, Pulses; pass conditioner=Pulses"):
        WaveNet.from_pretrained(path, block=TwoDilations)
    with pytest.raises(ValueError, match=r"distribution: .*'laplaces'.*from_pretrained\(path, distributions="):
        WaveNet.from_pretrained(path, block=TwoDilations, conditioner=Pulses)


def test_a_part_that_does_not_say_what_it_needs_is_named() -> None:
    with pytest.raises(ValueError, match=r"Identity.context is None; expected int"):
        WaveNet(small_config(), block=lambda config, dilation, last: nn.Identity())
    with pytest.raises(ValueError, match=r"Identity.alignment is None; expected Alignment"):
        WaveNet(small_config(), conditioner=lambda config: nn.Identity())


def test_a_part_that_gives_something_else_is_named() -> None:
    class Bare(ResidualBlock):
        def forward(self, x: Tensor, biases: Tensor | None = None) -> Tensor:
            return super().forward(x, biases)[0]

    class Whole(ResidualBlock):
        def forward(self, x: Tensor, biases: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return x, super().forward(x, biases)[1]

    class Narrow(Pulses):
        def forward(self, conditioning: Conditioning, start: int, stop: int) -> Tensor:
            return super().forward(conditioning, start, stop)[:, :, :7]

    symbols, expected = torch.zeros(1, 12, dtype=torch.int64), r"expected the next block's input \(1, 11, 6\) and "
    with pytest.raises(ValueError, match=r"Bare.forward gave \(1, 11, 6\); " + expected):
        WaveNet(small_config(), block=Bare)(symbols)
    with pytest.raises(ValueError, match=r"Whole.forward gave a tuple of \(1, 12, 6\) and \(1, 11, 5\); " + expected):
        WaveNet(small_config(), block=Whole)(symbols)
    with pytest.raises(ValueError, match=r"Narrow.forward gave \(1, 12, 7\); expected \(B, 12 or 1, 30\)"):
        WaveNet(small_config(**FEATURES), conditioner=Narrow)(symbols, Conditioning(features=torch.zeros(1, 5, 3)))


def test_a_distribution_that_could_not_be_saved_is_refused_at_once() -> None:
    class Plain:
        kind = "plain"

    for wrong in (Plain(), Laplaces, "laplaces"):
        with pytest.raises(ValueError, match=r"distribution is .*; expected an object of a frozen dataclass with a f"):
            small_config(distribution=wrong)


def test_auto_steps_through_parts_of_ones_own_and_says_so() -> None:
    model = built("block")
    with pytest.warns(UserWarning, match="stepwise engine: it supports only the package's own layers, and TwoDil"):
        audio = generate(model, 40, seed=1)
    assert torch.equal(audio, generate(model, 40, seed=1, engine="naive"))


def test_a_subclass_with_a_forward_of_its_own_is_run_whole() -> None:
    class Halved(WaveNet):
        def forward(self, symbols: Tensor, conditioning: Conditioning | None = None, start: int = 0) -> Tensor:
            return super().forward(symbols, conditioning, start) / 2

    torch.manual_seed(0)
    model = Halved(small_config()).double().eval()
    with pytest.raises(ValueError, match="Halved overrides forward and not advance"):
        StepwiseEngine(model, 1)
    with pytest.warns(UserWarning, match="naive engine"):
        assert torch.equal(generate(model, 20, seed=1), generate(model, 20, seed=1, engine="naive"))


def test_a_custom_block_among_the_package_s_is_not_forgotten(tmp_path: Path) -> None:
    class Halved(ResidualBlock):
        def forward(self, x: Tensor, biases: Tensor | None = None) -> tuple[Tensor, Tensor]:
            x, gated = super().forward(x, biases)
            return x, gated / 2

    def alternating(config: WaveNetConfig, dilation: int, *, last: bool) -> nn.Module:
        return (Halved if dilation == 2 else ResidualBlock)(config, dilation, last=last)

    model = WaveNet(small_config(), block=alternating).eval()
    model.save_pretrained(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="has a custom block, Halved"):
        WaveNet.from_pretrained(tmp_path / "model.safetensors")
    loaded = WaveNet.from_pretrained(tmp_path / "model.safetensors", block=alternating)
    symbols = torch.randint(256, (1, 20))
    assert torch.equal(loaded(symbols), model(symbols))


def test_buffers_that_are_not_in_the_file_are_made_again(tmp_path: Path) -> None:
    class Scaled(ResidualBlock):
        scale: Tensor

        def __init__(self, config: WaveNetConfig, dilation: int, *, last: bool) -> None:
            super().__init__(config, dilation, last=last)
            self.register_buffer("scale", torch.full((), 0.5), persistent=False)

        def forward(self, x: Tensor, biases: Tensor | None = None) -> tuple[Tensor, Tensor]:
            x, gated = super().forward(x, biases)
            return x, gated * self.scale

    model = WaveNet(small_config(), block=Scaled).eval()
    model.save_pretrained(tmp_path / "model.safetensors")
    loaded = WaveNet.from_pretrained(tmp_path / "model.safetensors", block=Scaled)
    symbols = torch.randint(256, (1, 20))
    assert torch.equal(loaded(symbols), model(symbols))


def test_whole_numbers_of_a_custom_block_are_kept(tmp_path: Path) -> None:
    class Normed(ResidualBlock):
        def __init__(self, config: WaveNetConfig, dilation: int, *, last: bool) -> None:
            super().__init__(config, dilation, last=last)
            self.norm = nn.BatchNorm1d(config.residual_channels)  # it counts the batches

        def forward(self, x: Tensor, biases: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return super().forward(self.norm(x.transpose(1, 2)).transpose(1, 2), biases)

    model, symbols = WaveNet(small_config(), block=Normed), torch.randint(256, (1, 20))
    model(symbols)
    model.save_pretrained(tmp_path / "model.safetensors")
    loaded = WaveNet.from_pretrained(tmp_path / "model.safetensors", block=Normed)
    assert loaded.state_dict()["blocks.0.norm.num_batches_tracked"] == 1
    assert torch.equal(loaded(symbols), model.eval()(symbols))


def test_a_conditioner_of_another_hop_than_the_features_is_refused() -> None:
    class Slower(Pulses):
        def __init__(self, config: WaveNetConfig) -> None:
            super().__init__(config)
            self.alignment = Alignment(hop=24, reach=0)

    with pytest.raises(ValueError, match="has a hop of 24 samples; expected that of the features, 12"):
        WaveNet(small_config(**FEATURES), conditioner=Slower)


def test_a_subclass_that_overrides_the_whole_and_not_the_step_is_run_whole() -> None:
    class Damped(WaveNet):
        def respond(self, x: Tensor, biases: Tensor | None = None) -> Tensor:
            return super().respond(x, biases) / 2

    torch.manual_seed(0)
    model = Damped(small_config()).double().eval()
    with pytest.raises(ValueError, match="Damped overrides respond and not respond_after"):
        StepwiseEngine(model, 1)


def test_a_run_does_not_go_on_with_another_block(tmp_path: Path) -> None:
    class Other(ResidualBlock):
        pass

    clips = tensor_clips([torch.rand(500) - 0.5 for _ in range(2)], sample_rate=16000)
    settings = TrainConfig(steps=4, window=100, compile="off")

    def trainer(block: BlockFactory) -> Trainer:
        return Trainer(WaveNet(small_config(), block=block), clips[1:], clips[:1], settings)

    assert not train(trainer(Other), tmp_path / "run", stop=lambda: True)
    with pytest.raises(ValueError, match=r"model\.own_parts was \{'block': 'Other'\}, is None"):
        train(trainer(ResidualBlock), tmp_path / "run", resume=True)
    assert train(trainer(Other), tmp_path / "run", resume=True)
