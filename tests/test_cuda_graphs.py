"""Steps over the buffers of a CUDA graph give what single steps give: uncaptured on the CPU, captured on a GPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.conftest import KINDS, conditioning_of, kind_name, model_of_kind, small_model
from wavenet import WaveNet
from wavenet.benchmark import measure_gpu
from wavenet.engines import IncrementalEngine
from wavenet.network import Conditioning, SamplingOptions


def on_cuda(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs a GPU."""
    skipped = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    return pytest.mark.cuda(skipped(test))


RUNS = [
    (1, {}),
    (21, {}),
    (30, {"temperature": 0.7, "top_k": 2}),
    (16, {"top_p": 0.8}),
    (13, {"temperature": 0.0}),
    (24, {}),
]
"""Lengths below, at and over multiples of a graph's steps, and options that need graphs of their own."""


def generated(engine: IncrementalEngine) -> tuple[Tensor, Tensor]:
    """Symbols and log-probabilities of all `RUNS`, with a state saved and restored, and a prime, between them."""
    model, generator, results = engine.model, torch.Generator().manual_seed(1), []
    for length, options in RUNS:
        before = engine.state()
        uniforms = torch.rand(2, length, generator=generator).to(model.device)
        results.append(engine.run(uniforms, SamplingOptions(**options)))
        if length == 21:
            engine.load(before)
            assert torch.equal(engine.run(uniforms, SamplingOptions())[0], results[-1][0])
        if length == 13:
            engine.prime(model.encode(torch.rand(2, 11, generator=generator).to(model.device) - 0.5))
    symbols, log_probs = zip(*results, strict=True)
    return torch.cat(symbols, dim=1).cpu(), torch.cat(log_probs, dim=1).cpu()


def moved(model: WaveNet, conditioning: Conditioning) -> tuple[WaveNet, Conditioning]:
    """The model and its conditioning on the GPU."""
    parts = {"labels": conditioning.labels, "features": conditioning.features}
    on_gpu = {name: None if part is None else part.cuda() for name, part in parts.items()}
    return model.cuda(), Conditioning(**on_gpu, silence=conditioning.silence)


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_steps_over_buffers_equal_single_steps(kind: tuple[object, ...]) -> None:
    model = model_of_kind(kind)
    conditioning = conditioning_of(model)
    engines = (IncrementalEngine(model, 2, conditioning, captured=captured) for captured in (False, True))
    (single, single_log_probs), (buffered, log_probs) = map(generated, engines)
    assert torch.equal(buffered, single)
    torch.testing.assert_close(log_probs, single_log_probs)
    assert len(single.unique()) > 12, "a test on a stuck signal would prove nothing"


def test_two_engines_over_buffers_do_not_disturb_each_other() -> None:
    check_two_engines(small_model())


@on_cuda
@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_captured_equals_uncaptured_and_the_cpu(kind: tuple[object, ...]) -> None:
    model = model_of_kind(kind)
    conditioning = conditioning_of(model)
    expected, expected_log_probs = generated(IncrementalEngine(model, 2, conditioning))
    model, conditioning = moved(model, conditioning)
    for captured in (False, None):
        symbols, log_probs = generated(IncrementalEngine(model, 2, conditioning, captured=captured))
        assert torch.equal(symbols, expected)
        torch.testing.assert_close(log_probs, expected_log_probs, rtol=1e-6, atol=1e-6)


@on_cuda
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[0].symbols == 256 and not kind[3]], ids=kind_name)
def test_captured_equals_the_cpu_in_float32(kind: tuple[object, ...]) -> None:
    """Float32 rounding moves a 16-bit sample by a step, or a linear prediction to the next class, now and then."""
    assert not torch.backends.cuda.matmul.allow_tf32
    model = model_of_kind(kind).float()
    conditioning = conditioning_of(model)
    uniforms = torch.rand(2, 45, generator=torch.Generator().manual_seed(3))
    expected, _ = IncrementalEngine(model, 2, conditioning).run(uniforms, SamplingOptions())
    model, conditioning = moved(model, conditioning)
    symbols, _ = IncrementalEngine(model, 2, conditioning).run(uniforms.cuda(), SamplingOptions())
    assert torch.equal(symbols.cpu(), expected)


@on_cuda
def test_two_captured_engines_do_not_disturb_each_other() -> None:
    check_two_engines(small_model().cuda())


@on_cuda
@pytest.mark.parametrize("batch", [1, 4096])
def test_captured_equals_uncaptured_for_small_and_large_batches(batch: int) -> None:
    model = small_model().cuda()
    uniforms = torch.rand(batch, 50, generator=torch.Generator().manual_seed(3)).cuda()
    engines = (IncrementalEngine(model, batch, captured=captured) for captured in (False, None))
    (single, _), (replayed, _) = (engine.run(uniforms, SamplingOptions()) for engine in engines)
    assert torch.equal(replayed, single)


@on_cuda
def test_the_gpu_is_measured() -> None:
    rows = measure_gpu(small_model().float(), [1, 3], seconds=0.05, rounds=1)
    cases = [(row.case.engine, row.case.batch) for row in rows]
    assert cases == [("incremental", 1), ("incremental", 3), ("triton", 1), ("triton", 3)]
    assert all(row.rate > 0 for row in rows)


def check_two_engines(model: WaveNet) -> None:
    uniforms = torch.rand(2, 40, generator=torch.Generator().manual_seed(2)).to(model.device)
    options = SamplingOptions(), SamplingOptions(temperature=0.5)
    alone = [IncrementalEngine(model, 2, captured=True).run(uniforms, option)[0] for option in options]
    engines = [IncrementalEngine(model, 2, captured=True) for _ in options]
    turns = [
        [engine.run(piece, option)[0] for engine, option in zip(engines, options, strict=True)]
        for piece in uniforms.split(20, dim=1)
    ]
    for expected, pieces in zip(alone, zip(*turns, strict=True), strict=True):
        assert torch.equal(torch.cat(pieces, dim=1), expected)
