"""One run on several processes, or in several micro-batches, is the same run."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile
import torch

from tests.conftest import tone
from wavenet.data import Source, WindowSampler
from wavenet.training import (
    Observer,
    Processes,
    Recipe,
    from_recipe,
    joined,
    load_checkpoint,
    load_recipe,
    train_recipe,
)

MODEL = """
[model]
dilations = [1, 2, 4]
residual_channels = 6
gate_channels = 10
skip_channels = 7
head_channels = 9
speaker_channels = 2
features = { bins = 20, hop = 100, window = 256 }
conditioning = { channels = 3, context_channels = 4, scales = [10, 10] }
prediction = { source = "features", order = 8, block = 50 }
distribution = { kind = "logistic_mixture", components = 2 }
"""
TRAIN = """
[train]
steps = 50
batch_size = 4
window = 400
log_every = 1
evaluate_every = 25
evaluation_seconds = 1.0
"""


@pytest.fixture
def recipe_file(speech_folder: Path, prepare, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(f'dataset = "{prepare(speech_folder).path}"\nrun = "{tmp_path / "run"}"\n{MODEL}{TRAIN}')
    return path


LOGGED = ("train_bits", "held_out_bits", "gradient_norm")


def losses(run: Path) -> dict[tuple[str, float], float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {(name, line["step"]): line[name] for line in lines for name in LOGGED if name in line}


def assert_same_losses(one: Path, other: Path) -> None:
    expected, found = losses(one), losses(other)
    assert expected.keys() == found.keys()
    assert len(expected) == 103
    worst = max(abs(expected[key] - found[key]) for key in expected)
    assert worst < 1e-3, f"losses of about 9 bits differ by up to {worst:.2e}; rounding gives some 1e-5"
    assert found["gradient_norm", 1] == pytest.approx(expected["gradient_norm", 1], rel=1e-4), "clipping would hide it"
    assert abs(expected["train_bits", 1] - found["train_bits", 1]) < 2e-6, "before the first step there is only one sum"


def start_two(*command: object) -> subprocess.Popen[str]:
    """Two processes, one core each, as torchrun starts them."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [*torchrun, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parent.parent,
    )


def test_two_processes_and_two_micro_batches_give_the_run_of_one(recipe_file: Path, tmp_path: Path) -> None:
    both = start_two("-m", "wavenet", "train", recipe_file, "--set", f"run={tmp_path / 'two'}")
    said, failure = both.communicate()
    assert both.returncode == 0, failure
    assert "2 processes" in said
    assert said.count("held out") == 3, "one of them speaks"
    train_recipe(load_recipe(recipe_file, [f"run={tmp_path / 'one'}"]))
    train_recipe(load_recipe(recipe_file, [f"run={tmp_path / 'turns'}", "train.accumulate=2"]))
    assert_same_losses(tmp_path / "one", tmp_path / "two")
    assert_same_losses(tmp_path / "one", tmp_path / "turns")


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("wavenet: error")]


def test_a_process_that_loses_the_other_says_so_and_the_run_goes_on(recipe_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "lost"
    settings = [f"run={run}", "train.steps=100000", "train.checkpoint_every=2", "train.evaluate_every=100000"]
    both = start_two(
        "-m", "wavenet", "train", recipe_file, *(word for setting in settings for word in ("--set", setting))
    )
    waited = time.monotonic() + 100
    while len(losses(run) if (run / "metrics.jsonl").exists() else ()) < 20 and time.monotonic() < waited:
        time.sleep(0.1)
    children = Path(f"/proc/{both.pid}/task/{both.pid}/children").read_text().split()
    second = next(int(child) for child in children if b"\0RANK=1\0" in Path(f"/proc/{child}/environ").read_bytes())
    os.kill(second, signal.SIGKILL)
    _, said = both.communicate(timeout=100)
    assert both.returncode != 0
    assert [line for line in errors(said) if "rank 0 has lost the connection to another" in line]
    assert "wavenet/training/trainer.py" not in said, "a traceback of ours (torchrun adds one of its own)"
    reached = load_checkpoint(run)["progress"]["step"]
    recipe = load_recipe(recipe_file, settings)
    stopped: list[int] = []

    class Watch(Observer):
        def stepped(self, step: int, bits: float) -> None:
            stopped.append(step)

    assert not train_recipe(recipe, Watch(), resume=True, stop=lambda: len(stopped) >= 2)
    assert stopped == [reached + 1, reached + 2]


class FullDisk(Observer):
    """From step 6 on, this process can write no file of more than 4,000 bytes."""

    def stepped(self, step: int, bits: float) -> None:
        if step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))


def meet_differences_and_a_full_disk(recipe_file: str, place: str) -> None:
    """What each of two processes does; `place` has a run of four steps where they are to find one."""
    folder = Path(place)

    def attempt(name: str, run: Path, resume: bool, *settings: str, observer: Observer | None = None) -> None:
        recipe = load_recipe(Path(recipe_file), ["train.checkpoint_every=2", f"run={run}", *settings])
        try:
            train_recipe(recipe, observer, resume=resume, processes=processes)
        except (ValueError, OSError) as error:
            os.write(1, f"{name} {rank}: {type(error).__name__}: {error}\n".encode())

    with joined() as processes:
        rank = processes.rank
        attempt("resumed", folder / f"resumed-{rank}", True)
        attempt("begun", folder / f"begun-{rank}", False)
        attempt("recipe", folder / "fresh", False, f"train.learning_rate=0.{1 + rank}")
        attempt("in the way", Path(recipe_file) / "run", False)
        attempt("full", folder / "full", True, observer=None if rank else FullDisk())


def test_processes_that_differ_all_end_at_once_and_so_they_do_with_one_whose_disk_is_full(
    recipe_file: Path, tmp_path: Path
) -> None:
    stepped: list[int] = []

    class Watch(Observer):
        def stepped(self, step: int, bits: float) -> None:
            stepped.append(step)

    full = load_recipe(recipe_file, [f"run={tmp_path / 'full'}", "train.checkpoint_every=2"])
    assert not train_recipe(full, Watch(), stop=lambda: len(stepped) == 4)
    shutil.copytree(full.run, tmp_path / "resumed-0")
    shutil.copytree(full.run, tmp_path / "begun-1")
    act = meet_differences_and_a_full_disk
    code = f"from {act.__module__} import {act.__name__} as act; act({str(recipe_file)!r}, {str(tmp_path)!r})"
    said, failure = start_two("--no-python", sys.executable, "-c", code).communicate(timeout=200)
    lines = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    for rank in (0, 1):
        assert lines[f"resumed {rank}"].startswith("ValueError: the ranks do not find the same run in"), said
        assert "(rank 0: step 4, weights " in lines[f"resumed {rank}"]
        assert "; rank 1: step 0, weights " in lines[f"resumed {rank}"]
        assert lines[f"recipe {rank}"].startswith("ValueError: the ranks do not find the same run in")
    assert lines["begun 0"] == "ValueError: rank 1 failed, and prints the reason; so rank 0 ends too"
    assert lines["begun 1"].startswith("FileExistsError: ")
    assert lines["in the way 0"].startswith("NotADirectoryError: ")
    assert lines["in the way 1"] == "ValueError: rank 0 failed, and prints the reason; so rank 1 ends too"
    assert "cannot write (File too large)" in lines["full 0"]
    assert "ConnectionError: rank 1 has lost the connection to another" in failure
    assert not any((tmp_path / name).exists() for name in ("resumed-1", "begun-0", "fresh")), "nothing is written"
    assert load_checkpoint(full.run)["progress"]["step"] == 4
    assert not train_recipe(full, Watch(), resume=True, stop=lambda: len(stepped) == 6)
    assert stepped == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2 and RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"}, "rank 0 of 2 cannot reach the others ("),
    ],
)
def test_a_process_that_cannot_join_says_so(
    wavenet, monkeypatch: pytest.MonkeyPatch, recipe_file: Path, environment: dict[str, str], message: str
) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        for name, value in {**environment, "MASTER_PORT": str(taken.getsockname()[1])}.items():
            monkeypatch.setenv(name, value)
        wavenet("train", recipe_file).fails_with(message)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="rank 1 has no GPU: it is process 2 on a machine with 1"), joined():
        pass


def test_two_micro_batches_give_the_gradient_of_one(recipe_file: Path) -> None:
    """Optimizers that ignore the gradient's scale would not show that it is wrong."""
    gradients = []
    for turns in (1, 2, 4):
        trainer = from_recipe(load_recipe(recipe_file, [f"train.accumulate={turns}"]))
        trainer._accumulate_gradient()
        gradients.append([parameter.grad for parameter in trainer.model.parameters()])
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], atol=1e-5, rtol=1e-4)


def test_recomputed_activations_give_the_same_run_to_the_bit(recipe_file: Path, tmp_path: Path) -> None:
    for name in ("one", "again"):
        settings = [f"run={tmp_path / name}", f"train.checkpoint_activations={json.dumps(name == 'again')}"]
        train_recipe(load_recipe(recipe_file, settings))
    assert losses(tmp_path / "one") == losses(tmp_path / "again")


def test_a_batch_that_cannot_be_shared_is_refused(recipe_file: Path) -> None:
    with pytest.raises(ValueError, match="batch_size is 4; expected a multiple of 3, 3 processes times"):
        from_recipe(load_recipe(recipe_file), processes=Processes(0, 3))


def test_rows_of_a_batch_are_those_of_the_whole(speech_folder: Path, prepare) -> None:
    dataset = prepare(speech_folder)
    sampler = WindowSampler(sources=(Source(dataset.split("train")),), context=50, window=200, batch_size=4, seed=0)
    whole, part = sampler.batch(3), sampler.batch(3, slice(2, 4))
    assert torch.equal(whole.samples[2:], part.samples)
    assert whole.clips[2:] == part.clips
    assert whole.scored_in_all == part.scored_in_all == int(whole.scored.sum())


def test_several_datasets_are_mixed_by_weight(speech_folder: Path, prepare, tmp_path: Path) -> None:
    (tmp_path / "more" / "eve").mkdir(parents=True)
    for index in range(8):
        soundfile.write(tmp_path / "more" / "eve" / f"eve{index}.wav", tone(0.4, seed=index), 16000)
    first, second = prepare(speech_folder), prepare(tmp_path / "more", name="second")
    path = tmp_path / "mixed.toml"
    shares = "".join(f'[[dataset]]\npath = "{d.path}"\nweight = {w}\n' for d, w in ((first, 1.0), (second, 3.0)))
    path.write_text(
        f'run = "{tmp_path / "run"}"\n{shares}[model]\ndilations = [1, 2]\n[train]\nsteps = 2\nwindow = 100\n'
    )
    recipe = load_recipe(path, ["train.batch_size=400", "train.evaluation_seconds=0.5"])
    trainer = from_recipe(recipe)
    names = {clip.name for clip in second.clips}
    drawn = [clip.name in names for step in range(10) for clip in trainer.sampler.batch(step).clips]
    share, deviation = sum(drawn) / len(drawn), (0.75 * 0.25 / len(drawn)) ** 0.5
    assert abs(share - 0.75) < 5 * deviation, f"{share:.3f} of the windows, three quarters expected"
    assert len(trainer.held_out) == 2, "both are watched"
    assert train_recipe(load_recipe(path, ["train.evaluation_seconds=0.5"]))
    path.write_text(path.read_text().replace("weight = 3.0", "weight = 4.0"))
    with pytest.raises(ValueError, match=r"the datasets' weights were \[1.0, 3.0\], are \[1.0, 4.0\]"):
        train_recipe(load_recipe(path, ["train.evaluation_seconds=0.5"]), resume=True)


class Notes(Observer):
    """What an observer was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_each_dataset_may_be_restricted_to_speakers_of_its_own(speech_folder: Path, prepare, tmp_path: Path) -> None:
    (tmp_path / "more" / "eve").mkdir(parents=True)
    for index in range(8):
        soundfile.write(tmp_path / "more" / "eve" / f"eve{index}.wav", tone(0.4, seed=index), 16000)
    first, second = prepare(speech_folder), prepare(tmp_path / "more", name="second")
    shares = f'[[dataset]]\npath = "{first.path}"\n{{}}[[dataset]]\npath = "{second.path}"\n'
    rest = "[model]\ndilations = [1, 2]\n[train]\nsteps = 1\n"
    path = tmp_path / "recipe.toml"

    def trained(own: str = "", *settings: str) -> tuple[Recipe, list[str], set[str | None]]:
        path.write_text(f'run = "{tmp_path / "run"}"\n{shares.format(own)}{rest}')
        recipe, notes = load_recipe(path, settings), Notes()
        sources = from_recipe(recipe, notes).sampler.sources
        return recipe, notes.notes, {clip.speaker for source in sources for clip in source.clips}

    recipe, notes, speakers = trained('speakers = ["bob"]\n')
    assert (notes, speakers) == ([], {"bob", "eve"})
    path.write_text(recipe.to_toml())
    assert load_recipe(path) == recipe
    _, notes, speakers = trained("", 'train.speakers=["bob"]')
    assert speakers == {"bob"}
    assert notes == [
        f"{second.path} is left out: it has none of train.speakers; to restrict one dataset only, set its own speakers "
        "in [[dataset]]"
    ]


def test_a_dataset_in_a_mixture_is_checked_like_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('run = "r"\n[model]\n[train]\nsteps = 1\n[[dataset]]\npath = "a"\nweight = -1.0\n')
    with pytest.raises(ValueError, match=r"dataset\.0\.weight is -1\.0; expected a positive number"):
        load_recipe(path)
    path.write_text('run = "r"\ndataset = []\n[model]\n[train]\nsteps = 1\n')
    with pytest.raises(ValueError, match="dataset is an empty list"):
        load_recipe(path)
    with pytest.raises(ValueError, match="run is empty"):
        load_recipe(path, ["dataset=a", "run="])
