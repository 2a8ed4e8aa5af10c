"""The command as a user meets it: what it writes, what it says, its exit status."""

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from tests.conftest import needs_native, small_config, tone
from wavenet import WaveNet
from wavenet.data import PreparedDataset, read_audio
from wavenet.network import (
    ConditioningConfig,
    GaussianMixture,
    LogMelConfig,
    PredictionConfig,
)
from wavenet.network.model_file import read_model_file, write_model_file

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-c", "from wavenet.cli import main; main()"]


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    WaveNet(small_config()).save_pretrained(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def dataset(wavenet, speech_folder: Path, tmp_path: Path) -> Path:
    result = wavenet("prepare", speech_folder, tmp_path / "dataset", "--speakers", "--held-out", 0.3)
    assert result.status == 0, result.err
    return tmp_path / "dataset"


@pytest.fixture
def recipe(dataset: Path, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'dataset = "{dataset}"\nrun = "{tmp_path / "run"}"\n'
        "[model]\ndilations = [1, 2, 4]\nresidual_channels = 6\ngate_channels = 10\nskip_channels = 7\n"
        "head_channels = 9\n[train]\nsteps = 6\nwindow = 200\nevaluation_seconds = 0.2\ncheckpoint_every = 2\n"
    )
    return path


def test_the_whole_path(wavenet, recipe: Path, dataset: Path, tmp_path: Path) -> None:
    trained = wavenet("train", recipe)
    assert trained.status == 0
    assert trained.out.count("bits/sample held out") == 2, "before and after"
    model = tmp_path / "run" / "model.safetensors"
    scored = wavenet("evaluate", model, dataset, "--json", "--baselines")
    values = json.loads(scored.out)
    assert 0 < values["bits"] < 9
    assert {row["speaker"] for row in values["speakers"]} == {"ann", "bob"}
    assert values["linear_prediction"] < values["unigram"] < values["uniform"] == 8
    assert wavenet("evaluate", model, dataset, "--limit", 2).out.count("\n") >= 3
    assert "bits per sample on 1 clip;" in wavenet("evaluate", model, dataset, "--limit", 1).out
    made = wavenet("generate", model, "-o", tmp_path / "out.wav", "--seconds", 0.05, "--log-probs", tmp_path / "p.npy")
    assert "800" in str(np.load(tmp_path / "p.npy").shape)
    assert "x real time" in made.out
    audio, rate = soundfile.read(tmp_path / "out.wav")
    assert (len(audio), rate) == (800, 16000)


@needs_native
def test_a_slow_native_engine_is_told_of_int8(wavenet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_file = tmp_path / "model.safetensors"
    WaveNet(small_config(sample_rate=1000)).save_pretrained(model_file)  # a second of it is soon made by any engine

    def said(seconds: float, *options: str) -> bool:
        clock = SimpleNamespace(perf_counter=iter([0.0, seconds]).__next__)
        monkeypatch.setattr(importlib.import_module("wavenet.cli.generate"), "time", clock)
        made = wavenet("generate", model_file, "-o", tmp_path / "a.wav", "--seconds", 1, "--force", *options)
        return "--weights int8 may be faster" in made.err

    assert said(1.5, "--engine", "native")
    assert not said(0.5, "--engine", "native")
    assert not said(1.5, "--engine", "native", "--weights", "float32")
    assert not said(1.5, "--engine", "incremental")


def test_count_writes_numbered_files_that_equal_their_own_seeds(wavenet, model_file: Path, tmp_path: Path) -> None:
    wavenet("generate", model_file, "-o", tmp_path / "many.wav", "--seconds", 0.01, "--count", 2, "--seed", 5)
    wavenet("generate", model_file, "-o", tmp_path / "one.wav", "--seconds", 0.01, "--seed", 6)
    assert (tmp_path / "many-2.wav").read_bytes() == (tmp_path / "one.wav").read_bytes()
    assert not (tmp_path / "many.wav").exists()


def test_each_recording_continues_its_own_prime(wavenet, model_file: Path, tmp_path: Path) -> None:
    for number, seconds in ((1, 0.2), (2, 0.1)):
        soundfile.write(tmp_path / f"prime{number}.wav", tone(seconds, hertz=100.0 * number), 16000)
    primes = [part for number in (1, 2) for part in ("--prime", tmp_path / f"prime{number}.wav")]
    for name, given in (("both", primes), ("second", primes[2:])):
        settings = ("--seconds", 0.05, "--seed", 2 if name == "second" else 1, "--engine", "incremental")
        assert wavenet("generate", model_file, "-o", tmp_path / f"{name}.wav", *given, *settings).status == 0
    first, second = (read_audio(tmp_path / f"both-{number}.wav")[0] for number in (1, 2))
    assert (len(first), len(second)) == (4000, 2400)
    assert torch.equal(second, read_audio(tmp_path / "second.wav")[0])
    again = ("generate", model_file, "-o", tmp_path / "more.wav", *primes, "--count", 3)
    wavenet(*again).fails_with("--count is 3 with 2 --prime files")


def test_prime_is_resampled_and_stands_at_the_start(wavenet, model_file: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "prime.wav", tone(0.5, rate=48000), 48000)
    output = tmp_path / "out.wav"
    prime = ("--prime", tmp_path / "prime.wav", "--prime-seconds", 0.25)
    assert wavenet("generate", model_file, "-o", output, *prime, "--seconds", 0.05).status == 0
    audio, _ = soundfile.read(output)
    assert len(audio) == 4000 + 800
    assert np.abs(audio[500:3500] - tone(0.5)[500:3500]).max() < 0.1, "only the noise differs"


@pytest.fixture
def vocoder_file(tmp_path: Path) -> Path:
    """A model with features, linear prediction and two speakers."""
    torch.manual_seed(0)
    config = small_config(
        features=LogMelConfig(bins=20, hop=100, window=256),
        conditioning=ConditioningConfig(channels=3, scales=(10, 10)),
        prediction=PredictionConfig(source="features", order=16, block=25),
        distribution=GaussianMixture(),
        speakers=("ann", "bob"),
        speaker_channels=2,
    )
    model = WaveNet(config)
    torch.nn.init.normal_(model.output.weight, std=0.1)  # at first it is zero, and the speaker makes no difference
    model.save_pretrained(tmp_path / "vocoder.safetensors")
    return tmp_path / "vocoder.safetensors"


def test_copy_synthesis_from_recordings_and_from_feature_files(wavenet, vocoder_file: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.06), 16000)
    soundfile.write(tmp_path / "b.wav", tone(0.1, rate=48000), 48000)
    say = ("generate", vocoder_file, "--speaker", "bob")
    both = ("--features-from", tmp_path / "a.wav", "--features-from", tmp_path / "b.wav")
    result = wavenet(*say, "-o", tmp_path / "copy.wav", *both)
    assert result.status == 0, result.err
    lengths = [soundfile.info(tmp_path / f"copy-{i}.wav").frames for i in (1, 2)]
    assert lengths == [960, 1600], "each as long as its recording"
    mel = torchaudio.transforms.MelSpectrogram(16000, 256, hop_length=100, n_mels=20, pad_mode="constant")
    waveform = torch.from_numpy(soundfile.read(tmp_path / "a.wav", dtype="float32")[0])
    np.save(tmp_path / "a.npy", mel(waveform).clamp(min=1e-6).log().numpy())
    assert wavenet(*say, "-o", tmp_path / "from.wav", "--features", tmp_path / "a.npy").status == 0
    made, copied = (soundfile.read(tmp_path / name)[0] for name in ("from.wav", "copy-1.wav"))
    assert len(made) == 10 * 100, "as long as its frames"
    assert np.abs(made[:960] - copied).max() < 1e-3


def test_every_error_of_conditioned_generation(wavenet, vocoder_file: Path, model_file: Path, tmp_path: Path) -> None:
    out, clip = tmp_path / "out.wav", tmp_path / "clip.wav"
    soundfile.write(clip, tone(0.05), 16000)
    np.save(tmp_path / "wrong.npy", np.zeros((21, 9), np.float32))
    np.save(tmp_path / "mel.npy", np.zeros((20, 9), np.float32))
    say, ann = ("generate", vocoder_file, "-o", out), ("--speaker", "ann")
    wavenet(*say, "--features-from", clip).fails_with("needs a speaker by name; it knows ann, bob")
    wavenet(*say, "--speaker", "zoe", "--features-from", clip).fails_with("speaker 'zoe' is unknown")
    wavenet(*say, *ann).fails_with("conditioned on features", "--features-from or --features")
    wavenet(*say, *ann, "--features", tmp_path / "wrong.npy").fails_with("(21, 9); the model needs (20, frames)")
    wavenet(*say, *ann, "--features", tmp_path / "none.npy").fails_with("none.npy: no such feature file")
    wavenet(*say, *ann, "--features-from", tmp_path / "no.wav").fails_with("no.wav: no such audio file")
    long = ("--features", tmp_path / "mel.npy", "--seconds", 1)
    wavenet(*say, *ann, *long).fails_with("9 frames of features last 0.06 s", "needs 160 frames")
    several = ("--features", tmp_path / "mel.npy", "--features-from", clip, "--count", 3)
    wavenet(*say, *ann, *several).fails_with("--count is 3 with 2 feature files")
    wavenet(*say, *ann, "--features-from", clip, "--prime", clip).fails_with("no longer than --prime")
    np.save(tmp_path / "short.npy", np.zeros((20, 1), np.float32))
    two = ("--features", tmp_path / "mel.npy", "--features", tmp_path / "short.npy", "--seconds", 0.03)
    wavenet(*say, *ann, *two).fails_with("1 frames of features last 0.01 s", "needs 5 frames")
    os.mkfifo(tmp_path / "pipe.npy")
    wavenet(*say, *ann, "--features", tmp_path / "pipe.npy").fails_with("is a folder or device")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    wavenet("generate", vocoder_file, "-o", tmp_path / "loop.wav", *ann).fails_with("loop.wav exists")
    plain = ("generate", model_file, "-o", out)
    wavenet(*plain, "--features-from", clip).fails_with("not conditioned on features")
    wavenet(*plain, "--speaker", "ann").fails_with("knows no speakers")
    assert not out.exists()


def test_copy_scores_three_systems_and_writes_audio(wavenet, vocoder_file: Path, dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    result = wavenet("copy", vocoder_file, dataset, "--limit", 2, "--json", "--audio", folder)
    assert result.status == 0, result.err
    assert "NaN" not in result.out, "JSON has none"
    rows = json.loads(result.out)["rows"]
    assert {row["speaker"] for row in rows} >= {None}, "all speakers together"
    assert {row["system"] for row in rows} == {"original", "model", "griffin_lim", "mu_law"}
    assert all({"ovrl", "plcmos", "pesq", "stoi"} <= row.keys() for row in rows)
    assert len(list(folder.rglob("*.wav"))) == 2 * 4
    table = wavenet("copy", vocoder_file, dataset, "--limit", 1).out
    assert "griffin_lim" in table
    assert "word error rate" not in table, "nothing was recognised"
    wavenet("copy", vocoder_file, dataset, "--audio", folder).fails_with("copies exists; choose another folder")


def test_ctrl_c_says_which_copies_are_kept(
    wavenet, vocoder_file: Path, dataset: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("wavenet.evaluation.measure", lambda *arguments, **named: signal.raise_signal(signal.SIGINT))
    result = wavenet("copy", vocoder_file, dataset, "--limit", 2, "--audio", tmp_path / "copies")
    assert result.status == 130
    kept = f"interrupted; {tmp_path / 'copies'} has the copies that were made, and no scores are kept"
    assert result.err.splitlines()[-1] == kept
    assert len(list((tmp_path / "copies" / "model").glob("**/*.wav"))) == 1


def test_a_recogniser_counts_word_errors(wavenet, vocoder_file: Path, speech_folder: Path, tmp_path: Path) -> None:
    for index, path in enumerate(sorted(speech_folder.rglob("*.wav"))):
        path.with_suffix(".txt").write_text("seven eight" if index % 2 else "nine", "utf-8")
    wavenet("prepare", speech_folder, tmp_path / "d", "--speakers", "--held-out", 0.5)
    copy = ("copy", vocoder_file, tmp_path / "d", "--recogniser")
    rows = json.loads(wavenet(*copy, "sh -c 'echo Seven.'", "--json").out)["rows"]
    clips = PreparedDataset(tmp_path / "d").split("test")
    expected = sum(0.5 if clip.text == "seven eight" else 1.0 for clip in clips) / len(clips)
    assert [row["wer"]["mean"] for row in rows if row["speaker"] is None] == pytest.approx([expected] * 4)
    wavenet(*copy, "no-such-recogniser").fails_with("--recogniser 'no-such-recogniser': no such command")
    wavenet(*copy, "false").fails_with("--recogniser 'false' ended with status 1 (it said nothing)")


def test_evaluation_as_another_speaker(wavenet, vocoder_file: Path, dataset: Path) -> None:
    own, as_ann = (
        json.loads(wavenet("evaluate", vocoder_file, dataset, "--json", *more).out)
        for more in ((), ("--as-speaker", "ann"))
    )
    bits = [{row["speaker"]: row["bits"] for row in found["speakers"]} for found in (own, as_ann)]
    assert bits[0]["ann"] == bits[1]["ann"]
    assert bits[0]["bob"] != bits[1]["bob"]
    only = json.loads(wavenet("evaluate", vocoder_file, dataset, "--json", "--speaker", "bob").out)
    assert only["bits"] == bits[0]["bob"]


def test_every_error_of_speakers(wavenet, vocoder_file: Path, model_file: Path, dataset: Path, tmp_path: Path) -> None:
    for command in ("evaluate", "copy"):
        known, plain = (command, vocoder_file, dataset), (command, model_file, dataset)
        wavenet(*known, "--speaker", "zoe").fails_with("no speaker 'zoe'; it has ann, bob")
        wavenet(*known, "--as-speaker", "zoe").fails_with("--as-speaker: speaker is 'zoe'; the model knows ann, bob")
        wavenet(*known, "--as-speaker", "").fails_with("--as-speaker: speaker is ''; the model knows ann, bob")
        wavenet(*plain, "--as-speaker", "ann").fails_with("the model knows no speakers; leave speaker out")
    wavenet("copy", model_file, dataset).fails_with("expected a vocoder")
    tensors, metadata = read_model_file(vocoder_file)
    metadata.pop("format")
    metadata["config"]["speakers"] = ["ann", "eve"]
    write_model_file(tmp_path / "eve.safetensors", tensors, metadata)
    wavenet("evaluate", tmp_path / "eve.safetensors", dataset).fails_with(
        "is 'bob'; expected one that the model knows: ann, eve; choose clips with --speaker, or", "with --as-speaker"
    )


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/*/*.toml")), ids=lambda path: path.stem)
def test_inspect_shows_every_recipe(wavenet, path: Path) -> None:
    result = wavenet("inspect", path)
    assert result.status == 0, result.err
    assert "multiply-adds per sample" in result.out


def test_a_speaker_may_be_called_all(wavenet, speech_folder: Path, vocoder_file: Path, tmp_path: Path) -> None:
    (speech_folder / "bob").rename(speech_folder / "all")
    wavenet("prepare", speech_folder, tmp_path / "d", "--speakers", "--held-out", 0.5)
    out = wavenet("copy", vocoder_file, tmp_path / "d", "--json", "--as-speaker", "ann").out
    clips = {row["speaker"]: row["log_mel_db"]["clips"] for row in json.loads(out)["rows"]}
    assert clips.keys() == {"all", "ann", None}
    assert clips["all"] + clips["ann"] == clips[None]


def test_weights_of_any_floating_type_run_and_wild_ones_are_refused(
    wavenet, vocoder_file: Path, dataset: Path, tmp_path: Path
) -> None:
    tensors, metadata = read_model_file(vocoder_file)
    metadata.pop("format")
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        cast = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        write_model_file(tmp_path / "cast.safetensors", cast, metadata)
        assert wavenet("evaluate", tmp_path / "cast.safetensors", dataset, "--limit", 1).status == 0
    wild = {name: tensor * 1e18 for name, tensor in tensors.items()}
    write_model_file(tmp_path / "wild.safetensors", wild, metadata)
    wavenet("evaluate", tmp_path / "wild.safetensors", dataset, "--limit", 1).fails_with("its likelihood is not finite")


def test_a_run_is_not_written_into_a_dataset(wavenet, recipe: Path, dataset: Path) -> None:
    before = sorted(dataset.iterdir())
    wavenet("train", recipe, "--set", f"run={dataset}").fails_with("holds a prepared dataset")
    assert sorted(dataset.iterdir()) == before


def test_inspect_shows_conditioning(wavenet, vocoder_file: Path) -> None:
    out = wavenet("inspect", vocoder_file).out
    assert "speakers: ann, bob" in out
    assert "features: 20 log-mel bins, hop 100; looks 3 frames ahead, 26.8 ms with half a window" in out
    assert "linear prediction from the features, order 16" in out


def test_inspect_shows_layers_and_costs(wavenet, recipe: Path, model_file: Path) -> None:
    for path in (recipe, model_file):
        result = wavenet("inspect", path)
        assert "receptive field 8 samples = 0.5 ms at 16000 Hz" in result.out
        values = json.loads(wavenet("inspect", path, "--json").out)
        assert [layer["samples"] for layer in values["layers"]] == [2, 4, 8]
        model = WaveNet(small_config())
        assert values["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        products = 3 * 12 * 10 + 2 * 5 * 6 + 15 * 7 + 7 * 9 + 9 * 256
        assert values["multiply_adds_per_sample"] == products


def test_prepare_names_what_it_skips_and_counts_it(wavenet, speech_folder: Path, tmp_path: Path) -> None:
    (speech_folder / "ann" / "fake.wav").write_text("no audio")
    result = wavenet("prepare", speech_folder, tmp_path / "d")
    assert result.status == 0
    assert "fake.wav" in result.err
    assert "12 clips at 16000 Hz, 1 skipped" in result.out


def test_every_error_of_prepare(wavenet, speech_folder: Path, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    wavenet("prepare", tmp_path / "none", out).fails_with("none", "no such folder")
    wavenet("prepare", tmp_path / "empty", out).fails_with("empty", "has no audio files")
    wavenet("prepare", __file__, out).fails_with("is a file; expected a folder")
    wavenet("prepare", speech_folder, dataset).fails_with("exists", "--force")
    wavenet("prepare", speech_folder, out, "--sample-rate", 7).fails_with("--sample-rate is 7 Hz")
    wavenet("prepare", speech_folder, out, "--held-out", 2).fails_with("--held-out is 2")
    wavenet("prepare", speech_folder, out, "--trim-db", -3).fails_with("--trim-db is -3")
    wavenet("prepare", speech_folder, out, "--corpus", "timit").fails_with("'--corpus': 'timit' is not one of 'folder'")
    wavenet("prepare", speech_folder, out, "--download").fails_with("cannot be downloaded")
    wavenet("prepare", speech_folder, "/proc/dataset").fails_with("/proc/dataset")
    assert not out.exists()


def test_every_error_of_train(wavenet, recipe: Path, dataset: Path, tmp_path: Path) -> None:
    wavenet("train", tmp_path / "none.toml").fails_with("none.toml: no such recipe")
    wavenet("train", recipe, "--set", "train.stepz=3").fails_with("unknown key train.stepz; did you mean train.steps?")
    wavenet("train", recipe, "--set", 'model.distribution={kind="categorical", classes=77}').fails_with("classes is 77")
    wavenet("train", recipe, "--set", "dataset=nowhere").fails_with("nowhere: no such dataset")
    wavenet("train", recipe, "--set", "run=\udcff").fails_with("expected text in UTF-8")
    wavenet("train", recipe, "--set", "model.sample_rate=8000").fails_with("has 16000 Hz")
    wavenet("train", recipe, "--set", "run=/proc/run").fails_with("/proc/run")
    assert not (tmp_path / "run").exists()
    assert wavenet("train", recipe).status == 0
    wavenet("train", recipe).fails_with("--resume continues")
    assert wavenet("train", recipe, "--resume").status == 0


def test_every_error_of_generate(wavenet, model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    short = ("--seconds", 0.01)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(model_file.read_bytes()[:-5])
    wavenet("generate", tmp_path / "none", "-o", out).fails_with("no such model file")
    wavenet("generate", tmp_path, "-o", out).fails_with("is a folder or device; expected a model file")
    wavenet("generate", broken, "-o", out).fails_with(
        "broken.safetensors is not a model file, or not a whole one; expected"
    )
    wavenet("generate", __file__, "-o", out).fails_with("is not a model file")
    wavenet("generate", model_file, "-o", tmp_path / "out.mp4").fails_with("written as .wav or .flac")
    wavenet("generate", model_file, "-o", tmp_path / "no" / "out.wav").fails_with("no such folder to write out.wav to")
    wavenet("generate", model_file, "-o", out, "--seconds", -1).fails_with("--seconds is -1")
    wavenet("generate", model_file, "-o", out, "--seconds", "nan").fails_with("--seconds is nan")
    wavenet("generate", model_file, "-o", out, *short, "--count", 0).fails_with("--count is 0; expected 1 to 1000")
    wavenet("generate", model_file, "-o", out, *short, "--temperature", -1).fails_with("--temperature is -1")
    wavenet("generate", model_file, "-o", out, *short, "--top-k", 0).fails_with("--top-k is 0")
    wavenet("generate", model_file, "-o", out, *short, "--engine", "warp").fails_with(
        "'--engine': 'warp' is not one of 'auto'"
    )
    wavenet("generate", model_file, "-o", out, *short, "--prime", model_file).fails_with("not readable audio")
    wavenet("generate", model_file, "-o", out, *short, "--prime-seconds", 1).fails_with("goes with --prime")
    assert not out.exists()
    assert wavenet("generate", model_file, "-o", out, *short).status == 0
    before = out.read_bytes()
    wavenet("generate", model_file, "-o", out, *short, "--seed", 3).fails_with("exists", "--force")
    assert out.read_bytes() == before
    assert wavenet("generate", model_file, "-o", out, *short, "--seed", 3, "--force").status == 0
    assert out.read_bytes() != before


def test_every_error_of_evaluate_and_inspect(wavenet, model_file: Path, dataset: Path, tmp_path: Path) -> None:
    wavenet("evaluate", model_file, tmp_path / "none").fails_with("no such dataset")
    wavenet("evaluate", model_file, tmp_path).fails_with("not a prepared dataset")
    wavenet("evaluate", model_file, dataset, "--split", "dev").fails_with(
        "no clips in split 'dev'; it has test, train; prepare it again"
    )
    wavenet("evaluate", model_file, dataset, "--limit", 0).fails_with("--limit is 0; expected at least 1")
    wavenet("inspect", tmp_path / "none").fails_with("no such model file")
    wavenet("inspect", tmp_path / "none.toml").fails_with("no such recipe")


def test_no_command_shows_help_and_a_wrong_one_is_named(wavenet) -> None:
    assert "evaluate" in wavenet().out
    wavenet("sing").fails_with("No such command 'sing'")
    wavenet("inspect").fails_with("Missing argument 'MODEL_OR_RECIPE'")


def test_outputs_never_fall_on_inputs_or_each_other(wavenet, model_file: Path, tmp_path: Path) -> None:
    before = model_file.read_bytes()
    run = ("generate", model_file, "--seconds", 0.01, "--force")
    wavenet(*run, "-o", tmp_path / "a.wav", "--log-probs", model_file).fails_with("an output is also an input")
    wavenet(*run, "-o", tmp_path / "a.wav", "--log-probs", tmp_path / "a.wav").fails_with("give each file another name")
    assert model_file.read_bytes() == before


def test_a_run_that_lost_its_checkpoints_is_not_overwritten(wavenet, recipe: Path, tmp_path: Path) -> None:
    assert wavenet("train", recipe).status == 0
    for path in (tmp_path / "run").glob("checkpoint*"):
        path.unlink()
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    wavenet("train", recipe).fails_with("holds a run (model.safetensors, best.safetensors, metrics.jsonl)", "--resume")
    wavenet("train", recipe, "--resume").fails_with("but no checkpoint to go on from")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_odd_names_and_texts_are_prepared(wavenet, speech_folder: Path, tmp_path: Path) -> None:
    clip = next((speech_folder / "ann").glob("*.wav"))
    odd = os.fsencode(speech_folder / "ann") + b"/caf\xe9\xe2\x80\xa8.wav"
    Path(os.fsdecode(odd)).write_bytes(clip.read_bytes())
    clip.with_suffix(".txt").write_text("one\u2028two", "utf-8")
    result = wavenet("prepare", speech_folder, tmp_path / "odd")
    assert result.status == 0, result.err
    assert "13 clips" in result.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_says_how_to_go_on_and_does(recipe: Path, tmp_path: Path, number: int) -> None:
    settings = ["--set", "train.steps=4000", "--set", "train.log_every=1"]
    process = subprocess.Popen([*COMMAND, "train", recipe, *settings], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (tmp_path / "run" / "checkpoint.previous.pt").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"checkpoint saved" in errors
    assert b"the same command with --resume continues" in errors
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    shorter = [*settings, "--set", "train.evaluation_seconds=0.2"]
    assert 0 < state["progress"]["step"] < 4000
    again = subprocess.Popen([*COMMAND, "train", recipe, *shorter, "--resume"], stdout=subprocess.PIPE)
    assert again.stdout is not None
    assert any(f"resumed at step {state['progress']['step']}".encode() in line for line in again.stdout)
    again.send_signal(signal.SIGKILL)
    again.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk_keeps_the_last_checkpoint(wavenet, recipe: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        settings = ["--set", f"run={disk}/run", "--set", "train.steps=6"]
        wavenet("train", recipe, *settings).fails_with("No space left on device")
        left = {path.name for path in (disk / "run").iterdir()}
        assert not any(name.startswith(".") for name in left), "no half-written file stays"
        assert "checkpoint.pt" in left
        torch.load(disk / "run" / "checkpoint.pt", weights_only=True)
    finally:
        subprocess.run(["umount", disk], check=True)


def _said(stderr: bytes) -> list[bytes]:
    """The lines but for the note that the native engine is switched off."""
    return [line for line in stderr.splitlines() if not line.startswith(b"note: generating with")]


def test_audio_is_streamed_to_standard_output(model_file: Path, tmp_path: Path) -> None:
    """Run as a process of its own: the output is bytes, and nothing else may be among them."""
    command = [sys.executable, "-m", "wavenet", "generate", str(model_file), "--seconds", "0.2", "-o"]
    piped = subprocess.run([*command, "-"], capture_output=True)
    assert piped.returncode == 0, piped.stderr
    assert len(_said(piped.stderr)) == 1
    assert b"samples/s" in piped.stderr
    closed = subprocess.run(f"{' '.join([*command, '-'])} | head -c 50 > /dev/null", shell=True, capture_output=True)
    assert not _said(closed.stderr)
    assert subprocess.run([*command, str(tmp_path / "file.wav")], capture_output=True).returncode == 0
    streamed, rate = soundfile.read(io.BytesIO(piped.stdout), dtype="int16")
    written, _ = soundfile.read(tmp_path / "file.wav", dtype="int16")
    assert rate == 16000
    assert np.array_equal(streamed, written)


def test_a_closed_pipe_ends_quietly_and_full_streams_in_status_2() -> None:
    for arguments in (["--help"], ["inspect", "recipes/quickstart/quickstart.toml"]):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "wavenet", *arguments]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT)
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, b"")
        with open("/dev/full", "wb") as full:
            assert subprocess.run(command, stdout=full, stderr=full, cwd=ROOT).returncode == 2


def test_errors_of_streaming_and_of_the_native_engine(wavenet, model_file: Path) -> None:
    wavenet("generate", model_file, "-o", "-", "--count", 2).fails_with("-o - streams one recording")
    wavenet("generate", model_file, "-o", "-", "--log-probs", "p.npy").fails_with("--log-probs does not go with -o -")
    plain = ("generate", model_file, "-o", "x.wav", "--seconds", 0.01)
    wavenet(*plain, "--weights", "int4").fails_with("'--weights': 'int4' is not one of 'float32', 'bfloat16', 'int8'")
    wavenet(*plain, "--engine", "incremental", "--threads", 2).fails_with("--threads is 2; only the native engine")
    wavenet("bench", "--shape", "huge").fails_with("'--shape': 'huge' is not one of 'standard', 'small'")
    wavenet(*plain, "--top-k", 0).fails_with("--top-k is 0; expected at least 1, or leave it out to switch it off")
    wavenet("bench", "--batch", 0).fails_with("--batch is 0; expected 1 to 4096")
    wavenet("bench", model_file, "--shape", "small").fails_with("--shape does not go with MODEL")
    wavenet("bench", "none.safetensors").fails_with("none.safetensors: no such model file")


def test_bench_prints_a_table_and_json(wavenet, model_file: Path) -> None:
    quick = ("bench", model_file, "--seconds", 0.01, "--batch", 2, "--threads", 1)
    assert "incremental" in wavenet(*quick).out
    assert json.loads(wavenet(*quick, "--json").out)
