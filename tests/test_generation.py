import pytest
import torch

from tests.conftest import KINDS, conditioning_of, kind_name, model_of_kind, needs_native, small_model
from wavenet import Categorical, generate
from wavenet.engines import ENGINES, IncrementalEngine, NaiveEngine, make_engine
from wavenet.evaluation import score_symbols
from wavenet.generation import Stream, generate_scored
from wavenet.network import GaussianMixture, LogisticMixture, ResidualBlock, SamplingOptions

SCHEDULES = [(2, (1, 2, 4)), (3, (1, 2, 4)), (2, (1, 3, 2, 7)), (3, (5, 1, 2)), (4, (2, 3)), (2, (1,))]


@pytest.mark.parametrize("primed", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("kernel_size", "dilations"), SCHEDULES)
def test_incremental_equals_naive(kernel_size: int, dilations: tuple[int, ...], batch: int, primed: bool) -> None:
    model = small_model(kernel_size=kernel_size, dilations=dilations)
    prime = torch.rand(batch, 25, generator=torch.Generator().manual_seed(5)) * 2 - 1 if primed else None
    uniforms = torch.rand(batch, 80, generator=torch.Generator().manual_seed(6))
    engines = NaiveEngine(model, batch), IncrementalEngine(model, batch)
    for engine in engines:
        if prime is not None:
            engine.prime(model.distribution.encode(prime))
    (slow, slow_log_probs), (fast, fast_log_probs) = (engine.run(uniforms, SamplingOptions()) for engine in engines)
    assert torch.equal(fast, slow)
    torch.testing.assert_close(fast_log_probs, slow_log_probs)
    assert len(slow.unique()) > 20, "a test on a stuck signal would prove nothing"


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_incremental_equals_naive_for_every_kind_of_model(kind: tuple[object, ...]) -> None:
    model = model_of_kind(kind)
    conditioning = conditioning_of(model)
    first, prime, second = (torch.rand(2, n, generator=torch.Generator().manual_seed(n)) for n in (31, 7, 50))
    results = []
    for engine in (NaiveEngine(model, 2, conditioning), IncrementalEngine(model, 2, conditioning)):
        before, before_log_probs = engine.run(first, SamplingOptions())
        engine.prime(model.encode(prime - 0.5))
        after, after_log_probs = engine.run(second, SamplingOptions())
        results.append((torch.cat([before, after], dim=1), torch.cat([before_log_probs, after_log_probs], dim=1)))
    (slow, slow_log_probs), (fast, fast_log_probs) = results
    assert torch.equal(fast, slow)
    torch.testing.assert_close(fast_log_probs, slow_log_probs)
    assert len(slow.unique()) > 12, "a test on a stuck signal would prove nothing"


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_log_probs_are_what_scoring_gives_for_every_kind_of_model(kind: tuple[object, ...]) -> None:
    model = model_of_kind(kind, pre_emphasis=0.0)
    conditioning = conditioning_of(model)
    generated = generate_scored(model, 60, SamplingOptions(), conditioning, batch=2)
    scored = score_symbols(model, model.encode(generated.audio), conditioning)
    torch.testing.assert_close(generated.log_probs, scored.log_probs)


EVERY_ENGINE = [pytest.param(name, marks=[needs_native] * (name == "native")) for name in ENGINES if name != "triton"]
"""All but `triton`, which needs another device: test_triton.py."""


def test_rows_of_different_lengths_are_what_each_gives_alone() -> None:
    model = model_of_kind((LogisticMixture(), True, True, "features", "transposed"))
    generator = torch.Generator().manual_seed(3)
    features, names = [torch.randn(5, n, generator=generator) - 3 for n in (3, 7, 5)], ["bob", "ann", "eve"]
    batch = generate(model, speaker=names, features=features, seed=10)
    assert batch.shape == (3, 7 * 12)
    for row, (clip, name) in enumerate(zip(features, names, strict=True)):
        alone = generate(model, speaker=name, features=clip, seed=10 + row)
        assert torch.equal(batch[row, : alone.shape[1]], alone[0])


def test_features_say_how_long_to_go_on() -> None:
    model = model_of_kind((Categorical(), False, True, None, "transposed"))
    features = torch.zeros(5, 4)
    assert generate(model, features=features).shape == (1, 48)
    assert generate(model, 20, features=features).shape == (1, 20)
    with pytest.raises(ValueError, match="features have 4 frames; 49 samples at hop 12 need 5"):
        generate(model, 49, features=features)
    with pytest.raises(ValueError, match="num_samples is missing"):
        generate(small_model())


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_pre_emphasis_is_undone_across_chunks_and_after_a_prime(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of_kind((GaussianMixture(), False, False, "past", "transposed"), pre_emphasis=0.8)
    model = model.float() if engine == "native" else model
    prime = torch.rand(1, 30, generator=torch.Generator().manual_seed(0)) * 0.2
    monkeypatch.setattr("wavenet.generation.streaming._CHUNK", 13)
    audio = generate(model, 90, prime=prime, engine=engine, temperature=0.2)
    monkeypatch.undo()
    assert torch.equal(audio, generate(model, 90, prime=prime, engine=engine, temperature=0.2))


def test_pre_emphasis_goes_on_across_chunks_even_where_it_clips() -> None:
    model = model_of_kind((GaussianMixture(), False, False, None, "transposed"), pre_emphasis=0.9)
    symbols = model.distribution.encode(torch.tensor([[0.9] * 6 + [-0.5] * 6]))
    whole, pieces, previous = model.decode(symbols), [], None
    assert whole.max() > 1.5, "this would clip"
    for chunk in symbols.split(5, dim=1):
        pieces.append(model.decode(chunk, previous))
        previous = pieces[-1][:, -1]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    quiet = torch.rand(1, 50, generator=torch.Generator().manual_seed(0)) * 0.1
    torch.testing.assert_close(model.decode(model.encode(quiet)), quiet, atol=2e-4, rtol=0)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 0.7, "top_k": 9}, {"top_p": 0.8}])
def test_incremental_equals_naive_under_every_option(options: dict[str, float]) -> None:
    model = small_model()
    slow, fast = (generate(model, 100, engine=engine, seed=4, **options) for engine in ("naive", "incremental"))
    assert torch.equal(fast, slow)


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_batch_equals_its_rows_one_by_one(engine: str) -> None:
    model = small_model().float() if engine == "native" else small_model()
    batch = generate(model, 50, batch=3, seed=10, engine=engine)
    rows = [generate(model, 50, seed=seed, engine=engine) for seed in (10, 11, 12)]
    assert torch.equal(batch, torch.cat(rows))


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_paused_run_equals_unpaused_run(engine: str) -> None:
    model, options = small_model(kernel_size=3), SamplingOptions()
    model = model.float() if engine == "native" else model
    uniforms = torch.rand(2, 60, generator=torch.Generator().manual_seed(7))
    whole, _ = make_engine(engine, model, 2).run(uniforms, options)
    paused = make_engine(engine, model, 2)
    pieces = [paused.run(chunk, options)[0] for chunk in uniforms.split((1, 29, 30), dim=1)]
    assert torch.equal(torch.cat(pieces, dim=1), whole)


def test_priming_in_the_middle_goes_on_from_there() -> None:
    model, options = small_model(), SamplingOptions()
    first, prime, second = (torch.rand(1, n, generator=torch.Generator().manual_seed(n)) for n in (11, 13, 17))
    symbols = model.distribution.encode(prime)
    results = []
    for engine in (NaiveEngine(model, 1), IncrementalEngine(model, 1)):
        before, _ = engine.run(first, options)
        engine.prime(symbols)
        results.append(torch.cat([before, engine.run(second, options)[0]], dim=1))
    assert torch.equal(*results)


def test_log_probs_are_what_scoring_the_audio_gives() -> None:
    model = small_model()
    generated = generate_scored(model, 70, SamplingOptions(temperature=0.6), model.condition(2), batch=2)
    scored = score_symbols(model, model.encode(generated.audio))
    torch.testing.assert_close(generated.log_probs, scored.log_probs)


def test_uniforms_do_not_depend_on_the_chunks_they_are_drawn_in() -> None:
    whole = torch.rand(2000, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(torch.cat([torch.rand(n, generator=generator) for n in (1, 7, 800, 16, 1176)]), whole)


def test_audio_does_not_depend_on_its_length_asked_for() -> None:
    model = small_model()
    assert torch.equal(generate(model, 900)[:, :100], generate(model, 100))


def test_a_layer_of_ones_own_is_run_as_it_is_or_refused() -> None:
    class Quieter(ResidualBlock):
        def forward(self, x: torch.Tensor, biases: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
            x, gated = super().forward(x, biases)
            return x, gated * 0.5

    model = small_model()
    as_it_was = generate(model, 50, seed=1, engine="naive")
    model.blocks[1].__class__ = Quieter
    expected = generate(model, 50, seed=1, engine="naive")
    assert not torch.equal(expected, as_it_was)
    with pytest.warns(UserWarning, match="stepwise engine: .* Quieter is not one of them"):
        assert torch.equal(generate(model, 50, seed=1), expected)
    for engine in ("incremental", "native"):
        with pytest.raises(ValueError, match=f"the {engine} engine cannot run this model: .* Quieter is not one"):
            generate(model, 50, seed=1, engine=engine)


def test_weights_that_are_computed_of_others_are_no_other_layer() -> None:
    model = small_model()
    torch.nn.utils.parametrizations.weight_norm(model.head)
    naive, fast = (generate(model, 30, seed=1, engine=engine) for engine in ("naive", "incremental"))
    assert torch.equal(naive, fast)


def test_generation_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    generate(small_model(), 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_audio_is_float32_in_range() -> None:
    audio = generate(small_model(), 200)
    assert audio.dtype == torch.float32
    assert audio.shape == (1, 200)
    assert audio.abs().max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "warp"}, "engine is 'warp'; expected auto or one of native, incremental, stepwise, naive"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"prime": torch.zeros(2, 5)}, r"prime has shape \(2, 5\)"),
        ({"prime": torch.full((5,), torch.nan)}, "not finite"),
    ],
)
def test_impossible_requests_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(small_model(), **{"num_samples": 5, **options})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 100.0}, "num_samples is 100.0; expected at least 1, a whole number"),
        ({"seed": 1.5}, "seed is 1.5; expected a whole number"),
        ({"engine": None}, "engine is None; expected auto or one of"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"prime": torch.zeros(9, dtype=torch.int16)}, "prime is torch.int16 of shape .*: divide 16-bit integers"),
        ({"prime": torch.tensor([torch.nan])}, "prime has samples that are not finite"),
        ({"prime": torch.zeros(9).numpy()}, "prime is a ndarray; expected a tensor"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(small_model(), **{"num_samples": 5, **settings})


@pytest.mark.parametrize("engine", ["naive", "incremental"])
@pytest.mark.parametrize("kind", KINDS[::5], ids=kind_name)
def test_primes_of_different_lengths_equal_each_alone(kind: tuple[object, ...], engine: str) -> None:
    model, lengths = model_of_kind(kind, pre_emphasis=0.5), (30, 9, 16, 30)
    primes = [torch.rand(length, generator=torch.Generator().manual_seed(length)) * 0.2 for length in lengths]
    config = model.config
    speakers = ["ann", "bob", "eve", "ann"] if config.speakers else None
    frames = [torch.randn(5, 8 - row, generator=torch.Generator().manual_seed(row)) - 3 for row in range(4)]
    given = {"seed": 3, "engine": engine, "temperature": 0.8}
    together = generate(
        model, 30, prime=primes, speaker=speakers, features=frames if config.features else None, **given
    )
    for row, prime in enumerate(primes):
        alone = {"speaker": speakers[row] if speakers else None, "features": frames[row] if config.features else None}
        if config.features:  # in the batch the shorter clips go on in silence
            silent = torch.full((5, 8 - frames[row].shape[1]), config.features.silence)
            alone["features"] = torch.cat([frames[row], silent], dim=1)
        expected = generate(model, 30, prime=prime, **alone, **{**given, "seed": 3 + row})
        assert torch.allclose(together[row], expected[0], atol=1e-9), f"row {row}"


def test_primes_of_different_lengths_share_a_batch_where_nothing_depends_on_time() -> None:
    model = small_model()
    stream = Stream(model, batch=2)
    stream.prime([torch.full((9,), 3), torch.full((4,), 3)])
    alone = Stream(model)
    alone.prime(torch.full((1, 4), 3))
    assert torch.equal(stream.engine.state().latest, torch.tensor([3, 3]))
    for queue, other in zip(stream.state().engine.network.queues, alone.state().engine.network.queues, strict=True):
        assert torch.allclose(queue[1], other[0], atol=1e-12)
    vocoder = model_of_kind(next(kind for kind in KINDS if kind[2]))
    with pytest.raises(ValueError, match="num_samples is missing; after primes of different lengths"):
        generate(vocoder, features=torch.zeros(5, 9), batch=2, prime=[torch.zeros(9), torch.zeros(5)])
