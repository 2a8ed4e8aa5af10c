"""What training survives: being killed, faults of disk and data, and files that are not what they should be."""

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.conftest import small_config
from tests.test_training import Watcher, assert_same_run
from wavenet import WaveNet
from wavenet.data import PreparedClip, PreparedDataset
from wavenet.machine import peak_memory
from wavenet.training import Recipe, TrainConfig, load_checkpoint, train_recipe

Prepare = Callable[..., PreparedDataset]
KILLS = 25


def _train_alone(recipe: Recipe) -> None:
    torch.set_num_threads(1)
    train_recipe(recipe, Watcher(), resume=True)


def test_a_run_that_is_killed_at_25_moments_ends_like_one_that_is_not(
    speech_folder: Path, prepare: Prepare, tmp_path: Path
) -> None:
    """A checkpoint at every step, so that many of the kills fall into the writing of one."""
    settings = {"window": 300, "log_every": 1, "evaluate_every": 50, "checkpoint_every": 1, "evaluation_seconds": 0.3}
    config = TrainConfig(steps=16 * KILLS, keep_models=2, **settings)
    data = prepare(speech_folder).path
    whole, killed = (
        Recipe(dataset=data, run=tmp_path / name, train=config, model=small_config()) for name in ("whole", "killed")
    )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_survival", "torch._dynamo"])  # torch's optimizers load the latter
    chance, kills, halves = random.Random(0), 0, 0
    while kills < KILLS:
        process = context.Process(target=_train_alone, args=(killed,))
        process.start()
        begun, aim = _lines(killed.run), chance.randint(1, 12)
        while process.is_alive() and _lines(killed.run) < begun + aim:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        assert process.is_alive(), f"the run ended after {kills} kills"
        process.kill()
        process.join()
        kills += 1
        halves += any(path.name.startswith(".") for path in killed.run.iterdir())  # of which the next run is rid
        assert load_checkpoint(killed.run) is not None
    for recipe in (killed, whole):
        process = context.Process(target=_train_alone, args=(recipe,))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert_same_run(whole.run, killed.run)
    assert (whole.run / "best.safetensors").read_bytes() == (killed.run / "best.safetensors").read_bytes()
    assert {path.name for path in killed.run.iterdir()} == {path.name for path in whole.run.iterdir()}
    print(f"{halves} of {kills} kills left a half-written file")


def _lines(run: Path) -> int:
    try:
        return (run / "metrics.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0


@pytest.fixture
def recipe_file(speech_folder: Path, prepare: Prepare, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'dataset = "{prepare(speech_folder).path}"\nrun = "{tmp_path / "run"}"\n'
        "[model]\ndilations = [1, 2, 4]\nresidual_channels = 6\ngate_channels = 10\nskip_channels = 7\n"
        "head_channels = 9\n[train]\nsteps = 6\nwindow = 200\nevaluation_seconds = 0.2\ncheckpoint_every = 2\n"
    )
    return path


@dataclass(frozen=True)
class Fault:
    """What happens at `step` (0: before the command), what is then said, and the step that is left to go on from."""

    name: str
    step: int
    message: tuple[str, ...]
    left: int | None
    settings: tuple[str, ...] = ()


FAULTS = [
    Fault("the loss is not finite", 0, ("the loss is ", "on windows of ", "try lower learning rates"), 0,
          ("train.optimizer=adam", "train.learning_rate=1e30", "train.gradient_clip=1e30", "train.warmup_steps=0")),
    Fault("the disk is full", 3, ("model.safetensors: cannot write (File too large); what was",), 2),
    Fault("the run's folder cannot be made", 0, ("wavenet-run: ",), None, ("run=/proc/wavenet-run",)),
    Fault("the dataset is not there", 0, ("no such dataset", "wavenet prepare"), 6),
    Fault("the dataset vanishes", 3, ("audio.pcm: No such file or directory",), 2),
    Fault("the dataset is cut short", 3, ("audio.pcm was cut short", "prepare the dataset again"), 2),
    Fault("the dataset is another", 0, ("has changed since the run began", "start a new run"), 6),
    Fault("the audio is edited", 0, ("audio.pcm was edited since it was prepared; prepare the dataset again",), 6),
    Fault("the index is edited", 0, ("index.jsonl was edited since it was prepared; prepare the dataset",), 6),
    Fault("the recipe is another", 0, ("train.window was 200, is 150", "restore them, or begin another run"), 6,
          ("train.window=150",)),
    Fault("the checkpoints are damaged", 0, ("checkpoint.pt cannot be read", "checkpoint.previous.pt"), None),
    Fault("the first model is missing", 0, ("no such",), None, ("train.init_from=/nowhere/model.safetensors",)),
    Fault("the first model is none", 0, ("README.md",), None, ("train.init_from=README.md",)),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_is_one_line_and_leaves_the_last_good_checkpoint(
    wavenet, fault: Fault, recipe_file: Path, speech_folder: Path, prepare: Prepare, tmp_path: Path, monkeypatch
) -> None:
    run, data, limits = tmp_path / "run", tmp_path / "dataset", resource.getrlimit(resource.RLIMIT_FSIZE)
    if fault.step == 0 and fault.left != 0 and not any("init_from" in s or "run=" in s for s in fault.settings):
        assert wavenet("train", recipe_file).status == 0
        if "not there" in fault.name:
            shutil.rmtree(data)
        if fault.name == "the audio is edited":
            with open(data / "audio.pcm", "r+b") as file:
                file.write(b"edited")
        if fault.name == "the index is edited":
            (data / "index.jsonl").write_text((data / "index.jsonl").read_text().replace('"test"', '"train"', 1))
        if fault.name == "the dataset is another":
            shutil.rmtree(data)
            next(speech_folder.rglob("*.wav")).unlink()
            prepare(speech_folder)
        if "damaged" in fault.name:
            for path in run.glob("checkpoint*.pt"):
                path.write_bytes(path.read_bytes()[:1000])
    step = 0

    def counted(self: PreparedClip, *arguments: object) -> torch.Tensor:
        """Two windows make a step; the fault comes when the data of its step are read."""
        nonlocal step
        step += arguments != (0, self.samples)
        if step == 2 * fault.step:
            if fault.name == "the dataset vanishes":
                (data / "audio.pcm").rename(data / "elsewhere")
            if fault.name == "the dataset is cut short":
                os.truncate(data / "audio.pcm", 1000)
            if fault.name == "the disk is full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        return read(self, *arguments)

    read = PreparedClip.read
    monkeypatch.setattr(PreparedClip, "read", counted)
    settings = [part for setting in fault.settings for part in ("--set", setting)]
    try:
        result = wavenet("train", recipe_file, "--resume", *settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    result.fails_with(*fault.message)
    if fault.left is not None:
        state = load_checkpoint(run)
        assert state is not None
        assert state["progress"]["step"] == fault.left
        assert all(bool(tensor.isfinite().all()) for tensor in state["model"].values())
    assert not [path.name for path in run.glob(".*")], "a half-written file stays"


def test_audio_beside_the_training_does_not_outlive_a_failure(wavenet, recipe_file: Path, tmp_path: Path) -> None:
    """The run fails long before sixty seconds of audio are made, and does not wait for them."""
    settings = ("train.audio=true", "train.audio_seconds=60", "train.learning_rate=1e30", "train.optimizer=adam")
    settings += ("train.gradient_clip=1e30", "train.warmup_steps=0")
    result = wavenet("train", recipe_file, *(part for setting in settings for part in ("--set", setting)))
    result.fails_with("the loss is")
    assert not (tmp_path / "run" / "audio").exists()
    assert wavenet("train", recipe_file, "--resume", "--set", "train.audio_seconds=61").status == 2
    heard = ("--set", "train.audio=true", "--set", "train.audio_seconds=0.1", "--set", f"run={tmp_path / 'heard'}")
    assert wavenet("train", recipe_file, *heard).status == 0
    assert (tmp_path / "heard" / "audio" / "step-00000000.wav").exists()


def test_a_second_interrupt_does_not_wait_for_audio_at_work(recipe_file: Path) -> None:
    """The thread that makes the audio here takes a minute over it, whatever it is told."""
    code = (
        "import os, time, wavenet.cli.training; console = wavenet.cli.training.TrainingConsole\n"
        "console.keep_audio = lambda *_: (os.write(2, b'at work\\n'), time.sleep(60))\n"
        "wavenet.cli.main()"
    )
    settings = ("train.audio=true", "train.audio_seconds=0.1", "train.steps=1000000")
    command = [sys.executable, "-c", code, "train", recipe_file]
    command += [word for setting in settings for word in ("--set", setting)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for awaited in (b"at work", b"stopping after this step"):
            assert any(line.startswith(awaited) for line in process.stderr)
            process.send_signal(signal.SIGINT)
        begun, rest = time.monotonic(), process.stderr.read().splitlines()
    assert process.returncode == 130
    assert rest[-1] == b"interrupted"
    assert time.monotonic() - begun < 30


class Hostile:
    """Unpickled by a reader that trusts it, it makes a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("code-was-run",)


def _damaged(data: bytes, chance: random.Random) -> Iterator[bytes]:
    while True:
        kind = chance.randrange(5)
        if kind == 0:
            yield chance.randbytes(chance.randrange(2000))
        elif kind == 1:
            yield data[: chance.randrange(len(data))]
        elif kind == 2:
            place = chance.randrange(len(data))
            yield data[:place] + chance.randbytes(chance.randrange(1, 30)) + data[place + chance.randrange(30) :]
        else:
            changed = bytearray(data)
            for _ in range(chance.choice((1, 1, 5, 50))):
                # headers are short beside the tensors, and more depends on them
                place = chance.randrange(len(data) if chance.random() < 0.5 else min(len(data), 2000))
                changed[place] ^= 1 << chance.randrange(8)
            yield bytes(changed)


@pytest.mark.parametrize(("kind", "cases"), [("recipe", 400), ("model", 400), ("checkpoint", 200)])
def test_damaged_files_are_read_or_refused_in_one_line(
    wavenet, kind: str, cases: int, recipe_file: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert wavenet("train", recipe_file).status == 0
    run = tmp_path / "run"
    file, command = {
        "recipe": (recipe_file, ("inspect", recipe_file)),
        "model": (run / "model.safetensors", ("inspect", run / "model.safetensors")),
        "checkpoint": (run / "checkpoint.pt", ("train", recipe_file, "--resume")),
    }[kind]
    (run / "checkpoint.previous.pt").unlink()
    whole, refused = file.read_bytes(), 0
    damaged = _damaged(whole, random.Random(kind))
    for case in range(cases):
        if kind != "recipe" and case == 0:
            torch.save({"format": "wavenet-toolkit checkpoint, version 1", "model": Hostile()}, file)
        else:
            file.write_bytes(next(damaged))
        begun = time.monotonic()
        result = wavenet(*command)
        assert result.status in (0, 2), f"case {case}: {result.err}"
        assert time.monotonic() - begun < 30, f"case {case} took too long"
        if result.status == 2:
            result.fails_with()
            refused += 1
    assert refused > cases // 4
    assert not Path("code-was-run").exists()
    print(f"{refused} of {cases} damaged files refused, the others read")


def test_a_dataset_of_20_gib_trains_in_little_memory(tmp_path: Path) -> None:
    """A sparse file of 186 hours, opened and trained on by a process of its own."""
    data, length, clips = tmp_path / "data", 160_000, 67_109
    data.mkdir()
    with open(data / "audio.pcm", "wb") as file:
        file.truncate(2 * length * clips)
    with open(data / "index.jsonl", "w") as file:
        for index in range(clips):
            clip = {"name": f"clip {index}", "split": "test" if index % 10 == 0 else "train", "speaker": None}
            clip |= {"text": None, "source": "none", "offset": index * length, "samples": length}
            file.write(json.dumps(clip) + "\n")
    manifest = {"format": "wavenet-toolkit dataset, version 1", "sample_rate": 16000, "trim_db": None, "clips": clips}
    manifest |= {"samples": clips * length, "skipped": 0, "sha256": "0" * 64}
    (data / "manifest.json").write_text(json.dumps(manifest))
    config = TrainConfig(steps=100, batch_size=8, window=500, evaluate_every=100, evaluation_seconds=1.0)
    recipe = Recipe(dataset=data, run=tmp_path / "run", train=config, model=small_config())
    answers = multiprocessing.get_context("spawn").SimpleQueue()
    process = multiprocessing.get_context("spawn").Process(target=_train_and_weigh, args=(recipe, answers))
    process.start()
    process.join()
    assert process.exitcode == 0
    peak = answers.get()
    assert peak < 1.5 * 2**30, f"{peak / 2**30:.2f} GiB"
    assert WaveNet.from_pretrained(recipe.run / "model.safetensors").config == small_config()


def _train_and_weigh(recipe: Recipe, answers: "multiprocessing.SimpleQueue[int]") -> None:
    train_recipe(recipe, Watcher())
    answers.put(peak_memory())
