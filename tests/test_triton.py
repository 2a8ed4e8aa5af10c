"""The triton engine against the slow reference: on a CUDA device, or under Triton's interpreter on the CPU.

Triton decides when it is imported whether to interpret. So a process of its own runs these tests under the interpreter.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import conditioning_of, model_of_kind, small_model
from wavenet import Categorical, SamplingOptions, WaveNet, WaveNetConfig, generate
from wavenet.engines import Engine, EngineOptions, IncrementalEngine, NaiveEngine, TritonEngine, make_engine
from wavenet.network import LogisticMixture

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
HAS_TRITON = importlib.util.find_spec("triton") is not None


def on_device(test):
    """Mark a test that runs the kernel."""
    if INTERPRETED:
        return test
    missing = pytest.mark.skipif(
        not (HAS_TRITON and torch.cuda.is_available()), reason="needs triton and a CUDA device"
    )
    return pytest.mark.cuda(missing(test))


no_interpreter = pytest.mark.skipif(INTERPRETED, reason="the interpreter has no products in bfloat16")


@pytest.mark.skipif(INTERPRETED, reason="this runs the others under the interpreter")
@pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")
def test_the_kernel_passes_its_tests_under_the_interpreter() -> None:
    program = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, env=environment, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def tiny(**changes: object) -> WaveNet:
    return small_model(**changes).float().to(DEVICE)


def uniforms(batch: int, steps: int, seed: int = 6) -> torch.Tensor:
    return torch.rand(batch, steps, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@on_device
@pytest.mark.parametrize("batch", [1, 16, 17])
@pytest.mark.parametrize("schedule", [(2, (1, 2, 4)), (3, (5, 1))], ids=str)
def test_triton_equals_naive(schedule: tuple[int, tuple[int, ...]], batch: int) -> None:
    model = tiny(kernel_size=schedule[0], dilations=schedule[1])
    slow, slow_log_probs = NaiveEngine(model, batch).run(uniforms(batch, 14), SamplingOptions())
    fast, log_probs = TritonEngine(model, batch, weights="float32").run(uniforms(batch, 14), SamplingOptions())
    assert torch.equal(fast, slow)
    torch.testing.assert_close(log_probs, slow_log_probs, atol=1e-4, rtol=1e-4)
    assert len(slow.unique()) > 8, "a test on a stuck signal would prove nothing"


@on_device
def test_a_network_of_powers_of_two_needs_no_padding_and_two_blocks_of_the_head() -> None:
    sizes = {"residual_channels": 16, "gate_channels": 64, "skip_channels": 32, "head_channels": 128}
    torch.manual_seed(0)
    model = WaveNet(WaveNetConfig(dilations=(1, 2, 4, 8), **sizes)).eval().to(DEVICE)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    slow, slow_log_probs = NaiveEngine(model, 2).run(uniforms(2, 12), SamplingOptions())
    fast, log_probs = TritonEngine(model, 2, weights="float32").run(uniforms(2, 12), SamplingOptions())
    assert torch.equal(fast, slow)
    torch.testing.assert_close(log_probs, slow_log_probs, atol=1e-4, rtol=1e-4)


@on_device
@pytest.mark.parametrize("upsampler", ["transposed", "interpolation", "frames"])
def test_triton_follows_conditioning_and_a_prime(upsampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavenet.engines.triton._BIASES", 2 * 30 * 7)  # seven steps at once
    model = model_of_kind((Categorical(), upsampler != "interpolation", True, None, upsampler)).float().to(DEVICE)
    prime = model.encode(torch.rand(2, 7, generator=torch.Generator().manual_seed(7)) - 0.5).to(DEVICE)

    def made(engine: Engine, nudge: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        before, before_log_probs = engine.run(uniforms(2, 9) + nudge, SamplingOptions())
        engine.prime(prime)
        after, after_log_probs = engine.run(uniforms(2, 12, 1) + nudge, SamplingOptions())
        return torch.cat([before, after], dim=1), torch.cat([before_log_probs, after_log_probs], dim=1)

    fast, log_probs = made(TritonEngine(model, 2, conditioning_of(model), weights="float32"))
    nudges = (0.0,) if INTERPRETED else (0.0, 1e-5, -1e-5)
    # a uniform here is 1e-6 from a class's boundary, which other sums round to its other side
    slow = [made(IncrementalEngine(model, 2, conditioning_of(model)), nudge) for nudge in nudges]
    expected = [probabilities for symbols, probabilities in slow if torch.equal(symbols, fast)]
    assert expected, f"{fast} is none of {[symbols for symbols, _ in slow]}"
    torch.testing.assert_close(log_probs, expected[0], atol=1e-3, rtol=1e-3)
    assert len(fast.unique()) > 8, "a test on a stuck signal would prove nothing"


@on_device
def test_triton_follows_a_speaker_alone() -> None:
    model = model_of_kind((Categorical(), True, False, None, "transposed")).float().to(DEVICE)
    conditioning = model.condition(3, speaker=["eve", "ann", "bob"])
    slow, _ = IncrementalEngine(model, 3, conditioning).run(uniforms(3, 12), SamplingOptions())
    fast, _ = TritonEngine(model, 3, conditioning, weights="float32").run(uniforms(3, 12), SamplingOptions())
    assert torch.equal(fast, slow)


@on_device
@pytest.mark.parametrize("weights", ["float32", pytest.param("bfloat16", marks=no_interpreter)])
def test_pieces_and_a_restored_state_go_on_as_the_whole_does(weights: str) -> None:
    model = tiny(kernel_size=3, dilations=(1, 3))
    whole, pieces, restored = (TritonEngine(model, 17, weights=weights) for _ in range(3))
    drawn, options = uniforms(17, 24), SamplingOptions()
    symbols, log_probs = whole.run(drawn, options)
    first, second = pieces.run(drawn[:, :5], options), pieces.run(drawn[:, 5:12], options)
    restored.load(pieces.state())
    assert restored.time == pieces.time == 11
    for engine in (pieces, restored):
        third = engine.run(drawn[:, 12:], options)
        assert torch.equal(torch.cat([first[0], second[0], third[0]], dim=1), symbols)
        assert torch.equal(torch.cat([first[1], second[1], third[1]], dim=1), log_probs)
    for mine, theirs in zip(pieces.state().network.queues, restored.state().network.queues, strict=True):
        assert torch.equal(mine, theirs)


@on_device
def test_a_state_passes_between_engines() -> None:
    model = tiny(kernel_size=3)
    drawn, options = uniforms(3, 18), SamplingOptions()
    triton, incremental = TritonEngine(model, 3, weights="float32"), IncrementalEngine(model, 3)
    expected, _ = IncrementalEngine(model, 3).run(drawn, options)
    first, _ = triton.run(drawn[:, :7], options)
    incremental.load(triton.state())
    second, _ = incremental.run(drawn[:, 7:12], options)
    triton.load(incremental.state())
    third, _ = triton.run(drawn[:, 12:], options)
    assert torch.equal(torch.cat([first, second, third], dim=1), expected)


@on_device
@pytest.mark.parametrize(("temperature", "classes"), [(0.0, 256), (0.6, 256), (1, 64), (0.6, 4)])
def test_temperature_is_that_of_the_reference(temperature: float, classes: int) -> None:
    model, options = tiny(distribution=Categorical(classes=classes)), SamplingOptions(temperature=temperature)
    slow, slow_log_probs = IncrementalEngine(model, 2).run(uniforms(2, 12), options)
    fast, log_probs = TritonEngine(model, 2, weights="float32").run(uniforms(2, 12), options)
    assert torch.equal(fast, slow)
    torch.testing.assert_close(log_probs, slow_log_probs, atol=1e-4, rtol=1e-4)


@no_interpreter
@on_device
def test_bfloat16_weights_are_close() -> None:
    """Symbols may differ, so the incremental engine follows those of the triton engine."""
    torch.manual_seed(0)
    model = WaveNet(small_model().config).eval().to(DEVICE)
    symbols, log_probs = TritonEngine(model, 2, weights="bfloat16").run(uniforms(2, 12), SamplingOptions())
    silence = torch.full((2, 1), model.distribution.silence, device=DEVICE)
    with torch.no_grad():
        parameters, _ = model.advance(torch.cat([silence, symbols[:, :-1]], dim=1), model.initial_state(2))
    exact = model.distribution.log_prob(parameters, symbols)
    torch.testing.assert_close(log_probs, exact, atol=0.05, rtol=0.01)
    assert not torch.equal(log_probs, exact)


@on_device
def test_it_generates_by_name() -> None:
    model = tiny()
    audio = generate(model, 12, engine=EngineOptions("triton"), seed=3)
    assert torch.equal(audio, generate(model, 12, engine="incremental", seed=3))


@on_device
def test_filters_are_refused() -> None:
    engine = TritonEngine(tiny(), 1, weights="float32")
    for options in (SamplingOptions(top_k=9), SamplingOptions(top_p=0.5)):
        with pytest.raises(
            ValueError, match=r"top_. is .*; the triton engine has no filters; use engine='incremental'"
        ):
            engine.run(uniforms(1, 5), options)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"distribution": LogisticMixture()}, "it samples up to 256 classes, not LogisticMixture"),
        ({"distribution": Categorical(classes=512)}, "it samples up to 256 classes"),
        ({"residual_channels": 129}, "residual_channels is 129, and it has room for 128"),
    ],
    ids=str,
)
def test_models_that_it_cannot_run_are_refused_in_one_line(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=f"the triton engine cannot run this model: {reason}"):
        TritonEngine(small_model(**changes).float(), 1)


@pytest.mark.skipif(INTERPRETED or not HAS_TRITON, reason="the interpreter runs it on the CPU")
def test_a_device_or_precision_that_it_does_not_run_on_is_named() -> None:
    with pytest.raises(ValueError, match=r"on a CUDA device, and the model is on cpu; use model.to\('cuda'\)"):
        make_engine("triton", small_model().float(), 1)
    with pytest.raises(ValueError, match=r"the model is in torch.float64; use model.float\(\)"):
        make_engine("triton", small_model(), 1)


def test_a_missing_triton_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="triton is not installed; install it with `pip install triton`"):
        make_engine("triton", small_model().float(), 1)


def test_weights_and_threads_that_it_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="weights is 'int8'; expected float32 or bfloat16 for the triton engine"):
        EngineOptions("triton", weights="int8")
    with pytest.raises(ValueError, match="threads is 2; only the native engine has a choice, and this is 'triton'"):
        EngineOptions("triton", threads=2)


def test_importing_the_package_does_not_import_triton() -> None:
    program = "import sys, wavenet.engines; sys.exit('wavenet.engines.triton.kernel' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
