"""The int8 arithmetic: the engine equals its twin in torch to the bit, and a state comes back as it was."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import KINDS, kind_name, model_of_kind, needs_native, small_config
from tests.int8_twin import dot, int8_parameters, rounded
from wavenet import SamplingOptions, WaveNet
from wavenet.engines import IncrementalEngine, NativeEngine
from wavenet.network import Categorical, Conditioning, LogisticMixture

pytestmark = needs_native

DRAW = SamplingOptions()
SAMPLES = 20_000


def uniforms(batch: int, samples: int) -> torch.Tensor:
    return torch.rand(batch, samples, generator=torch.Generator().manual_seed(5))


def long_conditioning(model: WaveNet, batch: int, samples: int) -> Conditioning:
    generator = torch.Generator().manual_seed(8)
    frames = [torch.randn(5, samples // 12, generator=generator) - 3 for _ in range(batch)]
    return model.condition(
        batch,
        speaker=["eve", "ann", "bob"][:batch] if model.config.speakers else None,
        features=frames if model.config.features else None,
    )


def assert_equal_to_twin(model: WaveNet, batch: int, samples: int) -> None:
    """The twin's parameters are those of the engine, so it draws the engine's symbols; and for symbols at random."""
    conditioning, drawn = long_conditioning(model, batch, samples), uniforms(batch, samples)
    symbols, _ = NativeEngine(model, batch, conditioning, weights="int8", threads=2).run(drawn, DRAW)
    for taken in (torch.randint(0, model.distribution.symbols, symbols.shape), symbols):
        engine = NativeEngine(model, batch, conditioning, weights="int8")
        with torch.no_grad():
            expected = int8_parameters(engine, taken)
        assert torch.equal(engine.follow(taken), expected)
    chosen = model.distribution.sample(expected.transpose(1, 2).flatten(0, 1), drawn.flatten(), DRAW)
    assert torch.equal(chosen.view(batch, samples), symbols)


LONG = [kind for kind in KINDS if not kind[2] or kind[1:] == (True, True, "features", "frames")]


@pytest.mark.parametrize("kind", LONG, ids=kind_name)
def test_20000_samples_equal_those_of_the_twin(kind: tuple[object, ...]) -> None:
    assert_equal_to_twin(model_of_kind(kind).float(), 1, SAMPLES)


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_every_kind_of_model_equals_the_twin(kind: tuple[object, ...]) -> None:
    assert_equal_to_twin(model_of_kind(kind).float(), 3, 150)


SHAPES = st.fixed_dictionaries(
    {
        "kernel_size": st.integers(2, 4),
        "dilations": st.lists(st.integers(1, 20), min_size=1, max_size=4).map(tuple),
        "residual_channels": st.integers(1, 90),
        "gate_channels": st.integers(1, 90).map(lambda half: 2 * half),
        "skip_channels": st.integers(1, 300),
        "head_channels": st.integers(1, 90),
        "distribution": st.sampled_from([Categorical(classes=16), Categorical(), LogisticMixture(components=3)]),
    }
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shape=SHAPES, batch=st.integers(1, 9))
def test_every_shape_equals_the_twin(shape: dict[str, object], batch: int) -> None:
    torch.manual_seed(0)
    model = WaveNet(small_config(**shape)).eval()
    torch.nn.init.normal_(model.output.weight, std=0.2)
    symbols = torch.randint(0, model.distribution.symbols, (batch, 40))
    engine = NativeEngine(model, batch, weights="int8")
    with torch.no_grad():
        expected = int8_parameters(engine, symbols)
    assert torch.equal(engine.follow(symbols), expected)


def test_a_state_comes_back_as_it_was() -> None:
    torch.manual_seed(2)
    model = WaveNet(small_config(residual_channels=40, kernel_size=3)).eval()
    whole, _ = NativeEngine(model, 2, weights="int8").run(uniforms(2, 400), DRAW)
    first, second = (NativeEngine(model, 2, weights="int8") for _ in range(2))
    begun, _ = first.run(uniforms(2, 400)[:, :151], DRAW)
    state = first.state()
    second.load(state)
    assert all(torch.equal(a, b) for a, b in zip(state.network.queues, second.state().network.queues, strict=True))
    rest, _ = second.run(uniforms(2, 400)[:, 151:], DRAW)
    assert torch.equal(torch.cat([begun, rest], dim=1), whole)
    IncrementalEngine(model, 2).load(state)


@pytest.mark.parametrize("scale", [1.0, 3e-28, 3e28])
def test_saved_vectors_round_to_the_same_bytes(scale: float) -> None:
    vectors = torch.randn(200_000, 7, generator=torch.Generator().manual_seed(3)) * scale
    once = rounded(vectors)
    again = rounded((once.numbers / 127).float() * once.peaks)
    assert torch.equal(once.numbers, again.numbers)
    assert torch.equal(once.peaks, again.peaks)
    assert once.numbers.abs().amax(dim=1).eq(127).all()


@pytest.mark.parametrize("value", [0.0, 1e-31, float("inf"), float("nan")])
def test_vectors_without_a_peak_to_divide_by(value: float) -> None:
    """Nothing is 0; what is not finite makes all parameters NaN, as in float32."""
    model = WaveNet(small_config()).eval()
    engine = NativeEngine(model, 1, weights="int8")
    state = engine.state()
    queues = [torch.full_like(queue, value) for queue in state.network.queues]
    engine.load(replace(state, network=replace(state.network, queues=queues)))
    kept = engine.state().network.queues[0]
    assert kept.isnan().all() if not value < 1 else kept.eq(0).all()
    parameters = engine.follow(torch.zeros(1, 1, dtype=torch.long))
    assert parameters.isnan().all() if not value < 1 else parameters.isfinite().all()


def test_a_dot_product_of_the_twin_is_one() -> None:
    a, b = torch.randn(2, 100, dtype=torch.float64)
    torch.testing.assert_close(dot(a, b), a @ b)
