"""Recipes and samples are what their pages say. (Every recipe is trained two steps in test_pages.py.)"""

from pathlib import Path

import pytest
import soundfile

from wavenet.config import WaveNetConfig
from wavenet.corpus import find_clips
from wavenet.dataset import PreparedDataset
from wavenet.model import WaveNet
from wavenet.prepare import PrepareConfig, prepare_dataset
from wavenet.recipe import load_recipe

ROOT = Path(__file__).parent.parent


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
