"""The native engine against the network in torch: the same parameters, the same symbols, whatever the shape."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import KINDS, conditioning_of, kind_name, model_of_kind, needs_native
from wavenet import SamplingOptions, WaveNet, WaveNetConfig, generate
from wavenet.engines import EngineOptions, IncrementalEngine, NativeEngine
from wavenet.engines.native import WEIGHT_TYPES, native_module
from wavenet.network import Categorical, GaussianMixture, LogisticMixture, PastPredictor, PredictionConfig, prediction

pytestmark = needs_native

ROOT = Path(__file__).parent.parent
DRAW = SamplingOptions()


def uniforms(batch: int, samples: int) -> torch.Tensor:
    return torch.rand(batch, samples, generator=torch.Generator().manual_seed(5))


def teacher_forced(model: WaveNet, symbols: torch.Tensor, conditioning: object) -> torch.Tensor:
    """The network's own parameters for each symbol, from one pass over the whole."""
    state = model.initial_state(len(symbols), conditioning)
    latest = torch.full((len(symbols), 1), model.distribution.silence)
    with torch.no_grad():
        return model.advance(torch.cat([latest, symbols[:, :-1]], dim=1), state, conditioning)[0]


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_parameters_are_those_of_the_network_in_torch(
    kind: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To within what float32 costs the network in torch, or what the rounding of linear prediction's sums may cost.

    These weights are wild, and the µ-law is steep near zero, so rounding counts for some kinds; whether products and
    sums round as one differs between builds.
    """
    model = model_of_kind(kind)
    conditioning = conditioning_of(model)
    symbols, _ = IncrementalEngine(model, 2, conditioning).run(uniforms(2, 70), DRAW)
    exact = teacher_forced(model, symbols, conditioning)
    with monkeypatch.context() as patch:
        patch.setattr(prediction, "predict", rounded_prediction)
        rounded = [teacher_forced(model, symbols, conditioning) for _ in range(2 if model.predictor else 0)]
    single = model.float()
    conditioning = conditioning_of(single)
    rounded.append(teacher_forced(single, symbols, conditioning))
    allowed = max((parameters - exact).abs().max() for parameters in rounded)
    for threads in (1, 2, 4):
        native = NativeEngine(single, 2, conditioning, threads=threads).follow(symbols)
        assert (native - exact).abs().max() < 2 * allowed + 1e-4, f"{threads} threads"


def rounded_prediction(samples: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """`predict` in float64, off at random by up to the bound of a sum in float32 (Higham 2002, section 3.1)."""
    order = coefficients.shape[2]
    terms = samples.unfold(1, order, 1)[:, : coefficients.shape[1]] * coefficients
    bound = order * torch.finfo(torch.float32).eps / 2 * terms.abs().sum(dim=2)
    return (terms.sum(dim=2) + bound * torch.empty_like(bound).uniform_(-1, 1)).clamp(-1, 1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[0] == Categorical()], ids=kind_name)
def test_the_same_seed_gives_the_same_classes(kind: tuple[object, ...]) -> None:
    model = model_of_kind(kind)
    expected, expected_log_probs = IncrementalEngine(model, 2, conditioning_of(model)).run(uniforms(2, 70), DRAW)
    single = model.float()
    symbols, log_probs = NativeEngine(single, 2, conditioning_of(single)).run(uniforms(2, 70), DRAW)
    assert torch.equal(symbols, expected)
    torch.testing.assert_close(log_probs.double(), expected_log_probs, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("distribution", [Categorical(), LogisticMixture(), GaussianMixture()], ids=lambda d: d.kind)
@pytest.mark.parametrize(
    "options",
    [
        SamplingOptions(),
        SamplingOptions(temperature=0.0),
        SamplingOptions(temperature=0.6, top_k=2),
        SamplingOptions(temperature=1.3, top_p=0.7),
        SamplingOptions(top_k=1),
    ],
    ids=str,
)
def test_symbols_are_drawn_as_the_distribution_draws_them(distribution: object, options: SamplingOptions) -> None:
    """Given the engine's own parameters, so that not one symbol may differ."""
    torch.manual_seed(1)
    model = WaveNet(WaveNetConfig(dilations=(1, 2), residual_channels=8, gate_channels=8, distribution=distribution))
    torch.nn.init.normal_(model.output.weight, std=1.0)
    engine, drawn = NativeEngine(model.eval(), 4), uniforms(4, 500)
    symbols, _ = engine.run(drawn, options)
    parameters = NativeEngine(model, 4).follow(symbols)
    expected = [
        model.distribution.sample(parameters[:, :, step], drawn[:, step], options) for step in range(drawn.shape[1])
    ]
    assert torch.equal(symbols, torch.stack(expected, dim=1))


SHAPES = st.fixed_dictionaries(
    {
        "kernel_size": st.integers(2, 5),
        "dilations": st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple),
        "residual_channels": st.integers(1, 70),
        "gate_channels": st.integers(1, 70).map(lambda half: 2 * half),
        "skip_channels": st.integers(1, 70),
        "head_channels": st.integers(1, 70),
        "distribution": st.one_of(
            st.sampled_from([4, 16, 256]).map(lambda n: Categorical(classes=n)),
            st.integers(1, 5).map(lambda n: LogisticMixture(components=n, levels=256)),
        ),
        "prediction": st.one_of(
            st.none(),
            st.builds(
                lambda order, block: PredictionConfig(source="past", order=order, block=block, window=order + 9),
                st.integers(1, 40),
                st.integers(1, 30),
            ),
        ),
    }
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(shape=SHAPES, batch=st.integers(1, 9), threads=st.integers(1, 3), steps=st.integers(1, 50))
def test_every_shape_equals_the_network_in_torch(
    shape: dict[str, object], batch: int, threads: int, steps: int
) -> None:
    torch.manual_seed(0)
    model = WaveNet(WaveNetConfig(**shape)).eval()
    torch.nn.init.normal_(model.output.weight, std=0.2)
    symbols = torch.randint(0, model.distribution.decode(torch.arange(4)).numel(), (batch, steps))
    expected = teacher_forced(model.double(), symbols, model.condition(batch))
    engine = NativeEngine(model.float(), batch, threads=threads)
    torch.testing.assert_close(engine.follow(symbols).double(), expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(("weights", "share"), [("float32", 1e-5), ("bfloat16", 0.02), ("int8", 0.03)])
def test_narrow_weights_stay_close(weights: str, share: float) -> None:
    torch.manual_seed(3)
    model = WaveNet(WaveNetConfig(cycles=1, layers_per_cycle=6)).eval()
    torch.nn.init.normal_(model.output.weight, std=0.2)
    symbols = torch.randint(0, 256, (2, 200))
    expected = teacher_forced(model, symbols, model.condition(2))
    found = NativeEngine(model, 2, weights=weights).follow(symbols)
    error = (found - expected).square().mean().sqrt()
    assert error < share * expected.std(), "the error is a small share of the signal"


@pytest.mark.parametrize("weights", WEIGHT_TYPES)
@pytest.mark.parametrize(("batch", "threads"), [(1, 2), (5, 2), (5, 16)])
def test_threads_and_batches_change_nothing(weights: str, batch: int, threads: int) -> None:
    torch.manual_seed(4)
    model = WaveNet(WaveNetConfig(cycles=1, layers_per_cycle=5, kernel_size=3)).eval()
    alone = [NativeEngine(model, 1, weights=weights).run(row[None], DRAW)[0] for row in uniforms(batch, 300)]
    together, _ = NativeEngine(model, batch, weights=weights, threads=threads).run(uniforms(batch, 300), DRAW)
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("weights", WEIGHT_TYPES)
@pytest.mark.parametrize("upsampler", ["frames", "linear"])
def test_biases_of_frames_are_the_same_in_any_batch_thread_and_portion(weights: str, upsampler: str) -> None:
    model = model_of_kind((Categorical(), True, True, "past", upsampler)).float()
    conditioning, drawn = conditioning_of(model, batch=3), uniforms(3, 80)
    together, _ = NativeEngine(model, 3, conditioning, weights=weights, threads=2).run(drawn, DRAW)
    for row in range(3):
        own = replace(
            conditioning, labels=conditioning.labels[row : row + 1], features=conditioning.features[row : row + 1]
        )
        engine = NativeEngine(model, 1, own, weights=weights)
        pieces = [engine.run(piece, DRAW)[0] for piece in drawn[row : row + 1].split((1, 10, 1, 12, 31, 25), dim=1)]
        assert torch.equal(torch.cat(pieces, dim=1), together[row : row + 1])


def test_frames_of_other_samples_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of_kind((Categorical(), False, True, None, "frames")).float()
    engine = NativeEngine(model, 2, conditioning_of(model))
    frames, first = engine._frame_biases(13)
    for wrong in ((frames, first + 1), (frames[:, :2].contiguous(), first)):
        monkeypatch.setattr(engine, "_frame_biases", lambda steps, wrong=wrong: wrong)
        with pytest.raises(ValueError, match="frames of other samples"):
            engine.run(uniforms(2, 13), DRAW)
    assert engine.time == -1


def test_state_goes_from_engine_to_engine() -> None:
    model = model_of_kind((Categorical(), True, True, "past", "transposed"))
    reference = IncrementalEngine(model, 2, conditioning_of(model))
    whole, _ = reference.run(uniforms(2, 80), DRAW)
    single = model.float()
    conditioning = conditioning_of(single)
    native, incremental = NativeEngine(single, 2, conditioning), IncrementalEngine(single, 2, conditioning)
    first, _ = native.run(uniforms(2, 80)[:, :33], DRAW)
    incremental.load(native.state())
    second, _ = incremental.run(uniforms(2, 80)[:, 33:50], DRAW)
    native.load(incremental.state())
    third, _ = native.run(uniforms(2, 80)[:, 50:], DRAW)
    assert torch.equal(torch.cat([first, second, third], dim=1), whole)


def test_several_generators_run_side_by_side() -> None:
    model = WaveNet(WaveNetConfig(cycles=1, layers_per_cycle=6)).eval()
    expected = [generate(model, 2000, seed=seed, engine="native") for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: generate(model, 2000, seed=seed, engine="native"), range(4)))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_what_the_engine_cannot_run_is_refused() -> None:
    model = WaveNet(WaveNetConfig(dilations=(1,)))
    assert EngineOptions().resolved(model) == (EngineOptions("native"), None)
    chosen, reason = EngineOptions().resolved(WaveNet(WaveNetConfig(dilations=(1,))).double())
    assert chosen.name == "incremental"
    assert reason is not None
    assert "computes in float32 on the CPU" in reason
    with pytest.raises(ValueError, match="cannot run this model: it computes in float32"):
        NativeEngine(WaveNet(WaveNetConfig(dilations=(1,))).double(), 1)
    kind = type("Deeper", (WaveNet,), {})
    assert "Deeper is not one of them" in str(NativeEngine.refusal(kind(WaveNetConfig(dilations=(1,)))))

    class Bolder(PastPredictor):
        pass

    predicting = WaveNet(WaveNetConfig(dilations=(1,), prediction=PredictionConfig(source="past")))
    assert NativeEngine.refusal(predicting) is None
    predicting.predictor.__class__ = Bolder
    assert "not Bolder" in str(NativeEngine.refusal(predicting))
    with pytest.raises(ValueError, match="weights is 'int4'; expected one of float32, bfloat16, int8"):
        EngineOptions(weights="int4")
    with pytest.raises(ValueError, match="threads is 0"):
        EngineOptions(threads=0)
    for wrong in ({"weights": "int4"}, {"threads": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            NativeEngine(model, 1, **wrong)
    with pytest.raises(ValueError, match="weights is 'int8'; only the native engine has a choice"):
        EngineOptions("incremental", weights="int8")


def test_weights_that_are_not_finite_are_told_not_crashed_on() -> None:
    model = WaveNet(WaveNetConfig(dilations=(1, 2), prediction=PredictionConfig(source="past"))).eval()
    torch.nn.init.constant_(model.embedding.weight, float("nan"))
    for weights in WEIGHT_TYPES:
        for temperature in (0.0, 1.0):
            with pytest.raises(ValueError, match="no finite likelihood"):
                generate(model, 50, temperature=temperature, engine=EngineOptions(weights=weights))


@pytest.mark.parametrize("instruction_set", native_module().instruction_sets()[:-1] if not pytestmark.args[0] else ())
def test_every_instruction_set_draws_the_same(instruction_set: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = WaveNet(WaveNetConfig(cycles=1, layers_per_cycle=4, residual_channels=20)).eval()
    for weights in WEIGHT_TYPES:
        drawn = []
        for name in (instruction_set, "baseline"):
            monkeypatch.setenv("WAVENET_NATIVE", name)
            assert native_module().__name__.endswith(f"_native_{name}")
            drawn.append(generate(model, 300, engine=EngineOptions(weights=weights)))
        assert torch.equal(*drawn), weights


def test_native_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    model = WaveNet(WaveNetConfig(dilations=(1,)))
    monkeypatch.setenv("WAVENET_NATIVE", "0")
    chosen, reason = EngineOptions().resolved(model)
    assert chosen.name == "incremental"
    assert str(reason).startswith("WAVENET_NATIVE=0")
    monkeypatch.setenv("WAVENET_NATIVE", "sse9")
    with pytest.raises(ValueError, match=r"WAVENET_NATIVE is 'sse9'; expected 0, "):
        EngineOptions().resolved(model)


def test_the_default_type_of_tensors_makes_no_difference() -> None:
    model = WaveNet(WaveNetConfig(dilations=(1, 2))).eval()
    expected = generate(model, 100, engine="native")
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(generate(model, 100, engine="native"), expected)
        assert NativeEngine(model, 1).state().network.queues[0].dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[2] and kind[3] != "features"], ids=kind_name)
def test_frames_that_come_to_be_known_within_a_hop_are_heard(kind: tuple[object, ...]) -> None:
    model = model_of_kind(kind).float()
    known = conditioning_of(model)
    unknown = replace(known, features=known.features[:, :, :1])
    engine, fresh = NativeEngine(model, 2, unknown), NativeEngine(model, 2, known)
    engine.run(uniforms(2, 1), DRAW)
    engine.conditioning = known
    fresh.load(engine.state())
    assert torch.equal(engine.run(uniforms(2, 40), DRAW)[1], fresh.run(uniforms(2, 40), DRAW)[1])


def test_correlations_of_other_blocks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of_kind(KINDS[-1]).float()
    engine = NativeEngine(model, 2, conditioning_of(model))
    correlation, first = engine._correlation(5)
    for wrong in (first + 1, first - 100):
        monkeypatch.setattr(engine, "_correlation", lambda steps, wrong=wrong: (correlation, wrong))
        with pytest.raises(ValueError, match="blocks of correlation"):
            engine.run(uniforms(2, 5), DRAW)
    assert engine.time == -1


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def growth_over_a_long_stream() -> int:
    """Bytes, between the least that is held in some turns and in later ones: each frees what it answered."""
    shape = {"cycles": 1, "layers_per_cycle": 3, "residual_channels": 8, "gate_channels": 16}
    engine = NativeEngine(WaveNet(WaveNetConfig(**shape, distribution=Categorical(16))).eval(), 1)

    def held() -> int:
        engine.run(torch.rand(1, 4000), DRAW)
        return resident_bytes()

    turns = [held() for _ in range(60)]
    return min(turns[40:]) - min(turns[5:25])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_memory_stays_flat_however_long_a_stream() -> None:
    """In a process of its own: in one that trained before, what is freed stays (`keep_freed_memory`)."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        assert process.apply(growth_over_a_long_stream) < 2**19
