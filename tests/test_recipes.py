"""Every recipe parses and trains two steps, and the embedded speech is what its page says."""

from pathlib import Path

import pytest
import soundfile

from wavenet.config import WaveNetConfig
from wavenet.corpus import find_clips
from wavenet.dataset import PreparedDataset
from wavenet.model import WaveNet
from wavenet.prepare import PrepareConfig, prepare_dataset
from wavenet.recipe import load_recipe
from wavenet.training import train

from .test_training import Watcher

ROOT = Path(__file__).parent.parent
RECIPES = sorted(ROOT.glob("recipes/*/*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_recipe_trains_two_steps(path: Path, tmp_path: Path) -> None:
    rate = load_recipe(path).model.sample_rate
    clips = find_clips(ROOT / "samples" / "speech", "folder", held_out=0.1, speakers=True)[:12]
    prepare_dataset(clips, tmp_path / "data", PrepareConfig(sample_rate=rate))
    small = {"steps": 2, "window": 400, "batch_size": 1, "evaluation_seconds": 0.1}
    settings = [f"train.{key}={value}" for key, value in small.items()] + ["train.voices=['en']"]
    recipe = load_recipe(path, [*settings, f"dataset={tmp_path / 'data'}", f"run={tmp_path / 'run'}"])
    assert train(recipe, Watcher())
    assert (path.parent / "README.md").is_file()


def test_sc09_has_the_published_shape() -> None:
    config = load_recipe(ROOT / "recipes" / "sc09" / "sc09.toml").model
    published = WaveNetConfig(cycles=4, layers_per_cycle=10, skip_channels=1024, head_channels=512)
    assert config == published


def test_embedded_speech_is_small_whole_and_split() -> None:
    folder = ROOT / "samples" / "speech"
    clips = find_clips(folder, "folder", held_out=0.1, speakers=True)
    infos = [soundfile.info(clip.path) for clip in clips]
    assert 4 * 60 <= sum(info.duration for info in infos) <= 6 * 60
    assert {info.samplerate for info in infos} == {16000}
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 6e6
    assert all(clip.text for clip in clips)
    assert {clip.split for clip in clips} == {"train", "test"}


MODELS = sorted(ROOT.glob("samples/models/*.safetensors"))


@pytest.mark.parametrize("path", MODELS, ids=[path.stem for path in MODELS])
def test_shipped_model_loads_and_beats_its_baseline_on_a_held_out_clip(path: Path, tmp_path: Path) -> None:
    from wavenet.baselines import baselines
    from wavenet.evaluation import evaluate

    assert path.stat().st_size < 8e6
    clips = find_clips(ROOT / "samples" / "speech", "folder", held_out=0.1, speakers=True)
    prepare_dataset(clips, tmp_path / "data", PrepareConfig())
    dataset = PreparedDataset(tmp_path / "data")
    held_out = dataset.split("test")[:1]
    score = evaluate(WaveNet.from_pretrained(path), dataset, held_out)["en"]
    assert score.mu_law_bits < baselines(dataset, held_out, 256)["en"].linear_prediction
