"""One run on several processes, or in several turns, is the same run."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
import torch

from tests.conftest import tone
from wavenet.checkpoint import load_checkpoint
from wavenet.dataset import Source, WindowSampler
from wavenet.distributed import Processes
from wavenet.observer import Silence
from wavenet.recipe import load_recipe
from wavenet.trainer import Trainer
from wavenet.training import train

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
    return {
        (k, line["step"]): line[k]
        for line in lines
        for k in ("train_bits", "held_out_bits", "gradient_norm")
        if k in line
    }


def assert_same_losses(one: Path, other: Path) -> None:
    expected, found = losses(one), losses(other)
    assert expected.keys() == found.keys()
    assert len(expected) == 103
    worst = max(abs(expected[key] - found[key]) for key in expected)
    assert worst < 1e-3, f"losses of about 9 bits differ by up to {worst:.2e}; rounding gives some 1e-5"
    assert found["gradient_norm", 1] == pytest.approx(expected["gradient_norm", 1], rel=1e-4), "clipping would hide it"
    assert abs(expected["train_bits", 1] - found["train_bits", 1]) < 2e-6, "before the first step there is only one sum"


def test_two_processes_and_two_turns_give_the_run_of_one(recipe_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517"]
    arguments = ["-m", "wavenet", "train", str(recipe_file), "--set", f"run={tmp_path / 'two'}"]
    done = subprocess.run(
        command + arguments, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stdout
    assert done.stdout.count("held out") == 3, "one of them speaks"
    train(load_recipe(recipe_file, [f"run={tmp_path / 'one'}"]), Silence())
    train(load_recipe(recipe_file, [f"run={tmp_path / 'turns'}", "train.accumulate=2"]), Silence())
    assert_same_losses(tmp_path / "one", tmp_path / "two")
    assert_same_losses(tmp_path / "one", tmp_path / "turns")


def start_two(*arguments: object) -> subprocess.Popen[str]:
    """Two processes, one core each, as torchrun starts them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29518"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += ["-m", "wavenet", "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("wavenet: error")]


def test_a_process_that_loses_the_other_says_so_and_the_run_goes_on(recipe_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "lost"
    settings = [f"run={run}", "train.steps=100000", "train.checkpoint_every=2", "train.evaluate_every=100000"]
    both = start_two(recipe_file, *(word for setting in settings for word in ("--set", setting)))
    waited = time.monotonic() + 100
    while len(losses(run) if (run / "metrics.jsonl").exists() else ()) < 20 and time.monotonic() < waited:
        time.sleep(0.1)
    second = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/environ")
        if _environment(path).issuperset({b"RANK=1", b"MASTER_PORT=29518"})
    ]
    os.kill(second[-1], signal.SIGKILL)
    _, said = both.communicate(timeout=100)
    assert both.returncode != 0
    assert [line for line in errors(said) if "process 0 has lost another one" in line]
    assert "wavenet/trainer.py" not in said, "a traceback of ours (torchrun adds one of its own)"
    reached = load_checkpoint(run)["progress"]["step"]
    recipe = load_recipe(recipe_file, settings)
    stopped: list[int] = []

    class Watch(Silence):
        def stepped(self, step: int, bits: float) -> None:
            stopped.append(step)

    assert not train(recipe, Watch(), resume=True, stop=lambda: len(stopped) >= 2)
    assert stopped == [reached + 1, reached + 2]


def _environment(path: Path) -> set[bytes]:
    try:
        return set(path.read_bytes().split(b"\0"))
    except OSError:  # it has just ended, or is another's
        return set()


@dataclass(frozen=True)
class Others(Processes):
    """This process as one of two, the other of which is only what it would say."""

    says: str = ""

    def gather(self, values: list[str]) -> list[str]:
        return [*values, self.says] if self.first else [self.says, *values]


def test_processes_that_do_not_stand_alike_all_end(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file)
    for says, reason in (
        ("", "process 1 could not begin"),
        ("step 7, weights 00000000", "do not find the same run in"),
    ):
        with pytest.raises(ValueError, match=reason):
            train(recipe, Silence(), processes=Others(0, 2, says=says))
        assert not recipe.run.exists(), "before anything is written"
    train(load_recipe(recipe_file, ["train.steps=2"]), Silence())
    with pytest.raises(FileExistsError, match="pass --resume"):
        train(recipe, Silence(), processes=Others(1, 2, says="step 0, weights 00000000"))


def test_two_turns_give_the_gradient_of_one(recipe_file: Path) -> None:
    """Optimizers that ignore the gradient's scale would not show that it is wrong."""
    gradients = []
    for turns in (1, 2, 4):
        trainer = Trainer(load_recipe(recipe_file, [f"train.accumulate={turns}"]), Silence())
        trainer._accumulate_gradient()
        gradients.append([parameter.grad for parameter in trainer.model.parameters()])
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], atol=1e-5, rtol=1e-4)


def test_recomputed_activations_give_the_same_run_to_the_bit(recipe_file: Path, tmp_path: Path) -> None:
    for name in ("one", "again"):
        settings = [f"run={tmp_path / name}", f"train.checkpoint_activations={json.dumps(name == 'again')}"]
        train(load_recipe(recipe_file, settings), Silence())
    assert losses(tmp_path / "one") == losses(tmp_path / "again")


def test_a_batch_that_cannot_be_shared_is_refused(recipe_file: Path) -> None:
    with pytest.raises(ValueError, match="batch_size is 4; expected a multiple of 3 processes"):
        Trainer(load_recipe(recipe_file), Silence(), Processes(0, 3))


def test_rows_of_a_batch_are_those_of_the_whole(speech_folder: Path, prepare) -> None:
    dataset = prepare(speech_folder)
    sampler = WindowSampler(
        sources=(Source(dataset, dataset.split("train")),), context=50, window=200, batch_size=4, seed=0
    )
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
    trainer = Trainer(recipe, Silence())
    names = {clip.name for clip in second.clips}
    drawn = [clip.name in names for step in range(10) for clip in trainer.sampler.batch(step).clips]
    share, deviation = sum(drawn) / len(drawn), (0.75 * 0.25 / len(drawn)) ** 0.5
    assert abs(share - 0.75) < 5 * deviation, f"{share:.3f} of the windows, three quarters expected"
    assert len(trainer.held_out) == 2, "both are watched"
    assert train(load_recipe(path, ["train.evaluation_seconds=0.5"]), Silence())
    path.write_text(path.read_text().replace("weight = 3.0", "weight = 4.0"))
    with pytest.raises(ValueError, match=r"the datasets' weights were \[1.0, 3.0\], are \[1.0, 4.0\]"):
        train(load_recipe(path, ["train.evaluation_seconds=0.5"]), Silence(), resume=True)


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
