"""What a GPU computes is what the CPU computes. All of it is skipped without a GPU; `make gpu` runs it on one.

TF32 is off here: its products have 11 bits of mantissa, and the comparisons are of float32.
"""

import copy
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import conditioning_of, kind_name, model_of_kind, small_config, tone
from tests.test_acoustic import HOP, SAID, telling
from tests.test_training import Watcher
from wavenet import SamplingOptions, TensorClip, TrainConfig, Trainer, WaveNet, evaluate, generate, stream
from wavenet.data import PreparedDataset
from wavenet.engines import EngineOptions, make_engine
from wavenet.evaluation import condition_on, copy_clips, score_symbols
from wavenet.generation import FeatureStream, Stream, StreamState
from wavenet.network import (
    Categorical,
    ConditioningConfig,
    GaussianMixture,
    LogisticMixture,
    LogMelConfig,
    PredictionConfig,
)
from wavenet.training import Listener, load_checkpoint, train

OURS_NOT = (
    ".torch.jit.script_method. is deprecated",
    "Attempting to run cuBLAS",  # the first product in autograd's own thread
    "Please use the new API settings to control TF32",  # torch's compiler reads the old ones
    "TensorFloat32 tensor cores .* available but not enabled",
    "Torchinductor does not support code generation for complex operators",
    "Online softmax is disabled on the fly",
    "Dynamo detected a call to a `functools.lru_cache`",
    "The .grad attribute of a Tensor that is not a leaf",  # after a break in the graph, which the predictor makes
    "Logical operators 'and' and 'or' are deprecated",  # Triton, of torch's own kernels
)
"""Warnings of torch about itself."""

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch.cuda.is_available() is false"),
    *(pytest.mark.filterwarnings(f"ignore:{message}") for message in OURS_NOT),
]

WIDE = {"features": LogMelConfig(bins=12, hop=HOP, window=256)}
MODELS: dict[str, dict[str, object]] = {
    "categorical": {},
    "speakers": {"speakers": ("ann", "bob"), "speaker_channels": 3},
    "logistic": {"distribution": LogisticMixture()},
    "gaussian": {"distribution": GaussianMixture()},
    "past": {"prediction": PredictionConfig(source="past", order=4, block=7, window=20)},
    "transposed": {**WIDE, "conditioning": ConditioningConfig(channels=3, context_channels=4, scales=(10, 10))},
    "interpolation": {
        **WIDE,
        "conditioning": ConditioningConfig(
            channels=3, context_channels=4, context_frames=1, upsampler="interpolation", scales=(10, 10)
        ),
    },
    "frames": {
        **WIDE,
        "conditioning": ConditioningConfig(projection="frames", channels=8, context_channels=8),
        "distribution": LogisticMixture(),
        "prediction": PredictionConfig(source="features", order=8, block=50),
    },
    "acoustic": {},
}
"""Each kind of model by what it adds; `acoustic` is the one of test_acoustic.py, which adds most."""


def fresh(name: str) -> WaveNet:
    """Its outputs depend on what comes before: those of a fresh mixture do not."""
    torch.manual_seed(0)
    model = telling() if name == "acoustic" else WaveNet(small_config(**MODELS[name]))
    with torch.no_grad():
        model.output.weight.add_(torch.randn(model.output.weight.shape), alpha=0.02)
    return model


def clips(name: str) -> tuple[TensorClip, ...]:
    """Of 0.3 s; the acoustic model's clips say something."""
    made = []
    for seed in range(4):
        labels = {"speaker": ("ann", "bob")[seed % 2]}
        made.append(TensorClip(torch.from_numpy(tone(0.3, seed=seed)), 16000, f"clip {seed}", labels))
        if name == "acoustic":
            object.__setattr__(made[-1], "timed_labels", SAID)
    return tuple(made)


SETTINGS = TrainConfig(
    steps=20, batch_size=4, window=400, log_every=1, precision="float32", compile="off", evaluation_seconds=0.6
)


def trainer(name: str, device: str, **changes: object) -> Trainer:
    found = clips(name)
    return Trainer(fresh(name), found[1:], found[:1], replace(SETTINGS, **changes), device=device)


@pytest.fixture(autouse=True)
def _float32() -> Iterator[None]:
    """Switch TF32 off, in convolutions too, where torch has it on."""
    with warnings.catch_warnings(action="ignore"):  # of a newer way to say it, which does not mix with this one
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.cuda.empty_cache()


def losses(one: Trainer, steps: int) -> list[float]:
    return [one.step() for _ in range(steps)]


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_the_cpu(name: str) -> None:
    """Sums of some thousand float32 terms in another order: off by 1e-4 at most, and by more where terms cancel."""
    found: list[tuple[float, dict[str, Tensor]]] = []
    for device in ("cpu", "cuda"):
        one = trainer(name, device)
        loss = one.batch_loss(one.sampler.batch(0))
        assert loss.device.type == device
        loss.backward()
        named = one.model.named_parameters()
        gradients = {key: parameter.grad.cpu() for key, parameter in named if parameter.grad is not None}
        found.append((float(loss.detach()), gradients))
    (expected, on_cpu), (loss, on_gpu) = found
    assert loss == pytest.approx(expected, rel=1e-4)
    assert on_cpu.keys() == on_gpu.keys()
    for key, gradient in on_cpu.items():
        largest = max(float(gradient.abs().max()), 1e-4)
        torch.testing.assert_close(
            on_gpu[key], gradient, atol=5e-3 * largest, rtol=1e-3, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("name", ["categorical", "frames"])
def test_bfloat16_stays_near_float32(name: str) -> None:
    """bfloat16 has 8 bits of mantissa, so an activation is off by 0.4%; the loss, some 10 bits, by less than 1%.

    The first loss may be the same, because it hardly depends on the products of a fresh model.
    """
    exact, rounded = losses(trainer(name, "cuda"), 5), losses(trainer(name, "cuda", precision="bfloat16"), 5)
    assert rounded == pytest.approx(exact, rel=0.01)
    assert rounded != exact, "autocast does nothing"


@pytest.mark.parametrize("name", ["categorical", "frames"])
def test_compiled_steps_are_the_eager_ones(name: str) -> None:
    """The same float32 sums, fused: 1e-3 bits after some steps, as between other orders of a sum."""
    notes: list[str] = []
    compiled = trainer(name, "cuda", compile="on")
    compiled.observer.note = notes.append  # type: ignore[method-assign]
    found = losses(compiled, 5)
    assert not notes, "the compiler works here"
    assert found == pytest.approx(losses(trainer(name, "cuda"), 5), abs=1e-3)


@pytest.mark.parametrize("name", ["categorical", "transposed", "frames"])
def test_a_run_takes_the_steps_that_it_takes_on_the_cpu(name: str) -> None:
    """Rounding grows from step to step: 1e-5 of the loss at the first, 1e-3 at the twentieth."""
    expected, found = (losses(trainer(name, device), 20) for device in ("cpu", "cuda"))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found == pytest.approx(expected, rel=1e-3)
    assert expected[-1] != expected[0]


@pytest.mark.parametrize(("name", "tolerance"), [("categorical", 0.0), ("transposed", 1e-3), ("frames", 1e-3)])
def test_a_resumed_run_goes_on_as_the_uninterrupted_one(name: str, tolerance: float, tmp_path: Path) -> None:
    """To the bit, where no kernel adds in an order of its own (atomics); convolutions of features may have such."""
    whole = trainer(name, "cuda", checkpoint_every=5)
    assert train(whole, tmp_path / "whole")
    broken = trainer(name, "cuda", checkpoint_every=5)
    assert not train(broken, tmp_path / "broken", stop=lambda: broken.progress.step == 7)
    state = load_checkpoint(tmp_path / "broken")
    assert state is not None
    assert all(not tensor.is_cuda for tensor in state["model"].values()), "it can be read without a GPU"
    assert train(trainer(name, "cuda", checkpoint_every=5), tmp_path / "broken", resume=True)
    expected, found = (metrics(tmp_path / run) for run in ("whole", "broken"))
    assert expected.keys() == found.keys()
    assert len(expected) == 22, "20 losses, and two evaluations"
    assert found == pytest.approx(expected, abs=tolerance, rel=0)
    on_cpu = trainer(name, "cpu", checkpoint_every=5)
    on_cpu.restore(state)
    assert on_cpu.step() == pytest.approx(expected["train_bits", 8], abs=1e-2), "the CPU goes on from it too"


def metrics(run: Path) -> dict[tuple[str, float], float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {(key, line["step"]): line[key] for line in lines for key in ("train_bits", "held_out_bits") if key in line}


RECIPE = """
[model]
dilations = [1, 2, 4]
residual_channels = 6
gate_channels = 10
skip_channels = 7
head_channels = 9
[train]
steps = 1000000
window = 200
log_every = 5
evaluation_seconds = 0.2
compile = "off"
audio = true
audio_seconds = 0.1
"""


@pytest.fixture
def recipe_file(speech_folder: Path, prepare: Callable[..., PreparedDataset], tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(f'dataset = "{prepare(speech_folder).path}"\nrun = "{tmp_path / "run"}"\n{RECIPE}')
    return path


def command(*words: object, **environment: str) -> subprocess.Popen[str]:
    root = Path(__file__).parent.parent
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def test_ctrl_c_leaves_a_run_that_goes_on(recipe_file: Path, tmp_path: Path) -> None:
    running = command("-m", "wavenet", "train", recipe_file)
    lines, until = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 60
    while running.poll() is None and time.monotonic() < until:
        if lines.exists() and lines.read_text().count("train_bits") >= 3:
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, f"{out}\n{err}"
    assert "training on cuda, in bfloat16" in out
    assert "the same command with --resume continues" in err
    state = load_checkpoint(tmp_path / "run")
    assert state is not None
    reached = state["progress"]["step"]
    again = command("-m", "wavenet", "train", recipe_file, "--resume")
    until = time.monotonic() + 60
    said = ""
    assert again.stdout is not None
    while "resumed" not in said and again.poll() is None and time.monotonic() < until:
        said += again.stdout.readline()
    again.send_signal(signal.SIGINT)
    _, err = again.communicate(timeout=60)
    assert again.returncode == 130, err
    assert f"resumed at step {reached}" in said
    assert reached >= 15


@pytest.mark.skipif(torch.cuda.device_count() != 1, reason="on several cards two processes train together")
def test_two_processes_on_one_card_are_refused_in_a_line(recipe_file: Path) -> None:
    """NCCL does not take a card twice."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    both = command(*torchrun, "-m", "wavenet", "train", recipe_file)
    _, err = both.communicate(timeout=120)
    assert both.returncode != 0
    errors = [line for line in err.splitlines() if line.startswith("wavenet: error")]
    assert any("rank 1 has no GPU: it is process 2 on a machine with 1" in line for line in errors), err


def test_nccl_gathers_and_sums(tmp_path: Path) -> None:
    """One rank, since there may be one card: the collectives of a run, and its objective in two wrappers."""
    script = tmp_path / "one_rank.py"
    script.write_text(
        "import torch\nfrom torch import distributed\n"
        "from torch.nn.parallel import DistributedDataParallel\n"
        "from tests.test_cuda import trainer\nfrom wavenet.training import Processes\n"
        "torch.cuda.set_device(0)\ndistributed.init_process_group('nccl')\n"
        "ranks = Processes(0, 2)\n"  # so that it talks; the group has one rank
        "assert float(ranks.total(torch.tensor(3.0, device='cuda'))) == 3\n"
        "one, other = trainer('categorical', 'cuda'), trainer('categorical', 'cuda')\n"
        "other.__dict__['objective'] = DistributedDataParallel(other.objective)\n"
        "losses = [[each.step() for _ in range(3)] for each in (one, other)]\n"
        "assert max(abs(a - b) for a, b in zip(*losses)) < 1e-4, losses\n"
        "objects = [None]\ndistributed.all_gather_object(objects, one.fingerprint)\n"
        "assert objects == [one.fingerprint]\n"
        "distributed.destroy_process_group()\nprint('agreed')\n"
    )
    group = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(_free_port())}
    out, err = command(script, **group).communicate(timeout=120)
    assert "agreed" in out, err


def _free_port() -> int:
    import socket

    with socket.create_server(("localhost", 0)) as server:
        return int(server.getsockname()[1])


ON_DEVICE = [
    (Categorical(), True, False, None, "transposed"),
    (Categorical(), True, True, "features", "transposed"),
    (Categorical(), False, True, "past", "interpolation"),
    (GaussianMixture(components=2, levels=4096), True, True, "features", "frames"),
    (LogisticMixture(), False, False, "past", "transposed"),
]


@pytest.mark.parametrize("engine", ["incremental", "stepwise", "naive"])
@pytest.mark.parametrize("kind", ON_DEVICE, ids=kind_name)
def test_engines_give_the_classes_that_they_give_on_the_cpu(kind: tuple[object, ...], engine: str) -> None:
    """In float64, where no uniform falls between two roundings of a boundary; a stream equals its row of a batch."""
    model = model_of_kind(kind, pre_emphasis=0.5)
    samples = 24 if engine == "naive" else 60
    prime = torch.from_numpy(tone(0.002)).double()
    found = []
    for device in ("cpu", "cuda"):
        model = model.to(device)
        one = Stream(model, conditioning_of(model), SamplingOptions(top_p=0.95), batch=2, seed=3, engine=engine)
        one.prime(model.encode(prime.expand(2, -1).to(device)))
        made = one.take(samples)
        assert made.audio.device.type == device
        found.append(made)
    torch.testing.assert_close(found[1].audio.cpu(), found[0].audio, atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1].log_probs.cpu(), found[0].log_probs, atol=1e-7, rtol=1e-7)


def test_float32_gives_the_same_classes_too() -> None:
    """256 classes: a uniform falls between the two roundings of a boundary once in 100,000 samples or so."""
    model = fresh("speakers").eval()
    settings = {"batch": 2, "speaker": ["ann", "bob"], "seed": 5}
    expected = generate(model, 300, engine="incremental", **settings)
    for engine in ("auto", "incremental", "stepwise"):
        found = generate(model.cuda(), 300, engine=engine, **settings)
        torch.testing.assert_close(found.cpu(), expected, atol=1e-6, rtol=0)


def test_auto_takes_an_engine_of_the_device_and_native_is_refused() -> None:
    model = fresh("categorical").eval().cuda()
    chosen, reason = EngineOptions().resolved(model)
    assert chosen.name != "native"
    assert reason is not None
    assert "the model is in torch.float32 on cuda:0" in reason
    assert make_engine("auto", model, 1).name == chosen.name
    for asked in ("native", EngineOptions(weights="int8")):
        with pytest.raises(ValueError, match=r"the native engine cannot run this model: it computes .* on the CPU"):
            generate(model, 10, engine=asked)
    with pytest.raises(ValueError, match="the native engine cannot run this model"):
        score_symbols(model, torch.zeros(1, 5, dtype=torch.long, device="cuda"), weights="int8")


VOCODER = (Categorical(), True, True, "features", "transposed")


@pytest.mark.parametrize("engine", ["incremental", "stepwise"])
@pytest.mark.parametrize("place", ["cuda", "cpu"])
def test_a_stream_of_features_pauses_and_goes_on(engine: str, place: str, tmp_path: Path) -> None:
    """It goes on on the GPU, or in a model on the CPU. Frames may come from the CPU."""
    model = model_of_kind(VOCODER, pre_emphasis=0.5).cuda()
    frames = torch.randn(5, 14, generator=torch.Generator().manual_seed(2)) - 3
    whole = generate(model, features=frames, speaker="bob", seed=9, engine=engine)[0]
    chunks = stream(model, features=iter(frames.split(3, dim=1)), speaker="bob", seed=9, engine=engine)
    torch.testing.assert_close(torch.cat(list(chunks)), whole, atol=1e-6, rtol=0)
    first = FeatureStream(model, speaker="bob", seed=9, engine=engine)
    made = [first.push(frames[:, :1]), first.push(frames[:, :0]), first.push(frames[:, 1:6].cuda())]
    first.state().save(tmp_path / "state.safetensors")
    other = FeatureStream(copy.deepcopy(model).to(place), speaker="bob", engine=engine)
    other.load(StreamState.load(tmp_path / "state.safetensors"))
    made += [piece.cuda() for piece in (other.push(frames[:, 6:]), other.finish())]
    torch.testing.assert_close(torch.cat(made), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("engine", ["incremental", "stepwise"])
def test_a_stream_pauses_and_goes_on(engine: str) -> None:
    model = model_of_kind((Categorical(), True, False, "past", "transposed")).cuda()
    streams = [Stream(model, model.condition(2, speaker="eve"), batch=2, seed=1, engine=engine) for _ in range(2)]
    whole = streams[0].take(80)
    first = streams[1].take(33)
    other = Stream(model, model.condition(2, speaker="eve"), batch=2, seed=7, engine=engine)
    other.load(streams[1].state())
    rest = other.take(47)
    torch.testing.assert_close(torch.cat([first.audio, rest.audio], dim=1), whole.audio, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["speakers", "frames", "acoustic"])
def test_held_out_scores_are_those_of_the_cpu(name: str) -> None:
    model, found = fresh(name).eval(), clips(name)
    expected = evaluate(model, found)
    scores = evaluate(model.cuda(), found)
    for speaker, score in expected.items():
        assert scores[speaker].bits == pytest.approx(score.bits, rel=1e-5)
        assert scores[speaker].mu_law_bits == pytest.approx(score.mu_law_bits, rel=1e-4)
        assert scores[speaker].accuracy == pytest.approx(score.accuracy, abs=0.01)


def test_features_and_copies_are_made_on_the_device() -> None:
    model, clip = fresh("acoustic").eval(), clips("acoustic")[0]
    waveform = clip.read()
    assert model.log_mel is not None
    expected = model.log_mel(waveform[None])
    said = model.features_of(SAID, speaker="ann")
    model = model.cuda()
    torch.testing.assert_close(model.log_mel(waveform[None].cuda()).cpu(), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(model.features_of(SAID, speaker="ann").cpu(), said, atol=1e-4, rtol=0)
    conditioning = condition_on(model, clip, waveform.cuda(), {"speaker": "ann"})
    assert conditioning.features is not None
    assert conditioning.features.is_cuda
    short = replace(clip, waveform=waveform[:400])
    object.__setattr__(short, "timed_labels", SAID)
    (copies,) = copy_clips(model, [short], SamplingOptions())
    assert {audio.device.type for audio in copies.audio.values()} == {"cpu"}


def test_audio_of_a_run_is_made_beside_it_on_the_cpu() -> None:
    heard: list[Tensor] = []
    one = trainer("frames", "cuda")
    listener = Listener(0.1, [lambda step, audio, rate: heard.append(audio)])
    with warnings.catch_warnings(action="ignore"):  # without the native engine `auto` says so
        listener.evaluated(0, one.average, one.example())
        losses(one, 3)
        listener.close(wait=True)
    assert heard[0].device.type == "cpu"
    assert one.average.device.type == "cuda"


def test_a_batch_that_does_not_fit_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"40960000 windows of 400 samples at a time do not fit: .* lower batch_size"):
        trainer("categorical", "cuda", batch_size=4096 * 10000)
    assert Trainer(fresh("categorical"), clips(""), clips(""), SETTINGS, observer=Watcher()).device.type == "cuda"
