from pathlib import Path

import pytest

from wavenet import Categorical
from wavenet.data import Augmentation
from wavenet.network import ConditioningConfig
from wavenet.training import Recipe, load_recipe
from wavenet.training.checkpoint import MAY_CHANGE
from wavenet.training.recipe import _keys

ROOT = Path(__file__).parent.parent

RECIPE = """
dataset = "data"
run = "runs/x"
[model]
cycles = 1
layers_per_cycle = 3
[train]
steps = 10
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_values_are_read_and_set_from_outside(recipe: Path) -> None:
    loaded = load_recipe(
        recipe,
        [
            "train.steps=20",
            "run=elsewhere",
            "train.learning_rate=1",
            'model.distribution={kind="categorical", classes=1024}',
        ],
    )
    assert loaded.model.dilations == (1, 2, 4)
    assert loaded.model.distribution == Categorical(1024)
    assert loaded.train.steps == 20
    assert loaded.train.learning_rate == 1.0
    assert loaded.run == Path("elsewhere")
    assert load_recipe(recipe, ["run=\u3000"]).run == Path("\u3000"), "a name in any language"


def test_a_recipe_can_project_frames(recipe: Path, tmp_path: Path) -> None:
    settings = ["model.features={}", 'model.conditioning={projection="frames", upsampler="linear"}']
    model = load_recipe(recipe, settings).model
    assert model.conditioning == ConditioningConfig(
        projection="frames", upsampler="linear", channels=256, context_channels=256
    )
    (tmp_path / "whole.toml").write_text(load_recipe(recipe, settings).to_toml())
    assert load_recipe(tmp_path / "whole.toml").model.conditioning == model.conditioning
    with pytest.raises(ValueError, match=r"model\.conditioning\.upsampler is 'linear'; a projection of samples needs"):
        load_recipe(recipe, ["model.features={}", 'model.conditioning.upsampler="linear"'])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.step=3", "unknown key train.step; did you mean train.steps?"),
        ('train.voices=["ann"]', "key train.voices is now called train.speakers; rename it"),
        ("zebra=3", "unknown key zebra; known are dataset, run, train, model"),
        ("steps=3", "unknown key steps; did you mean train.steps?"),
        ("train.zebra=3", "unknown key train.zebra; known are train.steps, "),
        ("train.steps=many", 'train.steps is "many"; input should be a valid integer'),
        ("train.steps=3.5", "train.steps is 3.5; input should be a valid integer"),
        ("train.tensorboard=1", "train.tensorboard is 1; input should be a valid boolean"),
        ("train.optimizer=sgd", "train.optimizer is \"sgd\"; input should be 'muon' or 'adam'"),
        ("train.steps=0", "train.steps is 0; expected 1 to 2^31"),
        ("train.learning_rate=nan", "train.learning_rate is nan"),
        ("train.ema_decay=1.0", "train.ema_decay is 1.0; expected a share"),
        ("model.dilations=[1,2]", "model.dilations is a list of 2 that contradicts cycles = 1"),
        ("model.dilations=[]", "model.dilations is an empty list; expected a dilation for each layer"),
        ("model.dilations=[1.5]", "model.dilations.0 is 1.5; input should be a valid integer"),
        (
            'model.distribution={kind="categorical", classes=255}',
            "model.distribution.classes is 255; expected a power of two",
        ),
        ("model=3", "model is 3"),
        ("run.deep=3", "run is a value, not a section"),
        ("steps", "expected key=value"),
        ("model.kernel_size=0", "model.kernel_size is 0; expected 2"),
        ("train.accumulate=0", "train.accumulate is 0; expected 1"),
        ('model.distribution={kind="zebra"}', "expected a table with kind, one of categorical, "),
        ("model.distribution.classes=64", "expected a table with kind, one of categorical, "),
        ('model.distribution={kind="gaussian_mixture", classes=64}', "model.distribution.classes does not go with the"),
        ("run=\udcff", "expected text in UTF-8"),
        ('dataset=["a"]', 'dataset.0 is "a"; expected dataset = "FOLDER", or [[dataset]] with path and weight'),
        ('dataset=[{path="a", speakers="en"}]', 'dataset.0.speakers is "en"; expected names in a list'),
        ('dataset={path="a"}', 'dataset is {"path": "a"}; expected dataset = "FOLDER", or [[dataset]] with path and'),
        ('dataset=[{path="a", weigth=2}]', "unknown key dataset.0.weigth; did you mean dataset.0.weight?"),
    ],
)
def test_a_wrong_value_is_one_line_with_key_and_remedy(recipe: Path, setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"recipe\.toml|setting") as caught:
        load_recipe(recipe, [setting])
    assert message in str(caught.value)


def test_missing_keys_and_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('dataset = "x"\nrun = "y"\n[model]\n[train]\n')
    with pytest.raises(ValueError, match=r"key train\.steps is missing"):
        load_recipe(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not a TOML recipe"):
        load_recipe(path)
    with pytest.raises(ValueError, match="is a folder or device; expected a recipe"):
        load_recipe(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such recipe"):
        load_recipe(tmp_path / "none.toml")


def test_the_page_of_recipes_has_every_key() -> None:
    page = (Path(__file__).parent.parent / "recipes" / "README.md").read_text("utf-8")
    for key in _keys(Recipe):
        section, _, name = key.rpartition(".")
        assert f"`{key}`" in page or (f"`{section}" in page and f"`{name}`" in page), key
    for name in MAY_CHANGE:
        assert f"`train.{name}` *" in page


def test_augmentation_is_a_section_of_the_recipe(tmp_path: Path) -> None:
    path = ROOT / "recipes" / "prompts" / "prompts.toml"
    recipe = load_recipe(path, ["train.augmentation.input_noise=1.0", "train.augmentation.level_db=24"])
    assert recipe.train.augmentation == Augmentation(input_noise=1.0, level_db=24)
    again = tmp_path / "again.toml"
    again.write_text(recipe.to_toml(), "utf-8")
    assert load_recipe(again).train == recipe.train
    with pytest.raises(ValueError, match=r"unknown key train.augmentation.input_nois; did you mean .*input_noise"):
        load_recipe(path, ["train.augmentation.input_nois=1.0"])
    with pytest.raises(ValueError, match=r"train.augmentation.*band_share is 2.*expected 0 to 1"):
        load_recipe(path, ["train.augmentation.band_share=2.0"])
