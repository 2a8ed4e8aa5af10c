"""The engine of a page computes what the native engine does with int8 weights, and what torch does around it."""

import base64
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import int8_twin
from tests.conftest import KINDS, kind_name, model_of_kind, needs_native, small_model
from tests.wasm_page import ENGINE, WasmPage
from wavenet import EngineOptions, WaveNet, generate
from wavenet.network import Categorical, ConditioningConfig, LogMel, LogMelConfig, TimedLabel, TimedLabelsConfig
from wavenet.page import packing
from wavenet.page.packing import packing_refusal

ROOT = Path(__file__).parents[1]
INT8 = EngineOptions("native", weights="int8")
BY_FRAME = ConditioningConfig(projection="frames", channels=3, context_channels=4)


def noise(samples: int, seed: int = 3) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@needs_native
@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_from_the_same_features_the_page_makes_the_native_engines_samples(kind: tuple[object, ...]) -> None:
    # Its float32 conditioning is summed in another order; rounding to bytes hides that in all but a few samples.
    model = model_of_kind(kind).float()
    page, told, choice = WasmPage(model), {}, 0
    if model.config.features is not None:
        told["features"] = page.copy(noise(600))
    if model.config.speakers:
        told["speaker"], choice = "bob", 1
    made = page.speak(300, 7, 293, choice=choice, seed=2**31 + 5, temperature=0.9)
    expected = generate(model, 600, seed=2**31 + 5, temperature=0.9, engine=INT8, **told)[0]
    exact = model.config.features is None
    assert torch.equal(made[: 600 if exact else 100], expected[: 600 if exact else 100])


def test_weights_are_rounded_to_bytes_as_the_native_engine_rounds_them() -> None:
    matrix, writer = torch.randn(60000, 64, generator=torch.Generator().manual_seed(0)), packing._Writer()
    writer.rounded(matrix)
    numbers = np.frombuffer(writer.data[-matrix.numel() :], "<i1").reshape(matrix.shape)
    assert np.array_equal(numbers, int8_twin.rounded(matrix).numbers.numpy())


@needs_native
def test_the_beginning_of_the_shipped_babblers_is_the_same() -> None:
    for name, told, choice in (("prompts", {}, 0), ("speakers", {"speaker": "fr"}, 2)):
        model = WaveNet.from_pretrained(name)
        expected = generate(model, 4000, seed=7, engine=INT8, **told)[0]
        assert torch.equal(WasmPage(model).speak(4000, choice=choice, seed=7), expected), name


@needs_native
def test_labels_of_several_kinds_pre_emphasis_and_a_wider_kernel() -> None:
    labels = {"word": ("yes", "no"), "mood": ("glad", "sad", "so")}
    model = small_model(labels=labels, speaker_channels=3, kernel_size=3, pre_emphasis=0.7).float()
    page = WasmPage(model)
    for choice, (word, mood) in enumerate((word, mood) for word in labels["word"] for mood in labels["mood"]):
        expected = generate(model, 200, labels={"word": word, "mood": mood}, seed=1, engine=INT8)[0]
        assert torch.equal(page.speak(200, choice=choice, seed=1), expected), (word, mood)


def test_a_clip_does_not_depend_on_its_pieces_nor_on_the_clip_before() -> None:
    page = WasmPage(WaveNet.from_pretrained("digits"))
    page.say([(0.0, 0.3, 4)], 2)
    whole = page.speak(1200, choice=2, seed=3)
    assert torch.equal(page.speak(*[1] * 99, 1101, choice=2, seed=3), whole)
    assert not torch.equal(page.speak(1200, choice=2, seed=4), whole)


def digits_apart(seed: int) -> torch.Tensor:
    """How far 300 samples of `digits` in a page are from those of the native engine."""
    model = WaveNet.from_pretrained("digits")
    page = WasmPage(model)
    told = {"speaker": "theo", "features": page.say([(0.0, 0.4, 8), (0.4, 0.7, 2)], 4)}
    expected = generate(model, 300, seed=seed, engine=INT8, **told)[0]
    return (page.speak(300, choice=4, seed=seed) - expected).abs()


@needs_native
def test_digits_are_the_same_if_torch_sums_their_conditioning_with_avx2() -> None:
    program = "from tests.test_page_engine import digits_apart; print(float(digits_apart(2).max()))"
    environment = {**os.environ, "MKL_ENABLE_INSTRUCTIONS": "AVX2"}  # read when the process starts
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "0.0", done.stderr


@needs_native
@pytest.mark.parametrize("seed", [2, 4])
def test_digits_are_the_same_until_a_byte_is_rounded_otherwise(seed: int) -> None:
    """With AVX-512 torch's sums differ in rounding. What differs first is off by 33 of 65,536 levels at most."""
    apart = digits_apart(seed)
    assert float(apart[apart > 0][:1].sum()) < 0.001
    assert float(apart[:5].max()) == 0


@needs_native
def test_a_vocoder_differs_at_first_by_a_few_of_its_65536_levels() -> None:
    model = WaveNet.from_pretrained("vocoder")
    page = WasmPage(model)
    features = page.copy(noise(8000) * torch.linspace(0, 1, 8000))
    expected = generate(model, 50, seed=2, engine=INT8, features=features)[0]
    assert float((page.speak(50, seed=2) - expected).abs().max()) < 0.001


CONVENTIONS = (
    {},
    {"spectrum": "magnitude", "logarithm": "log10", "scale": "slaney", "area_norm": True, "floor": 1e-5},
    {"logarithm": "decibels", "centred": False, "window": 100, "low_hertz": 300.0, "high_hertz": 5000.0},
)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=["its own", "magnitudes", "decibels"])
def test_log_mel_features_are_those_of_torch(convention: dict[str, object]) -> None:
    config = LogMelConfig(**{"bins": 20, "hop": 50, "window": 128, **convention})
    model, waveform = small_model(features=config, conditioning=BY_FRAME).float(), noise(1234)
    expected = LogMel(config, model.config.sample_rate)(waveform[None])[0]
    torch.testing.assert_close(WasmPage(model).copy(waveform), expected, atol=2e-4 / config.natural, rtol=0)


SAID = (
    [(0.0, 0.05, 1)],
    [(0.0, 0.02, 0), (0.02, 0.05, 2), (0.05, 0.07, 0), (0.07, 0.1, 0), (0.1, 0.16, 1), (0.16, 0.2, 0)],
    [(0.0, 0.04, 0)],
)


@pytest.mark.parametrize("said", SAID, ids=["one", "pauses", "nothing"])
def test_timed_labels_make_the_features_that_the_acoustic_model_makes(said: list[tuple[float, float, int]]) -> None:
    names = ("go", "stop")
    model = small_model(
        features=LogMelConfig(bins=5, hop=12, window=64),
        conditioning=BY_FRAME,
        timed_labels=TimedLabelsConfig(names=names, channels=3, hidden_channels=8),
        speakers=("ann", "bob"),
        speaker_channels=2,
    ).float()
    labels = [TimedLabel(start, end, names[name - 1] if name else "") for start, end, name in said]
    expected = model.features_of(labels, speaker="bob")
    torch.testing.assert_close(WasmPage(model).say(said, 1), expected, atol=1e-4, rtol=1e-5)


def test_columns_show_the_spectrum_of_every_ten_milliseconds() -> None:
    model = small_model(sample_rate=8000).float()
    page = WasmPage(model)
    made = page.speak(800)
    columns = page.columns()
    assert columns.shape == (10, 128)
    power = torch.fft.rfft(made[-256:] * torch.hann_window(256)).abs().square()
    bands = power[:128].clamp(min=1e-12) / (0.0625 * 256**2)
    expected = ((10 * (bands + 1e-12).log10() + 90) * 255 / 90).clamp(0, 255)
    torch.testing.assert_close(columns[-1].float(), expected, atol=1.5, rtol=0)


def test_the_engine_is_built_from_these_sources() -> None:
    listed = dict(reversed(line.split()) for line in (ENGINE.parent / "engine.sha256").read_text("utf-8").splitlines())
    sources = [*(ROOT / "wavenet/page").glob("*.[hc]*"), *(ROOT / "wavenet/engines/native").glob("*.h")]
    sources = [path for path in sources if path.suffix in (".h", ".cpp")]
    assert {str(path.relative_to(ROOT)) for path in sources} <= set(listed)
    for path, digest in listed.items():
        found = hashlib.sha256((ROOT / path).read_bytes()).hexdigest()
        assert found == digest, f"{path} changed since the engine was built: run make page"


def test_the_page_of_the_samples_is_made_of_these_files() -> None:
    page = (ROOT / "samples" / "speak.html").read_text("utf-8")
    assert base64.b64encode(ENGINE.read_bytes()).decode() in page, "run make page"
    for path in [*ENGINE.parent.glob("*.js"), *ENGINE.parent.glob("*.css")]:
        assert path.read_text("utf-8") in page, f"{path.name} changed since the page was made: run make page"


def emscripten() -> str:
    """The first line of `emcc --version`; other versions give other bytes."""
    if shutil.which("emcc") is None:
        return ""
    return subprocess.run(["emcc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


@pytest.mark.skipif("3.1.6 " not in emscripten(), reason="emscripten 3.1.6 is not installed")
def test_the_sources_give_the_engine_to_the_byte(tmp_path: Path) -> None:
    commands = subprocess.run(["make", "-n", "page"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    build = commands[commands.index("emcc") :].split(" -o ")[0].replace("\\\n", " ")
    subprocess.run([*shlex.split(build), "-o", str(tmp_path / "engine.wasm")], cwd=ROOT, check=True)
    assert (tmp_path / "engine.wasm").read_bytes() == ENGINE.read_bytes()


def test_what_a_page_cannot_run_is_refused_by_name() -> None:
    vectors = small_model(speaker_channels=2).float()
    assert "names" in str(packing_refusal(vectors))
    many = small_model(labels={"a": tuple(map(str, range(40))), "b": tuple(map(str, range(40)))}, speaker_channels=2)
    assert "1600" in str(packing_refusal(many.float()))

    class Louder(Categorical):
        pass

    assert "distribution" in str(packing_refusal(small_model(distribution=Louder())))
    for given in (small_model(), small_model().half(), small_model().bfloat16()):
        assert str(given.output.weight.dtype) in str(packing_refusal(given))
    assert packing_refusal(small_model().float()) is None
