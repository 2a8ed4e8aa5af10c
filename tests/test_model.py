from functools import partial
from pathlib import Path

import pytest
import torch

from tests.conftest import small_config, small_model
from wavenet import Categorical, WaveNet, WaveNetConfig
from wavenet.evaluation import score_symbols
from wavenet.network.receptive_field import visible_lags

SCHEDULES = [(2, (1, 2, 4)), (3, (1, 2, 4)), (2, (1, 3, 2, 7)), (4, (5, 1)), (2, (1,))]


def random_symbols(model: WaveNet, batch: int, length: int) -> torch.Tensor:
    return torch.randint(model.distribution.classes, (batch, length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("kernel_size", "dilations"), SCHEDULES)
def test_measured_receptive_field_equals_the_formula(kernel_size: int, dilations: tuple[int, ...]) -> None:
    model = small_model(kernel_size=kernel_size, dilations=dilations)
    assert int(visible_lags(model).nonzero().max()) + 1 == model.config.receptive_field
    assert model.config.receptive_field == 1 + (kernel_size - 1) * sum(dilations)


def test_doubling_dilations_see_every_sample_and_a_late_start_leaves_gaps() -> None:
    assert visible_lags(small_model(dilations=(1, 2, 4))).tolist() == [True] * 8 + [False]
    assert visible_lags(small_model(dilations=(2, 4))).tolist() == [True, False, True, False, True, False, True, False]


@pytest.mark.parametrize(("kernel_size", "dilations"), SCHEDULES)
def test_jacobian_of_the_future_is_zero(kernel_size: int, dilations: tuple[int, ...]) -> None:
    model = small_model(kernel_size=kernel_size, dilations=dilations)
    field, outputs = model.config.receptive_field, 6
    amplitudes = torch.rand(1, field + outputs - 1, 1, generator=torch.Generator().manual_seed(3)).double()
    embedded = model.embedding(amplitudes).detach()

    def respond(x: torch.Tensor) -> torch.Tensor:
        return model.respond(x)[0].sum(dim=0)

    jacobian = torch.autograd.functional.jacobian(respond, embedded)[:, 0].abs().sum(dim=2)
    for output in range(outputs):
        assert (jacobian[output, field + output :] == 0).all(), "an output saw the future"
        assert (jacobian[output, :output] == 0).all(), "an output saw past its receptive field"
        assert jacobian[output, field + output - 1] != 0, "an output did not see its newest input"


@pytest.mark.parametrize(("kernel_size", "dilations"), SCHEDULES)
@pytest.mark.parametrize("sizes", [(1,) * 12, (5, 1, 6), (12,)])
def test_chunks_with_history_equal_the_whole(
    kernel_size: int, dilations: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    model = small_model(kernel_size=kernel_size, dilations=dilations)
    field = model.config.receptive_field
    symbols = random_symbols(model, 2, 12)
    silence = torch.full((2, field - 1), model.distribution.silence)
    whole = model(torch.cat([silence, symbols], dim=1))
    state, pieces = model.initial_state(2), []
    for chunk in symbols.split(sizes, dim=1):
        parameters, state = model.advance(chunk, state)
        pieces.append(parameters)
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole)


def test_silence_moves_the_initial_state_nowhere() -> None:
    model = small_model()
    before = model.initial_state(1)
    _, after = model.advance(torch.full((1, 50), model.distribution.silence), before)
    assert (before.time, after.time) == (-1, 49)
    torch.testing.assert_close(after.queues, before.queues)


def test_rows_of_a_batch_do_not_touch() -> None:
    model = small_model()
    symbols = random_symbols(model, 3, 20)
    torch.testing.assert_close(model(symbols), torch.cat([model(row[None]) for row in symbols]))


def test_a_fresh_model_is_near_uniform() -> None:
    torch.manual_seed(0)
    model = WaveNet(WaveNetConfig(cycles=1, layers_per_cycle=4))
    symbols = random_symbols(model, 1, 200)
    log_probs = model.distribution.log_prob(model(symbols[:, :-1]), symbols[:, model.config.receptive_field :])
    assert abs(float(-log_probs.detach().mean()) / torch.log(torch.tensor(2.0)) - 8) < 0.1


@pytest.mark.parametrize("classes", [256, 1024])
def test_model_file_gives_the_same_network_back(tmp_path: Path, classes: int) -> None:
    model = WaveNet(small_config(distribution=Categorical(classes), sample_rate=22050))
    model.save_pretrained(tmp_path / "model.safetensors")
    loaded = WaveNet.from_pretrained(tmp_path / "model.safetensors")
    assert loaded.config.receptive_field == model.config.receptive_field
    assert loaded.config.sample_rate == 22050
    symbols = random_symbols(model, 1, 20)
    assert torch.equal(loaded(symbols), model(symbols))


def test_what_are_no_symbols_is_refused() -> None:
    model, waveform = small_model(), torch.zeros(1, 100)
    for wrong in (waveform, model.encode(waveform[0]), model.encode(waveform)[None]):
        for take in (model, partial(model.advance, state=model.initial_state()), partial(score_symbols, model)):
            with pytest.raises(ValueError, match=r"symbols are torch.* of shape .*; expected int64 \(B, T\)"):
                take(wrong)


def test_too_few_samples_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="3 samples given; the context of one output is 8"):
        small_model()(torch.zeros(1, 3, dtype=torch.long))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cycles": 2, "layers_per_cycle": 3, "dilations": (1, 2, 4)}, "contradicts cycles = 2"),
        ({"kernel_size": 1}, "kernel_size is 1; expected 2 to 1024"),
        ({"gate_channels": 7}, "gate_channels is 7; expected an even number"),
        ({"dilations": (1, 0)}, "dilations has 0"),
        ({"cycles": 0}, "cycles is 0"),
        ({"layers_per_cycle": 40}, "layers_per_cycle is 40"),
        ({"skip_channels": 0}, "skip_channels is 0"),
        ({"residual_channels": "64"}, "residual_channels is '64'; expected a whole number"),
        ({"dilations": (1, 2.5)}, "expected whole numbers, one for each layer"),
        ({"speakers": "ann"}, "speakers is 'ann'; expected a tuple of names"),
        ({"speakers": ("a\nb",), "speaker_channels": 2}, "expected printable names"),
        ({"features": 80}, "features is 80; expected a LogMelConfig, or None"),
    ],
)
def test_contradictions_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WaveNetConfig(**values)


def test_dilations_come_from_cycles_or_from_a_list() -> None:
    assert WaveNetConfig(cycles=2, layers_per_cycle=3).dilations == (1, 2, 4, 1, 2, 4)
    assert WaveNetConfig(dilations=[3, 1]).dilations == (3, 1)
    assert WaveNetConfig(cycles=1, layers_per_cycle=2, dilations=(1, 2)).dilations == (1, 2)
    assert len(WaveNetConfig().dilations) == 30
